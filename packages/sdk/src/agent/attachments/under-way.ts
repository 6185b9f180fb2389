/** Whether files of a message are still on their way: a session that ends then is no end of the message. */
import type { Amid, MessageId } from '../../wire/index.ts'
import type { Core } from '../core.ts'
import { isSameOwner } from './rows.ts'

/** Whether files of a request of ours, or of its answer, are on their way. */
export function filesUnderWay(core: Core, peer: Amid, about: MessageId): boolean {
  const { sentFiles, receivedFiles } = core.store.tables
  const request = { kind: 'request', about, peer } as const
  return (
    sentFiles.list({ a: peer }).some(({ value: { owner } }) => owner && isSameOwner(owner, request)) ||
    receivedFiles
      .list({ a: peer })
      .some(
        ({ value: { owner, state } }) =>
          state === 'coming' && isSameOwner(owner, { ...request, kind: 'response' }),
      )
  )
}

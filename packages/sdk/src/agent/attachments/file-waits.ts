/** Messages of peers whose files are coming: neither handed over nor refused before all of them are here. */
import { ERROR_CODES, type ErrorCode, type MessageId } from '../../wire/index.ts'
import type { Core } from '../core.ts'
import { requestKey } from '../incoming-rows.ts'
import type { IncomingRow } from '../tables.ts'
import type { Attachments } from './attachments.ts'
import type { WaitingMessages } from './receiving.ts'
import type { FileOwner } from './rows.ts'

/** What the inbox does with a message. All within a commit. */
export interface MessageSteps {
  wait(row: IncomingRow): void
  ready(row: IncomingRow, afterCommit: (() => void)[]): void
  refuse(row: IncomingRow, refusal: { code: ErrorCode; message: string }, afterCommit: (() => void)[]): void
  /** Keeps a reply as read. */
  keepReply(row: IncomingRow, about: MessageId): void
  reply(row: IncomingRow, about: MessageId, afterCommit: (() => void)[]): void
}

export class FileWaits implements WaitingMessages {
  readonly #core: Core
  readonly #files: Attachments
  readonly #steps: MessageSteps

  constructor(core: Core, files: Attachments, steps: MessageSteps) {
    this.#core = core
    this.#files = files
    this.#steps = steps
  }

  /** A reply came to a message of ours: handed over when its files are here. */
  takeReply(row: IncomingRow, about: MessageId, afterCommit: (() => void)[]): void {
    const isAnswered = this.#core.store.tables.outgoing.get(about)?.state === 'done'
    const files = isAnswered ? 'here' : this.#files.expect(row.envelope, afterCommit)
    if (files === 'coming') this.#steps.wait(row)
    else this.#replySettled(row, about, files === 'here' ? undefined : files.refused, afterCommit)
  }

  filesSettled(owner: FileOwner, code: ErrorCode | undefined, afterCommit: (() => void)[]): void {
    for (const { value: row } of this.#core.store.tables.incoming.list({ b: 'coming', order: 'asc' })) {
      if (!this.#files.isOf(owner, row.envelope)) continue
      if (owner.kind === 'request') this.#requestSettled(row, code, afterCommit)
      else this.#replySettled(row, owner.about, code, afterCommit)
    }
  }

  #replySettled(
    row: IncomingRow,
    about: MessageId,
    code: ErrorCode | undefined,
    afterCommit: (() => void)[],
  ): void {
    this.#steps.keepReply(row, about)
    if (code === undefined) this.#steps.reply(row, about, afterCommit)
    else this.#files.sending.failMessage(about, code, afterCommit)
  }

  #requestSettled(row: IncomingRow, code: ErrorCode | undefined, afterCommit: (() => void)[]): void {
    if (code === undefined) {
      this.#steps.ready(row, afterCommit)
      return
    }
    // Asked again, it is looked at anew.
    this.#core.store.tables.requests.delete(requestKey(row.envelope))
    this.#steps.refuse(row, { code, message: ERROR_CODES[code].summary }, afterCommit)
  }
}

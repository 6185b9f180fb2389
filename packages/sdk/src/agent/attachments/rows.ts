/** What is kept of a file, while it goes or comes and after. */
import type {
  Amid,
  AttachmentId,
  AttachmentManifest,
  ChunkRange,
  MessageId,
  SessionId,
} from '../../wire/index.ts'
import type { Core } from '../core.ts'

/** Which message a file goes along with: a request, or the response to it. */
export interface FileOwner {
  readonly kind: 'request' | 'response'
  /** Id of the request, in both cases: a response that is sent again has an id of its own. */
  readonly about: MessageId
  readonly peer: Amid
}

/** A file of ours, until the peer has it. */
export interface SentFileRow {
  /** Name of its file here, drawn by us. */
  readonly handle: string
  readonly manifest: AttachmentManifest
  /** Absent: no message names it yet. */
  readonly owner?: FileOwner
  /** What the peer said it has. */
  readonly ranges: readonly ChunkRange[]
  readonly createdAt: number
}

/** A file of a peer. */
export interface ReceivedFileRow {
  readonly handle: string
  readonly manifest: AttachmentManifest
  readonly owner: FileOwner
  /** Named on this session last. */
  readonly sessionId: SessionId
  /** On disk. */
  readonly ranges: readonly ChunkRange[]
  /** here: whole, and its hash is the one of its manifest. */
  readonly state: 'coming' | 'here'
  /** Of the last chunk. */
  readonly at: number
}

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

/** An attachment id means nothing without its sender. */
export function receivedFileKey(from: Amid, id: AttachmentId): string {
  return `${from}:${id}`
}

export function isSameOwner(left: FileOwner, right: FileOwner): boolean {
  return left.kind === right.kind && left.about === right.about && left.peer === right.peer
}

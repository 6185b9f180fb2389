/** What is kept of a file, while it goes or comes and after. */
import type {
  Amid,
  AttachmentId,
  AttachmentManifest,
  ChunkRange,
  MessageId,
  SessionId,
} from '../../wire/index.ts'

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

/** An attachment id means nothing without its sender. */
export function receivedFileKey(from: Amid, id: AttachmentId): string {
  return `${from}:${id}`
}

export function isSameOwner(left: FileOwner, right: FileOwner): boolean {
  return left.kind === right.kind && left.about === right.about && left.peer === right.peer
}

/** A file to send: by path, as bytes, as a stream of them, or one that was stored before, by its handle. */
export type AttachmentSource = (
  | { readonly path: string }
  | { readonly data: Uint8Array | AsyncIterable<Uint8Array> }
  | { readonly handle: string }
) & {
  /** What the receiver is told it is called. Default the last part of the path, or `file`. */
  readonly name?: string
  /** Default application/octet-stream. */
  readonly mediaType?: string
}

/** What is said of a file; `name` and `media_type` are the peer's words, and `name` is never a path. */
export interface AttachmentInfo {
  /** Names it in this agent: drawn here. */
  handle: string
  name: string
  media_type: string
  size: number
  /** base64. */
  sha256: string
}

/** A peer's file, whole and checked. */
export interface ReceivedAttachment extends AttachmentInfo {
  /** Its bytes, a chunk at a time. @throws STATE_DAMAGED, also when it was deleted meanwhile */
  stream(): AsyncGenerator<Uint8Array, void, void>
  /** All its bytes, in memory. @throws as `stream` */
  read(): Promise<Uint8Array>
  /** Writes it to a new file of mode 0600; one that is there stays. @throws ATTACHMENT_UNWRITABLE, and as `stream` */
  saveTo(path: string): Promise<void>
}

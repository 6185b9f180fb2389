/**
 * Files that go along with requests and responses: joins `sending` and `receiving` to the messages they belong to and to
 * the application.
 */
import {
  AgentMeshError,
  attachmentsOf,
  MAX_ATTACHMENTS,
  newMessageId,
  type Amid,
  type AttachmentFrame,
  type AttachmentManifest,
  type Envelope,
  type MessageId,
  type SessionId,
} from '../../wire/index.ts'
import { commit, type Core } from '../core.ts'
import type { Outbox } from '../outbox.ts'
import { touchSession } from '../session-rows.ts'
import type { SessionRow } from '../tables.ts'
import type { AnswerInput, IncomingRequest, RequestInput } from '../types.ts'
import { AttachmentFiles } from './files.ts'
import { Frames } from './frames.ts'
import type { PreparedAnswer, PreparedRequest } from './prepared.ts'
import { StoredAttachment } from './received-attachment.ts'
import { ReceivingFiles, type WaitingMessages } from './receiving.ts'
import {
  isSameOwner,
  receivedFileKey,
  type AttachmentInfo,
  type AttachmentSource,
  type FileOwner,
  type ReceivedAttachment,
  type SentFileRow,
} from './rows.ts'
import { GRACE_MS } from './room.ts'
import { SendingFiles, type SentMessages } from './sending.ts'
import { storeSource } from './sources.ts'

function ownerOf({ type, id, from, in_reply_to }: Envelope): FileOwner {
  return type === 'request'
    ? { kind: 'request', about: id, peer: from }
    : { kind: 'response', about: in_reply_to ?? id, peer: from }
}

export interface InboxOfFiles {
  readonly fileWaits: WaitingMessages
  /** Ends a session on which the peer sends what is of no use. Called within a commit. */
  endFlood(sessionId: SessionId, afterCommit: (() => void)[]): void
}

export class Attachments {
  readonly #core: Core
  readonly #files: AttachmentFiles
  readonly #frames: Frames
  readonly sending: SendingFiles
  readonly receiving: ReceivingFiles
  #inbox: InboxOfFiles | undefined

  /** @throws HOME_UNSAFE, HOME_FAILED */
  constructor(core: Core, outbox: Outbox) {
    this.#core = core
    this.#files = new AttachmentFiles(core)
    this.#frames = new Frames(core, outbox)
    this.sending = new SendingFiles(core, this.#files, this.#frames, outbox)
    this.receiving = new ReceivingFiles(core, this.#files, this.#frames)
  }

  join(inbox: InboxOfFiles, sent: SentMessages): void {
    this.receiving.join(inbox.fileWaits)
    this.sending.join(sent)
    this.#inbox = inbox
  }

  /** Takes up what the process before left; call before anything is taken from a relay. */
  resume(): void {
    const { receivedFiles, sentFiles } = this.#core.store.tables
    const rows = [...receivedFiles.list(), ...sentFiles.list()]
    this.#files.keepOnly(new Set(rows.map(({ value }) => value.handle)))
    this.receiving.resume()
  }

  /** A frame of an attachment came. Call within the commit that moved the ratchet. */
  take(row: SessionRow, frame: AttachmentFrame, afterCommit: (() => void)[]): void {
    touchSession(this.#core, row)
    const { id, peer, state } = row.session
    // What was on its way when the session ended goes out again on the next one.
    if (state !== 'open') return
    if (this.#isUseful(peer, id, frame, afterCommit) || this.#frames.idle(peer)) return
    this.#inbox?.endFlood(id, afterCommit)
  }

  #isUseful(peer: Amid, sessionId: SessionId, frame: AttachmentFrame, afterCommit: (() => void)[]): boolean {
    switch (frame.kind) {
      case 'chunk':
        return this.receiving.chunk(peer, sessionId, frame, afterCommit)
      case 'progress':
        return this.sending.progress(peer, sessionId, frame, afterCommit)
      case 'refused':
        return (
          this.sending.refused(peer, frame, afterCommit) || this.receiving.gone(peer, frame.id, afterCommit)
        )
    }
  }

  // --- the application's files ------------------------------------------------------------------------------------

  /** Makes a sealed copy that a message can name within the hour. @throws as `storeSource` */
  async store(source: Exclude<AttachmentSource, { handle: string }>): Promise<AttachmentInfo> {
    const row = await storeSource(this.#core, this.#files, source)
    await commit(this.#core, () => this.sending.put(row))
    const { name, media_type, size, sha256 } = row.manifest
    return { handle: row.handle, name, media_type, size, sha256 }
  }

  /** Copies files for a message that is about to be made. @throws as `storeSource`, ATTACHMENT_UNKNOWN for a handle */
  async prepare(sources: readonly AttachmentSource[], owner: FileOwner): Promise<AttachmentManifest[]> {
    if (sources.length > MAX_ATTACHMENTS)
      throw new AgentMeshError('MALFORMED', `A message takes at most ${MAX_ATTACHMENTS} files`)
    const rows: SentFileRow[] = []
    for (const source of sources) {
      const stored =
        'handle' in source
          ? this.sending.unnamed(source.handle)
          : await storeSource(this.#core, this.#files, source)
      rows.push(stored)
    }
    await commit(this.#core, () => {
      for (const row of rows) this.sending.put({ ...row, owner })
    })
    return rows.map(({ manifest }) => manifest)
  }

  /** The payload of a request whose files were copied, and its id. @throws as `prepare` */
  async prepareRequest(
    peer: Amid,
    { attachments, ...rest }: RequestInput,
    id: MessageId = newMessageId(this.#core.random),
  ): Promise<{ id: MessageId; request: PreparedRequest }> {
    if (attachments === undefined || attachments.length === 0) return { id, request: rest }
    const manifests = await this.prepare(attachments, { kind: 'request', about: id, peer })
    return { id, request: { ...rest, attachments: manifests } }
  }

  /** A peer's file. @throws ATTACHMENT_UNKNOWN */
  byHandle(handle: string): ReceivedAttachment {
    return new StoredAttachment(this.#files, this.receiving.byHandle(handle))
  }

  /** The files of a peer's message; those that were deleted are left out. */
  #received(peer: Amid, manifests: readonly AttachmentManifest[]): ReceivedAttachment[] {
    const { receivedFiles } = this.#core.store.tables
    return manifests.flatMap(({ id }) => {
      const row = receivedFiles.get(receivedFileKey(peer, id))
      return row?.state === 'here' ? [new StoredAttachment(this.#files, row)] : []
    })
  }

  /** A request as its handler sees it. */
  withFiles(request: IncomingRequest): IncomingRequest {
    const { attachments } = request.payload
    return attachments ? { ...request, attachments: this.#received(request.from, attachments) } : request
  }

  /** What is said of the files of a peer's message. */
  infosOf(envelope: Envelope): { attachments?: AttachmentInfo[] } {
    const files = this.#received(envelope.from, attachmentsOf(envelope))
    return files.length === 0
      ? {}
      : {
          attachments: files.map(({ handle, name, media_type, size, sha256 }) => ({
            handle,
            name,
            media_type,
            size,
            sha256,
          })),
        }
  }

  /** Copies the files of an answer. @throws as `prepare` */
  async prepareAnswer({ from, id }: Envelope, answer: AnswerInput): Promise<PreparedAnswer> {
    if ('error' in answer) return answer
    const { attachments = [], ...rest } = answer
    if (attachments.length === 0) return rest
    return {
      ...rest,
      attachments: await this.prepare(attachments, { kind: 'response', about: id, peer: from }),
    }
  }

  /** As `ReceivingFiles.expect`, for a request, or for a response to a request of ours. Call within a commit. */
  expect(envelope: Envelope, afterCommit: (() => void)[]): ReturnType<ReceivingFiles['expect']> {
    const manifests = attachmentsOf(envelope)
    if (manifests.length === 0) return 'here'
    const owner = ownerOf(envelope)
    const expected = this.receiving.expect(owner, manifests, envelope.session_id, afterCommit)
    if (typeof expected === 'object' && owner.kind === 'response') {
      for (const { id } of manifests)
        this.#frames.send(envelope.session_id, { kind: 'refused', id, code: expected.refused }, afterCommit)
    }
    return expected
  }

  /** Whether a message is the one that files came with. */
  isOf(owner: FileOwner, envelope: Envelope): boolean {
    return attachmentsOf(envelope).length > 0 && isSameOwner(ownerOf(envelope), owner)
  }

  // --- keeping order ----------------------------------------------------------------------------------------------

  async maintain(): Promise<void> {
    await this.sending.maintain()
    await this.receiving.maintain()
    if (this.#core.store.tables.receivedFiles.count() > 0)
      await commit(this.#core, (afterCommit) => this.#forgetSessions(afterCommit))
  }

  /** Deletes all files from and for a peer. Call within a commit. */
  forgetPeer(peer: Amid, afterCommit: (() => void)[]): void {
    for (const { value } of this.#core.store.tables.receivedFiles.list({ a: peer }))
      this.receiving.forget(value, afterCommit)
    this.sending.forgetPeer(peer, afterCommit)
  }

  /** Deletes the files of peers whose session is gone, unless the owner keeps files. Call within a commit. */
  #forgetSessions(afterCommit: (() => void)[]): void {
    if (this.#core.policy.current().attachments.keep) return
    const { receivedFiles, sessions } = this.#core.store.tables
    for (const { value } of receivedFiles.list())
      if (!sessions.get(value.sessionId) && value.at + GRACE_MS < this.#core.now())
        this.receiving.forget(value, afterCommit)
  }

  async close(): Promise<void> {
    await this.receiving.settled()
  }

  /** After the store was closed. */
  release(): void {
    this.#files.close()
  }
}

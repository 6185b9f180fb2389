/**
 * Files of ours on their way (DESIGN §12, spec/sessions.md). A sealed copy is made when the message is, so that the sender's
 * own file may change or go; each chunk is made anew from the copy whenever it goes out. The copy is deleted when the peer
 * has all of it on disk, or when nobody waits for the message any more.
 *
 *   stored -> named by a message -> (progress frame) -> chunks, up to a window -> (progress frames) -> all there: deleted
 */
import {
  AgentMeshError,
  ERROR_CODES,
  isAgentMeshError,
  isErrorCode,
  attachmentsOf,
  type Amid,
  type AttachmentFrame,
  type AttachmentId,
  type AttachmentManifest,
  type ErrorCode,
  type MessageId,
  type SessionId,
} from '../../wire/index.ts'
import { audit, commit, type Core } from '../core.ts'
import { isOpen } from '../session-rows.ts'
import { isWhole } from './chunk-ranges.ts'
import type { Outbox } from '../outbox.ts'
import type { OutgoingRow } from '../tables.ts'
import type { AttachmentFiles } from './files.ts'
import type { Frames } from './frames.ts'
import type { FileOwner, SentFileRow } from './rows.ts'
import { SendWindow } from './send-window.ts'

/** Chunks on their way to one peer, of all files. */
const MAX_ON_THE_WAY = 32
/** A file that no message came to name is deleted then. */
const UNNAMED_MS = 3_600_000

interface Going {
  readonly window: SendWindow
  readonly peer: Amid
  sessionId: SessionId
}

export interface SentMessages {
  fail(row: OutgoingRow, failure: { code: ErrorCode; message: string }, afterCommit: (() => void)[]): void
}

export class SendingFiles {
  readonly #core: Core
  readonly #files: AttachmentFiles
  readonly #frames: Frames
  readonly #outbox: Outbox
  readonly #going = new Map<AttachmentId, Going>()
  #messages: SentMessages | undefined

  constructor(core: Core, files: AttachmentFiles, frames: Frames, outbox: Outbox) {
    this.#core = core
    this.#outbox = outbox
    this.#files = files
    this.#frames = frames
  }

  join(messages: SentMessages): void {
    this.#messages = messages
  }

  get #rows() {
    return this.#core.store.tables.sentFiles
  }

  /** Call within a commit. */
  put(row: SentFileRow): void {
    this.#rows.put(row.manifest.id, row, {
      ...(row.owner === undefined ? {} : { a: row.owner.peer }),
      b: row.handle,
      at: row.createdAt,
    })
  }

  /** A stored file that no message has yet. @throws ATTACHMENT_UNKNOWN */
  unnamed(handle: string): SentFileRow {
    const row = this.#rows.list({ b: handle, limit: 1 })[0]?.value
    if (!row || row.owner !== undefined) throw new AgentMeshError('ATTACHMENT_UNKNOWN')
    return row
  }

  /** The receiver says what it has. Call within the commit that moved the ratchet. False when that is no news. */
  progress(
    from: Amid,
    sessionId: SessionId,
    { id, ranges }: AttachmentFrame & { kind: 'progress' },
    afterCommit: (() => void)[],
  ): boolean {
    const row = this.#rows.get(id)
    if (row?.owner?.peer !== from) {
      // It may have all of it: then it does not listen to this.
      this.#frames.send(sessionId, { kind: 'refused', id, code: 'ATTACHMENT_UNKNOWN' }, afterCommit)
      return false
    }
    if (ranges.some(([, last]) => last >= row.manifest.chunks)) return false
    const going = this.#goingOf(row, from, sessionId)
    if (going.sessionId !== sessionId) {
      // A file moves with its message, when the session it went on has ended.
      if (isOpen(this.#core, going.sessionId)) return false
      going.window.interrupted()
    }
    going.sessionId = sessionId
    const isNews = going.window.heard(ranges, this.#core.now())
    if (isWhole(going.window.ranges, row.manifest.chunks)) this.#forget(row, afterCommit)
    else if (isNews) this.put({ ...row, ranges: going.window.ranges })
    this.#pump(from, afterCommit)
    return isNews
  }

  #goingOf(row: SentFileRow, peer: Amid, sessionId: SessionId): Going {
    const { id, chunks } = row.manifest
    const known = this.#going.get(id)
    if (known) return known
    const going = { window: new SendWindow(chunks, row.ranges, this.#core.now()), peer, sessionId }
    this.#going.set(id, going)
    return going
  }

  /** Sends what there is room for. */
  #pump(peer: Amid, afterCommit: (() => void)[]): void {
    const all = [...this.#going].filter(([, going]) => going.peer === peer)
    let room = MAX_ON_THE_WAY - all.reduce((sum, [, { window }]) => sum + window.onTheWay, 0)
    for (const [id, { window, sessionId }] of all) {
      const row = this.#rows.get(id)
      if (!row) continue
      const indexes = window.next(room, this.#core.now())
      room -= indexes.length
      for (const index of indexes) if (!this.#chunk(row, sessionId, index, afterCommit)) break
    }
  }

  /** False when there is nothing to send, or nothing to send it on. */
  #chunk(row: SentFileRow, sessionId: SessionId, index: number, afterCommit: (() => void)[]): boolean {
    const { id, size } = row.manifest
    try {
      const bytes = this.#files.file(row.handle, size).read(index)
      return this.#frames.send(sessionId, { kind: 'chunk', id, index, bytes }, afterCommit)
    } catch (error) {
      if (!isAgentMeshError(error, 'STATE_DAMAGED')) throw error
      this.#frames.send(sessionId, { kind: 'refused', id, code: 'ATTACHMENT_UNKNOWN' }, afterCommit)
      this.#failed(row, 'ATTACHMENT_UNKNOWN', afterCommit)
      return false
    }
  }

  /** The receiver does not want it. Call within a commit. False when it is none of ours. */
  refused(
    from: Amid,
    { id, code }: AttachmentFrame & { kind: 'refused' },
    afterCommit: (() => void)[],
  ): boolean {
    const row = this.#rows.get(id)
    if (row?.owner?.peer !== from) return false
    this.#failed(row, isErrorCode(code) ? code : 'ATTACHMENT_REFUSED', afterCommit)
    return true
  }

  #failed(row: SentFileRow, code: ErrorCode, afterCommit: (() => void)[]): void {
    if (!row.owner) return
    const { kind, about, peer } = row.owner
    for (const { value } of this.#rows.list({ a: peer })) {
      if (value.owner?.kind === kind && value.owner.about === about) this.#forget(value, afterCommit)
    }
    if (kind === 'request') this.failMessage(about, code, afterCommit)
    audit(this.#core, { event: 'message_refused', to: peer, code }, afterCommit)
  }

  /** A message of ours comes to nothing, if it has not come to its end. Call within a commit. */
  failMessage(id: MessageId, code: ErrorCode, afterCommit: (() => void)[]): void {
    const row = this.#core.store.tables.outgoing.get(id)
    if (!row || row.state === 'done' || row.state === 'failed') return
    this.#outbox.remove(id)
    this.#messages?.fail(row, { code, message: ERROR_CODES[code].summary }, afterCommit)
  }

  #forget({ manifest, handle }: SentFileRow, afterCommit: (() => void)[]): void {
    this.#rows.delete(manifest.id)
    afterCommit.push(() => {
      this.#going.delete(manifest.id)
      this.#files.remove(handle)
    })
  }

  /** Where a message is said now. */
  #sessionOf({ kind, about, peer }: FileOwner): SessionId | undefined {
    const { outgoing, requests } = this.#core.store.tables
    if (kind === 'response') return requests.get(`${peer}:${about}`)?.sessionId
    const row = outgoing.get(about)
    return row?.receipts.received === undefined ? undefined : row.sessionId
  }

  /** Whether a message still names the file. */
  #isNamed({ manifest, owner, createdAt }: SentFileRow): boolean {
    const isNew = createdAt + UNNAMED_MS > this.#core.now()
    if (owner === undefined) return isNew
    const { outgoing, requests } = this.#core.store.tables
    const names = (list: readonly AttachmentManifest[]) => list.some(({ id }) => id === manifest.id) || isNew
    if (owner.kind === 'response') {
      const answer = requests.get(`${owner.peer}:${owner.about}`)?.answer
      return answer === undefined ? isNew : names(attachmentsOf(answer))
    }
    const message = outgoing.get(owner.about)
    if (message === undefined) return isNew
    return message.state !== 'done' && message.state !== 'failed' && names(attachmentsOf(message))
  }

  /** Asks receivers that said nothing for a while, and deletes what no message names any more. */
  async maintain(): Promise<void> {
    const rows = this.#rows.list()
    if (rows.length === 0) return
    const now = this.#core.now()
    await commit(this.#core, (afterCommit) => {
      for (const { key } of rows) {
        const row = this.#rows.get(key)
        if (!row) continue
        if (!this.#isNamed(row)) {
          this.#forget(row, afterCommit)
          continue
        }
        const sessionId = row.owner && this.#sessionOf(row.owner)
        const session = sessionId && this.#core.store.tables.sessions.get(sessionId)?.session
        if (session?.state !== 'open') continue
        const going = this.#goingOf(row, session.peer, session.id)
        const index = going.window.probe(now)
        if (index === undefined) continue
        going.sessionId = session.id
        this.#chunk(row, session.id, index, afterCommit)
      }
    })
  }

  /** Call within a commit. */
  forgetPeer(peer: Amid, afterCommit: (() => void)[]): void {
    for (const { value } of this.#rows.list({ a: peer })) this.#forget(value, afterCommit)
  }
}

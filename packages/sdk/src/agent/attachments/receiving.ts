/**
 * Files from peers (DESIGN §12, spec/sessions.md).
 *
 *   manifest -> policy -> row, progress frame           nothing is written before the owner's bounds were asked
 *   chunk    -> into the file, in the commit that moves the ratchet
 *            -> flushed -> ranges in the row and the progress frame that says so, in one commit
 *   all here -> hash -> the message that waits for it is handed over, or refused by name
 *
 * A chunk that was written and not yet flushed when the process died is found in the file again at the next start.
 */
import { sha256Stream } from '../../crypto/index.ts'
import {
  AgentMeshError,
  chunkLength,
  isAgentMeshError,
  toBase64,
  type Amid,
  type AttachmentFrame,
  type AttachmentManifest,
  type ErrorCode,
  type SessionId,
} from '../../wire/index.ts'
import { background, commit, type Core } from '../core.ts'
import { countChunks, hasChunk, isWhole, joinRanges, missingChunks } from './chunk-ranges.ts'
import type { AttachmentFiles } from './files.ts'
import type { Frames } from './frames.ts'
import { isSameOwner, receivedFileKey, type FileOwner, type ReceivedFileRow } from './rows.ts'
import { makeRoom, roomFor } from './room.ts'

/** What waits for files. */
export interface WaitingMessages {
  /** All files of a message are here, or `code` says why they are not. Called within a commit. */
  filesSettled(owner: FileOwner, code: ErrorCode | undefined, afterCommit: (() => void)[]): void
}

/** Chunks that are flushed, and told of, together; a sender has twice as many on their way. */
const BATCH = 8
/** What is less than a batch waits so long for more of it. */
const BATCH_MS = 25
/** Chunks hashed before others have their turn. */
const HASHED_AT_ONCE = 16
/** Nothing came for so long: the sender is not expected to go on. */
const PATIENCE_MS = 72 * 3_600_000

export class ReceivingFiles {
  readonly #core: Core
  readonly #files: AttachmentFiles
  readonly #frames: Frames
  /** Chunks in a file that are not flushed yet, by row. */
  readonly #unflushed = new Map<string, Set<number>>()
  /** Rows of which the peer is to hear. */
  readonly #due = new Set<string>()
  readonly #hashing = new Set<string>()
  #flushing: Promise<void> | undefined
  #timer: NodeJS.Timeout | undefined
  #waiting: WaitingMessages | undefined

  constructor(core: Core, files: AttachmentFiles, frames: Frames) {
    this.#core = core
    this.#files = files
    this.#frames = frames
  }

  join(waiting: WaitingMessages): void {
    this.#waiting = waiting
  }

  get #rows() {
    return this.#core.store.tables.receivedFiles
  }

  #put(row: ReceivedFileRow): void {
    const key = receivedFileKey(row.owner.peer, row.manifest.id)
    this.#rows.put(key, row, { a: row.owner.peer, b: row.handle, at: row.at })
  }

  /** Takes up what a stopped process had not flushed, and tells the senders what is here. */
  resume(): void {
    for (const { key, value: row } of this.#rows.list()) {
      if (row.state === 'here') continue
      const file = this.#files.file(row.handle, row.manifest.size)
      const found = [...missingChunks(row.ranges, row.manifest.chunks)].filter((index) => file.has(index))
      this.#unflushed.set(key, new Set(found))
      this.#due.add(key)
    }
    this.#flushSoon()
  }

  /**
   * A message names files: asks the owner's bounds, and the sender for what is missing. Call within the commit that takes
   * the message.
   *
   * @returns whether all are here, or why the message is refused
   */
  expect(
    owner: FileOwner,
    manifests: readonly AttachmentManifest[],
    sessionId: SessionId,
    afterCommit: (() => void)[],
  ): 'here' | 'coming' | { readonly refused: ErrorCode } {
    const known = manifests.map((manifest) => this.#rows.get(receivedFileKey(owner.peer, manifest.id)))
    const isOther = (row: ReceivedFileRow | undefined, { sha256, size }: AttachmentManifest): boolean =>
      row !== undefined &&
      (!isSameOwner(row.owner, owner) || row.manifest.sha256 !== sha256 || row.manifest.size !== size)
    if (manifests.some((manifest, at) => isOther(known[at], manifest)))
      return { refused: 'ATTACHMENT_REFUSED' }
    const added = manifests.filter((_, at) => known[at] === undefined)
    if (added.some(({ chunks, sha256 }) => chunks === 0 && sha256 !== EMPTY_HASH))
      return { refused: 'ATTACHMENT_MISMATCH' }
    const refused = roomFor(this.#core, this.#files, owner.peer, added)
    if (refused) return { refused }
    for (const handle of makeRoom(this.#core, owner.peer, added))
      afterCommit.push(() => this.#files.remove(handle))
    const at = this.#core.now()
    let here = true
    for (const [place, manifest] of manifests.entries()) {
      const before = known[place]
      const state = manifest.chunks === 0 ? 'here' : 'coming'
      const row = before ?? {
        handle: this.#files.newName(),
        manifest,
        owner,
        ranges: [],
        state,
        at,
        sessionId,
      }
      this.#put({ ...row, sessionId })
      if (row.state !== 'here') here = false
      if (manifest.chunks > 0) this.#tell({ ...row, sessionId }, afterCommit)
    }
    return here ? 'here' : 'coming'
  }

  #tell({ manifest, ranges, sessionId }: ReceivedFileRow, afterCommit: (() => void)[]): void {
    this.#frames.send(
      sessionId,
      { kind: 'progress', id: manifest.id, ranges: ranges.slice(0, 256) },
      afterCommit,
    )
  }

  /** A chunk came. Call within the commit that moved the ratchet. False when it brought nothing. */
  chunk(
    from: Amid,
    sessionId: SessionId,
    { id, index, bytes }: AttachmentFrame & { kind: 'chunk' },
    afterCommit: (() => void)[],
  ): boolean {
    const key = receivedFileKey(from, id)
    const row = this.#rows.get(key)
    if (!row) {
      this.#frames.send(sessionId, { kind: 'refused', id, code: 'ATTACHMENT_UNKNOWN' }, afterCommit)
      return false
    }
    const { manifest } = row
    if (index >= manifest.chunks || bytes.length !== chunkLength(manifest.size, index)) return false
    if (row.sessionId !== sessionId) this.#put({ ...row, sessionId })
    const isKnown =
      row.state === 'here' || hasChunk(row.ranges, index) || this.#unflushed.get(key)?.has(index) === true
    if (!isKnown) {
      try {
        this.#files.file(row.handle, manifest.size).write(index, bytes)
      } catch (error) {
        if (!isAgentMeshError(error)) throw error
        this.fail(row, 'ATTACHMENT_NO_ROOM', afterCommit)
        return true
      }
    }
    afterCommit.push(() => {
      if (!isKnown) this.#unflushed.set(key, (this.#unflushed.get(key) ?? new Set()).add(index))
      this.#due.add(key)
      const size = this.#unflushed.get(key)?.size ?? 0
      const isLast = size + countChunks(row.ranges) >= manifest.chunks
      if (isKnown || isLast || size >= BATCH) this.#flushSoon()
      else this.#timer ??= setTimeout(() => this.#flushSoon(), BATCH_MS).unref()
    })
    return !isKnown
  }

  #flushSoon(): void {
    clearTimeout(this.#timer)
    this.#timer = undefined
    if (this.#flushing !== undefined || this.#due.size === 0) return
    const run = this.#flush().finally(() => {
      this.#flushing = undefined
    })
    this.#flushing = run
    background(this.#core, 'keep an attachment', run)
  }

  async #flush(): Promise<void> {
    while (this.#due.size > 0) {
      const due = [...this.#due]
      this.#due.clear()
      const flushed = new Map<string, number[]>()
      for (const key of due) {
        const row = this.#rows.get(key)
        if (!row) continue
        const indexes = [...(this.#unflushed.get(key) ?? [])]
        if (indexes.length > 0) await this.#files.file(row.handle, row.manifest.size).sync()
        flushed.set(key, indexes)
      }
      await commit(this.#core, (afterCommit) => {
        for (const [key, indexes] of flushed) this.#flushed(key, indexes, afterCommit)
      })
    }
  }

  #flushed(key: string, indexes: readonly number[], afterCommit: (() => void)[]): void {
    const row = this.#rows.get(key)
    if (!row) return
    const sorted = indexes.toSorted((left, right) => left - right)
    const ranges = joinRanges(
      row.ranges,
      sorted.map((index) => [index, index]),
    )
    const next = { ...row, ranges, at: this.#core.now() }
    this.#put(next)
    this.#tell(next, afterCommit)
    afterCommit.push(() => {
      const left = this.#unflushed.get(key)
      for (const index of indexes) left?.delete(index)
      if (left?.size === 0) this.#unflushed.delete(key)
      if (next.state === 'coming' && isWhole(ranges, next.manifest.chunks)) this.#verifySoon(key)
    })
  }

  #verifySoon(key: string): void {
    if (this.#hashing.has(key)) return
    this.#hashing.add(key)
    const work = this.#verify(key).finally(() => this.#hashing.delete(key))
    background(this.#core, 'check an attachment', work)
  }

  async #verify(key: string): Promise<void> {
    const row = this.#rows.get(key)
    if (row?.state !== 'coming') return
    const isSound = await this.#isSound(row)
    await commit(this.#core, (afterCommit) => {
      const now = this.#rows.get(key)
      if (now?.state !== 'coming') return
      if (!isSound) {
        this.fail(now, 'ATTACHMENT_MISMATCH', afterCommit)
        return
      }
      this.#put({ ...now, state: 'here', at: this.#core.now() })
      afterCommit.push(() => this.#files.release(now.handle))
      if (this.#of(now.owner).every(({ state }) => state === 'here'))
        this.#waiting?.filesSettled(now.owner, undefined, afterCommit)
    })
  }

  async #isSound({ handle, manifest }: ReceivedFileRow): Promise<boolean> {
    const hash = sha256Stream()
    const file = this.#files.file(handle, manifest.size)
    try {
      for (let index = 0; index < manifest.chunks; index++) {
        hash.update(file.read(index))
        if (index % HASHED_AT_ONCE === 0) await new Promise((resolve) => setImmediate(resolve))
      }
    } catch (error) {
      // Forgotten meanwhile, or changed on disk.
      if (!isAgentMeshError(error)) throw error
      return false
    }
    return toBase64(hash.digest()) === manifest.sha256
  }

  #of(owner: FileOwner): ReceivedFileRow[] {
    return this.#rows
      .list({ a: owner.peer })
      .map(({ value }) => value)
      .filter((row) => isSameOwner(row.owner, owner))
  }

  /** The message will not be handed over: its files are deleted, and it is told. Call within a commit. */
  fail({ owner, sessionId }: ReceivedFileRow, code: ErrorCode, afterCommit: (() => void)[]): void {
    for (const row of this.#of(owner)) {
      this.forget(row, afterCommit)
      // To a request there is an answer that says so.
      if (owner.kind === 'response')
        this.#frames.send(sessionId, { kind: 'refused', id: row.manifest.id, code }, afterCommit)
    }
    this.#waiting?.filesSettled(owner, code, afterCommit)
  }

  /** The sender has no more of a file. Call within a commit. False when nothing waited for it. */
  gone(from: Amid, id: AttachmentManifest['id'], afterCommit: (() => void)[]): boolean {
    const row = this.#rows.get(receivedFileKey(from, id))
    if (row?.state !== 'coming' || isWhole(row.ranges, row.manifest.chunks)) return false
    this.fail(row, 'ATTACHMENT_UNKNOWN', afterCommit)
    return true
  }

  /** Deletes a file and its row. Call within a commit. */
  forget({ owner, manifest, handle }: ReceivedFileRow, afterCommit: (() => void)[]): void {
    const key = receivedFileKey(owner.peer, manifest.id)
    this.#rows.delete(key)
    afterCommit.push(() => {
      this.#unflushed.delete(key)
      this.#due.delete(key)
      this.#files.remove(handle)
    })
  }

  /** @throws ATTACHMENT_UNKNOWN for one that is not here, or not whole */
  byHandle(handle: string): ReceivedFileRow {
    const row = this.#rows.list({ b: handle, limit: 1 })[0]?.value
    if (row?.state !== 'here') throw new AgentMeshError('ATTACHMENT_UNKNOWN')
    return row
  }

  /** Gives up what does not come any more. */
  async maintain(): Promise<void> {
    const before = this.#core.now() - PATIENCE_MS
    const late = this.#rows.list().filter(({ value }) => value.state === 'coming' && value.at < before)
    if (late.length === 0) return
    await commit(this.#core, (afterCommit) => {
      for (const { key } of late) {
        const row = this.#rows.get(key)
        if (row?.state === 'coming') this.fail(row, 'ATTACHMENT_UNKNOWN', afterCommit)
      }
    })
  }

  /** Resolves when nothing is being written. */
  async settled(): Promise<void> {
    clearTimeout(this.#timer)
    await this.#flushing?.catch(() => {})
  }
}

const EMPTY_HASH = toBase64(sha256Stream().digest())

/**
 * The writer of the audit log. Layout: `audit-format.ts`; check: `audit-verify.ts`; events: `audit-events.ts`.
 *
 * `append` is called on hot paths and only queues. At the end of the event loop's turn all queued lines go out in one
 * write, in order. Once a second at most, and on `flush` and `close`, the files are synced and then the head is signed,
 * so that a head never names a line the disk does not have. A crash of the process loses lines of its last turn, a crash
 * of the machine about a second of them: the log tells what happened, `state.db` is what must not lose anything.
 *
 * When the disk refuses, lines wait in memory; those past a limit are dropped, counted, and reported as `log_gap`.
 *
 * One writer: the home's lock is held by whoever opens a log.
 */
import {
  closeSync,
  constants,
  fdatasync,
  fsyncSync,
  ftruncateSync,
  fstatSync,
  lstatSync,
  mkdirSync,
  openSync,
  renameSync,
  writeSync,
} from 'node:fs'
import { open, rename } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import type { KeyPair } from '../crypto/signing.ts'
import {
  AgentMeshError,
  concatBytes,
  escapeValue,
  formatTimestamp,
  parseTimestamp,
  utf8Bytes,
} from '../wire/index.ts'
import type { AuditEvent } from './audit-events.ts'
import {
  firstHash,
  HEAD_FILE,
  lineHash,
  MAX_FILE_BYTES,
  MAX_LINE_BYTES,
  nextFile,
  signHead,
  type AuditHead,
} from './audit-format.ts'
import { findEnd, type LogEnd } from './audit-resume.ts'

export interface AuditLogOptions {
  readonly identity: { readonly signing: KeyPair }
  /** Milliseconds since the epoch. */
  readonly now: () => number
  /** Told once when lines or head cannot be written, and again after it worked in between. */
  readonly onFailure: (error: AgentMeshError) => void
  /** Told when the log says of itself that lines were lost. */
  readonly onLost?: () => void
}

interface LogFile {
  readonly name: string
  readonly handle: number
  size: number
}

const HEAD_INTERVAL_MS = 1000
const MAX_WAITING_LINES = 10_000
/** Room for `line` and `prev`. */
const PLACE_BYTES = 128
const NEWLINE = Uint8Array.of(0x0a)
const NOFOLLOW = constants.O_NOFOLLOW ?? 0
const syncData = promisify(fdatasync)

export class AuditLog {
  readonly #dir: string
  readonly #options: AuditLogOptions
  /** Encoded, but for their place in the chain. */
  #queue: string[] = []
  #scheduled = false
  #lost = 0
  #failing = false
  #closed = false
  #file: LogFile | undefined
  #line: number
  #prev: string
  #head: AuditHead | undefined
  #headTimer: NodeJS.Timeout | undefined
  #signing: Promise<void> = Promise.resolve()

  /**
   * Opens the log in `dir`, or begins one, and goes on behind its last line. Checks the chain from the head on; the whole
   * log is `verifyAuditLog`'s to check.
   *
   * @param end where it goes on, when that was looked up before
   * @throws AUDIT_DAMAGED when head and lines do not belong together (see `setAsideAuditLog`), AUDIT_WRITE_FAILED,
   *   HOME_UNSAFE when the folder is a symbolic link
   */
  static open(dir: string, options: AuditLogOptions, end?: LogEnd): AuditLog {
    const operation = 'open the audit log'
    try {
      mkdirSync(dir, { recursive: true, mode: 0o700 })
      if (lstatSync(dir).isSymbolicLink()) throw new AgentMeshError('HOME_UNSAFE', undefined, { operation })
      return new AuditLog(dir, options, end ?? findEnd(dir, options.identity.signing.publicKey))
    } catch (cause) {
      if (cause instanceof AgentMeshError) throw cause
      throw new AgentMeshError('AUDIT_WRITE_FAILED', undefined, { operation, cause })
    }
  }

  private constructor(dir: string, options: AuditLogOptions, end: LogEnd) {
    this.#dir = dir
    this.#options = options
    this.#head = end.head
    this.#line = end.line
    this.#prev = end.prev
    if (end.file !== undefined) this.#file = openForAppend(dir, end.file, end.tornAt)
    if (end.head === undefined) this.#writeFirstHead()
    if (end.unsignedLines > 0 || end.tornBytes > 0) {
      this.append({
        event: 'log_resumed',
        ts: formatTimestamp(options.now()),
        unsigned_lines: end.unsignedLines,
        torn_bytes: end.tornBytes,
      })
    }
  }

  /**
   * Queues one event, its text escaped; it is written when the turn ends.
   *
   * @throws INVALID_TIMESTAMP for a `ts` that is none, AUDIT_WRITE_FAILED after `close`
   */
  append(event: AuditEvent): void {
    if (this.#closed) throw new AgentMeshError('AUDIT_WRITE_FAILED', 'The audit log is closed')
    if (this.#queue.length >= MAX_WAITING_LINES && this.#failing) {
      this.#lost++
      return
    }
    this.#queue.push(encodeEvent(event))
    if (this.#scheduled || this.#failing) return
    this.#scheduled = true
    setImmediate(() => this.#writeQueue())
  }

  /** The last head that was signed. Kept elsewhere, it shows later that nothing before it was taken away. */
  head(): AuditHead | undefined {
    return this.#head
  }

  /** Writes what is queued, syncs it and signs the head. @throws AUDIT_WRITE_FAILED */
  async flush(): Promise<void> {
    this.#writeQueue()
    if (this.#queue.length > 0) throw new AgentMeshError('AUDIT_WRITE_FAILED')
    await this.#sign()
  }

  /** `flush`, then no more. The files are closed even when they cannot be written. @throws AUDIT_WRITE_FAILED */
  async close(): Promise<void> {
    if (this.#closed) return
    this.#closed = true
    try {
      await this.flush()
    } finally {
      clearTimeout(this.#headTimer)
      await this.#signing.catch(() => undefined)
      if (this.#file !== undefined) closeSync(this.#file.handle)
      this.#file = undefined
      this.#queue = []
    }
  }

  // --- lines

  #writeQueue(): void {
    this.#scheduled = false
    try {
      if (this.#queue.length > 0) this.#writeBatch()
      if (this.#lost > 0) {
        const gap: AuditEvent = { event: 'log_gap', ts: this.#timestamp(), lost_lines: this.#lost }
        this.#lost = 0
        this.#queue.push(encodeEvent(gap))
        this.#writeBatch()
        this.#options.onLost?.()
      }
      this.#failing = false
    } catch (cause) {
      this.#fail(cause)
    }
    if (this.#failing || this.#line !== this.#head?.line) this.#scheduleHead()
  }

  /** Writes what is queued. Throws what node:fs throws, and then nothing was written. */
  #writeBatch(): void {
    const file = this.#currentFile()
    const parts: Uint8Array[] = []
    let line = this.#line
    let prev = this.#prev
    for (const event of this.#queue) {
      const bytes = utf8Bytes(`${event},"line":${++line},"prev":"${prev}"}`)
      prev = lineHash(bytes)
      parts.push(bytes, NEWLINE)
    }
    writeAll(file, concatBytes(...parts))
    this.#queue = []
    this.#line = line
    this.#prev = prev
  }

  #currentFile(): LogFile {
    const current = this.#file
    const name = nextFile(
      current?.name,
      this.#timestamp().slice(0, 10),
      (current?.size ?? 0) >= MAX_FILE_BYTES,
    )
    if (current !== undefined && name === current.name) return current
    if (current !== undefined) fsyncSync(current.handle)
    this.#file = openForAppend(this.#dir, name)
    // A head under way may still be syncing the old file.
    if (current !== undefined) void this.#signing.catch(() => undefined).then(() => closeSync(current.handle))
    return this.#file
  }

  #fail(cause: unknown): void {
    const told = this.#failing
    this.#failing = true
    if (told) return
    const error = new AgentMeshError('AUDIT_WRITE_FAILED', undefined, {
      operation: 'write the audit log',
      cause,
    })
    this.#options.onFailure(error)
  }

  #timestamp(): string {
    return formatTimestamp(this.#options.now())
  }

  // --- head

  #scheduleHead(): void {
    if (this.#headTimer !== undefined || this.#closed) return
    this.#headTimer = setTimeout(() => {
      this.#headTimer = undefined
      if (this.#failing) this.#writeQueue()
      this.#sign().catch((error: unknown) => {
        this.#fail(error)
        this.#scheduleHead()
      })
    }, HEAD_INTERVAL_MS)
    // A log that waits for its head keeps no process alive.
    this.#headTimer.unref()
  }

  async #sign(): Promise<void> {
    this.#signing = this.#signing.catch(() => undefined).then(async () => this.#signOnce())
    return this.#signing
  }

  async #signOnce(): Promise<void> {
    if (this.#line === this.#head?.line) return
    const { secretKey } = this.#options.identity.signing
    const head = signHead(secretKey, this.#line, this.#prev, this.#timestamp())
    try {
      if (this.#file !== undefined) await syncData(this.#file.handle)
      const draft = join(this.#dir, `${HEAD_FILE}.new`)
      const handle = await open(
        draft,
        constants.O_WRONLY | constants.O_CREAT | constants.O_TRUNC | NOFOLLOW,
        0o600,
      )
      try {
        await handle.writeFile(headBytes(head))
        await handle.sync()
      } finally {
        await handle.close()
      }
      await rename(draft, join(this.#dir, HEAD_FILE))
      // Else the machine's crash could bring an older head back, which looks like one that somebody put there.
      if (process.platform !== 'win32') await syncOpened(this.#dir)
    } catch (cause) {
      throw new AgentMeshError('AUDIT_WRITE_FAILED', undefined, { operation: 'sign the audit log', cause })
    }
    this.#head = head
  }

  /** An empty log has a head too: lines without one are always a sign of tampering. */
  #writeFirstHead(): void {
    const { secretKey, publicKey } = this.#options.identity.signing
    const head = signHead(secretKey, 0, firstHash(publicKey), this.#timestamp())
    const draft = join(this.#dir, `${HEAD_FILE}.new`)
    const handle = openSync(
      draft,
      constants.O_WRONLY | constants.O_CREAT | constants.O_TRUNC | NOFOLLOW,
      0o600,
    )
    try {
      writeSync(handle, headBytes(head))
      fsyncSync(handle)
    } finally {
      closeSync(handle)
    }
    renameSync(draft, join(this.#dir, HEAD_FILE))
    syncFolder(this.#dir)
    this.#head = head
  }
}

function headBytes(head: AuditHead): Uint8Array {
  return utf8Bytes(`${JSON.stringify(head)}\n`)
}

/** The line without its place and closing brace. @throws INVALID_TIMESTAMP */
function encodeEvent(event: AuditEvent): string {
  const { ts, event: name, ...fields } = event
  parseTimestamp(ts)
  const text = JSON.stringify({ ts, event: name, ...(escapeValue(fields) as object) })
  const bytes = Buffer.byteLength(text) + PLACE_BYTES
  const kept = bytes <= MAX_LINE_BYTES ? text : JSON.stringify({ ts, event: name, omitted_bytes: bytes })
  return kept.slice(0, -1)
}

function openForAppend(dir: string, name: string, cutAt?: number): LogFile {
  const flags = constants.O_WRONLY | constants.O_APPEND | constants.O_CREAT | NOFOLLOW
  const handle = openSync(join(dir, name), flags, 0o600)
  if (cutAt !== undefined) ftruncateSync(handle, cutAt)
  const { size } = fstatSync(handle)
  // Else a machine's crash could take away the file of lines that a head already signs.
  if (size === 0) syncFolder(dir)
  return { name, handle, size }
}

async function syncOpened(dir: string): Promise<void> {
  const handle = await open(dir, constants.O_RDONLY)
  try {
    await handle.sync()
  } finally {
    await handle.close()
  }
}

/** Windows has no such call and needs none. */
function syncFolder(dir: string): void {
  if (process.platform === 'win32') return
  const handle = openSync(dir, constants.O_RDONLY)
  try {
    fsyncSync(handle)
  } finally {
    closeSync(handle)
  }
}

/** All or nothing: what a full disk took of a batch is cut off again, so that no half line stays. */
function writeAll(file: LogFile, bytes: Uint8Array): void {
  let written = 0
  try {
    while (written < bytes.length) written += writeSync(file.handle, bytes, written)
  } catch (error) {
    if (written > 0) ftruncateSync(file.handle, file.size)
    throw error
  }
  file.size += bytes.length
}

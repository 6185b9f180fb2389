/**
 * Whether the audit log is what its owner's agent wrote (DESIGN §9).
 *
 * The chain shows edits, insertions, deletions and reordering up to the last line; the signed head shows that the chain
 * is the agent's and that its end is there. Lines after the head (at most a second of them, or what a crash left) are
 * counted as unsigned: whoever can write the files can forge those. So can it put back an older log together with its
 * head; only what is remembered of the end elsewhere shows that (`audit-end.ts`).
 */
import { constants, openSync, readFileSync, closeSync } from 'node:fs'
import { join } from 'node:path'
import { setImmediate as nextTurn } from 'node:timers/promises'
import { AgentMeshError } from '../wire/index.ts'
import { gapId, type AuditEnd, type AuditGap, type AuditProblemKind } from './audit-end.ts'
import type { AuditLine } from './audit-events.ts'
import {
  firstHash,
  HEAD_FILE,
  lineHash,
  logFiles,
  rawLines,
  readHead,
  readLine,
  type AuditHead,
  type RawLine,
} from './audit-format.ts'

export interface AuditProblem {
  /** Of what was found. */
  readonly id: string
  readonly kind: AuditProblemKind
  readonly file?: string
  readonly line?: number
  readonly detail: string
}

export interface AuditReport {
  readonly ok: boolean
  readonly lines: number
  /** Of these, how many no head covers. */
  readonly unsignedLines: number
  /** Bytes at the end that are no complete line: a write in progress, or cut short. */
  readonly tornBytes: number
  readonly head?: AuditHead
  /** The first hundred. */
  readonly problems: readonly AuditProblem[]
  /** Gaps that the log itself tells of; they are no fault of its chain. The first hundred. */
  readonly told: readonly AuditGap[]
}

export interface VerifyOptions {
  /** Where the log ended, as its agent remembers it. */
  readonly end?: AuditEnd
  /** Asked now and then; what was found is worth nothing once it is true. */
  readonly stopped?: () => boolean
}

const MAX_PROBLEMS = 100
const LINES_A_TURN = 1000

/** Follows the chain line by line; what does not fit is noted and the chain picked up behind it. */
export class ChainCheck {
  readonly problems: AuditProblem[] = []
  readonly told: AuditGap[] = []
  lines = 0
  unsignedLines = 0
  /** An incomplete line, so far the last. */
  torn: RawLine | undefined
  lastLine = 0
  lastHash: string | undefined
  readonly #head: AuditHead | undefined
  readonly #end: AuditEnd | undefined
  /** Undefined: whatever comes is taken. */
  #expectedLine: number | undefined
  #expectedPrev: string | undefined

  /** @param start what the first line must be; without it, the check begins at whatever line comes first */
  constructor(
    head: AuditHead | undefined,
    end: AuditEnd | undefined,
    start?: { readonly line: number; readonly prev: string },
  ) {
    this.#head = head
    this.#end = end
    this.#expectedLine = start?.line
    this.#expectedPrev = start?.prev
    this.lastHash = start?.prev
  }

  /** @param found the hash of what stands there: the same finding about other bytes is another one */
  note(
    kind: AuditProblemKind,
    detail: string,
    line?: number,
    file?: string,
    found = this.lastHash ?? '',
  ): void {
    if (this.problems.length >= MAX_PROBLEMS) return
    this.problems.push({
      id: gapId(kind, detail, line ?? '', file ?? '', found),
      kind,
      detail,
      ...(line === undefined ? {} : { line }),
      ...(file === undefined ? {} : { file }),
    })
  }

  take(raw: RawLine): void {
    if (this.torn !== undefined) {
      this.note('malformed', 'A line ends in the middle', this.#expectedLine, this.torn.file)
      this.torn = undefined
    }
    if (!raw.complete) {
      this.torn = raw
      return
    }
    this.lines++
    const line = this.#read(raw)
    if (line === undefined) return
    this.#checkPlace(line, raw)
    const hash = lineHash(raw.bytes)
    if (this.#head !== undefined && line.line === this.#head.line && hash !== this.#head.hash) {
      this.note('changed', 'The line is not the one that the head signs', line.line, raw.file, hash)
    } else if (line.line === this.#end?.line && hash !== this.#end.hash) {
      this.note('changed', 'The line is not the one that state.db remembers', line.line, raw.file, hash)
    }
    this.#listen(line, raw, hash)
    if (line.line > (this.#head?.line ?? 0)) this.unsignedLines++
    this.#expectedLine = line.line + 1
    this.#expectedPrev = hash
    this.lastLine = Math.max(this.lastLine, line.line)
    this.lastHash = hash
  }

  #read(raw: RawLine): AuditLine | undefined {
    try {
      if (raw.oversized) throw new AgentMeshError('TOO_LARGE')
      return readLine(raw.bytes)
    } catch (error) {
      const why = error instanceof AgentMeshError ? error.code : 'MALFORMED'
      const found = lineHash(raw.bytes)
      this.note('malformed', `Not a line of this log (${why})`, this.#expectedLine, raw.file, found)
      if (this.#expectedLine !== undefined) {
        this.lastLine = Math.max(this.lastLine, this.#expectedLine)
        this.#expectedLine++
      }
      this.#expectedPrev = undefined
      return undefined
    }
  }

  #checkPlace(line: AuditLine, raw: RawLine): void {
    const expected = this.#expectedLine
    if (expected !== undefined && line.line > expected) {
      this.note('missing', `Lines ${expected} to ${line.line - 1} are missing`, expected, raw.file)
    } else if (expected !== undefined && line.line < expected) {
      this.note('out-of-order', `Line ${line.line} stands where ${expected} belongs`, line.line, raw.file)
    } else if (this.#expectedPrev !== undefined && line.prev !== this.#expectedPrev) {
      const where = Math.max(1, line.line - 1)
      this.note('changed', `Line ${where} is not the one that line ${line.line} follows`, where, raw.file)
    }
  }

  /** What the log says of gaps; each line that tells of one names it, but for those that were lost at the disk. */
  #listen({ event, line, gap, ...fields }: AuditLine, { file }: RawLine, hash: string): void {
    if (this.told.length >= MAX_PROBLEMS) return
    if (event === 'log_gap') {
      const detail = `The disk did not take ${String(fields['lost_lines'])} lines`
      this.told.push({ id: gapId('lost-lines', hash), kind: 'lost-lines', file, line, detail })
    } else if (event === 'log_restarted') {
      const { set_aside } = fields
      this.told.push({
        id: typeof gap === 'string' ? gap : gapId('restarted', hash),
        kind: 'restarted',
        file,
        line,
        detail: String(fields['problem']),
        ...(typeof set_aside === 'string' ? { set_aside } : {}),
      })
    }
  }

  /** Call after the last line. */
  finish(): void {
    const head = this.#head?.line ?? 0
    const end = this.#end?.line ?? 0
    const last = this.lastLine
    if (last < Math.max(head, end)) {
      const who = head >= end ? `its head signs line ${head}` : `state.db remembers line ${end}`
      this.note('truncated', `The log ends with line ${last}; ${who}`, last + 1)
    }
    if (this.#head !== undefined && head < end)
      this.note('head-old', `The head signs line ${head}; state.db remembers line ${end}`)
    if (this.#end?.clean !== true) return
    if (last > end)
      this.note('added', `Lines ${end + 1} to ${last} were added after the agent had stopped`, end + 1)
    if (this.torn !== undefined) {
      const found = lineHash(this.torn.bytes)
      this.note('added', 'Half a line was added after the agent had stopped', last + 1, this.torn.file, found)
    }
  }
}

/**
 * Reads the whole log and says whether, and where, it was tampered with. Also while an agent is writing it. `publicKey` is
 * the agent's Ed25519 key. @throws AUDIT_DAMAGED only when files cannot be read at all
 */
export async function verifyAuditLog(
  dir: string,
  publicKey: Uint8Array,
  { end, stopped }: VerifyOptions = {},
): Promise<AuditReport> {
  let head: AuditHead | undefined
  // The head first: what is appended meanwhile lies behind it and harms nothing.
  const bytes = readHeadFile(dir)
  try {
    if (bytes !== undefined) head = readHead(bytes, publicKey)
  } catch {
    // Noted below.
  }
  const check = new ChainCheck(head, end, { line: 1, prev: firstHash(publicKey) })
  if (bytes === undefined) {
    // By what there was: a log that is taken away again is found again.
    const found = end?.hash ?? lastFileName(dir)
    check.note('head-missing', 'There is no signed head', undefined, undefined, found)
  } else if (head === undefined) {
    const detail = 'The head is not signed by this agent'
    check.note('head-forged', detail, undefined, HEAD_FILE, lineHash(bytes))
  }
  try {
    for (const file of filesOf(dir)) {
      for (const raw of rawLines(dir, file)) {
        check.take(raw)
        if (check.lines % LINES_A_TURN !== 0) continue
        await nextTurn()
        if (stopped?.() === true) break
      }
    }
  } catch (cause) {
    throw new AgentMeshError('AUDIT_DAMAGED', 'The audit log cannot be read', {
      operation: 'verify the audit log',
      cause,
    })
  }
  check.finish()
  return {
    ok: check.problems.length === 0,
    lines: check.lines,
    unsignedLines: check.unsignedLines,
    tornBytes: check.torn?.bytes.length ?? 0,
    ...(head === undefined ? {} : { head }),
    problems: check.problems,
    told: check.told,
  }
}

function lastFileName(dir: string): string {
  return filesOf(dir).at(-1) ?? ''
}

/** The lines of the log, oldest first, without judging them; what is no line is passed over. */
export function* readAuditLog(dir: string): Generator<AuditLine> {
  for (const file of filesOf(dir)) {
    for (const raw of rawLines(dir, file)) {
      const line = lineOf(raw)
      if (line !== undefined) yield line
    }
  }
}

function lineOf(raw: RawLine): AuditLine | undefined {
  if (!raw.complete || raw.oversized) return undefined
  try {
    return readLine(raw.bytes)
  } catch {
    return undefined
  }
}

function filesOf(dir: string): string[] {
  try {
    return logFiles(dir)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return []
    throw error
  }
}

/** The bytes of the head file; undefined when there is none. @throws what node:fs throws; ELOOP for links */
export function readHeadFile(dir: string): Uint8Array | undefined {
  let handle: number
  try {
    handle = openSync(join(dir, HEAD_FILE), constants.O_RDONLY | (constants.O_NOFOLLOW ?? 0))
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw error
  }
  try {
    return readFileSync(handle)
  } finally {
    closeSync(handle)
  }
}

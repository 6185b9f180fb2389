/**
 * Whether the audit log is what its owner's agent wrote (DESIGN §9).
 *
 * The chain shows edits, insertions, deletions and reordering up to the last line; the signed head shows that the chain
 * is the agent's and that its end is there. Lines after the head (at most a second of them, or what a crash left) are
 * counted as unsigned: whoever can write the files can forge those. So can it put back an older log together with its
 * head; only a copy of a later head kept elsewhere shows that.
 */
import { constants, openSync, readFileSync, closeSync } from 'node:fs'
import { join } from 'node:path'
import { setImmediate as nextTurn } from 'node:timers/promises'
import { AgentMeshError } from '../wire/index.ts'
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

export type AuditProblemKind =
  /** There is no signed head. */
  | 'head-missing'
  /** The head is not one that this key signed. */
  | 'head-forged'
  /** Lines before the head's are not there, at the end. */
  | 'truncated'
  /** Lines before the head's are not there, elsewhere: lines or a whole file deleted. */
  | 'missing'
  /** A line is not what the line after it, or the head, says it was. */
  | 'changed'
  /** A line stands where it does not belong: inserted or moved. */
  | 'out-of-order'
  /** Not a line of this log at all. */
  | 'malformed'

export interface AuditProblem {
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
}

const MAX_PROBLEMS = 100
const LINES_A_TURN = 1000

/** Follows the chain line by line; what does not fit is noted and the chain picked up behind it. */
export class ChainCheck {
  readonly problems: AuditProblem[] = []
  lines = 0
  unsignedLines = 0
  /** An incomplete line, so far the last. */
  torn: RawLine | undefined
  lastLine = 0
  lastHash: string | undefined
  readonly #head: AuditHead | undefined
  /** Undefined: whatever comes is taken. */
  #expectedLine: number | undefined
  #expectedPrev: string | undefined

  /** @param start what the first line must be; without it, the check begins at whatever line comes first */
  constructor(head: AuditHead | undefined, start?: { readonly line: number; readonly prev: string }) {
    this.#head = head
    this.#expectedLine = start?.line
    this.#expectedPrev = start?.prev
    this.lastHash = start?.prev
  }

  note(kind: AuditProblemKind, detail: string, line?: number, file?: string): void {
    if (this.problems.length >= MAX_PROBLEMS) return
    this.problems.push({
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
      this.note('changed', 'The line is not the one that the head signs', line.line, raw.file)
    }
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
      this.note('malformed', `Not a line of this log (${why})`, this.#expectedLine, raw.file)
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

  /** Call after the last line. */
  finish(): void {
    if (this.#head !== undefined && this.lastLine < this.#head.line) {
      const detail = `The log ends with line ${this.lastLine}; its head signs line ${this.#head.line}`
      this.note('truncated', detail, this.lastLine + 1)
    }
  }
}

/**
 * Reads the whole log and says whether, and where, it was tampered with. Also while an agent is writing it. `publicKey` is
 * the agent's Ed25519 key. @throws AUDIT_DAMAGED only when files cannot be read at all
 */
export async function verifyAuditLog(dir: string, publicKey: Uint8Array): Promise<AuditReport> {
  let head: AuditHead | undefined
  let headProblem: AuditProblem | undefined
  // The head first: what is appended meanwhile lies behind it and harms nothing.
  const bytes = readHeadFile(dir)
  if (bytes === undefined) headProblem = { kind: 'head-missing', detail: 'There is no signed head' }
  try {
    if (bytes !== undefined) head = readHead(bytes, publicKey)
  } catch {
    headProblem = { kind: 'head-forged', detail: 'The head is not signed by this agent', file: HEAD_FILE }
  }
  const check = new ChainCheck(head, { line: 1, prev: firstHash(publicKey) })
  if (headProblem !== undefined) check.problems.push(headProblem)
  try {
    for (const file of filesOf(dir)) {
      for (const raw of rawLines(dir, file)) {
        check.take(raw)
        if (check.lines % LINES_A_TURN === 0) await nextTurn()
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
  }
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

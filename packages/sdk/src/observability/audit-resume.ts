/**
 * Where a log is picked up again: the end of its chain, or, when the chain does not hold, a new log beside the old.
 */
import { existsSync, mkdirSync, renameSync } from 'node:fs'
import { join } from 'node:path'
import { AgentMeshError, formatTimestamp } from '../wire/index.ts'
import {
  firstHash,
  HEAD_FILE,
  logFiles,
  rawLines,
  readHead,
  readLine,
  type AuditHead,
} from './audit-format.ts'
import type { AuditEnd } from './audit-end.ts'
import { ChainCheck, readHeadFile } from './audit-verify.ts'

export interface LogEnd {
  readonly head: AuditHead | undefined
  readonly line: number
  readonly prev: string
  readonly file: string | undefined
  /** Where the last file's incomplete line begins. */
  readonly tornAt: number | undefined
  readonly tornBytes: number
  readonly unsignedLines: number
}

/**
 * Follows the chain from the head's line, or from the one remembered, to the end.
 *
 * @param remembered where the log ended, as its agent knows it
 * @throws AUDIT_DAMAGED, and what node:fs throws
 */
export function findEnd(dir: string, publicKey: Uint8Array, remembered?: AuditEnd): LogEnd {
  const files = logFiles(dir)
  const bytes = readHeadFile(dir)
  const start = { line: 0, prev: firstHash(publicKey) }
  if (bytes === undefined && files.length === 0) {
    const line = remembered?.line ?? 0
    if (line > 0) throw damaged(`The log is gone; state.db remembers line ${line}`)
    return { head: undefined, ...start, file: undefined, tornAt: undefined, tornBytes: 0, unsignedLines: 0 }
  }
  if (bytes === undefined) throw damaged('There are lines but no signed head')
  let head: AuditHead
  try {
    head = readHead(bytes, publicKey)
  } catch (cause) {
    throw damaged('The head is not signed by this agent', cause)
  }
  const first = Math.min(head.line, remembered?.line || head.line)
  const from = first === 0 ? 0 : fileOf(dir, files, first)
  const check = new ChainCheck(head, remembered, first === 0 ? { line: 1, prev: start.prev } : undefined)
  for (const file of files.slice(from)) {
    for (const raw of rawLines(dir, file)) check.take(raw)
  }
  check.finish()
  const [problem] = check.problems
  if (problem !== undefined) throw damaged(`${problem.detail}${problem.file ? ` (${problem.file})` : ''}`)
  const file = files.at(-1)
  if (check.torn !== undefined && check.torn.file !== file)
    throw damaged('A line ends in the middle of the log')
  return {
    head,
    line: check.lastLine,
    prev: check.lastHash ?? start.prev,
    file,
    tornAt: check.torn?.offset,
    tornBytes: check.torn?.bytes.length ?? 0,
    unsignedLines: check.unsignedLines,
  }
}

/** Index of the newest file that begins at or before a line: the head lags by a second, so it is near the end. */
function fileOf(dir: string, files: readonly string[], line: number): number {
  for (let index = files.length - 1; index > 0; index--) {
    const first = firstLine(dir, files[index] ?? '')
    if (first !== undefined && first <= line) return index
  }
  return 0
}

function firstLine(dir: string, file: string): number | undefined {
  for (const raw of rawLines(dir, file)) {
    try {
      return raw.complete ? readLine(raw.bytes).line : undefined
    } catch {
      return undefined
    }
  }
  return undefined
}

function damaged(detail: string, cause?: unknown): AgentMeshError {
  return new AgentMeshError('AUDIT_DAMAGED', detail, { operation: 'open the audit log', cause })
}

/** Whether anything of a log is there. @throws what node:fs throws */
export function hasAuditLog(dir: string): boolean {
  return existsSync(dir) && (logFiles(dir).length > 0 || readHeadFile(dir) !== undefined)
}

/**
 * Moves a damaged log out of the way, into a folder beside its successor where it stays for its owner to look at; the
 * folder's name. The new log is expected to begin with `log_restarted`.
 *
 * @param now milliseconds since the epoch
 * @throws AUDIT_WRITE_FAILED
 */
export function setAsideAuditLog(dir: string, now: number): string {
  const name = `damaged-${formatTimestamp(now).replaceAll(':', '-')}`
  try {
    mkdirSync(join(dir, name), { mode: 0o700 })
    for (const file of logFiles(dir)) renameSync(join(dir, file), join(dir, name, file))
    if (readHeadFile(dir) !== undefined) renameSync(join(dir, HEAD_FILE), join(dir, name, HEAD_FILE))
  } catch (cause) {
    throw new AgentMeshError('AUDIT_WRITE_FAILED', undefined, { operation: 'set the audit log aside', cause })
  }
  return name
}

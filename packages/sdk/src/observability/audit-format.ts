/**
 * The layout of the audit log (specification §7.1, DESIGN §9).
 *
 *     logs/2026-02-01.0001.jsonl    {"ts":..,"event":..,<fields>,"line":n,"prev":"<hash>"}\n
 *     logs/head.json                {"line":n,"hash":"<hash>","signed_at":..,"signature":".."}
 *
 * `line` counts from 1 over all files. (The specification's own `seq` is a message's sequence.) `prev` is the base64
 * SHA-256 of the bytes of the line before, without its newline; the first line's is the hash of the log's owner. The head
 * names the last line that was signed; lines after it are held by the chain only, until the next head.
 *
 * A new file begins with each UTC day and at 64 MiB. File names sort as the log runs: a clock set back stays in the file.
 */
import { closeSync, constants, openSync, readdirSync, readSync } from 'node:fs'
import { join } from 'node:path'
import { sha256, lengthPrefixed, sign, verify } from '../crypto/signing.ts'
import {
  AgentMeshError,
  concatBytes,
  fromBase64,
  HashText,
  parseJsonObject,
  SignatureText,
  Timestamp,
  toBase64,
  unsignedBytes,
  utf8Bytes,
  validate,
  Type,
} from '../wire/index.ts'
import type { Static } from 'typebox'
import type { AuditLine } from './audit-events.ts'

export const HEAD_FILE = 'head.json'
export const MAX_FILE_BYTES = 64 * 1024 * 1024
/** A longer event is replaced by its name and size. */
export const MAX_LINE_BYTES = 64 * 1024
const READ_BYTES = 256 * 1024
const NEWLINE = 0x0a

export const AuditHead = Type.Object({
  line: Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER }),
  hash: HashText,
  signed_at: Timestamp,
  signature: SignatureText,
})
export type AuditHead = Static<typeof AuditHead>

const AuditLineShape = Type.Object({
  ts: Type.String(),
  event: Type.String(),
  line: Type.Integer({ minimum: 1, maximum: Number.MAX_SAFE_INTEGER }),
  prev: HashText,
})

/** What stands before line 1: the log of one key cannot be passed off as another's. */
export function firstHash(publicKey: Uint8Array): string {
  return toBase64(sha256(lengthPrefixed(utf8Bytes('agentmesh/0.2 audit log'), publicKey)))
}

/** The `prev` of the line that follows. */
export function lineHash(bytes: Uint8Array): string {
  return toBase64(sha256(bytes))
}

export function signHead(secretKey: Uint8Array, line: number, hash: string, signedAt: string): AuditHead {
  const head = { line, hash, signed_at: signedAt }
  return { ...head, signature: toBase64(sign('audit', secretKey, unsignedBytes(head))) }
}

/** @throws MALFORMED and the JSON codes, INVALID_SIGNATURE */
export function readHead(bytes: Uint8Array, publicKey: Uint8Array): AuditHead {
  const head = validate(AuditHead, parseJsonObject(bytes, 4096), 'read the head of the audit log')
  if (!verify('audit', publicKey, fromBase64(head.signature), unsignedBytes(head))) {
    throw new AgentMeshError('INVALID_SIGNATURE', undefined, { operation: 'read the head of the audit log' })
  }
  return head
}

/** @throws MALFORMED and the JSON codes */
export function readLine(bytes: Uint8Array): AuditLine {
  return validate(
    AuditLineShape,
    parseJsonObject(bytes, MAX_LINE_BYTES),
    'read a line of the audit log',
  ) as AuditLine
}

const FILE_PATTERN = /^(\d{4}-\d{2}-\d{2})\.(\d{4})\.jsonl$/

/** The log's files, oldest first. @throws what node:fs throws when the folder cannot be read */
export function logFiles(dir: string): string[] {
  return readdirSync(dir)
    .filter((name) => FILE_PATTERN.test(name))
    .toSorted()
}

/** The file that follows `current` on `day` (YYYY-MM-DD); `current` when there is no reason to change. */
export function nextFile(current: string | undefined, day: string, full: boolean): string {
  const match = current === undefined ? null : FILE_PATTERN.exec(current)
  const [, currentDay = '', part = '0'] = match ?? []
  if (current === undefined || day > currentDay) return `${day}.0001.jsonl`
  return full && Number(part) < 9999
    ? `${currentDay}.${String(Number(part) + 1).padStart(4, '0')}.jsonl`
    : current
}

export interface RawLine {
  readonly file: string
  readonly bytes: Uint8Array
  /** Position of its first byte in the file. */
  readonly offset: number
  /** false: the file ends without the newline. */
  readonly complete: boolean
  /** true: longer than a line can be; `bytes` is only its beginning. */
  readonly oversized: boolean
}

/** The lines of one file in pieces, so that the size of a log is no matter. @throws what node:fs throws; ELOOP for links */
export function* rawLines(dir: string, file: string): Generator<RawLine> {
  const handle = openSync(join(dir, file), constants.O_RDONLY | (constants.O_NOFOLLOW ?? 0))
  try {
    let pending: Uint8Array = new Uint8Array(0)
    let skipped = 0
    let offset = 0
    const chunk = new Uint8Array(READ_BYTES)
    for (let length = readSync(handle, chunk); length > 0; length = readSync(handle, chunk)) {
      let start = 0
      for (let end = chunk.indexOf(NEWLINE); end >= 0 && end < length; end = chunk.indexOf(NEWLINE, start)) {
        const bytes = concatBytes(pending, chunk.subarray(start, end))
        const size = skipped + bytes.length
        yield { file, bytes, offset, complete: true, oversized: size > MAX_LINE_BYTES }
        offset += size + 1
        pending = new Uint8Array(0)
        skipped = 0
        start = end + 1
      }
      const rest = concatBytes(pending, chunk.subarray(start, length))
      pending = rest.subarray(0, MAX_LINE_BYTES)
      skipped += rest.length - pending.length
    }
    if (pending.length > 0) {
      yield { file, bytes: pending, offset, complete: false, oversized: skipped > 0 }
    }
  } finally {
    closeSync(handle)
  }
}

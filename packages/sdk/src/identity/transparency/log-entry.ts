/**
 * An entry of the transparency log: what it is about, when the registry took it in, and the thing itself.
 *
 *     u8 kind || u64 milliseconds since the epoch, big-endian || content
 *
 * The content is DER for a certificate and RFC 8785 JSON for the others. The entry's leaf hash covers all of these bytes.
 */
import {
  AgentMeshError,
  ByteReader,
  ByteWriter,
  checkTimestamp,
  MAX_LOG_ENTRY_BYTES,
} from '../../wire/index.ts'

const KIND_NUMBERS = { certificate: 1, revocation: 2, reputation: 3 } as const
export type LogEntryKind = keyof typeof KIND_NUMBERS
const KINDS = new Map(
  Object.entries(KIND_NUMBERS).map(([kind, number]) => [number as number, kind as LogEntryKind]),
)

export interface LogEntry {
  readonly kind: LogEntryKind
  /** Milliseconds since the epoch. */
  readonly timestamp: number
  readonly content: Uint8Array
}

/** @throws TOO_LARGE, and INVALID_TIMESTAMP for a time the wire cannot carry */
export function encodeLogEntry({ kind, timestamp, content }: LogEntry): Uint8Array {
  const entry = new ByteWriter().u8(KIND_NUMBERS[kind]).u64(checkTimestamp(timestamp)).bytes(content).finish()
  if (entry.length > MAX_LOG_ENTRY_BYTES) throw new AgentMeshError('TOO_LARGE', 'The log entry is too large')
  return entry
}

/** @throws MALFORMED, TOO_LARGE, INVALID_TIMESTAMP, and UNKNOWN_TYPE for a kind that is none */
export function parseLogEntry(bytes: Uint8Array): LogEntry {
  if (bytes.length > MAX_LOG_ENTRY_BYTES) throw new AgentMeshError('TOO_LARGE', 'The log entry is too large')
  const reader = new ByteReader(bytes)
  const kind = KINDS.get(reader.u8())
  if (kind === undefined) throw new AgentMeshError('UNKNOWN_TYPE', 'The log entry is of no known kind')
  return { kind, timestamp: checkTimestamp(reader.u64()), content: reader.rest() }
}

/** Timestamps: milliseconds since the epoch inside, RFC 3339 in UTC on the wire. */
import { AgentMeshError } from './errors.ts'

export const TIMESTAMP_PATTERN = '^\\d{4}-\\d{2}-\\d{2}T\\d{2}:\\d{2}:\\d{2}(\\.\\d{3})?Z$'
/** 9999-12-31T23:59:59.999Z: RFC 3339 has no year after it. */
export const MAX_TIMESTAMP = 253_402_300_799_999
const pattern = new RegExp(TIMESTAMP_PATTERN)

/** @throws INVALID_TIMESTAMP unless a whole number of milliseconds from 1970 to the end of 9999. */
export function formatTimestamp(milliseconds: number): string {
  return new Date(checkTimestamp(milliseconds)).toISOString()
}

/** @throws INVALID_TIMESTAMP unless RFC 3339, UTC, with seconds or milliseconds, a date that exists, from 1970 on. */
export function parseTimestamp(text: string): number {
  const milliseconds = pattern.test(text) ? Date.parse(text) : Number.NaN
  // Date.parse rolls 30 February over to March; a second spelling of a date is refused like any other.
  if (Number.isNaN(milliseconds) || !new Date(milliseconds).toISOString().startsWith(text.slice(0, 19))) {
    throw new AgentMeshError('INVALID_TIMESTAMP')
  }
  return checkTimestamp(milliseconds)
}

export function isTimestamp(text: string): boolean {
  try {
    parseTimestamp(text)
    return true
  } catch {
    return false
  }
}

/** The range both encodings carry: the binary one has no sign, the text one no fifth digit of the year. */
export function checkTimestamp(milliseconds: number): number {
  if (!Number.isInteger(milliseconds) || milliseconds < 0 || milliseconds > MAX_TIMESTAMP) {
    throw new AgentMeshError('INVALID_TIMESTAMP')
  }
  return milliseconds
}

/** Timestamps: milliseconds since the epoch inside, RFC 3339 in UTC on the wire. */
import { AgentMeshError } from './errors.ts'

export const TIMESTAMP_PATTERN = '^\\d{4}-\\d{2}-\\d{2}T\\d{2}:\\d{2}:\\d{2}(\\.\\d{3})?Z$'
const pattern = new RegExp(TIMESTAMP_PATTERN)

export function formatTimestamp(milliseconds: number): string {
  return new Date(milliseconds).toISOString()
}

/** @throws INVALID_TIMESTAMP unless RFC 3339, UTC, with seconds or milliseconds, and a date that exists. */
export function parseTimestamp(text: string): number {
  const milliseconds = pattern.test(text) ? Date.parse(text) : Number.NaN
  // Date.parse rolls 30 February over to March; a second spelling of a date is refused like any other.
  if (Number.isNaN(milliseconds) || !new Date(milliseconds).toISOString().startsWith(text.slice(0, 19))) {
    throw new AgentMeshError('INVALID_TIMESTAMP')
  }
  return milliseconds
}

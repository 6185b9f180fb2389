/** Rows of the application's messages: what a queued one waits for, and writing it under its index. */
import { formatIntent, type Amid } from '../wire/index.ts'
import type { Core } from './core.ts'
import type { OutgoingRow } from './tables.ts'

/**
 * A queued message waits for a session on its lane: each single request has its own, the rest share by category and
 * subcategory, which is what the KNOCK was let in for.
 */
export function laneOf(row: Pick<OutgoingRow, 'id' | 'intent' | 'sessionType'>): string {
  return row.sessionType === 'request_response' ? row.id : `${row.sessionType} ${formatIntent(row.intent)}`
}

/** Index value of messages without a session. */
export function waitingFor(to: Amid, lane: string): string {
  return `${to} ${lane}`
}

/** Call within a commit. */
export function putOutgoing(core: Core, row: OutgoingRow): void {
  core.store.tables.outgoing.put(row.id, row, {
    a: row.sessionId ?? waitingFor(row.to, laneOf(row)),
    b: row.state,
    at: row.createdAt,
  })
}

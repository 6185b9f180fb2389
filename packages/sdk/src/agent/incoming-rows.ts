/** Rows of peers' messages: their keys, and what a request and its answer must be. */
import {
  formatTimestamp,
  parseTimestamp,
  PAYLOADS,
  tierName,
  validate,
  type Envelope,
  type RequestPayload,
  type SessionId,
} from '../wire/index.ts'
import type { VerifiedStanding } from '../session/index.ts'
import type { AgentStore } from './core.ts'
import type { IncomingRow, RequestAnswer } from './tables.ts'
import type { Turn } from './turns.ts'
import type { PreparedAnswer } from './attachments/index.ts'
import type { IncomingRequest } from './types.ts'

export function incomingKey(sessionId: SessionId, sequence: number): string {
  return `${sessionId}:${sequence}`
}

export function requestKey({ from, id }: Envelope): string {
  return `${from}:${id}`
}

/** A request as it waits for its turn. */
export function turnOf({ envelope }: IncomingRow): Turn {
  const { session_id, sequence, from } = envelope
  return { key: incomingKey(session_id, sequence), from }
}

/** @throws MALFORMED for what is no answer */
export function toAnswer(input: PreparedAnswer): RequestAnswer {
  if ('error' in input) return { type: 'error', payload: validate(PAYLOADS.error, input.error, 'answer') }
  return { type: 'response', payload: validate(PAYLOADS.response, { status: 'success', ...input }, 'answer') }
}

/** A request as the application sees it. @param startedAt of this run, milliseconds since the epoch */
export function asRequest(
  { envelope, receivedAt }: IncomingRow,
  standing: VerifiedStanding,
  startedAt: number,
): IncomingRequest {
  const payload = envelope.payload as RequestPayload
  return {
    id: envelope.id,
    from: envelope.from,
    session_id: envelope.session_id,
    intent: payload.intent,
    payload,
    sent_before_start: parseTimestamp(envelope.first_sent_at ?? envelope.timestamp) < startedAt,
    provenance: {
      from: envelope.from,
      session_id: envelope.session_id,
      tier: tierName(standing.tier),
      reputation: standing.reputation,
      ...(standing.displayName === undefined ? {} : { display_name: standing.displayName }),
      ...(standing.organization === undefined ? {} : { organization: standing.organization }),
      ...(standing.root === undefined ? {} : { registry: standing.root }),
      received_at: formatTimestamp(receivedAt),
    },
  }
}

/**
 * Of an older copy of the state: what it owes the application may have been handed over since. Call within a commit. A peer that
 * has no answer to its request asks again, on a new session.
 */
export function forgetOwed({ incoming, requests }: AgentStore['tables']): void {
  for (const state of ['held', 'ready', 'unread'] as const) {
    for (const { key, value: row } of incoming.list({ b: state })) {
      if (state === 'held') incoming.delete(key)
      else
        incoming.put(
          key,
          { ...row, state: 'done' },
          { a: row.envelope.session_id, b: 'done', at: row.receivedAt * 1000 },
        )
      if (state === 'ready') requests.delete(requestKey(row.envelope))
    }
  }
}

/** Rows of peers' messages: their keys, and what a request and its answer must be. */
import {
  formatTimestamp,
  PAYLOADS,
  tierName,
  validate,
  type Envelope,
  type RequestPayload,
  type SessionId,
} from '../wire/index.ts'
import type { VerifiedStanding } from '../session/index.ts'
import type { IncomingRow, RequestAnswer } from './tables.ts'
import type { Turn } from './turns.ts'
import type { AnswerInput, IncomingRequest } from './types.ts'

export function incomingKey(sessionId: SessionId, sequence: number): string {
  return `${sessionId}:${sequence}`
}

export function requestKey({ from, id }: Envelope): string {
  return `${from}:${id}`
}

/** A request as it waits for its turn. */
export function turnOf({ envelope }: IncomingRow): Turn {
  const { session_id, sequence, from, id } = envelope
  return { key: incomingKey(session_id, sequence), from, id }
}

/** @throws MALFORMED for what is no answer */
export function toAnswer(input: AnswerInput): RequestAnswer {
  if ('error' in input) return { type: 'error', payload: validate(PAYLOADS.error, input.error, 'answer') }
  return { type: 'response', payload: validate(PAYLOADS.response, { status: 'success', ...input }, 'answer') }
}

/** A request as the application sees it. */
export function asRequest(
  { envelope, receivedAt }: IncomingRow,
  standing: VerifiedStanding,
): IncomingRequest {
  const payload = envelope.payload as RequestPayload
  return {
    id: envelope.id,
    from: envelope.from,
    session_id: envelope.session_id,
    intent: payload.intent,
    payload,
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

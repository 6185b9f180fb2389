/** Rows of peers' messages: their keys, and what a request and its answer must be. */
import { negotiate } from '../messages/index.ts'
import {
  AgentMeshError,
  formatIntent,
  formatTimestamp,
  isAgentMeshError,
  parseTimestamp,
  PAYLOADS,
  tierName,
  validate,
  type Envelope,
  type MessageId,
  type Payload,
  type RequestPayload,
  type SessionId,
} from '../wire/index.ts'
import { ANONYMOUS_STANDING } from '../session/index.ts'
import type { AgentStore, Core } from './core.ts'
import type { IncomingRow, RequestAnswer } from './tables.ts'
import type { Turn } from './turns.ts'
import type { PreparedAnswer } from './attachments/prepared.ts'
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

/** Whether a message is about one of ours to this very peer. */
export function hasAsked({ store }: Core, { from }: Envelope, id: MessageId): boolean {
  return store.tables.outgoing.get(id)?.to === from
}

/**
 * A peer whose session ended says again, on another one, what it does not know to be received. Requests have a filter of
 * their own, which answers; an answer counts once by itself. Call within the commit that takes the message.
 */
export function saidBefore(core: Core, envelope: Envelope): boolean {
  const { type, in_reply_to: about } = envelope
  if (type === 'request' || type === 'close' || (about && hasAsked(core, envelope, about))) return false
  const { requests } = core.store.tables
  const key = requestKey(envelope)
  if (requests.get(key)) return true
  requests.put(key, { sessionId: envelope.session_id }, { a: envelope.from, at: core.now() })
  return false
}

/** What the owner offers, against what a peer needs. */
export function negotiationAnswer(
  { config: { negotiation, capabilities } }: Core,
  need: Payload<'capability_negotiation'>,
): Payload<'capability_negotiation_response'> {
  const names = capabilities.map((known) => (typeof known === 'string' ? known : formatIntent(known)))
  return negotiate({ capabilities: names, ...negotiation }, need)
}

/** A request as the application sees it. */
export function asRequest(core: Core, { envelope, receivedAt }: IncomingRow): IncomingRequest {
  // It outlives its session only where transcripts are not kept.
  const standing = core.store.tables.sessions.get(envelope.session_id)?.standing ?? ANONYMOUS_STANDING
  const payload = envelope.payload as RequestPayload
  return {
    id: envelope.id,
    from: envelope.from,
    session_id: envelope.session_id,
    intent: payload.intent,
    payload,
    sent_before_start: parseTimestamp(envelope.first_sent_at ?? envelope.timestamp) < core.startedAt,
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
  for (const state of ['held', 'coming', 'ready', 'unread'] as const) {
    for (const { key, value: row } of incoming.list({ b: state })) {
      if (state === 'held') incoming.delete(key)
      else
        incoming.put(
          key,
          { ...row, state: 'done' },
          { a: row.envelope.session_id, b: 'done', at: row.receivedAt * 1000 },
        )
      if (state === 'ready' || state === 'coming') requests.delete(requestKey(row.envelope))
    }
  }
}

/** What a handler threw, as one of our errors. */
export function asFailure(error: unknown): AgentMeshError {
  return isAgentMeshError(error) ? error : new AgentMeshError('HANDLER_FAILED', undefined, { cause: error })
}

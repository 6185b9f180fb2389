/**
 * The handshake as two state machines (specification §5.1, DESIGN §2): `step(state, event, now) -> { state, effects }`.
 * Effects are what the caller does; the machines touch nothing.
 *
 *     initiator   idle -- knock --> looking-up -- bundle --> knocking -- answer --> open | rejected
 *                                      |                        '------- tick, too late --> expired
 *                                      '-- lookup failed --> failed
 *
 *     responder   received -- precheck --> opening -- opened --> claiming -- claimed --> deciding -- decision --> accepted | rejected
 *                    |                        |                     '-- repeated --> dropped
 *                    |                        '--- not opened ------> dropped
 *                    '-- turned away, no courtesy left --> dropped
 *
 * A forged answer is no event that moves the initiator: it is reported and the machine waits on. `claiming` commits nonce and
 * prekeys, and only behind it is anything decided, recorded or answered, so no KNOCK is answered twice.
 */
import { isAgentMeshError, type Accept, type Amid, type ErrorCode, type Reject } from '../wire/index.ts'
import type { Decision, PrecheckOutcome } from './decision.ts'
import type { SessionEnvironment } from './handshake.ts'
import { consumeAnswer, createKnock, type KnockRequest, type PendingKnock } from './knock-initiator.ts'
import type { OpenedKnock } from './knock-responder.ts'
import type { Session } from './session.ts'

// --- initiator ----------------------------------------------------------------------------------------------------

export type InitiatorState =
  | { readonly name: 'idle' }
  | { readonly name: 'looking-up'; readonly peer: Amid }
  | { readonly name: 'knocking'; readonly pending: PendingKnock }
  | { readonly name: 'open'; readonly session: Session; readonly accept: Accept }
  | { readonly name: 'rejected'; readonly reject: Reject }
  | { readonly name: 'expired' }
  | { readonly name: 'failed'; readonly code: ErrorCode }

export type InitiatorEvent =
  | { readonly type: 'knock'; readonly peer: Amid }
  | { readonly type: 'bundle'; readonly request: KnockRequest }
  | { readonly type: 'lookup-failed'; readonly code: ErrorCode }
  | { readonly type: 'answer'; readonly relayType: 'accept' | 'reject'; readonly packet: Uint8Array }
  | { readonly type: 'tick' }

export type InitiatorEffect =
  | { readonly type: 'fetch-bundle'; readonly peer: Amid }
  /** Store `pending` first, then send. */
  | { readonly type: 'send-knock'; readonly to: Amid; readonly packet: Uint8Array }
  | { readonly type: 'wake-at'; readonly at: number }
  | { readonly type: 'report'; readonly code: ErrorCode }

export interface InitiatorStep {
  readonly state: InitiatorState
  readonly effects: readonly InitiatorEffect[]
}

/** Events that a state does not wait for leave it as it is. Errors that are not ours pass through. */
export function stepInitiator(
  state: InitiatorState,
  event: InitiatorEvent,
  environment: SessionEnvironment,
): InitiatorStep {
  const stay: InitiatorStep = { state, effects: [] }
  switch (state.name) {
    case 'idle':
      if (event.type !== 'knock') return stay
      return {
        state: { name: 'looking-up', peer: event.peer },
        effects: [{ type: 'fetch-bundle', peer: event.peer }],
      }
    case 'looking-up':
      if (event.type === 'lookup-failed') return { state: { name: 'failed', code: event.code }, effects: [] }
      if (event.type !== 'bundle') return stay
      return knock(state.peer, event.request, environment)
    case 'knocking':
      if (event.type === 'answer') return readAnswer(state, event, environment)
      if (event.type !== 'tick' || environment.now <= state.pending.expiresAt) return stay
      return { state: { name: 'expired' }, effects: [] }
    default:
      return event.type === 'answer'
        ? { state, effects: [{ type: 'report', code: 'ANSWER_MISMATCH' }] }
        : stay
  }
}

function knock(peer: Amid, request: KnockRequest, environment: SessionEnvironment): InitiatorStep {
  if (request.bundle.amid !== peer) return failed('AMID_MISMATCH')
  try {
    const { pending, packet } = createKnock(request, environment)
    return {
      state: { name: 'knocking', pending },
      effects: [
        { type: 'send-knock', to: peer, packet },
        { type: 'wake-at', at: pending.expiresAt + 1 },
      ],
    }
  } catch (error) {
    if (isAgentMeshError(error)) return failed(error.code)
    throw error
  }
}

function failed(code: ErrorCode): InitiatorStep {
  return { state: { name: 'failed', code }, effects: [] }
}

function readAnswer(
  state: Extract<InitiatorState, { name: 'knocking' }>,
  event: Extract<InitiatorEvent, { type: 'answer' }>,
  environment: SessionEnvironment,
): InitiatorStep {
  try {
    const answer = consumeAnswer(state.pending, event.relayType, event.packet, environment)
    return answer.kind === 'accepted'
      ? { state: { name: 'open', session: answer.session, accept: answer.accept }, effects: [] }
      : { state: { name: 'rejected', reject: answer.reject }, effects: [] }
  } catch (error) {
    if (isAgentMeshError(error)) return { state, effects: [{ type: 'report', code: error.code }] }
    throw error
  }
}

// --- responder ----------------------------------------------------------------------------------------------------

export type ResponderState =
  | { readonly name: 'received' }
  | { readonly name: 'opening'; readonly precheck: PrecheckOutcome }
  | {
      readonly name: 'claiming' | 'deciding'
      readonly opened: OpenedKnock
      readonly precheck: PrecheckOutcome
    }
  | { readonly name: 'accepted'; readonly decision: Decision }
  | { readonly name: 'rejected'; readonly decision: Decision }
  | { readonly name: 'dropped'; readonly reason: 'silent' | 'repeated' | ErrorCode }

export type ResponderEvent =
  | { readonly type: 'prechecked'; readonly precheck: PrecheckOutcome }
  /** `openKnock` returned. */
  | { readonly type: 'opened'; readonly opened: OpenedKnock }
  /** Its nonce is ours now, or was before. */
  | { readonly type: 'claimed' | 'repeated' }
  | { readonly type: 'not-opened'; readonly code: ErrorCode }
  | { readonly type: 'decided'; readonly decision: Decision }

export type ResponderEffect =
  | { readonly type: 'open' }
  /** In one transaction: insert (sender, nonce), or `repeated`; keep the header hash; delete used prekeys. */
  | { readonly type: 'commit-nonce'; readonly opened: OpenedKnock }
  | { readonly type: 'evaluate'; readonly opened: OpenedKnock; readonly precheck: PrecheckOutcome }
  | { readonly type: 'accept'; readonly opened: OpenedKnock }
  | { readonly type: 'reject'; readonly opened: OpenedKnock; readonly decision: Decision }

export interface ResponderStep {
  readonly state: ResponderState
  readonly effects: readonly ResponderEffect[]
}

/** Events that a state does not wait for leave it as it is. */
export function stepResponder(state: ResponderState, event: ResponderEvent): ResponderStep {
  const stay: ResponderStep = { state, effects: [] }
  switch (state.name) {
    case 'received':
      if (event.type !== 'prechecked') return stay
      if (event.precheck.verdict !== 'ok' && !event.precheck.courtesy) {
        return { state: { name: 'dropped', reason: 'silent' }, effects: [] }
      }
      return { state: { name: 'opening', precheck: event.precheck }, effects: [{ type: 'open' }] }
    case 'opening':
      if (event.type === 'not-opened') {
        return { state: { name: 'dropped', reason: event.code }, effects: [] }
      }
      if (event.type !== 'opened') return stay
      return {
        state: { name: 'claiming', opened: event.opened, precheck: state.precheck },
        effects: [{ type: 'commit-nonce', opened: event.opened }],
      }
    case 'claiming': {
      const { opened, precheck } = state
      // Nobody decides about it a second time, and nobody is told of it.
      if (event.type === 'repeated') return { state: { name: 'dropped', reason: 'repeated' }, effects: [] }
      if (event.type !== 'claimed') return stay
      return {
        state: { name: 'deciding', opened, precheck },
        effects: [{ type: 'evaluate', opened, precheck }],
      }
    }
    case 'deciding': {
      const { opened } = state
      if (event.type !== 'decided') return stay
      const { decision } = event
      return decision.accepted
        ? { state: { name: 'accepted', decision }, effects: [{ type: 'accept', opened }] }
        : { state: { name: 'rejected', decision }, effects: [{ type: 'reject', opened, decision }] }
    }
    default:
      return stay
  }
}

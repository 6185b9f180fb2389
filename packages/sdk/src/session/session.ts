/**
 * A session: what two agents share after an ACCEPT (specification §5.4 to §5.6). An immutable value; every message makes a
 * new one, and whoever holds the old one can go back.
 *
 * It is `open` until the first CLOSE. Whose CLOSE has passed is kept apart, since both are signed and both together prove a
 * session that both sides ended:
 *
 *               .-- send ----> ours ---- receive --.
 *     none -----|                                  |--> both -- crossed: the responder's second --> settled
 *               '-- receive -> theirs -- send -----'
 *
 *     none      all is read; `closed` with it: given up without a CLOSE, nothing is read or said
 *     ours      receipts and the peer's CLOSE are read; the rest was not read, as our CLOSE says, and is passed over
 *     theirs    what the peer sent before its CLOSE is read; ours is due, and confirms it
 *     both      receipts, until each side knows that its CLOSE came; the peer's second CLOSE when two crossed
 *     settled   receipts
 *
 * In a session of type `request_response` one question and one answer pass:
 *
 *     idle -- request, initiator --> asked -- response or error, responder --> answered
 */
import type { RatchetState } from '../crypto/index.ts'
import {
  DEFAULT_MAX_MESSAGE_BYTES,
  type Amid,
  type CloseReason,
  type Constraints,
  type Intent,
  type Knock,
  type SessionId,
  type SessionType,
} from '../wire/index.ts'

export type SessionRole = 'initiator' | 'responder'
export type SessionState = 'open' | 'closed'
/** Whose CLOSE has passed: the states of the module's diagram. */
export type ClosesPassed = 'none' | 'ours' | 'theirs' | 'both' | 'settled'
export type ExchangeState = 'idle' | 'asked' | 'answered'

/** Sequence numbers received: all up to `highest` except `missing`, which is in ascending order. */
export interface ReceiveWindow {
  readonly highest: number
  readonly missing: readonly number[]
}

export interface Session {
  readonly id: SessionId
  readonly role: SessionRole
  readonly self: Amid
  readonly peer: Amid
  /** Ed25519, 32 bytes; its hash is `peer`. */
  readonly peerSigningKey: Uint8Array
  readonly intent: Intent
  readonly type: SessionType
  readonly constraints: Constraints
  /** The protocol version both agreed on. */
  readonly version: string
  /** The ACCEPT's time; milliseconds since the epoch, like the next two. */
  readonly createdAt: number
  readonly expiresAt: number
  readonly lastActivityAt: number
  readonly state: SessionState
  readonly closes: ClosesPassed
  /** Why it was closed; the first CLOSE counts. */
  readonly closeReason?: CloseReason
  readonly exchange: ExchangeState
  readonly ratchet: RatchetState
  /** Sequence of the last envelope sent; 0 before the first. */
  readonly sendSequence: number
  readonly received: ReceiveWindow
  /** Envelopes that count against `max_messages`, each way. Receipts and CLOSE do not count. */
  readonly sentCount: number
  readonly receivedCount: number
  /** False: forward secrecy of the KNOCK rests on weekly keys, and both owners are told. */
  readonly oneTimePrekeyUsed: boolean
}

type SessionRequest = Knock['session_request']

/** The longest a session lives before its parties knock again (specification §5.5: cached for 24 hours). */
export const MAX_SESSION_SECONDS = 24 * 3600

const DEFAULTS: Readonly<Record<SessionType, { maxMessages: number | null; ttlSeconds: number }>> = {
  request_response: { maxMessages: 20, ttlSeconds: 300 },
  conversation: { maxMessages: 200, ttlSeconds: 3600 },
  stream: { maxMessages: null, ttlSeconds: MAX_SESSION_SECONDS },
}

/** Limits of a session type where nobody asked for others. `max_messages` holds for each direction by itself. */
export function defaultConstraints(type: SessionType): Constraints {
  const { maxMessages, ttlSeconds } = DEFAULTS[type]
  return {
    max_message_size_bytes: DEFAULT_MAX_MESSAGE_BYTES,
    max_messages: maxMessages,
    ttl_seconds: ttlSeconds,
  }
}

/** What a receiver grants: the limits of the type, for the time asked but no more than 24 hours. */
export function grantConstraints(request: SessionRequest): Constraints {
  return {
    ...defaultConstraints(request.type),
    ttl_seconds: Math.min(request.ttl_seconds, MAX_SESSION_SECONDS),
  }
}

type NewSession = Pick<
  Session,
  | 'id'
  | 'role'
  | 'self'
  | 'peer'
  | 'peerSigningKey'
  | 'intent'
  | 'constraints'
  | 'type'
  | 'version'
  | 'createdAt'
  | 'ratchet'
  | 'oneTimePrekeyUsed'
>

export function openSession(fields: NewSession): Session {
  return {
    ...fields,
    expiresAt: fields.createdAt + fields.constraints.ttl_seconds * 1000,
    lastActivityAt: fields.createdAt,
    state: 'open',
    closes: 'none',
    exchange: 'idle',
    sendSequence: 0,
    received: { highest: 0, missing: [] },
    sentCount: 0,
    receivedCount: 0,
  }
}

/**
 * Whether the peer has seen an envelope of ours that this state has not sent yet: then it was rolled back, and sending with
 * it would use keys a second time.
 *
 * @param receivedUpTo highest sequence of ours that the peer says it has seen, from a signed RESET
 */
export function isBehind(session: Session, receivedUpTo: number): boolean {
  return receivedUpTo > session.sendSequence
}

/**
 * What may be said in a session and when: its state, time, turn, number of messages and sequence (specification §5.4,
 * §5.6). Both sides run the same rules, the sender before it signs, the receiver before it delivers.
 *
 * Receipts, CLOSE and the word that an envelope was refused are possible while the session is known, since they carry
 * nothing a limit is for; they take sequence numbers like every envelope, and no place in `max_messages`. A session that
 * ended without a CLOSE was given up (spec/sessions.md 6): its ratchet may be older than what the peer has seen, so it
 * carries nothing at all. The limit holds for each direction by itself: a shared one would be passed whenever both sides
 * spoke at once.
 *
 * Negotiating capabilities (specification §6.3) takes no place in `max_messages` either, since it settles how the rest is
 * said; state, time and turn hold for it, and a `request_response` session has no turn for it.
 *
 * Messages may come out of order and some never; the window keeps which sequence numbers are still open, as many as the
 * ratchet keeps keys for.
 */
import { MAX_SKIPPED_KEYS } from '../crypto/index.ts'
import type { ClosesPassed, ReceiveWindow, Session, SessionRole } from '../session/index.ts'
import {
  AgentMeshError,
  lastOf,
  receiptsOf,
  type Envelope,
  type EnvelopeType,
  type ErrorCode,
} from '../wire/index.ts'

/** What of an envelope the limits look at. */
export type Limited = Pick<Envelope, 'type' | 'payload'>

/** Bookkeeping of the session itself, which no limit holds back. */
function isExempt({ type, payload }: Limited): boolean {
  return type === 'receipt' || type === 'close' || (type === 'error' && 'refused' in payload)
}

const UNCOUNTED: ReadonlySet<EnvelopeType> = new Set([
  'receipt',
  'close',
  'capability_negotiation',
  'capability_negotiation_response',
])

const CLOSED_HERE: ReadonlySet<ClosesPassed> = new Set(['ours', 'both', 'settled'])
const CLOSED_THERE: ReadonlySet<ClosesPassed> = new Set(['theirs', 'both', 'settled'])

function refuse(code: ErrorCode): never {
  throw new AgentMeshError(code, undefined, { operation: 'apply session limits' })
}

/** @throws SESSION_CLOSED, SESSION_EXPIRED, LIMIT_MESSAGES, OUT_OF_TURN */
export function checkSending(session: Session, message: Limited, now: number): void {
  const { type } = message
  if (type === 'close' && CLOSED_HERE.has(session.closes) && !mayAnswer(session, session.role)) {
    refuse('SESSION_CLOSED')
  }
  if (isGivenUp(session)) refuse('SESSION_CLOSED')
  if (type === 'receipt' || type === 'close') return
  if (session.state === 'closed') refuse('SESSION_CLOSED')
  if (isExempt(message)) return
  if (now >= session.expiresAt) refuse('SESSION_EXPIRED')
  if (isCounted(message) && exceeds(session, session.sentCount)) refuse('LIMIT_MESSAGES')
  checkTurn(session, session.role, type)
}

/** Ended by its owner, or by a RESET, without a CLOSE. */
export function isGivenUp({ state, closes }: Session): boolean {
  return state === 'closed' && closes === 'none'
}

/** @throws SEQUENCE_REPEATED */
export function checkSequence({ received: { highest, missing } }: Session, sequence: number): void {
  if (sequence <= highest && !missing.includes(sequence)) refuse('SEQUENCE_REPEATED')
}

/**
 * Whether an envelope comes after the end: our CLOSE said that it was not read, or the peer's own that nothing follows.
 * Receipts are read as long as the session is known.
 */
export function isLate(session: Session, type: string, sequence: number): boolean {
  const { closes, received } = session
  if (type === 'receipt') return false
  if (type === 'close' && mayAnswer(session, otherRole(session))) return false
  if (CLOSED_THERE.has(closes) && sequence > received.highest) return true
  return type !== 'close' && CLOSED_HERE.has(closes)
}

/** @throws LIMIT_MESSAGES, OUT_OF_TURN, RECEIPTS_IMPOSSIBLE */
export function checkReceiving(session: Session, envelope: Envelope): void {
  checkReceipts(session, envelope)
  if (isExempt(envelope)) {
    if (envelope.type === 'error' && (envelope.payload.refused?.sequence ?? 0) > session.sendSequence)
      refuse('RECEIPTS_IMPOSSIBLE')
    return
  }
  if (isCounted(envelope) && exceeds(session, session.receivedCount)) refuse('LIMIT_MESSAGES')
  checkTurn(session, otherRole(session), envelope.type)
}

/** Nobody has what was not sent, and an application has nothing that is not kept. */
function checkReceipts({ sendSequence }: Session, envelope: Envelope): void {
  const { received = 0, read = [], answered = [], closed = 0 } = receiptsOf(envelope) ?? {}
  if (Math.max(received, closed) > sendSequence || Math.max(lastOf(read), lastOf(answered)) > received)
    refuse('RECEIPTS_IMPOSSIBLE')
}

function otherRole({ role }: Session): SessionRole {
  return role === 'initiator' ? 'responder' : 'initiator'
}

/** Two CLOSEs that crossed leave two statements: the responder signs the initiator's, in one more CLOSE. */
function mayAnswer({ closes }: Session, sender: SessionRole): boolean {
  return closes === 'both' && sender === 'responder'
}

function exceeds(session: Session, count: number): boolean {
  const { max_messages: limit } = session.constraints
  return limit !== null && count >= limit
}

/** `request_response`: one request from the initiator, one response or error to it, and statuses of the responder. */
function checkTurn(session: Session, sender: SessionRole, type: EnvelopeType): void {
  if (session.type !== 'request_response') return
  const allowed =
    sender === 'initiator'
      ? type === 'request' && session.exchange === 'idle'
      : type === 'status' || ((type === 'response' || type === 'error') && session.exchange === 'asked')
  if (!allowed) refuse('OUT_OF_TURN')
}

export function afterSending(session: Session, envelope: Envelope, now: number): Session {
  return {
    ...afterEither(session, envelope, now, 'ours', 'theirs'),
    sendSequence: envelope.sequence,
    sentCount: session.sentCount + Number(isCounted(envelope)),
  }
}

export function afterReceiving(session: Session, envelope: Envelope, now: number): Session {
  return {
    ...afterEither(session, envelope, now, 'theirs', 'ours'),
    received: receive(session.received, envelope.sequence),
    receivedCount: session.receivedCount + Number(isCounted(envelope)),
  }
}

function isCounted(message: Limited): boolean {
  return !UNCOUNTED.has(message.type) && !isExempt(message)
}

/** A refused envelope, or one that came after the end, has used up its sequence and nothing else. */
export function afterPassing(session: Session, sequence: number): Session {
  return { ...session, received: receive(session.received, sequence) }
}

function afterEither(
  session: Session,
  envelope: Envelope,
  now: number,
  closing: ClosesPassed,
  other: ClosesPassed,
): Session {
  if (envelope.type === 'close') {
    return {
      ...session,
      lastActivityAt: now,
      state: 'closed',
      closes: session.closes === 'both' ? 'settled' : session.closes === other ? 'both' : closing,
      closeReason: session.closeReason ?? envelope.payload.reason,
    }
  }
  const asked = envelope.type === 'request' && session.exchange === 'idle'
  const answered =
    !isExempt(envelope) &&
    (envelope.type === 'response' || envelope.type === 'error') &&
    session.exchange === 'asked'
  return {
    ...session,
    lastActivityAt: now,
    exchange: asked ? 'asked' : answered ? 'answered' : session.exchange,
  }
}

function receive(window: ReceiveWindow, sequence: number): ReceiveWindow {
  const { highest, missing } = window
  if (sequence === highest + 1) return { highest: sequence, missing }
  if (sequence <= highest) return { highest, missing: missing.filter((open) => open !== sequence) }
  const passed = Math.min(sequence - highest - 1, MAX_SKIPPED_KEYS)
  const opened = Array.from({ length: passed }, (_, index) => sequence - passed + index)
  return { highest: sequence, missing: [...missing, ...opened].slice(-MAX_SKIPPED_KEYS) }
}

/**
 * Messages of a session: the envelope, signed and then encrypted by the ratchet (specification §6.1, DESIGN §7, §7.1).
 *
 *     createMessage    limits -> envelope -> canonical -> strict reading -> sign -> ratchet encrypt -> session id | frame
 *     consumePacket    ratchet decrypt -> a frame of an attachment (attachment-frames.ts), or an envelope as below
 *     consumeMessage   ratchet decrypt -> strict reading -> session, from, to -> signature -> sequence
 *                      -> size, type, schema, times, limits, turn -> read, refused or late
 *
 * What the ratchet opened is the peer's own doing: an envelope that is wrong but signed uses up its sequence, is named to
 * its sender, and the session goes on (spec/sessions.md 4). Only one that cannot be laid to the peer's account ends it.
 *
 * Signature and size are those of `session/signed-envelope.ts`.
 *
 * Both functions return the next session and leave the given one alone, so that a frame which fails changes nothing.
 */
import { ratchetDecrypt, ratchetEncrypt } from '../crypto/index.ts'
import type { Identity } from '../identity/index.ts'
import {
  signEnvelope,
  checkSize,
  verifiedBytes,
  type Session,
  type SessionEnvironment,
  type SessionRole,
} from '../session/index.ts'
import {
  AgentMeshError,
  CLOCK_SKEW_SECONDS,
  decodeSessionPacket,
  encodeSessionPacket,
  formatTimestamp,
  isAttachmentFrame,
  MAILBOX_TTL_SECONDS,
  MAX_PAYLOAD_BYTES,
  isAgentMeshError,
  isMessageId,
  parseEnvelope,
  parseEnvelopeFrame,
  parseJsonObject,
  parseTimestamp,
  type AttachmentFrame,
  type Envelope,
  type EnvelopeFrame,
  type EnvelopeType,
  type ErrorCode,
  type JsonObject,
  type MessageId,
  type Payload,
  type ReceiptPayload,
} from '../wire/index.ts'
import { readAttachmentFrame } from './attachment-frames.ts'
import {
  afterPassing,
  afterReceiving,
  afterSending,
  checkReceiving,
  checkSending,
  checkSequence,
  isGivenUp,
  isLate,
} from './limits.ts'
import { placeOf } from './place.ts'

/** A message to send: its payload is of the type's schema. */
export type MessageDraft<T extends EnvelopeType = EnvelopeType> = {
  [K in T]: {
    readonly type: K
    readonly payload: Payload<K>
    readonly id: MessageId
    readonly inReplyTo?: MessageId
    /** Milliseconds since the epoch, of a message that may have been sent before. */
    readonly firstSentAt?: number
    /** For the peer's messages, along with this one. */
    readonly receipts?: ReceiptPayload
  }
}[T]

const SKEW = CLOCK_SKEW_SECONDS * 1000

const OTHER: Readonly<Record<SessionRole, SessionRole>> = { initiator: 'responder', responder: 'initiator' }

/** The relay's type of an envelope: a relay may know that a session ends, and nothing else. */
export function relayTypeOf(type: EnvelopeType): 'message' | 'close' {
  return type === 'close' ? 'close' : 'message'
}

/**
 * Makes the next message of a session. The returned session must be stored before the packet leaves. Draws what
 * `ratchetEncrypt` draws.
 *
 * @throws SESSION_CLOSED, SESSION_EXPIRED, LIMIT_MESSAGES, LIMIT_SIZE, OUT_OF_TURN; MALFORMED and the codes of the strict
 *   JSON reader for a payload that cannot be carried exactly; RATCHET_EXHAUSTED
 */
export function createMessage(
  session: Session,
  draft: MessageDraft,
  identity: Identity,
  environment: SessionEnvironment,
): { readonly session: Session; readonly packet: Uint8Array; readonly envelope: Envelope } {
  checkSending(session, draft, environment.now)
  const sequence = session.sendSequence + 1
  const fields = {
    session_id: session.id,
    id: draft.id,
    in_reply_to: draft.inReplyTo,
    sequence,
    from: session.self,
    to: session.peer,
    type: draft.type,
    timestamp: formatTimestamp(environment.now),
    first_sent_at: draft.firstSentAt === undefined ? undefined : formatTimestamp(draft.firstSentAt),
    receipts: draft.receipts,
    payload: draft.payload,
  }
  const { raw, plaintext } = signEnvelope(fields, {
    identity,
    role: session.role,
    maxBytes: session.constraints.max_message_size_bytes,
  })
  const envelope = raw as unknown as Envelope
  const { state, message } = ratchetEncrypt(
    session.ratchet,
    plaintext,
    placeOf(session, relayTypeOf(draft.type), 'out'),
    environment,
  )
  return {
    envelope,
    packet: encodeSessionPacket({ sessionId: session.id, ratchetMessage: message }),
    session: { ...afterSending(session, envelope, environment.now), ratchet: state },
  }
}

/** An envelope that was refused by name: signed, and wrong. */
export interface RefusedEnvelope {
  readonly code: ErrorCode
  readonly sequence: number
  /** As its sender wrote it. */
  readonly type: string
  /** When they are ids: its own, and what it answers. */
  readonly id?: MessageId
  readonly inReplyTo?: MessageId
}

/**
 * `late`: it came after our CLOSE, which says that it was not read, or after the peer's own. In each case the sequence is
 * used up and the session is to be stored.
 */
export type Consumed =
  | { readonly kind: 'read'; readonly session: Session; readonly envelope: Envelope }
  | { readonly kind: 'refused'; readonly session: Session; readonly refused: RefusedEnvelope }
  | { readonly kind: 'late'; readonly session: Session; readonly sequence: number }
  | { readonly kind: 'frame'; readonly session: Session; readonly frame: AttachmentFrame }

/** Reads a message of a session as `consumePacket` does. @throws MALFORMED for a frame of an attachment */
export function consumeMessage(
  session: Session,
  packet: Uint8Array,
  relayType: 'message' | 'close',
  environment: SessionEnvironment,
): Exclude<Consumed, { kind: 'frame' }> {
  const consumed = consumePacket(session, packet, relayType, environment)
  if (consumed.kind === 'frame') throw new AgentMeshError('MALFORMED', 'Not an envelope')
  return consumed
}

/**
 * Reads a packet of a session, in whatever order packets come.
 *
 * @param relayType the type the relay gave the packet
 * @throws DECRYPTION_FAILED, RATCHET_DUPLICATE and the other codes of `ratchetDecrypt`, MALFORMED for a packet that is none;
 *   SESSION_CLOSED on a session that was given up. These end the session: ENVELOPE_UNREADABLE; SESSION_MISMATCH for an envelope
 *   that names another session, sender, receiver or type than where it arrived; INVALID_SIGNATURE; SEQUENCE_REPEATED
 */
export function consumePacket(
  session: Session,
  packet: Uint8Array,
  relayType: 'message' | 'close',
  environment: SessionEnvironment,
): Consumed {
  const { sessionId, ratchetMessage } = decodeSessionPacket(packet)
  if (sessionId !== session.id) throw readError('SESSION_MISMATCH')
  const { state: ratchet, plaintext } = ratchetDecrypt(
    session.ratchet,
    ratchetMessage,
    placeOf(session, relayType, 'in'),
    environment,
  )
  if (isGivenUp(session)) throw readError('SESSION_CLOSED')
  if (isAttachmentFrame(plaintext)) {
    const frame = readAttachmentFrame(plaintext, relayType)
    return { kind: 'frame', frame, session: { ...session, ratchet, lastActivityAt: environment.now } }
  }
  const { raw, frame, signed } = openEnvelope(session, plaintext, relayType)
  const { sequence, type } = frame
  checkSequence(session, sequence)
  const passed = { ...afterPassing(session, sequence), ratchet }
  if (isLate(session, type, sequence)) return { kind: 'late', session: passed, sequence }
  try {
    checkSize(signed, session.constraints.max_message_size_bytes)
    const envelope = parseEnvelope(raw)
    checkTimes(session, envelope, environment.now)
    checkReceiving(session, envelope)
    return {
      kind: 'read',
      envelope,
      session: { ...afterReceiving(session, envelope, environment.now), ratchet },
    }
  } catch (error) {
    if (!isAgentMeshError(error)) throw error
    const refused = { code: error.code, sequence, type, ...idsOf(raw) }
    return { kind: 'refused', session: passed, refused }
  }
}

function idsOf({ id, in_reply_to }: JsonObject): Pick<RefusedEnvelope, 'id' | 'inReplyTo'> {
  return {
    ...(typeof id === 'string' && isMessageId(id) ? { id } : {}),
    ...(typeof in_reply_to === 'string' && isMessageId(in_reply_to) ? { inReplyTo: in_reply_to } : {}),
  }
}

/**
 * Whose envelope it is and what signs it. @throws ENVELOPE_UNREADABLE, SESSION_MISMATCH, INVALID_SIGNATURE
 */
function openEnvelope(
  session: Session,
  plaintext: Uint8Array,
  relayType: 'message' | 'close',
): { raw: JsonObject; frame: EnvelopeFrame; signed: Uint8Array } {
  const { raw, frame } = readFrame(plaintext)
  if (
    frame.session_id !== session.id ||
    frame.from !== session.peer ||
    frame.to !== session.self ||
    (frame.type === 'close' ? 'close' : 'message') !== relayType
  ) {
    throw readError('SESSION_MISMATCH')
  }
  const source = { signingKey: session.peerSigningKey, role: OTHER[session.role] }
  return { raw, frame, signed: verifiedBytes(raw, frame.signature, source) }
}

function readFrame(plaintext: Uint8Array): { raw: JsonObject; frame: EnvelopeFrame } {
  try {
    const raw = parseJsonObject(plaintext, MAX_PAYLOAD_BYTES)
    return { raw, frame: parseEnvelopeFrame(raw) }
  } catch (cause) {
    if (!isAgentMeshError(cause)) throw cause
    throw new AgentMeshError('ENVELOPE_UNREADABLE', undefined, { operation: 'read a message', cause })
  }
}

function readError(code: 'SESSION_MISMATCH' | 'SESSION_CLOSED' | 'SESSION_EXPIRED' | 'TIME_IMPLAUSIBLE') {
  return new AgentMeshError(code, undefined, { operation: 'read a message' })
}

/**
 * A message counts by when it was sent, since it may wait in a mailbox. Back-dating one gains no more than that wait, and
 * its date is signed.
 */
function checkTimes(session: Session, envelope: Envelope, now: number): void {
  // They end the wait of the other side, which cannot be asked for another of them.
  if (envelope.type === 'receipt' || envelope.type === 'close') return
  const sentAt = parseTimestamp(envelope.timestamp)
  if (sentAt > now + SKEW || sentAt < session.createdAt - SKEW) throw readError('TIME_IMPLAUSIBLE')
  const deadline = session.expiresAt + SKEW
  if (sentAt > deadline || now > deadline + MAILBOX_TTL_SECONDS * 1000) throw readError('SESSION_EXPIRED')
}

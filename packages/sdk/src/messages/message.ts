/**
 * Messages of a session: the envelope, signed and then encrypted by the ratchet (specification §6.1, DESIGN §7, §7.1).
 *
 *     createMessage    limits -> envelope -> canonical -> strict reading -> sign -> ratchet encrypt -> session id | frame
 *     consumePacket    ratchet decrypt -> a frame of an attachment (attachment-frames.ts), or an envelope as below
 *     consumeMessage   ratchet decrypt -> strict reading -> session, from, to -> signature -> turn, times, limits, sequence
 *
 * Signature and size are those of `session/signed-envelope.ts`.
 *
 * Both functions return the next session and leave the given one alone, so that a frame which fails changes nothing.
 */
import { ratchetDecrypt, ratchetEncrypt } from '../crypto/index.ts'
import type { Identity } from '../identity/index.ts'
import {
  signEnvelope,
  verifyEnvelope,
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
  parseEnvelope,
  parseJsonObject,
  parseTimestamp,
  type AttachmentFrame,
  type Envelope,
  type EnvelopeType,
  type MessageId,
  type Payload,
  type ReceiptPayload,
} from '../wire/index.ts'
import { readAttachmentFrame } from './attachment-frames.ts'
import { afterReceiving, afterSending, checkReceiving, checkSending } from './limits.ts'
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
    readonly receipts?: readonly ReceiptPayload['receipts'][number][]
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
  checkSending(session, draft.type, environment.now)
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

/** What a packet of a session held, and the session after it. */
export type Consumed =
  | { readonly session: Session; readonly envelope: Envelope; readonly frame?: undefined }
  | { readonly session: Session; readonly envelope?: undefined; readonly frame: AttachmentFrame }

/** Reads a message of a session as `consumePacket` does. @throws MALFORMED for a frame of an attachment */
export function consumeMessage(
  session: Session,
  packet: Uint8Array,
  relayType: 'message' | 'close',
  environment: SessionEnvironment,
): { readonly session: Session; readonly envelope: Envelope } {
  const consumed = consumePacket(session, packet, relayType, environment)
  if (consumed.envelope === undefined) throw new AgentMeshError('MALFORMED', 'Not an envelope')
  return consumed
}

/**
 * Reads a packet of a session, in whatever order packets come.
 *
 * @param relayType the type the relay gave the packet
 * @throws SESSION_MISMATCH for another session's packet, or an envelope that names another session, sender, receiver or
 *   type than where it arrived; DECRYPTION_FAILED, RATCHET_DUPLICATE and the other codes of `ratchetDecrypt`;
 *   INVALID_SIGNATURE; TIME_IMPLAUSIBLE; SEQUENCE_REPEATED; SESSION_CLOSED, SESSION_EXPIRED, LIMIT_MESSAGES, LIMIT_SIZE, OUT_OF_TURN;
 *   MALFORMED, UNKNOWN_TYPE, and the codes of the strict JSON reader
 */
export function consumePacket(
  session: Session,
  packet: Uint8Array,
  relayType: 'message' | 'close',
  environment: SessionEnvironment,
): Consumed {
  const { sessionId, ratchetMessage } = decodeSessionPacket(packet)
  if (sessionId !== session.id) throw readError('SESSION_MISMATCH')
  const { state, plaintext } = ratchetDecrypt(
    session.ratchet,
    ratchetMessage,
    placeOf(session, relayType, 'in'),
    environment,
  )
  if (isAttachmentFrame(plaintext)) {
    const frame = readAttachmentFrame(plaintext, relayType)
    return { frame, session: { ...session, ratchet: state, lastActivityAt: environment.now } }
  }
  const raw = parseJsonObject(plaintext, MAX_PAYLOAD_BYTES)
  const envelope = parseEnvelope(raw)
  if (
    envelope.session_id !== session.id ||
    envelope.from !== session.peer ||
    envelope.to !== session.self ||
    relayTypeOf(envelope.type) !== relayType
  ) {
    throw readError('SESSION_MISMATCH')
  }
  verifyEnvelope(raw, envelope.signature, {
    signingKey: session.peerSigningKey,
    role: OTHER[session.role],
    maxBytes: session.constraints.max_message_size_bytes,
  })
  checkTimes(session, envelope, environment.now)
  checkReceiving(session, envelope)
  return { envelope, session: { ...afterReceiving(session, envelope, environment.now), ratchet: state } }
}

function readError(code: 'SESSION_MISMATCH' | 'SESSION_EXPIRED' | 'TIME_IMPLAUSIBLE') {
  return new AgentMeshError(code, undefined, { operation: 'read a message' })
}

/**
 * A message counts by when it was sent, since it may wait in a mailbox. Back-dating one gains no more than that wait, and
 * its date is signed.
 */
function checkTimes(session: Session, envelope: Envelope, now: number): void {
  // A receipt is not said again: one refused because our own clock is behind would leave a gap for good.
  if (envelope.type === 'receipt') return
  const sentAt = parseTimestamp(envelope.timestamp)
  if (sentAt > now + SKEW || sentAt < session.createdAt - SKEW) throw readError('TIME_IMPLAUSIBLE')
  const deadline = session.expiresAt + SKEW
  if (envelope.type === 'close') return
  if (sentAt > deadline || now > deadline + MAILBOX_TTL_SECONDS * 1000) throw readError('SESSION_EXPIRED')
}

/**
 * The optimistic message: a first request in one packet with its KNOCK (specification §5.5, DESIGN §7.1, spec/knock.md 6).
 *
 *     sealOptimistic   request -> envelope with the KNOCK's hash -> sign -> seal under the optimistic key
 *     openOptimistic   after the KNOCK was let in: open -> strict reading -> KNOCK, from, to -> signature -> size, time
 *
 *     sealed           nonce 24 | XChaCha20-Poly1305 under the optimistic key; associated data as for a ratchet message,
 *                      with the relay's type `knock` and the KNOCK's hash for the context
 *
 * The KNOCK's hash leaves these bytes out, so a relay may cut them off or change them, and the KNOCK opens all the same.
 * ACCEPT therefore says, signed, whether the message was taken; one that was not goes out again in the session.
 */
import { AEAD_NONCE_BYTES, aeadDecrypt, aeadEncrypt, concatBytes } from '../crypto/index.ts'
import type { Identity } from '../identity/index.ts'
import {
  AgentMeshError,
  CLOCK_SKEW_SECONDS,
  DEFAULT_MAX_MESSAGE_BYTES,
  formatTimestamp,
  isAgentMeshError,
  MAX_PAYLOAD_BYTES,
  OptimisticEnvelope,
  parseEnvelope,
  parseJsonObject,
  parseTimestamp,
  toBase64,
  validate,
  type Amid,
  type Constraints,
  type Envelope,
  type ErrorCode,
  type MessageId,
  type RequestPayload,
  type SessionId,
} from '../wire/index.ts'
import { associatedData, type SessionEnvironment } from './handshake.ts'
import type { OpenedKnock } from './knock-responder.ts'
import type { Session } from './session.ts'
import { signEnvelope, verifyEnvelope } from './signed-envelope.ts'

/** The message to send along; shaped as a draft of any message. */
export interface OptimisticDraft {
  readonly type: 'request'
  readonly id: MessageId
  readonly payload: RequestPayload
  /** Milliseconds since the epoch, of a message that may have been sent before. */
  readonly firstSentAt?: number
}

/** The KNOCK that a message goes along with. */
export interface KnockPlace {
  /** 32 bytes. */
  readonly knockHash: Uint8Array
  readonly version: string
  readonly from: Amid
  readonly to: Amid
}

const SKEW = CLOCK_SKEW_SECONDS * 1000

function placeOf({ knockHash, version, from, to }: KnockPlace): Uint8Array {
  return associatedData({ type: 'knock', version, context: knockHash, from, to })
}

/**
 * Seals a first message under the KNOCK's optimistic key. A message that cannot go along, because it is over the default
 * size or cannot be carried exactly, gives nothing: sent in the session, it is refused there alone or fits its limits.
 *
 * Draws 24 bytes.
 */
export function sealOptimistic(
  draft: OptimisticDraft,
  place: KnockPlace,
  optimisticKey: Uint8Array,
  identity: Identity,
  { random, now }: SessionEnvironment,
): Uint8Array | undefined {
  let plaintext: Uint8Array
  try {
    const fields = {
      knock_hash: toBase64(place.knockHash),
      id: draft.id,
      sequence: 1,
      from: place.from,
      to: place.to,
      type: draft.type,
      timestamp: formatTimestamp(now),
      ...(draft.firstSentAt === undefined ? {} : { first_sent_at: formatTimestamp(draft.firstSentAt) }),
      payload: draft.payload,
    }
    plaintext = signEnvelope(fields, {
      identity,
      role: 'initiator',
      maxBytes: DEFAULT_MAX_MESSAGE_BYTES,
    }).plaintext
  } catch (error) {
    if (isAgentMeshError(error)) return undefined
    throw error
  }
  const nonce = random(AEAD_NONCE_BYTES)
  return concatBytes(nonce, aeadEncrypt(optimisticKey, nonce, plaintext, placeOf(place)))
}

/**
 * Opens the message that came along with a KNOCK, as the first of the session that `createAccept` made of it. Call it when
 * that ACCEPT has `optimistic_taken`, and commit the session it returns together with ACCEPT and message: the initiator
 * counts on it.
 *
 * @returns the session, its window and counts moved past the message, and the envelope with the session's id filled in. The
 *   envelope keeps `knock_hash`; its signature is over the rest without `session_id`
 * @throws SESSION_MISMATCH for a session not of this KNOCK, or an envelope of another; SESSION_CLOSED; SEQUENCE_REPEATED
 *   when the session has received something already; OPTIMISTIC_REFUSED when the KNOCK brought no message or used no
 *   one-time keys; DECRYPTION_FAILED, INVALID_SIGNATURE, LIMIT_SIZE, TIME_IMPLAUSIBLE, MALFORMED and the codes of the
 *   strict JSON reader
 */
export function openOptimistic(
  opened: OpenedKnock,
  session: Session,
): { readonly session: Session; readonly envelope: Envelope<'request'> } {
  if (session.role !== 'responder' || session.peer !== opened.from || session.self !== opened.knock.to) {
    throw refused('SESSION_MISMATCH')
  }
  if (session.state === 'closed') throw refused('SESSION_CLOSED')
  if (session.received.highest > 0) throw refused('SEQUENCE_REPEATED')
  const envelope = readOptimistic(opened, session.id, session.constraints)
  return { envelope, session: afterOptimistic(session) }
}

/** The session past its first message, which is an optimistic request. */
export function afterOptimistic(session: Session): Session {
  return session.role === 'initiator'
    ? { ...session, exchange: 'asked', sendSequence: 1, sentCount: 1 }
    : { ...session, exchange: 'asked', received: { highest: 1, missing: [] }, receivedCount: 1 }
}

/** Everything about the message that follows from the KNOCK and the session's terms, so that ACCEPT can speak of it. */
export function readOptimistic(
  opened: OpenedKnock,
  sessionId: SessionId,
  constraints: Constraints,
): Envelope<'request'> {
  const { knock, from, knockHash, version, sealedOptimistic, oneTimePrekeyUsed } = opened
  // Without one-time keys, the packet opens again for a receiver who lost its nonces.
  if (sealedOptimistic === undefined || !oneTimePrekeyUsed) throw refused('OPTIMISTIC_REFUSED')
  const nonce = sealedOptimistic.subarray(0, AEAD_NONCE_BYTES)
  if (nonce.length !== AEAD_NONCE_BYTES) throw refused('MALFORMED')
  const plaintext = aeadDecrypt(
    opened.keys.optimisticKey,
    nonce,
    sealedOptimistic.subarray(AEAD_NONCE_BYTES),
    placeOf({ knockHash, version, from, to: knock.to }),
  )
  if (plaintext === null) throw refused('DECRYPTION_FAILED')
  const raw = parseJsonObject(plaintext, MAX_PAYLOAD_BYTES)
  const optimistic = validate(OptimisticEnvelope, raw, 'open the optimistic message')
  if (
    optimistic.knock_hash !== toBase64(knockHash) ||
    optimistic.from !== from ||
    optimistic.to !== knock.to
  ) {
    throw refused('SESSION_MISMATCH')
  }
  verifyEnvelope(raw, optimistic.signature, {
    signingKey: opened.peerSigningKey,
    role: 'initiator',
    maxBytes: constraints.max_message_size_bytes,
  })
  const apart = parseTimestamp(optimistic.timestamp) - parseTimestamp(knock.timestamp)
  if (Math.abs(apart) > SKEW) throw refused('TIME_IMPLAUSIBLE')
  return parseEnvelope({ ...raw, session_id: sessionId }) as Envelope<'request'>
}

function refused(code: ErrorCode): AgentMeshError {
  return new AgentMeshError(code, undefined, { operation: 'open the optimistic message' })
}

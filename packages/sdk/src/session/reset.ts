/**
 * RESET: how a side that cannot use a packet says so (DESIGN §7, spec/sessions.md 6).
 *
 *     createReset    subject, packet, reason -> signed record, RFC 8785 bytes
 *     readReset      the claim, to find session or KNOCK by; proves nothing
 *     consumeReset   strict reading -> key is the peer's, AMIDs -> signature -> time
 *
 *     signature      label `reset` over the RFC 8785 bytes of the record without its signature
 *
 * Nothing here ends a session. What a RESET is worth depends on the packet it names, which only the receiver can judge:
 * see `consumeReset`.
 */
import { equalBytes, sha256, sign, verify } from '../crypto/index.ts'
import { amidFromPublicKey, type Identity } from '../identity/index.ts'
import {
  AgentMeshError,
  CLOCK_SKEW_SECONDS,
  canonicalBytes,
  formatKey,
  formatTimestamp,
  fromBase64,
  MAILBOX_TTL_SECONDS,
  MAX_RESET_BYTES,
  parseJsonObject,
  parseKey,
  parseReset,
  parseTimestamp,
  toBase64,
  unsignedBytes,
  type Amid,
  type ErrorCode,
  type Reset,
  type ResetReason,
  type ResetSubject,
} from '../wire/index.ts'

export interface ResetNotice {
  /** Who sent the packet that could not be used. */
  readonly to: Amid
  readonly about: ResetSubject
  /** The packet, as the relay gave it. */
  readonly packet: Uint8Array
  readonly reason: ResetReason
  /** Highest envelope sequence seen in the session; required for `state_behind`. */
  readonly receivedUpTo?: number
}

const SKEW = CLOCK_SKEW_SECONDS * 1000
/** A RESET may wait in a mailbox, and no longer than there. */
const MAX_AGE = MAILBOX_TTL_SECONDS * 1000 + SKEW

/**
 * Makes the payload of a `reset` for the relay. The caller sends at most one a packet, none for a RESET, and none to who is
 * blocked or over the budget for refusals.
 *
 * @param now milliseconds since the epoch
 * @throws MALFORMED for a reason that the subject cannot have
 */
export function createReset(identity: Identity, notice: ResetNotice, now: number): Uint8Array {
  const unsigned = {
    type: 'reset',
    from: identity.amid,
    to: notice.to,
    about: { ...notice.about },
    packet_hash: toBase64(sha256(notice.packet)),
    reason: notice.reason,
    ...(notice.receivedUpTo === undefined ? {} : { received_up_to: notice.receivedUpTo }),
    signing_public_key: formatKey('ed25519', identity.signing.publicKey),
    timestamp: formatTimestamp(now),
  }
  const signature = sign('reset', identity.signing.secretKey, canonicalBytes(unsigned))
  const reset = { ...unsigned, signature: toBase64(signature) }
  parseReset(reset)
  return canonicalBytes(reset)
}

/**
 * What a packet of type `reset` says, with nothing proved: enough to find the session or the pending KNOCK whose key
 * `consumeReset` needs.
 *
 * @throws MALFORMED, TOO_LARGE and the codes of the strict JSON reader
 */
export function readReset(packet: Uint8Array): Reset {
  return parseReset(parseJsonObject(packet, MAX_RESET_BYTES))
}

export interface ResetPlace {
  /** The sender, as the relay authenticated it. */
  readonly from: Amid
  /** Ourselves. */
  readonly to: Amid
  /** Ed25519, 32 bytes: the peer's, as the session or the pending KNOCK has it. */
  readonly peerSigningKey: Uint8Array
  /** Milliseconds since the epoch. */
  readonly now: number
}

/**
 * Proves that the peer made this RESET for us. The caller then looks whether `packet_hash` is that of a packet which it
 * sent to this peer, about this session or KNOCK, and for which it has no receipt yet; if not, it throws RESET_MISMATCH.
 * That check is what makes a replay useless, and an invented RESET of the peer's too: a packet that was received, or never
 * sent, moves nothing.
 *
 * @throws MALFORMED, TOO_LARGE and the codes of the strict JSON reader; INVALID_KEY; AMID_MISMATCH when it is not of
 *   `from` or not under the peer's key; RESET_MISMATCH when it is for somebody else; INVALID_SIGNATURE; TIME_IMPLAUSIBLE
 *   when it is from the future, or older than a mailbox keeps
 */
export function consumeReset(packet: Uint8Array, place: ResetPlace): Reset {
  const raw = parseJsonObject(packet, MAX_RESET_BYTES)
  const reset = parseReset(raw)
  const signingKey = parseKey('ed25519', reset.signing_public_key)
  if (
    reset.from !== place.from ||
    amidFromPublicKey(signingKey) !== place.from ||
    !equalBytes(signingKey, place.peerSigningKey)
  ) {
    throw refused('AMID_MISMATCH')
  }
  if (reset.to !== place.to) throw refused('RESET_MISMATCH')
  if (!verify('reset', place.peerSigningKey, fromBase64(reset.signature), unsignedBytes(raw))) {
    throw refused('INVALID_SIGNATURE')
  }
  const madeAt = parseTimestamp(reset.timestamp)
  if (madeAt > place.now + SKEW || madeAt < place.now - MAX_AGE) throw refused('TIME_IMPLAUSIBLE')
  return reset
}

function refused(code: ErrorCode): AgentMeshError {
  return new AgentMeshError(code, undefined, { operation: 'read RESET' })
}

/**
 * What both sides of a handshake compute alike (DESIGN §7.1).
 *
 * Associated data of every ratchet message of a session, its ACCEPT or REJECT included:
 *
 *     u8 relay message type | u8 length | version | session id 16, or SHA-256 of the KNOCK packet 32
 *     | sender's AMID 20 | receiver's AMID 20
 *
 * so that a relay which changes type, session, sender or receiver has a frame that opens for nobody. The identifier's
 * length follows from the type: ACCEPT, REJECT and the optimistic message of a KNOCK stand under the KNOCK's hash, everything
 * later under the session id.
 *
 * Signatures of the handshake, over length-prefixed parts behind their label:
 *
 *     knock            th | clear header | RFC 8785 bytes of the KNOCK without its signature
 *     accept, reject   th | A's AMID | B's AMID | RK_B | RFC 8785 bytes of the answer without its signature
 *
 * `th` is the transcript hash of X3DH, which covers every key, both AMIDs and both version lists.
 */
import { hkdfSha256, sha256, type RatchetState } from '../crypto/index.ts'
import {
  AgentMeshError,
  amidToBytes,
  ByteWriter,
  decodeKnockPacket,
  idToBytes,
  MESSAGE_TYPES,
  sessionIdFromBytes,
  utf8Bytes,
  type Amid,
  type MessageType,
  type SessionId,
} from '../wire/index.ts'

/** What a pure step takes from outside. */
export interface SessionEnvironment {
  readonly random: (length: number) => Uint8Array
  /** Milliseconds since the epoch, an integer. */
  readonly now: number
  /** As `ratchetDecrypt` asks it: how much a peer may make us derive. */
  readonly mayDerive?: (steps: number, newChain: boolean) => boolean
}

/** Where a ratchet message stands: who sends what to whom, in which session. */
export interface MessagePlace {
  readonly type: Exclude<MessageType, 'ice' | 'reset'>
  readonly version: string
  /** The session's 16 bytes; for an answer and an optimistic message (type `knock`), the KNOCK's hash. */
  readonly context: Uint8Array
  readonly from: Amid
  readonly to: Amid
}

export function associatedData(place: MessagePlace): Uint8Array {
  const version = utf8Bytes(place.version)
  return new ByteWriter()
    .u8(MESSAGE_TYPES[place.type])
    .u8(version.length)
    .bytes(version)
    .bytes(place.context)
    .bytes(amidToBytes(place.from))
    .bytes(amidToBytes(place.to))
    .finish()
}

/** Associated data of the sealed KNOCK: the whole clear header and both AMIDs. */
export function knockAssociatedData(headerBytes: Uint8Array, from: Amid, to: Amid): Uint8Array {
  return new ByteWriter().bytes(headerBytes).bytes(amidToBytes(from)).bytes(amidToBytes(to)).finish()
}

/**
 * Names a KNOCK: SHA-256 of its packet without the optimistic message. ACCEPT and REJECT carry it, and the initiator finds
 * its pending KNOCK by it.
 *
 * @throws MALFORMED or TOO_LARGE for what is no KNOCK packet
 */
export function knockHash(packet: Uint8Array): Uint8Array {
  return sha256(decodeKnockPacket(packet).knockBytes)
}

/**
 * The version both speak that the initiator likes best. Both lists are signed and part of the transcript, so each side
 * computes this alone and nobody between them can lower it.
 *
 * @throws UNSUPPORTED_VERSION when the lists have nothing in common
 */
export function bestCommonVersion(
  initiatorVersions: readonly string[],
  responderVersions: readonly string[],
): string {
  const version = initiatorVersions.find((candidate) => responderVersions.includes(candidate))
  if (version === undefined) {
    throw new AgentMeshError('UNSUPPORTED_VERSION', undefined, { operation: 'choose a protocol version' })
  }
  return version
}

/** The low 32 bits of an exchange key's sequence, as they stand in a KNOCK's header. */
export function headerSequence(sequence: number): number {
  return sequence % 2 ** 32
}

const SESSION_ID_LABEL = utf8Bytes('agentmesh/0.2 session id')

/**
 * The session's id, which nobody chooses: 16 bytes that both derive from what only they share, in the layout of a version 4 UUID
 * (RFC 9562 §5.4).
 *
 *     HKDF-SHA-256(ikm = root key after B's first ratchet step, salt = th, info = "agentmesh/0.2 session id", 16)
 *
 * So one id has one pair of agents and one root: a peer that answers with the id of somebody else's session answers with one that
 * does not follow from its own keys.
 *
 * @param ratchet B's right after `ratchetRespond`, A's right after the ACCEPT opened
 */
export function deriveSessionId(ratchet: RatchetState, transcript: Uint8Array): SessionId {
  const bytes = hkdfSha256(ratchet.rootKey, transcript, SESSION_ID_LABEL, 16)
  const view = new DataView(bytes.buffer, bytes.byteOffset)
  view.setUint8(6, (view.getUint8(6) & 0x0f) | 0x40)
  view.setUint8(8, (view.getUint8(8) & 0x3f) | 0x80)
  return sessionIdFromBytes(bytes)
}

const CONFIRMATION_LABEL = utf8Bytes('agentmesh/0.2 session confirmation')

/**
 * `session_key` of ACCEPT: proof that B holds the root the session continues from, and nothing from which that root
 * follows. The root is the one after B's first ratchet step, KEM step included.
 */
export function keyConfirmation(
  ratchet: RatchetState,
  transcript: Uint8Array,
  sessionId: SessionId,
): Uint8Array {
  const info = new ByteWriter().bytes(CONFIRMATION_LABEL).bytes(idToBytes(sessionId)).finish()
  return hkdfSha256(ratchet.rootKey, transcript, info, 32)
}

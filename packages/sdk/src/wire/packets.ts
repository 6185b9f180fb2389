/**
 * The opaque payloads a relay carries, as bytes (DESIGN §7.1). The relay's own `type` field says which one it is.
 *
 *   KNOCK    u8 suite | u32 exchange key sequence | u8 n | n * (u8 length | version) | IK_A 32 | EK_A 32 | RK_A 32
 *            | u32 signed prekey id | u32 one-time prekey id (0: none)
 *            | u8 KEM key kind (1 one-time, 2 last-resort) | u32 KEM key id | KEM ciphertext 1088
 *            | u16 length | sealed KNOCK JSON | rest: optimistic message, or nothing
 *   ACCEPT,
 *   REJECT   SHA-256 of the KNOCK packet without its optimistic message, 32 | ratchet message
 *   message,
 *   close    session id 16 | ratchet message
 *   reset    RFC 8785 bytes of the record in reset.ts
 */
import { ByteReader, ByteWriter, concatBytes, utf8Bytes, utf8Text } from './bytes.ts'
import { MAX_KNOCK_BYTES, MAX_PAYLOAD_BYTES, MAX_VERSIONS, VERSION_PATTERN } from './constants.ts'
import { AgentMeshError } from './errors.ts'
import { idToBytes, sessionIdFromBytes, type SessionId } from './ids.ts'

const KEM_CIPHERTEXT_BYTES = 1088
const versionPattern = new RegExp(VERSION_PATTERN)

export interface KnockHeader {
  readonly suite: number
  /**
   * Low 32 bits of the sequence of the receiver's exchange key, by which the receiver finds it among those it still has. Like the
   * prekey ids it only says how old the bundle is.
   */
  readonly exchangeKeySequence: number
  readonly versions: readonly string[]
  readonly identityKey: Uint8Array
  readonly ephemeralKey: Uint8Array
  readonly ratchetKey: Uint8Array
  readonly signedPrekeyId: number
  /** Absent when the registry had no one-time prekey left. */
  readonly oneTimePrekeyId: number | undefined
  readonly kemKind: 'one-time' | 'last-resort'
  readonly kemPrekeyId: number
  readonly kemCiphertext: Uint8Array
}

export interface KnockPacket {
  readonly header: KnockHeader
  /** The header's bytes: associated data of the sealed KNOCK. */
  readonly headerBytes: Uint8Array
  readonly sealedKnock: Uint8Array
  /** Everything before the optimistic message: what `knock_hash` covers. */
  readonly knockBytes: Uint8Array
  readonly optimisticMessage: Uint8Array | undefined
}

export function encodeKnockHeader(header: KnockHeader): Uint8Array {
  const writer = new ByteWriter().u8(header.suite).u32(header.exchangeKeySequence).u8(header.versions.length)
  for (const version of header.versions) {
    const bytes = utf8Bytes(version)
    writer.u8(bytes.length).bytes(bytes)
  }
  return writer
    .bytes(header.identityKey)
    .bytes(header.ephemeralKey)
    .bytes(header.ratchetKey)
    .u32(header.signedPrekeyId)
    .u32(header.oneTimePrekeyId ?? 0)
    .u8(header.kemKind === 'one-time' ? 1 : 2)
    .u32(header.kemPrekeyId)
    .bytes(header.kemCiphertext)
    .finish()
}

/** @throws TOO_LARGE when header and sealed KNOCK exceed 8 KiB, or all together what a relay carries. */
export function encodeKnockPacket(
  headerBytes: Uint8Array,
  sealedKnock: Uint8Array,
  optimisticMessage?: Uint8Array,
): Uint8Array {
  const knock = new ByteWriter().bytes(headerBytes).u16(sealedKnock.length).bytes(sealedKnock).finish()
  if (knock.length > MAX_KNOCK_BYTES) throw new AgentMeshError('TOO_LARGE', 'KNOCK exceeds 8 KiB')
  if (optimisticMessage === undefined) return knock
  if (knock.length + optimisticMessage.length > MAX_PAYLOAD_BYTES) throw new AgentMeshError('TOO_LARGE')
  return concatBytes(knock, optimisticMessage)
}

/** @throws MALFORMED or TOO_LARGE. */
export function decodeKnockPacket(packet: Uint8Array): KnockPacket {
  if (packet.length > MAX_PAYLOAD_BYTES) throw new AgentMeshError('TOO_LARGE')
  const reader = new ByteReader(packet)
  const suite = reader.u8()
  const exchangeKeySequence = reader.u32()
  const count = reader.u8()
  if (count === 0 || count > MAX_VERSIONS) throw new AgentMeshError('MALFORMED', 'Bad version list')
  const versions: string[] = []
  for (let index = 0; index < count; index++) {
    const version = utf8Text(reader.bytes(reader.u8()))
    if (!versionPattern.test(version)) throw new AgentMeshError('MALFORMED', 'Bad version list')
    versions.push(version)
  }
  const identityKey = reader.bytes(32)
  const ephemeralKey = reader.bytes(32)
  const ratchetKey = reader.bytes(32)
  const signedPrekeyId = reader.u32()
  const oneTimePrekeyId = reader.u32()
  const kind = reader.u8()
  if (kind !== 1 && kind !== 2) throw new AgentMeshError('MALFORMED', 'Bad KEM key kind')
  const kemPrekeyId = reader.u32()
  if (signedPrekeyId === 0 || kemPrekeyId === 0)
    throw new AgentMeshError('MALFORMED', 'Prekey ids start at 1')
  const kemCiphertext = reader.bytes(KEM_CIPHERTEXT_BYTES)
  const headerBytes = packet.subarray(0, reader.offset)
  const sealedKnock = reader.bytes(reader.u16())
  const knockBytes = packet.subarray(0, reader.offset)
  if (knockBytes.length > MAX_KNOCK_BYTES) throw new AgentMeshError('TOO_LARGE', 'KNOCK exceeds 8 KiB')
  const rest = reader.rest()
  return {
    header: {
      suite,
      exchangeKeySequence,
      versions,
      identityKey,
      ephemeralKey,
      ratchetKey,
      signedPrekeyId,
      oneTimePrekeyId: oneTimePrekeyId === 0 ? undefined : oneTimePrekeyId,
      kemKind: kind === 1 ? 'one-time' : 'last-resort',
      kemPrekeyId,
      kemCiphertext,
    },
    headerBytes,
    sealedKnock,
    knockBytes,
    optimisticMessage: rest.length === 0 ? undefined : rest,
  }
}

export interface AnswerPacket {
  readonly knockHash: Uint8Array
  readonly ratchetMessage: Uint8Array
}

/** The packet of an ACCEPT or a REJECT. */
export function encodeAnswerPacket(packet: AnswerPacket): Uint8Array {
  return concatBytes(packet.knockHash, packet.ratchetMessage)
}

/** @throws MALFORMED when shorter than its hash. */
export function decodeAnswerPacket(bytes: Uint8Array): AnswerPacket {
  const reader = new ByteReader(bytes)
  return { knockHash: reader.bytes(32), ratchetMessage: reader.rest() }
}

export interface SessionPacket {
  readonly sessionId: SessionId
  readonly ratchetMessage: Uint8Array
}

export function encodeSessionPacket(packet: SessionPacket): Uint8Array {
  return concatBytes(idToBytes(packet.sessionId), packet.ratchetMessage)
}

/** @throws MALFORMED or INVALID_ID. */
export function decodeSessionPacket(bytes: Uint8Array): SessionPacket {
  const reader = new ByteReader(bytes)
  return { sessionId: sessionIdFromBytes(reader.bytes(16)), ratchetMessage: reader.rest() }
}

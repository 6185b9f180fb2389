/**
 * Signatures and hashes: the door of crypto/ that servers and identity use.
 *
 * Every signature is Ed25519 over bytes that begin with a context label, so that none can be moved to another place:
 *
 *     utf8("agentmesh/0.2 " + label) || 0x00 || for each part: u32 big-endian length || part
 *
 * The zero byte ends the label, the lengths keep two parts from being split elsewhere. Specification 2.2 and 6.1, DESIGN 5.
 */
import { concatBytes, ed25519SignRaw, ed25519VerifyRaw, type RandomBytes } from './primitives.ts'

export {
  ed25519KeyPair,
  ed25519SignRaw,
  ed25519VerifyRaw,
  equalBytes,
  hkdfSha256,
  hmacSha1,
  hmacSha256,
  isValidEd25519PublicKey,
  kemKeyPair,
  sha256,
  x25519KeyPair,
  zero,
} from './primitives.ts'
export type { KeyPair, RandomBytes } from './primitives.ts'

/** What a signature is for. A label is never reused for other content. */
export type SigningLabel =
  | 'knock'
  | 'accept'
  | 'reject'
  | 'envelope'
  | 'connect'
  | 'state-counter'
  | 'ik'
  | 'spk'
  | 'opk'
  | 'pq-last'
  | 'pq-one'
  | 'record'
  | 'presence'
  | 'receipt'
  | 'succession'
  | 'close'
  | 'reset'
  | 'audit'
  | 'reputation'
  | 'feedback'
  | 'tree-head'

const LABEL_PREFIX = 'agentmesh/0.2 '
const encodedLabels = new Map<SigningLabel, Uint8Array>()

function encodeLabel(label: SigningLabel): Uint8Array {
  let bytes = encodedLabels.get(label)
  if (bytes === undefined) {
    bytes = new TextEncoder().encode(LABEL_PREFIX + label + '\0')
    encodedLabels.set(label, bytes)
  }
  return bytes
}

function u32(value: number): Uint8Array {
  const bytes = new Uint8Array(4)
  new DataView(bytes.buffer).setUint32(0, value)
  return bytes
}

/** Each part behind its length in 4 bytes, big-endian: the encoding of every list that is hashed or signed. */
export function lengthPrefixed(...parts: readonly Uint8Array[]): Uint8Array {
  return concatBytes(...parts.flatMap((part) => [u32(part.length), part]))
}

/** The bytes that a labelled signature covers. */
export function signedBytes(label: SigningLabel, ...parts: readonly Uint8Array[]): Uint8Array {
  return concatBytes(encodeLabel(label), lengthPrefixed(...parts))
}

/** A 64-byte signature over the label and the parts. `secretKey` is the 64-byte form. Throws INVALID_KEY. */
export function sign(
  label: SigningLabel,
  secretKey: Uint8Array,
  ...parts: readonly Uint8Array[]
): Uint8Array {
  return ed25519SignRaw(secretKey, signedBytes(label, ...parts))
}

/** Whether `signature` is `publicKey`'s over the label and the parts. Never throws; false for weak or non-canonical keys. */
export function verify(
  label: SigningLabel,
  publicKey: Uint8Array,
  signature: Uint8Array,
  ...parts: readonly Uint8Array[]
): boolean {
  return ed25519VerifyRaw(publicKey, signature, signedBytes(label, ...parts))
}

/** The operating system's generator, the one to pass in outside tests. At most 65,536 bytes at once. */
export const systemRandom: RandomBytes = (length) => crypto.getRandomValues(new Uint8Array(length))

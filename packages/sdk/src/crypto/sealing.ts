/**
 * Sealing: encryption of records at rest, bound to the place where they are kept.
 *
 *     0x01 || nonce (24) || XChaCha20-Poly1305(key, nonce, plaintext, associated data = place)
 *
 * `place` names the record (a file, a row, a session id), so that a sealed record copied over another does not open.
 * Specification 8 (storage), DESIGN 9.
 */
import { AgentMeshError } from '../wire/errors.ts'
import {
  AEAD_NONCE_BYTES,
  AEAD_TAG_BYTES,
  aeadDecrypt,
  aeadEncrypt,
  argon2id,
  concatBytes,
  type RandomBytes,
} from './primitives.ts'

const SEAL_VERSION = 0x01

/** Encrypts a record under a 32-byte key. 41 bytes longer than the plaintext. Throws INVALID_KEY. */
export function seal(
  key: Uint8Array,
  plaintext: Uint8Array,
  place: Uint8Array,
  random: RandomBytes,
): Uint8Array {
  const nonce = random(AEAD_NONCE_BYTES)
  return concatBytes(Uint8Array.of(SEAL_VERSION), nonce, aeadEncrypt(key, nonce, plaintext, place))
}

/** The plaintext of a sealed record. Throws SEAL_BROKEN for a wrong key, another place, or any change. */
export function open(key: Uint8Array, sealed: Uint8Array, place: Uint8Array): Uint8Array {
  const plaintext =
    sealed[0] === SEAL_VERSION && sealed.length >= 1 + AEAD_NONCE_BYTES + AEAD_TAG_BYTES
      ? aeadDecrypt(
          key,
          sealed.subarray(1, 1 + AEAD_NONCE_BYTES),
          sealed.subarray(1 + AEAD_NONCE_BYTES),
          place,
        )
      : null
  if (plaintext === null) {
    throw new AgentMeshError('SEAL_BROKEN', undefined, { operation: 'open a sealed record' })
  }
  return plaintext
}

/** What Argon2id costs: passes over the memory, and the memory in bytes. Kept beside the salt, in clear. */
export interface PassphraseCost {
  readonly ops: number
  readonly memory: number
}

/**
 * A 32-byte sealing key from a passphrase (Argon2id, one lane). The passphrase is brought to Unicode form NFKC first, so
 * that the same characters typed on another machine give the same key. Throws MALFORMED for a salt that is not 16 bytes
 * or a cost libsodium refuses.
 */
export function passphraseKey(passphrase: string, salt: Uint8Array, cost: PassphraseCost): Uint8Array {
  return argon2id(new TextEncoder().encode(passphrase.normalize('NFKC')), salt, cost, 32)
}

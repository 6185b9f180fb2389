/**
 * The primitives, as AgentMesh calls them. The only file that touches libsodium.
 *
 * Everything is synchronous: libsodium's WebAssembly is ready once this module has been evaluated. Nothing here draws
 * randomness of its own; callers pass seeds and nonces in. SHA-256 comes from @noble/hashes because it hashes in parts
 * without copying into WebAssembly memory. HMAC is libsodium's, which is three times as fast on the ratchet's short
 * inputs.
 *
 * Deviation from RFC 8032: libsodium is stricter than the text. It refuses public keys of small order, encodings that
 * are not canonical, and S >= L. All of AgentMesh verifies with it and nothing else, so that all peers agree.
 */
import sodium from 'libsodium-wrappers-sumo'
import { hmac } from '@noble/hashes/hmac.js'
import { sha1 } from '@noble/hashes/legacy.js'
import { sha256 as nobleSha256 } from '@noble/hashes/sha2.js'
import { AgentMeshError } from '../wire/errors.ts'

await sodium.ready

/** Ed25519: secretKey is seed || public key (64 bytes). X25519: 32 bytes. ML-KEM-768: 2400 bytes, public key 1184. */
export interface KeyPair {
  readonly publicKey: Uint8Array
  readonly secretKey: Uint8Array
}

/** Returns `length` fresh, unpredictable bytes which the caller may keep and overwrite. */
export type RandomBytes = (length: number) => Uint8Array

/** Refuses bytes of a length other than the one their type has. Throws INVALID_KEY. */
function requireLength(bytes: Uint8Array, length: number, what: string): void {
  if (bytes.length !== length) {
    throw new AgentMeshError('INVALID_KEY', `${what} has ${bytes.length} bytes, not ${length}`)
  }
}

export function concatBytes(...parts: readonly Uint8Array[]): Uint8Array {
  let length = 0
  for (const part of parts) length += part.length
  const whole = new Uint8Array(length)
  let at = 0
  for (const part of parts) {
    whole.set(part, at)
    at += part.length
  }
  return whole
}

/** Overwrites secrets. JavaScript may have copied them elsewhere; this shortens their life, no more. */
export function zero(...secrets: readonly Uint8Array[]): void {
  for (const secret of secrets) secret.fill(0)
}

/** Compares in time that depends on the lengths only. */
export function equalBytes(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && sodium.memcmp(a, b)
}

/** SHA-256 of the concatenation of the parts (FIPS 180-4). */
export function sha256(...parts: readonly Uint8Array[]): Uint8Array {
  const hash = nobleSha256.create()
  for (const part of parts) hash.update(part)
  return hash.digest()
}

/** SHA-256 of what comes in parts. */
export function sha256Stream(): { update(part: Uint8Array): void; digest(): Uint8Array } {
  const hash = nobleSha256.create()
  return { update: (part) => void hash.update(part), digest: () => hash.digest() }
}

/** HMAC-SHA-256 over the concatenation of the parts (RFC 2104); a key of any length. */
export function hmacSha256(key: Uint8Array, ...parts: readonly Uint8Array[]): Uint8Array {
  const message = parts.length === 1 && parts[0] !== undefined ? parts[0] : concatBytes(...parts)
  if (key.length === 32) return sodium.crypto_auth_hmacsha256(message, key)
  const state = sodium.crypto_auth_hmacsha256_init(key)
  sodium.crypto_auth_hmacsha256_update(state, message)
  return sodium.crypto_auth_hmacsha256_final(state)
}

/** HMAC-SHA-1 (RFC 2104): what TURN servers check passwords by, and for nothing of ours. */
export function hmacSha1(key: Uint8Array, message: Uint8Array): Uint8Array {
  return hmac(sha1, key, message)
}

/** The second half of HKDF (RFC 5869 2.3): `length` bytes, at most 8160, from a key that is already uniform. */
export function hkdfExpandSha256(key: Uint8Array, info: Uint8Array, length: number): Uint8Array {
  if (!Number.isInteger(length) || length < 0 || length > 255 * 32) {
    throw new AgentMeshError('MALFORMED', `HKDF cannot give ${length} bytes`)
  }
  const blocks = new Uint8Array(Math.ceil(length / 32) * 32)
  let previous = new Uint8Array(0)
  for (let at = 0, counter = 1; at < length; at += 32, counter++) {
    previous = new Uint8Array(hmacSha256(key, previous, info, Uint8Array.of(counter)))
    blocks.set(previous, at)
  }
  return blocks.length === length ? blocks : blocks.slice(0, length)
}

/** HKDF-SHA-256 (RFC 5869). An empty salt stands for 32 zero bytes. */
export function hkdfSha256(ikm: Uint8Array, salt: Uint8Array, info: Uint8Array, length: number): Uint8Array {
  const key = hmacSha256(salt.length === 0 ? new Uint8Array(32) : salt, ikm)
  const output = hkdfExpandSha256(key, info, length)
  zero(key)
  return output
}

/** The key pair of a 32-byte seed (RFC 8032 5.1.5). Throws INVALID_KEY. */
export function ed25519KeyPair(seed: Uint8Array): KeyPair {
  requireLength(seed, 32, 'an Ed25519 seed')
  const pair = sodium.crypto_sign_seed_keypair(seed)
  return { publicKey: pair.publicKey, secretKey: pair.privateKey }
}

/**
 * True for the canonical encoding of a point of the prime-order group. Small-order keys are refused (any message verifies
 * under some of them), and so are mixed-order ones, on whose signatures implementations disagree.
 */
export function isValidEd25519PublicKey(publicKey: Uint8Array): boolean {
  return publicKey.length === 32 && sodium.crypto_core_ed25519_is_valid_point(publicKey)
}

/** Ed25519 over the bytes given, without a label: for formats that bring their own (RFC 9421). Throws INVALID_KEY. */
export function ed25519SignRaw(secretKey: Uint8Array, message: Uint8Array): Uint8Array {
  requireLength(secretKey, 64, 'an Ed25519 secret key')
  return sodium.crypto_sign_detached(message, secretKey)
}

/** Never throws: false for wrong lengths, small-order or non-canonical keys, and S that is not reduced. */
export function ed25519VerifyRaw(publicKey: Uint8Array, signature: Uint8Array, message: Uint8Array): boolean {
  if (publicKey.length !== 32 || signature.length !== 64) return false
  return sodium.crypto_sign_verify_detached(signature, message, publicKey)
}

/** The key pair of a 32-byte X25519 secret (RFC 7748 5). Throws INVALID_KEY. */
export function x25519KeyPair(secretKey: Uint8Array): KeyPair {
  requireLength(secretKey, 32, 'an X25519 secret key')
  return { publicKey: sodium.crypto_scalarmult_base(secretKey), secretKey }
}

/**
 * X25519 (RFC 7748 5). Throws INVALID_KEY for a wrong length and WEAK_SHARED_SECRET for an all-zero result (RFC 7748 6.1),
 * which a public key of small order forces whatever our secret is.
 */
export function x25519(secretKey: Uint8Array, publicKey: Uint8Array): Uint8Array {
  requireLength(secretKey, 32, 'an X25519 secret key')
  requireLength(publicKey, 32, 'an X25519 public key')
  try {
    return sodium.crypto_scalarmult(secretKey, publicKey)
  } catch (cause) {
    // Lengths are right, so libsodium's only remaining refusal is the all-zero result.
    throw new AgentMeshError('WEAK_SHARED_SECRET', undefined, { operation: 'agree on a key', cause })
  }
}

export const KEM_PUBLIC_KEY_BYTES = 1184
export const KEM_SECRET_KEY_BYTES = 2400
export const KEM_CIPHERTEXT_BYTES = 1088

/** The ML-KEM-768 key pair of a 64-byte seed d || z (FIPS 203 7.1). Throws INVALID_KEY. */
export function kemKeyPair(seed: Uint8Array): KeyPair {
  requireLength(seed, 64, 'an ML-KEM seed')
  const pair = sodium.crypto_kem_mlkem768_seed_keypair(seed)
  return { publicKey: pair.publicKey, secretKey: pair.privateKey }
}

/** ML-KEM-768 encapsulation with 32 bytes of coins (FIPS 203 7.2). Throws INVALID_KEY, also for unreduced coefficients. */
export function kemEncapsulate(
  publicKey: Uint8Array,
  coins: Uint8Array,
): { readonly ciphertext: Uint8Array; readonly sharedSecret: Uint8Array } {
  requireLength(publicKey, KEM_PUBLIC_KEY_BYTES, 'an ML-KEM public key')
  requireLength(coins, 32, 'ML-KEM coins')
  try {
    return sodium.crypto_kem_mlkem768_enc_deterministic(publicKey, coins)
  } catch (cause) {
    throw new AgentMeshError('INVALID_KEY', 'an ML-KEM public key has coefficients out of range', { cause })
  }
}

/**
 * ML-KEM-768 decapsulation (FIPS 203 7.3). A changed ciphertext gives another, unpredictable secret and no error: what is
 * encrypted under it fails to open. Throws INVALID_KEY for wrong lengths.
 */
export function kemDecapsulate(secretKey: Uint8Array, ciphertext: Uint8Array): Uint8Array {
  requireLength(secretKey, KEM_SECRET_KEY_BYTES, 'an ML-KEM secret key')
  requireLength(ciphertext, KEM_CIPHERTEXT_BYTES, 'an ML-KEM ciphertext')
  return sodium.crypto_kem_mlkem768_dec(ciphertext, secretKey)
}

export const AEAD_NONCE_BYTES = 24
export const AEAD_TAG_BYTES = 16

/** XChaCha20-Poly1305-IETF: ciphertext || 16-byte tag. Throws INVALID_KEY. */
export function aeadEncrypt(
  key: Uint8Array,
  nonce: Uint8Array,
  plaintext: Uint8Array,
  associatedData: Uint8Array,
): Uint8Array {
  requireLength(key, 32, 'an encryption key')
  requireLength(nonce, AEAD_NONCE_BYTES, 'a nonce')
  return sodium.crypto_aead_xchacha20poly1305_ietf_encrypt(plaintext, associatedData, null, nonce, key)
}

/** The plaintext, or null when it does not authenticate: the ratchet tries several keys, and a miss is no error there. */
export function aeadDecrypt(
  key: Uint8Array,
  nonce: Uint8Array,
  ciphertext: Uint8Array,
  associatedData: Uint8Array,
): Uint8Array | null {
  requireLength(key, 32, 'an encryption key')
  requireLength(nonce, AEAD_NONCE_BYTES, 'a nonce')
  if (ciphertext.length < AEAD_TAG_BYTES) return null
  try {
    return sodium.crypto_aead_xchacha20poly1305_ietf_decrypt(null, ciphertext, associatedData, nonce, key)
  } catch {
    return null
  }
}

/**
 * Argon2id version 1.3 with one lane (RFC 9106). `salt` is 16 bytes, `ops` the number of passes, `memory` in bytes.
 * Throws MALFORMED for parameters libsodium refuses, and when the memory cannot be had.
 */
export function argon2id(
  password: Uint8Array,
  salt: Uint8Array,
  cost: { readonly ops: number; readonly memory: number },
  length: number,
): Uint8Array {
  const { ops, memory } = cost
  try {
    return sodium.crypto_pwhash(length, password, salt, ops, memory, sodium.crypto_pwhash_ALG_ARGON2ID13)
  } catch (cause) {
    throw new AgentMeshError('MALFORMED', 'Argon2id refused its parameters', { cause })
  }
}

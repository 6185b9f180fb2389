/**
 * crypto/: the primitives and the two protocols built on them, X3DH with ML-KEM-768 and the Double Ratchet.
 *
 * Three doors: this one has everything; `signing.ts` has signatures and hashes; `sealing.ts` has encryption at rest.
 * Relay and registry go through the last two, so that no server reaches code that can open a message. Every function
 * takes its randomness and its clock from outside. The text is spec/crypto.md.
 */
export * from './constants.ts'
export {
  ownRatchetKey,
  ratchetDecrypt,
  ratchetEncrypt,
  checkRatchetOffer,
  ratchetInitiate,
  ratchetRespond,
  theirRatchetKey,
} from './ratchet.ts'
export type { RatchetEnvironment } from './ratchet.ts'
export { decodeRatchetState, encodeRatchetState } from './ratchet-state.ts'
export type { RatchetState } from './ratchet-state.ts'
export * from './sealing.ts'
export * from './signing.ts'
export * from './x3dh.ts'
export { AEAD_NONCE_BYTES, aeadDecrypt, aeadEncrypt, concatBytes, sha256Stream } from './primitives.ts'

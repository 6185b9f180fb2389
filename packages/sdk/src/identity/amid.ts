/**
 * AMID: base58btc of the first 20 bytes of SHA-256 of the Ed25519 signing key (specification §2.1, DESIGN §4).
 *
 * An AMID proves nothing by itself. Whatever names one carries the signing key, and every reader checks the two against
 * each other here before it believes anything else in the record.
 */
import { isValidEd25519PublicKey, sha256, type KeyPair } from '../crypto/signing.ts'
import { AgentMeshError, AMID_BYTES, amidFromBytes, parseAmid, type Amid } from '../wire/index.ts'

/** The long-lived part of an agent: what signs, and the name that follows from it. */
export interface Identity {
  readonly amid: Amid
  /** Ed25519; `secretKey` is the 64-byte form. */
  readonly signing: KeyPair
}

/** @throws INVALID_KEY for a wrong length, a small-order or mixed-order point, or a non-canonical encoding. */
export function amidFromPublicKey(publicKey: Uint8Array): Amid {
  if (!isValidEd25519PublicKey(publicKey)) throw new AgentMeshError('INVALID_KEY')
  return amidFromBytes(sha256(publicKey).subarray(0, AMID_BYTES))
}

/** @throws INVALID_KEY as `amidFromPublicKey`; AMID_MISMATCH when the AMID is another key's. */
export function checkAmid(amid: Amid, publicKey: Uint8Array): void {
  if (amidFromPublicKey(publicKey) !== amid) throw new AgentMeshError('AMID_MISMATCH')
}

export function identityFromKeyPair(signing: KeyPair): Identity {
  return { amid: amidFromPublicKey(signing.publicKey), signing }
}

const DID_PREFIX = 'did:agentmesh:'

/** `did:agentmesh:<amid>` (specification §2.3). */
export function didFromAmid(amid: Amid): string {
  return DID_PREFIX + amid
}

/** @throws INVALID_AMID for another DID method or anything that is not a canonical AMID. */
export function amidFromDid(did: string): Amid {
  if (!did.startsWith(DID_PREFIX)) throw new AgentMeshError('INVALID_AMID', 'Not a did:agentmesh identifier')
  return parseAmid(did.slice(DID_PREFIX.length))
}

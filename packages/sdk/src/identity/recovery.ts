/**
 * The recovery key and the statement it signs: "this AMID is succeeded by that one" (DESIGN §4).
 *
 *     24 BIP-39 words = 32 bytes of entropy; Ed25519 seed = HKDF-SHA-256(entropy, no salt, "agentmesh/0.2 recovery")
 *     signature = Ed25519(label `succession`, RFC 8785 bytes of the statement without `signature`)
 *
 * The words are shown once and kept by nobody but the owner; the public key stands in the agent's signed record. A thief of
 * the signing key could put a key of his own there, so a peer must check a statement against the recovery key it saw first,
 * and its owner accepts the successor by hand.
 */
import { entropyToMnemonic, mnemonicToEntropy } from '@scure/bip39'
import { wordlist } from '@scure/bip39/wordlists/english.js'
import {
  ed25519KeyPair,
  equalBytes,
  hkdfSha256,
  sign,
  verify,
  zero,
  type KeyPair,
  type RandomBytes,
} from '../crypto/signing.ts'
import {
  AgentMeshError,
  CLOCK_SKEW_SECONDS,
  formatKey,
  formatTimestamp,
  fromBase64,
  parseKey,
  parseTimestamp,
  Succession,
  toBase64,
  unsignedBytes,
  utf8Bytes,
  validate,
  type Amid,
} from '../wire/index.ts'

const ENTROPY_BYTES = 32
const WORD_COUNT = 24
const SEED_INFO = utf8Bytes('agentmesh/0.2 recovery')

/** 24 fresh words, separated by single spaces. */
export function newRecoveryWords(random: RandomBytes): string {
  const entropy = random(ENTROPY_BYTES)
  const words = entropyToMnemonic(entropy, wordlist)
  zero(entropy)
  return words
}

/**
 * The recovery key of 24 words; case and spacing do not matter.
 *
 * @throws RECOVERY_WORDS_INVALID for a wrong count, an unknown word or a wrong checksum
 */
export function recoveryKeyPair(words: string): KeyPair {
  const list = words.normalize('NFKD').trim().toLowerCase().split(/\s+/)
  let entropy: Uint8Array
  try {
    if (list.length !== WORD_COUNT) throw new AgentMeshError('RECOVERY_WORDS_INVALID')
    entropy = mnemonicToEntropy(list.join(' '), wordlist)
  } catch {
    // The library's message quotes the words, so it goes no further.
    throw new AgentMeshError('RECOVERY_WORDS_INVALID', undefined, { operation: 'read recovery words' })
  }
  const seed = hkdfSha256(entropy, new Uint8Array(0), SEED_INFO, 32)
  const pair = ed25519KeyPair(seed)
  zero(entropy, seed)
  return pair
}

/** @param now milliseconds since the epoch. @throws MALFORMED when both AMIDs are the same. */
export function signSuccession(recovery: KeyPair, oldAmid: Amid, newAmid: Amid, now: number): Succession {
  if (oldAmid === newAmid) throw new AgentMeshError('MALFORMED', 'An AMID cannot succeed itself')
  const unsigned = {
    type: 'succession' as const,
    old_amid: oldAmid,
    new_amid: newAmid,
    recovery_public_key: formatKey('ed25519', recovery.publicKey),
    created_at: formatTimestamp(now),
  }
  const signature = sign('succession', recovery.secretKey, unsignedBytes(unsigned))
  return { ...unsigned, signature: toBase64(signature) }
}

/**
 * Checks a statement as received.
 *
 * @param recoveryPublicKey the key that stood in the old AMID's record when the peer first saw it
 * @param now milliseconds since the epoch
 * @throws MALFORMED, INVALID_KEY, INVALID_SIGNATURE (also when signed by another recovery key)
 */
export function verifySuccession(raw: unknown, recoveryPublicKey: Uint8Array, now: number): Succession {
  const statement = validate(Succession, raw, 'verify a succession')
  const named = parseKey('ed25519', statement.recovery_public_key)
  const signature = fromBase64(statement.signature)
  if (
    !equalBytes(named, recoveryPublicKey) ||
    !verify('succession', recoveryPublicKey, signature, unsignedBytes(statement))
  ) {
    throw new AgentMeshError('INVALID_SIGNATURE', 'The succession is not signed by the recovery key')
  }
  if (statement.old_amid === statement.new_amid) {
    throw new AgentMeshError('MALFORMED', 'An AMID cannot succeed itself')
  }
  if (parseTimestamp(statement.created_at) > now + CLOCK_SKEW_SECONDS * 1000) {
    throw new AgentMeshError('MALFORMED', 'The succession is dated in the future')
  }
  return statement
}

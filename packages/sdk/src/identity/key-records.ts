/**
 * Signed key records: exchange keys and prekeys under their owner's signature (DESIGN §4, §7.1).
 *
 *     signature = Ed25519(label = kind, RFC 8785 bytes of the record without `signature`)
 *
 * The label is the record's kind, so a prekey can never be shown as an exchange key. One-time keys are signed too: else
 * the registry could hand out keys of its own. The version list stands under the `spk` signature, so that nobody between
 * two agents can make them speak an older version.
 */
import { sign, verify } from '../crypto/signing.ts'
import {
  AgentMeshError,
  CLOCK_SKEW_SECONDS,
  formatKey,
  formatTimestamp,
  fromBase64,
  parseKey,
  parseTimestamp,
  SignedKey,
  toBase64,
  unsignedBytes,
  validate,
  type KeyAlgorithm,
  type KeyKind,
} from '../wire/index.ts'
import { checkAmid, type Identity } from './amid.ts'

const ALGORITHMS: Readonly<Record<KeyKind, KeyAlgorithm>> = {
  ik: 'x25519',
  spk: 'x25519',
  opk: 'x25519',
  'pq-last': 'mlkem768',
  'pq-one': 'mlkem768',
}

export interface KeyRecordFields {
  readonly kind: KeyKind
  /** 1 to 2^32 - 1. */
  readonly id: number
  /** Positive; higher than that of any earlier key of the kind. */
  readonly sequence: number
  /** X25519 public key, 32 bytes, or ML-KEM-768 public key, 1184 bytes, as the kind says. */
  readonly key: Uint8Array
  /** Protocol versions spoken, best first; required for `spk`. */
  readonly versions?: readonly string[]
  /** Milliseconds since the epoch. */
  readonly createdAt: number
  readonly expiresAt: number
}

/** @throws MALFORMED when the fields make no valid record. */
export function signKeyRecord(identity: Identity, fields: KeyRecordFields): SignedKey {
  const unsigned = {
    kind: fields.kind,
    amid: identity.amid,
    id: fields.id,
    sequence: fields.sequence,
    key: formatKey(ALGORITHMS[fields.kind], fields.key),
    ...(fields.versions === undefined ? {} : { versions: [...fields.versions] }),
    created_at: formatTimestamp(fields.createdAt),
    expires_at: formatTimestamp(fields.expiresAt),
  }
  const signature = sign(fields.kind, identity.signing.secretKey, unsignedBytes(unsigned))
  const record = validate(SignedKey, { ...unsigned, signature: toBase64(signature) }, 'sign a key record')
  checkShape(record, fields.kind)
  return record
}

export interface KeyRecordCheck {
  /** The kind the record must be of. */
  readonly kind: KeyKind
  /** Milliseconds since the epoch; dates are checked when given. */
  readonly now?: number
}

/**
 * Checks a record, as received, against its owner's signing key, and returns the key in it.
 *
 * @throws MALFORMED (also for another kind, or an `spk` without versions), INVALID_KEY, AMID_MISMATCH,
 *   INVALID_SIGNATURE, KEY_EXPIRED (also for a key from the future)
 */
export function verifyKeyRecord(
  raw: unknown,
  signingPublicKey: Uint8Array,
  check: KeyRecordCheck,
): Uint8Array {
  const record = validate(SignedKey, raw, 'verify a key record')
  checkShape(record, check.kind)
  checkAmid(record.amid, signingPublicKey)
  const key = parseKey(ALGORITHMS[record.kind], record.key)
  if (!verify(record.kind, signingPublicKey, fromBase64(record.signature), unsignedBytes(record))) {
    throw new AgentMeshError('INVALID_SIGNATURE', `The ${record.kind} key is not signed by its owner`)
  }
  if (check.now !== undefined) checkDates(record, check.now)
  return key
}

function checkShape(record: SignedKey, kind: KeyKind): void {
  if (record.kind !== kind) {
    throw new AgentMeshError('MALFORMED', `The key is of kind ${record.kind}, not ${kind}`)
  }
  if (kind === 'spk' && record.versions === undefined) {
    throw new AgentMeshError('MALFORMED', 'A signed prekey must name the versions its owner speaks')
  }
  if (parseTimestamp(record.created_at) >= parseTimestamp(record.expires_at)) {
    throw new AgentMeshError('MALFORMED', 'The key expires before it begins')
  }
}

function checkDates(record: SignedKey, now: number): void {
  if (parseTimestamp(record.created_at) > now + CLOCK_SKEW_SECONDS * 1000) {
    throw new AgentMeshError('KEY_EXPIRED', `The ${record.kind} key is dated in the future`)
  }
  if (parseTimestamp(record.expires_at) <= now) {
    throw new AgentMeshError('KEY_EXPIRED', `The ${record.kind} key has expired`)
  }
}

/**
 * The agent record: what an agent says about itself to a registry, under its own signature (specification §3.1).
 *
 *     signature = Ed25519(label `record`, RFC 8785 bytes of the record without `signature` and without the fields the
 *                         registry speaks for: UNSIGNED_RECORD_FIELDS)
 *
 * The same signature stands in the registry's answers, so a reader needs to trust the registry for presence, tier and
 * reputation only.
 */
import { sign, verify } from '../crypto/signing.ts'
import {
  AgentMeshError,
  AgentRecord,
  CLOCK_SKEW_SECONDS,
  formatKey,
  fromBase64,
  parseKey,
  parseTimestamp,
  Registration,
  SignedKey,
  toBase64,
  UNSIGNED_RECORD_FIELDS,
  unsignedBytes,
  validate,
} from '../wire/index.ts'
import { checkAmid, type Identity } from './amid.ts'
import { verifyKeyRecord } from './key-records.ts'

/** The fields of a registration, in their wire spelling, that do not follow from the identity. */
export type RegistrationFields = Omit<Registration, 'amid' | 'public_keys' | 'signature'> & {
  /** The current exchange key's record, kind `ik`. */
  readonly exchange_key: SignedKey
}

/** @throws MALFORMED when the fields make no valid registration. */
export function signRegistration(identity: Identity, fields: RegistrationFields): Registration {
  const { exchange_key, ...rest } = fields
  const unsigned = {
    ...rest,
    amid: identity.amid,
    public_keys: {
      signing_public_key: formatKey('ed25519', identity.signing.publicKey),
      exchange_key,
    },
  }
  const covered = unsignedBytes(unsigned, UNSIGNED_RECORD_FIELDS)
  const signature = toBase64(sign('record', identity.signing.secretKey, covered))
  return validate(Registration, { ...unsigned, signature }, 'sign a registration')
}

/**
 * Checks a registration as received.
 *
 * @param now milliseconds since the epoch; when given, the exchange key must be in date and the record not from the future
 * @throws MALFORMED, INVALID_KEY, AMID_MISMATCH, INVALID_SIGNATURE, KEY_EXPIRED
 */
export function verifyRegistration(raw: unknown, now?: number): Registration {
  const registration = validate(Registration, raw, 'verify a registration')
  verifyRecord(registration, now)
  return registration
}

/**
 * Checks a registry's answer about an agent. An exchange key out of date does not make it invalid: an agent that was away
 * for a month is still found, and its bundle is refused when somebody knocks.
 *
 * @throws MALFORMED, INVALID_KEY, AMID_MISMATCH, INVALID_SIGNATURE
 */
export function verifyAgentRecord(raw: unknown): AgentRecord {
  const record = validate(AgentRecord, raw, 'verify an agent record')
  verifyRecord(record)
  return record
}

function verifyRecord(record: Registration | AgentRecord, now?: number): void {
  const signingPublicKey = parseKey('ed25519', record.public_keys.signing_public_key)
  checkAmid(record.amid, signingPublicKey)
  const covered = unsignedBytes(record, UNSIGNED_RECORD_FIELDS)
  if (!verify('record', signingPublicKey, fromBase64(record.signature), covered)) {
    throw new AgentMeshError('INVALID_SIGNATURE', 'The record is not signed by its agent')
  }
  verifyKeyRecord(record.public_keys.exchange_key, signingPublicKey, {
    kind: 'ik',
    ...(now === undefined ? {} : { now }),
  })
  const createdAt = parseTimestamp(record.created_at)
  if (now !== undefined && createdAt > now + CLOCK_SKEW_SECONDS * 1000) {
    throw new AgentMeshError('MALFORMED', 'The record is dated in the future')
  }
}

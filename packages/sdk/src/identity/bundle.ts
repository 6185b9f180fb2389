/**
 * The prekey bundle a KNOCK starts from, checked against the AMID its sender wants to reach (DESIGN §7.1).
 *
 * The registry that hands it out is not trusted: every key in it must be signed by the one signing key whose hash is the
 * expected AMID, for the slot it stands in, and be in date.
 */
import {
  AgentMeshError,
  Bundle,
  parseKey,
  SignedKey,
  validate,
  type Amid,
  type KeyKind,
} from '../wire/index.ts'
import { checkAmid } from './amid.ts'
import { verifyKeyRecord } from './key-records.ts'

export interface VerifiedBundle {
  readonly amid: Amid
  /** Ed25519, 32 bytes. */
  readonly signingPublicKey: Uint8Array
  /** X25519, 32 bytes: IK_B. */
  readonly identityKey: Uint8Array
  readonly identityKeySequence: number
  /** X25519, 32 bytes: SPK_B, and the versions its owner speaks, best first. */
  readonly signedPrekey: {
    readonly id: number
    readonly key: Uint8Array
    readonly versions: readonly string[]
  }
  /** X25519, 32 bytes: OPK_B; absent when none was left. */
  readonly oneTimePrekey?: { readonly id: number; readonly key: Uint8Array }
  /** ML-KEM-768, 1184 bytes. */
  readonly kemPrekey: {
    readonly id: number
    readonly key: Uint8Array
    readonly kind: 'one-time' | 'last-resort'
  }
}

/**
 * @param raw the bundle as received
 * @param now milliseconds since the epoch
 * @throws MALFORMED, INVALID_KEY, AMID_MISMATCH, INVALID_SIGNATURE, KEY_EXPIRED
 */
export function verifyBundle(raw: unknown, expectedAmid: Amid, now: number): VerifiedBundle {
  const bundle = validate(Bundle, raw, 'verify a bundle')
  if (bundle.amid !== expectedAmid) {
    throw new AgentMeshError('AMID_MISMATCH', 'The bundle is for another agent')
  }
  const signingPublicKey = parseKey('ed25519', bundle.signing_public_key)
  checkAmid(expectedAmid, signingPublicKey)

  const keyOf = (record: SignedKey, kind: KeyKind) => ({
    id: record.id,
    key: verifyKeyRecord(record, signingPublicKey, { kind, now }),
  })
  const kemKind = bundle.kem_prekey.kind === 'pq-one' ? 'pq-one' : 'pq-last'
  return {
    amid: expectedAmid,
    signingPublicKey,
    identityKey: keyOf(bundle.exchange_key, 'ik').key,
    identityKeySequence: bundle.exchange_key.sequence,
    signedPrekey: {
      ...keyOf(bundle.signed_prekey, 'spk'),
      versions: bundle.signed_prekey.versions ?? [],
    },
    ...(bundle.one_time_prekey === undefined ? {} : { oneTimePrekey: keyOf(bundle.one_time_prekey, 'opk') }),
    kemPrekey: {
      ...keyOf(bundle.kem_prekey, kemKind),
      kind: kemKind === 'pq-one' ? 'one-time' : 'last-resort',
    },
  }
}

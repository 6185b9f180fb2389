/**
 * Making exchange keys and prekeys (DESIGN §4, §7). Pure: the owner's engine keeps the secrets, rotates and replenishes.
 *
 * An exchange key, a signed prekey and a last-resort KEM prekey are in use for 7 days and valid for 3 more, so that a
 * KNOCK which waited 72 hours in a mailbox still opens. One-time keys are valid for 30 days.
 */
import { kemKeyPair, x25519KeyPair, type RandomBytes } from '../crypto/signing.ts'
import { PROTOCOL_VERSIONS, type KeyKind, type SignedKey } from '../wire/index.ts'
import type { Identity } from './amid.ts'
import { signKeyRecord } from './key-records.ts'

const DAY_SECONDS = 86_400
/** After this long a new exchange key takes over. */
export const EXCHANGE_KEY_SECONDS = 7 * DAY_SECONDS
/** After this long a new signed prekey and a new last-resort KEM prekey take over. */
export const SIGNED_PREKEY_SECONDS = 7 * DAY_SECONDS
/** How long a replaced key still opens what was sent to it. */
export const KEY_GRACE_SECONDS = 3 * DAY_SECONDS
export const ONE_TIME_PREKEY_SECONDS = 30 * DAY_SECONDS

const X25519_SECRET_BYTES = 32
const KEM_SEED_BYTES = 64

/** Both halves of a key of ours. */
export interface OwnKey {
  readonly record: SignedKey
  /** X25519 secret key, 32 bytes, or ML-KEM-768 seed, 64 bytes. */
  readonly secret: Uint8Array
}

export interface NewKeyOptions {
  /** Id of the (first) key, 1 to 2^32 - 1. */
  readonly startId: number
  /** Higher than that of any earlier key of the kind. */
  readonly sequence: number
  readonly random: RandomBytes
  /** Milliseconds since the epoch. */
  readonly now: number
}

export function makeExchangeKey(identity: Identity, options: NewKeyOptions): OwnKey {
  return makeKey(identity, 'ik', options, EXCHANGE_KEY_SECONDS + KEY_GRACE_SECONDS)
}

/** @param versions protocol versions spoken, best first: covered by the record's signature */
export function makeSignedPrekey(
  identity: Identity,
  options: NewKeyOptions,
  versions: readonly string[] = PROTOCOL_VERSIONS,
): OwnKey {
  return makeKey(identity, 'spk', options, SIGNED_PREKEY_SECONDS + KEY_GRACE_SECONDS, versions)
}

export function makeLastResortKemPrekey(identity: Identity, options: NewKeyOptions): OwnKey {
  return makeKey(identity, 'pq-last', options, SIGNED_PREKEY_SECONDS + KEY_GRACE_SECONDS)
}

/** `count` keys with ids from `startId` on and one sequence number for all. */
export function makeOneTimePrekeys(identity: Identity, options: NewKeyOptions & { count: number }): OwnKey[] {
  return makeMany(identity, 'opk', options)
}

/** `count` keys with ids from `startId` on and one sequence number for all. */
export function makeOneTimeKemPrekeys(
  identity: Identity,
  options: NewKeyOptions & { count: number },
): OwnKey[] {
  return makeMany(identity, 'pq-one', options)
}

/**
 * A sequence number that goes forward also after a restored backup has forgotten the last ones: the clock in seconds, or one
 * more than the last number known.
 */
export function nextSequence(previous: number, now: number): number {
  return Math.max(previous + 1, Math.floor(now / 1000))
}

function makeMany(
  identity: Identity,
  kind: 'opk' | 'pq-one',
  options: NewKeyOptions & { count: number },
): OwnKey[] {
  return Array.from({ length: options.count }, (_, index) =>
    makeKey(identity, kind, { ...options, startId: options.startId + index }, ONE_TIME_PREKEY_SECONDS),
  )
}

function makeKey(
  identity: Identity,
  kind: KeyKind,
  options: NewKeyOptions,
  lifetimeSeconds: number,
  versions?: readonly string[],
): OwnKey {
  const isKem = kind === 'pq-last' || kind === 'pq-one'
  const secret = options.random(isKem ? KEM_SEED_BYTES : X25519_SECRET_BYTES)
  const { publicKey } = isKem ? kemKeyPair(secret) : x25519KeyPair(secret)
  const record = signKeyRecord(identity, {
    kind,
    id: options.startId,
    sequence: options.sequence,
    key: publicKey,
    ...(versions === undefined ? {} : { versions }),
    createdAt: options.now,
    expiresAt: options.now + lifetimeSeconds * 1000,
  })
  return { record, secret }
}

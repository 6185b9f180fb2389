/** The agents of test-vectors/session/: fixed keys, as a file gives them and as the code takes them. */
import { ed25519KeyPair, kemKeyPair, x25519KeyPair } from '../crypto/index.ts'
import {
  identityFromKeyPair,
  makeExchangeKey,
  makeLastResortKemPrekey,
  makeOneTimeKemPrekeys,
  makeOneTimePrekeys,
  makeSignedPrekey,
  type Identity,
  type OwnKey,
} from '../identity/index.ts'
import type { KeyLookup } from '../session/index.ts'
import { formatKey, toHex, type Bundle, type SignedKey } from '../wire/index.ts'
import { NOW, testRandom } from '../identity/test-support.ts'

/** A key's record and its secret (X25519 secret or ML-KEM seed) in hex. */
export interface VectorKey {
  readonly record: SignedKey
  readonly secret: string
}

export interface VectorAgent {
  readonly signing_seed: string
  readonly exchange_key: VectorKey
  readonly signed_prekey: VectorKey
  readonly one_time_prekey: VectorKey
  readonly one_time_kem_prekey: VectorKey
  readonly last_resort_kem_prekey: VectorKey
}

export interface Agent {
  readonly identity: Identity
  readonly vector: VectorAgent
  readonly keys: KeyLookup
}

export function makeVectorAgent(name: string): VectorAgent {
  const random = testRandom(`session vectors ${name}`)
  const seed = random(32)
  const identity = identityFromKeyPair(ed25519KeyPair(seed))
  const options = { sequence: 1, random, now: NOW, count: 1 }
  const own = ({ record, secret }: OwnKey): VectorKey => ({ record, secret: toHex(secret) })
  return {
    signing_seed: toHex(seed),
    exchange_key: own(makeExchangeKey(identity, { ...options, startId: 1 })),
    signed_prekey: own(makeSignedPrekey(identity, { ...options, startId: 2 })),
    one_time_prekey: own(makeOneTimePrekeys(identity, { ...options, startId: 3 })[0]!),
    one_time_kem_prekey: own(makeOneTimeKemPrekeys(identity, { ...options, startId: 4 })[0]!),
    last_resort_kem_prekey: own(makeLastResortKemPrekey(identity, { ...options, startId: 5 })),
  }
}

export const bytesOf = (hex: string): Uint8Array => Uint8Array.from(Buffer.from(hex, 'hex'))

/** An agent as the file gives it. */
export function agentOf(vector: VectorAgent): Agent {
  const pair = ({ secret }: VectorKey) => x25519KeyPair(bytesOf(secret))
  const kem = ({ secret }: VectorKey) => kemKeyPair(bytesOf(secret))
  return {
    vector,
    identity: identityFromKeyPair(ed25519KeyPair(bytesOf(vector.signing_seed))),
    keys: {
      find: ({ exchangeKeySequence, signedPrekeyId, oneTimePrekeyId, kemKind, kemPrekeyId }) => {
        const kemKey = kemKind === 'one-time' ? vector.one_time_kem_prekey : vector.last_resort_kem_prekey
        const isNamed =
          vector.exchange_key.record.sequence === exchangeKeySequence &&
          vector.signed_prekey.record.id === signedPrekeyId &&
          kemKey.record.id === kemPrekeyId &&
          (oneTimePrekeyId === undefined || vector.one_time_prekey.record.id === oneTimePrekeyId)
        if (!isNamed) return undefined
        return {
          exchangeKeys: [pair(vector.exchange_key)],
          signedPrekey: pair(vector.signed_prekey),
          versions: vector.signed_prekey.record.versions ?? [],
          kemKey: kem(kemKey),
          ...(oneTimePrekeyId === undefined ? {} : { oneTimePrekey: pair(vector.one_time_prekey) }),
        }
      },
      headerSeen: () => false,
    },
  }
}

export function bundleOf({ identity, vector }: Agent, oneTimeKeys: boolean): Bundle {
  return {
    amid: identity.amid,
    signing_public_key: formatKey('ed25519', identity.signing.publicKey),
    exchange_key: vector.exchange_key.record,
    signed_prekey: vector.signed_prekey.record,
    ...(oneTimeKeys ? { one_time_prekey: vector.one_time_prekey.record } : {}),
    kem_prekey: (oneTimeKeys ? vector.one_time_kem_prekey : vector.last_resort_kem_prekey).record,
  }
}

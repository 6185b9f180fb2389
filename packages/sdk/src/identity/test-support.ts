/** Identities, keys and clocks for tests: fixed, so that a failing test fails the same way again. */
import { ed25519KeyPair, hkdfSha256, type RandomBytes } from '../crypto/signing.ts'
import { formatKey, formatTimestamp, utf8Bytes, type Bundle, type Registration } from '../wire/index.ts'
import { identityFromKeyPair, type Identity } from './amid.ts'
import {
  makeExchangeKey,
  makeLastResortKemPrekey,
  makeOneTimeKemPrekeys,
  makeOneTimePrekeys,
  makeSignedPrekey,
} from './prekeys.ts'
import { signRegistration, type RegistrationFields } from './registration.ts'

/** 1 February 2026, 12:00 UTC. */
export const NOW = Date.UTC(2026, 1, 1, 12)
export const DAY = 86_400_000

/** A stream of bytes that follows from a name. */
export function testRandom(name: string): RandomBytes {
  let counter = 0
  return (length) => {
    counter++
    return hkdfSha256(utf8Bytes(`${name} ${counter}`), new Uint8Array(0), new Uint8Array(0), length)
  }
}

export function testIdentity(name: string): Identity {
  return identityFromKeyPair(ed25519KeyPair(testRandom(`identity ${name}`)(32)))
}

export function testKeys(identity: Identity, now = NOW) {
  const random = testRandom(`keys ${identity.amid}`)
  const options = { startId: 1, sequence: 1, random, now }
  return {
    exchange: makeExchangeKey(identity, options),
    signed: makeSignedPrekey(identity, options),
    lastResort: makeLastResortKemPrekey(identity, options),
    oneTime: makeOneTimePrekeys(identity, { ...options, count: 2 }),
    oneTimeKem: makeOneTimeKemPrekeys(identity, { ...options, count: 2 }),
  }
}

export function testBundle(identity: Identity, now = NOW): Bundle {
  const keys = testKeys(identity, now)
  const [oneTime, oneTimeKem] = [keys.oneTime[0], keys.oneTimeKem[0]]
  if (!oneTime || !oneTimeKem) throw new Error('No one-time keys were made')
  return {
    amid: identity.amid,
    signing_public_key: formatKey('ed25519', identity.signing.publicKey),
    exchange_key: keys.exchange.record,
    signed_prekey: keys.signed.record,
    one_time_prekey: oneTime.record,
    kem_prekey: oneTimeKem.record,
  }
}

export function testRegistration(
  identity: Identity,
  fields: Partial<RegistrationFields> = {},
  now = NOW,
): Registration {
  return signRegistration(identity, {
    exchange_key: testKeys(identity, now).exchange.record,
    capabilities: [{ category: 'travel', subcategory: 'flights', actions: ['search'] }],
    relay_endpoint: 'wss://relay.example/v1/connect',
    sequence: 1,
    created_at: formatTimestamp(now),
    ...fields,
  })
}

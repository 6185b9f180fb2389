import { describe, expect, it } from 'vitest'
import { parseKey, type Bundle } from '../wire/index.ts'
import { verifyBundle } from './bundle.ts'
import { outcome } from '../wire/test-support.ts'
import { DAY, NOW, testBundle, testIdentity, testKeys } from './test-support.ts'

const alice = testIdentity('alice')
const mallory = testIdentity('mallory')
const bundle = testBundle(alice)
const forged = testBundle(mallory)
const check = (raw: unknown, now = NOW) => outcome(() => verifyBundle(raw, alice.amid, now))

describe('a bundle', () => {
  it('gives the keys of a KNOCK', () => {
    const verified = verifyBundle(bundle, alice.amid, NOW)
    expect(verified).toEqual({
      amid: alice.amid,
      signingPublicKey: alice.signing.publicKey,
      identityKey: parseKey('x25519', bundle.exchange_key.key),
      identityKeySequence: bundle.exchange_key.sequence,
      signedPrekey: {
        id: 1,
        key: parseKey('x25519', bundle.signed_prekey.key),
        versions: ['agentmesh/0.2'],
      },
      oneTimePrekey: { id: 1, key: parseKey('x25519', bundle.one_time_prekey!.key) },
      kemPrekey: { id: 1, key: parseKey('mlkem768', bundle.kem_prekey.key), kind: 'one-time' },
    })
  })

  it('may come without one-time keys, and says so', () => {
    const { one_time_prekey: _used, ...rest } = bundle
    const verified = verifyBundle({ ...rest, kem_prekey: testKeys(alice).lastResort.record }, alice.amid, NOW)
    expect(verified.oneTimePrekey).toBeUndefined()
    expect(verified.kemPrekey.kind).toBe('last-resort')
  })

  it.each(['exchange_key', 'signed_prekey', 'one_time_prekey', 'kem_prekey'] as const)(
    "refuses somebody else's %s",
    (slot) => {
      expect(check({ ...bundle, [slot]: forged[slot] })).toBe('AMID_MISMATCH')
      // The same key relabelled with the owner's AMID: the signature is still the other's.
      expect(check({ ...bundle, [slot]: { ...forged[slot], amid: alice.amid } })).toBe('INVALID_SIGNATURE')
    },
  )

  it.each(['exchange_key', 'signed_prekey', 'one_time_prekey', 'kem_prekey'] as const)(
    'refuses a stale %s',
    (slot) => {
      const stale = testBundle(alice, NOW - 40 * DAY)
      expect(check({ ...bundle, [slot]: stale[slot] })).toBe('KEY_EXPIRED')
    },
  )

  it('refuses keys in the wrong slot', () => {
    expect(check({ ...bundle, signed_prekey: bundle.one_time_prekey })).toBe('MALFORMED')
    expect(check({ ...bundle, exchange_key: bundle.signed_prekey })).toBe('MALFORMED')
    expect(check({ ...bundle, one_time_prekey: bundle.signed_prekey })).toBe('MALFORMED')
    expect(check({ ...bundle, kem_prekey: bundle.one_time_prekey })).toBe('MALFORMED')
  })

  it('refuses a version list cut down on the way', () => {
    const signed_prekey = { ...bundle.signed_prekey, versions: ['agentmesh/0.1'] }
    expect(check({ ...bundle, signed_prekey })).toBe('INVALID_SIGNATURE')
  })

  it("refuses another agent's whole bundle, also under the expected name", () => {
    expect(check(forged)).toBe('AMID_MISMATCH')
    expect(check({ ...forged, amid: alice.amid })).toBe('AMID_MISMATCH')
    expect(check({ ...bundle, amid: mallory.amid })).toBe('AMID_MISMATCH')
  })

  it('refuses a signing key of small order', () => {
    const weak = `ed25519:${'A'.repeat(43)}=`
    expect(check({ ...bundle, signing_public_key: weak })).toBe('INVALID_KEY')
  })

  it.each(Object.keys(bundle).filter((name) => name !== 'one_time_prekey'))(
    'refuses a bundle without %s',
    (name) => {
      const { [name as keyof Bundle]: _gone, ...rest } = bundle
      expect(check(rest)).toBe('MALFORMED')
    },
  )
})

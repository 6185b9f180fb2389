import { describe, expect, it } from 'vitest'
import { x25519KeyPair } from './primitives.ts'
import { bundleOf, flipBit, makeResponder, seededRandom, TEST_CONTEXT } from './test-support.ts'
import { x3dhInitiate, x3dhRespond, type KemKind, type X3dhContext, type X3dhKeys } from './x3dh.ts'

function handshake(kemKind: KemKind = 'one-time', withOneTimePrekey = true) {
  const random = seededRandom(`x3dh ${kemKind} ${withOneTimePrekey}`)
  const identity = x25519KeyPair(random(32))
  const responder = makeResponder(random, kemKind, withOneTimePrekey)
  const initiation = x3dhInitiate(TEST_CONTEXT, identity, bundleOf(responder), random)
  const offer = {
    identityKey: identity.publicKey,
    ephemeralKey: initiation.ephemeralKey,
    ratchetKey: initiation.ratchetKeyPair.publicKey,
    kemCiphertext: initiation.kemCiphertext,
  }
  return { random, identity, responder, initiation, offer }
}

const all = (keys: X3dhKeys) => Object.values(keys).map(String)

function expectNothingShared(ours: X3dhKeys, theirs: X3dhKeys): void {
  expect(all(ours).filter((key) => all(theirs).includes(key))).toEqual([])
}

describe('post-quantum X3DH', () => {
  it.each([
    ['one-time', true],
    ['one-time', false],
    ['last-resort', true],
    ['last-resort', false],
  ] as const)('agrees with a %s KEM key, one-time curve prekey: %s', (kemKind, withOneTimePrekey) => {
    const { responder, initiation, offer } = handshake(kemKind, withOneTimePrekey)
    const response = x3dhRespond(TEST_CONTEXT, responder, offer)
    expect(response.transcript).toEqual(initiation.transcript)
    expect(response.keys).toEqual(initiation.keys)
    expect(new Set(all(response.keys)).size).toBe(5)
  })

  it.each<[string, Partial<X3dhContext>]>([
    ['another responder', { responder: new Uint8Array(20).fill(0xcc) }],
    ['another initiator', { initiator: new Uint8Array(20).fill(0xcc) }],
    ['roles swapped', { initiator: TEST_CONTEXT.responder, responder: TEST_CONTEXT.initiator }],
    ['a version removed from ours', { initiatorVersions: [] }],
    ['a version added to theirs', { responderVersions: ['agentmesh/0.2', 'agentmesh/0.1'] }],
    ['versions split elsewhere', { initiatorVersions: ['agentmesh', '/0.2'] }],
  ])('agrees on nothing with %s', (_, change) => {
    const { responder, initiation, offer } = handshake()
    const response = x3dhRespond({ ...TEST_CONTEXT, ...change }, responder, offer)
    expect(response.transcript).not.toEqual(initiation.transcript)
    expectNothingShared(response.keys, initiation.keys)
  })

  it.each(['identityKey', 'ephemeralKey', 'ratchetKey', 'kemCiphertext'] as const)(
    'agrees on nothing when the relay changes %s',
    (field) => {
      const { responder, initiation, offer } = handshake()
      const response = x3dhRespond(TEST_CONTEXT, responder, { ...offer, [field]: flipBit(offer[field], 9) })
      expectNothingShared(response.keys, initiation.keys)
    },
  )

  it('agrees on nothing when the registry swaps any key of the bundle', () => {
    const { random, identity, responder, offer } = handshake()
    const stranger = makeResponder(random, 'one-time', true)
    for (const field of ['identityKey', 'signedPrekey', 'oneTimePrekey', 'kemKey'] as const) {
      const forged = { ...bundleOf(responder), [field]: bundleOf(stranger)[field] }
      const initiation = x3dhInitiate(TEST_CONTEXT, identity, forged, random)
      const response = x3dhRespond(TEST_CONTEXT, responder, {
        identityKey: offer.identityKey,
        ephemeralKey: initiation.ephemeralKey,
        ratchetKey: initiation.ratchetKeyPair.publicKey,
        kemCiphertext: initiation.kemCiphertext,
      })
      expectNothingShared(response.keys, initiation.keys)
    }
  })

  it('tells a one-time KEM key from a last-resort one, and a missing one-time prekey from a present one', () => {
    const { responder, initiation, offer } = handshake()
    const lastResort = x3dhRespond(TEST_CONTEXT, { ...responder, kemKind: 'last-resort' }, offer)
    expectNothingShared(lastResort.keys, initiation.keys)
    const { oneTimePrekey: _, ...without } = responder
    expectNothingShared(x3dhRespond(TEST_CONTEXT, without, offer).keys, initiation.keys)
  })

  it('refuses keys that force a known secret, whoever sends them', () => {
    const { random, identity, responder, offer } = handshake()
    const weak = expect.objectContaining({ code: 'WEAK_SHARED_SECRET' })
    const point = new Uint8Array(32)
    for (const field of ['identityKey', 'signedPrekey', 'oneTimePrekey'] as const) {
      expect(() =>
        x3dhInitiate(TEST_CONTEXT, identity, { ...bundleOf(responder), [field]: point }, random),
      ).toThrow(weak)
    }
    for (const field of ['identityKey', 'ephemeralKey'] as const) {
      expect(() => x3dhRespond(TEST_CONTEXT, responder, { ...offer, [field]: point })).toThrow(weak)
    }
  })

  it('refuses keys, ciphertexts and AMIDs of a wrong length', () => {
    const { random, identity, responder, offer } = handshake()
    const invalid = expect.objectContaining({ code: 'INVALID_KEY' })
    for (const field of Object.keys(offer) as (keyof typeof offer)[]) {
      expect(() =>
        x3dhRespond(TEST_CONTEXT, responder, { ...offer, [field]: offer[field].subarray(1) }),
      ).toThrow(invalid)
    }
    for (const field of ['identityKey', 'signedPrekey', 'oneTimePrekey', 'kemKey'] as const) {
      expect(() =>
        x3dhInitiate(TEST_CONTEXT, identity, { ...bundleOf(responder), [field]: new Uint8Array(33) }, random),
      ).toThrow(invalid)
    }
    expect(() => x3dhRespond({ ...TEST_CONTEXT, initiator: new Uint8Array(19) }, responder, offer)).toThrow(
      invalid,
    )
  })

  it('overwrites the ephemeral secret and the KEM coins, and nothing that lives on', () => {
    const drawn: Uint8Array[] = []
    const random = seededRandom('erasure')
    const responder = makeResponder(random, 'one-time', true)
    const identity = x25519KeyPair(random(32))
    const initiation = x3dhInitiate(TEST_CONTEXT, identity, bundleOf(responder), (length) => {
      const bytes = random(length)
      drawn.push(bytes)
      return bytes
    })
    const [ephemeral, ratchet, coins] = drawn
    expect(ephemeral).toEqual(new Uint8Array(32))
    expect(coins).toEqual(new Uint8Array(32))
    expect(ratchet).toBe(initiation.ratchetKeyPair.secretKey)
    expect(ratchet).not.toEqual(new Uint8Array(32))
    expect(identity.secretKey).not.toEqual(new Uint8Array(32))
  })
})

import { createHash } from 'node:crypto'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { ed25519KeyPair } from '../crypto/signing.ts'
import { fromHex, parseAmid, toBase58 } from '../wire/index.ts'
import { amidFromDid, amidFromPublicKey, checkAmid, didFromAmid } from './amid.ts'
import { outcome } from '../wire/test-support.ts'
import { testIdentity } from './test-support.ts'

/** The eight points whose order divides 8, in the encodings of RFC 8032, and non-canonical spellings of some. */
const WEAK_KEYS = {
  identity: '01' + '00'.repeat(31),
  'order 2': 'ec' + 'ff'.repeat(30) + '7f',
  'order 4, y = 0': '00'.repeat(32),
  'order 4, y = 0, sign bit': '00'.repeat(31) + '80',
  'order 8': '26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05',
  'order 8, sign bit': '26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85',
  'order 8, other': 'c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a',
  'order 8, other, sign bit': 'c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa',
  'identity with a sign bit': '01' + '00'.repeat(30) + '80',
  'y = p': 'ed' + 'ff'.repeat(30) + '7f',
  'y = p + 1': 'ee' + 'ff'.repeat(30) + '7f',
  'y = 2^255 - 1': 'ff'.repeat(31) + '7f',
  'all ones': 'ff'.repeat(32),
  'not on the curve': '02' + '00'.repeat(31),
}

describe('AMID', () => {
  it('is base58btc of the first 20 bytes of SHA-256 of the signing key', () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 32, maxLength: 32 }), (seed) => {
        const { publicKey } = ed25519KeyPair(seed)
        const hash = createHash('sha256').update(publicKey).digest().subarray(0, 20)
        const amid = amidFromPublicKey(publicKey)
        expect(amid).toBe(toBase58(hash))
        expect(parseAmid(amid)).toBe(amid)
      }),
      { numRuns: 50 },
    )
  })

  it.each(Object.entries(WEAK_KEYS))('refuses the weak or non-canonical key: %s', (_name, hex) => {
    expect(outcome(() => amidFromPublicKey(fromHex(hex)))).toBe('INVALID_KEY')
  })

  it.each([0, 31, 33, 64])('refuses a key of %i bytes', (length) => {
    expect(outcome(() => amidFromPublicKey(new Uint8Array(length).fill(9)))).toBe('INVALID_KEY')
  })

  it("refuses another agent's key", () => {
    const [alice, mallory] = [testIdentity('alice'), testIdentity('mallory')]
    checkAmid(alice.amid, alice.signing.publicKey)
    expect(outcome(() => checkAmid(alice.amid, mallory.signing.publicKey))).toBe('AMID_MISMATCH')
  })

  it('refuses a weak key even when its hash is the AMID', () => {
    const key = fromHex(WEAK_KEYS.identity)
    const amid = parseAmid(toBase58(createHash('sha256').update(key).digest().subarray(0, 20)))
    expect(outcome(() => checkAmid(amid, key))).toBe('INVALID_KEY')
  })
})

describe('DID', () => {
  const { amid } = testIdentity('alice')

  it('names the AMID, both ways', () => {
    expect(didFromAmid(amid)).toBe(`did:agentmesh:${amid}`)
    expect(amidFromDid(`did:agentmesh:${amid}`)).toBe(amid)
  })

  it.each([
    ['another method', `did:key:${amid}`],
    ['upper case', `DID:agentmesh:${amid}`],
    ['a fragment', `did:agentmesh:${amid}#signing-key`],
    ['a look-alike digit', `did:agentmesh:0${amid.slice(1)}`],
    ['a look-alike letter', `did:agentmesh:l${amid.slice(1)}`],
    ['a leading 1, which is a 21st byte', `did:agentmesh:1${amid}`],
    ['a path', `did:agentmesh:../${amid}`],
    ['nothing', 'did:agentmesh:'],
    ['a trailing newline', `did:agentmesh:${amid}\n`],
  ])('refuses %s', (_name, did) => {
    expect(outcome(() => amidFromDid(did))).toBe('INVALID_AMID')
  })
})

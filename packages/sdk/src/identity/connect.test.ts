import { describe, expect, it } from 'vitest'
import { sign, signedBytes, verify } from '../crypto/signing.ts'
import { amidToBytes, concatBytes, toHex, utf8Bytes } from '../wire/index.ts'
import { connectSignatureParts } from './connect.ts'
import { outcome } from '../wire/test-support.ts'
import { NOW, testIdentity, testRandom } from './test-support.ts'

const alice = testIdentity('alice')
const { publicKey, secretKey } = alice.signing
const nonce = testRandom('hello')(32)
const parts = connectSignatureParts('relay.example:443', nonce, alice.amid, publicKey, NOW, 0x102030405)

describe('a CONNECT signature', () => {
  const signature = sign('connect', secretKey, ...parts)
  const check = (...changed: Parameters<typeof connectSignatureParts>) =>
    verify('connect', publicKey, signature, ...connectSignatureParts(...changed))

  it('covers the bytes of the specification', () => {
    const u32 = (length: number) => Uint8Array.of(0, 0, 0, length)
    expect(toHex(signedBytes('connect', ...parts))).toBe(
      toHex(
        concatBytes(
          utf8Bytes('agentmesh/0.2 connect\0'),
          u32(17),
          utf8Bytes('relay.example:443'),
          u32(32),
          nonce,
          u32(20),
          amidToBytes(alice.amid),
          u32(32),
          publicKey,
          u32(8),
          new Uint8Array(new BigUint64Array([BigInt(NOW)]).buffer).toReversed(),
          u32(8),
          Uint8Array.of(0, 0, 0, 1, 2, 3, 4, 5),
        ),
      ),
    )
  })

  it('is good for one relay, one challenge, one agent, one time and one state', () => {
    expect(check('relay.example:443', nonce, alice.amid, publicKey, NOW, 0x102030405)).toBe(true)
    expect(check('relay.example:44', nonce, alice.amid, publicKey, NOW, 0x102030405)).toBe(false)
    expect(check('relay.example:443', testRandom('x')(32), alice.amid, publicKey, NOW, 0x102030405)).toBe(
      false,
    )
    expect(check('relay.example:443', nonce, testIdentity('bob').amid, publicKey, NOW, 0x102030405)).toBe(
      false,
    )
    expect(check('relay.example:443', nonce, alice.amid, publicKey, NOW + 1, 0x102030405)).toBe(false)
    expect(check('relay.example:443', nonce, alice.amid, publicKey, NOW, 0x102030404)).toBe(false)
  })

  it('cannot be made over a short nonce, a broken clock or a broken counter', () => {
    const make = (bytes: Uint8Array, time: number, counter = 0) =>
      outcome(() => connectSignatureParts('r', bytes, alice.amid, publicKey, time, counter))
    expect(make(nonce.subarray(1), NOW)).toBe('MALFORMED')
    expect(make(nonce, Number.NaN)).toBe('MALFORMED')
    expect(make(nonce, 1.5)).toBe('MALFORMED')
    expect(make(nonce, -1)).toBe('MALFORMED')
    expect(make(nonce, NOW, -1)).toBe('MALFORMED')
    expect(make(nonce, NOW, 2 ** 53)).toBe('MALFORMED')
  })
})

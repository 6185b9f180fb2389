import { describe, expect, it } from 'vitest'
import { ed25519KeyPair, sign, signedBytes, systemRandom, verify, type SigningLabel } from './signing.ts'

const text = (value: string) => new TextEncoder().encode(value)
const pair = ed25519KeyPair(new Uint8Array(32).fill(1))

describe('a labelled signature', () => {
  it('covers the label, a zero byte, and each part behind its length', () => {
    expect(signedBytes('knock', text('ab'), text(''))).toEqual(
      text('agentmesh/0.2 knock\0\0\0\0\u0002ab\0\0\0\0'),
    )
  })

  it('verifies under its own label only', () => {
    const labels: SigningLabel[] = [
      'knock',
      'accept',
      'reject',
      'envelope',
      'connect',
      'ik',
      'spk',
      'opk',
      'pq-last',
      'pq-one',
      'record',
      'presence',
      'receipt',
      'succession',
      'close',
      'audit',
    ]
    const signature = sign('knock', pair.secretKey, text('hello'))
    expect(labels.filter((label) => verify(label, pair.publicKey, signature, text('hello')))).toEqual([
      'knock',
    ])
  })

  it('does not verify with the parts split elsewhere, joined, or one more', () => {
    const signature = sign('accept', pair.secretKey, text('ab'), text('c'))
    expect(verify('accept', pair.publicKey, signature, text('ab'), text('c'))).toBe(true)
    expect(verify('accept', pair.publicKey, signature, text('a'), text('bc'))).toBe(false)
    expect(verify('accept', pair.publicKey, signature, text('abc'))).toBe(false)
    expect(verify('accept', pair.publicKey, signature, text('ab'), text('c'), text(''))).toBe(false)
  })

  it('does not verify under another key, and never throws on nonsense', () => {
    const signature = sign('ik', pair.secretKey, text('x'))
    const other = ed25519KeyPair(new Uint8Array(32).fill(2))
    expect(verify('ik', other.publicKey, signature, text('x'))).toBe(false)
    expect(verify('ik', new Uint8Array(3), signature, text('x'))).toBe(false)
    expect(verify('ik', pair.publicKey, new Uint8Array(64), text('x'))).toBe(false)
  })

  it('is refused to a secret key that is only the seed', () => {
    expect(() => sign('ik', new Uint8Array(32), text('x'))).toThrow(
      expect.objectContaining({ code: 'INVALID_KEY' }),
    )
  })
})

describe('systemRandom', () => {
  it('gives the length asked for, and other bytes each time', () => {
    expect(systemRandom(24)).toHaveLength(24)
    expect(systemRandom(32)).not.toEqual(systemRandom(32))
  })
})

import { describe, expect, it } from 'vitest'
import { open, passphraseKey, seal } from './sealing.ts'
import { flipBit, seededRandom } from './test-support.ts'

const text = (value: string) => new TextEncoder().encode(value)
const key = new Uint8Array(32).fill(5)
const broken = expect.objectContaining({ code: 'SEAL_BROKEN' })

describe('a sealed record', () => {
  const random = seededRandom('sealing')
  const sealed = seal(key, text('secret'), text('state.db/session/1'), random)

  it('opens with its key at its place', () => {
    expect(open(key, sealed, text('state.db/session/1'))).toEqual(text('secret'))
    expect(sealed).toHaveLength(6 + 41)
  })

  it('does not open at another place or with another key', () => {
    expect(() => open(key, sealed, text('state.db/session/2'))).toThrow(broken)
    expect(() => open(new Uint8Array(32), sealed, text('state.db/session/1'))).toThrow(broken)
  })

  it('does not open with any bit flipped or cut short anywhere', () => {
    for (let bit = 0; bit < sealed.length * 8; bit++) {
      expect(() => open(key, flipBit(sealed, bit), text('state.db/session/1'))).toThrow(broken)
    }
    for (let length = 0; length < sealed.length; length++) {
      expect(() => open(key, sealed.subarray(0, length), text('state.db/session/1'))).toThrow(broken)
    }
  })

  it('uses a fresh nonce each time, and keeps empty records', () => {
    expect(seal(key, text('secret'), text('p'), random)).not.toEqual(
      seal(key, text('secret'), text('p'), random),
    )
    expect(open(key, seal(key, text(''), text(''), random), text(''))).toEqual(text(''))
  })
})

describe('passphraseKey', () => {
  const cost = { ops: 1, memory: 8192 }

  it('gives the same key for the same passphrase, however its accents are typed', () => {
    const salt = new Uint8Array(16)
    expect(passphraseKey('caf\u00e9', salt, cost)).toEqual(passphraseKey('cafe\u0301', salt, cost))
    expect(passphraseKey('caf\u00e9', salt, cost)).not.toEqual(passphraseKey('cafe', salt, cost))
    expect(passphraseKey('caf\u00e9', salt, cost)).not.toEqual(
      passphraseKey('caf\u00e9', salt.slice().fill(1), cost),
    )
  })
})

import fc from 'fast-check'
import { Type } from './type.ts'
import { describe, expect, it } from 'vitest'
import { isAgentMeshError, type ErrorCode } from './errors.ts'
import {
  AmidText,
  Base64Of,
  ExchangeKeyText,
  formatKey,
  KemKeyText,
  Nullable,
  parseKey,
  PeerText,
  SessionIdText,
  SignatureText,
  SigningKeyText,
  Timestamp,
  validate,
  VersionList,
  type KeyAlgorithm,
} from './schema.ts'
import { fromBase64, toBase64 } from './bytes.ts'

const refused = (code: ErrorCode) => expect.objectContaining({ name: 'AgentMeshError', code })

describe('validate', () => {
  const Sample = Type.Object({ list: Type.Array(Type.Object({ n: Type.Integer() })) })

  it('returns the very value, unknown fields and all', () => {
    const value = { list: [{ n: 1, extra: true }], more: 'kept' }
    expect(validate(Sample, value)).toBe(value)
    expect(value).toEqual({ list: [{ n: 1, extra: true }], more: 'kept' })
  })

  it('names the field and the operation, never the value', () => {
    expect(() => validate(Sample, { list: [{ n: 1 }, { n: 'secret' }] }, 'read sample')).toThrow(
      expect.objectContaining({
        code: 'MALFORMED',
        operation: 'read sample',
        message: expect.stringMatching(/^list\.1\.n must be integer$/),
      }),
    )
  })

  it('does not coerce, and does not take inherited properties for fields', () => {
    expect(() => validate(Sample, { list: [{ n: '1' }] })).toThrow(refused('MALFORMED'))
    expect(() => validate(Sample, Object.create({ list: [] }))).toThrow(refused('MALFORMED'))
    expect(() => validate(Type.Object({ toString: Type.Unknown() }), {})).toThrow(refused('MALFORMED'))
  })

  it('counts text in code points', () => {
    expect(validate(PeerText(2), '\u{1f600}\u{1f600}')).toHaveLength(4)
    expect(() => validate(PeerText(2), '\u{1f600}a\u{1f600}')).toThrow(refused('MALFORMED'))
  })

  it('takes null where it may stand', () => {
    expect(validate(Nullable(PeerText(2)), null)).toBe(null)
    expect(() => validate(Nullable(PeerText(2)), undefined)).toThrow(refused('MALFORMED'))
  })
})

describe('building blocks', () => {
  it.each([
    ['AMID', AmidText, '1'.repeat(20), '1'.repeat(21)],
    [
      'session id',
      SessionIdText,
      '0b9a3c1e-5d2f-4a6b-8c7d-9e0f1a2b3c4d',
      '0B9A3C1E-5D2F-4A6B-8C7D-9E0F1A2B3C4D',
    ],
    ['timestamp', Timestamp, '2026-02-28T00:00:00Z', '2026-02-30T00:00:00Z'],
    ['version list', VersionList, ['agentmesh/0.2'], []],
    ['version', VersionList.items, 'agentmesh/0.2', 'agentmesh/0.2\n'],
  ])('%s: takes the right and refuses the wrong', (_, schema, right, wrong) => {
    expect(validate(schema, right)).toBe(right)
    expect(() => validate(schema, wrong)).toThrow(refused('MALFORMED'))
  })

  it('Base64Of takes exactly the canonical texts of its length', () => {
    for (const length of [1, 2, 3, 32, 64, 1184]) {
      const schema = Base64Of(length)
      fc.assert(
        fc.property(fc.uint8Array({ minLength: length, maxLength: length }), (bytes) => {
          validate(schema, toBase64(bytes))
        }),
        { numRuns: 20 },
      )
      for (const other of [length - 1, length + 1]) {
        expect(() => validate(schema, toBase64(new Uint8Array(other)))).toThrow(refused('MALFORMED'))
      }
    }
  })

  it('Base64Of refuses every second spelling', () => {
    for (const [length, last] of [
      [32, 'AB'],
      [64, 'AB'],
    ] as const) {
      const text = toBase64(new Uint8Array(length))
      const second = text.replace(/A(=+)$/, `${last[1]}$1`)
      expect(Buffer.from(second, 'base64')).toEqual(Buffer.from(text, 'base64'))
      expect(() => validate(Base64Of(length), second)).toThrow(refused('MALFORMED'))
      expect(() => fromBase64(second)).toThrow(refused('MALFORMED'))
    }
  })

  it.each([
    ['ed25519', 32, SigningKeyText],
    ['x25519', 32, ExchangeKeyText],
    ['mlkem768', 1184, KemKeyText],
  ] as const)('%s keys go to text and back, and nothing else passes', (algorithm, length, schema) => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: length, maxLength: length }), (key) => {
        const text = formatKey(algorithm, key)
        expect(validate(schema, text)).toBe(text)
        expect([...parseKey(algorithm, text)]).toEqual([...key])
      }),
      { numRuns: 20 },
    )
    const text = formatKey(algorithm, new Uint8Array(length))
    const others: string[] = [
      text.slice(algorithm.length + 1),
      text.toUpperCase(),
      `${text}\n`,
      ` ${text}`,
      text.replace(':', '::'),
      formatKey(algorithm, new Uint8Array(length - 1)),
      formatKey(algorithm, new Uint8Array(length + 1)),
      text.replace(`${algorithm}:`, algorithm === 'x25519' ? 'ed25519:' : 'x25519:'),
      '',
    ]
    for (const other of others) {
      expect(() => parseKey(algorithm, other)).toThrow(refused('INVALID_KEY'))
      expect(() => validate(schema, other)).toThrow(refused('MALFORMED'))
    }
  })

  it('parseKey throws only its own errors', () => {
    const algorithm = fc.constantFrom<KeyAlgorithm>('ed25519', 'x25519', 'mlkem768')
    fc.assert(
      fc.property(algorithm, fc.string({ unit: 'binary' }), fc.boolean(), (name, text, prefixed) => {
        try {
          parseKey(name, prefixed ? `${name}:${text}` : text)
        } catch (error) {
          if (!isAgentMeshError(error, 'INVALID_KEY')) throw error
        }
      }),
      { numRuns: 1000 },
    )
  })

  it('a signature text is 88 characters', () => {
    expect(validate(SignatureText, toBase64(new Uint8Array(64)))).toHaveLength(88)
  })
})

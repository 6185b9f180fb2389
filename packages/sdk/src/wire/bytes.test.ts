import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import {
  ByteReader,
  ByteWriter,
  concatBytes,
  fromBase58,
  fromBase64,
  fromBase64Url,
  fromHex,
  toBase58,
  toBase64,
  toBase64Url,
  toHex,
  utf8Bytes,
  utf8Text,
} from './bytes.ts'
import { isAgentMeshError, type ErrorCode } from './errors.ts'

const refused = (code: ErrorCode) => expect.objectContaining({ name: 'AgentMeshError', code })

const encodings = [
  { name: 'base64', encode: toBase64, decode: fromBase64 },
  { name: 'base64url', encode: toBase64Url, decode: fromBase64Url },
  { name: 'hex', encode: toHex, decode: fromHex },
  { name: 'base58', encode: toBase58, decode: fromBase58 },
]

describe.each(encodings)('$name', ({ encode, decode }) => {
  it('gives the bytes back', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 64 }), (bytes) => {
        expect([...decode(encode(bytes))]).toEqual([...bytes])
      }),
    )
  })

  it('has one spelling: whatever decodes encodes to the same text; anything else is MALFORMED', () => {
    const near = fc.uint8Array({ maxLength: 20 }).chain((bytes) =>
      fc
        .tuple(fc.nat({ max: 30 }), fc.constantFrom('', 'A', 'b', '=', '0', 'l', '-', '+', ' ', '\n', 'é'))
        .map(([at, junk]) => {
          const text = encode(bytes)
          return text.slice(0, at) + junk + text.slice(at + 1)
        }),
    )
    fc.assert(
      fc.property(fc.oneof(near, fc.string({ unit: 'binary' })), (text) => {
        try {
          expect(encode(decode(text))).toBe(text)
        } catch (error) {
          if (!isAgentMeshError(error, 'MALFORMED')) throw error
        }
      }),
      { numRuns: 2000 },
    )
  })
})

describe('published samples', () => {
  it('encodes base64 as RFC 4648 §10', () => {
    expect(
      ['', 'f', 'fo', 'foo', 'foob', 'fooba', 'foobar'].map((text) => toBase64(utf8Bytes(text))),
    ).toEqual(['', 'Zg==', 'Zm8=', 'Zm9v', 'Zm9vYg==', 'Zm9vYmE=', 'Zm9vYmFy'])
  })
  it('encodes base58btc as the multibase drafts do', () => {
    expect(toBase58(utf8Bytes('Hello World!'))).toBe('2NEpo7TZRRrLZSi2U')
    expect(toBase58(fromHex('0000287fb4cd'))).toBe('11233QC4')
  })
})

it.each(['Zg', 'Zg=', 'Zh==', 'Zg==\n', ' Zg==', 'Zg==Zg==', 'Zm9-', 'Zm9_', 'Z===', '===='])(
  'refuses the base64 spelling %j',
  (text) => {
    expect(() => fromBase64(text)).toThrow(refused('MALFORMED'))
  },
)
it.each(['0', 'O', 'I', 'l', '2NEpo7TZRRrLZSi2U ', '+', 'é'])('refuses the base58 look-alike %j', (text) => {
  expect(() => fromBase58(text)).toThrow(refused('MALFORMED'))
})
it('refuses long base58 before its quadratic decoding', () => {
  expect(fromBase58('1'.repeat(128))).toHaveLength(128)
  expect(() => fromBase58('1'.repeat(129))).toThrow(refused('MALFORMED'))
})
it.each(['AB', 'abc', '0x', 'g0', ' ab'])('refuses the hex spelling %j', (text) => {
  expect(() => fromHex(text)).toThrow(refused('MALFORMED'))
})
it('refuses bytes that are not UTF-8, and keeps a byte order mark as a character', () => {
  expect(() => utf8Text(Uint8Array.of(0xc3, 0x28))).toThrow(refused('MALFORMED'))
  expect(utf8Text(Uint8Array.of(0xef, 0xbb, 0xbf, 0x61))).toBe('\ufeffa')
})

describe('ByteReader and ByteWriter', () => {
  it('agree on every field', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 0, max: 0xff }),
        fc.integer({ min: 0, max: 0xffff }),
        fc.integer({ min: 0, max: 0xffff_ffff }),
        fc.maxSafeNat(),
        fc.uint8Array(),
        (a, b, c, d, bytes) => {
          const reader = new ByteReader(new ByteWriter().u8(a).u16(b).u32(c).u64(d).bytes(bytes).finish())
          expect([reader.u8(), reader.u16(), reader.u32(), reader.u64()]).toEqual([a, b, c, d])
          expect(reader.offset).toBe(15)
          expect([...reader.rest()]).toEqual([...bytes])
          reader.end()
        },
      ),
    )
  })

  it('write big-endian', () => {
    expect(
      toHex(
        new ByteWriter()
          .u16(1)
          .u32(2)
          .u64(2 ** 53 - 1)
          .finish(),
      ),
    ).toBe('000100000002001fffffffffffff')
  })

  it('read a view at its own offset, not at that of its buffer', () => {
    const whole = Uint8Array.of(9, 9, 1, 2, 3)
    const reader = new ByteReader(whole.subarray(2, 4))
    expect(reader.u16()).toBe(0x0102)
    expect(() => reader.u8()).toThrow(refused('MALFORMED'))
  })

  it('refuse what ends early or goes on', () => {
    expect(() => new ByteReader(new Uint8Array(7)).u64()).toThrow(refused('MALFORMED'))
    expect(() => new ByteReader(new Uint8Array(3)).bytes(4)).toThrow(refused('MALFORMED'))
    expect(() => new ByteReader(new Uint8Array(1)).end()).toThrow(refused('MALFORMED'))
  })

  it('refuse integers above 2^53 - 1', () => {
    expect(() => new ByteReader(fromHex('0020000000000000')).u64()).toThrow(refused('MALFORMED'))
    expect(() => new ByteReader(fromHex('ffffffffffffffff')).u64()).toThrow(refused('MALFORMED'))
  })

  it.each([-1, 0.5, 256, Number.NaN])('refuse to write %d as one byte', (value) => {
    expect(() => new ByteWriter().u8(value)).toThrow(refused('MALFORMED'))
  })
  it('refuse to cut a number that is too large for its field', () => {
    expect(() => new ByteWriter().u16(0x1_0000)).toThrow(refused('MALFORMED'))
    expect(() => new ByteWriter().u32(2 ** 32)).toThrow(refused('MALFORMED'))
    expect(() => new ByteWriter().u64(2 ** 53)).toThrow(refused('MALFORMED'))
  })
})

it('joins parts in order', () => {
  expect([...concatBytes(Uint8Array.of(1), new Uint8Array(), Uint8Array.of(2, 3))]).toEqual([1, 2, 3])
})

import fc from 'fast-check'
import { expect, it } from 'vitest'
import { jsonCodec } from './json-codec.ts'

const codec = jsonCodec<unknown>()
const roundTrip = (value: unknown): unknown => codec.decode(codec.encode(value))

it('gives back any JSON value with bytes anywhere in it', () => {
  const { value } = fc.letrec<{ value: unknown }>((tie) => ({
    value: fc.oneof(
      { depthSize: 'small' },
      fc.constantFrom(null, true, false, 0, 1.5, 2 ** 53),
      fc.string({ unit: 'binary' }),
      fc.uint8Array(),
      fc.array(tie('value')),
      fc.dictionary(
        fc.oneof(fc.string(), fc.constantFrom('$bytes', '$$bytes', '$$$bytes', '__proto__')),
        tie('value'),
        { noNullPrototype: true },
      ),
    ),
  }))
  fc.assert(
    fc.property(value, (input) => {
      expect(roundTrip(input)).toEqual(input)
    }),
  )
})

it('does not take an object of a peer for bytes', () => {
  for (const value of [
    { $bytes: 'AAAA' },
    { $$bytes: 'AAAA' },
    { $bytes: 1 },
    { $bytes: Uint8Array.of(1) },
    { $bytes: 'AAAA', more: 1 },
    { $bytes: 'AAAA', gone: undefined },
    [{ deep: { $bytes: { $bytes: 'x' } } }],
  ]) {
    expect(roundTrip(value)).toEqual(value)
  }
})

it('keeps a key named __proto__ a key', () => {
  const value = JSON.parse('{"__proto__":{"admin":true}}')
  const back = roundTrip(value) as object
  expect(Object.hasOwn(back, '__proto__')).toBe(true)
  expect(Object.getPrototypeOf(back)).toBe(Object.prototype)
  expect('admin' in back).toBe(false)
})

it('reads a Buffer back as plain bytes, and leaves undefined fields out', () => {
  expect(roundTrip({ bytes: Buffer.from([1, 2]), gone: undefined })).toEqual({ bytes: Uint8Array.of(1, 2) })
})

it('refuses what would come back as something else', () => {
  for (const value of [
    Number.NaN,
    Infinity,
    1n,
    new Map(),
    new Date(0),
    [undefined],
    () => 0,
    { deep: new Set() },
  ]) {
    expect(() => codec.encode(value)).toThrow(expect.objectContaining({ code: 'MALFORMED' }))
  }
})

it('refuses bytes with numbers that it never writes', () => {
  for (const text of ['-0', '1e400', '{"at":-0}', '[-1e999]']) {
    expect(() => codec.decode(new TextEncoder().encode(text))).toThrow(
      expect.objectContaining({ code: 'MALFORMED' }),
    )
  }
})

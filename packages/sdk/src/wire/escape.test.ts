import fc from 'fast-check'
import { expect, it } from 'vitest'
import { escapeText } from './escape.ts'

const dangerous: [string, number][] = [
  ['NUL', 0x00],
  ['newline', 0x0a],
  ['carriage return', 0x0d],
  ['escape (terminal sequences)', 0x1b],
  ['delete', 0x7f],
  ['C1 control sequence introducer', 0x9b],
  ['soft hyphen', 0xad],
  ['Arabic letter mark', 0x061c],
  ['Hangul filler', 0x3164],
  ['zero-width space', 0x200b],
  ['zero-width joiner', 0x200d],
  ['left-to-right mark', 0x200e],
  ['right-to-left mark', 0x200f],
  ['line separator', 0x2028],
  ['paragraph separator', 0x2029],
  ['left-to-right embedding', 0x202a],
  ['pop directional formatting', 0x202c],
  ['right-to-left override', 0x202e],
  ['word joiner', 0x2060],
  ['left-to-right isolate', 0x2066],
  ['pop directional isolate', 0x2069],
  ['byte order mark', 0xfeff],
  ['interlinear annotation anchor', 0xfff9],
  ['lone high surrogate', 0xd800],
  ['lone low surrogate', 0xdfff],
  ['tag letter', 0xe0041],
  ['variation selector 17', 0xe0100],
]

it.each(dangerous)('shows %s as text', (_name, code) => {
  const character = String.fromCodePoint(code)
  const shown = `\\u{${code.toString(16).toUpperCase().padStart(4, '0')}}`
  expect(escapeText(`pay ${character}me`)).toBe(`pay ${shown}me`)
})

it('covers every character of the ranges that move, reorder or hide text', () => {
  const ranges: [number, number][] = [
    [0x00, 0x1f],
    [0x7f, 0x9f],
    [0x200b, 0x200f],
    [0x2028, 0x202e],
    [0x2060, 0x206f],
    [0xd800, 0xdfff],
    [0xe0000, 0xe0fff],
  ]
  for (const [from, to] of ranges) {
    for (let code = from; code <= to; code++) {
      expect(escapeText(String.fromCodePoint(code)), `U+${code.toString(16)}`).toMatch(
        /^\\u\{[0-9A-F]{4,6}\}$/,
      )
    }
  }
})

it('leaves what people write alone', () => {
  for (const text of [
    'Zürich → Genève, 12:05',
    'שלום',
    'مرحبا',
    '日本語',
    'नमस्ते',
    '👍🏽 ❤️',
    'back\\slash',
    '\\u{202E}',
    '<b>&',
  ]) {
    expect(escapeText(text)).toBe(text)
  }
})

it('is done once however often it is done, and its result is well-formed', () => {
  fc.assert(
    fc.property(
      fc.string({ unit: fc.integer({ min: 0, max: 0x10ffff }).map((code) => String.fromCodePoint(code)) }),
      (text) => {
        const once = escapeText(text)
        expect(escapeText(once)).toBe(once)
        expect(once.isWellFormed()).toBe(true)
        expect(once).not.toMatch(/[\p{Cc}\p{Cf}\u2028\u2029]/u)
        expect(once.length).toBeLessThanOrEqual(text.length * 8)
      },
    ),
  )
})

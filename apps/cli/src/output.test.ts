import { expect, test } from 'vitest'
import { fields, jsonLine, prettyJson, table } from './output.ts'

const HOSTILE = 'a\u001b[31mred\u202egnp\u200b\u{e0041}\u009b2J\nnext'

test('a JSON line carries hostile text to a program unchanged and to a terminal harmless', () => {
  const line = jsonLine({ name: HOSTILE })
  expect(JSON.parse(line)).toEqual({ name: HOSTILE })
  expect(line).toMatch(/^[\x20-\x7e]*$/)
})

test('a JSON line leaves text of any script as it is', () => {
  const value = { text: 'Zoë שלום 東京 👩‍🚀'.replaceAll('\u200d', '') }
  expect(jsonLine(value)).toBe(JSON.stringify(value))
})

test('what people read shows hostile characters as text', () => {
  for (const text of [prettyJson([HOSTILE]), fields([['name', HOSTILE]]), table(['name'], [[HOSTILE]])]) {
    expect(text.replaceAll('\n', '')).not.toMatch(/[\p{Cc}\p{Cf}]/u)
    expect(text).toContain('\\u{202E}gnp')
  }
})

test('a table keeps its columns under text of any length', () => {
  const [head, first, second] = table(
    ['a', 'b'],
    [
      ['long cell', '1'],
      ['x', '2'],
    ],
  ).split('\n')
  expect([head, first, second].map((line) => line?.search(/[b12]$/))).toEqual([11, 11, 11])
})

import fc from 'fast-check'
import { expect, it } from 'vitest'
import { isAgentMeshError, type ErrorCode } from './errors.ts'
import { checkTimestamp, formatTimestamp, isTimestamp, MAX_TIMESTAMP, parseTimestamp } from './time.ts'

const refused = (code: ErrorCode) => expect.objectContaining({ name: 'AgentMeshError', code })

it('goes from milliseconds to text and back', () => {
  fc.assert(
    fc.property(fc.integer({ min: 0, max: MAX_TIMESTAMP }), (milliseconds) => {
      expect(parseTimestamp(formatTimestamp(milliseconds))).toBe(milliseconds)
    }),
  )
  expect(formatTimestamp(MAX_TIMESTAMP)).toBe('9999-12-31T23:59:59.999Z')
})

it('reads seconds and milliseconds', () => {
  expect(parseTimestamp('2026-02-01T12:00:00Z')).toBe(1769947200000)
  expect(parseTimestamp('2026-02-01T12:00:00.250Z')).toBe(1769947200250)
  expect(parseTimestamp('2024-02-29T00:00:00Z')).toBe(1709164800000)
})

it.each([
  '2026-02-30T00:00:00Z',
  '2026-02-29T00:00:00Z',
  '2026-13-01T00:00:00Z',
  '2026-00-10T00:00:00Z',
  '2026-01-01T24:00:00Z',
  '2026-01-01T23:59:60Z',
  '2026-01-01T00:60:00Z',
  '2026-01-01T00:00:00+00:00',
  '2026-01-01T00:00:00',
  '2026-01-01t00:00:00z',
  '2026-01-01 00:00:00Z',
  '2026-01-01T00:00:00.1Z',
  '2026-01-01T00:00:00.1234Z',
  '2026-01-01T00:00Z',
  '2026-01-01',
  '+12026-01-01T00:00:00Z',
  '1969-12-31T23:59:59Z',
  '0000-01-01T00:00:00Z',
  '2026-01-01T00:00:00Z\n',
  ' 2026-01-01T00:00:00Z',
  '٢٠٢٦-01-01T00:00:00Z',
  '',
])('refuses %j', (text) => {
  expect(() => parseTimestamp(text)).toThrow(refused('INVALID_TIMESTAMP'))
  expect(isTimestamp(text)).toBe(false)
})

it.each([-1, 0.5, MAX_TIMESTAMP + 1, Number.NaN, Number.POSITIVE_INFINITY])(
  'refuses to write %d',
  (value) => {
    expect(() => formatTimestamp(value)).toThrow(refused('INVALID_TIMESTAMP'))
    expect(() => checkTimestamp(value)).toThrow(refused('INVALID_TIMESTAMP'))
  },
)

it('throws only its own errors, and has two spellings of whole seconds at most', () => {
  const near = fc
    .tuple(
      fc.integer({ min: 0, max: MAX_TIMESTAMP }),
      fc.nat({ max: 24 }),
      fc.constantFrom(...'0 1 2 3 4 5 6 7 8 9 - T : . Z'.split(' '), ' '),
    )
    .map(([time, at, junk]) => {
      const text = formatTimestamp(time)
      return text.slice(0, at) + junk + text.slice(at + 1)
    })
  fc.assert(
    fc.property(fc.oneof(near, fc.string()), (text) => {
      try {
        expect([text, text.replace('Z', '.000Z')]).toContain(formatTimestamp(parseTimestamp(text)))
      } catch (error) {
        if (!isAgentMeshError(error, 'INVALID_TIMESTAMP')) throw error
      }
    }),
    { numRuns: 2000 },
  )
})

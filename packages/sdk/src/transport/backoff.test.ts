import { expect, it } from 'vitest'
import { backoffMs } from './backoff.ts'

const lowest = (length: number) => new Uint8Array(length)
const highest = (length: number) => new Uint8Array(length).fill(255)

it('doubles from half a second to one minute and stays there', () => {
  const waits = [0, 1, 2, 6, 7, 8, 1000].map((failures) => backoffMs(failures, lowest) * 2)
  expect(waits).toEqual([500, 1000, 2000, 32_000, 60_000, 60_000, 60_000])
})

it('spreads agents over the upper half of the wait', () => {
  expect(backoffMs(3, lowest)).toBe(2000)
  expect(backoffMs(3, highest)).toBeGreaterThan(3999)
  expect(backoffMs(3, highest)).toBeLessThan(4000)
})

import { expect, test } from 'vitest'
import type { Amid } from '../wire/index.ts'
import { Tally } from './tally.ts'

const amid = (name: string): Amid => name as Amid
const tally = (): Tally<string> => new Tally({ perKind: 2, inAll: 10 })
const total = (counted: readonly { count: number }[]): number =>
  counted.reduce((sum, { count }) => sum + count, 0)

test('the first of a kind are written, the rest are one count', () => {
  const flood = tally()
  const written = Array.from({ length: 100 }, () => flood.note(amid('mallory'), 'blocked', false))
  expect(written.filter(Boolean)).toHaveLength(2)
  expect(flood.drain()).toEqual([{ from: 'mallory', code: 'blocked', count: 98 }])
  expect(flood.drain()).toEqual([])
})

test('ten thousand senders write no more than a few lines, and every packet is in a count', () => {
  const flood = tally()
  let written = 0
  for (let n = 0; n < 10_000; n++) if (flood.note(amid(`sybil ${n}`), 'blocked', false)) written++
  const counted = flood.drain()
  expect(written).toBe(10)
  expect(counted.length).toBeLessThan(30)
  expect(written + total(counted)).toBe(10_000)
})

test('strangers do not take the place of a peer that is known', () => {
  const flood = tally()
  for (let n = 0; n < 400; n++) flood.note(amid(`sybil ${n}`), 'blocked', false)
  expect(flood.note(amid('alice'), 'policy', true)).toBe(true)
})

test('those who sent most are named', () => {
  const flood = tally()
  for (let n = 0; n < 400; n++) flood.note(amid(`sybil ${n}`), 'blocked', false)
  for (let n = 0; n < 50; n++) flood.note(amid('mallory'), 'blocked', false)
  expect(flood.drain()[0]).toEqual({ from: 'mallory', code: 'blocked', count: 50 })
})

test('counts are written once a minute, also by a clock that jumps back', () => {
  const flood = tally()
  const flooded = (): void => {
    for (let n = 0; n < 5; n++) flood.note(amid('mallory'), 'blocked', false)
  }
  flooded()
  expect(flood.due(1_000_000)).toEqual([])
  expect(flood.due(1_059_999)).toEqual([])
  expect(flood.due(1_060_000)).toHaveLength(1)
  flooded()
  expect(flood.due(1_060_001)).toEqual([])
  expect(flood.due(500_000)).toHaveLength(1)
})

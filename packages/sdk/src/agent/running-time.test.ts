import { expect, test } from 'vitest'
import { addMinute, cutoffOf, RunningMinutes, type RunningMarks } from './running-time.ts'

const MINUTE = 60_000
const HOUR = 60 * MINUTE
const DAY = 24 * HOUR
const START = Date.parse('2026-02-01T12:00:00Z')

/** Runs on from `marks` for so many hours, with a clock that is `ahead` of the true time. */
function run(marks: RunningMarks | undefined, from: number, hours: number, ahead = 0): RunningMarks {
  let next = marks ?? addMinute(undefined, from + ahead)
  for (let minute = 1; minute <= hours * 60; minute++) next = addMinute(next, from + minute * MINUTE + ahead)
  return next
}

test('a clock that runs evenly keeps a row for 96 hours and not much longer', () => {
  const marks = run(undefined, START, 300)
  const age = START + 300 * HOUR - cutoffOf(marks)
  expect(age).toBeGreaterThanOrEqual(96 * HOUR)
  expect(age).toBeLessThanOrEqual(99 * HOUR)
  expect(marks.marks.length).toBeLessThan(100)
})

test.each([5 * DAY, 365 * DAY])('a clock that jumps ahead by %i ms keeps what was written before', (jump) => {
  const before = run(undefined, START, 200)
  const written = START + 200 * HOUR
  for (const hours of [0, 1, 50, 95]) {
    const during = run(before, written, hours, jump)
    expect(cutoffOf(during)).toBeLessThan(written)
    // And after it jumped back.
    expect(cutoffOf(run(during, written + hours * HOUR, 95 - hours))).toBeLessThan(written)
  }
})

test('what is kept is deleted after all, when the clock was ahead for long', () => {
  const before = run(undefined, START, 200)
  const written = START + 200 * HOUR
  expect(cutoffOf(run(before, written, 99, 5 * DAY))).toBeGreaterThan(written)
})

test('a clock that jumps back keeps what is written after it', () => {
  const marks = run(run(undefined, START, 200), START + 200 * HOUR, 30, -10 * DAY)
  const written = START + 200 * HOUR - 10 * DAY
  expect(cutoffOf(marks)).toBeLessThanOrEqual(written)
})

test('sleep and jumps are one step, and steps back none', () => {
  const running = new RunningMinutes()
  expect(running.look(START)).toBe(false)
  expect(running.look(START + 30_000)).toBe(false)
  expect(running.look(START + DAY)).toBe(true)
  expect(running.look(START)).toBe(false)
  let minutes = 0
  for (let second = 5; second <= 300; second += 5) if (running.look(START + second * 1000)) minutes++
  expect(minutes).toBeLessThanOrEqual(6)
  expect(minutes).toBeGreaterThanOrEqual(5)
})

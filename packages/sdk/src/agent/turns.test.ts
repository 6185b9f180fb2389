import { expect, test } from 'vitest'
import type { Amid } from '../wire/index.ts'
import { Turns, type Turn } from './turns.ts'

const turn = (from: string, n: number): Turn => ({
  key: `${from}:${n}`,
  from: from as Amid,
})

function take(turns: Turns): string[] {
  const taken: string[] = []
  for (let key = turns.next(); key !== undefined; key = turns.next()) taken.push(key)
  return taken
}

function waiting(...peers: string[]): Turns {
  const turns = new Turns()
  for (const peer of peers) for (let n = 0; n < 100; n++) turns.wait(turn(peer, n))
  return turns
}

test('one peer cannot hold every place, and the next one is served at once', () => {
  const turns = waiting('mallory')
  const held = take(turns)
  expect(held).toHaveLength(16)
  turns.wait(turn('alice', 1))
  expect(take(turns)).toEqual(['alice:1'])
})

test('five peers who work together still leave a place', () => {
  const turns = new Turns()
  for (const peer of ['a', 'b', 'c', 'd', 'e']) {
    for (let n = 0; n < 100; n++) turns.wait(turn(peer, n))
    take(turns)
  }
  turns.wait(turn('alice', 1))
  expect(take(turns)).toContain('alice:1')
})

test('peers take turns, each in its own order', () => {
  expect(take(waiting('a', 'b')).slice(0, 6)).toEqual(['a:0', 'b:0', 'a:1', 'b:1', 'a:2', 'b:2'])
})

test('a place that gets free goes to who waits', () => {
  const turns = waiting('a')
  const [first] = take(turns)
  expect(turns.next()).toBeUndefined()
  turns.done(first!)
  expect(take(turns)).toEqual(['a:16'])
})

test('what was not answered is the next of its peer again', () => {
  const turns = waiting('a')
  expect(turns.next()).toBe('a:0')
  turns.again('a:0')
  expect(turns.next()).toBe('a:0')
  expect(turns.next()).toBe('a:1')
})

test('in all no more than 32 run', () => {
  const turns = waiting(...Array.from({ length: 40 }, (_, n) => `peer${n}`))
  expect(take(turns)).toHaveLength(32)
})

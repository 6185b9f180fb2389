import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { AckTracker } from './ack-tracker.ts'

describe('AckTracker', () => {
  it('reports the highest number below which nothing is open, once', () => {
    const acks = new AckTracker()
    for (const sequence of [1, 2, 3]) acks.receive(sequence)
    acks.acknowledge(2)
    expect(acks.take()).toBeUndefined()
    acks.acknowledge(1)
    expect(acks.take()).toBe(2)
    expect(acks.take()).toBeUndefined()
    acks.acknowledge(3)
    expect(acks.take()).toBe(3)
  })

  it('refuses numbers that repeat, go back, or leave a gap', () => {
    const acks = new AckTracker()
    for (const sequence of [2, 0]) {
      expect(() => acks.receive(sequence)).toThrow(expect.objectContaining({ code: 'MALFORMED' }))
    }
    for (const sequence of [1, 2, 3]) acks.receive(sequence)
    for (const sequence of [3, 2, 0, 5]) {
      expect(() => acks.receive(sequence)).toThrow(expect.objectContaining({ code: 'MALFORMED' }))
    }
    for (const sequence of [1, 2, 3]) acks.acknowledge(sequence)
    expect(acks.take()).toBe(3)
  })

  it('never reports a number with an open one at or below it', () => {
    const order = fc.integer({ min: 1, max: 60 }).chain((count) => {
      const sequences = Array.from({ length: count }, (_, index) => index + 1)
      return fc
        .shuffledSubarray(sequences, { minLength: 0, maxLength: count })
        .map((done) => ({ count, done }))
    })
    fc.assert(
      fc.property(order, ({ count, done }) => {
        const acks = new AckTracker()
        const open = new Set<number>()
        for (let sequence = 1; sequence <= count; sequence++) {
          acks.receive(sequence)
          open.add(sequence)
        }
        let reported = 0
        for (const sequence of done) {
          acks.acknowledge(sequence)
          open.delete(sequence)
          const expected = Math.min(count + 1, ...open) - 1
          reported = acks.take() ?? reported
          expect(reported).toBe(expected)
        }
      }),
    )
  })
})

import { describe, expect, it } from 'vitest'
import { RateLimiter } from './rate-limiter.ts'

describe('RateLimiter', () => {
  it('gives the burst at once, then at the rate, and says how long to wait', () => {
    const limiter = new RateLimiter({ perSecond: 0.5, burst: 2 }, 10)
    expect([limiter.take('a', 0), limiter.take('a', 0), limiter.take('a', 0)]).toEqual([0, 0, 2])
    expect(limiter.take('a', 1_999)).toBe(1)
    expect(limiter.take('a', 2_000)).toBe(0)
    expect(limiter.take('b', 0)).toBe(0)
  })

  it('saves up no more than the burst, and nothing while the clock goes back', () => {
    const limiter = new RateLimiter({ perSecond: 1, burst: 2 }, 10)
    limiter.take('a', 0)
    const waits = [1, 2, 3].map(() => limiter.take('a', 1_000_000))
    expect(waits).toEqual([0, 0, 1])
    expect(limiter.take('a', 0)).toBe(1)
  })

  it('remembers a bounded number of keys and forgets the idlest first', () => {
    const limiter = new RateLimiter({ perSecond: 0.001, burst: 1 }, 100)
    limiter.take('busy', 0)
    for (let index = 0; index < 10_000; index++) {
      limiter.take(`stranger ${index}`, index)
      expect(limiter.take('busy', index)).toBeGreaterThan(0)
    }
    expect(limiter.size).toBe(100)
  })
})

import { describe, expect, it } from 'vitest'
import { RateLimiter } from './rate-limit.ts'

describe('RateLimiter', () => {
  it('grants the burst, then one token a refill time, and says how long that is', () => {
    const limiter = new RateLimiter({ perSecond: 0.5, burst: 2 })
    expect([limiter.take('a', 0), limiter.take('a', 0), limiter.take('a', 0)]).toEqual([0, 0, 2])
    expect(limiter.take('a', 1999)).toBe(1)
    expect(limiter.take('a', 2000)).toBe(0)
    expect(limiter.take('a', 2000)).toBe(2)
  })

  it('takes nothing when it refuses', () => {
    const limiter = new RateLimiter({ perSecond: 1, burst: 10 })
    expect(limiter.take('a', 0, 8)).toBe(0)
    expect(limiter.take('a', 0, 3)).toBe(1)
    expect(limiter.take('a', 0, 2)).toBe(0)
  })

  it('counts each key apart', () => {
    const limiter = new RateLimiter({ perSecond: 1, burst: 1 })
    expect([limiter.take('a', 0), limiter.take('b', 0), limiter.take('a', 0)]).toEqual([0, 0, 1])
  })

  it('never holds more than the burst, and refills nothing when the clock goes back', () => {
    const limiter = new RateLimiter({ perSecond: 1, burst: 2 })
    expect(limiter.take('a', 1_000_000, 2)).toBe(0)
    expect(limiter.take('a', 0)).toBe(1)
    expect(limiter.take('a', 900_000, 2)).toBe(0)
    expect(limiter.take('a', 900_000)).toBe(1)
  })

  it('lets a cost above the burst through for a full bucket', () => {
    const limiter = new RateLimiter({ perSecond: 1, burst: 4 })
    expect(limiter.take('a', 0, 100)).toBe(0)
    expect(limiter.take('a', 0, 100)).toBe(4)
  })

  it('charges what is done already on credit, and says how long the debt takes', () => {
    const limiter = new RateLimiter({ perSecond: 10, burst: 5 })
    expect(limiter.charge('a', 0, 5)).toBe(0)
    expect(limiter.charge('a', 0, 3)).toBe(300)
    expect(limiter.charge('a', 100, 1)).toBe(300)
    expect(limiter.take('a', 399)).toBe(1)
    expect(limiter.charge('a', 1_000, 5)).toBe(0)
    expect(limiter.charge('b', 0, 1)).toBe(0)
  })

  it('forgets full buckets and only those', () => {
    const limiter = new RateLimiter({ perSecond: 1, burst: 2 })
    limiter.take('full again', 0)
    limiter.take('not yet', 0, 2)
    limiter.sweep(1000)
    expect(limiter.size).toBe(1)
    expect(limiter.take('not yet', 1000, 2)).toBe(1)
  })
})

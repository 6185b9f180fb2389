import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { RateLimiter } from '../rate-limiter.ts'
import type { Store } from './store.ts'
import { onBothEngines } from './test-support-engines.ts'

const NOW = 1_800_000_000_000
const RATE = { perSecond: 0.1, burst: 3 }

onBothEngines((engine, open, again) => {
  describe(`shared rates on ${engine}`, () => {
    let here: Store
    let there: Store
    beforeEach(async () => {
      here = await open()
      there = await again()
    })
    afterEach(async () => {
      await here.close()
      await there.close()
    })

    it('give a burst once, through whichever registry, and say when there is one again', async () => {
      const takes = [here, there, here, there, here].map(
        (store) => () => store.rates.take('x', 'a', RATE, NOW),
      )
      const waits = []
      for (const take of takes) waits.push(await take())
      expect(waits).toEqual([0, 0, 0, 10, 10])
      expect(await there.rates.take('x', 'a', RATE, NOW + 9_999)).toBe(1)
      expect(await there.rates.take('x', 'a', RATE, NOW + 10_000)).toBe(0)
      expect(await here.rates.take('x', 'a', RATE, NOW + 10_000)).toBe(10)
      // Back to the full burst, and no further.
      const later = NOW + 1_000_000
      for (const wait of [0, 0, 0, 10]) expect(await here.rates.take('x', 'a', RATE, later)).toBe(wait)
    })

    it('count each name and each key for itself', async () => {
      for (const [name, key] of [
        ['x', 'a'],
        ['x', 'b'],
        ['y', 'a'],
      ] as const) {
        expect(await here.rates.take(name, key, { perSecond: 0.1, burst: 1 }, NOW)).toBe(0)
        expect(await there.rates.take(name, key, { perSecond: 0.1, burst: 1 }, NOW)).toBe(10)
      }
    })

    it('give no more when many ask at once', async () => {
      const asked = Array.from({ length: 20 }, (_, index) =>
        (index % 2 === 0 ? here : there).rates.take('x', 'a', RATE, NOW),
      )
      expect((await Promise.all(asked)).filter((wait) => wait === 0)).toHaveLength(RATE.burst)
    })

    it('agree with the limiter of a process', async () => {
      // Eighths, which both count exactly.
      const rate = { perSecond: 0.125, burst: 3 }
      const limiter = new RateLimiter(rate, 10)
      for (const at of [0, 0, 4_000, 5_000, 12_000, 30_000, 30_000, 31_000, 60_000, 60_001]) {
        expect(await here.rates.take('x', 'a', rate, NOW + at), `at ${at}`).toBe(limiter.take('a', NOW + at))
      }
    })

    it('forget only what says nothing', async () => {
      for (const _ of [1, 2, 3]) await here.rates.take('x', 'a', RATE, NOW)
      await there.rates.purge(NOW + 29_999)
      expect(await here.rates.take('x', 'a', RATE, NOW + 1)).toBe(10)
      await there.rates.purge(NOW + 30_000)
      expect(await here.rates.take('x', 'a', RATE, NOW)).toBe(0)
    })
  })
})

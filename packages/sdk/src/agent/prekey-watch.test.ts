import { describe, expect, it } from 'vitest'
import { PrekeyWatch } from './prekey-watch.ts'

const MINUTE = 60_000
const full = { oneTime: 100, oneTimeKem: 100 }
const of = (oneTime: number, oneTimeKem = oneTime) => ({ oneTime, oneTimeKem })

describe('a watch over one-time prekeys', () => {
  it('says nothing at the first look: what is missing may be long gone', () => {
    expect(new PrekeyWatch().look(full, of(0), 0)).toBeUndefined()
  })

  it('tells of more than 50 fetched for nothing within ten minutes, of either kind', () => {
    for (const left of [of(49), of(49, 100), of(100, 49)]) {
      const watch = new PrekeyWatch()
      watch.look(full, full, 0)
      expect(watch.look(full, left, 10 * MINUTE)).toEqual({ taken: 51, seconds: 600 })
    }
  })

  it('lets 50 pass, and what came back with a KNOCK', () => {
    const watch = new PrekeyWatch()
    watch.look(full, full, 0)
    expect(watch.look(full, of(50), 10 * MINUTE)).toBeUndefined()
    // 90 fetched, 80 of them used by KNOCKs that came.
    const busy = new PrekeyWatch()
    busy.look(full, full, 0)
    expect(busy.look(of(20), of(10), 10 * MINUTE)).toBeUndefined()
  })

  it('counts each loss once', () => {
    const watch = new PrekeyWatch()
    watch.look(full, full, 0)
    expect(watch.look(full, of(10), MINUTE)).toBeDefined()
    expect(watch.look(full, of(10), 2 * MINUTE)).toBeUndefined()
  })

  it('judges by the rate when a machine slept', () => {
    const watch = new PrekeyWatch()
    watch.look(full, full, 0)
    expect(watch.look(full, of(20), 20 * MINUTE)).toBeUndefined()
  })

  it('takes keys that expire at both ends for no loss', () => {
    const watch = new PrekeyWatch()
    watch.look(full, full, 0)
    expect(watch.look(of(0), of(0), MINUTE)).toBeUndefined()
  })

  it('starts anew when what lies at the registry was replaced', () => {
    const watch = new PrekeyWatch()
    watch.look(full, full, 0)
    watch.forget()
    expect(watch.look(full, of(0), MINUTE)).toBeUndefined()
  })
})

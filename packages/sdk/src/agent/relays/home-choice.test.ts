import { describe, expect, it } from 'vitest'
import { chooseHome, noteFailure, type RelayView } from './home-choice.ts'

const NOW = 1_700_000_000_000
const relay = (url: string, latency?: number, downUntil = 0): RelayView => ({
  url,
  failures: 0,
  downUntil,
  ...(latency === undefined ? {} : { latency }),
})
const choose = (relays: RelayView[], home?: string, now = NOW) => {
  const { url, reason } = chooseHome(relays, home, now)
  return `${url} ${reason}`
}

describe('without a home', () => {
  it('takes the nearest, whatever the order of the list', () => {
    expect(choose([relay('a', 80), relay('b', 12), relay('c', 40)])).toBe('b nearest')
  })

  it('takes one that was measured before one that was not', () => {
    expect(choose([relay('a'), relay('b', 900)])).toBe('b nearest')
    expect(choose([relay('a'), relay('b')])).toBe('a nearest')
  })

  it('takes the only one of a list of one, measured or down', () => {
    expect(choose([relay('a', undefined, NOW + 1)])).toBe('a only')
  })

  it('takes the one that is to be tried first when all are down', () => {
    expect(choose([relay('a', 1, NOW + 9), relay('b', 2, NOW + 5)])).toBe('b last_resort')
  })
})

describe('with a home', () => {
  it.each([
    [100, 71, 'near_enough'],
    [100, 70, 'nearest'],
    [20, 1, 'near_enough'],
    [30, 5, 'nearest'],
    [21, 1, 'nearest'],
  ])('at %d ms, another at %d ms: %s', (home, other, reason) => {
    const url = reason === 'nearest' ? 'b' : 'a'
    expect(choose([relay('a', home), relay('b', other)], 'a')).toBe(`${url} ${reason}`)
  })

  it('does not go back and forth between two that take turns in being a little nearer', () => {
    let home = 'a'
    for (const [a, b] of [
      [50, 45],
      [45, 50],
      [52, 40],
      [41, 55],
    ] as const) {
      home = chooseHome([relay('a', a), relay('b', b)], home, NOW).url
      expect(home).toBe('a')
    }
  })

  it('stays when it could not be measured: the connection says whether it is there', () => {
    expect(choose([relay('a'), relay('b', 5)], 'a')).toBe('a near_enough')
  })

  it('that is down falls over to the nearest that is not', () => {
    const relays = [relay('a', 5, NOW + 1), relay('b', 90), relay('c', 60)]
    expect(choose(relays, 'a')).toBe('c fallback')
  })

  it('falls over, stays while that one is passed over, and goes back when it is clearly nearer', () => {
    const [near, far] = [relay('a', 5), relay('b', 100)]
    noteFailure(near, NOW)
    expect(choose([near, far], 'a')).toBe('b fallback')
    expect(choose([near, far], 'b', NOW + 29_999)).toBe('b fallback')
    expect(choose([near, far], 'b', NOW + 30_000)).toBe('a nearest')
  })

  it('does not go back for nothing', () => {
    const [a, b] = [relay('a', 20), relay('b', 22)]
    noteFailure(a, NOW)
    expect(choose([a, b], 'a')).toBe('b fallback')
    expect(choose([a, b], 'b', NOW + 600_000)).toBe('b near_enough')
  })

  it('stays, and is dialled on, when every one is down', () => {
    expect(choose([relay('a', 1, NOW + 9), relay('b', 2, NOW + 5)], 'a')).toBe('a last_resort')
  })

  it('is not passed over for ever by a clock that jumped ahead and back', () => {
    const [a, b] = [relay('a', 5), relay('b', 100)]
    noteFailure(a, NOW + 10 * 365 * 86_400_000)
    expect(choose([a, b], 'b')).toBe('a nearest')
  })
})

it('passes a relay over for longer each time it fails, ten minutes at most', () => {
  const view = relay('a', 5)
  const waits = Array.from({ length: 7 }, () => {
    noteFailure(view, NOW)
    return (view.downUntil - NOW) / 1000
  })
  expect(waits).toEqual([30, 60, 120, 240, 480, 600, 600])
})

import { expect, test } from 'vitest'
import { amidFromBytes, type Amid, type MessageType } from '@agentmesh/sdk/wire'
import { Admission } from './admission.ts'
import { DEFAULT_LIMITS } from './limits.ts'
import { Origin } from './origin.ts'
import type { Outlet } from './outlet.ts'

const NOW = 1_700_000_000_000
const VICTIM = amid(0)
const limits = {
  ...DEFAULT_LIMITS,
  knocks: { perSecond: 1, burst: 5 },
  knocksPerIp: { perSecond: 1, burst: 20 },
  receiversPerIp: { perSecond: 1, burst: 10 },
  presenceQueries: { perSecond: 1, burst: 5 },
  presenceQueriesPerIp: { perSecond: 1, burst: 8 },
}

function amid(number: number): Amid {
  const bytes = new Uint8Array(20)
  new DataView(bytes.buffer).setUint32(0, number)
  return amidFromBytes(bytes)
}

/** An agent of an address; of another relay when there is none. */
const agent = (number: number, origin: Origin | undefined): Outlet =>
  ({ amid: amid(number), origin }) as Outlet

/** How many of so many are taken, each from an agent of its own. */
function taken(admission: Admission, origin: Origin | undefined, count: number, type: MessageType): number {
  const waits = Array.from({ length: count }, (_, n) =>
    admission.send(agent(n + 1, origin), VICTIM, type, 100, NOW),
  )
  return waits.filter((wait) => wait === 0).length
}

test('KNOCKs of an address are limited together, whoever sends them, and those of another are not', () => {
  const admission = new Admission(limits)
  expect(taken(admission, new Origin('203.0.113.1'), 100, 'knock')).toBe(20)
  expect(taken(admission, new Origin('203.0.113.1'), 100, 'message')).toBe(100)
  expect(taken(admission, new Origin('203.0.113.2'), 100, 'knock')).toBe(20)
})

test('KNOCKs of one agent are limited before those of its address', () => {
  const admission = new Admission(limits)
  const outlet = agent(1, new Origin('203.0.113.1'))
  const waits = Array.from({ length: 10 }, () => admission.send(outlet, VICTIM, 'knock', 100, NOW))
  expect(waits).toEqual([0, 0, 0, 0, 0, 1, 1, 1, 1, 1])
})

test('an address begins to write to so many agents and no more, and goes on with those', () => {
  const admission = new Admission(limits)
  const origin = new Origin('203.0.113.1')
  const begin = (to: number) => admission.send(agent(to % 3, origin), amid(1000 + to), 'message', 100, NOW)
  const first = Array.from({ length: 20 }, (_, n) => begin(n) === 0)
  expect(first).toEqual(Array.from({ length: 20 }, (_, n) => n < 10))
  expect(Array.from({ length: 10 }, (_, n) => begin(n))).toEqual(Array(10).fill(0))
  expect(admission.send(agent(1, origin), amid(1010), 'message', 100, NOW + 1000)).toBe(0)
})

test('presence is told to an address, whoever asks, at its rate', () => {
  const admission = new Admission(limits)
  const origin = new Origin('203.0.113.1')
  const waits = Array.from({ length: 20 }, (_, n) => admission.presence(agent(n, origin), NOW))
  expect(waits.filter((wait) => wait === 0)).toHaveLength(8)
  expect(admission.presence(agent(1, new Origin('203.0.113.2')), NOW)).toBe(0)
})

test('what another relay let in is not counted under an address here', () => {
  expect(taken(new Admission(limits), undefined, 100, 'knock')).toBe(100)
})

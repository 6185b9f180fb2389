/** Where a peer is believed to be: what look-ups say, what a replayed record cannot do, and what a stranger's many peers cost. */
import { beforeEach, describe, expect, it } from 'vitest'
import { AgentMeshError, amidFromBytes, type AgentRecord, type Amid } from '../../wire/index.ts'
import type { Core } from '../core.ts'
import { PeerRelays } from './peer-relays.ts'

const SECOND = 1000
const HOUR = 3600 * SECOND
const ONE = 'wss://one.example/v1/connect'
const TWO = 'wss://two.example/v1/connect'

function amid(number: number): Amid {
  const bytes = new Uint8Array(20)
  new DataView(bytes.buffer).setUint32(0, number)
  return amidFromBytes(bytes)
}
const peer = amid(1)
const record = (relay_endpoint: string, sequence = 1, of = peer) =>
  ({ amid: of, relay_endpoint, sequence }) as AgentRecord

let now: number
let timers: { at: number; run: () => void }[]
/** Look-ups that the registry has not answered, oldest first. */
let asked: { peer: Amid; answer: (found: AgentRecord) => Promise<void>; fail: () => Promise<void> }[]
let known: number
let told: string[]
let relays: PeerRelays

/** After everything that is ready to run. */
const settled = () => new Promise<void>((resolve) => setImmediate(resolve))

beforeEach(() => {
  now = 1_700_000_000_000
  timers = []
  asked = []
  known = 0
  told = []
  const find = (of: Amid) =>
    new Promise((resolve, reject) => {
      asked.push({
        peer: of,
        answer: (found) => (resolve({ record: found }), settled()),
        fail: () => (reject(new AgentMeshError('REGISTRY_UNREACHABLE')), settled()),
      })
    })
  const core = {
    now: () => now,
    registries: { find },
    store: { tables: { contacts: { get: () => ({ recordSequence: known }) } } },
  } as unknown as Core
  const delay = (milliseconds: number, run: () => void) => {
    const timer = { at: now + milliseconds, run }
    timers.push(timer)
    return () => void timers.splice(timers.indexOf(timer), 1)
  }
  relays = new PeerRelays(core, delay, {
    onFound: (of) => void told.push(`found ${of === peer ? 'peer' : of}`),
    onMoved: (of) => void told.push(`moved ${of === peer ? 'peer' : of}`),
  })
})

/** Runs the timers that are due after so much time. */
function pass(milliseconds: number): void {
  now += milliseconds
  for (const timer of timers.filter(({ at }) => at <= now)) {
    timers.splice(timers.indexOf(timer), 1)
    timer.run()
  }
}

async function knownAt(url: string, sequence = 1): Promise<void> {
  expect(relays.at(peer)).toBeUndefined()
  await asked.shift()?.answer(record(url, sequence))
  expect(relays.at(peer)).toBe(url)
}

describe('a peer that nobody has asked for yet', () => {
  it('is looked up once, however often it is asked for, and then is where its record says', async () => {
    for (let n = 0; n < 3; n++) expect(relays.at(peer)).toBeUndefined()
    expect(asked).toHaveLength(1)
    await asked[0]?.answer(record(ONE))
    expect([relays.at(peer), told]).toEqual([ONE, ['found peer']])
    expect(timers).toEqual([])
  })

  it('is tried at our own home when the registry does not answer in time, and asked for again later', async () => {
    relays.at(peer)
    pass(2999)
    expect([relays.at(peer), told]).toEqual([undefined, []])
    pass(1)
    expect([relays.at(peer), told]).toEqual(['home', ['found peer']])
    // What the registry says in the end is news all the same.
    await asked.shift()?.answer(record(ONE))
    expect([relays.at(peer), told]).toEqual([ONE, ['found peer', 'moved peer']])
  })

  it('is tried at our own home when the registry cannot say, for half a minute', async () => {
    relays.at(peer)
    await asked.shift()?.fail()
    expect([relays.at(peer), asked.length]).toEqual(['home', 0])
    pass(30 * SECOND)
    expect([relays.at(peer), asked.length]).toEqual(['home', 1])
  })

  it('waits its turn behind eight look-ups, and not longer than the others', async () => {
    const many = Array.from({ length: 20 }, (_, n) => amid(n + 10))
    for (const other of many) relays.at(other)
    expect(asked).toHaveLength(8)
    await asked[0]?.answer(record(ONE, 1, many[0]))
    expect(asked.map((look) => look.peer)).toEqual(many.slice(0, 9))
    pass(3 * SECOND)
    expect(many.slice(1).map((other) => relays.at(other))).toEqual(Array(19).fill('home'))
  })
})

describe('a peer that is known', () => {
  it('is looked up again after an hour, and used where it was meanwhile', async () => {
    await knownAt(ONE)
    pass(HOUR - 1)
    expect([relays.at(peer), asked.length]).toEqual([ONE, 0])
    pass(1)
    expect([relays.at(peer), asked.length]).toEqual([ONE, 1])
    await asked.shift()?.fail()
    expect(relays.at(peer)).toBe(ONE)
  })

  it('is looked up when in doubt, ever more rarely while it stays where it was', async () => {
    await knownAt(ONE)
    const waits: number[] = []
    for (let n = 0; n < 4; n++) {
      let waited = 0
      for (; asked.length === 0; waited += SECOND) {
        pass(SECOND)
        relays.doubt(peer)
      }
      waits.push(waited / SECOND)
      await asked.shift()?.answer(record(ONE))
    }
    expect(waits).toEqual([5, 7, 9, 11])
    // It talks, so the next doubt is the first again.
    relays.heard(peer)
    pass(5 * SECOND)
    relays.doubt(peer)
    expect(asked).toHaveLength(1)
  })

  it('is looked up sooner when its relay cannot be reached', async () => {
    await knownAt(ONE)
    pass(SECOND)
    relays.doubt(peer)
    expect(asked).toHaveLength(0)
    relays.doubt(peer, true)
    expect(asked).toHaveLength(1)
  })

  it('has moved when a newer record says so, looked up or seen by the way', async () => {
    await knownAt(ONE)
    relays.note(record(TWO, 2))
    expect([relays.at(peer), told]).toEqual([TWO, ['found peer', 'moved peer']])
  })

  it('is not taken back by a record that is older than one seen here or in an earlier run', async () => {
    await knownAt(TWO, 5)
    relays.note(record(ONE, 4))
    expect([relays.at(peer), told]).toEqual([TWO, ['found peer']])
    relays.forget(peer)
    known = 6
    expect(relays.at(peer)).toBeUndefined()
    await asked.shift()?.answer(record(ONE, 5))
    expect(relays.at(peer)).toBe('home')
  })

  it('is looked up again after a clock that was ahead is set back', async () => {
    now += 24 * HOUR
    await knownAt(ONE)
    now -= 24 * HOUR
    expect([relays.at(peer), asked.length]).toEqual([ONE, 1])
  })
})

it('remembers ten thousand peers, and forgets the one not asked for longest', () => {
  for (let n = 0; n < 10_001; n++) relays.note(record(ONE, 1, amid(n)))
  expect(relays.at(amid(1))).toBe(ONE)
  expect(relays.at(amid(0))).toBeUndefined()
})

it('lets go of everything it waits for when it stops', () => {
  for (let n = 0; n < 20; n++) relays.at(amid(n))
  relays.stop()
  expect(timers).toEqual([])
})

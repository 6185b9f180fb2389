/** Connections to strangers' relays: what a slow, silent or hostile one can cost. */
import { beforeEach, describe, expect, it } from 'vitest'
import { systemRandom } from '../crypto/signing.ts'
import { AgentMeshError, amidFromBytes, newMessageId, type ErrorCode } from '../wire/index.ts'
import { deferred, type Deferred } from './deferred.ts'
import type { LinkEvents } from './relay-link.ts'
import { MAX_SENDERS, SENDER_IDLE_MS, SenderPool, type SenderLink } from './sender-pool.ts'
import type { SentResult } from './transport.ts'

class FakeLink implements SenderLink {
  readonly events: LinkEvents
  readonly asked: Deferred<SentResult>[] = []
  closed = false
  constructor(events: LinkEvents) {
    this.events = events
  }
  send = async () => {
    const answer = deferred<SentResult>()
    this.asked.push(answer)
    return answer.promise
  }
  close = async () => {
    this.closed = true
  }
}

let links: Map<string, FakeLink[]>
let timers: { at: number; run: () => void }[]
let clock: number
let ready: number
let onReady: () => void
let failed: [string, ErrorCode][]
let pool: SenderPool

const message = () => ({
  id: newMessageId(systemRandom),
  to: amidFromBytes(new Uint8Array(20)),
  type: 'message' as const,
  payload: new Uint8Array(1),
})
const url = (number: number) => `wss://relay-${number}.example/v1/connect`
const link = (number: number) => links.get(url(number))!.at(-1)!
const dialled = (number: number) => links.get(url(number))?.length ?? 0

/** Runs what is due when so much time has passed. */
function pass(milliseconds: number): void {
  const end = clock + milliseconds
  for (;;) {
    const [next] = timers.toSorted((left, right) => left.at - right.at)
    if (next === undefined || next.at > end) break
    timers.splice(timers.indexOf(next), 1)
    clock = next.at
    next.run()
  }
  clock = end
}

beforeEach(() => {
  links = new Map()
  timers = []
  clock = 1_700_000_000_000
  ready = 0
  onReady = () => {}
  failed = []
  pool = new SenderPool({
    open: (to, events) => {
      const made = new FakeLink(events)
      links.set(to, [...(links.get(to) ?? []), made])
      return made
    },
    onReady: () => {
      ready += 1
      onReady()
    },
    onFailed: (to, error) => failed.push([to, error.code]),
    random: (length) => new Uint8Array(length),
    now: () => clock,
    delay: (milliseconds, run) => {
      const timer = { at: clock + milliseconds, run }
      timers.push(timer)
      return () => {
        const index = timers.indexOf(timer)
        if (index >= 0) timers.splice(index, 1)
      }
    },
  })
})

describe('a connection', () => {
  it('is opened when it is wanted, once, and used when it is there', async () => {
    expect(pool.to(url(1))).toBeUndefined()
    expect(pool.to(url(1))).toBeUndefined()
    expect(dialled(1)).toBe(1)
    link(1).events.onConnected()
    expect(ready).toBe(1)
    const sent = pool.to(url(1))!.send(message())
    link(1).asked[0]!.resolve({ status: 'delivered' })
    expect(await sent).toEqual({ status: 'delivered' })
  })

  it('is closed when nothing was sent for a minute, and not before', async () => {
    pool.to(url(1))
    link(1).events.onConnected()
    pass(SENDER_IDLE_MS - 1)
    const sent = pool.to(url(1))!.send(message())
    link(1).asked[0]!.resolve({ status: 'stored' })
    await sent
    pass(SENDER_IDLE_MS - 1)
    expect(link(1).closed).toBe(false)
    pass(1)
    expect(link(1).closed).toBe(true)
    expect(pool.open).toBe(0)
    // Going idle is no failure: the next one is dialled at once.
    expect(failed).toEqual([])
    pool.to(url(1))
    expect(dialled(1)).toBe(2)
  })

  it('to a relay that answers no SEND ends after a minute', async () => {
    pool.to(url(1))
    link(1).events.onConnected()
    pool
      .to(url(1))!
      .send(message())
      .catch(() => {})
    pass(SENDER_IDLE_MS)
    expect(link(1).closed).toBe(true)
    expect(failed).toEqual([[url(1), 'RELAY_DISCONNECTED']])
    expect(pool.to(url(1))).toBeUndefined()
  })

  it('on which a relay hands something over is ended: nobody would take it', () => {
    pool.to(url(1))
    link(1).events.onConnected()
    link(1).events.onReceive({} as never)
    expect(link(1).closed).toBe(true)
  })
})

describe('a relay out of reach', () => {
  it('is dialled again while something waits for it, each time later', () => {
    onReady = () => void pool.to(url(1))
    pool.to(url(1))
    const waits: number[] = []
    for (let turn = 0; turn < 4; turn++) {
      link(1).events.onEnd(new AgentMeshError('RELAY_DISCONNECTED'))
      expect(pool.to(url(1))).toBeUndefined()
      const before = clock
      pass(timers[0]!.at - clock)
      waits.push(clock - before)
    }
    expect(waits).toEqual([250, 500, 1000, 2000])
    expect(dialled(1)).toBe(5)
    expect(failed).toHaveLength(4)
  })

  it('is forgotten when nothing waits for it', () => {
    pool.to(url(1))
    link(1).events.onEnd(new AgentMeshError('RELAY_DISCONNECTED'))
    pass(300_000)
    expect(dialled(1)).toBe(1)
    expect(timers).toEqual([])
  })

  it('is left alone as long as it asks, within reason', () => {
    onReady = () => void pool.to(url(1))
    pool.to(url(1))
    link(1).events.onEnd(new AgentMeshError('RATE_LIMITED', undefined, { retryAfterSeconds: 86_400 }))
    pass(299_999)
    expect(dialled(1)).toBe(1)
    pass(1)
    expect(dialled(1)).toBe(2)
  })
})

describe('many relays', () => {
  const full = () => {
    for (let number = 0; number < MAX_SENDERS; number++) {
      pool.to(url(number))
      link(number).events.onConnected()
      clock += 1
    }
  }

  it('take no more connections than the bound: the one idle longest makes room', () => {
    full()
    pool.to(url(99))
    expect(dialled(99)).toBe(1)
    expect(pool.open).toBe(MAX_SENDERS)
    expect(link(0).closed).toBe(true)
    expect(link(1).closed).toBe(false)
  })

  it('that all keep us waiting do not push each other out, and the next comes when one answers', async () => {
    full()
    for (let number = 0; number < MAX_SENDERS; number++) {
      pool
        .to(url(number))!
        .send(message())
        .catch(() => {})
    }
    expect(pool.to(url(99))).toBeUndefined()
    expect(dialled(99)).toBe(0)
    onReady = () => void pool.to(url(99))
    link(7).asked[0]!.resolve({ status: 'delivered' })
    await new Promise((resolve) => setImmediate(resolve))
    expect(dialled(99)).toBe(1)
    expect(link(7).closed).toBe(true)
    expect(pool.open).toBe(MAX_SENDERS)
  })
})

it('closed, it dials nobody', async () => {
  pool.to(url(1))
  await pool.close()
  expect(link(1).closed).toBe(true)
  pool.to(url(2))
  expect(dialled(2)).toBe(0)
  expect(timers).toEqual([])
})

/**
 * The router against a mailbox that answers late and in its own time, as a database elsewhere would: whatever agents do in
 * between, nothing promised is lost and each pair of agents keeps its order.
 */
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { systemRandom } from '@agentmesh/sdk/crypto/signing'
import {
  AgentMeshError,
  amidFromBytes,
  messageIdFromBytes,
  type Amid,
  type MessageType,
  type RelayFrame,
} from '@agentmesh/sdk/wire'
import { Counters } from './counters.ts'
import { DEFAULT_LIMITS, type RelayLimits } from './limits.ts'
import { silentLogger } from './logger.ts'
import { MessageInPlace } from './in-place/message-in-place.ts'
import type { Mailbox, MailboxMessage, Page, Place } from './mailbox.ts'
import { Origin } from './origin.ts'
import type { Outlet } from './outlet.ts'
import { Router } from './router.ts'
import { SqliteMailbox } from './sqlite-mailbox.ts'

const turn = async () => new Promise<void>((resolve) => setImmediate(resolve))

/** Calls take effect in order; each answer takes some turns longer. */
class LateMailbox implements Mailbox {
  readonly #inner: SqliteMailbox
  readonly #turns: () => number
  #line: Promise<unknown> = Promise.resolve()
  failing = false
  /** Calls that have not been answered. */
  pending = 0

  constructor(limits: RelayLimits, now: () => number, turns: () => number) {
    this.#inner = new SqliteMailbox(':memory:', limits, now)
    this.#turns = turns
  }
  get messages() {
    return this.#inner.messages
  }
  get bytes() {
    return this.#inner.bytes
  }
  async #late<T>(call: () => Promise<T>): Promise<T> {
    const result = this.#line.then(async () => {
      if (this.failing) throw new AgentMeshError('RELAY_STORE_FAILED')
      return call()
    })
    this.#line = result.catch(() => {})
    const turns = this.#turns()
    this.pending += 1
    try {
      return await result
    } finally {
      for (let left = turns; left > 0; left--) await turn()
      this.pending -= 1
    }
  }
  store = async (message: MailboxMessage, place?: number) =>
    this.#late(async () => this.#inner.store(message, place))
  page = async (to: Amid, page: Page) => this.#late(async () => this.#inner.page(to, page))
  count = async (to: Amid) => this.#late(async () => this.#inner.count(to))
  remove = async (to: Amid, messages: readonly Place[], stateCounter: number) =>
    this.#late(async () => this.#inner.remove(to, messages, stateCounter))
  stateCounter = async (of: Amid) => this.#late(async () => this.#inner.stateCounter(of))
  purge = async () => this.#late(async () => this.#inner.purge())
  check = async () => !this.failing
  close = async () => this.#inner.close()
}

class FakeAgent implements Outlet {
  readonly amid: Amid
  readonly origin: Origin | undefined = undefined
  readonly frames: RelayFrame[] = []
  readonly #router: () => Router
  connected = true
  acknowledged = 0

  constructor(amid: Amid, router: () => Router) {
    this.amid = amid
    this.#router = router
  }
  deliver(frame: RelayFrame): void {
    if (this.connected) this.frames.push(frame)
  }
  cut(code: string): void {
    if (!this.connected) return
    this.connected = false
    this.#router().detach(this)
    this.frames.push({ frame: 'ERROR', code: code as 'SLOW_READER', message: '', fatal: true })
  }
  received() {
    return this.frames.flatMap((frame) => (frame.frame === 'RECEIVE' ? [frame] : []))
  }
  outcome(id: string) {
    const sent = this.frames.filter((frame) => frame.frame === 'SENT' && frame.id === id).at(-1)
    return sent?.frame === 'SENT' ? (sent.code ?? sent.status) : undefined
  }
}

const amid = (number: number) => amidFromBytes(new Uint8Array(20).fill(number))
function messageId(number: number) {
  const bytes = Uint8Array.from([0, 0, 0, 0, 0, 0, 0x40, 0, 0x80, 0, 0, 0, 0, 0, 0, 0])
  new DataView(bytes.buffer).setUint32(0, number)
  return messageIdFromBytes(bytes)
}

function setUp(limits: Partial<RelayLimits> = {}, turns: () => number = () => 0) {
  const all = { ...DEFAULT_LIMITS, ...limits }
  const clock = { now: 1_000_000 }
  const now = () => clock.now
  const mailbox = new LateMailbox(all, now, turns)
  const router: Router = new Router({
    mailbox,
    limits: all,
    counters: new Counters(),
    logger: silentLogger,
    now,
    random: systemRandom,
  })
  const agent = async (number: number, presence: 'online' | 'dnd' = 'online', shown = 0) => {
    const outlet = new FakeAgent(amid(number), () => router)
    await router.attach(outlet, presence, shown)
    return outlet
  }
  const send = (from: Outlet, to: Amid, number: number, type: MessageType = 'message') => {
    const payload = Uint8Array.of(number)
    router.send(from, MessageInPlace.of({ id: messageId(number), to, type, payload }))
    return messageId(number)
  }
  /** Until the mailbox has answered everything and nobody asked for more. */
  const quiet = async () => {
    for (let idle = 0; idle < 3; idle = mailbox.pending === 0 ? idle + 1 : 0) await turn()
  }
  return { mailbox, router, agent, send, quiet, clock }
}

describe('Router', () => {
  it('refuses when the store fails, and cuts off a connection it cannot drain', async () => {
    const { mailbox, agent, send, quiet } = setUp()
    const alice = await agent(1)
    mailbox.failing = true
    const id = send(alice, amid(2), 1)
    await quiet()
    expect(alice.outcome(id)).toBe('RELAY_STORE_FAILED')
    const bob = await agent(2)
    await quiet()
    expect(bob.frames).toMatchObject([{ frame: 'ERROR', code: 'RELAY_STORE_FAILED' }])
    mailbox.failing = false
    const again = await agent(2)
    send(alice, amid(2), 1)
    await quiet()
    expect(again.received()).toHaveLength(1)
  })

  it('cuts off who acknowledges nothing, not who is merely idle', async () => {
    const { router, agent, send, quiet, clock } = setUp({ ackTimeoutMs: 1000 })
    const alice = await agent(1)
    const slow = await agent(2)
    send(alice, slow.amid, 1)
    clock.now += 1001
    router.tick()
    await quiet()
    expect([alice.connected, slow.connected]).toEqual([true, false])
  })

  it('tells an agent the highest state counter it had shown before, and never less', async () => {
    const { router, agent, quiet } = setUp({}, () => 2)
    const seen = (outlet: FakeAgent) =>
      outlet.frames.flatMap((frame) => (frame.frame === 'CONNECTED' ? [frame.stateCounter] : []))
    const first = await agent(1, 'online', 40)
    router.acknowledge(first, 0, 50)
    router.acknowledge(first, 0, 45)
    const replacing = await agent(1, 'online', 7)
    router.tick()
    await quiet()
    router.detach(replacing)
    const last = await agent(1, 'online', 60)
    expect([seen(first), seen(replacing), seen(last)]).toEqual([[0], [50], [50]])
  })

  it('keeps the state counter of an ACK in the commit that removes what was acknowledged', async () => {
    const { mailbox, router, agent, send, quiet } = setUp()
    const alice = await agent(1)
    send(alice, amid(2), 1)
    await quiet()
    const bob = await agent(2)
    await quiet()
    expect(bob.received()).toHaveLength(1)
    router.acknowledge(bob, 1, 9)
    await quiet()
    // No tick, and the connection is not over: what a relay that is killed now leaves behind.
    expect([await mailbox.count(bob.amid), await mailbox.stateCounter(bob.amid)]).toEqual([0, 9])
  })

  it('writes the counters of what it delivered without storing it at the next tick', async () => {
    const { mailbox, router, agent, send, quiet } = setUp()
    const [alice, bob] = [await agent(1), await agent(2)]
    await quiet()
    send(alice, bob.amid, 1)
    router.acknowledge(bob, 1, 9)
    expect(await mailbox.stateCounter(bob.amid)).toBe(0)
    router.tick()
    await quiet()
    expect(await mailbox.stateCounter(bob.amid)).toBe(9)
    mailbox.failing = true
    router.acknowledge(bob, 1, 10)
    router.tick()
    await quiet()
    mailbox.failing = false
    router.tick()
    await quiet()
    expect(await mailbox.stateCounter(bob.amid)).toBe(10)
  })

  it('keeps counters of so many agents of an address and no more', async () => {
    const { mailbox, router, quiet } = setUp({ stateCountersPerIp: { perSecond: 0.001, burst: 2 } })
    const origin = new Origin('192.0.2.1')
    for (const number of [1, 2, 3]) {
      const outlet = Object.assign(new FakeAgent(amid(number), () => router), { origin })
      await router.attach(outlet, 'online', 5)
    }
    router.tick()
    await quiet()
    const kept = await Promise.all([1, 2, 3].map(async (number) => mailbox.stateCounter(amid(number))))
    expect(kept).toEqual([5, 5, 0])
  })

  it('bounds what is unacknowledged over all connections together', async () => {
    const { router, agent, send, quiet } = setUp({ totalWindowBytes: 2 })
    const alice = await agent(1)
    const [bob, carol] = [await agent(2), await agent(3)]
    send(alice, bob.amid, 1)
    send(alice, bob.amid, 2)
    const id = send(alice, carol.amid, 3)
    await quiet()
    expect([router.windowBytes, alice.outcome(id)]).toEqual([2, 'stored'])
    expect(carol.received()).toEqual([])
    router.acknowledge(bob, 2, 0)
    router.tick()
    await quiet()
    expect(carol.received()).toHaveLength(1)
  })

  it('keeps to itself what a stranger’s ACK would claim', async () => {
    const { router, agent, send } = setUp()
    const alice = await agent(1)
    const bob = await agent(2)
    const id = send(alice, bob.amid, 1)
    router.acknowledge(new FakeAgent(bob.amid, () => router), 1, 0)
    expect(alice.outcome(id)).toBeUndefined()
  })

  it('puts what a connection left in front of what came to the mailbox since', async () => {
    const { router, agent, send, quiet } = setUp({ windowMessages: 3 })
    const [alice, first] = [await agent(1), await agent(2)]
    for (const number of [1, 2, 3, 4, 5]) send(alice, first.amid, number)
    await quiet()
    // 4 is sent from the mailbox; 2 and 3 are nowhere else, 5 waits.
    router.acknowledge(first, 1, 0)
    await quiet()
    first.cut('SLOW_READER')
    send(alice, first.amid, 6)
    const again = await agent(2)
    await quiet()
    router.acknowledge(again, 3, 0)
    await quiet()
    expect(again.received().map((each) => each.payload[0])).toEqual([2, 3, 4, 5, 6])
  })

  it('drains again from the front when told that another relay stored something', async () => {
    const { mailbox, router, agent, quiet, clock } = setUp({}, () => 2)
    const bob = await agent(2)
    const elsewhere = async (number: number, place?: number) => {
      const [to, from, id, payload] = [bob.amid, amid(9), messageId(number), Uint8Array.of(number)]
      await mailbox.store({ to, from, id, type: 'message', timestamp: clock.now, payload }, place)
    }
    const received = () => bob.received().map((each) => each.payload[0])
    await quiet()
    await elsewhere(1)
    router.mailArrived(bob.amid)
    await quiet()
    expect(received()).toEqual([1])
    // Told while it reads, and about what stands in front of all it was sent.
    router.mailArrived(bob.amid)
    const stored = elsewhere(2, 0)
    router.mailArrived(bob.amid)
    await stored
    await quiet()
    expect(received()).toEqual([1, 2])
    router.acknowledge(bob, 2, 0)
    await quiet()
    expect([mailbox.messages, router.windowBytes]).toEqual([0, 0])
  })

  it('sends nothing again that was acknowledged while the page with it was read', async () => {
    const { mailbox, router, agent, send, quiet } = setUp({}, () => 2)
    const alice = await agent(1)
    send(alice, amid(2), 1)
    await quiet()
    const bob = await agent(2)
    await quiet()
    router.mailArrived(bob.amid)
    // Past the end of the mailbox, and on to its front.
    for (let turns = 0; turns < 4; turns++) await turn()
    router.acknowledge(bob, 1, 0)
    await quiet()
    expect([bob.received().length, mailbox.messages]).toEqual([1, 0])
  })

  const sender = fc.constantFrom(1 as const, 2 as const)
  const step = fc.oneof(
    { weight: 6, arbitrary: fc.record({ do: fc.constant('message' as const), from: sender }) },
    { weight: 1, arbitrary: fc.record({ do: fc.constant('knock' as const), from: sender }) },
    { weight: 1, arbitrary: fc.record({ do: fc.constant('resend' as const), from: sender }) },
    { weight: 3, arbitrary: fc.constant({ do: 'ack' as const }) },
    { weight: 1, arbitrary: fc.constant({ do: 'leave' as const }) },
    { weight: 1, arbitrary: fc.constant({ do: 'connect' as const }) },
    { weight: 1, arbitrary: fc.constantFrom({ do: 'dnd' as const }, { do: 'online' as const }) },
    { weight: 2, arbitrary: fc.constant({ do: 'turn' as const }) },
    { weight: 2, arbitrary: fc.constant({ do: 'quiet' as const }) },
  )

  /** One history; the receiver takes everything in the end. */
  async function play(steps: (typeof step extends fc.Arbitrary<infer T> ? T : never)[], turns: () => number) {
    const limits = { windowMessages: 3, senderMessages: 1000, mailboxMessages: 1000 }
    const { mailbox, router, agent, send, quiet } = setUp(limits, turns)
    const senders = { 1: await agent(1), 2: await agent(2) }
    const sent: { from: 1 | 2; number: number; type: 'message' | 'knock' }[] = []
    const connections: FakeAgent[] = []
    const here = () => connections.findLast((each) => each.connected)
    const connect = () => {
      const outlet = new FakeAgent(amid(3), () => router)
      connections.push(outlet)
      void router.attach(outlet, 'online', 0)
    }
    const acknowledgeAll = (outlet: FakeAgent | undefined) => {
      const last = outlet?.received().at(-1)
      if (outlet === undefined || last === undefined || last.sequence === outlet.acknowledged) return false
      outlet.acknowledged = last.sequence
      router.acknowledge(outlet, last.sequence, 0)
      return true
    }
    for (const each of steps) {
      switch (each.do) {
        case 'message':
        case 'knock': {
          const number = sent.length + 1
          sent.push({ from: each.from, number, type: each.do })
          send(senders[each.from], amid(3), number, each.do)
          break
        }
        case 'resend': {
          const last = sent.findLast(({ from }) => from === each.from)
          if (last !== undefined) send(senders[each.from], amid(3), last.number, last.type)
          break
        }
        case 'ack':
          acknowledgeAll(here())
          break
        case 'leave':
          here()?.cut('SLOW_READER')
          break
        case 'connect':
          connect()
          break
        case 'turn':
          await turn()
          break
        case 'quiet':
          await quiet()
          break
        default: {
          const outlet = here()
          if (outlet) router.setPresence(outlet, each.do)
        }
      }
    }
    if (here() === undefined) connect()
    router.setPresence(here()!, 'online')
    do await quiet()
    while (acknowledgeAll(here()))
    await mailbox.close()
    return { sent, senders, connections, left: mailbox.messages, windowBytes: router.windowBytes }
  }

  it('loses nothing it promised and keeps the order, whatever agents and mailbox do meanwhile', async () => {
    const history = fc.array(step, { minLength: 10, maxLength: 120, size: 'max' })
    const turns = fc.array(fc.integer({ min: 0, max: 4 }), { minLength: 50, maxLength: 50 })
    await fc.assert(
      fc.asyncProperty(history, turns, async (steps, delays) => {
        let calls = 0
        const { sent, senders, connections, left, windowBytes } = await play(
          steps,
          () => delays[calls++ % delays.length]!,
        )
        const numbers = (connection: FakeAgent, from: number) =>
          connection.received().flatMap((each) => (each.from === amid(from) ? [each.payload[0]!] : []))
        for (const from of [1, 2] as const) {
          const all = connections.flatMap((connection) => numbers(connection, from))
          const own = sent.filter((each) => each.from === from)
          expect(new Set(all)).toEqual(new Set(own.map(({ number }) => number)))
          const messages = own.filter(({ type }) => type === 'message').map(({ number }) => number)
          expect([...new Set(all)].filter((number) => messages.includes(number))).toEqual(messages)
          for (const { number } of own) {
            expect(senders[from].outcome(messageId(number))).toMatch(/^(delivered|stored)$/)
          }
        }
        expect([left, windowBytes]).toEqual([0, 0])
      }),
      { numRuns: 300 },
    )
  })

  it('sends a connection no message twice that it has not acknowledged', async () => {
    const { router, agent, send, quiet } = setUp({ windowMessages: 8 })
    const alice = await agent(1)
    send(alice, amid(2), 1)
    send(alice, amid(2), 2, 'knock')
    await quiet()
    const bob = await agent(2, 'dnd')
    await quiet()
    send(alice, amid(2), 1)
    router.setPresence(bob, 'online')
    send(alice, amid(2), 3)
    await quiet()
    send(alice, amid(2), 3)
    await quiet()
    expect(bob.received().map((each) => each.payload[0])).toEqual([1, 2, 3])
    expect([1, 2, 3].map((number) => alice.outcome(messageId(number)))).toEqual([
      'stored',
      'stored',
      'stored',
    ])
  })
})

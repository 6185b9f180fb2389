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
import type { Mailbox, MailboxMessage, Page } from './mailbox.ts'
import { Router, type Outlet } from './router.ts'
import { SqliteMailbox } from './sqlite-mailbox.ts'

const turn = async () => new Promise<void>((resolve) => setImmediate(resolve))

/** Calls take effect in order; each answer takes some turns longer. */
class LateMailbox implements Mailbox {
  readonly #inner: SqliteMailbox
  readonly #turns: () => number
  #line: Promise<unknown> = Promise.resolve()
  failing = false

  constructor(limits: RelayLimits, now: () => number, turns: () => number) {
    this.#inner = new SqliteMailbox(':memory:', limits, now)
    this.#turns = turns
  }
  get lastPosition() {
    return this.#inner.lastPosition
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
    try {
      return await result
    } finally {
      for (let left = turns; left > 0; left--) await turn()
    }
  }
  store = async (message: MailboxMessage) => this.#late(async () => this.#inner.store(message))
  page = async (to: Amid, page: Page) => this.#late(async () => this.#inner.page(to, page))
  count = async (to: Amid) => this.#late(async () => this.#inner.count(to))
  remove = async (to: Amid, positions: readonly number[]) =>
    this.#late(async () => this.#inner.remove(to, positions))
  purge = async () => this.#late(async () => this.#inner.purge())
  check = async () => !this.failing
  close = async () => this.#inner.close()
}

class FakeAgent implements Outlet {
  readonly amid: Amid
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
    return this.frames.filter((frame) => frame.frame === 'RECEIVE')
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
  const agent = async (number: number, presence: 'online' | 'dnd' = 'online') => {
    const outlet = new FakeAgent(amid(number), () => router)
    await router.attach(outlet, presence)
    return outlet
  }
  const send = (from: Outlet, to: Amid, number: number, type: MessageType = 'message') => {
    router.send(from, { frame: 'SEND', id: messageId(number), to, type, payload: Uint8Array.of(number) })
    return messageId(number)
  }
  const quiet = async () => {
    for (let index = 0; index < 40; index++) await turn()
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
  })

  it('keeps to itself what a stranger’s ACK would claim', async () => {
    const { router, agent, send } = setUp()
    const alice = await agent(1)
    const bob = await agent(2)
    const id = send(alice, bob.amid, 1)
    router.acknowledge(new FakeAgent(bob.amid, () => router), 1)
    expect(alice.outcome(id)).toBeUndefined()
  })

  it('loses nothing it promised and keeps the order, whatever agents and mailbox do meanwhile', async () => {
    const step = fc.oneof(
      { weight: 6, arbitrary: fc.record({ do: fc.constant('send' as const), from: fc.constantFrom(1, 2) }) },
      {
        weight: 1,
        arbitrary: fc.record({ do: fc.constant('resend' as const), from: fc.constantFrom(1, 2) }),
      },
      { weight: 3, arbitrary: fc.constant({ do: 'ack' as const }) },
      { weight: 1, arbitrary: fc.constant({ do: 'leave' as const }) },
      { weight: 2, arbitrary: fc.constant({ do: 'connect' as const }) },
      { weight: 1, arbitrary: fc.constantFrom({ do: 'dnd' as const }, { do: 'online' as const }) },
      { weight: 4, arbitrary: fc.constant({ do: 'turn' as const }) },
    )
    await fc.assert(
      fc.asyncProperty(
        fc.array(step, { maxLength: 60 }),
        fc.infiniteStream(fc.integer({ min: 0, max: 3 })),
        async (steps, turns) => {
          const { mailbox, router, agent, send, quiet } = setUp(
            { windowMessages: 3, senderMessages: 1000, mailboxMessages: 1000 },
            () => turns.next().value as number,
          )
          const senders = { 1: await agent(1), 2: await agent(2) }
          const sent: { from: 1 | 2; number: number }[] = []
          const sessions: FakeAgent[] = []
          const here = () => sessions.findLast((each) => each.connected)
          const connect = () => {
            const outlet = new FakeAgent(amid(3), () => router)
            sessions.push(outlet)
            void router.attach(outlet, 'online')
          }
          for (const each of steps) {
            if (each.do === 'send') {
              const number = sent.length + 1
              sent.push({ from: each.from as 1 | 2, number })
              send(senders[each.from as 1 | 2], amid(3), number)
            } else if (each.do === 'resend') {
              const last = sent.findLast(({ from }) => from === each.from)
              if (last !== undefined) send(senders[last.from], amid(3), last.number)
            } else if (each.do === 'ack') {
              const agentHere = here()
              const last = agentHere?.received().at(-1)
              if (agentHere && last?.frame === 'RECEIVE') router.acknowledge(agentHere, last.sequence)
            } else if (each.do === 'leave') here()?.cut('SLOW_READER')
            else if (each.do === 'connect') connect()
            else if (each.do === 'turn') await turn()
            else {
              const agentHere = here()
              if (agentHere) router.setPresence(agentHere, each.do)
            }
          }
          // In the end the receiver takes everything.
          connect()
          for (let round = 0; round < 60; round++) {
            await quiet()
            const agentHere = here()
            const last = agentHere?.received().at(-1)
            if (!agentHere || last?.frame !== 'RECEIVE' || last.sequence === agentHere.acknowledged) break
            agentHere.acknowledged = last.sequence
            router.acknowledge(agentHere, last.sequence)
          }
          await quiet()
          for (const from of [1, 2] as const) {
            const numbers = sessions
              .flatMap((each) => each.received())
              .flatMap((frame) =>
                frame.frame === 'RECEIVE' && frame.from === amid(from) ? [frame.payload[0]!] : [],
              )
            const firsts = [...new Set(numbers)]
            const own = sent.filter((each) => each.from === from).map(({ number }) => number)
            expect(firsts).toEqual(own)
            for (const number of own) {
              expect(senders[from].outcome(messageId(number))).toMatch(/^(delivered|stored)$/)
            }
          }
          expect(mailbox.messages).toBe(0)
          expect(router.windowBytes).toBe(0)
          await mailbox.close()
        },
      ),
      { numRuns: 60 },
    )
  })
})

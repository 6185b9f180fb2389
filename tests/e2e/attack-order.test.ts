/** What order, limits, clocks and relays that lose things can do to messages whose send() resolved. */
import { AgentMeshError, defaultPolicy, newMessageId, type Agent } from '@agentmesh/sdk'
import { systemRandom } from '@agentmesh/sdk/crypto/signing'
import type { RequestPayload } from '@agentmesh/sdk/wire'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { HostileRelay } from '../support/hostile-relay.ts'
import { FLIGHTS, stagesOf, TestNetwork } from '../support/network.ts'

let network: TestNetwork
let relay: HostileRelay
let alice: Agent
let bob: Agent
let seen: unknown[]
/** How far the clock of everybody is ahead, and of Alice alone. */
let skew: number
let aliceSkew: number

const now = (): number => Date.now() + skew
const ask = (n: unknown) => ({ intent: FLIGHTS, parameters: { n } })

beforeEach(async () => {
  skew = 0
  aliceSkew = 0
  network = await TestNetwork.start(now)
  relay = await HostileRelay.start()
  seen = []
  bob = await network.agent('bob', { relays: [relay.url] }, { now })
  bob.on('request', ({ payload }) => {
    seen.push(payload.parameters['n'])
    return { results: payload.parameters['n'] }
  })
  alice = await network.agent('alice', { relays: [relay.url] }, { now: () => now() + aliceSkew })
})
afterEach(async () => {
  await network.close()
  await relay.close()
})

test('a message too large for its envelope fails alone, and those beside it arrive', async () => {
  const large = await alice.send(bob.amid, ask('a'.repeat(65_300)))
  const small = await alice.send(bob.amid, ask(1))
  expect(await small.answer({ timeoutSeconds: 30 })).toMatchObject({ payload: { results: 1 } })
  expect((await stagesOf(large)).at(-1)).toMatchObject({ stage: 'failed', code: 'LIMIT_SIZE' })
})

test('what no envelope can carry is refused by send(), and does not stand in the way of others', async () => {
  let deep: unknown = 1
  for (let level = 0; level < 40; level++) deep = [deep]
  for (const bad of [Number.NaN, '\ud800', deep, 'a'.repeat(70_000), 1n]) {
    await expect(alice.send(bob.amid, ask(bad))).rejects.toBeInstanceOf(AgentMeshError)
  }
  const sent = await alice.send(bob.amid, ask(1))
  expect(await sent.answer({ timeoutSeconds: 30 })).toMatchObject({ payload: { results: 1 } })
})

test('one id for two peers is refused, not sent to one of them only', async () => {
  const id = newMessageId(systemRandom)
  const carol = await network.agent('carol', { relays: [relay.url] }, { now })
  await alice.send(bob.amid, ask(1), { id })
  await expect(alice.send(carol.amid, ask(2), { id })).rejects.toMatchObject({ code: 'INVALID_ID' })
})

test('a clock that jumps back does not turn the order of waiting messages round', async () => {
  const first = alice.send(bob.amid, ask(1))
  aliceSkew = -60_000
  const second = alice.send(bob.amid, ask(2))
  await Promise.all([first, second].map(async (sent) => (await sent).answer({ timeoutSeconds: 30 })))
  expect(seen).toEqual([1, 2])
})

test('two sides whose windows are full of questions still get answers, in the order of what was said', async () => {
  const open = { knocks_per_minute: 30, messages_per_minute: 10_000 }
  for (const agent of [alice, bob]) agent.setPolicy({ ...defaultPolicy(), rate_limit: open })
  const opening = await alice.send(bob.amid, ask('open'), { sessionType: 'stream' })
  await opening.answer()
  const { session_id } = alice.sessions()[0]!
  let answer = (): void => {}
  const asked = new Promise<void>((resolve) => (answer = resolve))
  const heard = new Map<Agent, unknown[]>([
    [alice, []],
    [bob, []],
  ])
  for (const agent of [alice, bob]) {
    agent.events.on('message', ({ direction, type, payload }) => {
      if (direction === 'in' && type === 'request')
        heard.get(agent)?.push((payload as RequestPayload).parameters['n'])
    })
    agent.on('request', async () => {
      await asked
      return { results: 'at last' }
    })
  }
  const count = 100
  const questions: Promise<unknown>[] = []
  for (let n = 0; n < count; n++) {
    for (const agent of [alice, bob]) {
      const id = await agent.conversation(session_id).send('request', { ...ask(n) })
      questions.push(agent.sent(id).answer({ timeoutSeconds: 60 }))
    }
  }
  answer()
  expect(await Promise.all(questions)).toHaveLength(2 * count)
  const inOrder = Array.from({ length: count }, (_, n) => n)
  expect([...heard.values()]).toEqual([inOrder, inOrder])
})

test('a relay that loses a receipt does not silence the session for good', async () => {
  const first = await alice.send(bob.amid, ask(1))
  await first.answer()
  // The first thing Alice says from here on is the receipt for the answer.
  const lost: unknown[] = []
  relay.mischief = (message) => {
    if (message.from !== alice.amid || message.type !== 'message' || lost.length > 0) return [message]
    lost.push(message)
    return []
  }
  await expect.poll(() => lost).toHaveLength(1)
  const second = await alice.send(bob.amid, ask(2))
  const { session_id } = bob.sessions()[0]!
  const arrived = () => bob.session(session_id).messages.filter(({ type }) => type === 'request').length
  await expect.poll(arrived).toBe(2)
  skew = 11 * 60_000
  expect(await second.answer({ timeoutSeconds: 40 })).toMatchObject({ payload: { results: 2 } })
  expect(seen).toEqual([1, 2])
})

test('a relay that loses a CLOSE does not leave the other side talking to nobody', async () => {
  await (await alice.send(bob.amid, ask(1))).answer()
  const lost: unknown[] = []
  const resets: unknown[] = []
  relay.mischief = (message) => {
    if (message.type === 'reset') resets.push(message)
    if (message.type !== 'close' || lost.length > 0) return [message]
    lost.push(message)
    return []
  }
  await bob.conversation(bob.sessions()[0]!.session_id).close()
  await expect.poll(() => lost).toHaveLength(1)
  const second = await alice.send(bob.amid, ask(2))
  const arrived = () => relay.passed.length
  const before = arrived()
  await expect.poll(arrived).toBeGreaterThan(before)
  // The CLOSE comes again, and says that the second request was not read.
  skew = 60_000
  expect(await second.answer({ timeoutSeconds: 40 })).toMatchObject({ payload: { results: 2 } })
  expect(seen).toEqual([1, 2])
  expect(resets).toEqual([])
})

test('a relay that says "later" with the largest number is not asked without pause', async () => {
  const carol = await network.agent('carol', { relays: [relay.url] }, { now })
  relay.refusal = ({ from }) =>
    from === alice.amid ? { code: 'RATE_LIMITED', retryAfterSeconds: 0xffff_ffff } : undefined
  await alice.send(bob.amid, ask(1))
  while (!relay.passed.some(({ from }) => from === alice.amid))
    await new Promise((resolve) => setImmediate(resolve))
  await (await carol.send(bob.amid, ask(2))).answer()
  expect(relay.passed.filter(({ from }) => from === alice.amid).length).toBeLessThan(5)
})

test('closing while a handler works breaks nothing, and the request is handed over at the next start', async () => {
  const unhandled: unknown[] = []
  const note = (reason: unknown): void => void unhandled.push(reason)
  process.on('unhandledRejection', note)
  let finish = (): void => {}
  let started = (): void => {}
  const running = new Promise<void>((resolve) => (started = resolve))
  const handled = new Promise<void>((resolve) => {
    bob.on('request', async () => {
      started()
      await new Promise<void>((done) => (finish = done))
      resolve()
      return { results: 'too late' }
    })
  })
  const sent = await alice.send(bob.amid, ask(1))
  await running
  await bob.close()
  finish()
  await handled
  for (let turn = 0; turn < 20; turn++) await new Promise((resolve) => setImmediate(resolve))
  process.off('unhandledRejection', note)
  expect(unhandled).toEqual([])
  bob = await network.agent('bob', { relays: [relay.url] }, { now })
  bob.on('request', () => ({ results: 'in time' }))
  expect(await sent.answer({ timeoutSeconds: 40 })).toMatchObject({ payload: { results: 'in time' } })
})

test('an owner who keeps no transcripts still reads what came before the session ended', async () => {
  bob.setPolicy({ ...defaultPolicy(), store_transcripts: false })
  await (await alice.send(bob.amid, ask(1))).answer()
  const { session_id } = alice.sessions()[0]!
  const talk = alice.conversation(session_id)
  await talk.send('status', { status: 'waiting', message: 'read me' })
  await talk.close()
  // A session with nothing left to read: when it is gone, the other one was looked at too.
  const other = { intent: { category: 'finance' }, parameters: {} }
  await (await alice.send(bob.amid, other, { sessionType: 'request_response' })).answer()
  await expect.poll(() => bob.sessions().length, { timeout: 30_000 }).toBe(1)
  const read: unknown[] = []
  for await (const message of bob.conversation(session_id).messages()) read.push(message.payload)
  expect(read).toContainEqual({ status: 'waiting', message: 'read me' })
})

test('what is said right before the session is closed arrives once', async () => {
  await (await alice.send(bob.amid, ask(1))).answer()
  const said: unknown[] = []
  bob.events.on('message', ({ type, payload }) => void (type === 'status' && said.push(payload)))
  const talk = alice.conversation(alice.sessions()[0]!.session_id)
  for (const message of ['a', 'b', 'c']) await talk.send('status', { status: 'waiting', message })
  await talk.close()
  // A request on a session of its own: everything said before has had its turn when it is answered.
  await (await alice.send(bob.amid, ask(2), { sessionType: 'request_response' })).answer()
  await expect.poll(() => alice.status().outbox.unacknowledged).toBe(0)
  expect(said).toEqual(['a', 'b', 'c'].map((message) => ({ status: 'waiting', message })))
  expect(bob.sessions()).toHaveLength(2)
})

test('a message that can reach nobody any more is told to have failed, whoever opened the session', async () => {
  await (await alice.send(bob.amid, ask(1))).answer()
  const { session_id } = alice.sessions()[0]!
  relay.mischief = (message) => (message.from === bob.amid && message.type === 'message' ? [] : [message])
  const id = await bob.conversation(session_id).send('status', { status: 'waiting' })
  await alice.conversation(session_id).close()
  expect((await stagesOf(bob.sent(id))).at(-1)).toMatchObject({ stage: 'failed', code: 'SESSION_CLOSED' })
})

test('a stricter policy ends the sessions it would not let in, also those in use', async () => {
  await (await alice.send(bob.amid, ask(1))).answer()
  bob.setPolicy({ ...defaultPolicy(), strict_mode: true })
  const second = await alice.send(bob.amid, ask(2))
  await expect(second.answer({ timeoutSeconds: 40 })).rejects.toMatchObject({ code: 'KNOCK_REJECTED' })
  expect(seen).toEqual([1])
})

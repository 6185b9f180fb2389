/** What a peer that was let in tries inside its session. */
import { once } from 'node:events'
import {
  defaultPolicy,
  newMessageId,
  type Agent,
  type Amid,
  type IncomingRequest,
  type MessageId,
} from '@agentmesh/sdk'
import { systemRandom } from '@agentmesh/sdk/crypto/signing'
import type { ReceiptPayload } from '@agentmesh/sdk/wire'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { HostilePeer } from '../support/hostile-peer.ts'
import { junkPacket } from '../../packages/sdk/src/messages/test-support-junk.ts'
import { FLIGHTS, TestNetwork } from '../support/network.ts'

let network: TestNetwork
let bob: Agent
let mallory: HostilePeer
let seen: unknown[]

const ask = (n: unknown) => ({ intent: FLIGHTS, parameters: { n } })

const SLOW = { ...defaultPolicy(), rate_limit: { knocks_per_minute: 30, messages_per_minute: 20 } }

beforeEach(async () => {
  network = await TestNetwork.start()
  seen = []
  bob = await network.agent('bob')
  bob.on('request', ({ payload }: IncomingRequest) => {
    seen.push(payload.parameters['n'])
    return { results: payload.parameters['n'] }
  })
  mallory = await HostilePeer.open(network)
})
afterEach(async () => {
  await mallory.close()
  await network.close()
})

/** What bob holds of his newest session. */
const kept = () => bob.session(bob.sessions()[0]!.session_id).messages

test('messages behind a gap that is never filled do not pile up', async () => {
  await mallory.knock(bob.amid)
  for (let sequence = 2; sequence <= 400; sequence++) {
    await mallory.say('request', ask(sequence), { sequence })
  }
  expect(bob.sessions()).toMatchObject([{ state: 'closed', close_reason: 'limit' }])
  expect(kept().length).toBeLessThan(200)
  expect(seen).toEqual([])
})

test('a flood of negotiations ends the session, and does not fill the disk', async () => {
  bob.setPolicy(SLOW)
  await mallory.knock(bob.amid)
  const closed = (): boolean => bob.sessions()[0]!.state === 'closed'
  let said = 0
  while (!closed() && said < 200) {
    said++
    await mallory.say('capability_negotiation', { i_need: ['flight_search'] })
    // It reads every answer, so that the window never holds anything up.
    const answers = mallory.envelopes.splice(0).filter(({ type }) => type !== 'receipt')
    if (answers.length > 0) await mallory.say('receipt', mallory.receipts())
  }
  expect(closed()).toBe(true)
  expect(said).toBeLessThan(100)
})

test('a flood of requests beyond the rate ends the session, and does not fill the disk', async () => {
  bob.setPolicy(SLOW)
  await mallory.knock(bob.amid)
  const closed = (): boolean => bob.sessions()[0]!.state === 'closed'
  let said = 0
  while (!closed() && said < 200) {
    said++
    await mallory.say('request', ask(said))
  }
  expect(closed()).toBe(true)
  expect(kept().filter(({ type }) => type === 'request').length).toBeLessThan(60)
})

test('a third agent says how far a request to somebody else is: nobody is told', async () => {
  const carol = await network.agent('carol')
  let finish = (): void => {}
  const asked = new Promise<void>((resolve) => {
    carol.on('request', async () => {
      resolve()
      await new Promise<void>((done) => (finish = done))
      return { results: 'from carol' }
    })
  })
  await mallory.knock(bob.amid)
  const sent = await bob.send(carol.amid, ask(1))
  await asked
  const message = once(bob.events, 'message')
  const inReplyTo = sent.id
  await mallory.say('status', { status: 'processing', message: 'mallory' }, { inReplyTo })
  await message
  await mallory.say('response', { status: 'success', results: 'mallory' }, { inReplyTo })
  finish()
  const stages: unknown[] = []
  for await (const event of sent.progress()) stages.push(event)
  expect(JSON.stringify(stages)).not.toContain('mallory')
  expect(stages.at(-1)).toMatchObject({ stage: 'answered', answer: { from: carol.amid } })
})

test('a receipt that claims an answer is no answer', async () => {
  await mallory.knock(bob.amid)
  const conversation = bob.conversation(bob.sessions()[0]!.session_id)
  const id = await conversation.send('request', ask(1))
  await mallory.until(() => mallory.envelopes.some(({ type }) => type === 'request'))
  const waiting = bob.sent(id).answer({ timeoutSeconds: 30 })
  await mallory.say('receipt', { ...mallory.receipts(), answered: [[1, 1]] })
  await mallory.say('response', { status: 'success', results: 7 }, { inReplyTo: id })
  expect(await waiting).toMatchObject({ type: 'response', payload: { results: 7 } })
})

test('a receipt that comes along with a message counts for the one who says it, and claims no answer', async () => {
  const carol = await network.agent('carol')
  const reached = new Promise<void>((resolve) => {
    carol.on('request', () => {
      resolve()
      return new Promise(() => {})
    })
  })
  await mallory.knock(bob.amid)
  const [mine] = bob.sessions()
  const asked = await bob.conversation(mine!.session_id).send('request', ask(1))
  const other = await bob.send(carol.amid, ask(2))
  await mallory.until(() => mallory.envelopes.some(({ type }) => type === 'request'))
  await reached
  const at = '2020-01-01T00:00:00.000Z'
  const receipts: ReceiptPayload = { received: 1, read: [[1, 1]], answered: [[1, 1]], at }
  const message = once(bob.events, 'message')
  await mallory.say('status', { status: 'processing' }, { inReplyTo: asked, receipts })
  await message
  const told = bob.session(mine!.session_id).messages.find(({ id }) => id === asked)
  expect(told).toMatchObject({ receipts: { read: at } })
  expect(told).not.toHaveProperty('receipts.answered')
  const { session_id } = bob.sessions().find(({ peer }) => peer === carol.amid)!
  const toCarol = bob.session(session_id).messages.find(({ id }) => id === other.id)
  expect(JSON.stringify(toCarol)).not.toContain(at)
})

test('an answer takes along the receipts of what it answers', async () => {
  await mallory.knock(bob.amid)
  const id = newMessageId(systemRandom)
  await mallory.say('request', ask(1), { id })
  await mallory.until(() => mallory.envelopes.some(({ type }) => type === 'response'))
  expect(mallory.envelopes).toMatchObject([
    {
      type: 'response',
      receipts: { received: 1, read: [[1, 1]], answered: [[1, 1]] },
    },
  ])
})

test('receipts that find no room in a message go without it', async () => {
  await mallory.knock(bob.amid)
  bob.on('request', () => ({ results: 'x'.repeat(65_536 - 520) }))
  await mallory.say('request', ask(1))
  await mallory.until(() => mallory.envelopes.length === 2)
  const [first, second] = mallory.envelopes.toSorted((a, b) => a.type.localeCompare(b.type))
  expect(first).toMatchObject({ type: 'receipt' })
  expect(second).toMatchObject({ type: 'response' })
  expect(second).not.toHaveProperty('receipts')
})

test('a CLOSE behind a gap does not leave requests waiting for ever', async () => {
  await network.close()
  network = await TestNetwork.start()
  let skew = 0
  bob = await network.agent('bob', {}, { now: () => Date.now() + skew })
  await mallory.close()
  mallory = await HostilePeer.open(network)
  await mallory.knock(bob.amid)
  const id = await bob.conversation(bob.sessions()[0]!.session_id).send('request', ask(1))
  await mallory.until(() => mallory.envelopes.some(({ type }) => type === 'request'))
  const failed = bob.sent(id).answer({ timeoutSeconds: 50 })
  await mallory.say('close', { reason: 'completed' }, { sequence: 9 })
  skew = 3_600_000
  await expect(failed).rejects.toMatchObject({ code: 'SESSION_CLOSED' })
})

test('two peers that use one request id are both answered, through the local API too', async () => {
  const { Listeners } = await import('../../packages/sdk/src/agent/listeners.ts')
  const listeners = new Listeners(bob)
  const abort = new AbortController()
  const events = listeners.attach(abort.signal)
  const eve = await HostilePeer.open(network)
  const id = newMessageId(systemRandom)
  await mallory.knock(bob.amid)
  await eve.knock(bob.amid)
  const handed: string[] = []
  const work = (async () => {
    for await (const event of events) {
      if (event.type !== 'request') continue
      handed.push(event.request.from)
      // The first is still open when the second comes.
      if (handed.length === 1) await eve.say('request', ask(2), { id })
      await listeners.answer(event.handle, { results: event.request.from })
      if (handed.length === 2) abort.abort()
    }
  })()
  await mallory.say('request', ask(1), { id })
  const answered = (peer: HostilePeer) =>
    peer.until(() => peer.envelopes.some(({ type }) => type === 'response' || type === 'error'))
  await Promise.all([answered(mallory), answered(eve)])
  await work
  for (const peer of [mallory, eve]) {
    expect(peer.envelopes.find(({ type }) => type !== 'receipt')).toMatchObject({
      type: 'response',
      payload: { results: peer.amid },
    })
  }
  await eve.close()
})

test('an answer does not overtake what was said before it, however full the window is', async () => {
  await mallory.knock(bob.amid)
  const { session_id } = bob.sessions()[0]!
  const said: MessageId[] = []
  for (let n = 0; n < 80; n++) {
    said.push(await bob.conversation(session_id).send('status', { status: 'waiting', message: String(n) }))
  }
  const answered = new Promise<void>((resolve) => {
    bob.on('request', (_request, context) => {
      void context.answered.then(resolve)
      return { results: 'last' }
    })
  })
  await mallory.say('request', ask(1))
  await answered
  const heard = () => mallory.envelopes.filter(({ type }) => type === 'status' || type === 'response')
  // It reads as they come.
  for (let read = 0; read < 80;) {
    await mallory.until(() => heard().length > read)
    read = heard().length
    await mallory.say('receipt', mallory.receipts())
  }
  await mallory.until(() => heard().some(({ type }) => type === 'response'))
  const order = heard().toSorted((one, other) => one.sequence - other.sequence)
  expect(order.map(({ type }) => type)).toEqual([...said.map(() => 'status'), 'response'])
  expect(order.slice(0, 80).map(({ id }) => id)).toEqual(said)
})

test('an answer too large for the session is refused at once, also while it would have to wait', async () => {
  await mallory.knock(bob.amid)
  const { session_id } = bob.sessions()[0]!
  for (let n = 0; n < 70; n++) await bob.conversation(session_id).send('status', { status: 'waiting' })
  const refused = new Promise<unknown>((resolve) => {
    bob.on('request', (_request, context) => {
      void context.answered.catch(resolve)
      return { results: 'a'.repeat(65_500) }
    })
  })
  await mallory.say('request', ask(1))
  expect(await refused).toMatchObject({ code: 'LIMIT_SIZE' })
})

test('an answer that comes late, under the handle of a hand-over that broke, reaches nobody', async () => {
  const { Listeners } = await import('../../packages/sdk/src/agent/listeners.ts')
  const listeners = new Listeners(bob)
  const eve = await HostilePeer.open(network)
  await mallory.knock(bob.amid)
  await eve.knock(bob.amid)
  const id = newMessageId(systemRandom)
  const handedTo = async (abort: AbortController) => {
    for await (const event of listeners.attach(abort.signal)) if (event.type === 'request') return event
    throw new Error('nothing was handed out')
  }
  const first = new AbortController()
  const handed = handedTo(first)
  await mallory.say('request', ask(1), { id })
  const { handle } = await handed
  first.abort()
  // Now somebody else asks under the same id, and is handed out.
  const second = new AbortController()
  const events = listeners.attach(second.signal)
  await eve.say('request', ask(2), { id })
  const asked: { handle: string; from: Amid }[] = []
  for await (const event of events) {
    if (event.type === 'request') asked.push({ handle: event.handle, from: event.request.from })
    if (asked.length === 2) break
  }
  expect(new Set(asked.map(({ from }) => from))).toEqual(new Set([mallory.amid, eve.amid]))
  await expect(listeners.answer(handle, { results: 'for mallory' })).rejects.toMatchObject({
    code: 'MESSAGE_UNKNOWN',
  })
  await expect(listeners.answer(id, { results: 'by its id' })).rejects.toMatchObject({
    code: 'MESSAGE_UNKNOWN',
  })
  for (const { handle: given, from } of asked) await listeners.answer(given, { results: from })
  for (const peer of [mallory, eve]) {
    await peer.until(() => peer.envelopes.some(({ type }) => type === 'response'))
    expect(peer.envelopes.filter(({ type }) => type === 'response')).toMatchObject([
      { payload: { results: peer.amid } },
    ])
  }
  second.abort()
  await eve.close()
})

test('frames far ahead of their chain cost what one peer may cost, end its session, and keep nobody else waiting', async () => {
  await network.close()
  await mallory.close()
  network = await TestNetwork.start()
  // It stands still, so that no budget fills again.
  const now = Date.now()
  bob = await network.agent('bob', {}, { now: () => now })
  bob.on('request', ({ payload }: IncomingRequest) => ({ results: payload.parameters['n'] }))
  mallory = await HostilePeer.open(network)
  const eve = await HostilePeer.open(network)
  const refused: string[] = []
  bob.events.on('refused', ({ from, code }) => {
    if (from === mallory.amid) refused.push(code)
  })
  await mallory.knock(bob.amid)
  await eve.knock(bob.amid)
  await mallory.say('request', ask(1))
  await mallory.until(() => mallory.envelopes.some(({ type }) => type === 'response'))
  const close = mallory.until(() => mallory.envelopes.some(({ type }) => type === 'close'))
  await mallory.say('status', { status: 'waiting' })
  const junk = Array.from({ length: 200 }, () => junkPacket(mallory.session!, 1_900))
  for (const frame of junk) await mallory.send(bob.amid, 'message', frame)
  await eve.say('request', ask(2))
  await eve.until(() => eve.envelopes.some(({ type }) => type === 'response'))
  await close
  // Five times 1,900 are within 10,000, and what came after them was not derived for.
  expect(refused).toEqual([
    ...Array<string>(5).fill('DECRYPTION_FAILED'),
    ...Array<string>(195).fill('RATCHET_BUDGET'),
  ])
  expect(bob.sessions().find(({ peer }) => peer === mallory.amid)).toMatchObject({
    state: 'closed',
    close_reason: 'limit',
  })
  expect(bob.sessions().find(({ peer }) => peer === eve.amid)).toMatchObject({ state: 'open' })
  await eve.close()
})

test('a flood of requests about something else than was agreed ends the session, and does not fill the disk', async () => {
  bob.setPolicy(SLOW)
  await mallory.knock(bob.amid)
  const closed = (): boolean => bob.sessions()[0]!.state === 'closed'
  const other = { intent: { category: 'travel', subcategory: 'hotels' }, parameters: { x: 'A'.repeat(1000) } }
  for (let said = 0; said < 200 && !closed(); said++) await mallory.say('request', other)
  expect(closed()).toBe(true)
  expect(kept().filter(({ type }) => type === 'request').length).toBeLessThan(60)
  expect(seen).toEqual([])
})

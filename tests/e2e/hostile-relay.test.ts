/** What a relay that lies can do to two honest agents: keep messages from them, and nothing else. */
import { once } from 'node:events'
import type { Agent } from '@agentmesh/sdk'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { HostileRelay, type Handover } from '../support/hostile-relay.ts'
import { FLIGHTS, TestNetwork } from '../support/network.ts'

let network: TestNetwork
let relay: HostileRelay
let alice: Agent
let bob: Agent
let seen: unknown[]

beforeEach(async () => {
  network = await TestNetwork.start()
  relay = await HostileRelay.start()
  seen = []
  bob = await network.agent('bob', { relays: [relay.url] })
  bob.on('request', (request) => {
    seen.push(request.payload.parameters['n'])
    return { results: request.payload.parameters['n'] }
  })
  alice = await network.agent('alice', { relays: [relay.url] })
})
afterEach(async () => {
  await network.close()
  await relay.close()
})

async function ask(n: unknown): Promise<unknown> {
  const sent = await alice.send(
    bob.amid,
    { intent: FLIGHTS, parameters: { n } },
    { sessionType: 'conversation' },
  )
  const answer = await sent.answer({ timeoutSeconds: 20 })
  return answer.type === 'response' ? answer.payload.results : answer
}

/** What the agent refuses while `act` runs: the code its owner finds in the log. */
async function refusal(agent: Agent, act: () => void): Promise<unknown> {
  const refused = once(agent.events, 'refused')
  act()
  const [event] = (await refused) as [{ code: string }]
  return event.code
}

/** The packets of one kind that the relay passed on. */
function passed(type: Handover['type']): Handover[] {
  return relay.passed.filter((message) => message.type === type)
}

function flip(bytes: Uint8Array, index: number): Uint8Array {
  const copy = Uint8Array.from(bytes)
  copy[index] = copy[index]! ^ 1
  return copy
}

test('an honest relay lets them talk (the control)', async () => {
  expect(await ask(1)).toBe(1)
})

test('the relay repeats every packet: each request reaches the application once', async () => {
  relay.mischief = (message) => [message, message, message]
  expect(await ask(1)).toBe(1)
  expect(await ask(2)).toBe(2)
  expect(seen).toEqual([1, 2])
  expect(bob.sessions()).toHaveLength(1)
})

test('the relay reorders packets of a session: the application sees them in order', async () => {
  await ask(0)
  const held: Handover[] = []
  relay.mischief = (message) => {
    if (message.type !== 'message' || message.from !== alice.amid) return [message]
    held.push(message)
    return []
  }
  const talk = { sessionType: 'conversation' } as const
  const sent = [1, 2, 3].map((n) => alice.send(bob.amid, { intent: FLIGHTS, parameters: { n } }, talk))
  const messages = await Promise.all(sent)
  while (held.length < 3) await once(alice.events, 'progress')
  relay.mischief = (message) => [message]
  for (const message of held.toReversed()) relay.handOver(message)
  await Promise.all(messages.map((message) => message.answer()))
  expect(seen).toEqual([0, 1, 2, 3])
})

test('a KNOCK replayed to its receiver opens no second session', async () => {
  await ask(1)
  const [knock] = passed('knock')
  const answered = passed('accept').length
  relay.handOver(knock!)
  expect(await ask(2)).toBe(2)
  expect(bob.sessions()).toHaveLength(1)
  expect(bob.decisions()).toHaveLength(1)
  // The stored answer may be repeated; it is the same one, to the same agent.
  const answers = passed('accept').slice(answered)
  for (const answer of answers) expect(answer.payload).toEqual(passed('accept')[0]!.payload)
})

test('a KNOCK with another random part but the same header is refused as a replay', async () => {
  await ask(1)
  const [knock] = passed('knock')
  const decided = once(bob.events, 'knock')
  relay.handOver({ ...knock!, payload: flip(knock!.payload, knock!.payload.length - 1) })
  const [decision] = await decided
  expect(decision).toMatchObject({ accepted: false })
  expect(bob.sessions()).toHaveLength(1)
})

test('a KNOCK passed on to somebody else is not opened', async () => {
  const carol = await network.agent('carol', { relays: [relay.url] })
  await ask(1)
  const [knock] = passed('knock')
  const decided = once(carol.events, 'knock')
  relay.handOver({ ...knock!, to: carol.amid })
  const [decision] = await decided
  expect(decision).toMatchObject({ accepted: false, reason: 'invalid_signature' })
  expect(carol.sessions()).toEqual([])
})

test('the relay names somebody else as the sender of a KNOCK: it does not open', async () => {
  const carol = await network.agent('carol', { relays: [relay.url] })
  const decided = once(bob.events, 'knock')
  relay.mischief = (message) => (message.type === 'knock' ? [{ ...message, from: carol.amid }] : [message])
  await alice.send(bob.amid, { intent: FLIGHTS, parameters: {} })
  const [decision] = await decided
  expect(decision).toMatchObject({ from: carol.amid, accepted: false })
  expect(bob.sessions()).toEqual([])
})

test('the relay changes the sender of a message: refused, and the session goes on', async () => {
  const carol = await network.agent('carol', { relays: [relay.url] })
  await ask(1)
  const original = passed('message').find((message) => message.to === bob.amid)!
  const forged = { ...original, from: carol.amid, payload: flip(original.payload, 60) }
  expect(await refusal(bob, () => relay.handOver(forged))).toBe('SESSION_UNKNOWN')
  expect(await ask(2)).toBe(2)
})

test('the relay changes the type of a message: refused, and the session goes on', async () => {
  await ask(1)
  relay.mischief = (message) =>
    message.to === bob.amid && message.type === 'message'
      ? [{ ...message, type: 'close' }, message]
      : [message]
  let asked: Promise<unknown> | undefined
  const code = await refusal(bob, () => {
    asked = ask(2)
  })
  expect(code).toBe('DECRYPTION_FAILED')
  expect(await asked).toBe(2)
  expect(bob.sessions()[0]).toMatchObject({ state: 'open' })
})

test('the relay moves a message to another session: refused', async () => {
  await ask(1)
  const other = { intent: FLIGHTS, parameters: { n: 9 } }
  const single = await alice.send(bob.amid, other, { sessionType: 'request_response' })
  await single.answer()
  const [first, second] = bob.sessions()
  const original = passed('message').find((message) => message.to === bob.amid)!
  const sessionIds = [first!, second!].map((session) => session.session_id.replaceAll('-', ''))
  const current = Buffer.from(original.payload.subarray(0, 16)).toString('hex')
  const target = sessionIds.find((id) => id !== current)!
  const moved = Uint8Array.from(original.payload)
  moved.set(Buffer.from(target, 'hex'))
  expect(await refusal(bob, () => relay.handOver({ ...original, payload: moved }))).toMatch(
    /DECRYPTION_FAILED|SESSION_CLOSED/,
  )
})

test('a flipped bit anywhere in a message is refused and breaks nothing', async () => {
  await ask(1)
  const original = passed('message').find((message) => message.to === bob.amid)!
  for (const index of [0, 15, 16, 17, 20, 50, original.payload.length - 1]) {
    const forged = { ...original, payload: flip(original.payload, index) }
    expect(await refusal(bob, () => relay.handOver(forged))).toMatch(
      /SESSION_UNKNOWN|INVALID_ID|MALFORMED|DECRYPTION_FAILED|RATCHET_DUPLICATE/,
    )
  }
  expect(await ask(2)).toBe(2)
})

test('the relay forges a REJECT: the sender does not believe it', async () => {
  relay.mischief = (message) =>
    message.type === 'accept'
      ? [{ ...message, type: 'reject' }, { ...message, payload: flip(message.payload, 100) }, message]
      : [message]
  expect(await ask(1)).toBe(1)
})

test('an ACCEPT replayed for another KNOCK is refused', async () => {
  await ask(1)
  const [accept] = passed('accept')
  const forged = { ...accept!, payload: flip(accept!.payload, 40) }
  expect(await refusal(alice, () => relay.handOver(forged))).toBe('ANSWER_MISMATCH')
})

test('garbage of every type changes nothing', async () => {
  await ask(1)
  const types = ['accept', 'reject', 'message', 'close', 'ice', 'reset'] as const
  for (const type of types) {
    for (const length of [0, 1, 16, 33, 5000]) {
      const forged: Handover = { from: alice.amid, to: bob.amid, type, payload: new Uint8Array(length) }
      await refusal(bob, () => relay.handOver(forged))
    }
  }
  expect(await ask(2)).toBe(2)
})

test('the relay sees no intent, name, parameter or answer', async () => {
  await ask('a very private parameter')
  const everything = Buffer.concat(relay.passed.map((message) => Buffer.from(message.payload)))
  for (const secret of ['a very private parameter', 'travel', 'flights', 'alice', 'bob']) {
    for (const encoding of ['utf8', 'base64', 'hex'] as const) {
      const text = Buffer.from(secret).toString(encoding).replace(/=+$/, '').slice(0, -1)
      if (text.length > 4) expect(everything.includes(text)).toBe(false)
    }
  }
  // The search finds what is there: the session id stands in the clear.
  const id = Buffer.from(alice.sessions()[0]!.session_id.replaceAll('-', ''), 'hex')
  expect(everything.includes(id)).toBe(true)
})

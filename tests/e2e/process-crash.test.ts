/**
 * `kill -9` in mid-talk, to the relay and to either daemon. What send() took is answered exactly once; what an
 * application sees comes in order within its session.
 */
import type { MessageId } from '@agentmesh/sdk'
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from 'vitest'
import { FLIGHTS } from '../support/network.ts'
import {
  answerOf,
  ProcessMesh,
  reached,
  type Listening,
  type Member,
  type Work,
} from '../support/process-mesh.ts'

let servers: ProcessMesh
let mesh: ProcessMesh
let alice: Member
let bob: Member

beforeAll(async () => {
  servers = await ProcessMesh.start()
})
afterAll(() => servers.close())
beforeEach(async () => {
  mesh = servers.beside()
  ;[alice, bob] = await Promise.all([mesh.online('alice'), mesh.online('bob')])
})
afterEach(() => mesh.close())

const talk = { sessionType: 'conversation' } as const
const echo: Work = ({ payload }) => ({ results: payload.parameters['n'] })

async function ask(from: Member, to: Member, n: number): Promise<MessageId> {
  return from.client.send(to.amid, { intent: FLIGHTS, parameters: { n } }, talk)
}

/** Every message the application of `asker` has, by the request it answers. */
async function answersHeldBy(asker: Member): Promise<Map<MessageId, unknown[]>> {
  const held = new Map<MessageId, unknown[]>()
  for (const { session_id } of await asker.client.sessions()) {
    const { messages } = await asker.client.session(session_id)
    for (const { direction, in_reply_to, payload } of messages) {
      if (direction !== 'in' || in_reply_to === undefined) continue
      const results = 'results' in payload ? payload.results : payload
      held.set(in_reply_to, [...(held.get(in_reply_to) ?? []), results])
    }
  }
  return held
}

/** Each of the requests, whose numbers count from 0, has its own answer, and only that. */
async function expectEachAnsweredOnce(asker: Member, ids: readonly MessageId[]): Promise<void> {
  const answers = await Promise.all(ids.map((id) => answerOf(asker.client, id)))
  expect(answers.map(({ payload }) => ('results' in payload ? payload.results : payload))).toEqual([
    ...ids.keys(),
  ])
  const held = await answersHeldBy(asker)
  expect([...held.keys()].toSorted()).toEqual([...ids].toSorted())
  for (const [n, id] of ids.entries()) expect(held.get(id)).toEqual([n])
}

/** The numbers a listener was handed, by the session they came in. */
function handedBySession(...listeners: readonly Listening[]): number[][] {
  const sessions = new Map<string, number[]>()
  for (const { session_id, payload } of listeners.flatMap(({ handed }) => handed)) {
    sessions.set(session_id, [...(sessions.get(session_id) ?? []), Number(payload.parameters['n'])])
  }
  return [...sessions.values()]
}

function expectAscending(numbers: readonly number[]): void {
  expect(numbers).toEqual([...new Set(numbers)].toSorted((left, right) => left - right))
}

test('the relay is killed with messages in flight both ways, and comes back', async () => {
  const atBob = mesh.listen(bob, echo)
  const atAlice = mesh.listen(alice, echo)
  const fromAlice: MessageId[] = []
  const fromBob: MessageId[] = []
  for (let n = 0; n < 10; n++) fromAlice.push(await ask(alice, bob, n))
  for (let n = 0; n < 10; n++) fromBob.push(await ask(bob, alice, n))
  await Promise.all([
    atBob.until(() => atBob.handed.length >= 5),
    atAlice.until(() => atAlice.handed.length >= 5),
  ])
  const killed = mesh.stop('relay')
  for (let n = 10; n < 20; n++) {
    fromAlice.push(await ask(alice, bob, n))
    fromBob.push(await ask(bob, alice, n))
  }
  await killed
  for (let n = 20; n < 25; n++) fromAlice.push(await ask(alice, bob, n))
  await mesh.restart('relay')
  await expectEachAnsweredOnce(alice, fromAlice)
  await expectEachAnsweredOnce(bob, fromBob)
  for (const numbers of handedBySession(atBob)) expectAscending(numbers)
  for (const numbers of handedBySession(atAlice)) expectAscending(numbers)
  expect(atBob.handed).toHaveLength(25)
  expect(atAlice.handed).toHaveLength(20)
})

test('the receiving daemon is killed in mid-talk, three times', async () => {
  const ids: MessageId[] = []
  const listeners: Listening[] = []
  for (let life = 0; life < 3; life++) {
    const listener = mesh.listen(bob, echo)
    listeners.push(listener)
    for (let n = ids.length; n < (life + 1) * 12; n++) ids.push(await ask(alice, bob, n))
    await listener.until(() => listener.answered.length >= 4)
    await bob.kill()
    await bob.start()
  }
  const last = mesh.listen(bob, echo)
  listeners.push(last)
  await expectEachAnsweredOnce(alice, ids)
  // Within one life of the daemon nothing is handed over twice; a new life hands over what was not answered.
  for (const listener of listeners) for (const numbers of handedBySession(listener)) expectAscending(numbers)
  const answered = listeners.flatMap((listener) => listener.answered)
  expect(new Set(answered).size).toBe(answered.length)
})

test('a request whose listener was at work when the daemon died is handed over again', async () => {
  const working = mesh.listen(bob, () => new Promise(() => {}))
  const id = await ask(alice, bob, 0)
  await working.until(() => working.handed.length === 1)
  await bob.kill()
  await bob.start()
  const again = mesh.listen(bob, echo)
  await expectEachAnsweredOnce(alice, [id])
  expect(again.handed.map((request) => request.id)).toEqual([id])
  const [first] = working.handed
  // It may be a repeat, and says so.
  expect(again.handed[0]).toEqual({ ...first!, sent_before_start: true })
})

test('a listener that goes away gives its request to the next one', async () => {
  const working = mesh.listen(bob, () => new Promise(() => {}))
  const id = await ask(alice, bob, 0)
  await working.until(() => working.handed.length === 1)
  working.leave()
  const again = mesh.listen(bob, echo)
  await expectEachAnsweredOnce(alice, [id])
  expect(again.handed.map((request) => request.id)).toEqual([id])
})

test('an answer the daemon took survives its death, and its request is not handed over again', async () => {
  await reached(alice.client, await ask(alice, bob, 0), 'delivered')
  const answering = mesh.listen(bob, echo)
  await answering.until(() => answering.answered.length === 1)
  await bob.kill()
  await bob.start()
  const next = mesh.listen(bob, echo)
  const ids = [...answering.answered, await ask(alice, bob, 1)]
  await expectEachAnsweredOnce(alice, ids)
  expect(next.handed.map((request) => request.id)).toEqual(ids.slice(1))
})

test('the sending daemon is killed right after send() resolved', async () => {
  const atBob = mesh.listen(bob, echo)
  const ids: MessageId[] = []
  for (let n = 0; n < 4; n++) {
    ids.push(await ask(alice, bob, n))
    await alice.kill()
    await alice.start()
  }
  await expectEachAnsweredOnce(alice, ids)
  expect(atBob.handed).toHaveLength(4)
  for (const numbers of handedBySession(atBob)) expectAscending(numbers)
})

test('the sending daemon is killed with many requests on an open session', async () => {
  const atBob = mesh.listen(bob, echo)
  const ids = [await ask(alice, bob, 0)]
  await reached(alice.client, ids[0]!, 'answered')
  for (let n = 1; n < 16; n++) ids.push(await ask(alice, bob, n))
  await alice.kill()
  await alice.start()
  await expectEachAnsweredOnce(alice, ids)
  expect(handedBySession(atBob)).toEqual([[...ids.keys()]])
})

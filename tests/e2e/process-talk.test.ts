/** Two daemons, a relay and a registry, each a process of its own: the main job. */
import { readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { amidFromBytes, newMessageId } from '@agentmesh/sdk'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { FLIGHTS } from '../support/network.ts'
import { answerOf, ProcessMesh, reached, stages } from '../support/process-mesh.ts'
import { startDaemon } from '../support/processes.ts'

let mesh: ProcessMesh

beforeEach(async () => {
  mesh = await ProcessMesh.start()
})
afterEach(() => mesh.close())

const talk = { sessionType: 'conversation' } as const

test('an agent finds another by what it offers, knocks, asks, and is answered', async () => {
  const bob = await mesh.online('bob', { capabilities: [FLIGHTS] })
  const alice = await mesh.online('alice')
  mesh.listen(bob, ({ payload, provenance }) => ({
    results: { doubled: Number(payload.parameters['n']) * 2, for: provenance.from },
  }))
  const { agents } = await alice.client.search({ capability: 'travel/flights' })
  expect(agents.map(({ amid }) => amid)).toEqual([bob.amid])

  const id = await alice.client.send(agents[0]!.amid, { intent: FLIGHTS, parameters: { n: 21 } })
  const events = await stages(alice.client, id)
  expect(events.at(-1)).toMatchObject({
    stage: 'answered',
    answer: { type: 'response', from: bob.amid, payload: { results: { doubled: 42, for: alice.amid } } },
  })
  expect(await bob.client.decisions()).toMatchObject([{ from: alice.amid, accepted: true, intent: FLIGHTS }])
  const [session] = await alice.client.sessions()
  expect(session).toMatchObject({ peer: bob.amid, role: 'initiator', one_time_prekey_used: true })
})

test('neither relay nor registry keeps a word of what two agents say', async () => {
  const bob = await mesh.online('bob')
  const alice = await mesh.online('alice', { display_name: 'Needle-in-name' })
  const answering = mesh.listen(bob, () => ({ results: 'needle-in-answer' }))
  await bob.kill()
  const { intent, parameters } = {
    intent: { category: 'x-health/needle-in-intent' },
    parameters: { q: 'needle-in-question' },
  }
  const id = await alice.client.send(bob.amid, { intent, parameters })
  await reached(alice.client, id, 'knocked')
  await answering.stop()
  await bob.start()
  mesh.listen(bob, () => ({ results: 'needle-in-answer' }))
  expect(await answerOf(alice.client, id)).toMatchObject({ payload: { results: 'needle-in-answer' } })
  await Promise.all([mesh.stop('relay', 'SIGTERM'), mesh.stop('registry', 'SIGTERM')])
  const kept = readFileSync(join(mesh.folder, 'relay.db')).toString('latin1')
  expect(kept).toContain('CREATE TABLE')
  for (const secret of ['needle-in', 'x-health', 'Needle-in-name']) expect(kept).not.toContain(secret)
  const registered = readFileSync(join(mesh.folder, 'registry.db')).toString('latin1')
  for (const secret of ['needle-in', 'x-health']) expect(registered).not.toContain(secret)
})

test.each([
  ['json', 'binary'],
  ['binary', 'json'],
  ['json', 'json'],
] as const)('an agent that speaks %s to the relay talks to one that speaks %s', async (one, other) => {
  const bob = await mesh.online('bob', { relay_encoding: other })
  const alice = await mesh.online('alice', { relay_encoding: one })
  // Not every byte of a payload survives a careless text encoding.
  const text = 'é \u{1f6eb} \u0000 "quoted" \\ ' + 'x'.repeat(20_000)
  mesh.listen(bob, ({ payload }) => ({ results: payload.parameters }))
  for (const n of [1, 2]) {
    const id = await alice.client.send(bob.amid, { intent: FLIGHTS, parameters: { n, text } }, talk)
    expect(await answerOf(alice.client, id)).toMatchObject({ payload: { results: { n, text } } })
  }
})

test('a well-formed AMID that nobody registered ends in AGENT_NOT_FOUND', async () => {
  const alice = await mesh.online('alice')
  const nobody = amidFromBytes(new Uint8Array(20).fill(9))
  const id = await alice.client.send(nobody, { intent: FLIGHTS, parameters: {} })
  expect((await stages(alice.client, id)).at(-1)).toMatchObject({ stage: 'failed', code: 'AGENT_NOT_FOUND' })
  const unknown = newMessageId((length) => new Uint8Array(length))
  await expect(stages(alice.client, unknown)).rejects.toMatchObject({ code: 'MESSAGE_UNKNOWN' })
})

test('a message to an agent that is down waits at the relay and is answered when it is back', async () => {
  const bob = await mesh.online('bob')
  const alice = await mesh.online('alice')
  await bob.kill()
  const id = await alice.client.send(bob.amid, { intent: FLIGHTS, parameters: { n: 5 } })
  await reached(alice.client, id, 'knocked')
  // The two are never up at the same time until the answer: mailboxes carry KNOCK, ACCEPT and request.
  await alice.daemon.end()
  await bob.start()
  await bob.daemon.line((line) => line['event'] === 'session' && line['state'] === 'open')
  await bob.daemon.end()
  await alice.start()
  await reached(alice.client, id, 'stored')
  await bob.start()
  const answering = mesh.listen(bob, ({ payload }) => ({ results: payload.parameters['n'] }))
  expect(await answerOf(alice.client, id)).toMatchObject({ payload: { results: 5 } })
  expect(answering.handed).toHaveLength(1)
  expect(await bob.client.decisions()).toHaveLength(1)
})

test('requests wait on disk while nobody listens, also over a restart', async () => {
  const bob = await mesh.online('bob')
  const alice = await mesh.online('alice')
  const ids = []
  for (const n of [1, 2, 3]) {
    ids.push(await alice.client.send(bob.amid, { intent: FLIGHTS, parameters: { n } }, talk))
  }
  for (const id of ids) await reached(alice.client, id, 'delivered')
  expect((await bob.client.status()).inbox).toEqual({ waiting: 3 })
  await bob.daemon.end()
  await bob.start()
  expect((await bob.client.status()).inbox).toEqual({ waiting: 3 })
  const answering = mesh.listen(bob, ({ payload }) => ({ results: payload.parameters['n'] }))
  const answers = await Promise.all(ids.map((id) => answerOf(alice.client, id)))
  expect(answers.map(({ payload }) => 'results' in payload && payload.results)).toEqual([1, 2, 3])
  expect(answering.handed.map(({ payload }) => payload.parameters['n'])).toEqual([1, 2, 3])
})

test('a second daemon of a home refuses and names the first, which is not disturbed', async () => {
  const alice = await mesh.online('alice')
  const second = startDaemon(alice.home, { relays: [mesh.url('relay')], registry: mesh.url('registry') })
  expect(await second.ended()).not.toBe(0)
  expect(second.stderr).toContain('HOME_LOCKED')
  expect(second.stderr).toContain(`process ${alice.daemon.pid} since`)
  const status = await alice.client.status()
  expect(status).toMatchObject({ pid: alice.daemon.pid, relay: { state: 'connected' } })
})

test('a daemon starts over the socket and the lock that kill -9 left behind', async () => {
  const alice = await mesh.online('alice')
  const { amid } = alice
  await alice.kill()
  expect(statSync(join(alice.home, 'agent.sock')).isSocket()).toBe(true)
  await expect(alice.client.status()).rejects.toMatchObject({ code: 'DAEMON_NOT_RUNNING' })
  await alice.start()
  await alice.online()
  expect(await alice.client.status()).toMatchObject({ amid, pid: alice.daemon.pid })
})

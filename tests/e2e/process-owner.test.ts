/** The owner's hands on a running daemon: the policy file and the circuit breakers, with peers in other processes. */
import { existsSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { type AgentClient, defaultPolicy, type Intent, type ListenerEvent, POLICY_FILE } from '@agentmesh/sdk'
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from 'vitest'
import { FLIGHTS } from '../support/network.ts'
import { answerOf, type Member, ProcessMesh, reached, stages, type Work } from '../support/process-mesh.ts'

let servers: ProcessMesh
let mesh: ProcessMesh
let alice: Member
let bob: Member
const stopped = () => join(mesh.folder, 'framework-stopped')

beforeAll(async () => {
  servers = await ProcessMesh.start()
})
afterAll(() => servers.close())
beforeEach(async () => {
  mesh = servers.beside()
  const program = `require('node:fs').writeFileSync(process.argv[1], 'yes')`
  ;[alice, bob] = await Promise.all([
    mesh.online('alice'),
    mesh.online('bob', { framework_stop_command: [process.execPath, '-e', program, stopped()] }),
  ])
})
afterEach(() => mesh.close())

const talk = { sessionType: 'conversation' } as const
const echo: Work = ({ payload }) => ({ results: payload.parameters['n'] })
const request = { intent: FLIGHTS, parameters: { n: 1 } }
const closed = (line: Record<string, unknown>) => line['event'] === 'session' && line['state'] === 'closed'

/** What an owner's editor does: the default policy with changes, or any text. */
function editPolicy(member: Member, edit: object | string): void {
  const text = typeof edit === 'string' ? edit : JSON.stringify({ ...defaultPolicy(), ...edit }, null, 2)
  writeFileSync(join(member.home, POLICY_FILE), text)
}

async function lastStage(client: AgentClient, to: Member, intent: Intent = FLIGHTS) {
  const id = await client.send(to.amid, { ...request, intent })
  return (await stages(client, id)).at(-1)
}

test('an edit of policy.json ends the session it would not let in, and fails what was asked there', async () => {
  const working = mesh.listen(bob, ({ payload }) =>
    payload.parameters['n'] === 1 ? { results: 1 } : new Promise(() => {}),
  )
  await answerOf(alice.client, await alice.client.send(bob.amid, request, talk))
  const open = await alice.client.send(bob.amid, { ...request, parameters: { n: 2 } }, talk)
  await working.until(() => working.handed.length === 2)
  editPolicy(bob, { rejected_intents: ['travel/flights'] })
  await Promise.all([alice.daemon.line(closed), bob.daemon.line(closed)])
  for (const { client } of [alice, bob]) {
    expect(await client.sessions()).toMatchObject([{ state: 'closed', close_reason: 'policy' }])
  }
  expect((await stages(alice.client, open)).at(-1)).toMatchObject({
    stage: 'failed',
    code: expect.stringMatching(/^(KNOCK_REJECTED|SESSION_CLOSED)$/) as string,
  })
  expect(await lastStage(alice.client, bob)).toMatchObject({
    code: 'KNOCK_REJECTED',
    message: expect.stringMatching(/^intent_not_accepted/) as string,
  })
})

test('an edit that still lets a session in leaves it alone', async () => {
  mesh.listen(bob, echo)
  await answerOf(alice.client, await alice.client.send(bob.amid, request, talk))
  editPolicy(bob, { accepted_intents: ['travel'], rejected_intents: ['finance'] })
  expect((await bob.client.policy()).accepted_intents).toEqual(['travel'])
  await answerOf(alice.client, await alice.client.send(bob.amid, request, talk))
  expect(await alice.client.sessions()).toMatchObject([{ state: 'open' }])
})

test.each([
  ['no JSON', '{\n "accepted_intents": [', /line 2/],
  ['an unknown field', { acepted_intents: [] }, /acepted_intents/],
  ['a wrong value', { min_reputation: 7 }, /min_reputation/],
])('a bad edit (%s) leaves the last good policy in force and is named in status', async (_, edit, named) => {
  mesh.listen(bob, echo)
  editPolicy(bob, { accepted_intents: ['travel'] })
  expect(await bob.client.status()).toMatchObject({ policy: { valid: true } })
  editPolicy(bob, edit)
  const { policy } = await bob.client.status()
  expect(policy.valid).toBe(false)
  expect(policy.error).toMatch(named)
  expect(await lastStage(alice.client, bob)).toMatchObject({ stage: 'answered' })
  expect(await lastStage(alice.client, bob, { category: 'finance' })).toMatchObject({
    code: 'KNOCK_REJECTED',
  })
  editPolicy(bob, { accepted_intents: ['finance'] })
  expect(await bob.client.status()).toMatchObject({ policy: { valid: true } })
  // The session of the answer above may still be closing.
  expect(await lastStage(alice.client, bob)).toMatchObject({
    code: expect.stringMatching(/^(KNOCK_REJECTED|SESSION_CLOSED)$/) as string,
  })
})

test('a daemon does not start with a policy it cannot read: it would be open', async () => {
  await bob.daemon.end()
  editPolicy(bob, '[]')
  await expect(bob.start()).rejects.toThrow('POLICY_INVALID')
  expect(bob.daemon.exitCode).not.toBe(0)
})

test('shutdown ends sessions, survives kill -9, and what peers asked meanwhile is answered after resume', async () => {
  mesh.listen(bob, echo)
  await answerOf(alice.client, await alice.client.send(bob.amid, request, talk))
  await bob.client.shutdown()
  await alice.daemon.line(closed)
  expect(await alice.client.sessions()).toMatchObject([{ close_reason: 'shutdown' }])
  await bob.kill()
  await bob.start()
  expect(await bob.client.status()).toMatchObject({
    breaker: 'shutdown',
    presence: 'offline',
    relay: { state: 'stopped' },
    registry: { state: 'stopped' },
  })
  await expect(bob.client.send(alice.amid, request)).rejects.toMatchObject({ code: 'AGENT_STOPPED' })
  await expect(bob.client.pause()).rejects.toMatchObject({ code: 'AGENT_STOPPED' })
  const id = await alice.client.send(bob.amid, request)
  await reached(alice.client, id, 'knocked')
  mesh.listen(bob, echo)
  await bob.client.resume()
  expect(await answerOf(alice.client, id)).toMatchObject({ payload: { results: 1 } })
})

test('shutdown works while the relay is away, and the peer learns it later', async () => {
  mesh.listen(bob, echo)
  await answerOf(alice.client, await alice.client.send(bob.amid, request, talk))
  await mesh.stop('relay')
  await bob.client.shutdown()
  expect(await bob.client.sessions()).toMatchObject([{ state: 'closed', close_reason: 'shutdown' }])
  await mesh.restart('relay')
  await bob.client.resume()
  await alice.daemon.line(closed)
  expect(await alice.client.sessions()).toMatchObject([{ close_reason: 'shutdown' }])
})

test('emergency stop ends listeners, the framework, every session and the daemon, and lasts', async () => {
  const events: ListenerEvent['type'][] = []
  const listening = (async () => {
    for await (const event of bob.client.requests()) {
      events.push(event.type)
      if (event.type === 'request') await bob.client.answer(event.handle, { results: 1 })
    }
  })().catch(() => {})
  await answerOf(alice.client, await alice.client.send(bob.amid, request, talk))
  await bob.client.emergencyStop()
  expect(await bob.daemon.ended()).toBe(0)
  await listening
  expect(events).toEqual(['ready', 'request', 'emergency_stop'])
  expect(existsSync(stopped())).toBe(true)
  await alice.daemon.line(closed)
  await bob.start()
  expect(await bob.client.status()).toMatchObject({ breaker: 'emergency_stop', relay: { state: 'stopped' } })
  await bob.client.resume()
  await bob.online()
})

test('killing one session tells the peer and leaves the others', async () => {
  mesh.listen(bob, echo)
  const finance = { intent: { category: 'finance' }, parameters: { n: 1 } } as const
  await answerOf(alice.client, await alice.client.send(bob.amid, request, talk))
  await answerOf(alice.client, await alice.client.send(bob.amid, finance, talk))
  const [doomed] = (await bob.client.sessions()).filter(({ intent }) => intent.category === 'travel')
  await bob.client.killSession(doomed!.session_id)
  await alice.daemon.line(closed)
  const left = await alice.client.sessions()
  expect(left.find(({ session_id }) => session_id === doomed!.session_id)).toMatchObject({
    state: 'closed',
    close_reason: 'killed',
  })
  await answerOf(alice.client, await alice.client.send(bob.amid, finance, talk))
  expect(left.filter(({ state }) => state === 'open')).toHaveLength(1)
})

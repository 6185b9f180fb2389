/** Servers that are late, gone, or back, and a clock that is wrong: what the daemon says of it, and what it does. */
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { FLIGHTS } from '../support/network.ts'
import { answerOf, ProcessMesh, reached, type Work } from '../support/process-mesh.ts'
import { Program } from '../support/processes.ts'

let mesh: ProcessMesh

beforeEach(async () => {
  mesh = await ProcessMesh.start()
})
afterEach(() => mesh.close())

const HOURS = 3_600_000
const talk = { sessionType: 'conversation' } as const
const echo: Work = ({ payload }) => ({ results: payload.parameters['n'] })

function ask(n: number) {
  return { intent: FLIGHTS, parameters: { n } }
}

test('a daemon that starts without a registry says so, and registers when there is one', async () => {
  await mesh.stop('registry')
  const alice = await mesh.member('alice', { capabilities: [FLIGHTS] }).start()
  await alice.daemon.line(({ registry }) => JSON.stringify(registry ?? '').includes('REGISTRY_UNREACHABLE'))
  expect(await alice.client.status()).toMatchObject({
    registry: { state: 'waiting', last_error: expect.stringContaining('REGISTRY_UNREACHABLE') as string },
  })
  await expect(alice.client.search({ capability: 'travel' })).rejects.toMatchObject({
    code: 'REGISTRY_UNREACHABLE',
  })
  await mesh.restart('registry')
  await alice.online()
  const { registry } = await alice.client.status()
  expect(registry).toEqual({ url: mesh.url('registry'), state: 'registered' })
  const { agents } = await alice.client.search({ capability: 'travel/flights' })
  expect(agents.map(({ amid }) => amid)).toEqual([alice.amid])
})

test('the registry is killed: open sessions go on, new ones wait until it is back', async () => {
  const [alice, bob, carol] = await Promise.all(['alice', 'bob', 'carol'].map((name) => mesh.online(name)))
  for (const member of [bob!, carol!]) mesh.listen(member, echo)
  await answerOf(alice!.client, await alice!.client.send(bob!.amid, ask(1), talk))
  await mesh.stop('registry')
  const onOpenSession = await alice!.client.send(bob!.amid, ask(2), talk)
  expect(await answerOf(alice!.client, onOpenSession)).toMatchObject({ payload: { results: 2 } })
  const toStranger = await alice!.client.send(carol!.amid, ask(3), talk)
  expect((await alice!.client.status()).outbox.queued).toBe(1)
  await mesh.restart('registry')
  expect(await answerOf(alice!.client, toStranger)).toMatchObject({ payload: { results: 3 } })
})

test('daemons that start before the relay talk once it is up', async () => {
  await mesh.stop('relay')
  const [alice, bob] = await Promise.all(['alice', 'bob'].map((name) => mesh.member(name).start()))
  mesh.listen(bob!, echo)
  const unreachable = (line: Record<string, unknown>) =>
    JSON.stringify(line['relay'] ?? '').includes('waiting')
  await Promise.all([alice!.daemon.line(unreachable), bob!.daemon.line(unreachable)])
  const { relay } = await alice!.client.status()
  expect(relay.last_error).toMatch(/^RELAY_DISCONNECTED: .*ECONNREFUSED/)
  // Bob has to be known before he can be knocked at.
  await bob!.daemon.line((line) => JSON.stringify(line['registry'] ?? '').includes('"registered"'))
  const id = await alice!.client.send(bob!.amid, ask(4))
  await reached(alice!.client, id, 'knocked')
  await mesh.restart('relay')
  expect(await answerOf(alice!.client, id)).toMatchObject({ payload: { results: 4 } })
  expect((await alice!.client.status()).relay).toEqual({
    url: `${mesh.url('relay')}/v1/connect`,
    state: 'connected',
    reason: 'only',
  })
})

test.each([2, -2])('a clock %i hours off is named by status, for relay and registry', async (hours) => {
  const alice = await mesh.member('alice', {}, hours * HOURS).start()
  await alice.daemon.line(({ registry }) => JSON.stringify(registry ?? '').includes('last_error'))
  await alice.daemon.line(({ relay }) => JSON.stringify(relay ?? '').includes('CLOCK_SKEW'))
  const { relay, registry } = await alice.client.status()
  expect(relay.last_error).toMatch(/CLOCK_SKEW: .*clock/)
  expect(registry.last_error).toMatch(/^SIGNATURE_EXPIRED: /)
  expect(relay.state).not.toBe('connected')
  expect(registry.state).toBe('waiting')
})

test('an embedded agent that closes while it looks for a peer leaves the process to end by itself', async () => {
  await mesh.stop('registry')
  const script = `import { Agent } from '@agentmesh/sdk'
    const [home, registry, relay] = process.argv.slice(1)
    const agent = await Agent.open({ home, config: { registry, relays: [relay] } })
    const request = { intent: { category: 'travel' }, parameters: {} }
    await agent.send(agent.amid, request)
    await agent.close()
    console.log('{"closed":true}')`
  const home = join(mesh.folder, 'embedded')
  const urls = [mesh.url('registry'), mesh.url('relay')]
  const program = new Program(['--input-type=module', '-e', script, home, ...urls])
  await program.ready()
  expect(await program.ended()).toBe(0)
  expect(program.stderr).toBe('')
})

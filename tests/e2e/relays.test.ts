/** Agents whose homes are relays of different operators, all as processes of their own. */
import { readdirSync, readFileSync, rmSync } from 'node:fs'
import { watch } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { HostilePeer } from '../support/hostile-peer.ts'
import { FLIGHTS } from '../support/network.ts'
import { answerOf, ProcessMesh, reached, stages, type Member } from '../support/process-mesh.ts'
import { portOf, runServer, type RunningProgram } from '../support/processes.ts'
import { FarDoor, SilentDoor } from '../support/tcp-doors.ts'

/** More than a machine under load takes to answer at once, and less than counts as no answer. */
const FAR_MS = 250

let mesh: ProcessMesh
let second: RunningProgram
let undo: (() => Promise<unknown>)[]

beforeEach(async () => {
  undo = []
  mesh = await ProcessMesh.start()
  second = await runServer('relay', secondData())
})
afterEach(async () => {
  await mesh.close()
  await second.program.end('SIGKILL')
  for (const step of undo) await step()
})

const secondData = () => join(mesh.folder, 'second.db')
const ask = (n: number) => ({ intent: FLIGHTS, parameters: { n } })
const talk = { sessionType: 'conversation' } as const

/** The first relay again, far away: to whoever dials it so, it is a relay of its own. */
async function farFirst(): Promise<string> {
  const door: FarDoor = await FarDoor.start(FAR_MS, () => portOf(first.url))
  undo.push(async () => door.close())
  const first = await runServer('relay', join(mesh.folder, 'first.db'), 0, undefined, [
    '--name',
    door.authority,
  ])
  undo.push(async () => first.program.end('SIGKILL'))
  return `ws://${door.authority}/v1/connect`
}

/** What a relay counts. */
async function metric(url: string, name: string): Promise<number> {
  const text = await (await fetch(`${url.replace(/^ws/, 'http')}/metrics`)).text()
  return Number(new RegExp(`^${name} (\\S+)$`, 'm').exec(text)?.[1])
}

/** The daemon says that its home is this relay, and the registry knows. */
async function homeIs(member: Member, url: string): Promise<void> {
  await member.daemon.line(({ relay, registry }) => {
    const told = JSON.stringify([relay, registry])
    return told.includes(url) && told.includes('"connected"') && told.includes('"registered"')
  })
}

test('the nearest relay is the home; peers of two operators talk both ways; when one dies the talk goes on', async () => {
  const far = await farFirst()
  const near = `${second.url}/v1/connect`
  const alice = await mesh.online('alice')
  // The far one is named first: it is not the order that decides.
  const bob = await mesh.online('bob', { relays: [far, second.url] })
  const { relay, relays } = await bob.client.status()
  expect(relay).toMatchObject({ url: near, state: 'connected', reason: 'nearest' })
  expect(relays).toMatchObject([
    { url: far, home: false, down: false },
    { url: near, home: true, down: false },
  ])
  expect(relays[0]!.latency_ms!).toBeGreaterThan(relays[1]!.latency_ms!)

  const work = ({ payload }: { payload: { parameters: Record<string, unknown> } }) => ({
    results: Number(payload.parameters['n']) * 2,
  })
  const atBob = mesh.listen(bob, work)
  const atAlice = mesh.listen(alice, work)
  const [toBob, toAlice] = await Promise.all([
    alice.client.send(bob.amid, ask(21), talk),
    bob.client.send(alice.amid, ask(4), talk),
  ])
  expect(await answerOf(alice.client, toBob)).toMatchObject({ from: bob.amid, payload: { results: 42 } })
  expect(await answerOf(bob.client, toAlice)).toMatchObject({ from: alice.amid, payload: { results: 8 } })
  // Each has come to the other's relay to send, and is reached at its own only.
  for (const url of [mesh.url('relay'), second.url]) {
    expect(await metric(url, 'agentmesh_relay_agents')).toBe(1)
    expect(await metric(url, 'agentmesh_relay_senders')).toBe(1)
  }

  const numbers = Array.from({ length: 40 }, (_, index) => index)
  const asked = numbers.map(async (n) => {
    if (n === 20) await second.program.end('SIGKILL')
    return [
      await alice.client.send(bob.amid, ask(n), talk),
      await bob.client.send(alice.amid, ask(n), talk),
    ] as const
  })
  const ids = await Promise.all(asked)
  const answers = await Promise.all(
    ids.map(async ([one, other]) => [await answerOf(alice.client, one), await answerOf(bob.client, other)]),
  )
  expect(answers.map(([one, other]) => [one?.payload, other?.payload])).toMatchObject(
    numbers.map((n) => [{ results: n * 2 }, { results: n * 2 }]),
  )
  await homeIs(bob, far)
  expect((await bob.client.status()).relay).toMatchObject({ url: far, state: 'connected' })
  // Nothing twice: each was handed over once.
  for (const [listening, first, place] of [
    [atBob, toBob, 0],
    [atAlice, toAlice, 1],
  ] as const) {
    const handed = listening.handed.map(({ id }) => id).toSorted()
    expect(handed).toEqual([first, ...ids.map((pair) => pair[place])].toSorted())
  }
})

test('a KNOCK that a relay lost reaches its peer where that is reached now', async () => {
  const bob = await mesh.online('bob', { relays: [second.url] })
  const alice = await mesh.online('alice')
  await bob.kill()
  const id = await alice.client.send(bob.amid, ask(3))
  await reached(alice.client, id, 'stored')
  // With all it had promised to keep.
  await second.program.end('SIGKILL')
  rmSync(secondData())

  const moved = await mesh.member('bob', { relays: [mesh.url('relay')] }).start()
  expect(moved.amid).toBe(bob.amid)
  mesh.listen(moved, () => ({ results: 'found' }))
  expect(await answerOf(alice.client, id)).toMatchObject({ payload: { results: 'found' } })
  const decisions = await moved.client.decisions()
  expect(decisions).toHaveLength(1)
})

test('messages that a relay lost after it had promised to keep them are sent again to where the peer is now', async () => {
  const bob = await mesh.online('bob', { relays: [second.url] })
  const alice = await mesh.online('alice')
  const before = mesh.listen(bob, () => ({ results: 0 }))
  await answerOf(alice.client, await alice.client.send(bob.amid, ask(0), talk))
  await before.stop()
  await bob.kill()
  const ids = await Promise.all([1, 2, 3].map(async (n) => alice.client.send(bob.amid, ask(n), talk)))
  for (const id of ids) await reached(alice.client, id, 'stored')
  await second.program.end('SIGKILL')
  rmSync(secondData())

  const moved = await mesh.member('bob', { relays: [mesh.url('relay')] }).start()
  const listening = mesh.listen(moved, ({ payload }) => ({ results: payload.parameters['n'] }))
  for (const [index, id] of ids.entries()) {
    expect(await answerOf(alice.client, id)).toMatchObject({ payload: { results: index + 1 } })
  }
  expect(listening.handed.map(({ id }) => id)).toEqual(ids)
})

/** A peer that is reached at the first relay, whatever its record says. */
async function registeredAt(endpoint: string): Promise<HostilePeer> {
  const network = { relay: { url: mesh.url('relay') }, registry: { url: mesh.url('registry') } }
  const peer = await HostilePeer.open(network, true, endpoint)
  undo.push(async () => peer.close())
  return peer
}

/** Resolves when the daemon's audit log has such an event. */
async function logged(member: Member, event: string): Promise<void> {
  const folder = join(member.home, 'logs')
  const has = () =>
    readdirSync(folder).some((name) => readFileSync(join(folder, name), 'utf8').includes(`"${event}"`))
  const changes = watch(folder)[Symbol.asyncIterator]()
  while (!has()) await changes.next()
  await changes.return?.()
}

test.each([
  ['an address that means this machine', (port: number) => `ws://0.0.0.0:${port}/v1/connect`],
  ['another path of a service here', (port: number) => `ws://127.0.0.1:${port}/admin/delete`],
  ['credentials', (port: number) => `ws://user:secret@127.0.0.1:${port}/v1/connect`],
  ['a query', (port: number) => `ws://127.0.0.1:${port}/v1/connect?delete=all`],
])('a record that names %s is not followed, neither to knock nor to answer', async (_, endpoint) => {
  const trap = await SilentDoor.start()
  undo.push(async () => trap.close())
  const alice = await mesh.online('alice')
  const mallory = await registeredAt(endpoint(trap.port))

  const id = await alice.client.send(mallory.amid, ask(1))
  expect((await stages(alice.client, id)).at(-1)).toMatchObject({ stage: 'failed', code: 'RELAY_FORBIDDEN' })

  // She knocks herself: the answer has nowhere to go.
  await mallory.sendKnock(alice.amid)
  await logged(alice, 'relay_refused')
  expect(trap.opened).toBe(0)
})

test('relays that take connections and answer nothing hold up nobody else', async () => {
  const trap = await SilentDoor.start()
  undo.push(async () => trap.close())
  const [alice, bob] = await Promise.all([mesh.online('alice'), mesh.online('bob', { relays: [second.url] })])
  const traps = Array.from({ length: 5 }, (_, n) => `ws://${trap.authority}/${n}/v1/connect`)
  const mallories = await Promise.all(traps.map(registeredAt))
  await Promise.all(mallories.map(async (mallory) => mallory.sendKnock(alice.amid)))
  await trap.until(mallories.length)

  mesh.listen(bob, () => ({ results: 'in time' }))
  expect(await answerOf(alice.client, await alice.client.send(bob.amid, ask(1)))).toMatchObject({
    payload: { results: 'in time' },
  })
  expect((await alice.client.status()).outbox.unacknowledged).toBeGreaterThanOrEqual(mallories.length)
})

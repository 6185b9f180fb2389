/** One hostile machine, and agents of it, at a relay; honest agents beside it, whose messages come through. Real processes. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { fetchTurnCredentials, TURN_PATH } from '@agentmesh/sdk'
import { systemRandom } from '@agentmesh/sdk/crypto/signing'
import { signRequest } from '@agentmesh/sdk/identity'
import { newMessageId, utf8Bytes, type Amid } from '@agentmesh/sdk/wire'
import { allClosed, figures, hostile } from '../support/hostile-machine.ts'
import { HonestAgents } from '../support/honest-agents.ts'
import { runServer, type RunningProgram } from '../support/processes.ts'
import { connected, newIdentity, type RawAgent } from './relay-harness.ts'

/** Shorter, smaller or slower than the defaults only so that a test comes to them soon, also on a slow machine. */
const CONFIGURATION = {
  metrics_address: '127.0.0.1:0',
  turn: { uris: ['turn:turn.example.org:3478?transport=udp'], secret: 'north-wind-under-the-door' },
  limit: {
    connect_timeout_ms: 3_000,
    sockets_per_ip: 80,
    sockets_opened_per_ip: { per_second: 1, burst: 400 },
    signature_checks_per_ip: { per_second: 1 },
    requests_per_ip: { per_second: 5 },
    frames_per_ip: { per_second: 1_000 },
    presence_queries_per_ip: { per_second: 5 },
    unfinished_bytes_per_ip: 1024 * 1024,
    window_bytes_per_ip: 1024 * 1024,
    total_window_bytes: 4 * 1024 * 1024,
  },
}

let folder: string
let relay: RunningProgram
let registry: RunningProgram
let honest: HonestAgents

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'agentmesh-bounded-'))
  const config = join(folder, 'relay.json')
  writeFileSync(config, JSON.stringify(CONFIGURATION), { mode: 0o600 })
  ;[relay, registry] = await Promise.all([
    runServer('relay', join(folder, 'relay.db'), 0, undefined, ['--config', config]),
    runServer('registry', join(folder, 'registry.db')),
  ])
  honest = await HonestAgents.start([relay.url], registry.url)
})
afterAll(async () => {
  await honest?.close()
  await Promise.all([relay, registry].map(async (server) => server?.program.end('SIGKILL')))
  rmSync(folder, { recursive: true })
})

async function figure(name: string, labels = ''): Promise<number> {
  return (await figures(relay)).of(`agentmesh_relay_${name}`, labels)
}

/** What became of so many messages, counted by outcome. */
async function outcomes(agent: RawAgent, receivers: readonly Amid[]): Promise<Map<string, number>> {
  const counts = new Map<string, number>()
  const ids = receivers.map((to) => agent.send(to, 'x'))
  for (const outcome of await Promise.all(ids.map(async (id) => agent.outcome(id)))) {
    counts.set(outcome, (counts.get(outcome) ?? 0) + 1)
  }
  return counts
}

test('sockets that say nothing, or never end their request, fill a share of one address, and end', async () => {
  const machine = hostile()
  const before = await figure('sockets_refused_total')
  const sockets = await machine.tcps(relay.url, 200)
  for (const socket of sockets.slice(0, 100)) socket.write('GET /v1/connect HTTP/1.1\r\nHost: x\r\nX-Slow: ')
  const drip = setInterval(() => {
    for (const socket of sockets) if (socket.writable) socket.write('a')
  }, 300)
  await expect.poll(() => figure('sockets_refused_total'), { timeout: 20_000 }).toBe(before + 200 - 64)
  await honest.newcomer()
  await allClosed(sockets)
  clearInterval(drip)
})

test('connections opened and left again and again come to an end for their address', async () => {
  const machine = hostile()
  const before = await figure('sockets_refused_total')
  const upgrade =
    'GET /v1/connect HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n' +
    'Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n' +
    'Sec-WebSocket-Protocol: agentmesh.v0.2.bin\r\n\r\n'
  for (let round = 0; round < 14; round++) {
    const sockets = await machine.tcps(relay.url, 40)
    for (const socket of sockets) socket.end(upgrade)
    await allClosed(sockets)
  }
  expect((await figure('sockets_refused_total')) - before).toBeGreaterThan(0)
  await honest.newcomer()
})

test('one machine with many AMIDs, sending-only ones too, leaves sockets to others', async () => {
  const machine = hostile()
  const agents = await machine.agents(relay.url, 40)
  let senders = 0
  for (let n = 0; n < 60; n++) {
    const stranger = machine.stranger(relay.url)
    senders += await stranger.connect('offline').then(
      () => 1,
      () => 0,
    )
  }
  expect([agents.length, senders]).toEqual([40, 40])
  expect(await figure('senders')).toBe(40)
  await honest.newcomer()
})

test('CONNECTs with forged signatures are looked at only so often for one address', async () => {
  const machine = hostile()
  const codes = new Map<string, number>()
  for (let n = 0; n < 150; n++) {
    const forger = machine.stranger(relay.url)
    forger.write(forger.signConnect(await forger.next('HELLO'), { signature: new Uint8Array(64) }))
    const { code } = await forger.next('ERROR')
    codes.set(code, (codes.get(code) ?? 0) + 1)
  }
  expect(codes.get('RATE_LIMITED')).toBeGreaterThan(0)
  expect(codes.get('INVALID_SIGNATURE')).toBeGreaterThanOrEqual(120)
  await honest.oldFriends()
})

test('who sends frames without end is read later, and honest agents are read meanwhile', async () => {
  const machine = hostile()
  const before = await figure('pauses_total')
  const flooders = await machine.agents(relay.url, 20)
  const query = Buffer.concat([Uint8Array.of(5), new Uint8Array(20).fill(3)])
  const id = newMessageId(systemRandom)
  for (let round = 0; round < 60; round++) {
    for (const flooder of flooders) {
      for (let n = 0; n < 20; n++) {
        flooder.webSocket.ping('x')
        flooder.webSocket.send(query)
        // Refused for its id after the first, or for its rate.
        flooder.write({ frame: 'SEND', id, to: flooder.amid, type: 'message', payload: utf8Bytes('x') })
      }
    }
    if (round % 20 === 0) await honest.oldFriends()
  }
  await expect.poll(() => figure('pauses_total'), { timeout: 20_000 }).toBeGreaterThan(before)
  await honest.oldFriends()
  machine.close()
})

test('a frame beyond all sizes, or a message in endless fragments, ends its connection alone', async () => {
  const machine = hostile()
  const agents = await machine.agents(relay.url, 20)
  for (const agent of agents.slice(0, 10)) agent.webSocket.send(new Uint8Array(4 * 1024 * 1024))
  for (const agent of agents.slice(10)) {
    for (let n = 0; n < 200; n++) agent.webSocket.send(Uint8Array.of(1), { fin: false })
  }
  const codes = await Promise.all(agents.map(async (agent) => agent.closed))
  expect(codes.map((code) => (code === 1006 ? 1009 : code))).toEqual([
    ...Array(10).fill(1009),
    ...Array(10).fill(1008),
  ])
  await honest.oldFriends()
})

test('messages that never end take a share of the memory, and who goes on is cut off', async () => {
  const machine = hostile()
  const agents = await machine.agents(relay.url, 30)
  for (const agent of agents) agent.webSocket.send(new Uint8Array(100 * 1024), { fin: false })
  const cut = await Promise.race(agents.map(async (agent) => agent.next('ERROR')))
  expect(cut).toMatchObject({ code: 'RATE_LIMITED', fatal: true })
  await honest.oldFriends()
  const unfinished = await figure('unfinished_bytes')
  expect(unfinished).toBeGreaterThan(0)
  expect(unfinished).toBeLessThan(1.5 * 1024 * 1024)
  machine.close()
  await expect.poll(() => figure('unfinished_bytes'), { timeout: 20_000 }).toBe(0)
})

test('many fresh identities of one machine fill a share of a mailbox, and a friend still leaves his message', async () => {
  const machine = hostile()
  const victim = newIdentity()
  const total = new Map<string, number>()
  for (const agent of await machine.agents(relay.url, 8)) {
    for (const [outcome, count] of await outcomes(agent, Array(20).fill(victim.amid))) {
      total.set(outcome, (total.get(outcome) ?? 0) + count)
    }
  }
  expect(Object.fromEntries(total)).toEqual({ stored: 50, SENDER_QUOTA: 110 })
  const friend = await connected(relay.url)
  expect(await outcomes(friend, [victim.amid, victim.amid])).toEqual(new Map([['stored', 2]]))
  // Fetched, it is empty for everybody.
  const back = await connected(relay.url, { identity: victim })
  expect((await back.receiveTexts(52)).length).toBe(52)
  await Promise.all([friend.close(), back.close()])
  const again = await machine.agents(relay.url, 1)
  expect(await outcomes(again[0]!, Array(5).fill(victim.amid))).toEqual(new Map([['stored', 5]]))
  await honest.newcomer()
})

test('who writes to ever more AMIDs makes a bounded number of mailboxes, and learns of as many who is there', async () => {
  const machine = hostile()
  const before = await figure('mailbox_messages')
  const total = new Map<string, number>()
  for (const agent of await machine.agents(relay.url, 4)) {
    const strangers = Array.from({ length: 400 }, () => newIdentity().amid)
    for (const [outcome, count] of await outcomes(agent, strangers)) {
      total.set(outcome, (total.get(outcome) ?? 0) + count)
    }
  }
  expect(total.get('RATE_LIMITED')).toBeGreaterThan(0)
  expect(total.get('stored')).toBeLessThan(1_400)
  // Honest agents may have some of their own.
  expect((await figure('mailbox_messages')) - before).toBeLessThan(1_500)
  await honest.oldFriends()
})

test('who asks for the presence of everybody, under many names, is answered at the rate of one address', async () => {
  const machine = hostile()
  const agents = await machine.agents(relay.url, 20)
  for (const agent of agents) {
    for (let n = 0; n < 50; n++) agent.write({ frame: 'PRESENCE_QUERY', amid: honest.bob.amid })
  }
  const answers = () => agents.flatMap(({ frames }) => frames.map(({ frame }) => frame))
  await expect.poll(() => answers().length, { timeout: 20_000 }).toBe(1_000)
  expect(answers().filter((frame) => frame === 'ERROR').length).toBeGreaterThan(0)
  expect(answers().filter((frame) => frame === 'PRESENCE_RESULT').length).toBeGreaterThanOrEqual(600)
  const curious = await connected(relay.url)
  curious.write({ frame: 'PRESENCE_QUERY', amid: honest.bob.amid })
  expect((await curious.next('PRESENCE_RESULT')).state).toBe('online')
  await curious.close()
})

test('receivers that acknowledge nothing, under many names, hold a share of what may be on its way', async () => {
  const machine = hostile()
  const [sender, ...receivers] = await machine.agents(relay.url, 13)
  const payload = new Uint8Array(128 * 1024)
  const ids = receivers.flatMap(({ amid: to }) =>
    Array.from({ length: 4 }, () => {
      const id = newMessageId(systemRandom)
      sender!.write({ frame: 'SEND', id, to, type: 'message', payload })
      return id
    }),
  )
  // Six megabytes; what finds no room goes to mailboxes, as far as there is room for one address.
  await sender!.settle()
  for (let n = 0; n < 10; n++) await honest.oldFriends()
  expect(await figure('window_bytes')).toBeLessThan(1.5 * 1024 * 1024)
  const early = receivers.flatMap(({ frames }) => frames.filter(({ frame }) => frame === 'RECEIVE'))
  expect(early.length).toBeLessThan(ids.length)
  await honest.oldFriends()
})

test('HTTP requests of one address are answered at its rate', async () => {
  const machine = hostile()
  const http = relay.url.replace(/^ws/, 'http')
  const statuses = new Map<number, number>()
  for (let round = 0; round < 14; round++) {
    const asked = Array.from({ length: 30 }, (_, n) =>
      machine.request(`${http}/${n % 2 === 0 ? 'readyz' : n}`),
    )
    for (const { status } of await Promise.all(asked)) statuses.set(status, (statuses.get(status) ?? 0) + 1)
  }
  expect(statuses.get(429)).toBeGreaterThan(0)
  expect((await fetch(`${http}/readyz`)).status).toBe(200)
  await honest.oldFriends()
})

test('TURN credentials are few for one machine, however many AMIDs it has', async () => {
  const machine = hostile()
  const url = relay.url.replace(/^ws/, 'http') + TURN_PATH
  const statuses: number[] = []
  for (let n = 0; n < 50; n++) {
    const headers = signRequest({ method: 'POST', url }, newIdentity(), {
      now: Date.now(),
      nonce: systemRandom(16),
    })
    statuses.push((await machine.request(url, { method: 'POST', headers: { ...headers } })).status)
  }
  const given = statuses.filter((status) => status === 200).length
  expect(given).toBeGreaterThanOrEqual(30)
  expect(given).toBeLessThan(35)
  expect(await figure('turn_credentials_total')).toBe(given)
  const now = Date.now
  await fetchTurnCredentials(`${relay.url}/v1/connect`, newIdentity(), { now, random: systemRandom })
})

test('after all that the relay has no figure and no line of its log more', async () => {
  expect((await figures(relay)).count).toBeLessThan(80)
  expect(relay.program.stderr.split('\n').length).toBeLessThan(10)
  await honest.oldFriends()
})

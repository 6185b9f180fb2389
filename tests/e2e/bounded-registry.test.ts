/** One hostile machine at a registry with its default limits, honest agents beside it. Real processes. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { systemRandom } from '@agentmesh/sdk/crypto/signing'
import { amidFromBytes } from '@agentmesh/sdk/wire'
import { TestAgent } from '../../apps/registry/src/test-support.ts'
import { allClosed, figures, hostile, type HttpAnswer } from '../support/hostile-machine.ts'
import { HonestAgents } from '../support/honest-agents.ts'
import { runServer, type RunningProgram } from '../support/processes.ts'

let folder: string
let relay: RunningProgram
let registry: RunningProgram
let honest: HonestAgents

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'agentmesh-bounded-'))
  ;[relay, registry] = await Promise.all([
    runServer('relay', join(folder, 'relay.db')),
    // Shorter than the defaults only so that a test does not wait for them.
    runServer('registry', join(folder, 'registry.db'), 0, undefined, [
      '--limit-request-timeout-ms=3000',
      '--limit-idle-timeout-ms=3000',
      '--limit-requests-per-ip-per-second=3',
      '--metrics-address=127.0.0.1:0',
    ]),
  ])
  honest = await HonestAgents.start([relay.url], registry.url)
})
afterAll(async () => {
  await honest?.close()
  await Promise.all([relay, registry].map(async (server) => server?.program.end('SIGKILL')))
  rmSync(folder, { recursive: true })
})

/** What only this machine was refused. */
async function refusedConnections(): Promise<number> {
  return (await figures(registry)).of('agentmesh_registry_connections_refused_total')
}
async function openConnections(): Promise<number> {
  return (await figures(registry)).of('agentmesh_registry_connections')
}

test('connections that are silent, or never end their request, fill a share of one address and no more, and end', async () => {
  const machine = hostile()
  const before = await refusedConnections()
  const sockets = await machine.tcps(registry.url, 300)
  const slow = sockets.filter((_, index) => index % 2 === 0)
  for (const socket of slow) socket.write('GET /v1/registry/taxonomy HTTP/1.1\r\nHost: x\r\nX-Slow: ')
  // A byte at a time never ends, and never looks idle.
  const drip = setInterval(() => {
    for (const socket of slow) socket.write('a')
  }, 200)
  await expect.poll(refusedConnections, { timeout: 20_000 }).toBe(before + 100)
  expect(await openConnections()).toBeGreaterThanOrEqual(200)
  await honest.newcomer()
  await allClosed(sockets)
  clearInterval(drip)
  await expect.poll(openConnections, { timeout: 20_000 }).toBeLessThan(50)
})

test('connections whose answers nobody reads end, and take no memory with them', async () => {
  const machine = hostile()
  const memory = async () => (await figures(registry)).of('process_resident_memory_bytes')
  const before = await memory()
  for (const socket of await machine.tcps(registry.url, 150)) {
    socket.pause()
    socket.write('GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n'.repeat(20))
  }
  await honest.newcomer()
  expect((await memory()) - before).toBeLessThan(150 * 1024 * 1024)
  await expect.poll(openConnections, { timeout: 30_000 }).toBeLessThan(50)
})

test('who looks everybody up is slowed down to the rate of one address, and honest ones are not', async () => {
  const machine = hostile()
  const refusals = async () =>
    (await figures(registry)).of('agentmesh_registry_refusals_total', 'code="RATE_LIMITED"')
  const before = await refusals()
  const found = { known: 0, unknown: 0, refused: 0 }
  for (let round = 0; round < 20; round++) {
    const asked = Array.from({ length: 20 }, (_, index) => {
      const amid = index === 0 ? honest.bob.amid : amidFromBytes(systemRandom(20))
      return machine.request(`${registry.url}/v1/registry/lookup?amid=${amid}`)
    })
    for (const { status } of await Promise.all(asked)) {
      if (status === 200) found.known += 1
      else if (status === 404) found.unknown += 1
      else if (status === 429) found.refused += 1
    }
  }
  expect(found.known).toBeGreaterThan(0)
  expect(found.refused).toBeGreaterThan(0)
  expect((await refusals()) - before).toBeGreaterThanOrEqual(found.refused)
  await honest.newcomer()
})

test('who searches without end comes to the end of the searches of its address', async () => {
  const machine = hostile()
  const search = () => machine.request(`${registry.url}/v1/registry/search?capability=travel/flights`)
  const statuses: number[] = []
  for (let round = 0; round < 5; round++) {
    const answers: HttpAnswer[] = await Promise.all(Array.from({ length: 20 }, search))
    statuses.push(...answers.map(({ status }) => status))
  }
  expect(statuses.filter((status) => status === 200).length).toBeGreaterThanOrEqual(60)
  expect(statuses.filter((status) => status === 429).length).toBeGreaterThan(0)
  await honest.newcomer()
})

test('one-time prekeys taken by many identities of one machine leave their owner reachable', async () => {
  const machine = hostile()
  const bundles = async (kem: string) =>
    (await figures(registry)).of('agentmesh_registry_bundles_total', `kem="${kem}"`)
  const before = await bundles('one-time')
  let given = 0
  for (let n = 0; n < 6; n++) {
    const agent = new TestAgent(`drainer ${n}`, registry.url, Date.now)
    const send = async (method: string, path: string, body: object) => {
      const { url, init } = agent.sign({ method, path, body })
      const headers = init.headers as Record<string, string>
      return machine.request(url, { method, headers, body: JSON.stringify(body) })
    }
    await send('POST', '/v1/registry/register', agent.registration())
    for (let fetched = 0; fetched < 25; fetched++) {
      const { status } = await send('POST', '/v1/registry/prekeys/fetch', { amid: honest.bob.amid })
      if (status === 200) given += 1
    }
  }
  // Each takes its share and then gets bundles without, and is not refused them; nor is anybody else.
  expect(given).toBe(150)
  expect((await bundles('one-time')) - before).toBeLessThanOrEqual(120)
  expect(await bundles('last-resort')).toBeGreaterThanOrEqual(30)
  await honest.newcomer()
})

test('whatever strangers send, no figure and no line of the log is added for each', async () => {
  const machine = hostile()
  const before = (await figures(registry)).count
  const sent = Array.from({ length: 200 }, (_, n) =>
    machine.request(`${registry.url}/${n}/v1/registry/lookup?amid=${n}`, {
      method: ['GET', 'PROPFIND', 'REPORT', 'POST'][n % 4]!,
      headers: { 'x-forwarded-for': `203.0.113.${n}`, authorization: `Bearer ${n}` },
    }),
  )
  const answers = await Promise.all(sent)
  expect(answers.filter(({ status }) => status >= 400 && status < 500)).toHaveLength(200)
  // A method and a status, on the one route of all that is not there.
  expect((await figures(registry)).count - before).toBeLessThan(20)
  expect(registry.program.stderr.split('\n').filter((line) => line.includes('"level":50'))).toEqual([])
  expect(registry.program.stderr.split('\n').length).toBeLessThan(10)
})

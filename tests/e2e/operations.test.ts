/** What operators see: the metrics that are documented and no others, a dashboard of those, and logs that tell on nobody. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { Writable } from 'node:stream'
import { pino } from 'pino'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { startRegistry, type RunningRegistry } from '@agentmesh/registry'
import { startRelay, type RunningRelay } from '@agentmesh/relay'
import { fetchTurnCredentials } from '@agentmesh/sdk'
import { systemRandom } from '@agentmesh/sdk/crypto/signing'
import { logOptions } from '@agentmesh/sdk/hosting'
import { TestAgent } from '../../apps/registry/src/test-support.ts'
import { ROOT } from './cli-harness.ts'
import { RawAgent } from './relay-harness.ts'

const CLIENT = '198.51.100.77'
const CANARY = 'canary-in-the-payload-0123456789'
const NAME = 'Cuckoo Flights'
const ADMIN_TOKEN = 'magpie-token-0123456789abcdef'
const TURN_SECRET = 'nightjar-secret-0123456789'

let log = ''
let relay: RunningRelay
let registry: RunningRegistry
const logger = (server: string) =>
  pino(
    logOptions(server, 'debug'),
    new Writable({
      write(chunk: Buffer, _encoding, done) {
        log += chunk.toString()
        done()
      },
    }),
  )

beforeAll(async () => {
  relay = await startRelay({
    dataPath: ':memory:',
    metricsAddress: '127.0.0.1:0',
    trustedProxies: ['127.0.0.1'],
    turn: { uris: ['turn:turn.example.org'], secret: TURN_SECRET, ttlSeconds: 600 },
    limits: { closeGraceMs: 100 },
    logger: logger('relay'),
  })
  registry = await startRegistry({
    dataPath: ':memory:',
    metricsAddress: '127.0.0.1:0',
    trustedProxies: ['127.0.0.1'],
    adminTokens: `magpie:${ADMIN_TOKEN}`,
    logger: logger('registry'),
  })
})
afterAll(() => Promise.all([relay.close(), registry.close()]))

const forwarded = { 'x-forwarded-for': CLIENT }

/** Everything agents do at a relay, right and wrong. Returns what must not be logged. */
async function busyRelay(): Promise<string[]> {
  const agents = [0, 1, 2].map((n) => new RawAgent(relay.url, n === 0 ? 'json' : 'bin', undefined, forwarded))
  const [alice, bob, mallory] = agents as [RawAgent, RawAgent, RawAgent]
  await alice.connect()
  await bob.connect()
  alice.send(bob.amid, CANARY)
  await bob.next('RECEIVE')
  const away = new RawAgent(relay.url, 'bin', undefined, forwarded)
  alice.send(away.amid, CANARY)
  expect((await alice.next('SENT')).status).toBe('stored')
  const forged = mallory.signConnect(await mallory.next('HELLO'), { relayId: 'elsewhere.example' })
  mallory.write(forged)
  await mallory.next('ERROR')
  bob.webSocket.send('{"frame":"NONSENSE"')
  await bob.closed
  const turn = await fetchTurnCredentials(relay.url, alice.identity, { now: Date.now, random: systemRandom })
  alice.webSocket.close()
  await alice.closed
  const texts = [...agents, away].map(({ amid }) => amid)
  return [
    ...texts,
    Buffer.from(forged.signature).toString('base64').slice(0, 20),
    turn.password,
    turn.username,
  ]
}

async function busyRegistry(): Promise<string[]> {
  const agent = new TestAgent('operations', registry.url, Date.now)
  const request = async (method: string, path: string, body?: object | string) => {
    const { url, init } = agent.sign({ method, path, ...(body === undefined ? {} : { body }) })
    const headers = { ...(init.headers as Record<string, string>), ...forwarded, connection: 'close' }
    return { status: (await fetch(url, { ...init, headers })).status, headers }
  }
  const registration = agent.registration({ display_name: NAME })
  const registered = await request('POST', '/v1/registry/register', registration)
  expect(registered.status).toBe(201)
  expect((await request('POST', '/v1/registry/register', registration)).status).toBe(200)
  expect((await request('POST', '/v1/registry/prekeys/fetch', '{"amid":')).status).toBe(400)
  const plain = async (path: string, headers: Record<string, string> = {}) =>
    (await fetch(registry.url + path, { headers: { ...forwarded, connection: 'close', ...headers } })).status
  expect(await plain(`/v1/registry/search?capability=travel/flights&q=${CANARY}`)).toBeLessThan(500)
  expect(await plain(`/v1/registry/lookup?amid=${agent.amid}`)).toBeLessThan(500)
  expect(await plain(`/nowhere/${agent.amid}`)).toBe(404)
  expect(await plain('/v1/admin/reviews', { authorization: `Bearer ${ADMIN_TOKEN}` })).toBeLessThan(500)
  expect(
    await plain('/v1/admin/reviews', { authorization: 'Bearer wrong-token-0123456789abcdef' }),
  ).toBeGreaterThan(400)
  const { signature } = registered.headers as unknown as { signature: string }
  return [agent.amid, NAME, ADMIN_TOKEN, 'wrong-token', signature.slice(12, 40)]
}

test('a busy relay and registry at debug log no payload, no full address, no AMID and no token', async () => {
  const secrets = [CLIENT, CANARY, Buffer.from(CANARY).toString('base64').slice(0, 24), TURN_SECRET]
  secrets.push(...(await busyRelay()), ...(await busyRegistry()))
  for (const secret of secrets) expect(log.includes(secret), `${secret} in the log`).toBe(false)
  const lines = log
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as Record<string, unknown>)
  const debug = (server: string) =>
    lines.filter((line) => line['level'] === 'debug' && line['server'] === server)
  // It did say what happened, to whom, in short.
  const outcomes = debug('relay').map(({ outcome }) => outcome)
  expect(outcomes).toEqual(expect.arrayContaining(['accepted', 'INVALID_SIGNATURE']))
  expect(debug('registry').map(({ status }) => status)).toEqual(expect.arrayContaining([201, 200, 400, 404]))
  for (const line of [...debug('relay'), ...debug('registry')]) expect(line['client']).toBe('198.51.100.0/24')
})

describe('metrics', () => {
  const documented = (heading: string): string[] => {
    const text = readFileSync(join(ROOT, 'docs/operators.md'), 'utf8')
    const from = text.indexOf(`<!-- generated: ${heading} metrics -->`)
    const table = text.slice(from, text.indexOf('<!-- end -->', from))
    return [...table.matchAll(/^\| `(\w+)`/gm)].map(([, name]) => name!)
  }
  const served = async (port: number | undefined): Promise<string[]> => {
    const text = await (await fetch(`http://127.0.0.1:${port}/metrics`)).text()
    return [...text.matchAll(/^# TYPE (\w+)/gm)].map(([, name]) => name!)
  }
  /** What only a relay of a cluster, or a server with TLS, has. */
  const SOMETIMES = /^agentmesh_relay_(cluster|forward)|_certificate_expiry_seconds$/

  test.each(['relay', 'registry'] as const)('of a %s are those in docs/operators.md', async (kind) => {
    const names = await served((kind === 'relay' ? relay : registry).metricsPort)
    expect(names.length).toBeGreaterThan(5)
    const always = documented(kind).filter((name) => !SOMETIMES.test(name))
    expect(names.toSorted()).toEqual(always.toSorted())
  })

  test.each(['relay', 'registry'] as const)(
    'of a %s with a port of their own are nowhere else',
    async (kind) => {
      const server = kind === 'relay' ? relay : registry
      const open = server.url.replace(/^ws/, 'http')
      expect((await fetch(`${open}/metrics`)).status).toBe(404)
      expect((await fetch(`${open}/readyz`)).status).toBe(200)
      for (const path of ['healthz', 'readyz']) {
        expect((await fetch(`http://127.0.0.1:${server.metricsPort}/${path}`)).status).toBe(200)
      }
      expect((await fetch(`http://127.0.0.1:${server.metricsPort}/v1/registry/taxonomy`)).status).toBe(404)
      expect((await fetch(`http://127.0.0.1:${server.metricsPort}/constructor`)).status).toBe(404)
    },
  )

  test('in the dashboard all exist', () => {
    const known = new Set([...documented('relay'), ...documented('registry')])
    const text = readFileSync(join(ROOT, 'deploy/grafana/agentmesh.json'), 'utf8')
    const { panels } = JSON.parse(text) as { panels: { targets?: { expr: string }[] }[] }
    const used = panels.flatMap(({ targets = [] }) =>
      targets.flatMap(({ expr }) => expr.match(/\b(agentmesh|process)_\w+/g) ?? []),
    )
    expect(used.length).toBeGreaterThan(20)
    for (const name of used) expect(known).toContain(name.replace(/_bucket$/, ''))
  })
})

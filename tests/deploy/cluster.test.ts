/**
 * The cluster of compose.cluster.yaml as processes: its commands, its environment and its secrets, with nothing changed but where
 * the parts are. Two agents talk through it.
 */
import { execFileSync, spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createConnection } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import pg from 'pg'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { fetchTurnCredentials } from '@agentmesh/sdk'
import { systemRandom } from '@agentmesh/sdk/crypto/signing'
import { freePort, natsMissing, TestNats } from '../../apps/relay/src/test-support-nats.ts'
import { TestPostgres } from '../../apps/relay/src/test-support-postgres.ts'
import { newIdentity } from '../e2e/relay-harness.ts'
import { Balancer } from '../support/balancer.ts'
import { answerOf, Listening, Member } from '../support/process-mesh.ts'
import { Program } from '../support/processes.ts'
import { allocate, TestTurn, turnMissing } from '../support/turn-server.ts'
import { composeText, DEPLOY, readCompose } from './compose-file.ts'
import { imageEnvironment } from './docker-file.ts'

const missing = natsMissing || turnMissing
describe.skipIf(missing)('the cluster (needs nats-server and coturn)', () => {
  const folder = mkdtempSync(join(tmpdir(), 'agentmesh-deploy-'))
  const secrets = join(folder, 'secrets')
  const secret = (name: string) => readFileSync(join(secrets, name), 'utf8')
  const { services } = readCompose(composeText('compose.cluster.yaml'))
  const image = imageEnvironment(readFileSync(join(DEPLOY, 'Dockerfile'), 'utf8'))
  const [relayPorts, registryPorts] = [[] as number[], [] as number[]]
  const relayMetrics: string[] = []
  const programs = new Map<string, Program>()
  const members: Member[] = []
  let parts: {
    postgres: TestPostgres
    nats: TestNats
    turn: TestTurn
    relays: Balancer
    registries: Balancer
  }
  let [natsHealth, turnPort] = [0, 0]
  let listening: Listening | undefined

  /** Its secret, with the hosts of the compose file where they are here. */
  function moved(name: string, places: Readonly<Record<string, string>>): string {
    let text = secret(name)
    for (const [from, to] of Object.entries(places)) {
      expect(text).toContain(from)
      text = text.replaceAll(from, to)
    }
    const path = join(folder, name)
    writeFileSync(path, text, { mode: 0o600 })
    return path
  }

  async function makeDatabases(postgres: TestPostgres): Promise<void> {
    const client = new pg.Client({ connectionString: postgres.url('postgres') })
    await client.connect()
    for (const statement of secret('databases.sql')
      .split(';\n')
      .filter((text) => text !== '')) {
      await client.query(statement)
    }
    await client.end()
  }

  async function startServer(name: string, configs: Readonly<Record<string, string>>): Promise<void> {
    const { command = [], environment = {} } = services[name]!
    const kind = command[0] as 'relay' | 'registry'
    const { relays, registries } = parts
    const metricsPort = await freePort()
    if (kind === 'relay') relayMetrics.push(`http://127.0.0.1:${metricsPort}/metrics`)
    const here = {
      RELAY_PORT: '0',
      RELAY_NAMES: relays.authority,
      RELAY_CONFIG: configs['relay'],
      RELAY_METRICS_ADDRESS: `127.0.0.1:${metricsPort}`,
      REGISTRY_PORT: '0',
      REGISTRY_PUBLIC_URL: `http://${registries.authority}`,
      REGISTRY_CONFIG: configs['registry'],
      REGISTRY_METRICS_ADDRESS: '127.0.0.1:0',
      REGISTRY_DRAIN_SECONDS: '0',
    }
    const own = Object.entries(here).filter(([key]) => key.startsWith(kind.toUpperCase()))
    const set: Record<string, string> = {
      ...image,
      ...Object.fromEntries(Object.entries(environment).map(([key, value]) => [key, String(value)])),
    }
    for (const [key, value] of own) set[`AGENTMESH_${key}`] = value ?? ''
    // The image's entry point, in this tree.
    const program = new Program(['apps/cli/bin/agentmesh.js', ...command, '--json'], set)
    programs.set(name, program)
    const { port } = await program.ready<{ port: number }>()
    ;(kind === 'relay' ? relayPorts : registryPorts).push(port)
  }

  async function agent(name: string): Promise<Member> {
    const config = {
      relays: [`ws://${parts.relays.authority}`],
      registry: `http://${parts.registries.authority}`,
      display_name: name,
      capabilities: ['travel'],
    }
    const member = new Member(join(folder, name), config, 0)
    members.push(member)
    await member.start()
    return member.online()
  }

  beforeAll(async () => {
    execFileSync(join(DEPLOY, 'make-secrets.sh'), ['turn.example.org', secrets], { stdio: 'pipe' })
    ;[natsHealth, turnPort] = [await freePort(), await freePort()]
    const nats = moved('nats.conf', { '127.0.0.1:8222': `127.0.0.1:${natsHealth}` })
    const turn = moved('turnserver.conf', {
      'listening-port=3478': `listening-port=${turnPort}\nlistening-ip=127.0.0.1\nrelay-ip=127.0.0.1`,
      '/tmp/': `${folder}/`,
    })
    const [postgres, natsServer, turnServer, relays, registries] = await Promise.all([
      TestPostgres.start(),
      TestNats.start('-c', nats),
      TestTurn.run(turnPort, ['-c', turn]),
      Balancer.start(relayPorts),
      Balancer.start(registryPorts),
    ])
    parts = { postgres, nats: natsServer, turn: turnServer, relays, registries }
    await makeDatabases(postgres)
    const database = { 'postgres:5432': `127.0.0.1:${postgres.port}` }
    const configs = {
      relay: moved('relay.json', { ...database, 'nats:4222': `127.0.0.1:${natsServer.port}` }),
      registry: moved('registry.json', database),
    }
    const servers = Object.keys(services).filter((name) => services[name]?.build !== undefined)
    await Promise.all(servers.map((name) => startServer(name, configs)))
  })

  afterAll(async () => {
    await listening?.stop()
    await Promise.all([
      ...members.map(({ daemon }) => daemon.end('SIGKILL')),
      ...[...programs.values()].map((program) => program.end('SIGKILL')),
    ])
    const { postgres, nats, turn, relays, registries } = parts
    await Promise.all([relays.close(), registries.close(), nats.kill(), turn.stop(), postgres.stop()])
    rmSync(folder, { recursive: true })
  })

  test('is two relays and two registries', () => {
    expect([...programs.keys()]).toEqual(
      expect.arrayContaining(['relay-1', 'relay-2', 'registry-1', 'registry-2']),
    )
  })

  test('is healthy by the checks that the engine would make', async () => {
    for (const [kind, ports] of [
      ['relay-1', relayPorts],
      ['registry-1', registryPorts],
    ] as const) {
      const [, , script, url = ''] = services[kind]!.healthcheck!.test
      expect(script).toBe('/app/deploy/healthcheck.mjs')
      const at = url.replace(/:\d+/, `:${ports[0]}`)
      expect(spawnSync(process.execPath, [join(DEPLOY, 'healthcheck.mjs'), at]).status).toBe(0)
      // What the metrics' own port has, the one that the balancer reaches has not.
      expect((await fetch(at.replace('/healthz', '/metrics'))).status).toBe(404)
    }
    const natsUrl = services['nats']!.healthcheck!.test.at(-1)!
    expect((await fetch(natsUrl.replace('8222', String(natsHealth)))).status).toBe(200)
    const [, program = '', ...args] = services['coturn']!.healthcheck!.test
    const asked = spawnSync(
      program,
      args.map((each) => (each === '3478' ? String(turnPort) : each)),
    )
    expect(asked.status).toBe(0)
  })

  test('is one service: each relay hears of the other over NATS', async () => {
    for (const url of relayMetrics) {
      const heard = async () =>
        (await (await fetch(url)).text()).match(/^agentmesh_relay_cluster_relays (.*)$/m)?.[1]
      await expect.poll(heard, { timeout: 20_000 }).toBe('1')
    }
    expect(relayMetrics).toHaveLength(2)
  })

  test('lets nobody into its parts without the secrets', async () => {
    const { postgres, nats } = parts
    const { database_url } = JSON.parse(secret('registry.json')) as { database_url: string }
    const { username, password } = new URL(database_url)
    const connect = async (database: string, given: string) => {
      const client = new pg.Client({
        connectionString: `postgres://${username}:${given}@127.0.0.1:${postgres.port}/${database}`,
      })
      await client.connect()
      await client.end()
    }
    await connect('registry', password)
    await expect(connect('registry', 'guess')).rejects.toThrow(/password authentication failed/)
    await expect(connect('relay', password)).rejects.toThrow(/permission denied for database/)

    const socket = createConnection(nats.port, '127.0.0.1')
    socket.write('CONNECT {"user":"relay","pass":"guess"}\r\nPING\r\n')
    let said = ''
    for await (const chunk of socket) said += String(chunk)
    expect(said).toContain('Authorization Violation')
  })

  test('lets who has the secrets of a relay into its subjects on NATS and no others', async () => {
    const { nats_url } = JSON.parse(secret('relay.json')) as { nats_url: string }
    const { username: user, password: pass } = new URL(nats_url)
    const socket = createConnection(parts.nats.port, '127.0.0.1')
    socket.write(`CONNECT ${JSON.stringify({ user, pass, verbose: false })}\r\n`)
    socket.write('SUB agentmesh.test 1\r\nPUB agentmesh.test 2\r\nhi\r\n')
    socket.write('SUB > 2\r\nSUB other.test 3\r\nPUB other.test 2\r\nhi\r\nPING\r\n')
    let said = ''
    for await (const chunk of socket) {
      said += String(chunk)
      if (said.includes('PONG')) break
    }
    const refused = [...said.matchAll(/Permissions Violation for (\w+) to "([^"]+)"/gi)].map(
      ([, what, subject]) => [what, subject],
    )
    expect(refused).toEqual([
      ['Subscription', '>'],
      ['Subscription', 'other.test'],
      ['Publish', 'other.test'],
    ])
    expect(said).toContain('MSG agentmesh.test 1 2')
  })

  test('carries a request and its answer between two agents, and gives them TURN', async () => {
    const [alice, bob] = await Promise.all([agent('alice'), agent('bob')])
    listening = new Listening(bob.client, ({ payload }) => ({ results: payload.parameters }))
    const intent = { category: 'travel' }
    const id = await alice.client.send(bob.amid, { intent, parameters: { from: 'BER' } })
    expect(await answerOf(alice.client, id)).toMatchObject({ payload: { results: { from: 'BER' } } })

    const relay = `ws://${parts.relays.authority}/v1/connect`
    const given = await fetchTurnCredentials(relay, newIdentity(), { now: Date.now, random: systemRandom })
    expect(given.uris).toContain('turn:turn.example.org:3478?transport=udp')
    expect(await allocate(turnPort, given)).toHaveProperty('relayedPort')
    expect(await allocate(turnPort, { ...given, password: 'guess' })).toEqual({ refused: 401 })
  })

  test('goes on when a relay and a registry are told to go', async () => {
    const ends = ['relay-1', 'registry-1'].map(async (name) => {
      const program = programs.get(name)!
      await program.end('SIGTERM')
      return program.exitCode
    })
    expect(await Promise.all(ends)).toEqual([0, 0])
    const [alice, bob] = members as [Member, Member]
    const intent = { category: 'travel' }
    const id = await alice.client.send(bob.amid, { intent, parameters: { from: 'LIS' } })
    expect(await answerOf(alice.client, id)).toMatchObject({ payload: { results: { from: 'LIS' } } })
  })
})

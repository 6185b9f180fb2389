/** The registry as a process of its own, on both databases, used through the SDK's own client. */
import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { ed25519KeyPair, systemRandom } from '@agentmesh/sdk/crypto/signing'
import {
  identityFromKeyPair,
  makeExchangeKey,
  makeLastResortKemPrekey,
  makeOneTimeKemPrekeys,
  makeOneTimePrekeys,
  makeSignedPrekey,
  signClosing,
  signFeedback,
  signRegistration,
} from '@agentmesh/sdk/identity'
import { formatTimestamp, isAgentMeshError, newSessionId, type PrekeyUpload } from '@agentmesh/sdk/wire'
import { startPostgres, type TestPostgres } from '../../apps/registry/src/test-support-postgres.ts'
import { HttpRegistryClient } from '../../packages/sdk/src/discovery/index.ts'

const MAIN = fileURLToPath(new URL('../../apps/registry/dist/main.js', import.meta.url))

interface Process {
  readonly child: ChildProcess
  readonly url: string
}

async function start(port: number, database: { data: string } | { url: string }): Promise<Process> {
  const child = spawn(
    process.execPath,
    [
      MAIN,
      '--port',
      String(port),
      '--log-level',
      'error',
      ...('data' in database ? ['--data', database.data] : []),
    ],
    {
      stdio: ['ignore', 'pipe', 'inherit'],
      env: {
        ...process.env,
        DATABASE_URL: 'url' in database ? database.url : '',
        // All who fetch here are new.
        AGENTMESH_REGISTRY_LIMIT_RESERVED_ONE_TIME_PREKEYS: '0',
      },
    },
  )
  const [line] = (await once(createInterface(child.stdout), 'line')) as [string]
  return { child, url: (JSON.parse(line) as { url: string }).url }
}

async function kill({ child }: Process): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return
  child.kill('SIGKILL')
  await once(child, 'exit')
}

function newAgent(url: string) {
  const identity = identityFromKeyPair(ed25519KeyPair(systemRandom(32)))
  const options = { startId: 1, sequence: 1, random: systemRandom, now: Date.now() }
  const client = new HttpRegistryClient(url, identity, { now: Date.now, random: systemRandom })
  const registration = (sequence: number) =>
    signRegistration(identity, {
      exchange_key: exchange,
      capabilities: [{ category: 'travel', subcategory: 'flights', actions: ['search'] }],
      relay_endpoint: 'ws://127.0.0.1:1/v1/connect',
      sequence,
      created_at: formatTimestamp(options.now),
    })
  const exchange = makeExchangeKey(identity, options).record
  const upload = (count: number): PrekeyUpload => ({
    signed_prekey: makeSignedPrekey(identity, options).record,
    last_resort_kem_prekey: makeLastResortKemPrekey(identity, options).record,
    one_time_prekeys: makeOneTimePrekeys(identity, { ...options, count }).map((key) => key.record),
    one_time_kem_prekeys: makeOneTimeKemPrekeys(identity, { ...options, count }).map((key) => key.record),
  })
  return { amid: identity.amid, identity, client, registration, upload }
}

let folder: string
let postgres: TestPostgres
let files = 0

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'agentmesh-registry-e2e-'))
  postgres = await startPostgres()
})
afterAll(async () => {
  await postgres.stop()
  await rm(folder, { recursive: true, force: true })
})

describe.each(['SQLite', 'PostgreSQL'])('a registry process on %s', (kind) => {
  let database: { data: string } | { url: string }
  let running: Process[]
  beforeEach(async () => {
    database =
      kind === 'SQLite' ? { data: join(folder, `registry-${++files}.db`) } : { url: await postgres.create() }
    running = []
  })
  afterEach(async () => {
    await Promise.all(running.map(kill))
  })
  const run = async (port = 0): Promise<Process> => {
    const started = await start(port, database)
    running.push(started)
    return started
  }

  it('serves every call of the client', async () => {
    const { url } = await run()
    const [alice, bob] = [newAgent(url), newAgent(url)]
    await alice.client.register(alice.registration(1))
    const record = await bob.client.register(bob.registration(1))
    expect(record.amid).toBe(bob.amid)
    expect((await bob.client.update(bob.registration(2))).sequence).toBe(2)
    expect((await alice.client.lookup(bob.amid)).presence).toBe('offline')
    await bob.client.setPresence('away')
    const found = await alice.client.search({ capability: 'travel/flights', action: 'search', limit: 1 })
    expect(found.agents.map(({ amid, presence }) => [amid, presence])).toEqual([[bob.amid, 'away']])
    const rest = await alice.client.search({ capability: 'travel/flights', cursor: found.next_cursor! })
    expect(rest.agents.map(({ amid }) => amid)).toEqual([alice.amid])
    expect(await alice.client.search({ capability: 'travel', tier_min: 'verified' })).toMatchObject({
      agents: [],
    })
    expect((await alice.client.didDocument(bob.amid)).id).toBe(`did:agentmesh:${bob.amid}`)
    const highest = { highest_one_time_prekey_id: 3, highest_one_time_kem_prekey_id: 3 }
    expect(await bob.client.uploadPrekeys(bob.upload(3))).toEqual({
      one_time_prekeys: 3,
      one_time_kem_prekeys: 3,
      ...highest,
    })
    expect((await alice.client.fetchBundle(bob.amid)).one_time_prekey?.id).toBe(1)
    expect(await bob.client.prekeyCounts()).toEqual({
      one_time_prekeys: 2,
      one_time_kem_prekeys: 2,
      ...highest,
    })
    expect((await alice.client.schema('agentmesh/travel/flight-search/v1'))['type']).toBe('object')
    const refused = await bob.client.update(bob.registration(1)).catch((error: unknown) => error)
    expect(isAgentMeshError(refused, 'SEQUENCE_REPLAYED')).toBe(true)
  })

  it('counts a rated session once, whichever of its processes is told', async () => {
    const first = await run()
    const second = kind === 'PostgreSQL' ? await run() : first
    const [alice, bob] = [newAgent(first.url), newAgent(first.url)]
    const bobElsewhere = new HttpRegistryClient(second.url, bob.identity, {
      now: Date.now,
      random: systemRandom,
    })
    await alice.client.register(alice.registration(1))
    await bob.client.register(bob.registration(1))
    const statement = {
      type: 'session_closing' as const,
      session_id: newSessionId(systemRandom),
      initiator: alice.amid,
      responder: bob.amid,
      reason: 'completed' as const,
      closed_at: formatTimestamp(Date.now()),
    }
    const closing = {
      ...statement,
      initiator_signature: signClosing(alice.identity, statement),
      responder_signature: signClosing(bob.identity, statement),
    }
    const ofAlice = signFeedback(alice.identity, { closing, rating: 1, tags: ['fast'] }, Date.now())
    await alice.client.submitFeedback(ofAlice)
    await bobElsewhere.submitFeedback(signFeedback(bob.identity, { closing, rating: 0.5 }, Date.now()))
    const again = await alice.client.submitFeedback(ofAlice).catch((error: unknown) => error)
    expect(isAgentMeshError(again, 'FEEDBACK_REPEATED')).toBe(true)
    expect(await alice.client.reputation(bob.amid)).toMatchObject({ score: 0.5, sessions: 1, held: false })
    expect(await bobElsewhere.reputation(alice.amid)).toMatchObject({ score: 0.5, sessions: 1 })
    const none = await bob.client.reputationCredential().catch((error: unknown) => error)
    expect(isAgentMeshError(none, 'TIER_UNAVAILABLE')).toBe(true)
  })

  it('has everything it confirmed after kill -9', async () => {
    const first = await run()
    const [alice, bob] = [newAgent(first.url), newAgent(first.url)]
    await alice.client.register(alice.registration(1))
    await bob.client.register(bob.registration(1))
    await bob.client.uploadPrekeys(bob.upload(5))
    const before = [await alice.client.fetchBundle(bob.amid), await alice.client.fetchBundle(bob.amid)]
    await kill(first)
    const second = await run(Number(new URL(first.url).port))
    expect(second.url).toBe(first.url)
    const late = newAgent(second.url)
    await late.client.register(late.registration(1))
    expect((await late.client.lookup(bob.amid)).amid).toBe(bob.amid)
    const after = await late.client.fetchBundle(bob.amid)
    const ids = [...before, after].map((bundle) => bundle.one_time_prekey?.id)
    expect(ids).toEqual([1, 2, 3])
  })

  it('gives each one-time prekey out once to fetchers that race', async () => {
    const processes = [await run(), ...(kind === 'PostgreSQL' ? [await run()] : [])]
    const owner = newAgent(processes[0]!.url)
    await owner.client.register(owner.registration(1))
    await owner.client.uploadPrekeys(owner.upload(20))
    const fetchers = Array.from({ length: 4 }, (_, index) =>
      newAgent(processes[index % processes.length]!.url),
    )
    for (const fetcher of fetchers) await fetcher.client.register(fetcher.registration(1))
    const bundles = await Promise.all(
      fetchers.flatMap((fetcher) =>
        Array.from({ length: 6 }, async () => fetcher.client.fetchBundle(owner.amid)),
      ),
    )
    const ids = bundles.flatMap((bundle) => bundle.one_time_prekey?.id ?? [])
    expect(ids.toSorted((a, b) => a - b)).toEqual(Array.from({ length: 20 }, (_, index) => index + 1))
    const kem = bundles.map((bundle) => bundle.kem_prekey)
    expect(new Set(kem.filter((key) => key.kind === 'pq-one').map((key) => key.id)).size).toBe(20)
    expect(kem.filter((key) => key.kind === 'pq-last')).toHaveLength(4)
  })
})

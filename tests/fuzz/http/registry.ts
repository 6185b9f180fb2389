/** A registry with everything configured, limits by rate lifted, and what it takes to be let in by it. */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { Agent } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { makeAuthorityKeys } from '../../../apps/registry/src/authority/authority-keys.ts'
import { DEFAULT_LIMITS, type RegistryLimits } from '../../../apps/registry/src/limits.ts'
import { startRegistry } from '../../../apps/registry/src/server.ts'
import { TestAgent } from '../../../apps/registry/src/test-support.ts'
import { sha256, systemRandom } from '@agentmesh/sdk/crypto/signing'
import { signRequest } from '@agentmesh/sdk/identity'
import { toHex, utf8Bytes } from '@agentmesh/sdk/wire'
import { RequestSource, type HostileRequest, type OpenApiDocument } from './requests.ts'
import { strangerCodes } from './rules.ts'
import { ask, type Headers, type HttpRun } from './run-http.ts'
import { Outside, World } from './world.ts'

const HOST = 'registry.example'
const TOKEN = 'a-token-of-an-operator-of-32-characters'
const WIDE = { perSecond: 1_000_000, burst: 1_000_000 }
const SIGNERS = ['ann', 'ben', 'cat', 'dan']
/** Requests after which the world is made anew. */
const RESTORE_EVERY = 250
const STRANGERS = ['eve', 'fay', 'gus', 'hal']

export interface FuzzedRegistry extends Omit<HttpRun, 'requests'> {
  readonly source: RequestSource
  close(): Promise<void>
}

/** @param where its database; a file when not given */
export async function fuzzedRegistry(seed: number, where?: { databaseUrl: string }): Promise<FuzzedRegistry> {
  const folder = mkdtempSync(join(tmpdir(), 'agentmesh-fuzz-registry-'))
  const rates = Object.entries(DEFAULT_LIMITS).filter(([, limit]) => typeof limit === 'object')
  const publicUrl = `http://${HOST}`
  const keys = makeAuthorityKeys({ name: 'Fuzzed', url: publicUrl, now: Date.now(), random: systemRandom })
  const outside = await Outside.start()
  const registry = await startRegistry({
    ...(where ?? { dataPath: join(folder, 'registry.db') }),
    publicUrl,
    limits: {
      ...(Object.fromEntries(rates.map(([name]) => [name, WIDE])) as Partial<RegistryLimits>),
      maxVerificationsPerAgent: 1_000,
      mailsPerAddress: 1_000,
    },
    authority: keys,
    providersPath: outside.providersPath,
    resolvers: outside.resolvers,
    adminTokens: `fuzzer:${TOKEN}`,
  })
  const url = `http://127.0.0.1:${registry.port}`
  const connection = new Agent({ keepAlive: true, maxSockets: 1 })
  const agents = SIGNERS.map((name) => new TestAgent(name, publicUrl, Date.now))
  const strangers = STRANGERS.map((name) => new TestAgent(name, publicUrl, Date.now))
  const document = (await (await fetch(`${url}/openapi.json`)).json()) as OpenApiDocument

  const sign = (
    agent: TestAgent,
    method: string,
    target: string,
    body: Uint8Array | undefined,
    now: number,
  ): Headers => {
    const request = { method, url: publicUrl + target, ...(body === undefined ? {} : { body }) }
    return { host: HOST, ...signRequest(request, agent.identity, { now, nonce: systemRandom(16) }) }
  }
  /** What the world needs works, or it would be no world. */
  const request = async (method: string, target: string, headers: Headers, body: Uint8Array | undefined) => {
    const typed = body === undefined ? headers : { ...headers, 'content-type': 'application/json' }
    const answer = await ask(connection, url, { method, target, headers: typed, body })
    if (answer.status >= 300) throw new Error(`${method} ${target}: ${answer.status} ${answer.text}`)
    return JSON.parse(answer.text) as unknown
  }
  const bytesOf = (body: object | undefined) =>
    body === undefined ? undefined : utf8Bytes(JSON.stringify(body))
  const world = new World(
    outside,
    agents,
    publicUrl,
    (agent, method, path, body) => {
      const bytes = bytesOf(body)
      const target = `/v1/registry${path}`
      return request(method, target, sign(agent, method, target, bytes, Date.now()), bytes)
    },
    (method, path, body) => {
      const target = `/v1/registry/admin${path}`
      return request(method, target, { authorization: `Bearer ${TOKEN}` }, bytesOf(body))
    },
  )
  const everybody = [...agents, ...strangers]
  const source = new RequestSource(
    // Beside what the document names.
    { ...document, paths: { ...document.paths, '/metrics': { get: {} }, '/openapi.json': { get: {} } } },
    {
      seed,
      signers: agents.length,
      words: [
        ...everybody.map(({ amid }) => amid),
        ...everybody.map(({ amid }) => `did:agentmesh:${amid}`),
        'travel',
        'travel/flights',
        'book',
        'wss://relay.example/v1/connect',
        'fuzz.example',
        'http://127.0.0.1:4567/callback',
        new Date().toISOString(),
        'agentmesh/0.2',
        'github',
        'oidc',
        'email',
        'user0@example.org',
      ],
      named: {
        amid: agents.map(({ amid }) => amid),
        capability: ['travel', 'travel/flights', 'finance'],
        action: ['book'],
        subcategory: ['flights'],
        start: ['0', '1'],
        from: ['1', '2'],
        to: ['2', '3'],
        index: ['0', '1'],
        size: ['1', '2', '3'],
        keyId: [world.organization, keys.root.keyId, keys.intermediate.certificate.keyId],
        state: world.states,
        certificate: [toHex(sha256(keys.root.der))],
        did: agents.map(({ amid }) => `did:agentmesh:${amid}`),
        cursor: ['0%200', 'agent:a', '%00'],
        '*': ['agentmesh/travel/flight-search/v1'],
      },
      samples: world.samples,
    },
  )

  const credentials = ({ method, target, scheme, credential, signer, body }: HostileRequest): Headers => {
    if (scheme === 'none' || credential === 'none') return { host: HOST }
    if (scheme === 'token') return { authorization: `Bearer ${TOKEN}${credential === 'wrong' ? 'x' : ''}` }
    const agent = agents[signer] ?? agents[0]!
    const signedBody = credential === 'other body' ? utf8Bytes('{"a":1}') : body
    const now = Date.now() - (credential === 'stale' ? 3_600_000 : 0)
    const signed = sign(agent, method, target, signedBody, now)
    // Another's signature under the name of this one.
    const other = agents.find(({ amid }) => amid !== agent.amid)!
    return credential === 'wrong'
      ? { ...sign(other, method, target, body, now), 'agentmesh-key': signed['agentmesh-key'] ?? '' }
      : signed
  }
  return {
    url,
    source,
    codes: strangerCodes(readFileSync(new URL('../../../spec/errors.md', import.meta.url), 'utf8')),
    credentials,
    async onRequest(index) {
      if (index % RESTORE_EVERY === 0) await world.restore()
    },
    async close() {
      connection.destroy()
      await registry.close()
      await outside.close()
      rmSync(folder, { recursive: true, force: true })
    },
  }
}

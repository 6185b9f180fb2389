/** A registry with an authority, limits by rate lifted, and what it takes to be let in by it. */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { Agent } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { makeAuthorityKeys } from '../../../apps/registry/src/authority/authority-keys.ts'
import { DEFAULT_LIMITS, type RegistryLimits } from '../../../apps/registry/src/limits.ts'
import { startRegistry } from '../../../apps/registry/src/server.ts'
import { TestAgent } from '../../../apps/registry/src/test-support.ts'
import { systemRandom } from '@agentmesh/sdk/crypto/signing'
import { signRequest } from '@agentmesh/sdk/identity'
import { utf8Bytes } from '@agentmesh/sdk/wire'
import { RequestSource, type HostileRequest, type OpenApiDocument } from './requests.ts'
import { strangerCodes } from './rules.ts'
import { ask, type Headers, type HttpRun } from './run-http.ts'

const HOST = 'registry.example'
const TOKEN = 'a-token-of-an-operator-of-32-characters'
const WIDE = { perSecond: 1_000_000, burst: 1_000_000 }
const SIGNERS = ['ann', 'ben', 'cat', 'dan']
const STRANGERS = ['eve', 'fay', 'gus', 'hal']

export interface FuzzedRegistry extends Omit<HttpRun, 'requests'> {
  close(): Promise<void>
}

export async function fuzzedRegistry(seed: number): Promise<FuzzedRegistry> {
  const folder = mkdtempSync(join(tmpdir(), 'agentmesh-fuzz-registry-'))
  const rates = Object.entries(DEFAULT_LIMITS).filter(([, limit]) => typeof limit === 'object')
  const publicUrl = `http://${HOST}`
  const keys = makeAuthorityKeys({ name: 'Fuzzed', url: publicUrl, now: Date.now(), random: systemRandom })
  const registry = await startRegistry({
    dataPath: join(folder, 'registry.db'),
    publicUrl,
    limits: Object.fromEntries(rates.map(([name]) => [name, WIDE])) as Partial<RegistryLimits>,
    authority: keys,
    // Nobody answers there.
    resolvers: ['127.0.0.1:9', '127.0.0.2:9'],
    adminTokens: `fuzzer:${TOKEN}`,
  })
  const url = `http://127.0.0.1:${registry.port}`
  const connection = new Agent({ keepAlive: true, maxSockets: 1 })
  const agents = SIGNERS.map((name) => new TestAgent(name, publicUrl, Date.now))
  const strangers = STRANGERS.map((name) => new TestAgent(name, publicUrl, Date.now))
  const document = (await (await fetch(`${url}/openapi.json`)).json()) as OpenApiDocument
  const everybody = [...agents, ...strangers]
  const source = new RequestSource(document, {
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
    ],
    named: {
      capability: ['travel', 'travel/flights', 'finance'],
      action: ['book'],
      subcategory: ['flights'],
      start: ['0', '1'],
      from: ['1', '2'],
      to: ['2', '3'],
      index: ['0', '1'],
      size: ['1', '2', '3'],
      keyId: [keys.root.keyId, keys.intermediate.certificate.keyId],
      '*': ['agentmesh/travel/flight-search/v1'],
    },
    samples: {
      'POST /v1/registry/register': agents.map((agent) => agent.registration({ online: true })),
      'PUT /v1/registry/agents/{amid}': agents.map((agent) => agent.registration({ sequence: 2 })),
      'PUT /v1/registry/prekeys': agents.map((agent) => agent.upload(1, 3)),
      'POST /v1/registry/organizations': [{ domain: 'fuzz.example', name: 'Fuzz' }],
    },
  })

  const sign = (
    agent: TestAgent,
    method: string,
    target: string,
    body: Uint8Array | undefined,
    now: number,
  ) => {
    const request = { method, url: publicUrl + target, ...(body === undefined ? {} : { body }) }
    return { host: HOST, ...signRequest(request, agent.identity, { now, nonce: systemRandom(16) }) }
  }
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
      ? {
          ...sign(other, method, target, body, now),
          'agentmesh-key': (signed as Headers)['agentmesh-key'] ?? '',
        }
      : signed
  }
  // An agent that was banned, removed or forgotten on the way comes back for the requests after it.
  const onRequest = async (index: number): Promise<void> => {
    if (index % 100 !== 0) return
    for (const agent of agents) {
      const lift = utf8Bytes(JSON.stringify({ subject: `agent:${agent.amid}`, reason: 'fuzzing' }))
      const lifting = { authorization: `Bearer ${TOKEN}`, 'content-type': 'application/json' }
      await ask(connection, url, {
        method: 'POST',
        target: '/v1/registry/admin/bans/lift',
        headers: lifting,
        body: lift,
      })
      const body = utf8Bytes(JSON.stringify(agent.registration({ sequence: index / 100 + 3, online: true })))
      const target = '/v1/registry/register'
      const headers = { ...sign(agent, 'POST', target, body, Date.now()), 'content-type': 'application/json' }
      await ask(connection, url, { method: 'POST', target, headers, body })
    }
  }
  return {
    url,
    source,
    codes: strangerCodes(readFileSync(new URL('../../../spec/errors.md', import.meta.url), 'utf8')),
    credentials,
    onRequest,
    async close() {
      connection.destroy()
      await registry.close()
      rmSync(folder, { recursive: true, force: true })
    },
  }
}

import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { once } from 'node:events'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { didDocument, verifyRequest } from '../identity/index.ts'
import {
  NOW,
  testBundle,
  testIdentity,
  testKeys,
  testRandom,
  testRegistration,
} from '../identity/test-support.ts'
import { isAgentMeshError, type AgentMeshError, type AgentRecord, type PrekeyUpload } from '../wire/index.ts'
import { HttpRegistryClient } from './http-registry-client.ts'

const alice = testIdentity('alice')
const bob = testIdentity('bob')
const mallory = testIdentity('mallory')
const DAY = 86_400_000

interface Seen {
  method: string
  target: string
  headers: IncomingMessage['headers']
  authority: string
  body: Uint8Array
}
type Answer = (response: ServerResponse, seen: Seen) => void

let server: Server
let url: string
let seen: Seen[]
let answer: Answer
let client: HttpRegistryClient

beforeEach(async () => {
  seen = []
  server = createServer((request, response) => {
    const parts: Buffer[] = []
    request.on('data', (part: Buffer) => parts.push(part))
    request.on('end', () => {
      const entry = {
        method: request.method ?? '',
        target: request.url ?? '',
        headers: request.headers,
        authority: request.headers.host ?? '',
        body: new Uint8Array(Buffer.concat(parts)),
      }
      seen.push(entry)
      answer(response, entry)
    })
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  client = makeClient()
})
afterEach(async () => {
  client.close()
  server.closeAllConnections()
  server.close()
  await once(server, 'close')
})

function makeClient(options: { timeoutMilliseconds?: number; now?: () => number } = {}): HttpRegistryClient {
  return new HttpRegistryClient(url, alice, { now: () => NOW, random: testRandom('client'), ...options })
}

const json =
  (value: unknown, status = 200): Answer =>
  (response) => {
    response.writeHead(status, { 'content-type': 'application/json' })
    response.end(JSON.stringify(value))
  }

function recordOf(identity = bob, changes: object = {}): AgentRecord {
  return {
    ...testRegistration(identity),
    tier: 2,
    presence: 'online',
    online: true,
    last_seen: '2026-02-01T12:00:00Z',
    registered_at: '2026-02-01T12:00:00Z',
    reputation_score: 0.5,
    ...changes,
  }
}

async function failure(promise: Promise<unknown>): Promise<AgentMeshError> {
  try {
    await promise
  } catch (error) {
    if (isAgentMeshError(error)) return error
    throw error
  }
  throw new Error('The call succeeded')
}
const code = async (promise: Promise<unknown>) => (await failure(promise)).code

const upload: PrekeyUpload = (() => {
  const keys = testKeys(alice)
  return {
    signed_prekey: keys.signed.record,
    last_resort_kem_prekey: keys.lastResort.record,
    one_time_prekeys: keys.oneTime.map((own) => own.record),
    one_time_kem_prekeys: keys.oneTimeKem.map((own) => own.record),
  }
})()

describe('requests', () => {
  it('are signed by the agent, each with a nonce of its own', async () => {
    const registration = testRegistration(alice)
    answer = (response, { target }) =>
      json(target.includes('prekeys') ? { one_time_prekeys: 2, one_time_kem_prekeys: 2 } : recordOf(alice))(
        response,
        seen[0]!,
      )
    await client.register(registration)
    await client.update(registration)
    await client.uploadPrekeys(upload)
    await client.prekeyCounts()
    await client.setPresence('away')
    expect(seen.map(({ method, target }) => `${method} ${target}`)).toEqual([
      'POST /v1/registry/register',
      `PUT /v1/registry/agents/${alice.amid}`,
      'PUT /v1/registry/prekeys',
      'GET /v1/registry/prekeys',
      'PUT /v1/registry/presence',
    ])
    const verified = seen.map((entry) => verifyRequest(entry, NOW))
    expect(verified.every(({ amid }) => amid === alice.amid)).toBe(true)
    expect(new Set(verified.map(({ nonce }) => nonce)).size).toBe(5)
    expect(JSON.parse(Buffer.from(seen[0]!.body).toString())).toEqual(registration)
  })

  it('carry a search in the registry’s words', async () => {
    answer = json({ agents: [recordOf()], next_cursor: null })
    const page = await client.search({
      capability: 'travel/flights',
      action: 'search',
      tier_min: 'verified',
      online: true,
      limit: 20,
      cursor: 'a&b=c',
    })
    expect(page.agents[0]!.amid).toBe(bob.amid)
    expect(Object.fromEntries(new URL(seen[0]!.target, url).searchParams)).toEqual({
      capability: 'travel',
      subcategory: 'flights',
      action: 'search',
      tier_min: 'verified',
      online: 'true',
      limit: '20',
      cursor: 'a&b=c',
    })
    await client.search({ capability: 'x-acme/parts' })
    expect(new URL(seen[1]!.target, url).searchParams.get('capability')).toBe('x-acme/parts')
  })

  it('refuse a schema name that leaves its folder', async () => {
    answer = json({ type: 'object' })
    expect(await client.schema('agentmesh/travel/flight-search/v1')).toEqual({ type: 'object' })
    for (const name of ['../../admin', 'a/../b', '/a', 'a//b', 'a?b', '']) {
      expect(await code(client.schema(name))).toBe('INVALID_ID')
    }
    expect(seen).toHaveLength(1)
  })

  it('go to http and https only', () => {
    for (const bad of ['ftp://a.example', 'file:///etc/passwd', 'not a url']) {
      expect(() => new HttpRegistryClient(bad, alice, { now: () => NOW, random: testRandom('x') })).toThrow(
        expect.objectContaining({ code: 'MALFORMED' }),
      )
    }
  })
})

/** Records that no agent signed; in a search any agent that signed its own may turn up. */
const SEARCH_LIES: [string, () => object][] = [
  ["another agent's record under the name", () => ({ ...recordOf(mallory), amid: bob.amid })],
  ['a capability the agent never named', () => recordOf(bob, { capabilities: ['finance'] })],
  ['a relay of its own', () => recordOf(bob, { relay_endpoint: 'ws://evil.example/v1/connect' })],
  ['a changed name', () => recordOf(bob, { display_name: 'Bank' })],
  [
    'an exchange key of its own',
    () => {
      const record = recordOf(bob)
      const exchange_key = testKeys(mallory).exchange.record
      return { ...record, public_keys: { ...record.public_keys, exchange_key } }
    },
  ],
  ['a reputation out of range', () => recordOf(bob, { reputation_score: 2 })],
  ['no signature', () => recordOf(bob, { signature: undefined })],
  ['a list', () => []],
]

describe('a lying registry', () => {
  it.each<[string, () => object]>([["another agent's record", () => recordOf(mallory)], ...SEARCH_LIES])(
    'is refused in lookup: %s',
    async (_name, make) => {
      answer = json(make())
      expect(await code(client.lookup(bob.amid))).toBe('REGISTRY_ANSWER_INVALID')
    },
  )

  it.each<[string, () => object]>(SEARCH_LIES)('is refused in a search: %s', async (_name, make) => {
    answer = json({ agents: [recordOf(), make()], next_cursor: null })
    expect(await code(client.search({ capability: 'travel' }))).toBe('REGISTRY_ANSWER_INVALID')
  })

  it.each<[string, () => object]>([
    ["another agent's bundle", () => testBundle(mallory)],
    ["another agent's bundle under the name", () => ({ ...testBundle(mallory), amid: bob.amid })],
    ['a prekey of its own', () => ({ ...testBundle(bob), signed_prekey: testBundle(mallory).signed_prekey })],
    [
      'a one-time prekey of its own under the name',
      () => ({
        ...testBundle(bob),
        one_time_prekey: { ...testBundle(mallory).one_time_prekey, amid: bob.amid },
      }),
    ],
    ['a KEM prekey of its own', () => ({ ...testBundle(bob), kem_prekey: testBundle(mallory).kem_prekey })],
    [
      'an older version list',
      () => {
        const bundle = testBundle(bob)
        return { ...bundle, signed_prekey: { ...bundle.signed_prekey, versions: ['agentmesh/0.1'] } }
      },
    ],
  ])('is refused for a bundle: %s', async (_name, make) => {
    answer = json(make())
    expect(await code(client.fetchBundle(bob.amid))).toBe('REGISTRY_ANSWER_INVALID')
  })

  it('is told apart from an agent that was away too long', async () => {
    answer = json(testBundle(bob))
    expect(await client.fetchBundle(bob.amid)).toEqual(testBundle(bob))
    expect(JSON.parse(Buffer.from(seen[0]!.body).toString())).toEqual({ amid: bob.amid })
    const later = makeClient({ now: () => NOW + 11 * DAY })
    expect(await code(later.fetchBundle(bob.amid))).toBe('KEY_EXPIRED')
  })

  it('is refused when it answers a registration with an older one of ours', async () => {
    answer = json(recordOf(alice))
    const newer = testRegistration(alice, { sequence: 2 })
    expect(await code(client.register(newer))).toBe('REGISTRY_ANSWER_INVALID')
  })

  it('is refused for a DID document that the signed record does not give', async () => {
    const documents = { right: didDocument(recordOf()), wrong: didDocument(recordOf(mallory)) }
    const serve =
      (document: object): Answer =>
      (response, entry) =>
        json(entry.target.includes('/did/') ? document : recordOf())(response, entry)
    answer = serve(documents.right)
    expect(await client.didDocument(bob.amid)).toEqual(documents.right)
    for (const document of [
      documents.wrong,
      { ...documents.wrong, id: documents.right.id },
      { ...documents.right, keyAgreement: documents.wrong.keyAgreement },
      { ...documents.right, service: [] },
    ]) {
      answer = serve(document)
      expect(await code(client.didDocument(bob.amid))).toBe('REGISTRY_ANSWER_INVALID')
    }
  })

  it('is refused for negative counts', async () => {
    answer = json({ one_time_prekeys: -1, one_time_kem_prekeys: 0 })
    expect(await code(client.prekeyCounts())).toBe('REGISTRY_ANSWER_INVALID')
  })
})

describe('a broken registry', () => {
  it.each([
    ['not JSON', 'hello'],
    ['empty', ''],
    ['a key twice', '{"amid":"a","amid":"b"}'],
    ['__proto__', '{"__proto__":{}}'],
    ['nested deep', '['.repeat(100_000)],
    ['not UTF-8', Buffer.from([0x7b, 0xff, 0x7d])],
  ])('is refused when its answer is %s', async (_name, text) => {
    answer = (response) => response.end(text)
    expect(await code(client.lookup(bob.amid))).toBe('REGISTRY_ANSWER_INVALID')
  })

  it('is cut off when its answer does not end', async () => {
    let sent = 0
    const closed = new Promise<void>((resolve) => {
      answer = (response) => {
        const more = (): void => {
          while (!response.destroyed && response.write(Buffer.alloc(16_384, 0x20))) sent += 16_384
        }
        response.on('drain', more)
        response.on('close', resolve)
        more()
      }
    })
    expect(await code(client.lookup(bob.amid))).toBe('REGISTRY_ANSWER_INVALID')
    await closed
    expect(sent).toBeLessThan(64 * 1024 * 1024)
  })

  it('is given up when it never answers, or stops in the middle', async () => {
    const hasty = makeClient({ timeoutMilliseconds: 50 })
    answer = () => undefined
    expect(await code(hasty.lookup(bob.amid))).toBe('REGISTRY_UNREACHABLE')
    answer = (response) => response.write('{"amid":')
    expect(await code(hasty.lookup(bob.amid))).toBe('REGISTRY_UNREACHABLE')
    answer = (response) => response.destroy()
    expect(await code(client.lookup(bob.amid))).toBe('REGISTRY_UNREACHABLE')
  })

  it('sends nobody elsewhere', async () => {
    answer = (response, { target }) => {
      if (target.startsWith('/elsewhere')) return json(recordOf())(response, seen[0]!)
      response.writeHead(307, { location: `${url}/elsewhere` }).end()
    }
    expect(await code(client.lookup(bob.amid))).toBe('REGISTRY_UNREACHABLE')
    expect(seen).toHaveLength(1)
  })

  it('is left when the client closes, and not asked again', async () => {
    const asked = new Promise<void>((resolve) => {
      answer = () => resolve()
    })
    const lookup = code(client.lookup(bob.amid))
    await asked
    client.close()
    expect(await lookup).toBe('REGISTRY_UNREACHABLE')
    expect(await code(client.lookup(bob.amid))).toBe('REGISTRY_UNREACHABLE')
    expect(seen).toHaveLength(1)
  })
})

describe('refusals', () => {
  it('keep their code and the time to wait', async () => {
    answer = json({ code: 'AGENT_NOT_FOUND', message: 'No such agent' }, 404)
    expect(await failure(client.lookup(bob.amid))).toMatchObject({
      code: 'AGENT_NOT_FOUND',
      message: 'No such agent',
      operation: 'GET /v1/registry/lookup',
    })
    answer = json({ code: 'RATE_LIMITED', message: 'Slow', retry_after_seconds: 7 }, 429)
    expect(await failure(client.fetchBundle(bob.amid))).toMatchObject({
      code: 'RATE_LIMITED',
      retryAfterSeconds: 7,
    })
    answer = json({ code: 'RATE_LIMITED', message: 'Slow', retry_after_seconds: 1e9 }, 429)
    expect((await failure(client.setPresence('online'))).retryAfterSeconds).toBe(86_400)
  })

  it.each(['HOME_DAMAGED', 'SEAL_BROKEN', 'toString', 'NOT_A_CODE'])(
    'may not use the code %s',
    async (name) => {
      answer = json({ code: name, message: 'x' }, 400)
      expect(await code(client.lookup(bob.amid))).toBe('REGISTRY_ANSWER_INVALID')
    },
  )

  it('show a message without control and bidi characters, and short', async () => {
    answer = json({ code: 'MALFORMED', message: `\u001b[31m\u202e${'x'.repeat(5000)}` }, 400)
    const { message } = await failure(client.lookup(bob.amid))
    expect(message).toMatch(/^[ -~]{1,400}$/)
  })

  it('of a proxy are not taken for the registry’s', async () => {
    answer = (response) => response.writeHead(502).end('<html>Bad gateway</html>')
    expect(await code(client.lookup(bob.amid))).toBe('REGISTRY_UNREACHABLE')
    answer = (response) => response.writeHead(404).end('<html>Not here</html>')
    expect(await code(client.lookup(bob.amid))).toBe('REGISTRY_ANSWER_INVALID')
  })
})

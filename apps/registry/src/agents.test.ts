import { randomBytes } from 'node:crypto'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { ed25519KeyPair, sha256, sign } from '@agentmesh/sdk/crypto/signing'
import { identityFromKeyPair, signRequest, verifyAgentRecord } from '@agentmesh/sdk/identity'
import {
  AgentRecord,
  DidDocument,
  formatTimestamp,
  toBase64,
  unsignedBytes,
  UNSIGNED_RECORD_FIELDS,
  utf8Bytes,
  validate,
} from '@agentmesh/sdk/wire'
import { startRegistry, type RunningRegistry } from './server.ts'
import { call, DAY, NOW, TestAgent } from './test-support.ts'

let registry: RunningRegistry
let now: number
let alice: TestAgent
let bob: TestAgent
const agent = (name: string) => new TestAgent(name, registry.url, () => now)
const lookup = (amid: string) => call(`${registry.url}/v1/registry/lookup?amid=${amid}`)

beforeEach(async () => {
  now = NOW
  registry = await startRegistry({ dataPath: ':memory:', now: () => now })
  alice = agent('alice')
  bob = agent('bob')
})
afterEach(async () => {
  await registry.close()
})

describe('register and lookup', () => {
  it('registers an agent and answers with a record its reader can verify', async () => {
    const created = await alice.register({ display_name: 'Alice', online: true })
    expect(created.status).toBe(201)
    const found = await lookup(alice.amid)
    expect(found.status).toBe(200)
    expect(found.body).toEqual(created.body)
    expect(verifyAgentRecord(found.body)).toMatchObject({
      amid: alice.amid,
      display_name: 'Alice',
      tier: 2,
      presence: 'online',
      online: true,
      last_seen: formatTimestamp(NOW),
      registered_at: formatTimestamp(NOW),
      reputation_score: 0.5,
    })
    expect(found.headers.get('x-content-type-options')).toBe('nosniff')
  })

  it('keeps fields it does not know, since the signature covers them', async () => {
    const registration = { ...alice.registration(), 'x-acme': { note: 'kept', nul: '\u0000' } }
    const signature = sign(
      'record',
      alice.identity.signing.secretKey,
      unsignedBytes(registration, UNSIGNED_RECORD_FIELDS),
    )
    const body = { ...registration, signature: toBase64(signature) }
    expect((await alice.send({ method: 'POST', path: '/v1/registry/register', body })).status).toBe(201)
    const found = await lookup(alice.amid)
    expect(found.body['x-acme']).toEqual({ note: 'kept', nul: '\u0000' })
    expect(() => verifyAgentRecord(found.body)).not.toThrow()
  })

  it('takes the same registration again, a newer one, and never an older or another of the same number', async () => {
    await alice.register({ sequence: 5 })
    now += 1000
    expect((await alice.register({ sequence: 5, created_at: formatTimestamp(NOW) })).status).toBe(200)
    const newer = await alice.register({ sequence: 6, capabilities: ['finance'] })
    expect([newer.status, newer.body.capabilities]).toEqual([200, ['finance']])
    for (const fields of [{ sequence: 5 }, { sequence: 6, display_name: 'other' }]) {
      const refused = await alice.register(fields)
      expect([refused.status, refused.body.code]).toEqual([409, 'SEQUENCE_REPLAYED'])
    }
    expect((await lookup(alice.amid)).body.capabilities).toEqual(['finance'])
  })

  it('refuses an exchange key older than the stored one under a newer record', async () => {
    await alice.register({ exchange_key: alice.exchangeKey(2) })
    const refused = await alice.register({ sequence: 2, exchange_key: alice.exchange })
    expect(refused.body.code).toBe('SEQUENCE_REPLAYED')
  })

  it.each([
    ['a tier above anonymous', { tier: 1 as const }],
    ['the organisation tier', { tier: 1.5 as const }],
    ['a verification token', { verification_token: 'oauth' }],
  ])('refuses %s with TIER_UNAVAILABLE', async (_name, fields) => {
    const refused = await alice.register(fields)
    expect([refused.status, refused.body.code]).toEqual([403, 'TIER_UNAVAILABLE'])
    expect((await lookup(alice.amid)).body.code).toBe('AGENT_NOT_FOUND')
  })

  it('does not let an agent claim reputation, organisation or a past', async () => {
    const body = {
      ...alice.registration({ tier: 2, last_seen: '2020-01-01T00:00:00Z' }),
      reputation_score: 1,
      organization: 'Acme',
      registered_at: '2020-01-01T00:00:00Z',
    }
    const created = await alice.send({ method: 'POST', path: '/v1/registry/register', body })
    expect(created.status).toBe(201)
    expect(created.body).toMatchObject({ reputation_score: 0.5, registered_at: formatTimestamp(NOW) })
    expect(created.body).not.toHaveProperty('organization')
  })

  it('refuses a registration of an AMID whose key the signer does not have', async () => {
    const body = { ...bob.registration(), amid: alice.amid }
    const refused = await bob.send({ method: 'POST', path: '/v1/registry/register', body })
    expect([refused.status, refused.body.code]).toEqual([403, 'NOT_OWNER'])
    const swapped = { ...alice.registration(), amid: bob.amid }
    const forged = await bob.send({ method: 'POST', path: '/v1/registry/register', body: swapped })
    expect(forged.body.code).toBe('AMID_MISMATCH')
    expect((await lookup(alice.amid)).status).toBe(404)
  })

  it('refuses a record signed by somebody else, changed after signing, or with a foreign exchange key', async () => {
    const register = (body: object) => alice.send({ method: 'POST', path: '/v1/registry/register', body })
    const changed = await register({ ...alice.registration(), relay_endpoint: 'wss://evil.example/' })
    expect([changed.status, changed.body.code]).toEqual([401, 'INVALID_SIGNATURE'])
    const foreign = await register(alice.registration({ exchange_key: bob.exchange }))
    expect(foreign.body.code).toBe('AMID_MISMATCH')
    const stolen = { ...bob.exchange, amid: alice.amid }
    const relabelled = await register(alice.registration({ exchange_key: stolen }))
    expect(relabelled.body.code).toBe('INVALID_SIGNATURE')
  })

  it('refuses dates that cannot be', async () => {
    const future = await alice.register({ created_at: formatTimestamp(NOW + DAY) })
    expect([future.status, future.body.code]).toEqual([400, 'MALFORMED'])
    const expired = await alice.register({ exchange_key: alice.exchangeKey(1, NOW - 30 * DAY) })
    expect(expired.body.code).toBe('KEY_EXPIRED')
  })
})

describe('signed requests', () => {
  const path = '/v1/registry/register'

  it('refuses a signed request that arrives a second time', async () => {
    const request = alice.sign({ method: 'POST', path, body: alice.registration() })
    expect((await call(request.url, request.init)).status).toBe(201)
    const replayed = await call(request.url, request.init)
    expect([replayed.status, replayed.body.code]).toEqual([401, 'SIGNATURE_REPLAYED'])
  })

  it('refuses a replayed registration that would bring back a deleted agent', async () => {
    const request = alice.sign({ method: 'POST', path, body: alice.registration() })
    await call(request.url, request.init)
    const deleted = await alice.send({ method: 'DELETE', path: `/v1/registry/agents/${alice.amid}` })
    expect([deleted.status, deleted.text]).toEqual([204, ''])
    expect((await call(request.url, request.init)).body.code).toBe('SIGNATURE_REPLAYED')
    expect((await lookup(alice.amid)).status).toBe(404)
  })

  it('refuses a changed body, path, method or key', async () => {
    const request = alice.sign({ method: 'POST', path, body: alice.registration() })
    const other = JSON.stringify(alice.registration({ display_name: 'changed' }))
    const key = bob.sign({ method: 'POST', path, body: '{}' }).init.headers as Record<string, string>
    const changes: [string, RequestInit][] = [
      [request.url, { ...request.init, body: other }],
      [`${request.url}?x=1`, request.init],
      [`${registry.url}/v1/registry/agents/${alice.amid}`, { ...request.init, method: 'PUT' }],
      [
        request.url,
        {
          ...request.init,
          headers: { ...(request.init.headers as object), 'agentmesh-key': key['agentmesh-key']! },
        },
      ],
    ]
    for (const [url, init] of changes) {
      const refused = await call(url, init)
      expect([401, 403]).toContain(refused.status)
      expect(['INVALID_SIGNATURE', 'AMID_MISMATCH']).toContain(refused.body.code)
    }
    expect((await call(request.url, request.init)).status).toBe(201)
  })

  it('refuses a request signed for another registry, also under its Host name', async () => {
    const body = alice.registration()
    const meant = alice.sign({ method: 'POST', path, body }, 'http://other.example:7780')
    expect((await call(meant.url, meant.init)).body.code).toBe('INVALID_SIGNATURE')
    // What the other registry can do: pass the request on as it came.
    const { request } = await import('node:http')
    const status = await new Promise((resolve, reject) => {
      const headers = { ...(meant.init.headers as Record<string, string>), host: 'other.example:7780' }
      const passed = request(meant.url, { method: 'POST', headers }, (answer) => {
        answer.resume()
        resolve(answer.statusCode)
      })
      passed.on('error', reject)
      passed.end(meant.init.body)
    })
    expect(status).toBe(403)
    expect((await lookup(alice.amid)).status).toBe(404)
  })

  it('refuses a request without a signature, and one past its dates', async () => {
    const bare = await call(registry.url + path, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify(alice.registration()),
    })
    expect([bare.status, bare.body.code]).toEqual([401, 'INVALID_SIGNATURE'])
    const request = alice.sign({ method: 'POST', path, body: alice.registration() })
    now += 3_600_000
    expect((await call(request.url, request.init)).body.code).toBe('SIGNATURE_EXPIRED')
  })

  it('refuses a key id that is not the hash of the key sent along', async () => {
    const forged = { ...bob.identity, amid: alice.amid }
    const headers = signRequest({ method: 'GET', url: `${registry.url}/v1/registry/prekeys` }, forged, {
      now,
      nonce: new Uint8Array(randomBytes(16)),
    })
    const refused = await call(`${registry.url}/v1/registry/prekeys`, { headers })
    expect([refused.status, refused.body.code]).toEqual([403, 'AMID_MISMATCH'])
  })
})

describe('update, delete, presence', () => {
  it('updates and deletes only by the owner', async () => {
    await alice.register()
    const path = `/v1/registry/agents/${alice.amid}`
    const body = alice.registration({ sequence: 2, display_name: 'new' })
    for (const method of ['PUT', 'DELETE']) {
      const refused = await bob.send({ method, path, ...(method === 'PUT' ? { body } : {}) })
      expect([refused.status, refused.body.code]).toEqual([403, 'NOT_OWNER'])
    }
    const updated = await alice.send({ method: 'PUT', path, body })
    expect([updated.status, updated.body.display_name]).toEqual([200, 'new'])
    expect((await alice.send({ method: 'DELETE', path })).status).toBe(204)
    const again = await alice.send({ method: 'PUT', path, body })
    expect([again.status, again.body.code]).toEqual([404, 'AGENT_NOT_FOUND'])
  })

  it('shows presence until ten minutes pass without a sign of life', async () => {
    await alice.register()
    const set = (state: string) =>
      alice.send({ method: 'PUT', path: '/v1/registry/presence', body: { state } })
    expect((await lookup(alice.amid)).body).toMatchObject({ presence: 'offline', online: false })
    expect((await set('dnd')).body).toEqual({ state: 'dnd' })
    now += 599_000
    expect((await lookup(alice.amid)).body).toMatchObject({ presence: 'dnd', online: true })
    // Any signed request is a sign of life.
    await alice.send({ method: 'GET', path: '/v1/registry/prekeys' })
    now += 600_000
    expect((await lookup(alice.amid)).body).toMatchObject({ presence: 'dnd', online: true })
    now += 1
    expect((await lookup(alice.amid)).body).toMatchObject({ presence: 'offline', online: false })
  })

  it('refuses an unknown presence state and a stranger’s presence', async () => {
    const body = { state: 'asleep' }
    await alice.register()
    expect((await alice.send({ method: 'PUT', path: '/v1/registry/presence', body })).body.code).toBe(
      'MALFORMED',
    )
    const stranger = await bob.send({
      method: 'PUT',
      path: '/v1/registry/presence',
      body: { state: 'online' },
    })
    expect([stranger.status, stranger.body.code]).toEqual([403, 'NOT_REGISTERED'])
  })

  it('serves the DID document of a registered agent', async () => {
    await alice.register()
    const document = await call(`${registry.url}/v1/registry/did/did:agentmesh:${alice.amid}`)
    expect(validate(DidDocument, document.body).id).toBe(`did:agentmesh:${alice.amid}`)
    for (const [did, code] of [
      [`did:agentmesh:${bob.amid}`, 'AGENT_NOT_FOUND'],
      ['did:web:example.org', 'INVALID_AMID'],
      ['did:agentmesh:..%2F..%2Fetc', 'INVALID_AMID'],
      [`did:agentmesh:${alice.amid}%00`, 'INVALID_AMID'],
    ]) {
      expect((await call(`${registry.url}/v1/registry/did/${did}`)).body.code).toBe(code)
    }
  })
})

describe('limits', () => {
  it('limits registrations by address and says when to come back', async () => {
    await registry.close()
    const registrationsPerIp = { perSecond: 0.1, burst: 3 }
    registry = await startRegistry({ dataPath: ':memory:', now: () => now, limits: { registrationsPerIp } })
    const statuses: number[] = []
    for (const name of ['1', '2', '3', '4']) statuses.push((await agent(name).register()).status)
    expect(statuses).toEqual([201, 201, 201, 429])
    const refused = await agent('5').register()
    expect([refused.body.code, refused.body.retry_after_seconds]).toEqual(['RATE_LIMITED', 10])
    expect(refused.headers.get('retry-after')).toBe('10')
    now += 10_000
    expect((await agent('5').register()).status).toBe(201)
  })

  it('limits all requests of an address and of an agent', async () => {
    await registry.close()
    const limits = { requestsPerAgent: { perSecond: 1, burst: 2 }, requestsPerIp: { perSecond: 1, burst: 5 } }
    registry = await startRegistry({ dataPath: ':memory:', now: () => now, limits })
    alice = agent('alice')
    const statuses: number[] = [(await alice.register()).status]
    for (let index = 0; index < 2; index++) {
      statuses.push((await alice.send({ method: 'GET', path: '/v1/registry/prekeys' })).status)
    }
    for (let index = 0; index < 3; index++) statuses.push((await lookup(alice.amid)).status)
    expect(statuses).toEqual([201, 200, 429, 200, 200, 429])
  })

  it('takes no more agents than it has room for', async () => {
    await registry.close()
    registry = await startRegistry({ dataPath: ':memory:', now: () => now, limits: { maxAgents: 1 } })
    expect((await agent('1').register()).status).toBe(201)
    const refused = await agent('2').register()
    expect([refused.status, refused.body.code]).toEqual([503, 'REGISTRY_FULL'])
  })
})

it('agrees with its own schema in what it answers', async () => {
  const created = await alice.register()
  expect(validate(AgentRecord, created.body)).toEqual(created.body)
  const stranger = identityFromKeyPair(ed25519KeyPair(sha256(utf8Bytes('stranger'))))
  expect((await lookup(stranger.amid)).body.code).toBe('AGENT_NOT_FOUND')
})

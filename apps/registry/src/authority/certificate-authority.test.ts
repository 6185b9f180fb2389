import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { sha256 } from '@agentmesh/sdk/crypto/signing'
import {
  certificateFromText,
  openTrustDocument,
  parseLogEntry,
  verifyCertificateProof,
} from '@agentmesh/sdk/identity'
import { fromBase64, utf8Bytes, utf8Text } from '@agentmesh/sdk/wire'
import { startRegistry } from '../server.ts'
import { call, DAY, NOW, TestAgent } from '../test-support.ts'
import { CertifyingRegistry } from '../test-support-authority.ts'

let now: number
let registry: CertifyingRegistry
let alice: TestAgent
const agent = (name: string) => new TestAgent(name, registry.registry.url, () => now)
const human = (name: string) => sha256(utf8Bytes(name))
const lookup = async (amid: string) => (await call(`${registry.url}/lookup?amid=${amid}`)).body
const verify = (who: TestAgent, person = 'person', displayName = 'Alice A.') =>
  registry.certification.authority.verifyAgent(
    {
      amid: who.amid,
      publicKey: who.identity.signing.publicKey,
      tier: 1,
      displayName,
      human: human(person),
    },
    now,
  )
const renew = (who: TestAgent) =>
  who.send({ method: 'POST', path: '/v1/registry/certificates/agent', body: {} })
const logged = async () => {
  const { body } = await call(`${registry.url}/log/entries?start=0&limit=100`)
  return (body.entries as string[]).map((entry) => parseLogEntry(fromBase64(entry)))
}

beforeEach(async () => {
  now = NOW
  registry = await CertifyingRegistry.start(() => now)
  alice = agent('alice')
  await alice.register()
})
afterEach(async () => {
  await registry.close()
})

describe('trust', () => {
  it('publishes a hierarchy that opens under the fingerprint and no other', async () => {
    const { body } = await call(`${registry.url}/trust`)
    const { fingerprint } = registry.keys
    expect(openTrustDocument(body, { now, fingerprint }).serviceKey).toEqual(
      registry.keys.service.signing.publicKey,
    )
    const other = fingerprint.replace(/^./, (digit) => (digit === '0' ? '1' : '0'))
    expect(() => openTrustDocument(body, { now, fingerprint: other })).toThrow(/not the one/)
  })

  it('logs its own certificates once, however many start on one database', async () => {
    const entries = await logged()
    expect(entries.map(({ kind }) => kind)).toEqual(['certificate', 'certificate', 'certificate'])
    expect(entries[0]?.content).toEqual(registry.keys.root.der)
  })

  it('renews the service certificate before it ends, and every registry on the database shows it', async () => {
    const before = (await call(`${registry.url}/trust`)).body.service_certificate as string
    now += 61 * DAY
    await registry.certification.authority.keepHouse(now)
    const renewed = registry.certification.authority.trustDocument.service_certificate
    expect(renewed).not.toBe(before)
    expect(certificateFromText(renewed).notAfter).toBeGreaterThan(now + 89 * DAY)
    const again = await startRegistry({ dataPath: ':memory:', now: () => now, authority: registry.keys })
    await again.close()
    await registry.certification.authority.keepHouse(now)
    expect(registry.certification.authority.trustDocument.service_certificate).toBe(renewed)
  })

  it('says TIER_UNAVAILABLE everywhere when there is no authority', async () => {
    const plain = await startRegistry({ dataPath: ':memory:', now: () => now })
    try {
      const bob = new TestAgent('bob', plain.url, () => now)
      await bob.register()
      const replies = [
        await call(`${plain.url}/v1/registry/trust`),
        await call(`${plain.url}/v1/registry/crl/${'0'.repeat(40)}`),
        await call(`${plain.url}/v1/registry/organizations/${bob.amid}`),
        await renew(bob),
        await bob.send({
          method: 'POST',
          path: '/v1/registry/organizations',
          body: { domain: 'acme.example', name: 'Acme' },
        }),
        await bob.send({ method: 'POST', path: '/v1/registry/organizations/verify', body: {} }),
      ]
      for (const { status, body } of replies) expect([status, body.code]).toEqual([403, 'TIER_UNAVAILABLE'])
    } finally {
      await plain.close()
    }
  })
})

describe('verified agents', () => {
  it('get a certificate that a stranger can check, with its place in the log, and a tier', async () => {
    const { chain, proof } = await verify(alice)
    expect(await registry.judge(chain, alice.amid)).toMatchObject({
      valid: true,
      tier: 1,
      displayName: 'Alice A.',
      revocation: 'good',
    })
    const log = {
      fingerprint: registry.keys.fingerprint,
      serviceKey: registry.keys.service.signing.publicKey,
    }
    expect(() => verifyCertificateProof(fromBase64(chain[0]!), proof, log, now)).not.toThrow()
    expect(await lookup(alice.amid)).toMatchObject({ tier: 1, verified_name: 'Alice A.' })
    expect(await lookup(alice.amid)).not.toHaveProperty('organization')
    const found = await call(`${registry.url}/search?capability=travel&tier_min=verified`)
    expect(found.body.agents).toHaveLength(1)
  })

  it('keep their tier when they register a newer record', async () => {
    await verify(alice)
    expect((await alice.register({ sequence: 2 })).body).toMatchObject({ tier: 1, verified_name: 'Alice A.' })
    const claimed = await alice.register({ sequence: 3, tier: 1 })
    expect(claimed.body.code).toBe('TIER_UNAVAILABLE')
  })

  it('are nobody before they register', async () => {
    await expect(verify(agent('stranger'))).rejects.toMatchObject({ code: 'NOT_REGISTERED' })
    expect((await logged()).length).toBe(3)
  })

  it('are ten a human and no more, also when all are verified at once', async () => {
    const agents = Array.from({ length: 13 }, (_, index) => agent(`n${index}`))
    for (const one of agents) await one.register()
    const outcomes = await Promise.allSettled(agents.map((one) => verify(one)))
    expect(outcomes.filter(({ status }) => status === 'fulfilled')).toHaveLength(10)
    for (const outcome of outcomes) {
      if (outcome.status === 'rejected')
        expect(outcome.reason).toMatchObject({ code: 'AGENTS_OF_HUMAN_LIMIT' })
    }
    await expect(verify(alice, 'somebody else')).resolves.toBeDefined()
    const verified = outcomes.findIndex(({ status }) => status === 'fulfilled')
    // Verifying again is no further agent.
    await expect(verify(agents[verified]!)).resolves.toBeDefined()
  })

  it('renew their certificate when a third of its life is over, and get the same one before', async () => {
    const { chain } = await verify(alice)
    expect((await renew(alice)).body.chain).toEqual(chain)
    now += 11 * DAY
    const renewed = await renew(alice)
    expect(renewed.status).toBe(200)
    expect(renewed.body.chain).not.toEqual(chain)
    expect(await registry.judge(renewed.body.chain, alice.amid)).toMatchObject({
      valid: true,
      displayName: 'Alice A.',
    })
    expect(await registry.judge(chain, alice.amid)).toMatchObject({ valid: true })
    now += 20 * DAY
    expect(await registry.judge(chain, alice.amid)).toMatchObject({
      valid: false,
      failure: { code: 'expired' },
    })
  })

  it('are the only ones who get a certificate', async () => {
    const refused = await renew(alice)
    expect([refused.status, refused.body.code]).toEqual([403, 'NOT_VERIFIED'])
    const stranger = await renew(agent('stranger'))
    expect([stranger.status, stranger.body.code]).toEqual([403, 'NOT_REGISTERED'])
  })
})

describe('revocation', () => {
  const authority = () => registry.certification.authority

  it('puts the certificate on the list, takes the tier, and stands in the log, at once for every registry', async () => {
    const { chain } = await verify(alice)
    const { keyId } = authority().intermediate
    const before = await registry.list(keyId)
    expect(await authority().revokeAgent(alice.amid, 'keyCompromise', now)).toBe(1)
    const after = await registry.list(keyId)
    const { serial } = certificateFromText(chain[0]!)
    expect(after.entries.get(serial)).toMatchObject({ reason: 'keyCompromise' })
    expect(after.number).toBeGreaterThan(before.number)
    expect(await registry.judge(chain, alice.amid)).toMatchObject({
      valid: false,
      revocation: 'revoked',
      failure: { code: 'revoked' },
    })
    expect(await lookup(alice.amid)).toMatchObject({ tier: 2 })
    expect(await lookup(alice.amid)).not.toHaveProperty('verified_name')
    expect((await renew(alice)).body.code).toBe('NOT_VERIFIED')
    const last = (await logged()).at(-1)!
    expect(last.kind).toBe('revocation')
    expect(JSON.parse(utf8Text(last.content))).toMatchObject({
      issuer: keyId,
      serial,
      reason: 'keyCompromise',
    })
  })

  it('revokes nothing twice', async () => {
    await verify(alice)
    await authority().revokeAgent(alice.amid, 'unspecified', now)
    const entries = (await logged()).length
    expect(await authority().revokeAgent(alice.amid, 'unspecified', now)).toBe(0)
    expect((await logged()).length).toBe(entries)
  })

  it('makes a new list after six hours without a revocation, and no other before', async () => {
    const { keyId } = authority().intermediate
    const first = await registry.list(keyId)
    now += 5 * 3_600_000
    expect((await registry.list(keyId)).number).toBe(first.number)
    now += 2 * 3_600_000
    const second = await registry.list(keyId)
    expect(second.number).toBe(first.number + 1)
    expect(second.nextUpdate).toBeGreaterThan(now)
    // The root is online here, so its list is renewed too.
    expect((await registry.list(registry.keys.root.keyId)).nextUpdate).toBeGreaterThan(now)
  })

  it('gives every list a number of its own when many revoke at once', async () => {
    const agents = Array.from({ length: 6 }, (_, index) => agent(`r${index}`))
    for (const [index, one] of agents.entries()) {
      await one.register()
      await verify(one, `person ${index}`)
    }
    const { keyId } = authority().intermediate
    const { number } = await registry.list(keyId)
    await Promise.all(agents.map((one) => authority().revokeAgent(one.amid, 'superseded', now)))
    const list = await registry.list(keyId)
    expect([list.number, list.entries.size]).toEqual([number + 6, 6])
  })

  it('ends the certificates of an agent that deregisters', async () => {
    const { chain } = await verify(alice)
    expect((await alice.send({ method: 'DELETE', path: `/v1/registry/agents/${alice.amid}` })).status).toBe(
      204,
    )
    expect(await registry.judge(chain, alice.amid)).toMatchObject({ revocation: 'revoked' })
    await alice.register({ sequence: 2 })
    expect(await lookup(alice.amid)).toMatchObject({ tier: 2 })
  })

  it('has no list of issuers it does not know', async () => {
    const refused = await call(`${registry.url}/crl/${'ab'.repeat(20)}`)
    expect([refused.status, refused.body.code]).toEqual([404, 'NOT_FOUND'])
    expect((await call(`${registry.url}/crl/nothing`)).body.code).toBe('MALFORMED')
  })
})

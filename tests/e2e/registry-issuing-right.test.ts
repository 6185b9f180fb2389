/** An organisation's right to certify: how it ends, and how it outlives the intermediate it was given under. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { ed25519KeyPair, systemRandom } from '@agentmesh/sdk/crypto/signing'
import {
  certificateFromText,
  certificateText,
  identityFromKeyPair,
  issueAgent,
  issueCrl,
  issueIntermediate,
  makeExchangeKey,
  newSerial,
  openTrustDocument,
  parseCertificate,
  signRegistration,
  validatePath,
  type Identity,
} from '@agentmesh/sdk/identity'
import { formatTimestamp, fromBase64 } from '@agentmesh/sdk/wire'
import { afterEach, beforeEach, expect, it } from 'vitest'
import { startCertification, type Certification } from '../../apps/registry/src/authority/certification.ts'
import { makeAuthorityKeys, type AuthorityKeys } from '../../apps/registry/src/authority/authority-keys.ts'
import { DEFAULT_LIMITS } from '../../apps/registry/src/limits.ts'
import { openSqliteStore } from '../../apps/registry/src/store/sql-store.ts'
import type { Store } from '../../apps/registry/src/store/store.ts'
import { startRegistry, type RunningRegistry } from '../../apps/registry/src/index.ts'
import { HttpRegistryClient } from '../../packages/sdk/src/discovery/index.ts'
import { DnsServer } from '../support/dns-server.ts'

const DAY = 86_400_000
const NOW = Date.UTC(2026, 1, 1, 12)
const TOKEN = 'operator-token-of-a-test-0123456789'

interface Member {
  readonly identity: Identity
  readonly client: HttpRegistryClient
}

let now: number
let one: DnsServer
let two: DnsServer
let keys: AuthorityKeys
let registry: RunningRegistry
let store: Store
let certification: Certification
let folder: string
let acme: Member

async function member(): Promise<Member> {
  const identity = identityFromKeyPair(ed25519KeyPair(systemRandom(32)))
  const client = new HttpRegistryClient(registry.url, identity, { now: () => now, random: systemRandom })
  const options = { startId: 1, sequence: 1, random: systemRandom, now }
  await client.register(
    signRegistration(identity, {
      exchange_key: makeExchangeKey(identity, options).record,
      capabilities: ['travel'],
      relay_endpoint: 'wss://relay.example/v1/connect',
      sequence: 1,
      created_at: formatTimestamp(now),
    }),
  )
  return { identity, client }
}

/** An organisation that has shown its record. */
async function proved(): Promise<void> {
  const challenge = await acme.client.registerOrganization('acme.example', 'Acme')
  for (const server of [one, two]) server.set(challenge.record.name, challenge.record.value)
  await acme.client.verifyOrganization()
}

/** What an organisation does offline. */
async function issue(of: Member, to: Member): Promise<string[]> {
  const { certificate = '' } = await of.client.organization(of.identity.amid)
  const der = issueAgent(
    {
      serial: newSerial(systemRandom),
      notBefore: now - 1000,
      notAfter: now + 30 * DAY,
      publicKey: to.identity.signing.publicKey,
      displayName: 'Fleet agent',
    },
    { certificate: certificateFromText(certificate), signing: of.identity.signing },
  )
  return [certificateText(parseCertificate(der)), certificate]
}

beforeEach(async () => {
  now = NOW
  one = await DnsServer.start()
  two = await DnsServer.start()
  folder = mkdtempSync(join(tmpdir(), 'agentmesh-organizations-'))
  const dataPath = join(folder, 'registry.db')
  keys = makeAuthorityKeys({
    name: 'Test registry',
    url: 'http://registry.example',
    now,
    random: systemRandom,
  })
  const resolvers = [one.address, two.address]
  registry = await startRegistry({
    dataPath,
    authority: keys,
    resolvers,
    now: () => now,
    adminTokens: `operator:${TOKEN}`,
  })
  store = await openSqliteStore(dataPath)
  certification = await startCertification(keys, store, DEFAULT_LIMITS, resolvers, now)
  acme = await member()
})
afterEach(async () => {
  await registry.close()
  await store.close()
  await one.close()
  await two.close()
  rmSync(folder, { recursive: true, force: true })
})

/** What a stranger makes of a chain, with what the registry publishes. */
async function verdict(chain: readonly string[], of: Member, at = certification) {
  const { trustDocument, lists } = at.authority
  const trusted = openTrustDocument(trustDocument, { now })
  const known = await lists.several(
    [trusted.root, ...trusted.intermediates].map(({ keyId }) => keyId),
    now,
  )
  return validatePath(chain.map(fromBase64), trusted, {
    now,
    amid: of.identity.amid,
    crlOf: (keyId) => known.get(keyId),
  })
}

it('the right to certify ends with a ban, for every member at once', async () => {
  const fleet = await member()
  await proved()
  const chain = await issue(acme, fleet)
  await fleet.client.submitCertificate(chain)
  expect((await verdict(chain, fleet)).failure).toBeUndefined()
  const answer = await fetch(`${registry.url}/v1/registry/admin/bans`, {
    method: 'POST',
    headers: {
      authorization: `Bearer ${TOKEN}`,
      'content-type': 'application/json',
    },
    body: JSON.stringify({ amid: acme.identity.amid, scope: 'agent', reason: 'fraud' }),
  })
  expect(answer.status).toBe(200)
  expect(await verdict(chain, fleet)).toMatchObject({
    valid: false,
    failure: { code: 'revoked', depth: 1 },
  })
  expect(await fleet.client.lookup(fleet.identity.amid)).toMatchObject({ tier: 2 })
  await expect(fleet.client.submitCertificate(chain)).rejects.toMatchObject({ code: 'CERTIFICATE_INVALID' })
  await expect(fleet.client.agentCertificate()).rejects.toMatchObject({ code: 'NOT_VERIFIED' })
  await expect(acme.client.verifyOrganization()).rejects.toMatchObject({ code: 'NOT_REGISTERED' })
})

it('the right to certify goes on under the next intermediate when the one before is revoked, with no word of the organisation', async () => {
  const fleet = await member()
  await proved()
  const old = await issue(acme, fleet)
  await fleet.client.submitCertificate(old)
  const next = makeAuthorityKeys({ name: keys.name, url: keys.url, now, random: systemRandom })
  const { root, rootKey } = keys
  if (rootKey === undefined) throw new Error('The root is here')
  const issuer = { certificate: root, signing: rootKey }
  const terms = { serial: newSerial(systemRandom), notBefore: now - 1000, notAfter: now + 1000 * DAY }
  const { publicKey } = next.intermediate.signing
  const intermediate = parseCertificate(issueIntermediate({ ...terms, name: keys.name, publicKey }, issuer))
  const { serial } = keys.intermediate.certificate
  const rootList = issueCrl(
    {
      entries: [{ serial, revokedAt: now, reason: 'keyCompromise' }],
      number: 2,
      thisUpdate: now - 1000,
      nextUpdate: now + 30 * DAY,
    },
    issuer,
  )
  const renewed: AuthorityKeys = {
    ...keys,
    intermediate: { certificate: intermediate, signing: next.intermediate.signing },
    retired: [keys.intermediate],
    rootList,
  }
  const resolvers = [one.address, two.address]
  const after = await startCertification(renewed, store, DEFAULT_LIMITS, resolvers, now)
  expect(await verdict(old, fleet, after)).toMatchObject({
    valid: false,
    failure: { code: 'revoked', depth: 2 },
  })
  const { chain } = await after.authority.issueAgent(
    { amid: fleet.identity.amid, publicKey: fleet.identity.signing.publicKey },
    now,
  )
  // The member's own certificate is what it was; its organisation has another above it.
  expect(chain[0]).toBe(old[0])
  expect(chain[1]).not.toBe(old[1])
  expect(await verdict(chain, fleet, after)).toMatchObject({
    valid: true,
    tier: 1.5,
    organization: 'Acme (acme.example)',
  })
  expect(await fleet.client.lookup(fleet.identity.amid)).toMatchObject({ tier: 1.5 })
})

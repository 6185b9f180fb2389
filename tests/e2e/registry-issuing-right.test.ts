/** An organisation's right to certify: how it ends, and how it outlives the intermediate it was given under. */
import { systemRandom } from '@agentmesh/sdk/crypto/signing'
import {
  issueCrl,
  issueIntermediate,
  newSerial,
  openTrustDocument,
  parseCertificate,
  validatePath,
} from '@agentmesh/sdk/identity'
import { fromBase64 } from '@agentmesh/sdk/wire'
import { afterEach, beforeEach, expect, it } from 'vitest'
import { startCertification, type Certification } from '../../apps/registry/src/authority/certification.ts'
import { makeAuthorityKeys, type AuthorityKeys } from '../../apps/registry/src/authority/authority-keys.ts'
import { DEFAULT_LIMITS } from '../../apps/registry/src/limits.ts'
import type { Store } from '../../apps/registry/src/store/store.ts'
import { type RunningRegistry } from '../../apps/registry/src/index.ts'
import { DnsServer } from '../support/dns-server.ts'
import { issueMember, startDomainRegistry, type Member } from '../support/domain-registry.ts'

const DAY = 86_400_000
const NOW = Date.UTC(2026, 1, 1, 12)
const TOKEN = 'operator-token-of-a-test-0123456789'

let now: number
let one: DnsServer
let two: DnsServer
let keys: AuthorityKeys
let registry: RunningRegistry
let store: Store
let certification: Certification
let close: () => Promise<void>
let member: () => Promise<Member>
let acme: Member

/** An organisation that has shown its record. */
async function proved(): Promise<void> {
  const challenge = await acme.client.registerOrganization('acme.example', 'Acme')
  for (const server of [one, two]) server.set(challenge.record.name, challenge.record.value)
  await acme.client.verifyOrganization()
}

const issue = (of: Member, to: Member) => issueMember(of, to, now)

beforeEach(async () => {
  now = NOW
  const parts = await startDomainRegistry(() => now, { adminTokens: `operator:${TOKEN}` })
  ;({ one, two, keys, registry, store, certification, member, close } = parts)
  acme = await member()
})
afterEach(() => close())

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

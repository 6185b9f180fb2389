/** Organisations and their domains, against real DNS servers over UDP and TCP: two, as two resolvers. */
import { randomUUID } from 'node:crypto'
import { systemRandom } from '@agentmesh/sdk/crypto/signing'
import {
  certificateFromText,
  certificateText,
  issueAgent,
  issueCrl,
  makeExchangeKey,
  newSerial,
  openTrustDocument,
  parseCertificate,
  parseCrl,
  signClosing,
  signFeedback,
  signRegistration,
  validatePath,
  type Crl,
} from '@agentmesh/sdk/identity'
import { formatTimestamp, fromBase64, parseSessionId, type DomainChallenge } from '@agentmesh/sdk/wire'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { type Certification } from '../../apps/registry/src/authority/certification.ts'
import { makeAuthorityKeys, type AuthorityKeys } from '../../apps/registry/src/authority/authority-keys.ts'
import { dnsLookup } from '../../apps/registry/src/organizations/dns-lookup.ts'
import type { Store } from '../../apps/registry/src/store/store.ts'
import { startRegistry } from '../../apps/registry/src/index.ts'
import { HttpRegistryClient } from '../../packages/sdk/src/discovery/index.ts'
import { DnsServer } from '../support/dns-server.ts'
import { issueMember, startDomainRegistry, type Member } from '../support/domain-registry.ts'

const DAY = 86_400_000
const NOW = Date.UTC(2026, 1, 1, 12)
const HOST = '_agentmesh.acme.example'

let now: number
let one: DnsServer
let two: DnsServer
let keys: AuthorityKeys
let store: Store
let certification: Certification
let close: () => Promise<void>
let member: () => Promise<Member>
let acme: Member

function publish(...records: string[]): void {
  for (const server of [one, two]) server.set(HOST, ...records)
}

/** An organisation that has shown its record. */
async function proved(who = acme, domain = 'acme.example', name = 'Acme'): Promise<DomainChallenge> {
  const challenge = await who.client.registerOrganization(domain, name)
  for (const server of [one, two]) server.set(challenge.record.name, challenge.record.value)
  await who.client.verifyOrganization()
  return challenge
}

const issue = (of: Member, to: Member, role?: string) => issueMember(of, to, now, role)

beforeEach(async () => {
  now = NOW
  const parts = await startDomainRegistry(() => now)
  ;({ one, two, keys, store, certification, member, close } = parts)
  acme = await member()
})
afterEach(() => close())

describe('the proof of a domain', () => {
  it('is a TXT record ready to paste, and gets the organisation a certificate for its own key', async () => {
    const challenge = await acme.client.registerOrganization('acme.example', 'Acme')
    expect(challenge.record).toMatchObject({ name: HOST, type: 'TXT' })
    expect(challenge.record.value).toMatch(/^agentmesh-verify=1 amid=/)
    expect(challenge.record.value.length).toBeLessThan(256)
    publish(challenge.record.value)
    const verified = await acme.client.verifyOrganization()
    expect(verified).toMatchObject({ status: 'verified', domain: 'acme.example', name: 'Acme' })
    const certificate = certificateFromText(verified.certificate!)
    expect(certificate.subject.organization).toBe('Acme (acme.example)')
    expect(certificate.dnsNames).toEqual(['acme.example'])
    expect(certificate.publicKey.bytes).toEqual(acme.identity.signing.publicKey)
    expect([one.asked, two.asked]).toEqual([[`udp ${HOST}`], [`udp ${HOST}`]])
  })

  it('may stand among other records, in several strings, and come over TCP when UDP cuts it short', async () => {
    const { record } = await acme.client.registerOrganization('acme.example', 'Acme')
    const { value } = record
    one.set(HOST, 'v=spf1 -all', [value.slice(0, 50), value.slice(50)])
    two.set(HOST, value, 'something else')
    two.mode = 'cut'
    expect((await acme.client.verifyOrganization()).status).toBe('verified')
    expect(two.asked).toContain(`tcp ${HOST}`)
  })

  it('is asked for before it is looked for', async () => {
    await expect(acme.client.verifyOrganization()).rejects.toMatchObject({ code: 'ORGANIZATION_UNKNOWN' })
    expect(one.asked).toEqual([])
  })

  it('is missing when there is no record, or no name', async () => {
    await acme.client.registerOrganization('acme.example', 'Acme')
    await expect(acme.client.verifyOrganization()).rejects.toMatchObject({
      code: 'DOMAIN_PROOF_MISSING',
      message: `${HOST} has no TXT record that begins with agentmesh-verify=`,
    })
    publish('v=spf1 -all')
    await expect(acme.client.verifyOrganization()).rejects.toMatchObject({ code: 'DOMAIN_PROOF_MISSING' })
  })

  const expectRefusal = async (message: RegExp, code = 'DOMAIN_PROOF_INVALID') => {
    await expect(acme.client.verifyOrganization()).rejects.toMatchObject({
      code,
      message: expect.stringMatching(message) as string,
    })
    await expect(acme.client.organization(acme.identity.amid)).rejects.toMatchObject({
      code: 'ORGANIZATION_UNKNOWN',
    })
  }

  it('is refused when it is forged: another expiry, another proof, or no form at all', async () => {
    const { record } = await acme.client.registerOrganization('acme.example', 'Acme')
    publish(record.value.replace(/expires=\d{4}/, 'expires=2099'))
    await expectRefusal(/was not given out by this registry.*expires=2099/)
    publish(record.value.replace(/proof=./, (text) => (text.endsWith('A') ? 'proof=B' : 'proof=A')))
    await expectRefusal(/was not given out by this registry/)
    publish(`agentmesh-verify=${'x'.repeat(200)}\u0007`)
    await expectRefusal(/is not in form: "agentmesh-verify=xxx.*\.\.\."$/)
  })

  it('is refused when it is another registry’s', async () => {
    await acme.client.registerOrganization('acme.example', 'Acme')
    const url = 'http://other.example'
    const others = makeAuthorityKeys({ name: 'Other', url, now, random: systemRandom })
    const other = await startRegistry({ dataPath: ':memory:', authority: others, now: () => now })
    try {
      const { identity } = acme
      const client = new HttpRegistryClient(other.url, identity, { now: () => now, random: systemRandom })
      const options = { startId: 1, sequence: 1, random: systemRandom, now }
      await client.register(
        signRegistration(identity, {
          exchange_key: makeExchangeKey(identity, options).record,
          capabilities: [],
          relay_endpoint: 'wss://relay.example/v1/connect',
          sequence: 1,
          created_at: formatTimestamp(now),
        }),
      )
      publish((await client.registerOrganization('acme.example', 'Acme')).record.value)
    } finally {
      await other.close()
    }
    await expectRefusal(/was not given out by this registry/)
  })

  it('is refused when it stands there twice', async () => {
    const first = await acme.client.registerOrganization('acme.example', 'Acme')
    now += 1000
    const second = await acme.client.registerOrganization('acme.example', 'Acme')
    publish(first.record.value, second.record.value)
    await expectRefusal(/has 2 agentmesh-verify= records/)
    publish(second.record.value)
    expect((await acme.client.verifyOrganization()).status).toBe('verified')
  })

  it('is refused when it is stale', async () => {
    const { record } = await acme.client.registerOrganization('acme.example', 'Acme')
    publish(record.value)
    now += 401 * DAY
    await expectRefusal(/expired at 2027-/)
  })

  it('is refused when it is another agent’s, or another organisation’s of this agent', async () => {
    const thief = await member()
    publish((await thief.client.registerOrganization('acme.example', 'Acme')).record.value)
    await acme.client.registerOrganization('acme.example', 'Acme')
    await expectRefusal(new RegExp(`is that of another agent: ${thief.identity.amid}`))
    const elsewhere = await acme.client.registerOrganization('acme.test', 'Acme')
    await acme.client.registerOrganization('acme.example', 'Acme')
    publish(elsewhere.record.value)
    await expectRefusal(/is that of another organisation/)
    const named = await acme.client.registerOrganization('acme.example', 'Acme Incorporated')
    await acme.client.registerOrganization('acme.example', 'Acme')
    publish(named.record.value)
    await expectRefusal(/is that of another organisation/)
  })

  it('is disputed when one resolver lies', async () => {
    const { record } = await acme.client.registerOrganization('acme.example', 'Acme')
    one.set(HOST, record.value)
    two.set(HOST, 'agentmesh-verify=no')
    await expectRefusal(
      /127\.0\.0\.1:\d+ sees "agentmesh-verify=1 .*127\.0\.0\.1:\d+ sees "agentmesh-verify=no"/,
      'DOMAIN_PROOF_DISPUTED',
    )
    two.records.delete(HOST)
    await expectRefusal(/sees none \(ENOTFOUND\)/, 'DOMAIN_PROOF_DISPUTED')
    two.mode = 'failure'
    await expectRefusal(/sees none \(ESERVFAIL\)/, 'DOMAIN_PROOF_DISPUTED')
  })

  it('is not judged when a resolver is silent, and the wait for it is bounded', async () => {
    const { record } = await acme.client.registerOrganization('acme.example', 'Acme')
    publish(record.value)
    two.mode = 'silent'
    const lookup = dnsLookup([one.address, two.address], { tryMilliseconds: 100, wholeMilliseconds: 400 })
    await expect(lookup.proofs('acme.example')).rejects.toMatchObject({
      code: 'DNS_UNAVAILABLE',
      message: expect.stringContaining(two.address) as string,
    })
  })

  it.each([
    ['an address', '127.0.0.1', 'Acme'],
    ['one label', 'localhost', 'Acme'],
    ['capital letters', 'Acme.example', 'Acme'],
    ['a path', 'acme.example/x', 'Acme'],
    ['an underscore', '_agentmesh.acme.example', 'Acme'],
    ['a dot at the end', 'acme.example.', 'Acme'],
    ['a name with parentheses', 'acme.example', 'Acme (bank.example)'],
    ['a name that turns its text round', 'acme.example', 'Acme\u202Eknab'],
    ['an empty name', 'acme.example', ''],
    ['a name too long beside its domain', 'acme.example', 'A'.repeat(60)],
    ['a name too long in UTF-8', 'acme.example', 'Я'.repeat(30)],
  ])('is not given out for %s', async (_what, domain, name) => {
    await expect(acme.client.registerOrganization(domain, name)).rejects.toMatchObject({ code: 'MALFORMED' })
  })
})

describe('checked again', () => {
  const recheck = () => certification.organizations.recheck(now)
  const status = async () => (await acme.client.organization(acme.identity.amid)).status

  it('keeps an organisation whose record stays, and asks once a day', async () => {
    await proved()
    one.asked.length = 0
    await recheck()
    expect(one.asked).toEqual([])
    now += DAY + 1
    await recheck()
    expect(one.asked).toEqual([`udp ${HOST}`])
    expect(await status()).toBe('verified')
  })

  it('gives a lost record seven days, then revokes the organisation and what its agents are', async () => {
    await proved()
    const fleet = await member()
    const chain = await issue(acme, fleet)
    await fleet.client.submitCertificate(chain)
    publish()
    now += DAY + 1
    await recheck()
    expect(await status()).toBe('grace')
    expect((await fleet.client.lookup(fleet.identity.amid)).tier).toBe(1.5)
    for (let day = 0; day < 7; day++) {
      now += DAY + 1
      await recheck()
    }
    const ended = await acme.client.organization(acme.identity.amid)
    expect(ended.status).toBe('suspended')
    expect(ended).not.toHaveProperty('certificate')
    const list = await acme.client.crl(keys.intermediate.certificate.keyId)
    expect(list.entries.get(certificateFromText(chain[1]!).serial)).toMatchObject({
      reason: 'privilegeWithdrawn',
    })
    const record = await fleet.client.lookup(fleet.identity.amid)
    expect(record.tier).toBe(2)
    expect(record).not.toHaveProperty('organization')
    await expect(fleet.client.submitCertificate(chain)).rejects.toMatchObject({
      code: 'CERTIFICATE_INVALID',
    })
  })

  it('takes a record back that came back in time, and one that came later by a new proof', async () => {
    const { record } = await proved()
    publish()
    now += DAY + 1
    await recheck()
    publish(record.value)
    now += DAY + 1
    await recheck()
    const back = await acme.client.organization(acme.identity.amid)
    expect(back.status).toBe('verified')
    expect(back).not.toHaveProperty('lost_at')
    publish()
    for (let day = 0; day < 9; day++) {
      now += DAY + 1
      await recheck()
    }
    expect(await status()).toBe('suspended')
    publish(record.value)
    const again = await acme.client.verifyOrganization()
    expect([again.status, again.certificate === back.certificate]).toEqual(['verified', false])
  })

  it('is not lost because a resolver is silent, and asked again within the hour', async () => {
    await proved()
    const quick = dnsLookup([one.address, two.address], { tryMilliseconds: 50, wholeMilliseconds: 200 })
    const { Organizations } = await import('../../apps/registry/src/organizations/organizations.ts')
    const organizations = new Organizations({ store, authority: certification.authority, dns: quick })
    two.mode = 'silent'
    now += DAY + 1
    await organizations.recheck(now)
    expect(await status()).toBe('verified')
    two.mode = 'truthful'
    one.asked.length = 0
    now += 3_600_001
    await organizations.recheck(now)
    expect(one.asked).toEqual([`udp ${HOST}`])
  })

  it('gives the domain to whom the record names, and takes it from who had it', async () => {
    await proved()
    const buyer = await member()
    await proved(buyer, 'acme.example', 'Acme')
    expect(await status()).toBe('suspended')
    expect((await buyer.client.organization(buyer.identity.amid)).status).toBe('verified')
    await expect(acme.client.verifyOrganization()).rejects.toMatchObject({ code: 'DOMAIN_PROOF_INVALID' })
  })
})

describe('an organisation’s own certificates', () => {
  it('are made without the registry, and mean something once they are submitted', async () => {
    await proved()
    const fleet = await member()
    const chain = await issue(acme, fleet, 'support')
    expect((await fleet.client.lookup(fleet.identity.amid)).tier).toBe(2)
    const { proof } = await fleet.client.submitCertificate(chain)
    expect(proof.index).toBeGreaterThan(2)
    // Its daemon gets it from the registry, where its owner brought it.
    expect(await fleet.client.agentCertificate()).toMatchObject({ chain, proof: { index: proof.index } })
    expect(await fleet.client.lookup(fleet.identity.amid)).toMatchObject({
      tier: 1.5,
      organization: 'Acme (acme.example)',
    })
    const found = await fleet.client.search({ capability: 'travel', tier_min: 'organization' })
    expect(found.agents.map(({ amid }) => amid)).toEqual([fleet.identity.amid])
    const trusted = openTrustDocument(await fleet.client.trust(), { now, fingerprint: keys.fingerprint })
    const verdict = validatePath(chain.map(fromBase64), trusted, {
      now,
      amid: fleet.identity.amid,
      crlOf: () => undefined,
    })
    expect(verdict).toMatchObject({ valid: true, tier: 1.5, organization: 'Acme (acme.example)' })
    expect(verdict.agent?.subject.role).toBe('support')
    // The same again is no second entry in the log.
    expect((await fleet.client.submitCertificate(chain)).proof.index).toBe(proof.index)
  })

  it('take no rating away, brought in by the organisation alone or by whom it rated', async () => {
    await proved()
    const [rater, rated] = [await member(), await member()]
    await rated.client.submitCertificate(await issue(acme, rated))
    const closed = () => {
      const statement = {
        type: 'session_closing' as const,
        session_id: parseSessionId(randomUUID()),
        initiator: rater.identity.amid,
        responder: rated.identity.amid,
        reason: 'completed' as const,
        closed_at: formatTimestamp(now),
      }
      const initiator_signature = signClosing(rater.identity, statement)
      return {
        ...statement,
        initiator_signature,
        responder_signature: signClosing(rated.identity, statement),
      }
    }
    const rate = (closing = closed()) =>
      rater.client.submitFeedback(signFeedback(rater.identity, { closing, rating: 0 }, now))
    const chain = await issue(acme, rater)
    await expect(acme.client.submitCertificate(chain)).rejects.toMatchObject({ code: 'NOT_OWNER' })
    await rate()
    const before = closed()
    now += 1000
    await rater.client.submitCertificate(chain)
    await rate(before)
    await expect(rate()).rejects.toMatchObject({ code: 'FEEDBACK_SELF' })
  })

  it('are refused from somebody else, for somebody else, or under a chain that does not hold', async () => {
    await proved()
    const fleet = await member()
    const stranger = await member()
    const chain = await issue(acme, fleet)
    await expect(stranger.client.submitCertificate(chain)).rejects.toMatchObject({ code: 'NOT_OWNER' })
    // The organisation alone: nobody is its member who did not agree.
    await expect(acme.client.submitCertificate(chain)).rejects.toMatchObject({ code: 'NOT_OWNER' })
    // Signed by a key that is no organisation's, under an organisation's certificate.
    const [, above = ''] = chain
    const forged = issueAgent(
      {
        serial: newSerial(systemRandom),
        notBefore: now,
        notAfter: now + DAY,
        publicKey: stranger.identity.signing.publicKey,
      },
      {
        certificate: {
          ...certificateFromText(above),
          publicKey: { type: 'ed25519', bytes: stranger.identity.signing.publicKey },
        },
        signing: stranger.identity.signing,
      },
    )
    const texts = [certificateText(parseCertificate(forged)), above]
    await expect(stranger.client.submitCertificate(texts)).rejects.toMatchObject({
      code: 'CERTIFICATE_INVALID',
      message: expect.stringContaining('signature') as string,
    })
    const [agentOnly = ''] = chain
    await expect(fleet.client.submitCertificate([agentOnly, agentOnly])).rejects.toMatchObject({
      code: 'CERTIFICATE_INVALID',
    })
    expect((await stranger.client.lookup(stranger.identity.amid)).tier).toBe(2)
  })

  it('end with the certificate: who does not renew is anonymous again', async () => {
    await proved()
    const fleet = await member()
    await fleet.client.submitCertificate(await issue(acme, fleet))
    now += 30 * DAY + 1000
    await certification.authority.keepHouse(now)
    expect((await fleet.client.lookup(fleet.identity.amid)).tier).toBe(2)
  })

  const listOf = (number: number, serials: readonly string[], certificate: string, by = acme): Crl =>
    parseCrl(
      issueCrl(
        {
          number,
          thisUpdate: now - 1000,
          nextUpdate: now + 30 * DAY,
          entries: serials.map((serial) => ({
            serial,
            revokedAt: now,
            reason: 'affiliationChanged' as const,
          })),
        },
        { certificate: certificateFromText(certificate), signing: by.identity.signing },
      ),
    )

  it('are revoked by the organisation’s own list, which the registry serves', async () => {
    await proved()
    const fleet = await member()
    const chain = await issue(acme, fleet)
    const [leaf = '', above = ''] = chain
    await fleet.client.submitCertificate(chain)
    const { serial } = certificateFromText(leaf)
    await acme.client.putCrl(listOf(1, [serial], above))
    expect((await fleet.client.lookup(fleet.identity.amid)).tier).toBe(2)
    const served = await fleet.client.crl(certificateFromText(above).keyId)
    expect(served.entries.get(serial)?.reason).toBe('affiliationChanged')
    await expect(fleet.client.submitCertificate(chain)).rejects.toMatchObject({
      code: 'CERTIFICATE_INVALID',
    })
    // The same list is fine; an older number, and one that takes a revocation back, are not.
    await acme.client.putCrl(served)
    await expect(acme.client.putCrl(listOf(1, [serial, '40'], above))).rejects.toMatchObject({
      code: 'SEQUENCE_REPLAYED',
    })
    await expect(acme.client.putCrl(listOf(2, [], above))).rejects.toMatchObject({
      code: 'CERTIFICATE_INVALID',
      message: expect.stringContaining('takes back') as string,
    })
    await expect(fleet.client.putCrl(listOf(3, [serial], above))).rejects.toMatchObject({
      code: 'NOT_OWNER',
    })
  })
})

import { describe, expect, it } from 'vitest'
import { testAgent } from '../identity/certificates/test-support.ts'
import { ChainCache, issueAgent, issueSession, newSerial, parseCertificate } from '../identity/index.ts'
import { DAY, NOW, testRandom } from '../identity/test-support.ts'
import { fromBase64, MAX_KNOCK_BYTES, toBase64, type Knock } from '../wire/index.ts'
import { evaluateKnock, type DecisionContext } from './decision.ts'
import type { OwnStanding } from './own-standing.ts'
import type { OpenedKnock } from './knock-responder.ts'
import { defaultPolicy, type Policy } from './policy.ts'
import {
  issuersToCheck,
  NO_TRUST,
  verifyStanding,
  type CheckedStanding,
  type TrustContext,
} from './standing.ts'
import { knockOn, TestAgent } from './test-support.ts'
import { TestTrust } from './test-support-standing.ts'

const trust = new TestTrust()
const alice = new TestAgent('alice')
const bob = new TestAgent('bob')
const mallory = new TestAgent('mallory')

/** A KNOCK over the wire, as the receiver opened it. */
function knockWith(standing: OwnStanding | undefined, from = alice, displayName?: string): OpenedKnock {
  const request = {
    ...(standing === undefined ? {} : { standing }),
    ...(displayName === undefined ? {} : { displayName }),
  }
  const { packet } = knockOn(from, bob.verifiedBundle(), request)
  return bob.open(packet, from)
}

function check(opened: OpenedKnock, context: TrustContext = trust.context(), now = NOW): CheckedStanding {
  return verifyStanding(opened.knock, opened, context, now)
}

/** The KNOCK as a liar would have signed it: claims and what comes along are the sender's to choose. */
function claiming(
  opened: OpenedKnock,
  from: Partial<Knock['from']>,
  shown: Partial<Knock> = {},
): OpenedKnock {
  return { ...opened, knock: { ...opened.knock, ...shown, from: { ...opened.knock.from, ...from } } }
}

const CONTEXT: DecisionContext = {
  now: NOW,
  precheck: { verdict: 'ok', courtesy: false, retryAfterSeconds: 0, trace: [] },
  activeSessions: 0,
  paused: false,
  presence: 'online',
  arrivedOffline: false,
}

function decide(opened: OpenedKnock, checked: CheckedStanding, policy: Partial<Policy> = {}) {
  return evaluateKnock({ ...opened, ...checked }, { ...defaultPolicy(), ...policy }, CONTEXT)
}

describe('an agent that shows who it is', () => {
  const opened = knockWith(trust.standing(alice.identity, 'Alice'))

  it('of an organisation, is of its tier, name and reputation', () => {
    const checked = check(opened)
    expect(checked).toEqual({
      standing: { tier: 1.5, reputation: 0.83, displayName: 'Alice', organization: 'Acme', root: 'Example' },
      findings: {
        chain: 'valid',
        registry: 'Example',
        revocation: 'good',
        log: 'proven',
        credential: 'valid',
      },
    })
    expect(decide(opened, checked, { accept_tiers: [1.5], min_reputation: 0.8 }).accepted).toBe(true)
  })

  it('of the registry itself, is verified and of no organisation', () => {
    const { standing } = check(knockWith(trust.standing(alice.identity, 'Alice', false)))
    expect(standing).toEqual({ tier: 1, reputation: 0.83, displayName: 'Alice', root: 'Example' })
  })

  it('without a name of its own, is known by its AMID', () => {
    const { standing } = check(knockWith(trust.standing(alice.identity, undefined, false)))
    expect(standing.displayName).toBeUndefined()
  })

  it('is anonymous to an owner who trusts no registry, and is not refused for it', () => {
    const checked = check(opened, NO_TRUST)
    expect(checked).toEqual({
      standing: { tier: 2, reputation: 0.5 },
      findings: { chain: 'unknown_root', credential: 'unknown_registry' },
    })
    expect(decide(opened, checked).accepted).toBe(true)
    expect(decide(opened, checked, { accept_tiers: [1, 1.5] }).reason).toBe('insufficient_trust')
  })

  it('is anonymous, and no liar, when the log of its registry contradicts itself', () => {
    const { registries, ...rest } = trust.context()
    const checked = check(opened, { ...rest, registries: [], inconsistent: registries })
    expect(checked).toEqual({
      standing: { tier: 2, reputation: 0.5 },
      findings: { chain: 'log_inconsistent', registry: 'Example', credential: 'log_inconsistent' },
    })
    expect(decide(opened, checked).accepted).toBe(true)
  })

  it('claims less than it can show, and is what it can show', () => {
    expect(check(claiming(opened, { tier: 2, organization: null })).standing.tier).toBe(1.5)
  })

  it('goes by its certified name, whatever the KNOCK says', () => {
    expect(check(claiming(opened, { display_name: 'The Bank' })).standing.displayName).toBe('Alice')
  })

  it('has a KNOCK within its 8 KB, with the longest names and a log of a million entries', () => {
    const wordy = new TestTrust('R'.repeat(64), 'O'.repeat(64), 'acme.example')
    const { certificates, reputation } = wordy.standing(alice.identity)
    if (certificates === undefined || reputation === undefined) throw new Error('nothing to show')
    const wordiest = testAgent(alice.identity, wordy.organization, 'A'.repeat(64), 'B'.repeat(32))
    const agent = wordiest.certificate
    const proof = wordy.prove(agent, 20)
    const { packet } = knockOn(alice, bob.verifiedBundle(), {
      standing: { reputation, certificates: { ...certificates, agent, proof } },
    })
    expect(packet.length).toBeLessThanOrEqual(MAX_KNOCK_BYTES)
    expect(check(bob.open(packet, alice), wordy.context()).standing).toMatchObject({
      tier: 1.5,
      reputation: 0.83,
    })
  })

  it('costs one signature check when it comes again', () => {
    const cache = new ChainCache()
    const context = { ...trust.context(), cache }
    const first = check(opened, context)
    expect(check(opened, context)).toEqual(first)
    expect(cache.read(fromBase64(opened.knock.certificate_chain?.[1] ?? ''))).toBe(
      cache.read(fromBase64(opened.knock.certificate_chain?.[1] ?? '')),
    )
  })

  it('is refused once it is revoked, also when its chain is cached', () => {
    const context = { ...trust.context(), cache: new ChainCache() }
    expect(check(opened, context).falseClaim).toBeUndefined()
    const { serial } = parseCertificate(fromBase64(opened.knock.certificate_chain?.[1] ?? ''))
    const revoked = trust.context({ agents: [{ serial, revokedAt: NOW - DAY, reason: 'keyCompromise' }] })
    expect(check(opened, { ...revoked, cache: context.cache }).falseClaim).toBe('revoked')
  })
})

describe('a chain that an ACCEPT shows', () => {
  const { knock } = knockWith(trust.standing(alice.identity, 'Alice'))
  const shown = { ...knock, certificate_chain: knock.certificate_chain?.slice(1) ?? [] }
  const checked = ({ identity }: TestAgent) =>
    verifyStanding(shown, { from: identity.amid }, trust.context(), NOW)

  it('counts for the agent whose it is', () => {
    expect(checked(alice)).toMatchObject({ standing: { tier: 1.5 }, findings: { chain: 'valid' } })
  })

  it('makes nothing of another agent', () => {
    expect(checked(mallory)).toMatchObject({ standing: { tier: 2 }, findings: { chain: 'amid_mismatch' } })
  })
})

describe('an agent that shows nothing', () => {
  it('is anonymous, with the reputation of a new agent', () => {
    const opened = knockWith(undefined)
    expect(check(opened)).toEqual({
      standing: { tier: 2, reputation: 0.5 },
      findings: { chain: 'none', credential: 'none' },
    })
    expect(decide(opened, check(opened)).accepted).toBe(true)
  })

  it('has a reputation when a registry we trust says so', () => {
    const opened = knockWith({ reputation: trust.credential(alice.identity, { score: 0.9 }) })
    expect(check(opened).standing).toEqual({ tier: 2, reputation: 0.9 })
  })

  it('with the name of an organisation for a display name, has neither name nor organisation', () => {
    const opened = knockWith(undefined, mallory, 'Acme')
    const checked = check(opened)
    expect(checked.standing).toEqual({ tier: 2, reputation: 0.5 })
    expect(decide(opened, checked, { accept_tiers: [1.5] }).reason).toBe('insufficient_trust')
  })
})

describe('an agent that lies', () => {
  const organized = knockWith(trust.standing(alice.identity, 'Alice'))
  const own = trust.standing(alice.identity, 'Alice')
  const chain = organized.knock.certificate_chain ?? []
  const [session = '', agent = '', organization = ''] = chain
  const agentSerial = parseCertificate(fromBase64(agent)).serial
  const organizationSerial = parseCertificate(fromBase64(organization)).serial
  const anonymous = knockWith(undefined)
  const entry = { revokedAt: NOW - DAY, reason: 'keyCompromise' as const }
  const other = new TestTrust('Other')

  /** An agent certificate of the organisation with other dates, as the KNOCK that carries it is opened. */
  function dated(notBefore: number, notAfter: number): OpenedKnock {
    const terms = { serial: newSerial(testRandom('dated')), notBefore, notAfter }
    const der = issueAgent({ publicKey: alice.identity.signing.publicKey, ...terms }, trust.organization)
    const certificate = parseCertificate(der)
    const { organization: above } = own.certificates ?? {}
    return knockWith({
      certificates: {
        agent: certificate,
        ...(above === undefined ? {} : { organization: above }),
        proof: trust.prove(certificate),
      },
    })
  }

  it.each<[string, OpenedKnock, CheckedStanding['falseClaim'], TrustContext?]>([
    ['claims tier 1 with no chain', claiming(anonymous, { tier: 1 }), 'no_chain'],
    ['claims tier 1.5 with no chain', claiming(anonymous, { tier: 1.5 }), 'no_chain'],
    ['claims an organisation with no chain', claiming(anonymous, { organization: 'Acme' }), 'no_chain'],
    [
      'claims tier 1 with no chain, to an owner who trusts nobody',
      claiming(anonymous, { tier: 1 }),
      'no_chain',
      NO_TRUST,
    ],
    [
      'shows somebody else’s whole chain',
      claiming(knockWith(undefined, mallory), { tier: 1.5 }, { certificate_chain: chain }),
      'amid_mismatch',
    ],
    [
      'shows its own chain from another KNOCK',
      claiming({ ...organized, ephemeralKey: new Uint8Array(32).fill(9) }, {}),
      'session_key_mismatch',
    ],
    [
      'shows somebody else’s agent certificate under a session certificate of its own',
      claiming(
        knockWith(undefined, mallory),
        { tier: 1.5 },
        {
          certificate_chain: [stolenSession(), agent, organization],
        },
      ),
      'signature',
    ],
    ['shows a chain that expired', dated(NOW - 30 * DAY, NOW - 1000), 'expired'],
    ['shows a chain that is not valid yet', dated(NOW + 1000, NOW + DAY), 'not_yet_valid'],
    [
      'was revoked by its organisation',
      organized,
      'revoked',
      trust.context({ agents: [{ serial: agentSerial, ...entry }] }),
    ],
    [
      'is of an organisation that was revoked',
      organized,
      'revoked',
      trust.context({ organizations: [{ serial: organizationSerial, ...entry }] }),
    ],
    [
      'shows a chain without a session certificate',
      claiming(organized, {}, { certificate_chain: [agent, organization] }),
      'profile',
    ],
    [
      'shows a chain that is cut short',
      claiming(organized, {}, { certificate_chain: [session, agent] }),
      undefined,
    ],
    [
      'shows bytes that are no certificate',
      claiming(organized, {}, { certificate_chain: ['AAAA', agent, organization] }),
      'malformed',
    ],
    [
      'shows bytes that are no certificate on top',
      claiming(organized, {}, { certificate_chain: [session, agent, 'AAAA'] }),
      'malformed',
    ],
    ['shows no proof that it is in the log', without(organized, 'certificate_proof'), 'not_in_log'],
    [
      'shows the proof of another certificate',
      claiming(organized, {}, { certificate_proof: trust.prove(trust.organization.certificate) }),
      'not_in_log',
    ],
    [
      'shows a proof under the log of another registry',
      claiming(
        organized,
        {},
        {
          certificate_proof: other.prove(testAgent(alice.identity, trust.organization, 'Alice').certificate),
        },
      ),
      'not_in_log',
    ],
    [
      'claims another organisation than its chain',
      claiming(organized, { organization: 'Globex' }),
      'other_organization',
    ],
    [
      'claims to be verified by the registry when an organisation did it',
      claiming(organized, { tier: 1 }),
      'other_tier',
    ],
    [
      'claims an organisation under a chain of the registry',
      claiming(knockWith(trust.standing(alice.identity, 'Alice', false)), {
        tier: 1.5,
        organization: 'Acme',
      }),
      'other_tier',
    ],
  ])('%s', (_, opened, falseClaim, context) => {
    const checked = check(opened, context)
    expect(checked.falseClaim).toBe(falseClaim)
    expect(checked.standing).toMatchObject({ tier: 2 })
    expect(checked.standing.organization).toBeUndefined()
    const decision = decide(opened, checked)
    expect(decision.reason).toBe(falseClaim === undefined ? undefined : 'unverified_claim')
    expect(decision.trace.find(({ rule }) => rule === 'certificate')).toMatchObject({
      passed: falseClaim === undefined,
      inputs: { false_claim: falseClaim ?? null },
    })
  })

  function stolenSession(): string {
    const certificate = testAgent(alice.identity, trust.organization, 'Alice').certificate
    const terms = { serial: '0a', notBefore: NOW - DAY, notAfter: NOW + DAY }
    const publicKey = new Uint8Array(32).fill(9)
    const mine = {
      ...certificate,
      publicKey: { type: 'ed25519' as const, bytes: mallory.identity.signing.publicKey },
    }
    return toBase64(
      issueSession({ publicKey, ...terms }, { certificate: mine, signing: mallory.identity.signing }),
    )
  }

  it('under a root that nobody here trusts, is anonymous', () => {
    const opened = knockWith(other.standing(alice.identity, 'Alice'))
    const checked = check(opened)
    expect(checked).toEqual({
      standing: { tier: 2, reputation: 0.5 },
      findings: { chain: 'unknown_root', credential: 'unknown_registry' },
    })
    expect(decide(opened, checked, { accept_tiers: [1, 1.5] }).reason).toBe('insufficient_trust')
  })

  it('under a root of its own with the name of ours, is refused or anonymous, never believed', () => {
    const forged = new TestTrust('Example', 'Forged')
    expect(forged.trusted.fingerprint).toBe(trust.trusted.fingerprint)
    const context = { ...trust.context(), registries: [{ ...trust.trusted, intermediates: [] }] }
    expect(check(organized, context).standing.tier).toBe(2)
  })

  it.each<[string, Partial<Knock>, string]>([
    [
      'a stale credential',
      { reputation_credential: trust.credential(alice.identity, { expiresAt: NOW }) },
      'SIGNATURE_EXPIRED',
    ],
    [
      'the credential of another agent',
      { reputation_credential: trust.credential(bob.identity) },
      'AMID_MISMATCH',
    ],
    [
      'a credential that it raised itself',
      { reputation_credential: { ...trust.credential(alice.identity), score: 1 } },
      'INVALID_SIGNATURE',
    ],
    [
      'a credential of a registry that nobody here trusts',
      { reputation_credential: other.credential(alice.identity) },
      'unknown_registry',
    ],
  ])('with %s, has the reputation its tier starts with', (_, shown, reason) => {
    const checked = check(claiming(organized, { reputation_score: 1 }, shown))
    expect(checked.standing).toMatchObject({ tier: 1.5, reputation: 0.7 })
    expect(checked.findings).toMatchObject({ credential: reason })
    expect(check(claiming(anonymous, { reputation_score: 1 }, shown)).standing.reputation).toBe(0.5)
  })
})

describe('what cannot be looked up', () => {
  const opened = knockWith(trust.standing(alice.identity, 'Alice'))
  const noLists = { ...trust.context(), crlOf: () => undefined }

  it('makes an agent anonymous when there is no list, and the trace says so', () => {
    const checked = check(opened, noLists)
    expect(checked.falseClaim).toBeUndefined()
    expect(checked.standing.tier).toBe(2)
    expect(checked.findings).toMatchObject({ revocation: 'unknown' })
  })

  it('is accepted when the owner chose so', () => {
    const checked = check(opened, { ...noLists, unknownRevocation: 'accept' })
    expect(checked.standing.tier).toBe(1.5)
    expect(checked.findings).toMatchObject({ revocation: 'unknown' })
  })

  it('makes an agent anonymous when its proof is too old', () => {
    const { certificates } = trust.standing(alice.identity, 'Alice')
    if (certificates === undefined) throw new Error('no certificates')
    const proof = trust.prove(certificates.agent, 4, NOW - 8 * DAY)
    const checked = check(knockWith({ certificates: { ...certificates, proof } }))
    expect(checked.falseClaim).toBeUndefined()
    expect(checked.standing.tier).toBe(2)
    expect(checked.findings).toMatchObject({ log: 'TREE_HEAD_STALE' })
  })

  it('is no lie when our copy of the registry’s certificates is out of date', () => {
    const checked = check(opened, trust.context(), trust.trusted.root.notAfter)
    expect(checked.falseClaim).toBeUndefined()
    expect(checked.standing.tier).toBe(2)
  })

  it('names the issuers whose lists are wanted, for registries that are trusted', () => {
    const texts = opened.knock.certificate_chain
    const { root, intermediate } = trust.registry
    expect(issuersToCheck(texts, trust.context())).toEqual({
      registry: trust.trusted,
      keyIds: [root, intermediate, trust.organization].map(({ certificate }) => certificate.keyId),
    })
    expect(issuersToCheck(texts, NO_TRUST)).toBeUndefined()
    expect(issuersToCheck(['AAAA'], trust.context())).toBeUndefined()
    expect(issuersToCheck(undefined, trust.context())).toBeUndefined()
  })
})

function without(opened: OpenedKnock, field: keyof Knock): OpenedKnock {
  const knock = Object.fromEntries(Object.entries(opened.knock).filter(([key]) => key !== field)) as Knock
  return { ...opened, knock }
}

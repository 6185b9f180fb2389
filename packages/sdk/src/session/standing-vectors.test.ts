/**
 * Plays `test-vectors/standing/`: what stands in a KNOCK, whom its receiver trusts, and what that makes of the sender. All bytes
 * base64; `knock` is the JSON that was sealed.
 */
import { describe, expect, it } from 'vitest'
import { openTrustDocument, parseCrl } from '../identity/index.ts'
import { testCrl } from '../identity/certificates/test-support.ts'
import { DAY, NOW } from '../identity/test-support.ts'
import {
  formatTimestamp,
  fromBase64,
  Knock,
  parseTimestamp,
  toBase64,
  validate,
  type Amid,
  type TrustDocument,
} from '../wire/index.ts'
import { printVector, vectorFiles } from '../wire/test-support.ts'
import { verifyStanding, type CheckedStanding } from './standing.ts'
import { knockOn, TestAgent } from './test-support.ts'
import { TestTrust } from './test-support-standing.ts'

interface StandingVector {
  readonly description: string
  readonly section: string
  readonly now: string
  readonly from: Amid
  readonly ephemeral_key: string
  readonly knock: Knock
  readonly trust_documents: readonly TrustDocument[]
  readonly crls: readonly string[]
  readonly expect: CheckedStanding
}

function scenarios(): ReadonlyMap<string, StandingVector> {
  const trust = new TestTrust()
  const alice = new TestAgent('alice')
  const bob = new TestAgent('bob')
  const { root, intermediate } = trust.registry
  const lists = (...revoked: Parameters<typeof testCrl>[1][]) =>
    [root, intermediate, trust.organization].map((issuer, index) =>
      toBase64(testCrl(issuer, revoked[index]).der),
    )
  const shown = trust.standing(alice.identity, 'Alice')
  const serial = shown.certificates?.agent.serial ?? ''
  const opened = bob.open(knockOn(alice, bob.verifiedBundle(), { standing: shown }).packet, alice)
  const bare = bob.open(knockOn(alice, bob.verifiedBundle(), {}).packet, alice)
  const make = (
    description: string,
    expected: CheckedStanding,
    changes: Partial<StandingVector> = {},
  ): StandingVector => ({
    description,
    section: 'spec/knock.md 7',
    now: formatTimestamp(NOW),
    from: opened.from,
    ephemeral_key: toBase64(opened.ephemeralKey),
    knock: opened.knock,
    trust_documents: [trust.registry.trustDocument],
    crls: lists(),
    ...changes,
    expect: expected,
  })
  const anonymous = { tier: 2, reputation: 0.5 } as const
  const valid = {
    chain: 'valid',
    registry: 'Example',
    revocation: 'good',
    log: 'proven',
    credential: 'valid',
  }
  return new Map([
    [
      'organization',
      make('An agent of an organisation with a credential', {
        standing: {
          tier: 1.5,
          reputation: 0.83,
          displayName: 'Alice',
          organization: 'Acme',
          root: 'Example',
        },
        findings: valid,
      }),
    ],
    [
      'revoked',
      make(
        'The same after its organisation revoked it',
        {
          standing: { ...anonymous, reputation: 0.83 },
          falseClaim: 'revoked',
          findings: {
            chain: 'revoked',
            registry: 'Example',
            revocation: 'revoked',
            step: '6.1.3 (a)(3)',
            depth: 1,
            credential: 'valid',
          },
        },
        { crls: lists([], [], [{ serial, revokedAt: NOW - DAY, reason: 'keyCompromise' }]) },
      ),
    ],
    [
      'untrusted',
      make(
        'The same for an owner who trusts no registry',
        { standing: anonymous, findings: { chain: 'unknown_root', credential: 'unknown_registry' } },
        { trust_documents: [], crls: [] },
      ),
    ],
    [
      'no-chain',
      make(
        'Tier 1 claimed with nothing to show for it',
        {
          standing: anonymous,
          falseClaim: 'no_chain',
          findings: { chain: 'none', credential: 'none' },
        },
        { knock: { ...bare.knock, from: { ...bare.knock.from, tier: 1 } } },
      ),
    ],
  ])
}

const made = scenarios()
const print = (vector: object): string => printVector(vector, 110)
const { names, load } = vectorFiles('standing', made, print)

describe('test-vectors/standing', () => {
  it('has a file for every scenario, as it is made here', () => {
    expect(names.toSorted()).toEqual([...made.keys()].toSorted())
    for (const [name, vector] of made) expect(load(name)).toBe(print(vector))
  })

  it.each(names)('%s', (name) => {
    const vector = JSON.parse(load(name)) as StandingVector
    const now = parseTimestamp(vector.now)
    const lists = vector.crls.map((text) => parseCrl(fromBase64(text)))
    const checked = verifyStanding(
      validate(Knock, vector.knock),
      { from: vector.from, ephemeralKey: fromBase64(vector.ephemeral_key) },
      {
        registries: vector.trust_documents.map((document) => openTrustDocument(document, { now })),
        crlOf: (keyId) => lists.find(({ authorityKeyId }) => authorityKeyId === keyId),
        unknownRevocation: 'anonymous',
      },
      now,
    )
    expect(checked).toEqual(vector.expect)
  })
})

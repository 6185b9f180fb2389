import { describe, expect, it } from 'vitest'
import type { Intent, TierNumber } from '../wire/index.ts'
import { evaluateKnock, refuseUnopened, type DecisionContext, type KnockInput } from './decision.ts'
import { defaultPolicy, matchingIntent, type Policy } from './policy.ts'
import { newPrecheckState, precheckKnock } from './precheck.ts'
import { NOW } from '../identity/test-support.ts'
import { TestAgent } from './test-support.ts'
import { ANONYMOUS_STANDING } from './verified-standing.ts'

const alice = new TestAgent('alice').identity.amid
const bob = new TestAgent('bob').identity.amid

const input: KnockInput = {
  from: alice,
  knock: {
    from: { amid: alice, tier: 2 },
    intent: { category: 'travel', subcategory: 'flights' },
  },
  expiresAt: NOW + 1000,
  standing: ANONYMOUS_STANDING,
}

function decide(
  policy: Partial<Policy> = {},
  context: Partial<DecisionContext> = {},
  changes: Partial<KnockInput> = {},
) {
  const whole = { ...defaultPolicy(), ...policy }
  return evaluateKnock({ ...input, ...changes }, whole, {
    now: NOW,
    precheck: precheckKnock({ from: alice, isKnown: true }, whole, newPrecheckState(), NOW),
    activeSessions: 0,
    paused: false,
    presence: 'online',
    arrivedOffline: false,
    ...context,
  })
}

const intent = (category: string, subcategory?: string): Partial<KnockInput> => ({
  knock: {
    ...input.knock,
    intent: { category, ...(subcategory === undefined ? {} : { subcategory }) },
  },
})
const standing = (tier: TierNumber, reputation = 0.5): Partial<KnockInput> => ({
  standing: { tier, reputation },
})

describe('evaluateKnock', () => {
  const yes = 'accepted'
  const cases: [string, string, Partial<Policy>, Partial<DecisionContext>?, Partial<KnockInput>?][] = [
    ['lets everybody in by default', yes, {}],
    ['turns away whom the owner blocked', 'blocked', { blocklist: [alice] }],
    ['lets in whom the owner did not block', yes, { blocklist: [bob] }],
    [
      'turns away an anonymous agent where tiers are asked for',
      'insufficient_trust',
      { accept_tiers: [1, 1.5] },
    ],
    ['lets an organisation in where tiers are asked for', yes, { accept_tiers: [1, 1.5] }, {}, standing(1.5)],
    [
      'turns away a verified agent where only organisations may',
      'insufficient_trust',
      { accept_tiers: [1.5] },
      {},
      standing(1),
    ],
    ['turns away an intent that is not accepted', 'intent_not_accepted', { accepted_intents: ['commerce'] }],
    ['accepts an intent by its category', yes, { accepted_intents: ['commerce', 'travel'] }],
    ['accepts an intent by its subcategory', yes, { accepted_intents: ['travel/flights'] }],
    ['turns away another subcategory', 'intent_not_accepted', { accepted_intents: ['travel/hotels'] }],
    [
      'turns away a whole category where a subcategory is accepted',
      'intent_not_accepted',
      { accepted_intents: ['travel/flights'] },
      {},
      intent('travel'),
    ],
    [
      'turns away what is rejected, though it is accepted as well',
      'intent_not_accepted',
      { rejected_intents: ['travel/flights'] },
    ],
    [
      'lets the rest of a partly rejected category in',
      yes,
      { rejected_intents: ['travel/flights'] },
      {},
      intent('travel', 'hotels'),
    ],
    [
      'reads an extension category with its own slash',
      yes,
      { accepted_intents: ['x-acme/parts'] },
      {},
      intent('x-acme/parts', 'bolts'),
    ],
    ['turns away strangers in strict mode', 'not_in_allowlist', { strict_mode: true, allowlist: [bob] }],
    ['lets the allowlist in in strict mode', yes, { strict_mode: true, allowlist: [alice] }],
    ['does not ask for the allowlist otherwise', yes, { allowlist: [bob] }],
    ['turns away a reputation below the least', 'low_reputation', { min_reputation: 0.51 }],
    ['lets in a reputation equal to the least', yes, { min_reputation: 0.5 }],
    ['turns away when full', 'at_capacity', { max_concurrent_sessions: 3 }, { activeSessions: 3 }],
    ['lets in up to the last place', yes, { max_concurrent_sessions: 3 }, { activeSessions: 2 }],
    ['turns away everybody while paused', 'paused', {}, { paused: true }],
    ['turns away new sessions while not to be disturbed', 'paused', {}, { presence: 'dnd' }],
    ['lets in while away', yes, {}, { presence: 'away' }],
    [
      'turns away what came while offline, if the owner wants so',
      'paused',
      { auto_reject_when_offline: true },
      { arrivedOffline: true },
    ],
    ['lets in what came while offline otherwise', yes, {}, { arrivedOffline: true }],
    ['turns away a KNOCK that expired while it waited for its decision', 'expired', {}, { now: NOW + 1001 }],
  ]
  it.each(cases)('%s', (_name, result, policy, context, changes) => {
    const decision = decide(policy, context, changes)
    expect(decision.reason ?? 'accepted').toBe(result)
    expect(decision.accepted).toBe(result === 'accepted')
    expect(decision.trace.at(-1)?.passed).toBe(decision.accepted)
  })

  it('looks at the rules in the design’s order when all pass', () => {
    expect(decide().trace.map(({ rule }) => rule)).toEqual([
      'blocklist',
      'rate_limit',
      'signature',
      'expiry',
      'certificate',
      'tier',
      'intent',
      'allowlist',
      'reputation',
      'capacity',
      'availability',
    ])
  })

  it('stops at the first rule that fails, and says what it looked at', () => {
    const everything = {
      accepted_intents: ['commerce'],
      strict_mode: true,
      min_reputation: 1,
      max_concurrent_sessions: 0,
    }
    const { reason, trace } = decide(everything, { paused: true })
    expect(reason).toBe('intent_not_accepted')
    expect(trace.at(-1)).toEqual({
      rule: 'intent',
      passed: false,
      inputs: { intent: 'travel/flights', rejected_by: null, accepted_by: null },
    })
    expect(trace.filter(({ passed }) => !passed)).toHaveLength(1)
  })

  it('gives forged tier and reputation no weight, and shows them to the owner', () => {
    const forged: Partial<KnockInput> = {
      knock: {
        ...input.knock,
        from: { amid: alice, tier: 1.5, reputation_score: 0.99, organization: 'Bank' },
      },
    }
    expect(decide({ accept_tiers: [1, 1.5] }, {}, forged).reason).toBe('insufficient_trust')
    expect(decide({ min_reputation: 0.9 }, {}, forged).reason).toBe('low_reputation')
    const { accepted, trace } = decide({}, {}, forged)
    expect(accepted).toBe(true)
    expect(trace.find(({ rule }) => rule === 'claims_ignored')?.inputs).toEqual({
      claimed_tier: 'organization',
      tier: 'anonymous',
      claimed_reputation: 0.99,
      reputation: 0.5,
      claimed_organization: 'Bank',
    })
  })

  it('tells a full agent’s visitor when to come back', () => {
    expect(decide({ max_concurrent_sessions: 0 }).retryAfterSeconds).toBe(60)
  })

  it('records a KNOCK that did not open, by what was wrong with it', () => {
    const precheck = precheckKnock({ from: alice, isKnown: true }, defaultPolicy(), newPrecheckState(), NOW)
    const forged = refuseUnopened(alice, 'INVALID_SIGNATURE', precheck)
    expect(forged).toMatchObject({ accepted: false, reason: 'invalid_signature' })
    expect(forged.trace.at(-1)).toMatchObject({ rule: 'signature', inputs: { error: 'INVALID_SIGNATURE' } })
    expect(refuseUnopened(alice, 'KNOCK_EXPIRED', precheck).reason).toBe('expired')
  })
})

describe('matchingIntent', () => {
  it('names the entry that covers an intent', () => {
    const flights: Intent = { category: 'travel', subcategory: 'flights' }
    expect(matchingIntent(['commerce', 'travel/hotels', 'travel'], flights)).toBe('travel')
    expect(matchingIntent(['*'], flights)).toBe('*')
    expect(matchingIntent([], flights)).toBeUndefined()
    expect(matchingIntent(['x-travel/flights'], flights)).toBeUndefined()
  })
})

import { describe, expect, it } from 'vitest'
import { NOW } from '../identity/test-support.ts'
import type { Intent } from '../wire/index.ts'
import { evaluateKnock, type DecisionContext, type KnockInput } from './decision.ts'
import { defaultPolicy, type Policy } from './policy.ts'
import { newPrecheckState, precheckKnock } from './precheck.ts'
import {
  requestRefusal,
  RULES,
  sessionRefusal,
  type Opener,
  type PolicyRule,
  type RequestFacts,
} from './rules.ts'
import { TestAgent } from './test-support.ts'
import { ANONYMOUS_STANDING } from './verified-standing.ts'

const peer = new TestAgent('peer').identity.amid
const flights: Intent = { category: 'travel', subcategory: 'flights' }

/** A policy that only the rule of this name fails under, for an anonymous peer that asks about flights. */
const BREAKING: Readonly<Record<string, Partial<Policy>>> = {
  blocklist: { blocklist: [peer], allowlist: [peer] },
  tier: { accept_tiers: [1, 1.5] },
  intent: { rejected_intents: ['travel/flights'] },
  allowlist: { strict_mode: true },
  reputation: { min_reputation: 0.6 },
}
const peerRules = RULES.filter(({ of }) => of === 'peer')
const cases = peerRules.map((rule): [string, PolicyRule] => [rule.rule, rule])

function policyFor(rule: string): Policy {
  const breaking = BREAKING[rule]
  if (!breaking) throw new Error(`No policy here breaks the rule ${rule}: add one`)
  return { ...defaultPolicy(), ...breaking }
}

function knock(policy: Policy) {
  const input: KnockInput = {
    from: peer,
    knock: { from: { amid: peer, tier: 2 }, intent: flights },
    expiresAt: NOW + 1000,
    standing: ANONYMOUS_STANDING,
  }
  const context: DecisionContext = {
    now: NOW,
    precheck: precheckKnock({ from: peer, isKnown: true }, policy, newPrecheckState(), NOW),
    activeSessions: 0,
    paused: false,
    presence: 'online',
    arrivedOffline: false,
  }
  return evaluateKnock(input, policy, context)
}

const facts = { from: peer, intent: flights, standing: ANONYMOUS_STANDING }

function request(policy: Policy, opener: Opener = 'peer', changes: Partial<RequestFacts> = {}) {
  let taken = 0
  const takeMessage = () => {
    taken++
    return { allowed: true, retryAfterSeconds: 0, bucket: { tokens: 1, at: NOW } }
  }
  const refusal = requestRefusal({ ...facts, agreed: flights, takeMessage, ...changes }, policy, opener)
  return { refusal, taken }
}

describe('a rule for peers', () => {
  it.each(cases)('%s refuses a KNOCK, ends a session, and stops a request', (name) => {
    const policy = policyFor(name)
    expect(knock(policy).trace.findLast(({ passed }) => !passed)?.rule).toBe(name)
    expect(sessionRefusal(facts, policy, 'peer')?.rule).toBe(name)
    expect(request(policy)).toMatchObject({ refusal: { rule: name }, taken: 0 })
  })

  it.each(cases)('%s holds for a peer we knocked at only where it says so', (name, rule) => {
    const holds = rule.of === 'peer' && rule.alsoChosen === true
    const policy = policyFor(name)
    expect(sessionRefusal(facts, policy, 'us')?.rule).toBe(holds ? name : undefined)
    expect(request(policy, 'us').refusal?.rule).toBe(holds ? name : undefined)
  })

  it('lets everything pass that the default policy lets in', () => {
    expect(knock(defaultPolicy()).accepted).toBe(true)
    expect(sessionRefusal(facts, defaultPolicy(), 'peer')).toBeUndefined()
    expect(request(defaultPolicy())).toEqual({ refusal: undefined, taken: 1 })
  })
})

describe('a request on a session', () => {
  const about = (intent: Intent, agreed: Intent) =>
    request(defaultPolicy(), 'peer', { intent, agreed }).refusal?.rule
  const asked: [string, Intent, Intent, string | undefined][] = [
    ['of the same kind passes', flights, flights, undefined],
    ['of a subcategory of what was agreed passes', flights, { category: 'travel' }, undefined],
    ['about another subcategory does not', { category: 'travel', subcategory: 'hotels' }, flights, 'scope'],
    ['about the whole category does not', { category: 'travel' }, flights, 'scope'],
    ['about another category does not', { category: 'finance' }, { category: 'travel' }, 'scope'],
    [
      'that is critical does not pass where low was agreed',
      { ...flights, urgency: 'critical' },
      { ...flights, urgency: 'low' },
      'scope',
    ],
    ['that is high does not pass where nothing was said', { ...flights, urgency: 'high' }, flights, 'scope'],
    [
      'that says nothing does not pass where low was agreed',
      flights,
      { ...flights, urgency: 'low' },
      'scope',
    ],
    [
      'that is low passes where high was agreed',
      { ...flights, urgency: 'low' },
      { ...flights, urgency: 'high' },
      undefined,
    ],
  ]
  it.each(asked)('%s', (_name, intent, agreed, rule) => {
    expect(about(intent, agreed)).toBe(rule)
  })

  it('beyond the rate is told when the next may come', () => {
    const takeMessage = () => ({ allowed: false, retryAfterSeconds: 7, bucket: { tokens: 0, at: NOW } })
    expect(request(defaultPolicy(), 'peer', { takeMessage }).refusal).toMatchObject({
      code: 'RATE_LIMITED',
      retryAfterSeconds: 7,
    })
  })

  it('about something else takes a message of the rate, or it could be said without end', () => {
    expect(request(defaultPolicy(), 'peer', { agreed: { category: 'finance' } }).taken).toBe(1)
  })
})

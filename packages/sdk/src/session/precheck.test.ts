import { describe, expect, it } from 'vitest'
import { evaluateKnock } from './decision.ts'
import { defaultPolicy } from './policy.ts'
import { newPrecheckState, precheckKnock, STRANGERS_AT_ONCE, STRANGERS_PER_MINUTE } from './precheck.ts'
import { MAX_BUCKETS, RateLimiter, takeToken } from './rate-limit.ts'
import type { Amid } from '../wire/index.ts'
import { NOW } from '../identity/test-support.ts'
import { TestAgent } from './test-support.ts'
import { ANONYMOUS_STANDING } from './verified-standing.ts'

const alice = new TestAgent('alice').identity.amid
const bob = new TestAgent('bob').identity.amid
const MINUTE = 60_000

describe('precheckKnock', () => {
  const policy = { ...defaultPolicy(), rate_limit: { knocks_per_minute: 2, messages_per_minute: 100 } }

  it('limits one sender and not the others', () => {
    const state = newPrecheckState()
    const verdicts = [1, 2, 3].map(
      () => precheckKnock({ from: alice, isKnown: true }, policy, state, NOW).verdict,
    )
    expect(verdicts).toEqual(['ok', 'ok', 'rate_limited'])
    expect(precheckKnock({ from: bob, isKnown: true }, policy, state, NOW).verdict).toBe('ok')
  })

  it('says when the next KNOCK may come, and lets it in then', () => {
    const state = newPrecheckState()
    precheckKnock({ from: alice, isKnown: true }, policy, state, NOW)
    precheckKnock({ from: alice, isKnown: true }, policy, state, NOW)
    expect(precheckKnock({ from: alice, isKnown: true }, policy, state, NOW).retryAfterSeconds).toBe(30)
    expect(precheckKnock({ from: alice, isKnown: true }, policy, state, NOW + 29_999).verdict).toBe(
      'rate_limited',
    )
    expect(precheckKnock({ from: alice, isKnown: true }, policy, state, NOW + 30_000).verdict).toBe('ok')
  })

  it('takes no token of a blocked sender', () => {
    const state = newPrecheckState()
    const outcome = precheckKnock(
      { from: alice, isKnown: true },
      { ...policy, blocklist: [alice] },
      state,
      NOW,
    )
    expect(outcome.verdict).toBe('blocked')
    expect(outcome.trace).toEqual([{ rule: 'blocklist', passed: false, inputs: { sender: alice } }])
    expect(state.knocks.entries()).toEqual([])
  })

  it('answers a sender turned away once a minute', () => {
    const state = newPrecheckState()
    const blocking = { ...policy, blocklist: [alice] }
    const courtesies = [0, 1, MINUTE - 1, MINUTE].map(
      (after) => precheckKnock({ from: alice, isKnown: true }, blocking, state, NOW + after).courtesy,
    )
    expect(courtesies).toEqual([true, false, false, true])
  })

  it('answers ten senders turned away a minute, however many they are', () => {
    const state = newPrecheckState()
    const strangers = Array.from({ length: 20 }, (_, n) => new TestAgent(`stranger ${n}`).identity.amid)
    const blocking = { ...policy, blocklist: strangers }
    const answered = strangers.filter(
      (from) => precheckKnock({ from, isKnown: true }, blocking, state, NOW).courtesy,
    )
    expect(answered).toHaveLength(10)
  })

  it('stops 10,001 strangers that knock once each, and lets in whom the agent knows', () => {
    const state = newPrecheckState()
    const knock = (n: number, isKnown = false) =>
      precheckKnock({ from: `stranger ${n}` as Amid, isKnown }, policy, state, NOW)
    const outcomes = Array.from({ length: 10_001 }, (_, n) => knock(n))
    expect(outcomes.filter(({ verdict }) => verdict === 'ok')).toHaveLength(STRANGERS_AT_ONCE)
    // What is answered nevertheless is opened, which is the public-key work.
    expect(outcomes.filter(({ courtesy }) => courtesy)).toHaveLength(10)
    expect(knock(1)).toMatchObject({
      verdict: 'rate_limited',
      trace: [{}, { rule: 'rate_limit', passed: false, inputs: { strangers_knocks_per_minute: 120 } }],
    })
    expect(knock(10_002, true).verdict).toBe('ok')
    const minuteLater = Array.from({ length: 10_001 }, (_, n) =>
      precheckKnock({ from: `later ${n}` as Amid, isKnown: false }, policy, state, NOW + MINUTE),
    )
    expect(minuteLater.filter(({ verdict }) => verdict === 'ok')).toHaveLength(STRANGERS_PER_MINUTE)
  })

  it('lets one stranger that floods take no more of the strangers’ share than its own', () => {
    const state = newPrecheckState()
    for (let n = 0; n < 1_000; n++) precheckKnock({ from: alice, isKnown: false }, policy, state, NOW)
    expect(precheckKnock({ from: bob, isKnown: false }, policy, state, NOW).verdict).toBe('ok')
    expect(state.strangers?.tokens).toBe(STRANGERS_AT_ONCE - 2 - 1)
  })

  it('decides what the policy then repeats as rate_limited, with its trace', () => {
    const state = newPrecheckState()
    precheckKnock({ from: alice, isKnown: true }, policy, state, NOW)
    precheckKnock({ from: alice, isKnown: true }, policy, state, NOW)
    const precheck = precheckKnock({ from: alice, isKnown: true }, policy, state, NOW)
    const decision = evaluateKnock(
      {
        from: alice,
        knock: { from: { amid: alice, tier: 2 }, intent: { category: 'travel' } },
        expiresAt: NOW + 1,
        standing: ANONYMOUS_STANDING,
      },
      policy,
      { now: NOW, precheck, activeSessions: 0, paused: false, presence: 'online', arrivedOffline: false },
    )
    expect(decision).toMatchObject({ accepted: false, reason: 'rate_limited', retryAfterSeconds: 30 })
    expect(decision.trace.map(({ rule, passed }) => [rule, passed])).toEqual([
      ['blocklist', true],
      ['rate_limit', false],
    ])
  })
})

describe('a token bucket', () => {
  it('refills evenly and holds no more than a minute’s worth', () => {
    let { bucket } = takeToken(undefined, 60, NOW)
    expect(bucket.tokens).toBe(59)
    bucket = takeToken(bucket, 60, NOW + 500).bucket
    expect(bucket.tokens).toBe(58.5)
    expect(takeToken(bucket, 60, NOW + 10 * MINUTE).bucket.tokens).toBe(59)
  })

  it('neither gains nor loses by a clock that went back', () => {
    const empty = takeToken(undefined, 1, NOW).bucket
    expect(takeToken(empty, 1, NOW - MINUTE).allowed).toBe(false)
    const partial = takeToken(undefined, 5, NOW).bucket
    expect(takeToken(partial, 5, NOW - MINUTE).bucket.tokens).toBe(3)
  })

  it('is no fuller after the owner lowered the limit', () => {
    const { bucket } = takeToken(undefined, 100, NOW)
    expect(takeToken(bucket, 2, NOW).bucket.tokens).toBe(1)
  })
})

describe('RateLimiter', () => {
  it('continues from its entries after a restart', () => {
    const before = new RateLimiter()
    before.take('a', 1, NOW)
    const after = new RateLimiter(JSON.parse(JSON.stringify(before.entries())))
    expect(after.take('a', 1, NOW).allowed).toBe(false)
  })

  it('remembers a bounded number of senders and forgets the one used longest ago', () => {
    const limiter = new RateLimiter()
    limiter.take('early', 1, NOW)
    limiter.take('kept', 1, NOW)
    for (let n = 0; n < MAX_BUCKETS - 2; n++) limiter.take(`s${n}`, 1, NOW)
    expect(limiter.take('kept', 1, NOW).allowed).toBe(false)
    limiter.take('one more', 1, NOW)
    expect(limiter.entries()).toHaveLength(MAX_BUCKETS)
    expect(limiter.take('kept', 1, NOW).allowed).toBe(false)
    expect(limiter.take('early', 1, NOW).allowed).toBe(true)
  })
})

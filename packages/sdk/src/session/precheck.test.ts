import { describe, expect, it } from 'vitest'
import { evaluateKnock } from './decision.ts'
import { defaultPolicy } from './policy.ts'
import { newPrecheckState, precheckKnock } from './precheck.ts'
import { MAX_BUCKETS, RateLimiter, takeToken } from './rate-limit.ts'
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
    const verdicts = [1, 2, 3].map(() => precheckKnock(alice, policy, state, NOW).verdict)
    expect(verdicts).toEqual(['ok', 'ok', 'rate_limited'])
    expect(precheckKnock(bob, policy, state, NOW).verdict).toBe('ok')
  })

  it('says when the next KNOCK may come, and lets it in then', () => {
    const state = newPrecheckState()
    precheckKnock(alice, policy, state, NOW)
    precheckKnock(alice, policy, state, NOW)
    expect(precheckKnock(alice, policy, state, NOW).retryAfterSeconds).toBe(30)
    expect(precheckKnock(alice, policy, state, NOW + 29_999).verdict).toBe('rate_limited')
    expect(precheckKnock(alice, policy, state, NOW + 30_000).verdict).toBe('ok')
  })

  it('takes no token of a blocked sender', () => {
    const state = newPrecheckState()
    const outcome = precheckKnock(alice, { ...policy, blocklist: [alice] }, state, NOW)
    expect(outcome.verdict).toBe('blocked')
    expect(outcome.trace).toEqual([{ rule: 'blocklist', passed: false, inputs: { sender: alice } }])
    expect(state.knocks.entries()).toEqual([])
  })

  it('answers a sender turned away once a minute', () => {
    const state = newPrecheckState()
    const blocking = { ...policy, blocklist: [alice] }
    const courtesies = [0, 1, MINUTE - 1, MINUTE].map(
      (after) => precheckKnock(alice, blocking, state, NOW + after).courtesy,
    )
    expect(courtesies).toEqual([true, false, false, true])
  })

  it('answers ten senders turned away a minute, however many they are', () => {
    const state = newPrecheckState()
    const strangers = Array.from({ length: 20 }, (_, n) => new TestAgent(`stranger ${n}`).identity.amid)
    const blocking = { ...policy, blocklist: strangers }
    const answered = strangers.filter((from) => precheckKnock(from, blocking, state, NOW).courtesy)
    expect(answered).toHaveLength(10)
  })

  it('decides what the policy then repeats as rate_limited, with its trace', () => {
    const state = newPrecheckState()
    precheckKnock(alice, policy, state, NOW)
    precheckKnock(alice, policy, state, NOW)
    const precheck = precheckKnock(alice, policy, state, NOW)
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

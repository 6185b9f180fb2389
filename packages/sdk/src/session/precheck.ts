/**
 * What is decided about a KNOCK before any public-key work: blocklist and rate limit, on the sender the relay
 * authenticated (DESIGN §7). A relay that lies about it gains nothing: such a KNOCK does not open later.
 *
 * Whom a precheck turns away gets a signed REJECT only within a small budget, since signing one costs more than sending a
 * KNOCK; beyond it, silence.
 */
import type { Amid } from '../wire/index.ts'
import type { PrecheckOutcome } from './decision.ts'
import type { Policy } from './policy.ts'
import { RateLimiter } from './rate-limit.ts'
import type { RuleResult } from './rules.ts'

/** REJECTs a minute for senders that a precheck turned away: for one of them, and for all together. */
export const COURTESY_PER_SENDER = 1
export const COURTESY_IN_ALL = 10
const EVERYBODY = 'all'

/** Buckets that fill with the caller's clock. */
export interface PrecheckState {
  readonly knocks: RateLimiter
  readonly courtesies: RateLimiter
  readonly allCourtesies: RateLimiter
}

export function newPrecheckState(): PrecheckState {
  return { knocks: new RateLimiter(), courtesies: new RateLimiter(), allCourtesies: new RateLimiter() }
}

/** Takes a token of the sender's, unless the sender is blocked. */
export function precheckKnock(
  from: Amid,
  policy: Policy,
  state: PrecheckState,
  now: number,
): PrecheckOutcome {
  const blocked = policy.blocklist.includes(from)
  const blocklist: RuleResult = { rule: 'blocklist', passed: !blocked, inputs: { sender: from } }
  if (blocked) {
    const courtesy = takeCourtesy(from, state, now)
    return { verdict: 'blocked', courtesy, retryAfterSeconds: 0, trace: [blocklist] }
  }

  const perMinute = policy.rate_limit.knocks_per_minute
  const { allowed, retryAfterSeconds } = state.knocks.take(from, perMinute, now)
  return {
    verdict: allowed ? 'ok' : 'rate_limited',
    courtesy: !allowed && takeCourtesy(from, state, now),
    retryAfterSeconds,
    trace: [
      blocklist,
      { rule: 'rate_limit', passed: allowed, inputs: { sender: from, knocks_per_minute: perMinute } },
    ],
  }
}

function takeCourtesy(from: Amid, state: PrecheckState, now: number): boolean {
  return (
    state.courtesies.take(from, COURTESY_PER_SENDER, now).allowed &&
    state.allCourtesies.take(EVERYBODY, COURTESY_IN_ALL, now).allowed
  )
}

/**
 * What is decided about a KNOCK before any public-key work: blocklist and rate limits, on the sender the relay
 * authenticated (DESIGN §7). A relay that lies about it gains nothing: such a KNOCK does not open later.
 *
 * AMIDs are free, so a limit for each sender bounds nothing by itself. All strangers have one together; whom the agent knows
 * has no part in it, and is let in however many strangers knock.
 *
 * Whom a precheck turns away gets a signed REJECT only within a small budget, since signing one costs more than sending a
 * KNOCK; beyond it, silence.
 */
import type { Amid } from '../wire/index.ts'
import type { PrecheckOutcome } from './decision.ts'
import type { Policy } from './policy.ts'
import { RateLimiter, takeToken, type TokenBucket, type TokenTaken } from './rate-limit.ts'
import type { RuleResult } from './rules.ts'

/** REJECTs a minute for senders that a precheck turned away: for one of them, and for all together. */
export const COURTESY_PER_SENDER = 1
export const COURTESY_IN_ALL = 10
const EVERYBODY = 'all'

/** KNOCKs of all strangers together: a minute, and at once, as when many waited for an agent that was away. */
export const STRANGERS_PER_MINUTE = 120
export const STRANGERS_AT_ONCE = 300

/** Buckets that fill with the caller's clock. */
export interface PrecheckState {
  readonly knocks: RateLimiter
  readonly courtesies: RateLimiter
  readonly allCourtesies: RateLimiter
  strangers: TokenBucket | undefined
}

export function newPrecheckState(): PrecheckState {
  return {
    knocks: new RateLimiter(),
    courtesies: new RateLimiter(),
    allCourtesies: new RateLimiter(),
    strangers: undefined,
  }
}

/**
 * Takes a token of the sender's, and one of all strangers' for a stranger, unless the sender is blocked.
 *
 * @param isKnown whether the owner listed the sender, a session with it is kept, or the agent ever knocked at it
 */
export function precheckKnock(
  { from, isKnown }: { readonly from: Amid; readonly isKnown: boolean },
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
  // Its own first: who floods takes no more of what strangers have together than it may say itself.
  const own = state.knocks.take(from, perMinute, now)
  const { allowed, retryAfterSeconds } = own.allowed && !isKnown ? takeOfStrangers(state, now) : own
  const limit =
    allowed || !own.allowed
      ? { knocks_per_minute: perMinute }
      : { strangers_knocks_per_minute: STRANGERS_PER_MINUTE }
  return {
    verdict: allowed ? 'ok' : 'rate_limited',
    courtesy: !allowed && takeCourtesy(from, state, now),
    retryAfterSeconds,
    trace: [blocklist, { rule: 'rate_limit', passed: allowed, inputs: { sender: from, ...limit } }],
  }
}

function takeOfStrangers(state: PrecheckState, now: number): TokenTaken {
  const taken = takeToken(state.strangers, STRANGERS_PER_MINUTE, now, 1, STRANGERS_AT_ONCE)
  state.strangers = taken.bucket
  return taken
}

function takeCourtesy(from: Amid, state: PrecheckState, now: number): boolean {
  return (
    state.courtesies.take(from, COURTESY_PER_SENDER, now).allowed &&
    state.allCourtesies.take(EVERYBODY, COURTESY_IN_ALL, now).allowed
  )
}

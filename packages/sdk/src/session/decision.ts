/**
 * Who is let in: policy applied to a KNOCK that proved itself (specification §5.3, DESIGN §7). Code only, no model.
 *
 * The rules and their order are those of `rules.ts`; the first that fails decides. The trace holds every rule looked at, in order, with what it looked at; it is for the
 * owner alone, the peer is told the reason.
 *
 * What a KNOCK says of its own tier and reputation is a claim and decides nothing. What counts comes from the certificate
 * chain and the registry's credential (`standing.ts`); without those an agent is anonymous and has the reputation of a new
 * one. A claim that what came with it disproves is a lie, and gets the KNOCK refused.
 */
import {
  tierName,
  type Amid,
  type ErrorCode,
  type JsonValue,
  type Knock,
  type PresenceState,
  type RejectReason,
} from '../wire/index.ts'
import type { Policy } from './policy.ts'
import { RULES, type KnockFacts, type RuleResult } from './rules.ts'
import type { FalseClaim, VerifiedStanding } from './verified-standing.ts'

export interface Decision {
  readonly accepted: boolean
  readonly reason?: RejectReason
  readonly retryAfterSeconds?: number
  readonly trace: RuleResult[]
}

/** An `OpenedKnock`, or what a dry run makes up. */
export interface KnockInput {
  readonly from: Amid
  readonly knock: Pick<Knock, 'from' | 'intent'>
  /** Milliseconds since the epoch. */
  readonly expiresAt: number
  readonly standing: VerifiedStanding
  /** What `verifyStanding` found to be a lie. */
  readonly falseClaim?: FalseClaim
  /** What it looked at, for the trace. */
  readonly findings?: Readonly<Record<string, JsonValue>>
}

export interface DecisionContext {
  readonly now: number
  /** What `precheckKnock` said of this KNOCK. */
  readonly precheck: PrecheckOutcome
  readonly activeSessions: number
  /** The owner's pause breaker. */
  readonly paused: boolean
  readonly presence: PresenceState
  /** The KNOCK waited in the mailbox while we were offline. */
  readonly arrivedOffline: boolean
}

export interface PrecheckOutcome {
  readonly verdict: 'ok' | 'blocked' | 'rate_limited'
  /** For a sender turned away: whether there is budget for a signed REJECT, or silence. */
  readonly courtesy: boolean
  readonly retryAfterSeconds: number
  readonly trace: RuleResult[]
}

/** Applies the policy to a KNOCK that `openKnock` returned. */
export function evaluateKnock(input: KnockInput, policy: Policy, context: DecisionContext): Decision {
  const { precheck } = context
  if (precheck.verdict !== 'ok') {
    return {
      accepted: false,
      reason: precheck.verdict,
      ...(precheck.verdict === 'rate_limited' ? { retryAfterSeconds: precheck.retryAfterSeconds } : {}),
      trace: precheck.trace,
    }
  }
  const trace: RuleResult[] = [
    ...precheck.trace,
    { rule: 'signature', passed: true, inputs: { signer: input.from } },
    ...ignoredClaims(input),
  ]
  const decided = new Set(trace.map(({ rule }) => rule))
  const facts: KnockFacts = { ...input, ...context, intent: input.knock.intent }
  for (const rule of RULES) {
    if (rule.of === 'request' || rule.check === undefined || decided.has(rule.rule)) continue
    const { passed, inputs, retryAfterSeconds } = rule.check(facts, policy)
    trace.push({ rule: rule.rule, passed, inputs })
    if (passed) continue
    const wait = retryAfterSeconds === undefined ? {} : { retryAfterSeconds }
    return { accepted: false, reason: rule.reason, ...wait, trace }
  }
  return { accepted: true, trace }
}

/** Claims that differ from what is known, for the owner to see. */
function ignoredClaims({ knock, standing }: KnockInput): RuleResult[] {
  const claimed = knock.from
  const tierDiffers = claimed.tier !== standing.tier
  const reputationDiffers =
    claimed.reputation_score !== undefined && claimed.reputation_score !== standing.reputation
  const organization = claimed.organization ?? null
  const organizationDiffers = organization !== (standing.organization ?? null)
  if (!tierDiffers && !reputationDiffers && !organizationDiffers) return []
  return [
    {
      rule: 'claims_ignored',
      passed: true,
      inputs: {
        claimed_tier: tierName(claimed.tier),
        tier: tierName(standing.tier),
        claimed_reputation: claimed.reputation_score ?? null,
        reputation: standing.reputation,
        claimed_organization: organization,
      },
    },
  ]
}

/**
 * The owner's record of a KNOCK that `openKnock` refused. Its sender is not answered: there is no proof of who that is.
 *
 * @param code what `openKnock` threw
 */
export function refuseUnopened(from: Amid, code: ErrorCode, precheck: PrecheckOutcome): Decision {
  const expired = code === 'KNOCK_EXPIRED'
  return {
    accepted: false,
    reason: expired ? 'expired' : 'invalid_signature',
    trace: [
      ...precheck.trace,
      {
        rule: expired ? 'expiry' : 'signature',
        passed: false,
        inputs: { claimed_sender: from, error: code },
      },
    ],
  }
}

const REASON_TEXT: Readonly<Record<RejectReason, string>> = {
  invalid_signature: 'The KNOCK did not prove who sent it.',
  blocked: 'This agent does not talk to you.',
  insufficient_trust: 'This agent asks for a higher trust tier.',
  rate_limited: 'Too many KNOCKs. Wait before the next one.',
  intent_not_accepted: 'This agent does not take requests of this kind.',
  not_in_allowlist: 'This agent talks to known agents only.',
  low_reputation: 'This agent asks for a higher reputation.',
  at_capacity: 'This agent has no room for another session.',
  paused: 'This agent takes no new sessions at this time.',
  expired: 'The KNOCK came too late.',
  unverified_claim: 'The KNOCK claims a tier or an organisation that its certificates do not show.',
}

/** What a REJECT says to the other side's owner: the reason in words, nothing about this side's policy. */
export function rejectText(reason: RejectReason): string {
  return REASON_TEXT[reason]
}

/**
 * Who is let in: policy applied to a KNOCK that proved itself (specification §5.3, DESIGN §7). Code only, no model.
 *
 *     blocklist -> rate limit -> signature -> expiry -> certificate -> tier -> intent (rejected, then accepted)
 *     -> allowlist in strict mode -> reputation -> capacity -> availability
 *
 * The first rule that fails decides. The trace holds every rule looked at, in order, with what it looked at; it is for the
 * owner alone, the peer is told the reason.
 *
 * What a KNOCK says of its own tier and reputation is a claim and decides nothing. What counts comes from the certificate
 * chain and the registry's credential (`standing.ts`); without those an agent is anonymous and has the reputation of a new
 * one. A claim that what came with it disproves is a lie, and gets the KNOCK refused.
 */
import type { PathFailureCode } from '../identity/index.ts'
import {
  formatIntent,
  tierName,
  type Amid,
  type ErrorCode,
  type JsonValue,
  type Knock,
  type PresenceState,
  type RejectReason,
  type TierNumber,
} from '../wire/index.ts'
import { matchingIntent, type Policy } from './policy.ts'

export type Rule =
  | 'blocklist'
  | 'rate_limit'
  | 'signature'
  | 'claims_ignored'
  | 'expiry'
  | 'certificate'
  | 'tier'
  | 'intent'
  | 'allowlist'
  | 'reputation'
  | 'capacity'
  | 'availability'

export interface RuleResult {
  readonly rule: Rule
  readonly passed: boolean
  /** What the rule looked at. Text in it may come from the peer: escape before showing. */
  readonly inputs: Readonly<Record<string, JsonValue>>
}

export interface Decision {
  readonly accepted: boolean
  readonly reason?: RejectReason
  readonly retryAfterSeconds?: number
  readonly trace: RuleResult[]
}

/** Why a chain or a claim does not hold: a failure of path validation, or one of these. */
export type FalseClaim = PathFailureCode | 'no_chain' | 'not_in_log' | 'other_tier' | 'other_organization'

/** What is known of a sender, other than from the sender. */
export interface VerifiedStanding {
  readonly tier: TierNumber
  readonly reputation: number
  /** As certified; escape before showing. Absent for an agent that is anonymous, whatever it calls itself. */
  readonly displayName?: string
  readonly organization?: string
  /** What the organisation lets it be. */
  readonly role?: string
  /** Name of the registry whose root the tier stands under. */
  readonly root?: string
}

/** An agent without certificate and credential. */
export const ANONYMOUS_STANDING: VerifiedStanding = { tier: 2, reputation: 0.5 }

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

/** Seconds after which a full agent may have room. */
const CAPACITY_RETRY_SECONDS = 60

interface Refusal {
  readonly reason: RejectReason
  readonly retryAfterSeconds?: number
}

interface Check {
  readonly rule: Rule
  readonly inputs: Readonly<Record<string, JsonValue>>
  readonly refusal?: Refusal | undefined
}

type CheckRule = (input: KnockInput, policy: Policy, context: DecisionContext) => Check

const refuseIf = (failed: boolean, refusal: Refusal): Refusal | undefined => (failed ? refusal : undefined)

const RULES: readonly CheckRule[] = [
  ({ expiresAt }, _policy, { now }) => ({
    rule: 'expiry',
    inputs: { expires_at: expiresAt, now },
    refusal: refuseIf(now > expiresAt, { reason: 'expired' }),
  }),
  ({ standing, falseClaim, findings }) => ({
    rule: 'certificate',
    inputs: { tier: tierName(standing.tier), false_claim: falseClaim ?? null, ...findings },
    refusal: refuseIf(falseClaim !== undefined, { reason: 'unverified_claim' }),
  }),
  ({ standing }, policy) => ({
    rule: 'tier',
    inputs: { tier: tierName(standing.tier), accept_tiers: policy.accept_tiers.map(tierName) },
    refusal: refuseIf(!policy.accept_tiers.includes(standing.tier), { reason: 'insufficient_trust' }),
  }),
  ({ knock }, policy) => {
    const rejectedBy = matchingIntent(policy.rejected_intents, knock.intent)
    const acceptedBy = matchingIntent(policy.accepted_intents, knock.intent)
    return {
      rule: 'intent',
      inputs: {
        intent: formatIntent(knock.intent),
        rejected_by: rejectedBy ?? null,
        accepted_by: acceptedBy ?? null,
      },
      refusal: refuseIf(rejectedBy !== undefined || acceptedBy === undefined, {
        reason: 'intent_not_accepted',
      }),
    }
  },
  ({ from }, policy) => {
    const listed = policy.allowlist.includes(from)
    return {
      rule: 'allowlist',
      inputs: { strict_mode: policy.strict_mode, listed },
      refusal: refuseIf(policy.strict_mode && !listed, { reason: 'not_in_allowlist' }),
    }
  },
  ({ standing }, policy) => ({
    rule: 'reputation',
    inputs: { reputation: standing.reputation, min_reputation: policy.min_reputation },
    refusal: refuseIf(standing.reputation < policy.min_reputation, { reason: 'low_reputation' }),
  }),
  (_input, policy, { activeSessions }) => ({
    rule: 'capacity',
    inputs: { active_sessions: activeSessions, max_concurrent_sessions: policy.max_concurrent_sessions },
    refusal: refuseIf(activeSessions >= policy.max_concurrent_sessions, {
      reason: 'at_capacity',
      retryAfterSeconds: CAPACITY_RETRY_SECONDS,
    }),
  }),
  (_input, policy, { paused, presence, arrivedOffline }) => {
    const missed = arrivedOffline && policy.auto_reject_when_offline
    return {
      rule: 'availability',
      inputs: { paused, presence, rejected_while_offline: missed },
      refusal: refuseIf(paused || presence === 'dnd' || missed, { reason: 'paused' }),
    }
  },
]

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
  for (const check of RULES) {
    const { rule, inputs, refusal } = check(input, policy, context)
    trace.push({ rule, passed: refusal === undefined, inputs })
    if (refusal !== undefined) return { accepted: false, ...refusal, trace }
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

/**
 * The rules by which an owner's policy decides about a peer (specification §5.3, DESIGN §7): one list, in the order in which
 * they are looked at. The first that fails decides.
 *
 *     of 'peer'      what the owner wants of whoever talks to the agent: a KNOCK is refused by it, an open session ends by it,
 *                    a request on one is not handed over
 *     of 'knock'     what is asked once, of a KNOCK
 *     of 'request'   what is asked of each request on a session
 *
 * So a rule that is added to `RULES` under 'peer' holds at all three doors. In a session that we asked for, the owner chose
 * the peer: only rules marked `alsoChosen` hold there. Tables of the documents are made from this list.
 */
import {
  formatIntent,
  tierName,
  type Amid,
  type ErrorCode,
  type Intent,
  type JsonValue,
  type PresenceState,
  type RejectReason,
} from '../wire/index.ts'
import { matchingIntent, type Policy } from './policy.ts'
import type { TokenTaken } from './rate-limit.ts'
import type { FalseClaim, VerifiedStanding } from './verified-standing.ts'

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
  | 'scope'
  | 'message_rate'

export interface RuleResult {
  readonly rule: Rule
  readonly passed: boolean
  /** What the rule looked at. Text in it may come from the peer: escape before showing. */
  readonly inputs: Readonly<Record<string, JsonValue>>
}

/** What is known of whoever knocks, holds a session, or asks. */
export interface PeerFacts {
  readonly from: Amid
  /** Of the KNOCK, the session, or the request. */
  readonly intent: Intent
  /** As verified; what a peer says of itself is no fact. */
  readonly standing: VerifiedStanding
}

export interface KnockFacts extends PeerFacts {
  /** Milliseconds since the epoch, both. */
  readonly expiresAt: number
  readonly now: number
  /** What `verifyStanding` found to be a lie, and what it looked at. */
  readonly falseClaim?: FalseClaim
  readonly findings?: Readonly<Record<string, JsonValue>>
  readonly activeSessions: number
  /** The owner's pause breaker. */
  readonly paused: boolean
  readonly presence: PresenceState
  /** The KNOCK waited in the mailbox while we were offline. */
  readonly arrivedOffline: boolean
}

export interface RequestFacts extends PeerFacts {
  /** What the session was let in for. */
  readonly agreed: Intent
  /** Takes one of the peer's messages of this minute; called when every rule before passed. */
  readonly takeMessage: () => TokenTaken
}

interface Checked {
  readonly passed: boolean
  readonly inputs: Readonly<Record<string, JsonValue>>
  readonly retryAfterSeconds?: number
}

interface Described {
  readonly rule: Rule
  /** When it fails, for the documents. */
  readonly fails: string
}

interface PeerRule extends Described {
  readonly of: 'peer'
  readonly reason: RejectReason
  readonly alsoChosen?: true
  readonly check: (facts: PeerFacts, policy: Policy) => Checked
}

interface KnockRule extends Described {
  readonly of: 'knock'
  readonly reason: RejectReason
  /** Absent where another step decides, before policy does: `precheckKnock`, `openKnock`. */
  readonly check?: (facts: KnockFacts, policy: Policy) => Checked
}

interface RequestRule extends Described {
  readonly of: 'request'
  readonly code: ErrorCode
  readonly message: string
  readonly check: (facts: RequestFacts, policy: Policy) => Checked
}

export type PolicyRule = PeerRule | KnockRule | RequestRule

const URGENCIES = ['low', 'normal', 'high', 'critical'] as const

/** Seconds after which a full agent may have room. */
const CAPACITY_RETRY_SECONDS = 60

export const RULES: readonly PolicyRule[] = [
  {
    rule: 'blocklist',
    of: 'peer',
    alsoChosen: true,
    reason: 'blocked',
    fails: 'the peer is in `blocklist`',
    check: ({ from }, { blocklist }) => ({ passed: !blocklist.includes(from), inputs: { sender: from } }),
  },
  {
    rule: 'rate_limit',
    of: 'knock',
    reason: 'rate_limited',
    fails: 'the sender has used its `knocks_per_minute`',
  },
  {
    rule: 'signature',
    of: 'knock',
    reason: 'invalid_signature',
    fails: 'opening failed (section 4); the owner sees it, the sender hears nothing',
  },
  {
    rule: 'expiry',
    of: 'knock',
    reason: 'expired',
    fails: '`expires_at` passed while the KNOCK waited for its decision',
    check: ({ expiresAt, now }) => ({ passed: now <= expiresAt, inputs: { expires_at: expiresAt, now } }),
  },
  {
    rule: 'certificate',
    of: 'knock',
    reason: 'unverified_claim',
    fails: 'what is shown disproves what is claimed (below)',
    check: ({ standing, falseClaim, findings }) => ({
      passed: falseClaim === undefined,
      inputs: { tier: tierName(standing.tier), false_claim: falseClaim ?? null, ...findings },
    }),
  },
  {
    rule: 'tier',
    of: 'peer',
    reason: 'insufficient_trust',
    fails: 'the verified tier is not in `accept_tiers`',
    check: ({ standing }, policy) => ({
      passed: policy.accept_tiers.includes(standing.tier),
      inputs: { tier: tierName(standing.tier), accept_tiers: policy.accept_tiers.map(tierName) },
    }),
  },
  {
    rule: 'intent',
    of: 'peer',
    reason: 'intent_not_accepted',
    fails: 'an entry of `rejected_intents` covers it, or none of `accepted_intents` does',
    check: ({ intent }, policy) => {
      const rejectedBy = matchingIntent(policy.rejected_intents, intent)
      const acceptedBy = matchingIntent(policy.accepted_intents, intent)
      return {
        passed: rejectedBy === undefined && acceptedBy !== undefined,
        inputs: {
          intent: formatIntent(intent),
          rejected_by: rejectedBy ?? null,
          accepted_by: acceptedBy ?? null,
        },
      }
    },
  },
  {
    rule: 'allowlist',
    of: 'peer',
    reason: 'not_in_allowlist',
    fails: '`strict_mode`, and the peer is not in `allowlist`',
    check: ({ from }, policy) => {
      const listed = policy.allowlist.includes(from)
      return { passed: !policy.strict_mode || listed, inputs: { strict_mode: policy.strict_mode, listed } }
    },
  },
  {
    rule: 'reputation',
    of: 'peer',
    reason: 'low_reputation',
    fails: 'the verified reputation is below `min_reputation`',
    check: ({ standing }, { min_reputation }) => ({
      passed: standing.reputation >= min_reputation,
      inputs: { reputation: standing.reputation, min_reputation },
    }),
  },
  {
    rule: 'capacity',
    of: 'knock',
    reason: 'at_capacity',
    fails: 'the open sessions are `max_concurrent_sessions` or more',
    check: ({ activeSessions }, { max_concurrent_sessions }) => ({
      passed: activeSessions < max_concurrent_sessions,
      inputs: { active_sessions: activeSessions, max_concurrent_sessions },
      retryAfterSeconds: CAPACITY_RETRY_SECONDS,
    }),
  },
  {
    rule: 'availability',
    of: 'knock',
    reason: 'paused',
    fails: 'paused, presence `dnd`, or `auto_reject_when_offline` and it came while B was offline',
    check: ({ paused, presence, arrivedOffline }, policy) => {
      const missed = arrivedOffline && policy.auto_reject_when_offline
      return {
        passed: !paused && presence !== 'dnd' && !missed,
        inputs: { paused, presence, rejected_while_offline: missed },
      }
    },
  },
  {
    rule: 'message_rate',
    of: 'request',
    code: 'RATE_LIMITED',
    message: 'Too many messages a minute',
    fails: 'the peer has sent `messages_per_minute`, on whatever session',
    check: ({ takeMessage }, { rate_limit }) => {
      const { allowed, retryAfterSeconds } = takeMessage()
      return {
        passed: allowed,
        inputs: { messages_per_minute: rate_limit.messages_per_minute },
        retryAfterSeconds,
      }
    },
  },
  {
    rule: 'scope',
    of: 'request',
    code: 'INTENT_MISMATCH',
    message: 'The request is not about what the KNOCK asked for',
    fails: 'its category or subcategory is not the one of the KNOCK, or its `urgency` is higher',
    check: ({ intent, agreed }) => ({
      passed: covers(agreed, intent),
      inputs: { intent: formatIntent(intent), agreed: formatIntent(agreed), ...urgencies(intent, agreed) },
    }),
  },
]

/** Whether a session's intent covers a request's: the category, the subcategory when the session has one, and the urgency. */
function covers(agreed: Intent, asked: Intent): boolean {
  if (agreed.category !== asked.category) return false
  if (agreed.subcategory !== undefined && agreed.subcategory !== asked.subcategory) return false
  return rank(asked) <= rank(agreed)
}

function rank({ urgency = 'normal' }: Intent): number {
  return URGENCIES.indexOf(urgency)
}

function urgencies({ urgency = 'normal' }: Intent, { urgency: agreed = 'normal' }: Intent) {
  return { urgency, agreed_urgency: agreed }
}

/** Why an open session may not go on. */
export interface SessionRefusal {
  readonly rule: Rule
  readonly reason: RejectReason
}

/** Why a request is not handed over: the session may not go on, or this request may not. */
export type RequestRefusal =
  | SessionRefusal
  | {
      readonly rule: Rule
      readonly code: ErrorCode
      readonly message: string
      readonly retryAfterSeconds?: number
    }

/** Whose idea the session was. */
export type Opener = 'us' | 'peer'

/** The first rule for peers that an open session breaks under this policy; undefined when it may go on. */
export function sessionRefusal(facts: PeerFacts, policy: Policy, opener: Opener): SessionRefusal | undefined {
  for (const rule of RULES) {
    if (rule.of !== 'peer' || (opener === 'us' && rule.alsoChosen !== true)) continue
    if (!rule.check(facts, policy).passed) return { rule: rule.rule, reason: rule.reason }
  }
  return undefined
}

/** The first rule that a request on a session breaks; undefined when it is to be handed over. */
export function requestRefusal(
  facts: RequestFacts,
  policy: Policy,
  opener: Opener,
): RequestRefusal | undefined {
  const ended = sessionRefusal(facts, policy, opener)
  if (ended) return ended
  for (const rule of RULES) {
    if (rule.of !== 'request') continue
    const { passed, retryAfterSeconds } = rule.check(facts, policy)
    if (passed) continue
    return {
      rule: rule.rule,
      code: rule.code,
      message: rule.message,
      ...(retryAfterSeconds === undefined ? {} : { retryAfterSeconds }),
    }
  }
  return undefined
}

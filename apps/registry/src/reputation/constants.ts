/**
 * Every number of the reputation formula and of its defences, in one place. `spec/reputation.md` states them and the bounds
 * that follow; a test holds the text against this file, and the simulation holds the code against the bounds.
 */
import type { TierName } from '@agentmesh/sdk/wire'

const HOUR = 3_600_000
const DAY = 24 * HOUR

/** Weights of the terms (specification §8.3). */
export const TERM_WEIGHTS = { completion: 0.3, feedback: 0.4, age: 0.1, tier: 0.2 } as const

/** The tier term. With PRIOR_MEAN it makes new agents start at exactly 0.5, 0.6 and 0.7. */
export const TIER_TERM: Readonly<Record<TierName, number>> = { anonymous: 0, verified: 0.5, organization: 1 }

/** What is believed of completion and feedback before anything is known: (0.3 + 0.4) * 5/7 = 0.5. */
export const PRIOR_MEAN = 5 / 7
/** How much evidence the prior is worth: that of ten voices at full weight. */
export const PRIOR_WEIGHT = 10

/** The most one voice weighs, by its tier. */
export const VOICE_WEIGHT: Readonly<Record<TierName, number>> = {
  anonymous: 0.1,
  verified: 0.8,
  organization: 1,
}
/** The most all anonymous voices together weigh, */
export const ANONYMOUS_CAP = 1
/** all verified ones whom nobody outside the agent's neighbourhood supports, */
export const UNSUPPORTED_CAP = 2
/** and all supported ones: the newest count. */
export const SUPPORTED_CAP = 20

/** Evidence weighs half as much after this time. */
export const HALF_LIFE_MS = 60 * DAY
/** Evidence that old is forgotten: it weighs 1/64. */
export const FORGET_EVIDENCE_MS = 6 * HALF_LIFE_MS
/** At this age the age term has reached half of what evidence lets it be. */
export const AGE_HALF_MS = 180 * DAY

/** Bounds of one evaluation's work: voices read by kind (newest first), and supporters looked at for each. */
export const MAX_NAMED_VOICES = 256
export const MAX_ANONYMOUS_VOICES = 32
export const MAX_SUPPORTERS = 16

/** How long after its closing a session may be rated. */
export const FEEDBACK_WINDOW_MS = 7 * DAY
/** An agent's score is evaluated at most once in this time, */
export const EVALUATION_DELAY_MS = 10 * 60_000
/** and once in this time while there is evidence, for age and decay. */
export const REEVALUATION_MS = DAY

/** A score that moves further than this within RAPID_WINDOW_MS is held for review. */
export const RAPID_CHANGE = 0.05
export const RAPID_WINDOW_MS = DAY
/** A held change that nobody decides is published after this time. */
export const HOLD_RISE_MS = 72 * HOUR
export const HOLD_FALL_MS = 24 * HOUR

export const CREDENTIAL_LIFE_MS = 12 * HOUR

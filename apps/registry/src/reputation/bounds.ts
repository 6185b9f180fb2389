/**
 * The most an attack can move a score: the bounds that `spec/reputation.md` states, from the same constants as the code.
 *
 * Adding evidence of weight a to a term whose weight (prior included) is at least PRIOR_WEIGHT moves it by at most
 * a / (PRIOR_WEIGHT + a); the same weight moves the confidence in age by at most as much.
 */
import {
  ANONYMOUS_CAP,
  HOLD_FALL_MS,
  MAX_NAMED_VOICES,
  PRIOR_WEIGHT,
  REEVALUATION_MS,
  SUPPORTED_CAP,
  TERM_WEIGHTS,
  UNSUPPORTED_CAP,
  VOICE_WEIGHT,
} from './constants.ts'
import { startingScore } from './score.ts'

const MOVABLE = TERM_WEIGHTS.completion + TERM_WEIGHTS.feedback + TERM_WEIGHTS.age

/** The most that evidence of this weight moves a score, either way. Half a step is for rounding. */
export function boundOfWeight(weight: number): number {
  return (MOVABLE * weight) / (PRIOR_WEIGHT + weight) + 0.0005
}

/** Any number of anonymous agents, praising or slandering. */
export const SWARM_BOUND = boundOfWeight(ANONYMOUS_CAP)

/** One person's agents, however many; one organisation's fleet. */
export const HUMAN_BOUND = boundOfWeight(VOICE_WEIGHT.verified)
export const ORGANIZATION_BOUND = boundOfWeight(VOICE_WEIGHT.organization)

/** n verified people who rate each other and one agent, and whom nobody else rates; `others` have rated that agent too. */
export function cliqueBound(n: number, others: number): number {
  // Beyond what one evaluation reads they push other voices out of it.
  if (n + others > MAX_NAMED_VOICES) return 1
  return boundOfWeight(Math.min(n * VOICE_WEIGHT.organization, UNSUPPORTED_CAP))
}

/** n verified people, m of whom stand apart and vouch for the rest: each can give at most one unit of support. */
export function coalitionBound(n: number, m: number, others: number): number {
  if (n + others > MAX_NAMED_VOICES) return 1
  return boundOfWeight(UNSUPPORTED_CAP + m)
}

/** Registering again under a new AMID: back to the start, nothing more. */
export function whitewashBound(scoreBefore: number): number {
  return Math.max(0, startingScore(2) - scoreBefore)
}

/** For how long a published score can stay above the computed one when a builder begins to cheat. */
export const CHEAT_LAG_MS = HOLD_FALL_MS + REEVALUATION_MS

/**
 * How many honest people, each robbed once, take a builder below where he began: when their words weigh as much as all that
 * counts of the good ones, nothing of the past is left.
 */
export const CHEAT_VICTIMS = Math.ceil(SUPPORTED_CAP / (VOICE_WEIGHT.verified / 2))

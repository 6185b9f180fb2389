/**
 * Whether a newly computed score is published (`spec/reputation.md`, rapid change). Pure.
 *
 *             within RAPID_CHANGE of the anchor
 *     open ------------------------------------------> published
 *       |  further                                        ^
 *       +------> held --- approved, or time passed -------+
 *                  +----- rejected: its evidence is struck out, and it is computed again
 *
 * The anchor is the published score at the beginning of the last RAPID_WINDOW_MS. A tier that changed is no rapid change:
 * it moves published score and anchor alike.
 */
import type { TierNumber } from '@agentmesh/sdk/wire'
import { HOLD_FALL_MS, HOLD_RISE_MS, RAPID_CHANGE, RAPID_WINDOW_MS, TERM_WEIGHTS } from './constants.ts'
import { roundScore, tierTerm } from './score.ts'

export type HoldReason = 'rapid-rise' | 'rapid-fall' | 'mostly-unsupported'

export interface Hold {
  readonly proposed: number
  readonly reasons: readonly HoldReason[]
  /** Milliseconds since the epoch. */
  readonly since: number
  readonly until: number
}

export interface ScoreState {
  readonly published: number
  readonly tier: TierNumber
  readonly anchor: number
  readonly anchorAt: number
  readonly hold: Hold | undefined
}

export interface Computed {
  readonly score: number
  readonly tier: TierNumber
  /** Share of the evidence that comes from voices nobody stands for. */
  readonly pooledShare: number
}

/** Why a published score changed. */
export type Cause = 'evaluated' | 'time-passed' | 'approved' | 'rejected'

export interface Decision {
  readonly state: ScoreState
  readonly cause: Cause
}

export function decide(before: ScoreState, computed: Computed, now: number): Decision {
  const shift = TERM_WEIGHTS.tier * (tierTerm(computed.tier) - tierTerm(before.tier))
  const published = roundScore(before.published + shift)
  const stale = now - before.anchorAt >= RAPID_WINDOW_MS
  const anchor = stale ? published : roundScore(before.anchor + shift)
  const anchorAt = stale ? now : before.anchorAt
  const { score, tier } = computed
  // A held change keeps its anchor: a window that moves on must not let it through in silence.
  const from = before.hold === undefined ? anchor : roundScore(before.anchor + shift)
  const change = score - from
  if (Math.abs(change) <= RAPID_CHANGE + Number.EPSILON) {
    const kept =
      before.hold === undefined ? { anchor, anchorAt } : { anchor: from, anchorAt: before.anchorAt }
    return { state: { published: score, tier, ...kept, hold: undefined }, cause: 'evaluated' }
  }
  const rises = change > 0
  const held = before.hold
  const same = held !== undefined && rises === held.reasons.includes('rapid-rise')
  if (same && now >= held.until) return release(score, tier, now, 'time-passed')
  const hold: Hold = {
    proposed: score,
    reasons: [
      rises ? 'rapid-rise' : 'rapid-fall',
      ...(computed.pooledShare > 0.5 ? (['mostly-unsupported'] as const) : []),
    ],
    since: same ? held.since : now,
    until: same ? held.until : now + (rises ? HOLD_RISE_MS : HOLD_FALL_MS),
  }
  const kept = held === undefined ? { anchor, anchorAt } : { anchor: from, anchorAt: before.anchorAt }
  return { state: { published, tier, ...kept, hold }, cause: 'evaluated' }
}

/** The state after a computed score is published whatever its distance. */
export function release(score: number, tier: TierNumber, now: number, cause: Cause): Decision {
  return { state: { published: score, tier, anchor: score, anchorAt: now, hold: undefined }, cause }
}

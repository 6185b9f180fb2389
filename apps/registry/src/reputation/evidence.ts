/**
 * From what voices said to terms: decay, independence, and the two estimates. Pure.
 *
 * Evidence is summed with forward decay (Cormode et al., 2009): what is said at time t is added with the gain 2^(t / half
 * life), and a sum read at `now` is divided by the gain of `now`. So a sum is only ever added to, in one UPDATE, whatever
 * instance of the registry does it.
 */
import type { ReputationTerms, TierNumber } from '@agentmesh/sdk/wire'
import { HALF_LIFE_MS } from './constants.ts'
import { ageTerm, estimate, tierTerm, type Estimate } from './score.ts'

/** Where gains are 1: any time near the present does. */
const LANDMARK = Date.UTC(2026, 0, 1)

/** @param at milliseconds since the epoch */
export function gain(at: number): number {
  return 2 ** ((at - LANDMARK) / HALF_LIFE_MS)
}

/** All that one voice said of an agent; sums as stored. */
export interface VoiceEvidence {
  readonly voice: string
  readonly tier: TierNumber
  /** Sessions that ended `completed`, `error` or `timeout`, and those that ended `completed`. */
  readonly finished: number
  readonly completed: number
  readonly ratings: number
  readonly ratingSum: number
  /** Milliseconds since the epoch. */
  readonly updatedAt: number
  /** Named voices that rated this one and neither rated the agent nor were rated by it; empty for an anonymous voice. */
  readonly supporters: readonly Supporter[]
}

export interface Supporter {
  readonly ratings: number
  readonly ratingSum: number
  /** How many others it has rated: its support is divided among them. */
  readonly rated: number
  readonly updatedAt: number
}

/**
 * How much a voice's standing comes from outside the agent's neighbourhood, 0 to 1. Each supporter has one unit to give,
 * divided by how many it rated, times what it thinks of this one, decayed. A clique has nobody outside: 0 for all its members.
 */
export function independence(supporters: readonly Supporter[], now: number): number {
  let support = 0
  for (const { ratings, ratingSum, rated, updatedAt } of supporters) {
    if (ratings <= 0 || rated < 1) continue
    support += (ratingSum / ratings) * (gain(Math.min(updatedAt, now)) / gain(now)) * (1 / rated)
  }
  return Math.min(1, support)
}

export interface Assessment {
  readonly terms: ReputationTerms
  readonly feedback: Estimate
  readonly completion: Estimate
}

export interface Subject {
  readonly tier: TierNumber
  /** Milliseconds since the epoch. */
  readonly registeredAt: number
}

export function assess(subject: Subject, voices: readonly VoiceEvidence[], now: number): Assessment {
  const scale = gain(now)
  const weighed = voices.map((voice) => ({ ...voice, independence: independence(voice.supporters, now) }))
  const opinionsOf = (count: 'ratings' | 'finished', sum: 'ratingSum' | 'completed') =>
    weighed
      .filter((voice) => voice[count] > 0)
      .map((voice) => ({
        tier: voice.tier,
        count: voice[count] / scale,
        mean: Math.min(1, Math.max(0, voice[sum] / voice[count])),
        independence: voice.independence,
        at: voice.updatedAt,
      }))
  const feedback = estimate(opinionsOf('ratings', 'ratingSum'))
  const completion = estimate(opinionsOf('finished', 'completed'))
  const terms = {
    completion: completion.mean,
    feedback: feedback.mean,
    age: ageTerm(now - subject.registeredAt, feedback.weight),
    tier: tierTerm(subject.tier),
  }
  return { terms, feedback, completion }
}

/**
 * The score of an agent (specification §8.3, `spec/reputation.md`): 0.3 completion + 0.4 feedback + 0.1 age + 0.2 tier. Pure;
 * every term is in 0..1.
 *
 *     weight of a voice = VOICE_WEIGHT[tier] * n / (n + 1)          n: what it said, halved every 60 days
 *       anonymous                                -> the anonymous pool, scaled down to ANONYMOUS_CAP
 *       (1 - independence) of a named voice      -> the unsupported pool, scaled down to UNSUPPORTED_CAP
 *       independence of a named voice            -> counted newest first up to SUPPORTED_CAP
 *     completion, feedback = (PRIOR_WEIGHT * PRIOR_MEAN + sum weight * mean) / (PRIOR_WEIGHT + sum weight)
 *
 * A voice is a person with all his agents, an organisation with its fleet, or an anonymous agent.
 */
import { tierName, type ReputationTerms, type TierNumber } from '@agentmesh/sdk/wire'
import {
  AGE_HALF_MS,
  ANONYMOUS_CAP,
  PRIOR_MEAN,
  PRIOR_WEIGHT,
  SUPPORTED_CAP,
  TERM_WEIGHTS,
  TIER_TERM,
  UNSUPPORTED_CAP,
  VOICE_WEIGHT,
} from './constants.ts'

/** One voice's part in a term. */
export interface Opinion {
  readonly tier: TierNumber
  /** How many sessions it speaks of, decayed. */
  readonly count: number
  /** 0 to 1. */
  readonly mean: number
  /** 0 to 1: see `independence`. */
  readonly independence: number
  /** Milliseconds since the epoch. */
  readonly at: number
}

export interface Estimate {
  /** 0 to 1, the prior included. */
  readonly mean: number
  /** Of the evidence, without the prior. */
  readonly weight: number
  /** How much of that weight is of voices nobody stands for. */
  readonly pooled: number
}

export function estimate(opinions: readonly Opinion[]): Estimate {
  const anonymous = new Sum()
  const unsupported = new Sum()
  const supported = new Sum()
  for (const opinion of opinions.toSorted((a, b) => b.at - a.at)) {
    const name = tierName(opinion.tier)
    const weight = (VOICE_WEIGHT[name] * opinion.count) / (opinion.count + 1)
    if (name === 'anonymous') {
      anonymous.add(weight, opinion.mean)
      continue
    }
    unsupported.add(weight * (1 - opinion.independence), opinion.mean)
    const room = SUPPORTED_CAP - supported.weight
    supported.add(Math.min(weight * opinion.independence, room), opinion.mean)
  }
  const parts = [anonymous.capped(ANONYMOUS_CAP), unsupported.capped(UNSUPPORTED_CAP), supported]
  const weight = parts.reduce((sum, part) => sum + part.weight, 0)
  const total = parts.reduce((sum, part) => sum + part.total, 0)
  return {
    mean: unit((PRIOR_WEIGHT * PRIOR_MEAN + total) / (PRIOR_WEIGHT + weight)),
    weight,
    pooled: weight - supported.weight,
  }
}

class Sum {
  weight = 0
  total = 0

  add(weight: number, mean: number): void {
    this.weight += weight
    this.total += weight * mean
  }

  capped(cap: number): Sum {
    const sum = new Sum()
    const scale = this.weight > cap ? cap / this.weight : 1
    sum.weight = this.weight * scale
    sum.total = this.total * scale
    return sum
  }
}

/** How much an agent's age says: nothing without evidence of what it did with it. */
export function ageTerm(ageMs: number, evidenceWeight: number): number {
  const age = Math.max(0, ageMs)
  return unit((age / (age + AGE_HALF_MS)) * (evidenceWeight / (evidenceWeight + PRIOR_WEIGHT)))
}

export function tierTerm(tier: TierNumber): number {
  return TIER_TERM[tierName(tier)]
}

/** The sum of the terms, to three decimals. */
export function scoreOf(terms: ReputationTerms): number {
  const sum = Object.entries(TERM_WEIGHTS).reduce(
    (total, [name, weight]) => total + weight * terms[name as keyof ReputationTerms],
    0,
  )
  return roundScore(sum)
}

export function roundScore(score: number): number {
  return unit(Math.round(score * 1000) / 1000)
}

export function startingTerms(tier: TierNumber): ReputationTerms {
  return { completion: PRIOR_MEAN, feedback: PRIOR_MEAN, age: 0, tier: tierTerm(tier) }
}

/** What a new agent of the tier starts with: 0.5, 0.6 or 0.7. */
export function startingScore(tier: TierNumber): number {
  return scoreOf(startingTerms(tier))
}

function unit(value: number): number {
  return Math.min(1, Math.max(0, value))
}

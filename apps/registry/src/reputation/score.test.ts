import { describe, expect, it } from 'vitest'
import fc from 'fast-check'
import type { TierNumber } from '@agentmesh/sdk/wire'
import { HUMAN_BOUND, ORGANIZATION_BOUND, SWARM_BOUND } from './bounds.ts'
import {
  ANONYMOUS_CAP,
  HALF_LIFE_MS,
  PRIOR_MEAN,
  PRIOR_WEIGHT,
  SUPPORTED_CAP,
  UNSUPPORTED_CAP,
  VOICE_WEIGHT,
} from './constants.ts'
import { assess, gain, independence, type Supporter, type VoiceEvidence } from './evidence.ts'
import { ageTerm, estimate, scoreOf, startingScore, startingTerms, tierTerm, type Opinion } from './score.ts'

const NOW = Date.UTC(2026, 5, 1)
const DAY = 86_400_000
const opinion = (fields: Partial<Opinion> = {}): Opinion => ({
  tier: 1,
  count: 1e9,
  mean: 1,
  independence: 1,
  at: NOW,
  ...fields,
})
const many = (count: number, fields: Partial<Opinion> = {}) =>
  Array.from({ length: count }, () => opinion(fields))

describe('starting values', () => {
  it.each([
    [2, 0.5],
    [1, 0.6],
    [1.5, 0.7],
  ] as const)('of tier %s are exactly %s', (tier, score) => {
    expect(startingScore(tier)).toBe(score)
    const assessment = assess({ tier, registeredAt: NOW }, [], NOW)
    expect(scoreOf(assessment.terms)).toBe(score)
    expect(assessment.terms).toEqual(startingTerms(tier))
  })

  it('do not grow with age alone', () => {
    const { terms } = assess({ tier: 2, registeredAt: NOW - 1000 * DAY }, [], NOW)
    expect(scoreOf(terms)).toBe(0.5)
  })
})

describe('completion and feedback', () => {
  it('begin at the prior and move towards what is said', () => {
    expect(estimate([])).toEqual({ mean: PRIOR_MEAN, weight: 0, pooled: 0 })
    const one = estimate([opinion({ tier: 1.5 })])
    expect(one.mean).toBeCloseTo((PRIOR_WEIGHT * PRIOR_MEAN + 1) / (PRIOR_WEIGHT + 1), 6)
    expect(estimate([opinion({ mean: 0 })]).mean).toBeLessThan(PRIOR_MEAN)
  })

  it('count a voice that spoke once half of one that spoke without end', () => {
    expect(estimate([opinion({ count: 1 })]).weight).toBeCloseTo(VOICE_WEIGHT.verified / 2, 6)
  })

  it('weigh anonymous voices least, and all of them together no more than their cap', () => {
    expect(estimate([opinion({ tier: 2 })]).weight).toBeCloseTo(VOICE_WEIGHT.anonymous, 6)
    expect(estimate(many(10_000, { tier: 2 })).weight).toBeCloseTo(ANONYMOUS_CAP, 6)
    // Nobody stands for an anonymous voice.
    expect(estimate(many(5, { tier: 2 })).pooled).toBeCloseTo(estimate(many(5, { tier: 2 })).weight, 9)
  })

  it('cap voices without support together, and count supported ones newest first', () => {
    expect(estimate(many(500, { independence: 0 })).weight).toBeCloseTo(UNSUPPORTED_CAP, 6)
    const old = many(100, { mean: 1, at: NOW - DAY })
    const recent = many(25, { mean: 0, at: NOW })
    const mixed = estimate([...old, ...recent])
    expect(mixed.weight).toBeCloseTo(SUPPORTED_CAP, 6)
    expect(mixed.mean).toBeCloseTo((PRIOR_WEIGHT * PRIOR_MEAN) / (PRIOR_WEIGHT + SUPPORTED_CAP), 6)
  })

  it('stay in 0..1 for whatever is said', () => {
    const opinions = fc.array(
      fc.record({
        tier: fc.constantFrom<TierNumber>(1, 1.5, 2),
        count: fc.double({ min: 0, max: 1e6, noNaN: true }),
        mean: fc.double({ min: 0, max: 1, noNaN: true }),
        independence: fc.double({ min: 0, max: 1, noNaN: true }),
        at: fc.integer({ min: 0, max: NOW }),
      }),
      { maxLength: 60 },
    )
    fc.assert(
      fc.property(opinions, (list) => {
        const { mean, weight, pooled } = estimate(list)
        expect(mean).toBeGreaterThanOrEqual(0)
        expect(mean).toBeLessThanOrEqual(1)
        expect(weight).toBeLessThanOrEqual(ANONYMOUS_CAP + UNSUPPORTED_CAP + SUPPORTED_CAP + 1e-9)
        expect(pooled).toBeLessThanOrEqual(ANONYMOUS_CAP + UNSUPPORTED_CAP + 1e-9)
      }),
    )
  })

  it('never move further than the bound, whatever was there before', () => {
    const before = fc.array(
      fc.record({
        tier: fc.constantFrom<TierNumber>(1, 1.5, 2),
        count: fc.double({ min: 0, max: 50, noNaN: true }),
        mean: fc.double({ min: 0, max: 1, noNaN: true }),
        independence: fc.double({ min: 0, max: 1, noNaN: true }),
        at: fc.constant(NOW - DAY),
      }),
      { maxLength: 40 },
    )
    const terms = (list: readonly Opinion[]) => {
      const { mean, weight } = estimate(list)
      return scoreOf({ completion: mean, feedback: mean, age: ageTerm(1000 * DAY, weight), tier: 0 })
    }
    fc.assert(
      fc.property(before, fc.constantFrom(0, 1), fc.integer({ min: 1, max: 300 }), (list, mean, n) => {
        const moved = (added: readonly Opinion[]) => Math.abs(terms([...list, ...added]) - terms(list))
        expect(moved(many(n, { tier: 2, mean }))).toBeLessThanOrEqual(SWARM_BOUND + 0.0005)
        expect(moved([opinion({ mean })])).toBeLessThanOrEqual(HUMAN_BOUND + 0.0005)
        expect(moved([opinion({ mean, tier: 1.5 })])).toBeLessThanOrEqual(ORGANIZATION_BOUND + 0.0005)
      }),
    )
  })
})

describe('age', () => {
  it('says nothing without evidence, and half after 180 days with all of it', () => {
    expect(ageTerm(1000 * DAY, 0)).toBe(0)
    expect(ageTerm(180 * DAY, 1e12)).toBeCloseTo(0.5, 6)
    expect(ageTerm(-DAY, 5)).toBe(0)
    expect(ageTerm(360 * DAY, 5)).toBeGreaterThan(ageTerm(30 * DAY, 5))
  })
})

describe('tier', () => {
  it('orders by trust, not by the numbers', () => {
    expect([2, 1, 1.5].map((tier) => tierTerm(tier as TierNumber))).toEqual([0, 0.5, 1])
  })
})

describe('decay and independence', () => {
  const supporter = (fields: Partial<Supporter> = {}): Supporter => ({
    ratings: 1,
    ratingSum: 1,
    rated: 1,
    updatedAt: NOW,
    ...fields,
  })

  it('halves after a half-life', () => {
    expect(gain(NOW) / gain(NOW - HALF_LIFE_MS)).toBeCloseTo(2, 9)
    const said = { finished: 0, completed: 0, ratings: gain(NOW), ratingSum: gain(NOW) }
    const voice: VoiceEvidence = { voice: 'a', tier: 1, ...said, updatedAt: NOW, supporters: [supporter()] }
    const subject = { tier: 2 as const, registeredAt: NOW }
    const fresh = assess(subject, [voice], NOW).feedback
    const aged = assess(subject, [voice], NOW + HALF_LIFE_MS).feedback
    expect(fresh.weight).toBeCloseTo(VOICE_WEIGHT.verified / 2, 6)
    // Said half as much, and supported half as much: the rest is in the pool.
    expect(aged.weight).toBeCloseTo(VOICE_WEIGHT.verified / 3, 6)
    expect(aged.pooled).toBeCloseTo(aged.weight / 2, 6)
  })

  it('divides what a supporter gives among all it rated, and takes nothing from bad opinions', () => {
    expect(independence([], NOW)).toBe(0)
    expect(independence([supporter()], NOW)).toBe(1)
    expect(independence([supporter({ rated: 4 })], NOW)).toBe(0.25)
    expect(independence([supporter({ ratingSum: 0 })], NOW)).toBe(0)
    expect(independence([supporter({ rated: 0 })], NOW)).toBe(0)
    expect(
      independence(
        Array.from({ length: 9 }, () => supporter()),
        NOW,
      ),
    ).toBe(1)
    expect(independence([supporter({ updatedAt: NOW - HALF_LIFE_MS })], NOW)).toBeCloseTo(0.5, 9)
  })
})

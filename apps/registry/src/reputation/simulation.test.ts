import { describe, expect, it } from 'vitest'
import { startingScore } from './score.ts'
import {
  cliqueRaisesItself,
  cliqueSlanders,
  coalition,
  honestScores,
  oneVoice,
  slowBuilder,
  swarm,
  whitewash,
  type Outcome,
} from './simulation.ts'

function expectWithin({ attack, most, bound }: Outcome): void {
  expect(most, attack).toBeLessThanOrEqual(bound)
}

describe('attacks on reputation move a score no further than the specification states', () => {
  it('honest people rise above where they began', async () => {
    const { lowest } = await honestScores()
    expect(lowest).toBeGreaterThan(startingScore(1))
  })

  it.each([2, 5, 25])('a clique of %s', async (n) => {
    const outcome = await cliqueRaisesItself(n)
    expectWithin(outcome)
    expect(outcome.most).toBeGreaterThan(0)
  })

  it('a clique that slanders', async () => {
    const outcome = await cliqueSlanders(30)
    expectWithin(outcome)
    expect(outcome.most).toBeGreaterThan(0)
  })

  it('a swarm of anonymous agents, in praise and in slander', async () => {
    const outcomes = [await swarm(100, 1), await swarm(100, 0)]
    for (const outcome of outcomes) {
      expectWithin(outcome)
      expect(outcome.most).toBeGreaterThan(0)
    }
  })

  it('a larger swarm or clique gains nothing by its size', async () => {
    expect((await swarm(200, 1)).most).toBeCloseTo((await swarm(100, 1)).most, 2)
    expect((await cliqueRaisesItself(25)).most).toBeCloseTo((await cliqueRaisesItself(12)).most, 9)
  })

  it('all agents of one person, and a fleet', async () => {
    const outcomes = [await oneVoice(10, 'human'), await oneVoice(10, 'organization')]
    for (const outcome of outcomes) expectWithin(outcome)
    expect((await oneVoice(1, 'human')).most).toBeCloseTo(outcomes[0]!.most, 1)
  })

  it('a coalition with people behind it', async () => {
    const outcome = await coalition(10, 10)
    expectWithin(outcome)
    // People who vouch are worth something: that is what the bound charges for.
    expect(outcome.most).toBeGreaterThan((await coalition(10, 0)).most)
  })

  it('a slow builder who then cheats', async () => {
    const outcomes = await slowBuilder()
    for (const outcome of outcomes) expectWithin(outcome)
    expect(outcomes).toHaveLength(2)
  })

  it('whoever registers again', async () => {
    const outcomes = await whitewash()
    for (const outcome of outcomes) expectWithin(outcome)
    expect(outcomes[1]?.most).toBeGreaterThan(0)
  })
})

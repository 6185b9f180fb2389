/** A few thousand inputs for every reader of outside bytes; `npm run fuzz` has the million. */
import { describe, expect, it } from 'vitest'
import { runTarget } from './run.ts'
import { TARGETS } from './targets/index.ts'
import { watch } from './watchdog.ts'

/** Fixed: a change that breaks nothing must not fail because of another seed. */
const SEED = 20260201
const INPUTS = 2_500

describe.each(Object.keys(TARGETS))('the reader behind %s', (name) => {
  it(
    'answers hostile inputs with its documented codes, and what it takes is stable',
    { timeout: 240_000 },
    async () => {
      const target = await TARGETS[name]!()
      try {
        expect(target.name).toBe(name)
        // The first inputs are the seeds as they are: a target that refuses its own fuzzes nothing.
        const seeds = await runTarget(target, { seed: SEED, inputs: target.seeds.length })
        expect(seeds.findings).toEqual([])
        expect(seeds.accepted).toBe(target.takesNothing ? 0 : target.seeds.length)

        const dog = await watch(name)
        const report = await runTarget(target, { seed: SEED, inputs: INPUTS, onInput: dog.onInput })
        await dog.leave()
        const findings = report.findings.map(({ index, rule, detail }) => ({ index, rule, detail }))
        expect(findings).toEqual([])
        // Neither all taken nor all refused: the inputs are near the edge.
        if (target.takesNothing) expect(report.accepted).toBe(0)
        else expect(report.accepted).toBeGreaterThan(target.seeds.length)
        expect(Object.keys(report.refused).length > 0).toBe(target.refusals.length > 0)
      } finally {
        await target.close?.()
      }
    },
  )
})

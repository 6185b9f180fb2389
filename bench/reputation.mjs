/**
 * The most that attacks move a reputation score among honest agents, against the bounds of spec/reputation.md.
 * Run after a build: node bench/reputation.mjs
 *
 * A simulation, not a measurement of time: the same numbers come out every time. Ends with 1 when a bound is exceeded.
 */
import * as simulation from '../apps/registry/dist/reputation/simulation.js'

const { lowest, highest } = await simulation.honestScores()
console.log(
  `honest people after 40 days: ${lowest.toFixed(3)} to ${highest.toFixed(3)} (a new one has 0.600)\n`,
)

const runs = [
  ...[2, 5, 30, 100].map((n) => () => simulation.cliqueRaisesItself(n)),
  () => simulation.cliqueSlanders(30),
  () => simulation.cliqueSlanders(100),
  ...[10, 100, 1_000].map((n) => () => simulation.swarm(n, 1)),
  ...[10, 100, 1_000].map((n) => () => simulation.swarm(n, 0)),
  () => simulation.oneVoice(10, 'human'),
  () => simulation.oneVoice(10, 'organization'),
  ...[0, 1, 5, 20].map((m) => () => simulation.coalition(20, m)),
  simulation.slowBuilder,
  simulation.whitewash,
]
console.log(`${'most'.padStart(8)} ${'bound'.padStart(8)}  unit     attack`)
let exceeded = false
for (const run of runs) {
  for (const { attack, most, bound, unit } of [await run()].flat()) {
    const digits = unit === 'score' ? 3 : 0
    const mark = most > bound ? '  EXCEEDED' : ''
    exceeded ||= most > bound
    console.log(
      `${most.toFixed(digits).padStart(8)} ${bound.toFixed(digits).padStart(8)}  ${unit.padEnd(8)} ${attack}${mark}`,
    )
  }
}
process.exitCode = exceeded ? 1 : 0

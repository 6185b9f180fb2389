/**
 * Checks the import rules of .dependency-cruiser.cjs. A cruiser that cannot read TypeScript reports success over nothing,
 * so this also fails when a source file was not cruised, when fewer files than the floor were, and when no import
 * between two of our files was seen.
 *
 * Usage, in the root of the repository: node tools/check-boundaries.mjs <floor>
 */
import { existsSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { allExtensions, cruise } from 'dependency-cruiser'
import extractConfig from 'dependency-cruiser/config-utl/extract-depcruise-config'
import { sourceAliases } from './workspaces.mjs'

const floor = Number(process.argv[2])
if (!Number.isInteger(floor) || floor < 1) throw new Error('usage: check-boundaries.mjs <floor>')

const folders = ['packages', 'apps', 'tests', 'bench', 'examples', 'tools'].filter((name) => existsSync(name))

/** Every source file below a folder, with forward slashes. */
function sources(folder) {
  return readdirSync(folder, { withFileTypes: true }).flatMap((entry) => {
    if (entry.name === 'node_modules' || entry.name === 'dist') return []
    const path = join(folder, entry.name).replaceAll('\\', '/')
    if (entry.isDirectory()) return sources(path)
    return /\.(ts|tsx|mjs)$/.test(entry.name) && !entry.name.endsWith('.d.ts') ? [path] : []
  })
}

const expected = folders.flatMap(sources)
const { options, ...ruleSet } = await extractConfig('./.dependency-cruiser.cjs')
const { output } = await cruise(expected, { ...options, ruleSet, validate: true }, { alias: sourceAliases() })

const problems = output.summary.violations.map(({ rule, from, to, cycle, via }) => {
  const path = (cycle ?? via)?.map((step) => step.name).join(' -> ')
  return `${rule.name}: ${from}${path ? ` -> ${path}` : to === from ? '' : ` -> ${to}`}`
})

const seen = new Map(output.modules.map((module) => [module.source, module]))
const missed = expected.filter((path) => !seen.has(path))
const cruised = expected.length - missed.length
const imports = expected.reduce((sum, path) => sum + (seen.get(path)?.dependencies.length ?? 0), 0)
for (const path of missed) problems.push(`not-cruised: ${path}`)
if (cruised < floor)
  problems.push(`too-few-modules: ${cruised} source files were cruised, the floor is ${floor}`)
if (!allExtensions.some(({ extension, available }) => extension === '.ts' && available)) {
  problems.push('no-typescript: the cruiser found no TypeScript it can use')
}
if (imports === 0) problems.push('no-imports-seen: the cruiser read no import at all')

for (const problem of problems) console.error(problem)
const because = new Set(output.summary.violations.map(({ rule }) => rule.name))
for (const { name, comment } of ruleSet.forbidden)
  if (because.has(name)) console.error(`\n${name}: ${comment}`)
console.log(`boundaries: ${cruised} source files, ${imports} imports, ${problems.length} problems`)
process.exitCode = problems.length === 0 ? 0 : 1

/**
 * Runs every generator, tools/generate-*.mjs, and fails when a generated file comes out other than it lies in the tree:
 * changed, missing or extra. The new text is left in place to be looked at and committed. Needs a build.
 *
 * Usage, in the root of the repository: node tools/check-generated.mjs
 */
import { spawnSync } from 'node:child_process'
import { existsSync, readFileSync, readdirSync } from 'node:fs'
import { join } from 'node:path'

/** Where generators write. What they do not touch compares equal. */
const TARGETS = ['spec', 'test-vectors', 'docs']

/** Path to content of every file below the targets. */
function snapshot() {
  const files = new Map()
  const visit = (folder) => {
    for (const entry of readdirSync(folder, { withFileTypes: true })) {
      const path = join(folder, entry.name)
      if (entry.isDirectory()) visit(path)
      else files.set(path, readFileSync(path, 'utf8'))
    }
  }
  for (const target of TARGETS) if (existsSync(target)) visit(target)
  return files
}

const generators = readdirSync('tools').filter((name) => /^generate-.*\.mjs$/.test(name))
const problems = []
if (generators.length === 0) problems.push('no-generator: tools/ holds no generate-*.mjs')

const before = snapshot()
for (const name of generators) {
  const run = spawnSync(process.execPath, [join('tools', name)], { stdio: 'inherit' })
  if (run.status !== 0) problems.push(`generator-failed: ${name}`)
}
const after = snapshot()

for (const [path, content] of after) {
  if (!before.has(path)) problems.push(`not-committed: ${path} is generated but was not there`)
  else if (before.get(path) !== content) problems.push(`out-of-date: ${path} comes out differently`)
}
for (const path of before.keys()) {
  if (!after.has(path)) problems.push(`no-longer-generated: ${path} was removed by its generator`)
}

for (const problem of problems) console.error(problem)
console.log(`generated: ${generators.length} generators, ${after.size} files, ${problems.length} problems`)
process.exitCode = problems.length === 0 ? 0 : 1

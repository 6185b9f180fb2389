/**
 * Runs every program of bench/ after the other, each in a process of its own, so that none warms or fills the heap of the
 * next. Names given as arguments choose among them. Needs a build.
 *
 * Usage, in the root of the repository: node tools/run-benches.mjs [name...]
 */
import { spawnSync } from 'node:child_process'
import { readdirSync } from 'node:fs'
import { join } from 'node:path'

const wanted = process.argv.slice(2)
const benches = readdirSync('bench').filter(
  (name) => name.endsWith('.mjs') && (wanted.length === 0 || wanted.includes(name.slice(0, -'.mjs'.length))),
)
if (benches.length === 0) throw new Error('no such bench')

for (const name of benches) {
  console.log(`\n== ${name}`)
  const run = spawnSync(process.execPath, [join('bench', name)], { stdio: 'inherit' })
  if (run.status !== 0) process.exitCode = 1
}

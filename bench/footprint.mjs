/**
 * What AgentMesh weighs when it does nothing: the time of `agentmesh --help`, beside a Node program that is empty, and the
 * resident memory of a daemon, a relay and a registry that have been idle for ten seconds, beside an idle Node.
 * Run after a build, on Linux: node bench/footprint.mjs
 *
 * The aims are limits: the program fails when one is missed.
 */
import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { setTimeout as delay } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { machine, median } from './lib/measure.mjs'
import { Mesh } from './lib/mesh.mjs'

const RUNS = 15
const IDLE_MS = 10_000
const agentmesh = fileURLToPath(new URL('../apps/cli/bin/agentmesh.js', import.meta.url))

/** Milliseconds of a Node program from its start to its end, the median of runs. @param {readonly string[]} args */
function runTime(args) {
  const times = Array.from({ length: RUNS }, () => {
    const before = performance.now()
    const { status, stderr } = spawnSync(process.execPath, args, { stdio: ['ignore', 'ignore', 'pipe'] })
    if (status !== 0) throw new Error(`${args.join(' ')}: ${stderr.toString()}`)
    return performance.now() - before
  })
  return median(times)
}

/** Resident megabytes of a process (10^6 bytes). @param {number} pid */
function resident(pid) {
  const [, kilobytes] = /^VmRSS:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8')) ?? []
  return (Number(kilobytes) * 1024) / 1_000_000
}

/** @param {string} name @param {string} unit @param {number} value @param {number} [limit] */
function print(name, unit, value, limit) {
  const missed = limit !== undefined && value >= limit
  if (missed) process.exitCode = 1
  const aim =
    limit === undefined
      ? ''
      : `   aim below${limit.toString().padStart(5)} ${unit}${missed ? '   MISSED' : ''}`
  console.log(`${name.padEnd(52)}${value.toFixed(0).padStart(6)} ${unit}${aim}`)
}

console.log(`${machine()}\n`)
print('an empty Node program', 'ms', runTime(['-e', '']))
print('agentmesh --help', 'ms', runTime([agentmesh, '--help']), 250)

const mesh = new Mesh()
/** @param {...string} args */
const serve = async (...args) => mesh.runProgram([agentmesh, ...args, '--json'])
try {
  const [relay, registry] = await Promise.all([
    serve('relay', '--port', '0', '--data', mesh.home('relay.db')),
    serve('registry', '--port', '0', '--data', mesh.home('registry.db')),
  ])
  const home = ['--home', mesh.home('agent')]
  const servers = ['--registry', registry.word.url, '--relay', relay.word.url]
  const init = spawnSync(process.execPath, [agentmesh, 'init', ...home, ...servers, '--json'])
  if (init.status !== 0) throw new Error(init.stderr.toString())
  const daemon = await serve('up', '--foreground', ...home)
  const node = await mesh.runProgram(['-e', `console.log('{}'); setInterval(() => {}, 1e9)`])
  await delay(IDLE_MS)
  print('an idle Node process', 'MB', resident(node.pid))
  print('daemon, idle', 'MB', resident(daemon.pid), 100)
  print('relay, idle, one agent connected', 'MB', resident(relay.pid), 80)
  print('registry, idle, one agent registered', 'MB', resident(registry.pid))
} finally {
  await mesh.close()
}

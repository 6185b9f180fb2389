/**
 * What the model of docs/scaling.md is made of beside the figures of the other benches: what an agent costs where nothing is
 * said to it or by it. An entry of the presence directory that each relay of a service keeps of all others' agents, a change
 * of it, an agent in the registry's file with all its prekeys, and the sign of life by which it stays online there.
 * Run after a build: node bench/service.mjs [--agents 200]
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { parseArgs } from 'node:util'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { DatabaseSync } from '@photostructure/sqlite'
import { REGISTRY_DEFINITION } from '../apps/registry/dist/index.js'
import { TestAgent } from '../apps/registry/dist/test-support.js'
import {
  decodeClusterMessage,
  encodeClusterMessage,
  newInstanceId,
} from '../apps/relay/dist/cluster/cluster-wire.js'
import { PresenceDirectory } from '../apps/relay/dist/cluster/presence-directory.js'
import { AmidMemo } from '../apps/relay/dist/in-place/amid-memo.js'
import { systemRandom } from '../packages/sdk/dist/crypto/signing.js'
import { settingsOf } from '../packages/sdk/dist/hosting/index.js'
import { AMID_BYTES, amidFromBytes } from '../packages/sdk/dist/wire/index.js'
import { machine } from './lib/measure.mjs'

const { values } = parseArgs({ options: { agents: { type: 'string', default: '200' } } })
const AGENTS = Number(values.agents)
const PREKEYS = 100
const ENTRIES = 400_000
const now = Date.now()

setFlagsFromString('--expose-gc')
const collect = /** @type {() => void} */ (runInNewContext('gc'))
const heap = () => {
  collect()
  return process.memoryUsage().heapUsed
}

/** @param {string} name @param {string} value */
const row = (name, value) => console.log(`${name.padEnd(66)}${value.padStart(12)}`)

function presence() {
  const amids = new AmidMemo()
  const from = newInstanceId(systemRandom)
  /** @param {number} count of changes a message */
  const messages = (count) =>
    Array.from({ length: ENTRIES / count }, (_, index) => {
      const changes = Array.from({ length: count }, () => ({
        amid: amidFromBytes(systemRandom(AMID_BYTES)),
        presence: /** @type {const} */ ('online'),
        since: now,
      }))
      return encodeClusterMessage({ kind: 'presence', from, sequence: index + 1, changes }, amids)
    })
  const taken = messages(100)
  const directory = new PresenceDirectory()
  const before = heap()
  const begun = process.cpuUsage()
  for (const bytes of taken) {
    const message = decodeClusterMessage(bytes, amids)
    if (message.kind === 'presence') directory.change(from, message.sequence, message.changes, now)
  }
  const { user, system } = process.cpuUsage(begun)
  row('presence directory, bytes an entry', ((heap() - before) / ENTRIES).toFixed(0))
  row('a change of presence at each other relay, us', ((user + system) / ENTRIES).toFixed(2))
  return directory
}

/** Every rate of the registry as good as lifted. */
function withoutRates() {
  const rates = settingsOf(REGISTRY_DEFINITION).filter(({ key }) =>
    /^limit\..*\.(per_second|burst)$/.test(key),
  )
  return Object.fromEntries(rates.map(({ variable }) => [variable, '1000000']))
}

/** Processor time of a process, in microseconds. @param {number} pid */
function cpuOf(pid) {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]?.split(' ') ?? []
  return (Number(fields[11]) + Number(fields[12])) * 10_000
}

async function registry() {
  const folder = mkdtempSync(join(tmpdir(), 'agentmesh-bench-service-'))
  const data = join(folder, 'registry.db')
  const main = new URL('../apps/registry/dist/main.js', import.meta.url).pathname
  const child = spawn(process.execPath, [main, '--port', '0', '--data', data, '--log-level', 'error'], {
    env: { ...process.env, ...withoutRates() },
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  try {
    const [line] = await once(createInterface({ input: child.stdout }), 'line')
    const { url } = JSON.parse(String(line))
    const agents = Array.from(
      { length: AGENTS },
      (_, index) => new TestAgent(`service ${index}`, url, Date.now),
    )
    /** @param {{ status: number }} reply */
    const check = ({ status }) => {
      if (status >= 300) throw new Error(`the registry answers ${status}`)
    }
    for (const agent of agents) {
      check(await agent.register())
      check(await agent.putPrekeys(agent.upload(1, PREKEYS)))
    }
    const before = cpuOf(child.pid ?? 0)
    const rounds = 5
    for (let round = 0; round < rounds; round++) {
      await Promise.all(
        agents.map(async (agent) =>
          check(
            await agent.send({ method: 'PUT', path: '/v1/registry/presence', body: { state: 'online' } }),
          ),
        ),
      )
    }
    const spent = cpuOf(child.pid ?? 0) - before
    child.kill('SIGTERM')
    await once(child, 'exit')
    const database = new DatabaseSync(data)
    database.exec('DELETE FROM nonces; VACUUM')
    database.close()
    row('agent in the registry with its prekeys, bytes on disk', (statSync(data).size / AGENTS).toFixed(0))
    row('sign of life at the registry, ms of processor time', (spent / 1000 / AGENTS / rounds).toFixed(2))
  } finally {
    child.kill('SIGKILL')
    rmSync(folder, { recursive: true, force: true })
  }
}

console.log(machine())
presence()
await registry()

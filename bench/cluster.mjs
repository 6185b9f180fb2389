/**
 * Two relays as one service, over a real nats-server and a real PostgreSQL: what a message costs that is forwarded from one relay
 * to the other, beside one whose two agents are at the same relay, and mailboxes in the shared database. The relays run as
 * shipped (only rate limits are lifted) and, with nats-server, on the first core; the load comes from the second, and PostgreSQL
 * takes what is left of both. Processor time is that of both relays together, and of nats-server, from /proc.
 *
 * Each store is committed to the disk before it counts. The receivers that drain come back to the relay where they were; every
 * other message was stored through the other one.
 *
 * Run after a build, on a machine that does nothing else: node bench/cluster.mjs [--quick] [--rounds 5]. It takes two minutes and
 * prints Markdown.
 */
import { mkdtempSync, rmSync } from 'node:fs'
import { loadavg, tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { TestPostgres } from '../apps/relay/dist/test-support-postgres.js'
import { printTable, spread, thousands } from './lib/markdown.mjs'
import { machine, median } from './lib/measure.mjs'
import {
  endAll,
  installed,
  processorTime,
  startClusterRelay,
  startLoad,
  startNats,
} from './relay/servers.mjs'

const { values } = parseArgs({
  options: { quick: { type: 'boolean', default: false }, rounds: { type: 'string' } },
})
const quick = values.quick
const rounds = Number(values.rounds ?? (quick ? 2 : 5))
const milliseconds = quick ? 1000 : 2000
const SIZE = 256
const RATE = 2000
const WARM_MESSAGES = 60_000

/** @typedef {import('./relay/servers.mjs').Server} Server */
/** @typedef {Awaited<ReturnType<typeof startLoad>>} Load */

if (installed('nats-server', '--version') === undefined) throw new Error('nats-server is not installed')
console.log(
  `${machine()}, load average ${loadavg()[0]?.toFixed(1)}; ${installed('nats-server', '--version')}; messages of ${SIZE} bytes`,
)
const folder = mkdtempSync(join(tmpdir(), 'agentmesh-bench-cluster-'))
const postgres = await TestPostgres.start([])
try {
  const nats = await startNats(folder)
  const url = await postgres.create()
  const [here, there] = await Promise.all(
    [1, 2].map(async () => startClusterRelay(url, `nats://127.0.0.1:${nats.port}`)),
  )
  if (here === undefined || there === undefined) throw new Error('no relays')
  const relays = [here, there]
  const ways = [
    { name: 'at one relay', ports: [here.port] },
    { name: 'forwarded', ports: relays.map(({ port }) => port) },
  ]
  for (const [connections, inFlight] of [
    [200, 1],
    [64, 16],
  ]) {
    console.log(`\n${connections} connections in pairs, ${inFlight} in flight each\n`)
    const head = [
      '',
      'both relays, µs/message',
      'NATS, µs/message',
      'messages/s',
      'rounds (relays, µs/message)',
    ]
    printTable(head, await inTurns(ways, async (load) => prepare(load, connections, inFlight), run))

    /** @param {Load} load */
    async function run(load) {
      const before = [total(relays), processorTime(nats)]
      const { all = 0, messages = 0, seconds = 1, refused } = await load.ask({ do: 'run', milliseconds })
      if (refused !== 0) throw new Error('refused')
      return [(total(relays) - before[0]) / all, (processorTime(nats) - before[1]) / all, messages / seconds]
    }
  }

  console.log(`\n${thousands(RATE)} messages a second, one way, 64 connections\n`)
  const head = ['', 'p50 ms', 'p99 ms', 'both relays, µs/message', 'rounds (p50 ms)']
  const open = async (/** @type {Load} */ load) => {
    await load.ask({ do: 'open', count: 64 })
    await load.ask({ do: 'latency', size: SIZE, rate: RATE, milliseconds })
  }
  const figures = await inTurns(ways, open, async (load) => {
    const before = total(relays)
    const {
      p50 = 0,
      p99 = 0,
      messages = 1,
    } = await load.ask({
      do: 'latency',
      size: SIZE,
      rate: RATE,
      milliseconds,
    })
    return [p50, p99, (total(relays) - before) / messages]
  })
  printTable(head, figures)
  await mailboxes(relays)
  console.log(`\nload average at the end: ${loadavg()[0]?.toFixed(1)}`)
} finally {
  await endAll()
  await postgres.stop()
  rmSync(folder, { recursive: true, force: true })
}

/** @param {readonly Server[]} servers */
function total(servers) {
  return servers.reduce((sum, server) => sum + processorTime(server), 0)
}

/** @param {Load} load @param {number} connections @param {number} inFlight */
async function prepare(load, connections, inFlight) {
  await load.ask({ do: 'open', count: connections })
  await load.ask({ do: 'pair', size: SIZE, inFlight })
  const end = performance.now() + 10_000
  for (let messages = 0; messages < WARM_MESSAGES && performance.now() < end;)
    messages += (await load.ask({ do: 'run', milliseconds: 1000 })).messages ?? 0
}

/**
 * A row for each way: the medians of what `measure` tells, and between what the first of them lay.
 * @param {readonly { name: string, ports: readonly number[] }[]} ways
 * @param {(load: Load) => Promise<void>} begin
 * @param {(load: Load) => Promise<readonly number[]>} measure
 */
async function inTurns(ways, begin, measure) {
  const loads = []
  for (const { name, ports } of ways) {
    const load = await startLoad('relay-bin', ...ports)
    await begin(load)
    loads.push({ name, load, results: /** @type {(readonly number[])[]} */ ([]) })
  }
  for (let round = 0; round < rounds; round++)
    for (const { load, results } of loads) results.push(await measure(load))
  for (const { load } of loads) await load.end()
  return loads.map(({ name, results }) => {
    const columns = (results[0] ?? []).map((_, column) => results.map((result) => result[column] ?? 0))
    const figure = (/** @type {number} */ value) => (value < 1000 ? value.toFixed(2) : thousands(value))
    return [name, ...columns.map((column) => figure(median(column))), spread(columns[0] ?? [])]
  })
}

/** @param {readonly Server[]} relays */
async function mailboxes(relays) {
  const senders = 64
  const receivers = quick ? 64 : 256
  console.log(
    `\nto ${receivers} mailboxes, ${senders} messages in each, by as many senders at both relays with 16 in flight; then the receivers come, 16 at once\n`,
  )
  const load = await startLoad('relay-bin', ...relays.map(({ port }) => port))
  await load.ask({ do: 'open', count: senders })
  await load.ask({ do: 'receivers', count: receivers })
  /** @type {{ rate: number, cost: number }[]} */
  const stores = []
  /** @type {{ rate: number, cost: number }[]} */
  const drains = []
  for (let round = 0; round < rounds; round++) {
    for (const [results, command] of /** @type {const} */ ([
      [stores, { do: 'enqueue', size: SIZE, inFlight: 16 }],
      [drains, { do: 'drain', each: senders, atOnce: 16 }],
    ])) {
      const before = total(relays)
      const { messages = 1, seconds = 1 } = await load.ask(command)
      results.push({ rate: messages / seconds, cost: (total(relays) - before) / messages })
    }
  }
  await load.end()
  const cells = (/** @type {readonly { rate: number, cost: number }[]} */ results) => [
    thousands(median(results.map(({ rate }) => rate))),
    median(results.map(({ cost }) => cost)).toFixed(2),
    spread(
      results.map(({ rate }) => rate),
      0,
    ),
  ]
  printTable(
    ['', 'messages/s', 'both relays, µs/message', 'rounds (messages/s)'],
    [
      ['stored', ...cells(stores)],
      ['drained', ...cells(drains)],
    ],
  )
}

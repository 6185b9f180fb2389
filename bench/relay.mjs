/**
 * What the relay costs beside nats-server, and beside mosquitto where messages are kept. The relay runs as shipped
 * (authenticated, quotas and metrics on; only rate limits are lifted) in a process of its own; all servers run on the first core, and the
 * load comes from the second. The measure is the server's processor time a message, from /proc: a load generator may be
 * full before a server is. Kinds of servers take turns within a shape, so that a busy moment of the machine strikes all.
 *
 * A message to the relay is signed-in, acknowledged by its receiver and confirmed to its sender (SEND, RECEIVE, ACK, SENT); one to NATS is
 * published and delivered (PUB, MSG), and nobody hears what became of it. Payloads of JSON agents are base64 on the wire.
 *
 * `forward` is the bound: a Node program that only writes on what it reads, to the other connection of a pair.
 *
 * Run after a build, on a machine that does nothing else: node bench/relay.mjs [--quick] [--shapes pairs,latency,mailbox,idle]
 * [--rounds 5] [--profile FILE]. It takes ten minutes and prints Markdown; `--quick` takes three.
 */
import { mkdtempSync, rmSync } from 'node:fs'
import { loadavg, release, tmpdir, totalmem } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { printTable, spread, thousands } from './lib/markdown.mjs'
import { machine, median } from './lib/measure.mjs'
import {
  askServer,
  endAll,
  installed,
  processorTime,
  residentMemory,
  scrape,
  startForwarder,
  startLoad,
  startMosquitto,
  startNats,
  startRelayServer,
} from './relay/servers.mjs'

const { values } = parseArgs({
  options: {
    quick: { type: 'boolean', default: false },
    shapes: { type: 'string', default: 'pairs,latency,mailbox,idle' },
    rounds: { type: 'string' },
    seconds: { type: 'string' },
    /** A folder for the mailboxes, to choose the disk. */
    folder: { type: 'string', default: tmpdir() },
    /** Profiles the relay, and nothing else, under the shape `pairs` of this name. */
    profile: { type: 'string' },
    only: { type: 'string' },
  },
})
const quick = values.quick
const rounds = Number(values.rounds ?? (quick ? 3 : 5))
const milliseconds = Number(values.seconds ?? (quick ? 0.7 : 2)) * 1000
const idleConnections = quick ? 2000 : 10_000
const wanted = values.shapes.split(',')
const WARM_MESSAGES = 120_000
const folder = mkdtempSync(join(values.folder, 'agentmesh-bench-relay-'))

/** @typedef {import('./relay/servers.mjs').Server} Server */
/** @typedef {{ kind: string, server: Server, port: number }} Target */

const versions = { nats: installed('nats-server', '--version'), mosquitto: installed('mosquitto', '-h') }
if (installed('taskset', '--version') === undefined) throw new Error('taskset (util-linux) is missing')
console.log(
  `${machine()} ${release()}, ${Math.round(totalmem() / 2 ** 30)} GiB, load average ${loadavg()[0]?.toFixed(1)}`,
)
console.log(
  `${versions.nats ?? 'nats-server is not installed: no ratios'}, ${versions.mosquitto ?? 'mosquitto is not installed'}`,
)

try {
  const relay = await startRelayServer(folder)
  const nats = versions.nats === undefined ? undefined : await startNats(folder)
  const bound = await startForwarder()
  /** @type {Target[]} */
  const online = [
    ...asRelay(relay),
    ...(nats === undefined ? [] : asNats(nats)),
    { kind: 'forward', server: bound, port: bound.port },
  ].filter(({ kind }) => values.only === undefined || values.only.split(',').includes(kind))

  if (wanted.includes('pairs')) {
    const few = { connections: 64, inFlight: 16 }
    const many = { connections: quick ? 200 : 1000, inFlight: 1 }
    for (const shape of [many, few]) {
      for (const size of [256, 4096]) await pairs(relay, online, { ...shape, size })
    }
  }
  if (wanted.includes('latency')) await latency(online)
  if (wanted.includes('mailbox')) {
    const mosquitto = versions.mosquitto === undefined ? undefined : await startMosquitto(folder)
    await mailboxes([
      { kind: 'relay-bin', server: relay, port: relay.port },
      ...(mosquitto === undefined ? [] : [{ kind: 'mqtt', server: mosquitto, port: mosquitto.port }]),
    ])
  }
  if (wanted.includes('idle')) {
    console.log(`\n${thousands(idleConnections)} connections opened from five addresses, then idle\n`)
    // Fresh ones for each: what earlier load left in a heap would hide what a connection takes.
    const rows = [
      await idle(async () => asRelay(await startRelayServer(mkdtempSync(join(folder, 'idle-'))))[0]),
      ...(versions.nats === undefined
        ? []
        : [
            await idle(async () => asNats(await startNats(folder))[0]),
            await idle(async () => asNats(await startNats(folder))[1]),
          ]),
    ]
    printTable(['', 'opened/s', 'µs each', 'bytes each', 'after collection'], rows)
  }
  console.log(`\nload average at the end: ${loadavg()[0]?.toFixed(1)}`)
} finally {
  await endAll()
  rmSync(folder, { recursive: true, force: true })
}

/** @param {Server} server @returns {Target[]} */
function asRelay(server) {
  const { port } = server
  return [
    { kind: 'relay-bin', server, port },
    { kind: 'relay-json', server, port },
  ]
}

/** @param {Server} server @returns {Target[]} */
function asNats(server) {
  return [
    { kind: 'nats-ws', server, port: server.webSocketPort ?? 0 },
    { kind: 'nats-tcp', server, port: server.port },
  ]
}

/**
 * Half of the connections talk to the other half; one in flight each is ping-pong.
 * @param {Server} relay
 * @param {readonly Target[]} targets
 * @param {{ connections: number, inFlight: number, size: number }} shape
 */
async function pairs(relay, targets, { connections, inFlight, size }) {
  console.log(`\n${connections} connections in pairs, ${inFlight} in flight each, ${size} bytes\n`)
  const loads = []
  for (const target of targets) {
    const load = await startLoad(target.kind, target.port)
    await load.ask({ do: 'open', count: connections })
    await load.ask({ do: 'pair', size, inFlight: Math.max(1, inFlight) })
    await warmUp(async () => load.ask({ do: 'run', milliseconds: 1000 }))
    loads.push({ ...target, load, costs: /** @type {number[]} */ ([]), rates: /** @type {number[]} */ ([]) })
  }
  if (values.profile !== undefined) await askServer(relay, 'profile')
  for (let round = 0; round < rounds; round++) {
    for (const { load, server, costs, rates } of loads) {
      const before = processorTime(server)
      const result = await load.ask({ do: 'run', milliseconds })
      costs.push((processorTime(server) - before) / (result.all ?? 0))
      rates.push((result.messages ?? 0) / (result.seconds ?? 1))
      if (result.refused !== 0) throw new Error('refused')
    }
    await scrape(relay)
  }
  if (values.profile !== undefined)
    await askServer(relay, `stop ${values.profile}-${connections}-${size}.cpuprofile`)
  const base = loads.find(({ kind }) => kind === 'nats-ws')
  printTable(
    ['', 'µs/message', 'messages/s', 'nats-ws / it', 'rounds (µs/message)'],
    loads.map(({ kind, costs, rates }) => {
      const ratio = base === undefined ? '' : ratios(base.costs, costs)
      return [kind, median(costs).toFixed(2), thousands(median(rates)), ratio, spread(costs)]
    }),
  )
  for (const { load } of loads) await load.end()
}

/** Until compilers have seen enough, or time is up. @param {() => Promise<Record<string, number>>} run */
async function warmUp(run) {
  const end = performance.now() + 20_000
  for (let messages = 0; messages < WARM_MESSAGES && performance.now() < end;)
    messages += (await run()).messages ?? 0
}

/** @param {readonly Target[]} targets */
async function latency(targets) {
  const rate = 5000
  for (const size of [256, 4096]) {
    console.log(`\n${thousands(rate)} messages a second, one way, 64 connections, ${size} bytes\n`)
    const loads = []
    for (const target of targets) {
      const load = await startLoad(target.kind, target.port)
      await load.ask({ do: 'open', count: 64 })
      await load.ask({ do: 'latency', size, rate, milliseconds: 1000 })
      loads.push({
        ...target,
        load,
        costs: /** @type {number[]} */ ([]),
        p50: /** @type {number[]} */ ([]),
        p99: /** @type {number[]} */ ([]),
      })
    }
    for (let round = 0; round < rounds; round++) {
      for (const { load, server, costs, p50, p99 } of loads) {
        const before = processorTime(server)
        const result = await load.ask({ do: 'latency', size, rate, milliseconds })
        costs.push((processorTime(server) - before) / (result.messages ?? 0))
        p50.push(result.p50 ?? 0)
        p99.push(result.p99 ?? 0)
        if (result.refused !== 0) throw new Error('refused')
      }
    }
    const base = loads.find(({ kind }) => kind === 'nats-ws')
    printTable(
      ['', 'p50 ms', 'p99 ms', 'p99: it / nats-ws', 'µs/message', 'rounds (p99 ms)'],
      loads.map(({ kind, costs, p50, p99 }) => {
        const ratio = base === undefined ? '' : ratios(p99, base.p99)
        return [
          kind,
          median(p50).toFixed(3),
          median(p99).toFixed(3),
          ratio,
          median(costs).toFixed(2),
          spread(p99),
        ]
      }),
    )
    for (const { load } of loads) await load.end()
  }
}

/** @param {readonly Target[]} targets */
async function mailboxes(targets) {
  const senders = 64
  const receivers = quick ? 100 : 256
  for (const size of quick ? [256] : [256, 4096]) {
    // Within the 100 messages of a mailbox, and a sender's 1,000.
    console.log(
      `\nto ${receivers} mailboxes, ${senders} messages of ${size} bytes in each, by as many senders with 16 in flight; then the receivers come\n`,
    )
    const rows = []
    for (const { kind, server, port } of targets) {
      const load = await startLoad(kind, port)
      await load.ask({ do: 'open', count: senders })
      await load.ask({ do: 'receivers', count: receivers })
      const [stored, storeCosts, drained, drainCosts] = [[], [], [], []].map(
        () => /** @type {number[]} */ ([]),
      )
      for (let round = 0; round < rounds; round++) {
        const start = processorTime(server)
        const enqueue = await load.ask({ do: 'enqueue', size, inFlight: 16 })
        const middle = processorTime(server)
        const drain = await load.ask({ do: 'drain', each: senders, atOnce: 16 })
        const end = processorTime(server)
        stored?.push((enqueue.messages ?? 0) / (enqueue.seconds ?? 1))
        drained?.push((drain.messages ?? 0) / (drain.seconds ?? 1))
        storeCosts?.push((middle - start) / (enqueue.messages ?? 1))
        drainCosts?.push((end - middle) / (drain.messages ?? 1))
      }
      rows.push([
        kind,
        thousands(median(stored ?? [])),
        median(storeCosts ?? []).toFixed(2),
        thousands(median(drained ?? [])),
        median(drainCosts ?? []).toFixed(2),
        `${spread(stored ?? [], 0)}; ${spread(drained ?? [], 0)}`,
      ])
      await load.end()
    }
    printTable(
      ['', 'stored/s', 'µs/message', 'drained/s', 'µs/message', 'rounds (stored/s; drained/s)'],
      rows,
    )
  }
}

/** @param {() => Promise<Target | undefined>} start */
async function idle(start) {
  await endAll()
  const target = await start()
  if (target === undefined) return []
  const { kind, server, port } = target
  const load = await startLoad(kind, port)
  await load.ask({ do: 'open', count: 250, addresses: 5 })
  await load.ask({ do: 'close' })
  const before = await settled(server)
  const spent = processorTime(server)
  const opened = await load.ask({ do: 'open', count: idleConnections, addresses: 5 })
  const cost = (processorTime(server) - spent) / idleConnections
  const [resident, collected] = await settled(server)
  await load.end()
  return [
    kind,
    thousands(idleConnections / (opened.seconds ?? 1)),
    cost.toFixed(0),
    thousands((resident - before[0]) / idleConnections),
    collected === undefined ? '' : thousands((collected - (before[1] ?? 0)) / idleConnections),
  ]
}

/** Resident memory once it no longer falls; of the relay also what is resident after its garbage was collected. @param {Server} server */
async function settled(server) {
  let lowest = Number.POSITIVE_INFINITY
  for (let still = 0; still < 4; still++) {
    await new Promise((resolve) => setTimeout(resolve, quick ? 500 : 2000))
    const now = residentMemory(server)
    if (now < lowest * 0.99) still = 0
    lowest = Math.min(lowest, now)
  }
  if (server.name !== 'relay') return /** @type {const} */ ([lowest, undefined])
  await askServer(server, 'collect')
  return /** @type {const} */ ([lowest, residentMemory(server)])
}

/** The median of the rounds' ratios. @param {readonly number[]} base @param {readonly number[]} costs */
function ratios(base, costs) {
  return median(base.map((cost, round) => cost / (costs[round] ?? 1))).toFixed(2)
}

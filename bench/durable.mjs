/**
 * Durable messages: requests and answers between agents that embed the SDK, each service and each group of clients a
 * process of its own, over a relay; every message is on the disk of both sides before it is acknowledged. One pair, idle
 * and loaded, and one service with many clients. Beside it the same with everything stored in memory, which shows what the
 * disk costs, and the primitives measured in the same run: signature, check, sealing and opening, and a forced write.
 *
 * The clients are agents of their own, each with its store and connection, many of them in several processes, so that no
 * one core of theirs is what is measured; opening 200 takes most of the run. `cpu` is processor time a message in the
 * processes of the clients, the service and the relay: it shows which side a rate is due to, and other work on the machine
 * disturbs it less.
 * Run after a build: node bench/durable.mjs [--requests 3000] [--clients 200]
 */
import { existsSync } from 'node:fs'
import { loadavg } from 'node:os'
import { parseArgs } from 'node:util'
import { messageBound, syncBound } from './lib/bounds.mjs'
import { clock, machine, median, quantile } from './lib/measure.mjs'
import { Mesh } from './lib/mesh.mjs'

const { values } = parseArgs({
  options: {
    requests: { type: 'string', default: '3000' },
    clients: { type: 'string', default: '200' },
  },
})
const MEMORY = '/dev/shm'
const WINDOW = 48
const IDLE_REQUESTS = 300
/** Clients of one process, at most. */
const CLIENTS_TOGETHER = 50

/** @param {number} value */
const figure = (value) => value.toFixed(2).padStart(8)

/**
 * One service, asked by so many clients.
 * @param {string} name
 * @param {string | undefined} base where everything is stored
 * @param {{ count: number, requests: number, window: number }} load
 */
async function run(name, base, { count, requests, window }) {
  const mesh = new Mesh(base)
  try {
    const { config, relay } = await mesh.servers()
    const service = await mesh.run('service', mesh.home('service'), config)
    const groups = Math.ceil(count / CLIENTS_TOGETHER)
    const numbers = [count / groups, requests / groups, window].map((number) => String(Math.round(number)))
    const clients = await Promise.all(
      Array.from({ length: groups }, (_, n) =>
        mesh.run('clients', mesh.home(`clients-${n}`), config, service.word.amid, ...numbers),
      ),
    )
    const used = () =>
      Promise.all(
        [clients, [service], [relay]].map(async (side) =>
          (await Promise.all(side.map((one) => one.ask('cpu')))).reduce((sum, time) => sum + time, 0),
        ),
      )
    const before = await used()
    const begin = clock()
    const told = await Promise.all(clients.map((one) => one.ask('run')))
    const seconds = (clock() - begin) / 1000
    const after = await used()
    const made = told.reduce((sum, { answered }) => sum + answered.length, 0)
    const cpu = after.map((time, side) => (time - before[side]) / (2 * made))
    const rate = (2 * made) / seconds
    const times = (/** @type {'handled' | 'answered'} */ which) => {
      const all = told.flatMap((one) => one[which])
      return `${figure(median(all))}${figure(quantile(all, 0.99))} ms`
    }
    console.log(
      `${name.padEnd(44)}${Math.round(rate).toString().padStart(6)}/s   handler${times('handled')}   answer${times('answered')}   cpu ${cpu.map((time) => time.toFixed(2)).join(' / ')} ms`,
    )
    return { rate, ofService: 1000 / (cpu[1] ?? Infinity) }
  } finally {
    await mesh.close()
  }
}

const message = await messageBound()
const disk = new Mesh()
const sync = await syncBound(disk.folder)
await disk.close()
console.log(`${machine()}, load average ${loadavg()[0]?.toFixed(1)}`)
console.log(
  `bound: a message signed, sealed, opened, checked ${message.toFixed(3)} ms, ${Math.round(1000 / message)}/s on one core; a page forced to disk ${sync.toFixed(3)} ms, ${Math.round(1000 / sync)}/s\n`,
)
const requests = Number(values.requests)
const count = Number(values.clients)
const idle = { count: 1, requests: IDLE_REQUESTS, window: 1 }
const loaded = { count: 1, requests, window: WINDOW }
const many = { count, requests, window: Math.max(1, Math.round(WINDOW / count)) }
await run('one pair, one request at a time', undefined, idle)
const durable = await run(`one pair, ${WINDOW} requests outstanding`, undefined, loaded)
const served = await run(`one service, ${count} clients`, undefined, many)
if (existsSync(MEMORY)) {
  await run('in memory: one pair, one request at a time', MEMORY, idle)
  await run(`in memory: one pair, ${WINDOW} requests outstanding`, MEMORY, loaded)
}
console.log(
  `\nof the bound of one core: pair ${((durable.rate * message) / 10).toFixed(0)} %, service ${((served.rate * message) / 10).toFixed(0)} %; a core for the service alone would carry ${Math.round(served.ofService)}/s of its clients`,
)

/**
 * Mailboxes on SQLite and on PostgreSQL, with one relay and with two on one database: messages stored a second and mailboxes
 * drained a second, each store committed to the disk before it counts, each drain a page read and what was on it removed.
 * Beside them one forced write to the same disk, measured in the same run: what a store that waits for its own commit cannot be
 * faster than. Quotas are those of a relay as shipped.
 *
 * Processor time is that of this process, which is the relay's share; with PostgreSQL the server works beside it.
 * Run after a build: node bench/mailbox.mjs [--messages 30000] [--size 256]
 */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { DEFAULT_LIMITS } from '../apps/relay/dist/limits.js'
import { FRONT } from '../apps/relay/dist/mailbox.js'
import { PostgresMailbox } from '../apps/relay/dist/postgres-mailbox.js'
import { SqliteMailbox } from '../apps/relay/dist/sqlite-mailbox.js'
import { TestPostgres } from '../apps/relay/dist/test-support-postgres.js'
import { systemRandom } from '../packages/sdk/dist/crypto/signing.js'
import { AMID_BYTES, amidFromBytes, newMessageId } from '../packages/sdk/dist/wire/index.js'
import { syncBound } from './lib/bounds.mjs'
import { printTable, thousands } from './lib/markdown.mjs'
import { machine, median, quantile } from './lib/measure.mjs'

/** @typedef {import('../apps/relay/dist/mailbox.js').Mailbox} Mailbox */
/** @typedef {import('../apps/relay/dist/mailbox.js').MailboxMessage} MailboxMessage */

const { values } = parseArgs({
  options: { messages: { type: 'string', default: '30000' }, size: { type: 'string', default: '256' } },
})
const MESSAGES = Number(values.messages)
const SIZE = Number(values.size)
const RECEIVERS = 2_000
const SENDERS = 500
const PAGE = 16
const ALONE = 200
const OUTSTANDING = [64, 1024]
const DRAINING = 64

const amids = (/** @type {number} */ count) =>
  Array.from({ length: count }, () => amidFromBytes(systemRandom(AMID_BYTES)))
const receivers = amids(RECEIVERS)
const senders = amids(SENDERS)
const payload = systemRandom(SIZE)

/** @param {number} count @returns {MailboxMessage[]} */
function messages(count) {
  return Array.from({ length: count }, (_, index) => {
    // Every receiver hears of several senders, and no sender fills a mailbox.
    const [to, from] = [receivers[index % RECEIVERS], senders[(index * 7) % SENDERS]]
    if (to === undefined || from === undefined) throw new Error('no such agent')
    return { to, from, id: newMessageId(systemRandom), type: 'message', timestamp: Date.now(), payload }
  })
}

/**
 * So many at a time, shared among the relays.
 * @template Item
 * @param {readonly Item[]} items
 * @param {number} atOnce
 * @param {(item: Item, worker: number) => Promise<unknown>} work
 */
async function each(items, atOnce, work) {
  let next = 0
  /** @type {number[]} */
  const times = []
  const before = process.cpuUsage()
  const begin = performance.now()
  await Promise.all(
    Array.from({ length: atOnce }, async (_, worker) => {
      for (let index = next++; index < items.length; index = next++) {
        const started = performance.now()
        await work(items[index], worker)
        times.push(performance.now() - started)
      }
    }),
  )
  const seconds = (performance.now() - begin) / 1000
  const { user, system } = process.cpuUsage(before)
  const cpu = (user + system) / items.length
  return { rate: items.length / seconds, cpu, p50: median(times), p99: quantile(times, 0.99) }
}

/** @param {string} what @param {{ rate: number, cpu: number, p50: number, p99: number }} result */
function row(what, { rate, cpu, p50, p99 }) {
  return [what, thousands(rate), p50.toFixed(2), p99.toFixed(2), cpu.toFixed(0)]
}

/** @param {string} name @param {readonly Mailbox[]} relays */
async function measure(name, relays) {
  const rows = []
  const relay = (/** @type {number} */ worker) => relays[worker % relays.length]
  const store = async (/** @type {MailboxMessage} */ message, /** @type {number} */ worker) => {
    const outcome = await relay(worker).store(message)
    if (outcome !== 'stored') throw new Error(outcome)
  }
  const drain = async (/** @type {MailboxMessage['to']} */ to, /** @type {number} */ worker) => {
    const mailbox = relay(worker)
    for (;;) {
      const page = await mailbox.page(to, { after: FRONT, limit: PAGE, withKnocks: true })
      if (page.length === 0) return
      await mailbox.remove(to, page, 0)
    }
  }
  const emptied = async () => {
    const result = await each(receivers, DRAINING, drain)
    const left = await Promise.all(receivers.slice(0, 100).map((to) => relay(0).count(to)))
    if (left.some((count) => count > 0)) throw new Error('not drained')
    return result
  }
  await each(messages(RECEIVERS), DRAINING, store)
  await emptied()

  rows.push(row('stores, one after the other', await each(messages(ALONE), 1, store)))
  await emptied()
  for (const outstanding of OUTSTANDING) {
    rows.push(row(`stores, ${outstanding} outstanding`, await each(messages(MESSAGES), outstanding, store)))
    const drained = await emptied()
    rows.push(row(`drains of ${MESSAGES / RECEIVERS} messages, ${DRAINING} at once`, drained))
  }
  await each(messages(RECEIVERS), DRAINING, store)
  rows.push(row(`drains of one message, ${DRAINING} at once`, await emptied()))
  console.log('')
  printTable([name, 'a second', 'p50 ms', 'p99 ms', 'processor µs'], rows)
}

const folder = mkdtempSync(join(tmpdir(), 'agentmesh-bench-'))
const postgres = await TestPostgres.start([])
try {
  console.log(`${machine()}; ${MESSAGES} messages of ${SIZE} B to ${RECEIVERS} mailboxes`)
  const sync = await syncBound(folder)
  console.log(`one forced write of a page: ${sync.toFixed(2)} ms, ${Math.round(1000 / sync)}/s`)

  const sqlite = new SqliteMailbox(join(folder, 'relay.db'), DEFAULT_LIMITS, Date.now)
  await measure('SQLite', [sqlite])
  await sqlite.close()

  const url = await postgres.create()
  const open = () => PostgresMailbox.open(url, DEFAULT_LIMITS, Date.now, () => {})
  for (const count of [1, 2]) {
    const relays = await Promise.all(Array.from({ length: count }, open))
    await measure(`PostgreSQL, ${count === 1 ? 'one relay' : 'two relays'}`, relays)
    await Promise.all(relays.map((mailbox) => mailbox.close()))
  }
  console.log(`\none forced write of a page, again: ${(await syncBound(folder)).toFixed(2)} ms`)
} finally {
  await postgres.stop()
  rmSync(folder, { recursive: true })
}

/**
 * Lookups and searches at the registry's HTTP server with many agents, on SQLite and on PostgreSQL: requests a second, and the
 * time of each at the server (from the first byte read to the answer handed over). Beside them a bare read by primary key of
 * the same database, through the same driver, in the same run. The agents are put in through the store.
 * Run after a build: node bench/registry.mjs [--agents 100000] [--requests 600]
 */
import { subscribe } from 'node:diagnostics_channel'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { DatabaseSync } from '@photostructure/sqlite'
import pg from 'pg'
import { DEFAULT_LIMITS } from '../apps/registry/dist/limits.js'
import { encodeCursor } from '../apps/registry/dist/search.js'
import { startRegistry } from '../apps/registry/dist/server.js'
import { reachOf } from '../apps/registry/dist/store/offers.js'
import { openPostgresStore, openSqliteStore } from '../apps/registry/dist/store/sql-store.js'
import { TestAgent } from '../apps/registry/dist/test-support.js'
import { startPostgres } from '../apps/registry/dist/test-support-postgres.js'
import { systemRandom } from '../packages/sdk/dist/crypto/signing.js'
import { AMID_BYTES, amidFromBytes, tierRank } from '../packages/sdk/dist/wire/index.js'
import { machine, quantile } from './lib/measure.mjs'

const { values } = parseArgs({
  options: { agents: { type: 'string', default: '100000' }, requests: { type: 'string', default: '600' } },
})
const AGENTS = Number(values.agents)
const REQUESTS = Number(values.requests)
const WARM_UP = 200
const BATCH = 200
const PAGES = 50
const now = Date.now()
const WIDE = { perSecond: 1_000_000, burst: 1_000_000 }

const template = new TestAgent('bench', 'http://registry.example', () => now)
const record = JSON.stringify(template.registration())

/** Four in five offer travel, three in ten are online, most are anonymous and have the score that everybody begins with. */
const agents = Array.from({ length: AGENTS }, (_, index) => {
  const amid = amidFromBytes(systemRandom(AMID_BYTES))
  const category = index % 2_000 === 0 ? 'x-bench/rare' : index % 5 === 0 ? 'finance' : 'travel'
  const tier = index % 100 === 0 ? 1.5 : index % 10 === 0 ? 1 : 2
  return {
    amid,
    offers: [
      ['', ''],
      ['flights', ''],
      ['flights', 'book'],
      ['', 'book'],
    ].map(([subcategory = '', action = '']) => ({
      amid,
      category,
      subcategory,
      action,
    })),
    tier: /** @type {const} */ (tier),
    reputation: index % 3 === 0 ? Math.random() : 0.5,
    presence: /** @type {const} */ (index % 10 < 3 ? 'online' : 'offline'),
  }
})

/** @param {import('../apps/registry/dist/store/store.js').Store} store */
async function seed(store) {
  for (let start = 0; start < AGENTS; start += BATCH) {
    const batch = agents.slice(start, start + BATCH)
    await store.transaction('seed', async (tx) => {
      const rows = batch.map(({ amid, tier, reputation, presence }) => ({
        amid,
        record: record.replaceAll(template.amid, amid),
        sequence: 1,
        exchange_key: 'x25519:key',
        exchange_sequence: 1,
        tier,
        tier_rank: tierRank(tier),
        reputation,
        presence,
        reach: reachOf(presence),
        last_seen: now,
        registered_at: now,
        verified_name: null,
        organization: null,
      }))
      await tx.insertInto('agents').values(rows).execute()
      const offered = batch.flatMap(({ offers, reputation, presence, tier }) =>
        offers.map((offer) => ({
          ...offer,
          reputation,
          tier_rank: tierRank(tier),
          reach: reachOf(presence),
        })),
      )
      await tx.insertInto('offers').values(offered).execute()
    })
  }
}

/** Milliseconds at the server of every request, from its head read to its answer written. @type {number[]} */
let served = []
const began = new WeakMap()
subscribe('http.server.request.start', (message) => {
  const { request } = /** @type {{ request: object }} */ (message)
  began.set(request, performance.now())
})
subscribe('http.server.response.finish', (message) => {
  const { request } = /** @type {{ request: object }} */ (message)
  served.push(performance.now() - began.get(request))
})

/** @param {string} name @param {readonly number[]} times @param {number} perSecond */
function row(name, times, perSecond) {
  const [p50, p99] = [quantile(times, 0.5), quantile(times, 0.99)].map((ms) => ms.toFixed(2).padStart(9))
  console.log(`${name.padEnd(58)}${Math.round(perSecond).toString().padStart(9)}${p50}${p99}`)
}

/** @param {string} name @param {(call: number) => unknown} call @param {boolean} atServer */
async function measure(name, call, atServer) {
  for (let index = 0; index < WARM_UP; index++) await call(index)
  served = []
  const times = []
  const begin = performance.now()
  for (let index = 0; index < REQUESTS; index++) {
    const before = performance.now()
    await call(index)
    times.push(performance.now() - before)
  }
  row(name, atServer ? served : times, (1000 * REQUESTS) / (performance.now() - begin))
}

/** @param {number} call */
const someone = (call) => agents[(call * 7_919) % AGENTS]?.amid ?? ''

/**
 * @param {string} name
 * @param {{ dataPath: string } | { databaseUrl: string }} where
 * @param {(amid: string) => unknown} bare
 */
async function bench(name, where, bare) {
  console.log(`\n${name.padEnd(58)}${'a second'.padStart(9)}${'p50 ms'.padStart(9)}${'p99 ms'.padStart(9)}`)
  await measure('bare read by primary key, through the driver', (call) => bare(someone(call)), false)
  const rates = Object.entries(DEFAULT_LIMITS).filter(([, limit]) => typeof limit === 'object')
  const limits = Object.fromEntries(rates.map(([rate]) => [rate, WIDE]))
  const registry = await startRegistry({ ...where, limits })
  try {
    /** @param {string} path @returns {Promise<any>} */
    const get = async (path) => {
      const answer = await fetch(`${registry.url}/v1/registry/${path}`)
      if (answer.status !== 200) throw new Error(`${path}: ${answer.status}`)
      return answer.json()
    }
    await measure('lookup', (call) => get(`lookup?amid=${someone(call)}`), true)
    await measure(
      `search, narrow (${Math.ceil(AGENTS / 2_000)} agents)`,
      () => get('search?capability=x-bench/rare'),
      true,
    )
    const broad = 'search?capability=travel'
    await measure(`search, broad (about ${Math.round(AGENTS * 0.8)} agents)`, () => get(broad), true)
    await measure('search, broad, online', () => get(`${broad}&online=true`), true)
    await measure('search, broad, organizations', () => get(`${broad}&tier_min=organization`), true)
    await measure('search, broad, subcategory and action', () => get(`${broad}/flights&action=book`), true)
    /** @type {string[]} */
    const cursors = []
    for (let cursor = ''; cursors.length < PAGES;) {
      cursor = (await get(`${broad}&limit=100${cursor && `&cursor=${cursor}`}`)).next_cursor
      if (cursor === null) break
      cursors.push(cursor)
    }
    await measure(
      `search, broad, pages of 20 below the first ${PAGES * 100}`,
      (call) => get(`${broad}&cursor=${cursors[call % cursors.length]}`),
      true,
    )
    const offline = encodeCursor({
      asOf: Date.now(),
      position: { online: false, reputation: 0.5, amid: template.amid },
    })
    await measure('search, broad, amid those offline', () => get(`${broad}&cursor=${offline}`), true)
  } finally {
    await registry.close()
  }
}

console.log(machine())
console.log(`${AGENTS} agents, ${REQUESTS} requests each, one after the other; pages of 20`)
const folder = mkdtempSync(join(tmpdir(), 'agentmesh-bench-registry-'))
const postgres = await startPostgres()
try {
  const dataPath = join(folder, 'registry.db')
  const sqlite = await openSqliteStore(dataPath)
  await seed(sqlite)
  await sqlite.close()
  const database = new DatabaseSync(dataPath)
  const statement = database.prepare('select record from agents where amid = ?')
  await bench('SQLite', { dataPath }, (amid) => statement.get(amid))
  database.close()

  const databaseUrl = await postgres.create()
  const store = await openPostgresStore(databaseUrl, () => undefined)
  await seed(store)
  await store.close()
  const client = new pg.Client({ connectionString: databaseUrl })
  await client.connect()
  // As its own upkeep does within a minute.
  await client.query('vacuum analyze')
  await bench('PostgreSQL', { databaseUrl }, (amid) =>
    client.query('select record from agents where amid = $1', [amid]),
  )
  await client.end()
} finally {
  await postgres.stop()
  rmSync(folder, { recursive: true, force: true })
}

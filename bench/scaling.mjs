/**
 * The model behind docs/scaling.md: what agents ask of relays, NATS, PostgreSQL and registries, from what each thing was measured
 * to cost. To see what another machine or another use makes of it, change a number below and run it; `node
 * tools/generate-scaling.mjs` puts the tables into the document.
 *
 * Run after a build: node bench/scaling.mjs
 */
import { pathToFileURL } from 'node:url'
import { DEFAULT_LIMITS } from '../apps/relay/dist/limits.js'

/**
 * What was measured, and how to measure it again.
 * @type {Record<string, readonly [value: number, what: string, from: string]>}
 */
const MEASURED = {
  messageUs: [17.3, 'processor time of a relay for a message, us', 'bench/relay.mjs'],
  connectionBytes: [7_500, 'memory of a relay for an idle connection, bytes', 'bench/relay.mjs'],
  relayBytes: [73e6, 'memory of a relay without agents, bytes', 'bench/footprint.mjs'],
  storedPerSecond: [6_770, 'messages a PostgreSQL stores a second', 'bench/mailbox.mjs'],
  drainedPerSecond: [9_925, 'mailboxes a PostgreSQL empties a second', 'bench/mailbox.mjs'],
  entryBytes: [149, 'memory of a relay for an agent of another relay, bytes', 'bench/service.mjs'],
  forwardCost: [
    4,
    'a message by way of another relay against one within a relay, both relays together',
    'bench/cluster.mjs',
  ],
  changeUs: [3.5, 'processor time of a relay for a change there, us', 'bench/service.mjs'],
  searchMs: [
    1.2,
    'median time of a search at a registry, taken for processor time, ms',
    'bench/registry.mjs',
  ],
  signOfLifeMs: [2.3, 'processor time of a sign of life at a registry, ms', 'bench/service.mjs'],
  recordBytes: [264_000, 'disk of a registry for an agent and its prekeys, bytes', 'bench/service.mjs'],
}

/**
 * How agents are taken to behave. Nobody has measured these.
 * @type {Record<string, readonly [value: number, what: string]>}
 */
const ASSUMED = {
  online: [0.5, 'share of the agents that is connected'],
  messagesPerDay: [200, 'messages an agent sends a day, receipts included'],
  messageBytes: [1_000, 'payload of a message, bytes'],
  storedShare: [0.3, 'share of the messages whose receiver is away'],
  hoursAway: [8, 'hours that such a message waits'],
  connectsPerDay: [4, 'times that a connected agent connects a day'],
  searchesPerDay: [10, 'searches and lookups of an agent a day'],
  peak: [3, 'busiest hour against the mean'],
  busy: [0.6, 'share of a core that may be used at the peak'],
}

/**
 * What the code or a server's defaults allow.
 * @type {Record<string, readonly [value: number, what: string]>}
 */
const LIMITS = {
  sockets: [
    DEFAULT_LIMITS.maxSockets,
    'connections of a relay (`limit.max_sockets`; more is a setting and memory)',
  ],
  relays: [256, 'other relays that a relay keeps count of'],
  signOfLifeSeconds: [240, 'seconds between two signs of life of an agent'],
  connectionsPerRelay: [5, 'PostgreSQL connections of a relay'],
  postgresConnections: [100, 'connections that PostgreSQL takes (its default)'],
  storeBytes: [DEFAULT_LIMITS.storeBytes, 'bytes in all mailboxes (`limit.store_bytes`)'],
  relayMemory: [8e9, 'memory that a relay may take, bytes'],
}

/**
 * The values of a table, by name.
 * @param {Record<string, readonly [number, ...unknown[]]>} rows
 */
const reader = (rows) => (/** @type {string} */ name) => {
  const row = rows[name]
  if (row === undefined) throw new Error(`no ${name}`)
  return row[0]
}
const m = reader(MEASURED)
const a = reader(ASSUMED)
const l = reader(LIMITS)

const DAY = 86_400

/**
 * A service for so many agents, at its peak.
 * @param {number} agents
 * @param {number} [fixedRelays] else as many as it takes
 */
function service(agents, fixedRelays) {
  const connected = agents * a('online')
  const messages = (agents * a('messagesPerDay') * a('peak')) / DAY
  const stored = messages * a('storedShare')
  const changes = (connected * a('connectsPerDay') * 2 * a('peak')) / DAY
  /** @param {number} relays */
  const relay = (relays) => {
    const live = (messages - stored) / relays
    const elsewhere = (relays - 1) / relays
    const cost = m('messageUs') * (1 + elsewhere * (m('forwardCost') - 1))
    const core = (live * cost + (stored / relays) * m('messageUs') + changes * m('changeUs')) / 1e6
    const here = connected / relays
    const bytes = m('relayBytes') + here * m('connectionBytes') + (connected - here) * m('entryBytes')
    return { here, core, bytes, elsewhere }
  }
  let relays = fixedRelays ?? Math.max(1, Math.ceil(connected / l('sockets')))
  if (fixedRelays === undefined) {
    // More relays do not help with what each of them does for all agents: at some point the core is full whatever their number.
    for (let tries = 0; relay(relays).core > a('busy') && tries < 60; tries++)
      relays = Math.ceil(relays * 1.2)
  }
  const { here, core, bytes, elsewhere } = relay(relays)
  const forwarded = (messages - stored) * elsewhere
  const lives = connected / l('signOfLifeSeconds')
  const searches = (agents * a('searchesPerDay') * a('peak')) / DAY
  return {
    agents,
    relays,
    here,
    core,
    bytes,
    messages,
    directoryBytes: (connected - here) * m('entryBytes'),
    // A message and its answer, each on its own at worst; heartbeats from each to each.
    nats: relays === 1 ? 0 : 2 * forwarded + changes * relays + relays * (relays - 1),
    stored,
    storedShare: stored / m('storedPerSecond'),
    mailBytes: ((agents * a('messagesPerDay')) / 24) * a('storedShare') * a('hoursAway') * a('messageBytes'),
    drainSeconds: connected / m('drainedPerSecond'),
    postgresConnections: relays * l('connectionsPerRelay'),
    lives,
    registryCores: (lives * m('signOfLifeMs') + searches * m('searchMs')) / 1e3 / a('busy'),
    recordBytes: agents * m('recordBytes'),
  }
}

/** @typedef {ReturnType<typeof service>} Service */

/** @param {number} value */
function short(value) {
  if (value === 0) return '0'
  for (const [size, unit] of /** @type {const} */ ([
    [1e12, 'T'],
    [1e9, 'G'],
    [1e6, 'M'],
    [1e4, 'k'],
  ])) {
    if (value >= size)
      return `${Number((value / (unit === 'k' ? 1e3 : size)).toPrecision(3))}${unit === 'k' ? ' k' : ` ${unit}`}`
  }
  return value >= 100 ? value.toFixed(0) : String(Number(value.toPrecision(2)))
}
/** @param {number} value */
const percent = (value) => `${short(value * 100)} %`

/** @type {readonly (readonly [string, (each: Service) => string])[]} */
const ROWS = [
  ['relays', (each) => short(each.relays)],
  ['connections a relay', (each) => short(each.here)],
  ['messages a second, all', (each) => short(each.messages)],
  ['a core of each relay', (each) => percent(each.core)],
  ['memory of each relay, B', (each) => short(each.bytes)],
  ['of it the directory, B', (each) => short(each.directoryBytes)],
  ['NATS deliveries a second', (each) => short(each.nats)],
  ['messages stored a second', (each) => short(each.stored)],
  ['of what one PostgreSQL stores', (each) => percent(each.storedShare)],
  ['mail waiting, B', (each) => short(each.mailBytes)],
  ['seconds to empty all mailboxes once', (each) => short(each.drainSeconds)],
  ['PostgreSQL connections of relays', (each) => short(each.postgresConnections)],
  ['signs of life a second', (each) => short(each.lives)],
  ['cores of registries', (each) => short(each.registryCores)],
  ['disk of a registry, B', (each) => short(each.recordBytes)],
]

/** @param {readonly string[]} heads @param {readonly (readonly string[])[]} rows */
function table(heads, rows) {
  const line = (/** @type {readonly string[]} */ cells) => `| ${cells.join(' | ')} |`
  return [line(heads), line(heads.map((_, index) => (index === 0 ? '---' : '---:'))), ...rows.map(line)]
}

/** @param {readonly (readonly [string, Service])[]} services */
function compare(services) {
  return table(
    ['', ...services.map(([name]) => name)],
    ROWS.map(([name, show]) => [name, ...services.map(([, each]) => show(each))]),
  )
}

/** Ceilings of one service, each a share that grows with the agents. @type {readonly (readonly [string, (each: Service) => number])[]} */
const CEILINGS = [
  [
    'mail waiting against `limit.store_bytes` as it is set by default',
    (each) => each.mailBytes / l('storeBytes'),
  ],
  ["PostgreSQL's default of connections", (each) => each.postgresConnections / l('postgresConnections')],
  ['one registry process (a core)', (each) => each.registryCores],
  ['a terabyte of disk for a registry', (each) => each.recordBytes / 1e12],
  ['what one PostgreSQL stores a second', (each) => each.storedShare],
  ['relays that know of each other', (each) => each.relays / (l('relays') + 1)],
  ['a million NATS deliveries a second', (each) => each.nats / 1e6],
  ['memory of a relay', (each) => each.bytes / l('relayMemory')],
  ['a core of each relay, whatever their number', (each) => each.core / a('busy') - 1e-9],
]

/** Agents at which a share comes to one. @param {(each: Service) => number} share */
function reachedAt(share) {
  let [low, high] = [1, 1e12]
  while (high / low > 1.01) {
    const middle = Math.sqrt(low * high)
    if (share(service(middle)) > 1) high = middle
    else low = middle
  }
  return high
}

/** By their names in docs/scaling.md. */
export function tables() {
  const found = CEILINGS.map(([name, share]) => /** @type {const} */ ([name, reachedAt(share)]))
  const ceilings = found.toSorted(([, one], [, other]) => one - other)
  return {
    measured: table(
      ['measured', 'value', 'by'],
      Object.values(MEASURED).map(([value, what, from]) => [
        what,
        value.toLocaleString('en-US'),
        `\`${from}\``,
      ]),
    ),
    assumed: table(
      ['assumed', 'value'],
      Object.values(ASSUMED).map(([value, what]) => [what, value.toLocaleString('en-US')]),
    ),
    'one and ten': compare([
      ['one relay, 40,000 agents', service(40_000, 1)],
      ['ten relays, 400,000 agents', service(400_000, 10)],
    ]),
    sizes: compare(
      [1e4, 1e5, 1e6, 1e7, 1e9].map(
        (agents) => /** @type {const} */ ([`${agents.toLocaleString('en-US')} agents`, service(agents)]),
      ),
    ),
    ceilings: table(
      ['what is used up', 'at so many agents'],
      ceilings.map(([name, agents]) => [name, short(agents)]),
    ),
  }
}

if (process.argv[1] !== undefined && import.meta.url === pathToFileURL(process.argv[1]).href) {
  for (const [name, lines] of Object.entries(tables())) console.log(`${name}\n\n${lines.join('\n')}\n`)
}

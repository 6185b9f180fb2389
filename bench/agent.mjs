/**
 * Two agents end to end, as applications use them: requests through the local API of one daemon, over a relay, to a program
 * that listens at the other, and the answer back. Relay, registry, daemons and listener are processes of their own on this
 * machine; times are wall-clock and the processes share its cores.
 * Run after a build: node bench/agent.mjs
 *
 * The bound beside each figure is what the path cannot do without, measured in the same run: for every message a
 * signature, its check, one sealing and one opening, and for every durable step one write that is forced to the disk
 * (sender's outbox, receiver's inbox, receiver's answer, sender's inbox; a new session adds the KNOCK, the ACCEPT and the
 * session on the sender's side). No JSON, no sockets, no processes, no key agreement.
 */
import { AgentClient } from '../packages/sdk/dist/index.js'
import { messageBound, syncBound, timed } from './lib/bounds.mjs'
import { machine, median, quantile } from './lib/measure.mjs'
import { Mesh } from './lib/mesh.mjs'

const ROUND_TRIPS = 400
const NEW_SESSIONS = 60
const PAIRS = 3_000
const OUTSTANDING = 48
const intent = { category: 'travel', subcategory: 'flights' }
const request = { intent, parameters: { text: 'x'.repeat(200) } }

/** Answers as they come in on one session, by the request they answer. */
class Answers {
  /** @type {Map<string, () => void>} */
  #waiting = new Map()
  /** @type {Set<string>} */
  #early = new Set()

  /** @param {AgentClient} client @param {string} sessionId @param {AbortSignal} signal */
  async read(client, sessionId, signal) {
    for await (const { direction, in_reply_to } of client.messages(sessionId, signal)) {
      if (direction !== 'in' || in_reply_to === undefined) continue
      const wake = this.#waiting.get(in_reply_to)
      if (wake === undefined) this.#early.add(in_reply_to)
      else wake()
      this.#waiting.delete(in_reply_to)
    }
  }

  /** @param {string} id */
  async to(id) {
    if (this.#early.delete(id)) return
    await new Promise((resolve) => this.#waiting.set(id, () => resolve(undefined)))
  }
}

/** @param {AgentClient} client @param {string} id */
async function answered(client, id) {
  for await (const event of client.progress(id)) {
    if (event.stage === 'failed') throw new Error(`${event.code}: ${event.message}`)
  }
}

/** @param {string} name @param {readonly number[]} times @param {number} bound */
function printLatency(name, times, bound) {
  const figure = (/** @type {number} */ value) => value.toFixed(2).padStart(8)
  const line = `p50${figure(median(times))} ms   p99${figure(quantile(times, 0.99))} ms   bound${figure(bound)} ms`
  console.log(`${name.padEnd(52)}${line}`)
}

const mesh = new Mesh()
try {
  const { config } = await mesh.servers()
  const [{ word: bob }] = await Promise.all([
    mesh.run('daemon', mesh.home('bob'), config),
    mesh.run('daemon', mesh.home('alice'), config),
  ])
  const alice = new AgentClient(mesh.home('alice'))
  const owner = new AgentClient(mesh.home('bob'))
  const rate_limit = { knocks_per_minute: 1_000_000, messages_per_minute: 1_000_000 }
  await owner.setPolicy({ ...(await owner.policy()), rate_limit, max_concurrent_sessions: 100_000 })
  await alice.setPolicy({ ...(await alice.policy()), rate_limit })
  await mesh.run('listener', mesh.home('bob'))

  const message = await messageBound()
  const sync = await syncBound(mesh.folder)
  console.log(machine())
  console.log(
    `a message signed, sealed, opened, checked ${message.toFixed(3)} ms; a page forced to disk ${sync.toFixed(3)} ms\n`,
  )

  const stream = { sessionType: /** @type {const} */ ('stream') }
  await answered(alice, await alice.send(bob.amid, request, stream))
  const [session] = await alice.sessions()
  if (session === undefined) throw new Error('no session')
  const answers = new Answers()
  const stop = new AbortController()
  const reading = answers.read(alice, session.session_id, stop.signal)
  const ask = async () => answers.to(await alice.send(bob.amid, request, stream))
  await timed(50, ask)
  printLatency('request and answer on an open session', await timed(ROUND_TRIPS, ask), 2 * message + 4 * sync)

  const knock = async () => answered(alice, await alice.send(bob.amid, request))
  await timed(5, knock)
  const knocked = await timed(NEW_SESSIONS, knock)
  printLatency('a new session each: KNOCK, request and answer', knocked, 4 * message + 7 * sync)

  let left = PAIRS
  const before = performance.now()
  await Promise.all(
    Array.from({ length: OUTSTANDING }, async () => {
      while (left-- > 0) await ask()
    }),
  )
  const seconds = (performance.now() - before) / 1000
  const figure = (/** @type {number} */ value) => Math.round(value).toString().padStart(8)
  const name = `durable messages, ${OUTSTANDING} requests outstanding`
  // Commits are shared by messages that come together, so only the cryptography bounds them, on one core.
  console.log(`${name.padEnd(52)}${figure((2 * PAIRS) / seconds)}/s   bound${figure(1000 / message)}/s`)
  stop.abort()
  await reading.catch(() => {})
} finally {
  await mesh.close()
}

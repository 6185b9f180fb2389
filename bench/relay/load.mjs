/**
 * The load generator, a process of its own on the core the servers do not use: `node load.mjs KIND HOST PORT[,PORT]`, where KIND is
 * relay-bin, relay-json, nats-ws, nats-tcp, forward or mqtt; with several ports neighbours are at different ones. It does what it is told over IPC, one command after the other, and
 * answers each with what it measured.
 */
import { quantile } from '../lib/measure.mjs'
import { ForwardPeer } from './forward-peer.mjs'
import { MqttPeer } from './mqtt-peer.mjs'
import { NatsPeer } from './nats-peer.mjs'
import { RelayPeer } from './relay-peer.mjs'

const [kind = '', host = '127.0.0.1', where = '0'] = process.argv.slice(2)
const ports = where.split(',').map(Number)
/** Sockets that may be opening from one address: the relay's own limit is 64. */
const OPENING = 32

/** @typedef {RelayPeer | NatsPeer | ForwardPeer | MqttPeer} Peer */
/** @type {Peer[]} */
let peers = []

/** @param {number} index @param {string} [localAddress] @param {Peer} [former] @returns {Peer} */
function newPeer(index, localAddress, former) {
  const port = ports[index % ports.length] ?? 0
  const options = { host, port, ...(localAddress === undefined ? {} : { localAddress }) }
  switch (kind) {
    case 'relay-bin':
    case 'relay-json': {
      const peer = new RelayPeer({ ...options, encoding: kind === 'relay-bin' ? 'bin' : 'json' })
      if (former instanceof RelayPeer) peer.identity = former.identity
      return peer
    }
    case 'nats-ws':
    case 'nats-tcp':
      return new NatsPeer({ ...options, encoding: kind === 'nats-ws' ? 'ws' : 'tcp' })
    case 'forward':
      return new ForwardPeer(options)
    default:
      return new MqttPeer({ ...options, ...(former === undefined ? {} : { name: former.name }) })
  }
}

/**
 * @template T
 * @param {readonly T[]} items @param {number} atOnce @param {(item: T) => Promise<void>} work
 */
async function inTurn(items, atOnce, work) {
  let next = 0
  const worker = async () => {
    while (next < items.length) await work(items[next++])
  }
  await Promise.all(Array.from({ length: atOnce }, worker))
}

const seconds = () => performance.now() / 1000

const COMMANDS = {
  /** Opens that many connections, from that many loopback addresses. */
  async open({ count, addresses = 1 }) {
    const began = seconds()
    const opened = Array.from({ length: count }, (_, index) => index)
    const first = peers.length
    await inTurn(opened, kind === 'forward' ? 1 : Math.min(count, OPENING * addresses), async (index) => {
      const peer = newPeer(index, addresses === 1 ? undefined : `127.0.0.${2 + (index % addresses)}`)
      await peer.open()
      peers[first + index] = peer
    })
    return { seconds: seconds() - began }
  },

  /** Pairs the connections; each answers every message with one of its own, `inFlight` of them on their way in each pair. */
  async pair({ size, inFlight }) {
    for (let index = 0; index < peers.length; index += 2) {
      const [left, right] = [peers[index], peers[index + 1]]
      if (left === undefined || right === undefined) throw new Error('an odd number of connections')
      for (const [peer, other] of [
        [left, right],
        [right, left],
      ]) {
        peer.prepare(other.name, size)
        peer.onProgress = () => {
          const { arrived } = peer
          peer.arrived = 0
          peer.answered = 0
          if (arrived === 0) return
          messages += arrived
          if (running) peer.send(other.name, arrived)
          else {
            peer.acknowledge()
            owed.set(peer, (owed.get(peer) ?? 0) + arrived)
          }
        }
      }
      owed.set(left, inFlight)
      sendTo.set(left, right.name)
      sendTo.set(right, left.name)
    }
    return {}
  },

  /** The pairs at work for a while. */
  async run({ milliseconds }) {
    messages = 0
    running = true
    const began = seconds()
    for (const [peer, count] of owed) peer.send(sendTo.get(peer) ?? '', count)
    owed.clear()
    await new Promise((resolve) => setTimeout(resolve, milliseconds))
    running = false
    const took = seconds() - began
    const counted = messages
    await quiet()
    return { messages: counted, seconds: took, all: messages, refused: refusals() }
  },

  /** One-way messages at a fixed rate, and how long each took. */
  async latency({ size, rate, milliseconds }) {
    /** @type {number[]} */
    const times = []
    for (const [index, peer] of peers.entries()) {
      const to = peers[index ^ 1]
      /** @type {number[]} */
      const sent = []
      started.set(peer, sent)
      peer.prepare(to?.name ?? '', size)
    }
    for (const [index, peer] of peers.entries()) {
      const sent = started.get(peers[index ^ 1]) ?? []
      peer.onProgress = () => {
        const now = performance.now()
        for (let left = peer.arrived; left > 0; left--) times.push(now - (sent.shift() ?? 0))
        if (peer.arrived > 0) peer.acknowledge()
        peer.arrived = 0
        peer.answered = 0
      }
    }
    const began = performance.now()
    const total = Math.floor((rate * milliseconds) / 1000)
    let done = 0
    await new Promise((resolve) => {
      const turn = () => {
        const now = performance.now()
        const due = Math.min(total, Math.floor(((now - began) * rate) / 1000))
        for (; done < due; done++) {
          const peer = peers[done % peers.length]
          const to = peers[(done % peers.length) ^ 1]
          if (peer === undefined || to === undefined) return
          started.get(peer)?.push(performance.now())
          peer.send(to.name, 1)
        }
        if (done < total) setImmediate(turn)
        else resolve(undefined)
      }
      turn()
    })
    const took = (performance.now() - began) / 1000
    while (times.length < total) await new Promise((resolve) => setTimeout(resolve, 5))
    return {
      messages: total,
      seconds: took,
      p50: quantile(times, 0.5),
      p99: quantile(times, 0.99),
      refused: refusals(),
    }
  },

  /** Receivers that are not there: their names, for `enqueue` and `drain`. */
  async receivers({ count }) {
    const numbers = Array.from({ length: count }, (_, index) => index)
    await inTurn(numbers, OPENING, async (index) => {
      const peer = newPeer(index)
      absent.push(peer)
      await peer.open()
      if (peer instanceof MqttPeer) await peer.subscribe()
      peer.close()
    })
    return {}
  },

  /** Every sender sends one message to every receiver, `inFlight` at once, until all are answered. */
  async enqueue({ size, inFlight }) {
    const names = absent.map((peer) => peer.name)
    for (const peer of peers) for (const name of names) peer.prepare(name, size)
    const began = seconds()
    await Promise.all(
      peers.map(
        async (peer, index) =>
          new Promise((resolve) => {
            // Senders begin at different receivers.
            const mine = names.map((_, step) => names[(index * 7 + step) % names.length])
            let sent = 0
            let answered = 0
            const sendMore = (/** @type {number} */ count) => {
              const to = mine.slice(sent, sent + count)
              sent += to.length
              if (to.length > 0) peer.sendAll(to, 1)
            }
            peer.onProgress = () => {
              const progress = peer.answered
              answered += progress
              peer.answered = 0
              if (peer.refused > 0) process.exit(1)
              if (answered >= mine.length) resolve(undefined)
              else sendMore(progress)
            }
            sendMore(inFlight)
          }),
      ),
    )
    return { messages: peers.length * names.length, seconds: seconds() - began }
  },

  /** The receivers come, and take and acknowledge what waits for them. */
  async drain({ each, atOnce }) {
    const began = seconds()
    await inTurn([...absent.entries()], atOnce, async ([index, former]) => {
      const peer = newPeer(index, undefined, former)
      let arrived = 0
      const all = new Promise((resolve) => {
        peer.onProgress = () => {
          arrived += peer.arrived
          peer.arrived = 0
          peer.acknowledge()
          if (arrived >= each) resolve(undefined)
        }
      })
      await peer.open()
      await all
      gone.push(peer)
    })
    const took = seconds() - began
    for (const peer of gone.splice(0)) peer.close()
    return { messages: absent.length * each, seconds: took }
  },

  async close() {
    for (const peer of peers) peer.close()
    peers = []
    return {}
  },
}

let running = false
let messages = 0
/** @type {Map<Peer, number>} */
const owed = new Map()
/** @type {Map<Peer, string>} */
const sendTo = new Map()
/** @type {Map<Peer | undefined, number[]>} */
const started = new Map()
/** @type {Peer[]} */
const absent = []
/** @type {Peer[]} */
const gone = []

/** Until nothing has come for a while. */
async function quiet() {
  let before = -1
  while (before !== messages) {
    before = messages
    await new Promise((resolve) => setTimeout(resolve, 50))
  }
}

function refusals() {
  return peers.reduce((sum, peer) => sum + peer.refused, 0)
}

process.on('message', (/** @type {{ do: keyof typeof COMMANDS }} */ command) => {
  COMMANDS[command.do](/** @type {never} */ (command)).then(
    (answer) => process.send?.(answer),
    (error) => {
      console.error(error)
      process.exit(1)
    },
  )
})
process.on('disconnect', () => process.exit())
process.send?.({ ready: true })

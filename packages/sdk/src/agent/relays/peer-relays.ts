/**
 * Where peers are reached: the home relay each one's registry record names (spec/relay.md 2).
 *
 *     (unknown) --asked for--> looking up --record--> known --(it may have moved)--> looking up
 *                                  |
 *                                  +--no record, no answer in time--> at our own home, until the registry knows
 *
 * Kept in memory: after a start a peer is looked up when there is something for it. A peer that does not confirm what it
 * is sent may have moved; it is looked up again, soon at first and then ever more rarely.
 */
import { normalRelayUrl, type Delay } from '../../transport/index.ts'
import { isAgentMeshError, type AgentRecord, type Amid } from '../../wire/index.ts'
import { background, isDue, type Core } from '../core.ts'

const MAX_PLACES = 10_000
const MAX_LOOKING = 8
/** What waits for a look-up goes by our own home after that. */
const PATIENCE_MS = 3_000
/** Of a place nobody doubts. */
const FRESH_MS = 3_600_000
const AFTER_FAILURE_MS = 30_000
/** Between two look-ups of a peer, longer each time it was where it was: found late by a third of the time at most. */
const DOUBT_MS = 5_000
const URGENT_MS = 1_000
const DOUBT_GROWTH = 1.3
const MAX_DOUBT_MS = 3_600_000

interface Place {
  /** In its normal form; undefined: no record says, so our own home is as good as any. */
  url: string | undefined
  /** Of the record. */
  sequence: number
  lookedUpAt: number
  /** Look-ups in a row that found what was known. */
  doubts: number
}

export interface PeerRelayEvents {
  /** What waited to know where this peer is need not wait any more. */
  onFound(peer: Amid): void
  /** The peer is elsewhere than it was: what it has not confirmed is to go there. */
  onMoved(peer: Amid): void
}

export class PeerRelays {
  readonly #core: Core
  readonly #delay: Delay
  readonly #events: PeerRelayEvents
  /** The one asked for last is at the end. */
  readonly #places = new Map<Amid, Place>()
  readonly #looking = new Set<Amid>()
  readonly #queue = new Set<Amid>()
  /** What is sent to them waits to know where; with what cancels the timer. */
  readonly #waiting = new Map<Amid, () => void>()

  constructor(core: Core, delay: Delay, events: PeerRelayEvents) {
    this.#core = core
    this.#delay = delay
    this.#events = events
  }

  /** Where a peer is: a relay, `home` when nothing says, or undefined while that is being found out. */
  at(peer: Amid): string | undefined {
    const place = this.#places.get(peer)
    if (place === undefined) {
      this.#wait(peer)
      this.#lookUp(peer)
      return undefined
    }
    this.#places.delete(peer)
    this.#places.set(peer, place)
    const patience = place.url === undefined ? AFTER_FAILURE_MS : FRESH_MS
    if (isDue(place.lookedUpAt + patience, patience, this.#core.now())) this.#lookUp(peer)
    return place.url ?? 'home'
  }

  /** A record was looked up for another reason. Its signature was checked. */
  note({ amid, sequence, relay_endpoint: endpoint }: AgentRecord): void {
    this.#set(amid, normalRelayUrl(endpoint), sequence)
  }

  /**
   * The peer does not confirm what it was sent, or (`urgent`) its relay cannot be reached: it may have moved.
   */
  doubt(peer: Amid, urgent = false): void {
    const place = this.#places.get(peer)
    if (place === undefined) return
    const wait = Math.min((urgent ? URGENT_MS : DOUBT_MS) * DOUBT_GROWTH ** place.doubts, MAX_DOUBT_MS)
    if (isDue(place.lookedUpAt + wait, wait, this.#core.now())) this.#lookUp(peer)
  }

  /** The peer is there and talks: worth looking for soon. */
  heard(peer: Amid): void {
    const place = this.#places.get(peer)
    if (place) place.doubts = 0
  }

  forget(peer: Amid): void {
    this.#places.delete(peer)
  }

  /** However many are looked up, and however long the registry takes. */
  #wait(peer: Amid): void {
    if (this.#waiting.has(peer)) return
    this.#waiting.set(
      peer,
      this.#delay(PATIENCE_MS, () => this.#notFound(peer)),
    )
  }

  stop(): void {
    for (const cancel of this.#waiting.values()) cancel()
    this.#waiting.clear()
    this.#queue.clear()
  }

  #lookUp(peer: Amid): void {
    if (this.#looking.has(peer)) return
    if (this.#looking.size >= MAX_LOOKING) {
      this.#queue.add(peer)
      return
    }
    this.#queue.delete(peer)
    this.#looking.add(peer)
    const found = this.#find(peer).finally(() => {
      this.#looking.delete(peer)
      const [next] = this.#queue
      if (next !== undefined) this.#lookUp(next)
    })
    background(this.#core, 'look up a relay', found)
  }

  async #find(peer: Amid): Promise<void> {
    try {
      this.note((await this.#core.registries.find(peer)).record)
    } catch (error) {
      // Whatever the registry cannot say, the peer was in reach a moment ago, or is where we are.
      if (!isAgentMeshError(error)) throw error
      this.#notFound(peer)
    }
  }

  #notFound(peer: Amid): void {
    const place = this.#places.get(peer)
    const now = this.#core.now()
    if (place) {
      place.lookedUpAt = now
      place.doubts += 1
      return
    }
    this.#put(peer, { url: undefined, sequence: 0, lookedUpAt: now, doubts: 0 })
    this.#events.onFound(peer)
  }

  #set(peer: Amid, url: string, sequence: number): void {
    const place = this.#places.get(peer)
    const lookedUpAt = this.#core.now()
    const newest = Math.max(
      place?.sequence ?? 0,
      this.#core.store.tables.contacts.get(peer)?.recordSequence ?? 0,
    )
    // A registry that answers with something older is replaying the past.
    if (sequence < newest) return this.#notFound(peer)
    if (place?.url === url) {
      place.lookedUpAt = lookedUpAt
      place.sequence = sequence
      place.doubts += 1
      return
    }
    this.#put(peer, { url, sequence, lookedUpAt, doubts: 0 })
    if (place === undefined) this.#events.onFound(peer)
    else this.#events.onMoved(peer)
  }

  #put(peer: Amid, place: Place): void {
    this.#waiting.get(peer)?.()
    this.#waiting.delete(peer)
    this.#places.set(peer, place)
    const [oldest] = this.#places.keys()
    if (this.#places.size > MAX_PLACES && oldest !== undefined) this.#places.delete(oldest)
  }
}

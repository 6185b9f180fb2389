/**
 * The RECEIVEs a connection has not acknowledged yet, numbered from 1. Bounded by its user, who asks `hasRoom` first.
 *
 * A message that is also in the mailbox is only remembered here; of the others this is the only copy until the receiver
 * acknowledges or the connection ends.
 */
import type { Amid } from '@agentmesh/sdk/wire'
import type { InFlight, MessageInPlace } from './in-place/message-in-place.ts'

/** Places of acknowledged entries that may lie before the first one. */
const MAX_GAP = 32

export class DeliveryWindow<Sender> {
  /** Oldest first, from `#first` on; what was acknowledged before it is cut off now and then. */
  #entries: (InFlight<Sender> | undefined)[] = []
  #first = 0
  /** Of each hash, the entries chained by `next`. Absent until it is needed: most connections wait. */
  #byId: Map<number, InFlight<Sender>> | undefined
  #sent = 0
  #bytes = 0

  get count(): number {
    return this.#entries.length - this.#first
  }
  get bytes(): number {
    return this.#bytes
  }

  hasRoom(maxMessages: number, maxBytes: number): boolean {
    return this.count < maxMessages && this.#bytes < maxBytes
  }

  find(from: Amid, message: MessageInPlace): InFlight<Sender> | undefined {
    let entry = this.#byId?.get(hash(message))
    while (entry !== undefined && !(entry.hasIdOf(message) && entry.from === from)) entry = entry.next
    return entry
  }

  /** Gives it the sequence number of its RECEIVE. */
  add(entry: InFlight<Sender>): void {
    this.#sent += 1
    entry.sequence = this.#sent
    this.#entries.push(entry)
    this.#byId ??= new Map()
    const key = hash(entry)
    entry.next = this.#byId.get(key)
    this.#byId.set(key, entry)
    this.#bytes += entry.size
  }

  /** The highest number that was given. */
  get sent(): number {
    return this.#sent
  }

  /** Takes out the oldest one, when its number is at most `sequence`: called until there is none, it acknowledges. */
  takeUpTo(sequence: number): InFlight<Sender> | undefined {
    const entry = this.#entries[this.#first]
    if (entry === undefined || entry.sequence > sequence) return undefined
    this.#entries[this.#first] = undefined
    this.#first += 1
    this.#bytes -= entry.size
    this.#forget(entry)
    if (this.#first === this.#entries.length) {
      this.#entries.length = 0
      this.#first = 0
    } else if (this.#first > MAX_GAP && this.#first > this.count) {
      this.#entries = this.#entries.slice(this.#first)
      this.#first = 0
    }
    return entry
  }

  #forget(entry: InFlight<Sender>): void {
    const key = hash(entry)
    const newest = this.#byId?.get(key)
    if (newest === entry) {
      if (entry.next === undefined) this.#byId?.delete(key)
      else this.#byId?.set(key, entry.next)
      return
    }
    let before = newest
    while (before !== undefined && before.next !== entry) before = before.next
    if (before !== undefined) before.next = entry.next
  }

  /** What is unacknowledged, oldest first. */
  entries(): readonly InFlight<Sender>[] {
    return this.#entries.slice(this.#first) as InFlight<Sender>[]
  }
}

/** A sender may choose ids that collide: that makes only its own messages slower, and a window is bounded. */
function hash({ idA, idB, idC, idD }: MessageInPlace): number {
  return idA ^ idB ^ idC ^ idD
}

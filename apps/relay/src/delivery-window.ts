/**
 * The RECEIVEs a connection has not acknowledged yet, numbered from 1. Bounded by its user, who asks `hasRoom` first.
 *
 * A message that is also in the mailbox is only remembered here; of the others this is the only copy until the receiver
 * acknowledges or the connection ends.
 */
import type { Amid } from '@agentmesh/sdk/wire'
import type { InFlight, MessageInPlace } from './in-place/message-in-place.ts'

/** Lists that the unacknowledged are spread over, to be found by id: so many at first, and so many times more when they get long. */
const FIRST_LISTS = 8
const LIST_GROWTH = 8
const LIST_LENGTH = 4

const NONE: never[] = []

export class DeliveryWindow<Sender> {
  #oldest: InFlight<Sender> | undefined
  #newest: InFlight<Sender> | undefined
  #count = 0
  /** By hash, the newest entry, from which `next` leads to older ones. Empty until it is needed: most connections wait. */
  #byId: (InFlight<Sender> | undefined)[] = NONE
  #sent = 0
  #bytes = 0

  get count(): number {
    return this.#count
  }
  get bytes(): number {
    return this.#bytes
  }

  hasRoom(maxMessages: number, maxBytes: number): boolean {
    return this.#count < maxMessages && this.#bytes < maxBytes
  }

  find(from: Amid, message: MessageInPlace): InFlight<Sender> | undefined {
    let entry = this.#byId[this.#listOf(message)]
    while (entry !== undefined && !(entry.hasIdOf(message) && entry.from === from)) entry = entry.next
    return entry
  }

  /** Gives it the sequence number of its RECEIVE. */
  add(entry: InFlight<Sender>): void {
    this.#sent += 1
    entry.sequence = this.#sent
    if (this.#newest === undefined) this.#oldest = entry
    else this.#newest.newer = entry
    this.#newest = entry
    this.#count += 1
    if (this.#count > LIST_LENGTH * this.#byId.length) this.#addLists()
    else this.#addToList(entry)
    this.#bytes += entry.size
  }

  #addLists(): void {
    const lists = Math.max(FIRST_LISTS, LIST_GROWTH * this.#byId.length)
    this.#byId = Array.from({ length: lists })
    for (let entry = this.#oldest; entry !== undefined; entry = entry.newer) this.#addToList(entry)
  }

  #addToList(entry: InFlight<Sender>): void {
    const list = this.#listOf(entry)
    entry.next = this.#byId[list]
    this.#byId[list] = entry
  }

  /** A sender may choose ids that collide: a window is bounded, and so is what it costs to go through all of it. */
  #listOf({ idA, idB, idC, idD }: MessageInPlace): number {
    const mixed = idA ^ idB ^ idC ^ idD
    return (mixed ^ (mixed >>> 16)) & (this.#byId.length - 1)
  }

  /** The highest number that was given. */
  get sent(): number {
    return this.#sent
  }

  /** Takes out the oldest one, when its number is at most `sequence`: called until there is none, it acknowledges. */
  takeUpTo(sequence: number): InFlight<Sender> | undefined {
    const entry = this.#oldest
    if (entry === undefined || entry.sequence > sequence) return undefined
    this.#oldest = entry.newer
    if (entry.newer === undefined) this.#newest = undefined
    // Or it would keep the newer ones in memory.
    entry.newer = undefined
    this.#count -= 1
    this.#bytes -= entry.size
    this.#forget(entry)
    return entry
  }

  #forget(entry: InFlight<Sender>): void {
    const key = this.#listOf(entry)
    let newer = this.#byId[key]
    if (newer === entry) {
      this.#byId[key] = entry.next
      return
    }
    while (newer !== undefined && newer.next !== entry) newer = newer.next
    if (newer !== undefined) newer.next = entry.next
  }

  /** What is unacknowledged, oldest first. */
  entries(): readonly InFlight<Sender>[] {
    const all: InFlight<Sender>[] = []
    for (let entry = this.#oldest; entry !== undefined; entry = entry.newer) all.push(entry)
    return all
  }
}

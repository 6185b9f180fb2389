/**
 * What lies in a peer's mailbox though nobody will confirm it, and without which what comes after is of no use: a receipt
 * (the next message would wait behind a gap) and an ACCEPT (no session begins). It is kept, lest the peer moves to another
 * relay and leaves it there, until something that was sent after it is confirmed: mailboxes keep the order of a pair.
 */
import type { Amid, MessageId, MessageType } from '../wire/index.ts'
import type { PacketRow } from './tables.ts'

const KEPT: ReadonlySet<MessageType> = new Set(['accept', 'message'])
/** Of one peer, the last ones. */
const MAX_OF_PEER = 64

interface Stored {
  readonly id: MessageId
  readonly order: number
  readonly expiresAt: number
}

export class StoredPackets {
  /** By peer, in order. */
  readonly #stored = new Map<Amid, Stored[]>()
  readonly #ids = new Set<MessageId>()
  readonly #onDone: (id: MessageId) => void

  /** @param onDone takes what need not be kept any more */
  constructor(onDone: (id: MessageId) => void) {
    this.#onDone = onDone
  }

  get size(): number {
    return this.#ids.size
  }

  has(id: MessageId): boolean {
    return this.#ids.has(id)
  }

  /** A relay has it in a mailbox. */
  add({ id, to, type, order, expiresAt }: PacketRow): void {
    if (!KEPT.has(type)) return this.#onDone(id)
    const all = this.#stored.get(to) ?? []
    this.#stored.set(to, [...all, { id, order, expiresAt }])
    this.#ids.add(id)
    const [first] = all
    if (all.length >= MAX_OF_PEER) this.#drop(to, (stored) => stored === first)
  }

  /** The peer has what was sent to it after these. */
  confirmed(peer: Amid, order: number): void {
    this.#drop(peer, (stored) => stored.order < order)
  }

  expire(now: number): void {
    for (const peer of this.#stored.keys()) this.#drop(peer, ({ expiresAt }) => expiresAt <= now)
  }

  /** What is to be sent again, since the peer is elsewhere. */
  take(peer: Amid): MessageId[] {
    const ids = (this.#stored.get(peer) ?? []).map(({ id }) => id)
    for (const id of ids) this.#ids.delete(id)
    this.#stored.delete(peer)
    return ids
  }

  #drop(peer: Amid, which: (stored: Stored) => boolean): void {
    const all = this.#stored.get(peer)
    if (all === undefined) return
    const left: Stored[] = []
    for (const stored of all) {
      if (!which(stored)) {
        left.push(stored)
        continue
      }
      this.#ids.delete(stored.id)
      this.#onDone(stored.id)
    }
    if (left.length > 0) this.#stored.set(peer, left)
    else this.#stored.delete(peer)
  }
}

/**
 * Packets on their way to a relay.
 *
 *   put (in a commit) -> waiting -> in flight -> [relay: delivered | stored] -> gone, or relayed until the peer's receipt
 *                           ^                                                              |
 *                           +---- refused for now, disconnected, no receipt in time, restart ----+
 *
 * Packets of a peer go out in the order they were put; ratchet and relay keep that order, and the receiver's duplicate
 * filter takes a packet sent twice once. A RESET waits until a relay has what was said before it, and has it again where
 * that is not confirmed. That a relay has a packet is therefore remembered in memory only: after a crash
 * it goes out once more. Each peer has a queue, since each may be reached at another relay: one that is slow or away holds
 * up nobody else. A peer that moves gets what it has not confirmed once more, where it is then. DESIGN §6 and §7.
 */
import {
  formatTimestamp,
  isAgentMeshError,
  newMessageId,
  type Amid,
  type ErrorCode,
  type MessageId,
  type MessageType,
} from '../wire/index.ts'
import { audit, background, commit, isDue, noteProgress, type Core } from './core.ts'
import { putOutgoing } from './outgoing-rows.ts'
import type { Route, Routes } from './relays/routes.ts'
import { StoredPackets } from './stored-packets.ts'
import type { PacketRow } from './tables.ts'

/** First wait for a peer's receipt before a packet is sent again; doubles each time. */
const RESEND_AFTER_MS = 15_000
const MAX_RESEND_AFTER_MS = 3_600_000
const REFUSED_RETRY_MS = 5_000
/** Times a KNOCK is sent again: the relay that had it may have lost it, and the peer may be elsewhere. */
const MAX_KNOCK_ATTEMPTS = 12
/** Times a CLOSE is sent again to who does not confirm it: then a relay's word is enough. */
const MAX_CLOSE_ATTEMPTS = 12
/**
 * What nobody confirms (an answer to a KNOCK, a RESET) waits so long for a relay that a stranger named; asked for again, it
 * is made again.
 */
const STRANGER_PATIENCE_MS = 600_000
/** The peer was expected to confirm within that: it may be elsewhere. */
const DOUBT_AFTER_MS = 5_000

/** Refusals that time heals; any other ends the message. */
const TEMPORARY: ReadonlySet<ErrorCode> = new Set([
  'MAILBOX_FULL',
  'SENDER_QUOTA',
  'RATE_LIMITED',
  'RELAY_SHUTTING_DOWN',
  'RELAY_STORE_FAILED',
])

/** Those that end when the receiver empties its mailbox. */
const MAILBOX: ReadonlySet<ErrorCode> = new Set(['MAILBOX_FULL', 'SENDER_QUOTA'])

export interface NewPacket {
  id?: MessageId
  to: Amid
  type: MessageType
  packet: Uint8Array
  awaitsReceipt: boolean
  expiresAt: number
  /** Packets to the same peer which this one is not to overtake. */
  behind?: MessageId[]
}

interface Queued {
  readonly id: MessageId
  readonly order: number
  readonly awaitsReceipt: boolean
  /** When it was queued, milliseconds since the epoch. */
  readonly since: number
  readonly expiresAt: number
}

/** What a relay has and the peer has not confirmed. */
interface Relayed {
  readonly to: Amid
  readonly at: number
  readonly attempts: number
  readonly order: number
  /** By which relay. */
  readonly url: string
}

export class Outbox {
  readonly #core: Core
  /** In order, by peer; rows are read when they are sent. */
  readonly #queues = new Map<Amid, Queued[]>()
  readonly #inFlight = new Map<MessageId, string>()
  /** Number of packets in flight on a route, by its URL. */
  readonly #load = new Map<string, number>()
  /** Peers whose packets wait for room on a route, by its URL. */
  readonly #full = new Map<string, Set<Amid>>()
  /** Refused for now, with the timer that tries them again. */
  readonly #held = new Map<MessageId, { to: Amid; full: boolean; timer: NodeJS.Timeout }>()
  readonly #relayed = new Map<MessageId, Relayed>()
  /** Of those, what is queued to be sent again. */
  readonly #again = new Set<MessageId>()
  /** What waits for others to be with a relay before it. */
  readonly #waiting = new Map<MessageId, PacketRow>()
  /** What nobody waits for any more: deleted with the next commit that puts something. */
  #finished: MessageId[] = []
  readonly #stored = new StoredPackets((id) => this.#finished.push(id))
  #lastOrder = 0
  #routes: Routes | undefined

  constructor(core: Core) {
    this.#core = core
  }

  /** Routes tell of connections that are ready, so the two are joined after both exist. */
  join(routes: Routes): void {
    this.#routes = routes
  }

  /** Stores a packet; call within a commit and `send` after it. */
  put(packet: NewPacket, afterCommit: (() => void)[]): MessageId {
    // Strictly increasing, also within a millisecond and after a clock that jumped back.
    this.#lastOrder = Math.max(this.#lastOrder + 1, this.#core.now() * 1000)
    const row: PacketRow = {
      ...packet,
      id: packet.id ?? newMessageId(this.#core.random),
      order: this.#lastOrder,
    }
    const { packets } = this.#core.store.tables
    this.#deleteFinished(afterCommit)
    packets.put(row.id, row, { a: row.to, at: row.order })
    afterCommit.push(() => {
      this.#repeatNow(row.behind ?? [])
      this.#enqueue(row)
    })
    return row.id
  }

  /** What a relay took and the peer did not confirm goes out again: the relay may have lost it. */
  #repeatNow(ids: readonly MessageId[]): void {
    for (const id of ids) {
      const row = this.#relayed.has(id) ? this.#core.store.tables.packets.get(id) : undefined
      if (!row || this.#again.has(id) || this.#inFlight.has(id)) continue
      this.#again.add(id)
      this.#queue(row)
    }
  }

  /** Whether something that is to arrive before this packet is not yet with a relay. */
  #isHeldBack({ behind = [] }: PacketRow): boolean {
    return behind.some((id) => {
      const isThere = this.#relayed.has(id) && !this.#again.has(id) && !this.#inFlight.has(id)
      return !isThere && !this.#finished.includes(id) && this.#core.store.tables.packets.get(id) !== undefined
    })
  }

  /** Something of a peer's queue got on, or is gone: what waited for it may have its turn. */
  #reviewWaiting(): void {
    for (const [id, row] of this.#waiting) {
      if (this.#isHeldBack(row)) continue
      this.#waiting.delete(id)
      this.#enqueue(row)
    }
  }

  #deleteFinished(afterCommit: (() => void)[]): void {
    const done = new Set(this.#finished)
    if (done.size === 0) return
    for (const id of done) this.#core.store.tables.packets.delete(id)
    afterCommit.push(() => {
      this.#finished = this.#finished.filter((id) => !done.has(id))
    })
  }

  /** The peer has it: nothing to resend. Call within a commit. */
  remove(id: MessageId): void {
    this.#core.store.tables.packets.delete(id)
    const relayed = this.#relayed.get(id)
    if (relayed === undefined) return
    this.#relayed.delete(id)
    this.#stored.confirmed(relayed.to, relayed.order)
  }

  #enqueue(row: PacketRow): void {
    this.#queue(row)
    this.#pump(row.to)
  }

  #queue(row: PacketRow): void {
    const queue = this.#queues.get(row.to)
    if (queue) queue.push(this.#queued(row))
    else this.#queues.set(row.to, [this.#queued(row)])
  }

  #queued({ id, order, awaitsReceipt, expiresAt }: PacketRow): Queued {
    return { id, order, awaitsReceipt, since: this.#core.now(), expiresAt }
  }

  /** Our home is connected: everything without an answer goes out again, in order. */
  connected(): void {
    this.#release(() => true)
    this.reload()
  }

  /** A connection came up, or where a peer is became known. */
  ready(): void {
    for (const peer of this.#queues.keys()) this.#pump(peer)
  }

  /** A relay cannot be reached: who is reached there may have moved. */
  failed(url: string): void {
    const peers = new Set(
      [...this.#relayed.values()].filter((known) => known.url === url).map(({ to }) => to),
    )
    for (const peer of this.#queues.keys()) if (this.#routes?.isAt(peer, url) === true) peers.add(peer)
    for (const peer of peers) this.#routes?.doubt(peer, true)
  }

  /** The peer is reached elsewhere: what it has not confirmed goes there. */
  moved(peer: Amid): void {
    this.#release(({ to }) => to === peer)
    for (const id of this.#stored.take(peer)) {
      const row = this.#core.store.tables.packets.get(id)
      if (row) this.#queue(row)
    }
    for (const [id, relayed] of this.#relayed) {
      // That it moved says nothing of how often it was sent to where it is.
      if (relayed.to === peer)
        this.#relayed.set(id, { ...relayed, at: Number.NEGATIVE_INFINITY, attempts: 0 })
    }
    this.#resendDue()
    this.#queues.get(peer)?.sort((left, right) => left.order - right.order)
    this.ready()
  }

  /** The peer empties its mailbox: what found no room there goes out again. */
  heard(from: Amid): void {
    this.#routes?.heard(from)
    if (this.#release(({ to, full }) => full && to === from)) this.reload()
  }

  #release(which: (held: { to: Amid; full: boolean }) => boolean): boolean {
    const released = [...this.#held].filter(([, held]) => which(held))
    for (const [id, { timer }] of released) {
      clearTimeout(timer)
      this.#held.delete(id)
    }
    return released.length > 0
  }

  /** Reads the waiting packets back from the store and sends. */
  reload(): void {
    const rows = this.#core.store.tables.packets.list()
    this.#lastOrder = Math.max(this.#lastOrder, rows.at(-1)?.value.order ?? 0)
    const finished = new Set(this.#finished)
    this.#queues.clear()
    this.#again.clear()
    this.#waiting.clear()
    for (const { value: row } of rows) {
      const { id } = row
      const taken = this.#relayed.has(id) || this.#stored.has(id) || finished.has(id)
      if (!taken && !this.#inFlight.has(id) && !this.#held.has(id)) this.#queue(row)
    }
    this.ready()
  }

  /** Sends what waits for a peer, as far as there is a way and room on it. */
  #pump(peer: Amid): void {
    const queue = this.#queues.get(peer)
    const route = queue && this.#routes?.to(peer)
    if (route === undefined) return
    for (let next = queue?.[0]; next !== undefined; next = queue?.[0]) {
      if ((this.#load.get(route.url) ?? 0) >= route.room) {
        const waiting = this.#full.get(route.url) ?? new Set()
        this.#full.set(route.url, waiting.add(peer))
        return
      }
      queue?.shift()
      const { id } = next
      this.#again.delete(id)
      const row = this.#core.store.tables.packets.get(id)
      if (!row || this.#inFlight.has(id)) continue
      if (row.expiresAt <= this.#core.now()) this.#finished.push(id)
      else if (this.#isHeldBack(row)) this.#waiting.set(id, row)
      else background(this.#core, 'send a packet', this.#send(route, row))
    }
    if (this.#queues.get(peer) === queue) this.#queues.delete(peer)
  }

  async #send(route: Route, row: PacketRow): Promise<void> {
    const { url } = route
    this.#inFlight.set(row.id, url)
    this.#load.set(url, (this.#load.get(url) ?? 0) + 1)
    try {
      const result = await route.send({ id: row.id, to: row.to, type: row.type, payload: row.packet })
      if (result.status === 'refused') {
        await this.#refused(row, result.code ?? 'MALFORMED', result.retryAfterSeconds)
      } else {
        await this.#taken(row, result.status, url)
      }
    } catch (error) {
      // The connection ended before an answer, or our store failed: it goes out again when a connection is ready.
      if (!isAgentMeshError(error)) throw error
      if (!this.#relayed.has(row.id)) this.#unsent(row)
    } finally {
      this.#inFlight.delete(row.id)
      this.#unload(url)
      this.#reviewWaiting()
    }
  }

  /** Before what was put after it. */
  #unsent(row: PacketRow): void {
    const queue = this.#queues.get(row.to) ?? []
    const later = queue.findIndex(({ order }) => order > row.order)
    queue.splice(later < 0 ? queue.length : later, 0, this.#queued(row))
    this.#queues.set(row.to, queue)
  }

  /** The next peer whose packets wait for this route has its turn. */
  #unload(url: string): void {
    const left = (this.#load.get(url) ?? 1) - 1
    if (left > 0) this.#load.set(url, left)
    else this.#load.delete(url)
    const waiting = this.#full.get(url)
    if (waiting === undefined) return
    const [peer] = waiting
    if (peer !== undefined) waiting.delete(peer)
    if (waiting.size === 0) this.#full.delete(url)
    if (peer !== undefined) this.#pump(peer)
  }

  async #taken(row: PacketRow, status: 'delivered' | 'stored', url: string): Promise<void> {
    const { id, to } = row
    if (row.awaitsReceipt) {
      const attempts = (this.#relayed.get(id)?.attempts ?? 0) + 1
      this.#relayed.set(id, { to, at: this.#core.now(), attempts, order: row.order, url })
    } else if (status === 'stored') {
      this.#stored.add(row)
    } else {
      this.#finished.push(id)
    }
    if (status === 'delivered') {
      const at = formatTimestamp(this.#core.now())
      this.#core.events.emit('progress', id, { stage: 'sent', at })
      return
    }
    // Not there at the moment, or not there any more.
    this.#routes?.doubt(to)
    await commit(this.#core, (afterCommit) => {
      if (row.type === 'knock') this.#knockStored(row.to, afterCommit)
      const message = this.#core.store.tables.outgoing.get(id)
      if (!message || message.receipts.stored !== undefined) return
      const receipts = { ...message.receipts, stored: this.#core.now() }
      const noted = noteProgress(this.#core, { ...message, receipts }, { stage: 'stored' }, afterCommit)
      putOutgoing(this.#core, noted)
    })
  }

  /** The peer is away: its mailbox has the KNOCK, and with it all that waits for the session. */
  #knockStored(to: Amid, afterCommit: (() => void)[]): void {
    const { outgoing } = this.#core.store.tables
    for (const { value: row } of outgoing.list({ b: 'queued' })) {
      if (row.to !== to || row.progress.at(-1)?.stage !== 'knocked') continue
      const noted = noteProgress(this.#core, row, { stage: 'stored' }, afterCommit)
      putOutgoing(this.#core, noted)
    }
  }

  async #refused(row: PacketRow, code: ErrorCode, retryAfterSeconds: number | undefined): Promise<void> {
    if (TEMPORARY.has(code)) {
      const asked = retryAfterSeconds === undefined ? REFUSED_RETRY_MS : retryAfterSeconds * 1000
      // A timer that is set too far ahead fires at once.
      const delay = Math.min(asked, MAX_RESEND_AFTER_MS)
      const timer = setTimeout(() => {
        this.#held.delete(row.id)
        this.#enqueue(row)
      }, delay).unref()
      this.#held.set(row.id, { to: row.to, full: MAILBOX.has(code), timer })
      return
    }
    const { tables } = this.#core.store
    await commit(this.#core, (afterCommit) => {
      tables.packets.delete(row.id)
      const message = tables.outgoing.get(row.id)
      if (!message) return
      const failed = noteProgress(
        this.#core,
        { ...message, state: 'failed' },
        { stage: 'failed', code, message: `The relay refused the message: ${code}` },
        afterCommit,
      )
      putOutgoing(this.#core, failed)
    })
    audit(this.#core, { event: 'message_refused', to: row.to, code })
  }

  /** Sends again what the peer did not confirm in time; drops what nobody waits for any more. */
  async maintain(): Promise<void> {
    const now = this.#core.now()
    this.#resendDue()
    this.#reviewWaiting()
    const unsure = [...this.#relayed.values()].filter(({ at }) =>
      isDue(at + DOUBT_AFTER_MS, DOUBT_AFTER_MS, now),
    )
    for (const peer of new Set(unsure.map(({ to }) => to))) this.#routes?.doubt(peer)
    for (const [peer, queue] of this.#queues) this.#dropStale(peer, queue, now)
    this.#stored.expire(now)
    if (this.#finished.length > 0)
      await commit(this.#core, (afterCommit) => this.#deleteFinished(afterCommit))
    this.ready()
  }

  #resendDue(): void {
    const now = this.#core.now()
    for (const [id, { at, attempts }] of this.#relayed) {
      const wait = Math.min(RESEND_AFTER_MS * 2 ** (attempts - 1), MAX_RESEND_AFTER_MS)
      if (this.#again.has(id) || this.#inFlight.has(id) || !isDue(at + wait, wait, now)) continue
      const row = this.#core.store.tables.packets.get(id)
      if (!row || row.expiresAt <= now) {
        this.#relayed.delete(id)
        this.#finished.push(id)
      } else if (row.type === 'close' && attempts >= MAX_CLOSE_ATTEMPTS) {
        this.#relayed.delete(id)
        this.#finished.push(id)
      } else if (row.type !== 'knock' || attempts < MAX_KNOCK_ATTEMPTS) {
        this.#again.add(id)
        this.#queue(row)
      }
    }
  }

  #dropStale(peer: Amid, queue: Queued[], now: number): void {
    const foreign = this.#routes?.isForeign(peer) === true
    const stale = ({ awaitsReceipt, since, expiresAt }: Queued): boolean =>
      expiresAt <= now || (foreign && !awaitsReceipt && since + STRANGER_PATIENCE_MS <= now)
    if (!queue.some(stale)) return
    this.#finished.push(...queue.filter(stale).map(({ id }) => id))
    this.#queues.set(
      peer,
      queue.filter((queued) => !stale(queued)),
    )
  }

  /** Packets no relay has taken yet, and those the peer has not confirmed. */
  counts(): { waiting: number; relayed: number } {
    const relayed = this.#relayed.size
    const total = this.#core.store.tables.packets.count() - this.#finished.length - this.#stored.size
    return { waiting: Math.max(0, total - relayed), relayed }
  }
}

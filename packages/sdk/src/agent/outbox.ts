/**
 * Packets on their way to a relay.
 *
 *   put (in a commit) -> waiting -> in flight -> [relay: delivered | stored] -> gone, or relayed until the peer's receipt
 *                           ^                                                              |
 *                           +---- refused for now, disconnected, no receipt in time, restart ----+
 *
 * Packets go out in the order they were put; ratchet and relay keep that order a peer, and the receiver's duplicate
 * filter takes a packet sent twice once. That a relay has a packet is therefore remembered in memory only: after a crash
 * it goes out once more. DESIGN §6 and §7.
 */
import type { RelayConnection } from '../transport/index.ts'
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
import type { PacketRow } from './tables.ts'

/** Packets handed to the relay and not yet answered, at most: bounds memory, keeps the pipe full. */
const MAX_IN_FLIGHT = 64
/** First wait for a peer's receipt before a packet is sent again; doubles each time. */
const RESEND_AFTER_MS = 60_000
const MAX_RESEND_AFTER_MS = 3_600_000
const REFUSED_RETRY_MS = 5_000

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
}

export class Outbox {
  readonly #core: Core
  /** Ids in order; rows are read when they are sent. */
  #waiting: MessageId[] = []
  readonly #inFlight = new Set<MessageId>()
  /** Refused for now, with the timer that tries them again. */
  readonly #held = new Map<MessageId, { to: Amid; full: boolean; timer: NodeJS.Timeout }>()
  /** What a relay has and the peer has not confirmed. */
  readonly #relayed = new Map<MessageId, { at: number; attempts: number }>()
  /** What nobody waits for any more: deleted with the next commit that puts something. */
  #finished: MessageId[] = []
  #lastOrder = 0
  #relay: RelayConnection | undefined

  constructor(core: Core) {
    this.#core = core
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
    afterCommit.push(() => this.#enqueue(row.id))
    return row.id
  }

  #deleteFinished(afterCommit: (() => void)[]): void {
    const done = this.#finished
    if (done.length === 0) return
    for (const id of done) this.#core.store.tables.packets.delete(id)
    afterCommit.push(() => {
      this.#finished = this.#finished.slice(done.length)
    })
  }

  /** The peer has it: nothing to resend. Call within a commit. */
  remove(id: MessageId): void {
    this.#core.store.tables.packets.delete(id)
    this.#relayed.delete(id)
  }

  #enqueue(id: MessageId): void {
    this.#waiting.push(id)
    this.#pump()
  }

  /** The relay connection is up: everything without an answer goes out again, in order. */
  connected(relay: RelayConnection): void {
    this.#relay = relay
    this.#release(() => true)
    this.reload()
  }

  /** The peer empties its mailbox: what found no room there goes out again. */
  heard(from: Amid): void {
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

  disconnected(): void {
    this.#relay = undefined
  }

  /** Reads the waiting packets back from the store and sends. */
  reload(): void {
    const rows = this.#core.store.tables.packets.list()
    this.#lastOrder = Math.max(this.#lastOrder, rows.at(-1)?.value.order ?? 0)
    const finished = new Set(this.#finished)
    this.#waiting = rows
      .map((row) => row.value.id)
      .filter(
        (id) => !this.#inFlight.has(id) && !this.#held.has(id) && !this.#relayed.has(id) && !finished.has(id),
      )
    this.#pump()
  }

  #pump(): void {
    while (this.#relay && this.#inFlight.size < MAX_IN_FLIGHT) {
      const id = this.#waiting.shift()
      if (id === undefined) return
      const row = this.#core.store.tables.packets.get(id)
      if (!row || this.#inFlight.has(id)) continue
      if (row.expiresAt <= this.#core.now()) this.#finished.push(id)
      else background(this.#core, 'send a packet', this.#send(this.#relay, row))
    }
  }

  async #send(relay: RelayConnection, row: PacketRow): Promise<void> {
    this.#inFlight.add(row.id)
    try {
      const result = await relay.send({ id: row.id, to: row.to, type: row.type, payload: row.packet })
      if (result.status === 'refused') {
        await this.#refused(row, result.code ?? 'MALFORMED', result.retryAfterSeconds)
      } else {
        await this.#taken(row, result.status)
      }
    } catch (error) {
      // The connection ended before an answer: `connected` sends it again. A store failure leaves it waiting too.
      if (!isAgentMeshError(error)) throw error
    } finally {
      this.#inFlight.delete(row.id)
      this.#pump()
    }
  }

  async #taken(row: PacketRow, status: 'delivered' | 'stored'): Promise<void> {
    const { id } = row
    if (row.awaitsReceipt) {
      this.#relayed.set(id, { at: this.#core.now(), attempts: (this.#relayed.get(id)?.attempts ?? 0) + 1 })
    } else {
      this.#finished.push(id)
    }
    if (status === 'delivered') {
      const at = formatTimestamp(this.#core.now())
      this.#core.events.emit('progress', id, { stage: 'sent', at })
      return
    }
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
        this.#enqueue(row.id)
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
    const { packets } = this.#core.store.tables
    for (const [id, { at, attempts }] of this.#relayed) {
      const wait = Math.min(RESEND_AFTER_MS * 2 ** (attempts - 1), MAX_RESEND_AFTER_MS)
      if (!isDue(at + wait, wait, now)) continue
      const row = packets.get(id)
      if (row && row.expiresAt > now) this.#waiting.push(id)
      else {
        this.#relayed.delete(id)
        this.#finished.push(id)
      }
    }
    if (this.#finished.length > 0)
      await commit(this.#core, (afterCommit) => this.#deleteFinished(afterCommit))
    this.#pump()
  }

  /** Packets no relay has taken yet, and those the peer has not confirmed. */
  counts(): { waiting: number; relayed: number } {
    const relayed = this.#relayed.size
    const total = this.#core.store.tables.packets.count() - this.#finished.length
    return { waiting: Math.max(0, total - relayed), relayed }
  }
}

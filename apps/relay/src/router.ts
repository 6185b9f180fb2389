/**
 * Who gets what (specification §4.2, DESIGN §6): live delivery, the mailbox, presence.
 *
 *     SEND --> refused       rate limit, size, or a full mailbox
 *          --> RECEIVE       receiver connected and nothing older waits: SENT `delivered` follows its ACK
 *          --> mailbox       otherwise: SENT `stored` follows the commit
 *
 * A connection begins by draining its mailbox and goes live when that is empty; while it drains, what arrives goes behind
 * the rest into the mailbox, so that each pair of agents keeps its order. It drains again when its window was full
 * (nothing more is sent to who does not acknowledge) and when it leaves `dnd`, where KNOCKs wait in the mailbox and
 * everything else is delivered. A message stays in the mailbox until its receiver acknowledged it; what was delivered live
 * and is unacknowledged when the connection ends goes there.
 *
 * A message is named by (to, from, id): sent again while it is in flight or stored it takes no second place, and the SENT
 * goes to the connection that asked last.
 */
import {
  AgentMeshError,
  isAgentMeshError,
  newSessionId,
  type Amid,
  type ErrorCode,
  type PresenceState,
  type RelayFrame,
  type SendFrame,
} from '@agentmesh/sdk/wire'
import type { RandomBytes } from '@agentmesh/sdk/crypto/signing'
import type { Counters } from './counters.ts'
import { DeliveryWindow, type InFlight } from './delivery-window.ts'
import type { RelayLimits } from './limits.ts'
import type { RelayLogger } from './logger.ts'
import type { Mailbox, MailboxMessage, StoreOutcome } from './mailbox.ts'
import { RateLimiter } from './rate-limit.ts'

/** A connection, as the router sees it. */
export interface Outlet {
  readonly amid: Amid
  /** Nothing happens when it has ended. */
  deliver(frame: RelayFrame): void
  cut(code: ErrorCode, retryAfterSeconds?: number): void
}

/** `opening` until CONNECTED is sent, then `draining`, then `live`. */
type Mode = 'opening' | 'draining' | 'live'

interface Attachment {
  readonly outlet: Outlet
  readonly window: DeliveryWindow<Outlet>
  presence: PresenceState
  mode: Mode
  /** Mailbox positions up to here were sent on this connection. */
  cursor: number
  reading: boolean
  /** Counts what went to the mailbox meanwhile, so that an empty page read before that is not taken for an empty mailbox. */
  arrivals: number
  /** When the window last became non-empty or shorter. */
  progressAt: number
}

export interface RouterParts {
  readonly mailbox: Mailbox
  readonly limits: RelayLimits
  readonly counters: Counters
  readonly logger: RelayLogger
  readonly now: () => number
  readonly random: RandomBytes
}

const PAGE_MESSAGES = 16
const STORE_RETRY_SECONDS = 5
const FULL_RETRY_SECONDS = 60

const OUTCOME_CODES: Record<Exclude<StoreOutcome, 'stored'>, ErrorCode> = {
  'mailbox-full': 'MAILBOX_FULL',
  'sender-quota': 'SENDER_QUOTA',
  'store-full': 'RELAY_STORE_FAILED',
}

export class Router {
  readonly #parts: RouterParts
  readonly #attachments = new Map<Amid, Attachment>()
  readonly #sends: RateLimiter
  readonly #sendBytes: RateLimiter
  readonly #knocks: RateLimiter
  readonly #queries: RateLimiter
  readonly #stores = new Set<Promise<void>>()
  #lastPosition: number
  #windowBytes = 0
  #stopping = false

  constructor(parts: RouterParts) {
    this.#parts = parts
    this.#lastPosition = parts.mailbox.lastPosition
    this.#sends = new RateLimiter(parts.limits.sends)
    this.#sendBytes = new RateLimiter(parts.limits.sendBytes)
    this.#knocks = new RateLimiter(parts.limits.knocks)
    this.#queries = new RateLimiter(parts.limits.presenceQueries)
  }

  get connected(): number {
    return this.#attachments.size
  }
  get windowBytes(): number {
    return this.#windowBytes
  }

  // --- connections ----------------------------------------------------------------------------------------------------

  /**
   * Makes `outlet` the one connection of its AMID, sends CONNECTED, and drains the mailbox. What a replaced connection had
   * not acknowledged comes first: the mailbox works in the order it is asked.
   */
  async attach(outlet: Outlet, presence: PresenceState): Promise<void> {
    const previous = this.#attachments.get(outlet.amid)
    if (previous !== undefined) {
      this.detach(previous.outlet)
      previous.outlet.cut('CONNECTION_REPLACED')
    }
    const attachment: Attachment = {
      outlet,
      window: new DeliveryWindow(),
      presence,
      mode: 'opening',
      cursor: 0,
      reading: false,
      arrivals: 0,
      progressAt: this.#parts.now(),
    }
    this.#attachments.set(outlet.amid, attachment)
    try {
      const pendingMessages = await this.#parts.mailbox.count(outlet.amid)
      if (this.#attachmentOf(outlet) === undefined) return
      const sessionId = newSessionId(this.#parts.random)
      outlet.deliver({ frame: 'CONNECTED', sessionId, pendingMessages })
      attachment.mode = 'draining'
    } catch (error) {
      this.#storeFailed(outlet, error)
      return
    }
    await this.#drain(attachment)
  }

  /** The connection is over: what it has not acknowledged goes to the mailbox. */
  detach(outlet: Outlet): void {
    const attachment = this.#attachmentOf(outlet)
    if (attachment === undefined) return
    this.#attachments.delete(outlet.amid)
    this.#windowBytes -= attachment.window.bytes
    for (const { message, stored, sender } of attachment.window.entries()) {
      if (!stored) void this.#store(message, sender)
    }
  }

  /** Undefined when another connection took over, or none is left. */
  #attachmentOf(outlet: Outlet): Attachment | undefined {
    const attachment = this.#attachments.get(outlet.amid)
    return attachment?.outlet === outlet ? attachment : undefined
  }

  // --- SEND and ACK ---------------------------------------------------------------------------------------------------

  send(sender: Outlet, frame: SendFrame): void {
    const { limits, counters, now } = this.#parts
    counters.sends += 1
    const time = now()
    const { id, to, type, payload } = frame
    const from = sender.amid
    if (this.#stopping) return this.refuse(sender, id, 'RELAY_SHUTTING_DOWN', STORE_RETRY_SECONDS)
    if (payload.length > limits.maxPayloadBytes) return this.refuse(sender, id, 'TOO_LARGE')
    const wait =
      this.#sends.take(from, time) ||
      this.#sendBytes.take(from, time, payload.length) ||
      (type === 'knock' ? this.#knocks.take(from, time) : 0)
    if (wait > 0) return this.refuse(sender, id, 'RATE_LIMITED', wait)

    const attachment = this.#attachments.get(to)
    const earlier = attachment?.window.find(from, id)
    if (earlier !== undefined) {
      earlier.sender = sender
      if (earlier.stored) sender.deliver({ frame: 'SENT', id, status: 'stored' })
      return
    }
    const message = { to, from, id, type, position: this.#nextPosition(time), timestamp: time, payload }
    if (attachment?.mode === 'live' && !(attachment.presence === 'dnd' && type === 'knock')) {
      if (this.#hasRoom(attachment)) return this.#deliver(attachment, { message, stored: false, sender })
      attachment.mode = 'draining'
    }
    void this.#store(message, sender)
  }

  refuse(sender: Outlet, id: SendFrame['id'], code: ErrorCode, retryAfterSeconds?: number): void {
    this.#parts.counters.countRefused(code)
    sender.deliver({
      frame: 'SENT',
      id,
      status: 'refused',
      code,
      ...(retryAfterSeconds === undefined ? {} : { retryAfterSeconds }),
    })
  }

  acknowledge(outlet: Outlet, sequence: number): void {
    const attachment = this.#attachmentOf(outlet)
    if (attachment === undefined) return
    const before = attachment.window.bytes
    let done: InFlight<Outlet>[]
    try {
      done = attachment.window.acknowledge(sequence)
    } catch (error) {
      if (!isAgentMeshError(error)) throw error
      outlet.cut(error.code)
      return
    }
    if (done.length === 0) return
    this.#windowBytes -= before - attachment.window.bytes
    attachment.progressAt = this.#parts.now()
    const positions: number[] = []
    for (const { message, stored, sender } of done) {
      this.#parts.counters.received += 1
      if (stored) {
        positions.push(message.position)
        continue
      }
      this.#parts.counters.delivered += 1
      sender?.deliver({ frame: 'SENT', id: message.id, status: 'delivered' })
    }
    if (positions.length > 0) {
      this.#parts.mailbox.remove(outlet.amid, positions).catch((error: unknown) => {
        // They stay and come again on the next connection: the receiver's duplicate filter takes them once.
        this.#parts.logger.error({ err: error }, 'acknowledged messages not removed')
      })
    }
    if (attachment.mode === 'draining') void this.#drain(attachment)
  }

  /** Microseconds of the clock where it allows, so that the order survives a restart that lost the highest position. */
  #nextPosition(time: number): number {
    this.#lastPosition = Math.max(this.#lastPosition + 1, time * 1000)
    return this.#lastPosition
  }

  #hasRoom({ window }: Attachment): boolean {
    const { windowMessages, windowBytes, totalWindowBytes } = this.#parts.limits
    return window.hasRoom(windowMessages, windowBytes) && this.#windowBytes < totalWindowBytes
  }

  #deliver(attachment: Attachment, entry: InFlight<Outlet>): void {
    const { window, outlet } = attachment
    if (window.count === 0) attachment.progressAt = this.#parts.now()
    const { from, type, timestamp, payload } = entry.message
    const sequence = window.add(entry)
    this.#windowBytes += payload.length
    outlet.deliver({ frame: 'RECEIVE', sequence, from, type, timestamp, payload })
  }

  async #store(message: MailboxMessage, sender: Outlet | undefined): Promise<void> {
    const attachment = this.#attachments.get(message.to)
    if (attachment !== undefined) attachment.arrivals += 1
    const store = this.#storeAndAnswer(message, sender)
    this.#stores.add(store)
    await store
    this.#stores.delete(store)
  }

  async #storeAndAnswer(message: MailboxMessage, sender: Outlet | undefined): Promise<void> {
    try {
      const outcome = await this.#parts.mailbox.store(message)
      if (outcome === 'stored') {
        this.#parts.counters.stored += 1
        sender?.deliver({ frame: 'SENT', id: message.id, status: 'stored' })
      } else if (sender !== undefined) {
        this.refuse(sender, message.id, OUTCOME_CODES[outcome], FULL_RETRY_SECONDS)
      }
    } catch (error) {
      this.#parts.logger.error({ err: error }, 'message not stored')
      if (sender !== undefined) this.refuse(sender, message.id, 'RELAY_STORE_FAILED', STORE_RETRY_SECONDS)
    }
  }

  // --- the mailbox ----------------------------------------------------------------------------------------------------

  /** Sends pages of the mailbox while there is room, and goes live when nothing is left and nothing is on its way. */
  async #drain(attachment: Attachment): Promise<void> {
    if (attachment.mode !== 'draining' || attachment.reading) return
    const { outlet } = attachment
    attachment.reading = true
    try {
      while (this.#hasRoom(attachment)) {
        const { arrivals, cursor } = attachment
        const withKnocks = attachment.presence !== 'dnd'
        const page = await this.#parts.mailbox.page(outlet.amid, {
          after: cursor,
          limit: PAGE_MESSAGES,
          withKnocks,
        })
        if (this.#attachmentOf(outlet) === undefined) return
        // The page was read for another presence: leaving `dnd` starts again from the front.
        if (attachment.cursor !== cursor || withKnocks !== (attachment.presence !== 'dnd')) continue
        if (page.length === 0) {
          if (attachment.arrivals !== arrivals) continue
          attachment.mode = 'live'
          return
        }
        for (const message of page) {
          attachment.cursor = message.position
          if (attachment.window.find(message.from, message.id) !== undefined) continue
          this.#deliver(attachment, { message, stored: true, sender: undefined })
        }
      }
    } catch (error) {
      this.#storeFailed(outlet, error)
    } finally {
      attachment.reading = false
    }
  }

  #storeFailed(outlet: Outlet, error: unknown): void {
    this.#parts.logger.error({ err: error }, 'mailbox not read')
    outlet.cut('RELAY_STORE_FAILED', STORE_RETRY_SECONDS)
  }

  // --- presence -------------------------------------------------------------------------------------------------------

  setPresence(outlet: Outlet, presence: PresenceState): void {
    const attachment = this.#attachmentOf(outlet)
    if (attachment === undefined) return
    const leavesDnd = attachment.presence === 'dnd' && presence !== 'dnd'
    attachment.presence = presence
    if (!leavesDnd) return
    attachment.cursor = 0
    if (attachment.mode === 'live') attachment.mode = 'draining'
    void this.#drain(attachment)
  }

  /** An AMID that is not connected here is `offline`, whether or not it exists. */
  answerPresence(outlet: Outlet, amid: Amid): void {
    const wait = this.#queries.take(outlet.amid, this.#parts.now())
    if (wait > 0) {
      const error = new AgentMeshError('RATE_LIMITED')
      outlet.deliver({
        frame: 'ERROR',
        code: error.code,
        message: error.message,
        fatal: false,
        retryAfterSeconds: wait,
      })
      return
    }
    const state = this.#attachments.get(amid)?.presence ?? 'offline'
    outlet.deliver({ frame: 'PRESENCE_RESULT', amid, state })
  }

  // --- time and the end -----------------------------------------------------------------------------------------------

  /**
   * Cuts off who acknowledges nothing, goes on where memory for all connections was short, and forgets full token buckets.
   */
  tick(): void {
    const now = this.#parts.now()
    for (const attachment of this.#attachments.values()) {
      const waits = attachment.window.count > 0
      if (waits && now - attachment.progressAt > this.#parts.limits.ackTimeoutMs) {
        attachment.outlet.cut('SLOW_READER')
      } else if (attachment.mode === 'draining') void this.#drain(attachment)
    }
    for (const limiter of [this.#sends, this.#sendBytes, this.#knocks, this.#queries]) limiter.sweep(now)
  }

  /** Refuses what still comes, and resolves when everything in flight is stored and its senders were told. */
  async stop(): Promise<void> {
    this.#stopping = true
    for (const { outlet } of this.#attachments.values()) this.detach(outlet)
    while (this.#stores.size > 0) await Promise.all(this.#stores)
  }
}

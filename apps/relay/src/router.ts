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
 *
 * In a cluster (`cluster/`) a receiver may be connected to another relay: `Peers` says so and carries the message there,
 * where `take` does with it what is done here with a message of one's own; the mailboxes are shared.
 */
import {
  AgentMeshError,
  newSessionId,
  type Amid,
  type ErrorCode,
  type MessageId,
  type PresenceState,
} from '@agentmesh/sdk/wire'
import type { RandomBytes } from '@agentmesh/sdk/crypto/signing'
import { Admission } from './admission.ts'
import { Attachments } from './attachments.ts'
import type { Counters } from './counters.ts'
import { InFlight, MessageInPlace, SentInPlace } from './in-place/message-in-place.ts'
import type { RelayLimits } from './limits.ts'
import type { RelayLogger } from './logger.ts'
import { MailDrain } from './mail-drain.ts'
import { MailWriter, STORE_RETRY_SECONDS } from './mail-writer.ts'
import { Deposits } from './deposits.ts'
import { FRONT, type Mailbox, type MailboxMessage, type Place } from './mailbox.ts'
import { StateCounters } from './state-counters.ts'
import { deliverRefusal, type Outlet, type Peers } from './outlet.ts'

export interface RouterParts {
  readonly mailbox: Mailbox
  readonly limits: RelayLimits
  readonly counters: Counters
  readonly logger: RelayLogger
  readonly now: () => number
  readonly random: RandomBytes
  /** Absent in a relay that is the only one of its service. */
  readonly peers?: Peers
}

export class Router {
  readonly #parts: RouterParts
  readonly #attachments: Attachments
  readonly #mailDrain: MailDrain
  readonly #admission: Admission
  readonly #deposits: Deposits
  readonly #mail: MailWriter
  readonly #stateCounters: StateCounters
  #stopping = false

  constructor(parts: RouterParts) {
    this.#parts = parts
    this.#attachments = new Attachments(parts.limits, parts.now)
    this.#mailDrain = new MailDrain(parts, this.#attachments)
    this.#stateCounters = new StateCounters(parts, this.#attachments)
    this.#admission = new Admission(parts.limits)
    this.#deposits = new Deposits(parts.limits, () => 1 + (parts.peers?.relays ?? 0))
    this.#mail = new MailWriter({ ...parts, deposits: this.#deposits }, (to) => {
      if (this.#attachments.get(to) === undefined) parts.peers?.mailStored(to)
    })
  }

  get connected(): number {
    return this.#attachments.size
  }
  get windowBytes(): number {
    return this.#attachments.windowBytes
  }

  // --- connections ----------------------------------------------------------------------------------------------------

  /**
   * Makes `outlet` the one connection of its AMID, sends CONNECTED, and drains the mailbox. What a replaced connection had
   * not acknowledged comes first: the mailbox works in the order it is asked.
   *
   * @param shown the agent's state counter, as its CONNECT has it
   */
  async attach(outlet: Outlet, presence: PresenceState, shown: number): Promise<void> {
    const previous = this.#attachments.get(outlet.amid)
    if (previous !== undefined) {
      this.detach(previous.outlet)
      previous.outlet.cut('CONNECTION_REPLACED')
    }
    const attachment = this.#attachments.add(outlet, presence)
    this.#parts.peers?.attached(outlet.amid, presence)
    try {
      const [pendingMessages, stateCounter] = await Promise.all([
        this.#parts.mailbox.count(outlet.amid),
        this.#stateCounters.begin(attachment, shown),
      ])
      if (this.#attachments.of(outlet) === undefined) return
      const sessionId = newSessionId(this.#parts.random)
      outlet.deliver({ frame: 'CONNECTED', sessionId, pendingMessages, stateCounter })
      attachment.mode = 'draining'
    } catch (error) {
      this.#mailDrain.failed(outlet, error)
      return
    }
    await this.#mailDrain.run(attachment)
  }

  /**
   * The connection is over: what it has not acknowledged goes to the mailbox, where it stands in front of everything that
   * this connection was not sent.
   */
  detach(outlet: Outlet): void {
    const attachment = this.#attachments.of(outlet)
    if (attachment === undefined) return
    this.#attachments.remove(attachment)
    this.#stateCounters.end(attachment)
    this.#parts.peers?.detached(outlet.amid)
    let behind = FRONT.place
    for (const entry of attachment.window.entries()) {
      const { from, timestamp, place, sender } = entry
      if (place === undefined) this.#store(entry.copy(from, timestamp), sender, behind)
      else behind = Math.max(behind, place.place)
      entry.release()
    }
  }

  /** The agent has connected to another relay since. */
  replaced(amid: Amid): void {
    const outlet = this.#attachments.get(amid)?.outlet
    if (outlet === undefined) return
    this.detach(outlet)
    outlet.cut('CONNECTION_REPLACED')
  }

  // --- SEND and ACK ---------------------------------------------------------------------------------------------------

  /** @param message lies in the buffer its sender was read into */
  send(sender: Outlet, message: MessageInPlace): void {
    const { limits, counters, now } = this.#parts
    counters.sends += 1
    const time = now()
    const { to, type, size } = message
    const from = sender.amid
    if (this.#stopping) return this.refuse(sender, message.id, 'RELAY_SHUTTING_DOWN', STORE_RETRY_SECONDS)
    if (size > limits.maxPayloadBytes) return this.refuse(sender, message.id, 'TOO_LARGE')
    const wait = this.#admission.send(sender, to, type, size, time)
    if (wait > 0) return this.refuse(sender, message.id, 'RATE_LIMITED', wait)
    const { peers } = this.#parts
    // Behind a message that is still on its way to the mailbox, so that they keep their order.
    if (peers !== undefined && this.#attachments.get(to) === undefined && !this.#mail.isWriting(to)) {
      if (peers.forward(message.copy(from, time), sender)) return
    }
    this.#take(message, from, time, sender)
  }

  /** A message that was let in at another relay: delivered or stored, and `sender` gets its SENT. */
  take(message: MailboxMessage, sender: Outlet): void {
    this.#take(MessageInPlace.of(message), message.from, message.timestamp, sender)
  }

  #take(message: MessageInPlace, from: Amid, timestamp: number, sender: Outlet): void {
    const attachment = this.#attachments.get(message.to)
    if (attachment !== undefined) {
      const earlier = attachment.window.find(from, message)
      if (earlier !== undefined) {
        earlier.sender = sender
        if (earlier.place !== undefined) sender.deliver(new SentInPlace(message, 'stored'))
        return
      }
      if (attachment.mode === 'live' && !(attachment.presence === 'dnd' && message.type === 'knock')) {
        if (this.#attachments.hasRoom(attachment)) {
          return this.#attachments.deliver(
            attachment,
            new InFlight(message, from, timestamp, sender, undefined),
          )
        }
        attachment.mode = 'draining'
      }
    }
    this.#store(message.copy(from, timestamp), sender)
  }

  refuse(sender: Outlet, id: MessageId, code: ErrorCode, retryAfterSeconds?: number): void {
    this.#parts.counters.countRefused(code)
    deliverRefusal(sender, id, code, retryAfterSeconds)
  }

  acknowledge(outlet: Outlet, sequence: number, shown: number): void {
    const attachment = this.#attachments.of(outlet)
    if (attachment === undefined) return
    const { window } = attachment
    if (sequence > window.sent) {
      outlet.cut('ACK_OUT_OF_RANGE')
      return
    }
    this.#stateCounters.raise(attachment, shown)
    const { counters } = this.#parts
    const before = window.count
    let places: Place[] | undefined
    for (;;) {
      const entry = this.#attachments.takeUpTo(attachment, sequence)
      if (entry === undefined) break
      counters.received += 1
      if (attachment.reading) attachment.acknowledged.add(`${entry.from} ${entry.id}`)
      if (entry.place === undefined) {
        counters.delivered += 1
        entry.sender?.deliver(new SentInPlace(entry, 'delivered'))
      } else {
        this.#deposits.withdraw(entry)
        places ??= []
        places.push(entry.place)
      }
      entry.release()
    }
    if (window.count === before) return
    attachment.progressAt = this.#parts.now()
    if (places !== undefined)
      this.#mailDrain.remove(outlet.amid, places, this.#stateCounters.take(attachment))
    if (attachment.mode === 'draining') void this.#mailDrain.run(attachment)
  }

  #store(message: MailboxMessage, sender: Outlet | undefined, place?: number): void {
    const attachment = this.#attachments.get(message.to)
    if (attachment !== undefined) attachment.arrivals += 1
    this.#mail.write(message, sender, place)
  }

  // --- the mailbox ----------------------------------------------------------------------------------------------------

  /**
   * Something may have come into this mailbox that this connection has not seen: what another relay stored for a connection
   * that ended there stands before newer mail.
   */
  mailArrived(amid: Amid): void {
    const attachment = this.#attachments.get(amid)
    if (attachment === undefined) return
    attachment.again = true
    if (attachment.mode === 'live') attachment.mode = 'draining'
    void this.#mailDrain.run(attachment)
  }

  /** An agent gets its mail from another relay, which it has connected to. */
  fetched(amid: Amid): void {
    this.#deposits.emptied(amid)
  }

  // --- presence -------------------------------------------------------------------------------------------------------

  setPresence(outlet: Outlet, presence: PresenceState): void {
    const attachment = this.#attachments.of(outlet)
    if (attachment === undefined || this.#isTooOften(outlet)) return
    const leavesDnd = attachment.presence === 'dnd' && presence !== 'dnd'
    attachment.presence = presence
    this.#parts.peers?.presenceChanged(outlet.amid, presence)
    if (leavesDnd) this.mailArrived(outlet.amid)
  }

  /** An AMID that is not connected is `offline`, whether or not it exists. */
  answerPresence(outlet: Outlet, amid: Amid): void {
    if (this.#isTooOften(outlet)) return
    const here = this.#attachments.get(amid)?.presence
    const state = here ?? this.#parts.peers?.presenceOf(amid) ?? 'offline'
    outlet.deliver({ frame: 'PRESENCE_RESULT', amid, state })
  }

  /** Then it is told so, and nothing else happens. */
  #isTooOften(outlet: Outlet): boolean {
    const wait = this.#admission.presence(outlet, this.#parts.now())
    if (wait === 0) return false
    const { code, message } = new AgentMeshError('RATE_LIMITED')
    outlet.deliver({ frame: 'ERROR', code, message, fatal: false, retryAfterSeconds: wait })
    return true
  }

  // --- time and the end -----------------------------------------------------------------------------------------------

  /**
   * Cuts off who acknowledges nothing, goes on where memory for all connections was short, and forgets full token buckets.
   */
  tick(): void {
    const now = this.#parts.now()
    for (const attachment of this.#attachments.all()) {
      const waits = attachment.window.count > 0
      if (waits && now - attachment.progressAt > this.#parts.limits.ackTimeoutMs) {
        attachment.outlet.cut('SLOW_READER')
      } else if (attachment.mode === 'draining') void this.#mailDrain.run(attachment)
    }
    this.#stateCounters.tick(now)
    this.#admission.sweep(now)
    this.#deposits.sweep(now)
  }

  /** Refuses what still comes, and resolves when everything in flight is stored and its senders were told. */
  async stop(): Promise<void> {
    this.#stopping = true
    for (const { outlet } of this.#attachments.all()) this.detach(outlet)
    await this.#mail.settled()
  }
}

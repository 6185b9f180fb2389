/**
 * The agents that are connected here, one connection each, and what they were sent and have not acknowledged.
 */
import type { Amid, PresenceState } from '@agentmesh/sdk/wire'
import { DeliveryWindow } from './delivery-window.ts'
import type { InFlight } from './in-place/message-in-place.ts'
import type { RelayLimits } from './limits.ts'
import { FRONT, type Place } from './mailbox.ts'
import type { Outlet } from './outlet.ts'

/** `opening` until CONNECTED is sent, then `draining`, then `live`. */
type Mode = 'opening' | 'draining' | 'live'

export class Attachment {
  readonly outlet: Outlet
  readonly window = new DeliveryWindow<Outlet>()
  presence: PresenceState
  mode: Mode = 'opening'
  /** The mailbox up to here was sent on this connection. */
  cursor: Place = FRONT
  reading = false
  /** Acknowledged since the page that is being read was asked for, by sender and id: it may still have them. */
  readonly acknowledged = new Set<string>()
  /** The drain starts from the front when it comes to the end. */
  again = false
  /** Counts what went to the mailbox meanwhile, so that an empty page read before that is not taken for an empty mailbox. */
  arrivals = 0
  /** The highest this agent has shown, and whether the store has one of it. */
  stateCounter = 0
  keepsCounter = false
  /** When the window last became non-empty or shorter. */
  progressAt: number

  constructor(outlet: Outlet, presence: PresenceState, now: number) {
    this.outlet = outlet
    this.presence = presence
    this.progressAt = now
  }
}

export class Attachments {
  readonly #limits: RelayLimits
  readonly #now: () => number
  readonly #byAmid = new Map<Amid, Attachment>()
  /** Of all windows. */
  #windowBytes = 0

  /** @param now milliseconds since the epoch */
  constructor(limits: RelayLimits, now: () => number) {
    this.#limits = limits
    this.#now = now
  }

  get size(): number {
    return this.#byAmid.size
  }
  get windowBytes(): number {
    return this.#windowBytes
  }

  get(amid: Amid): Attachment | undefined {
    return this.#byAmid.get(amid)
  }

  /** Undefined when another connection took over, or none is left. */
  of(outlet: Outlet): Attachment | undefined {
    const attachment = this.#byAmid.get(outlet.amid)
    return attachment?.outlet === outlet ? attachment : undefined
  }

  all(): Iterable<Attachment> {
    return this.#byAmid.values()
  }

  add(outlet: Outlet, presence: PresenceState): Attachment {
    const attachment = new Attachment(outlet, presence, this.#now())
    this.#byAmid.set(outlet.amid, attachment)
    return attachment
  }

  remove({ outlet, window }: Attachment): void {
    this.#byAmid.delete(outlet.amid)
    this.#count(outlet, -window.bytes)
  }

  /** Whoever acknowledges nothing, under however many names, leaves room for others. */
  hasRoom({ outlet, window }: Attachment): boolean {
    const { windowMessages, windowBytes, windowBytesPerIp, totalWindowBytes } = this.#limits
    return (
      window.hasRoom(windowMessages, windowBytes) &&
      (outlet.origin === undefined || outlet.origin.windowBytes < windowBytesPerIp) &&
      this.#windowBytes < totalWindowBytes
    )
  }

  #count({ origin }: Outlet, bytes: number): void {
    this.#windowBytes += bytes
    if (origin !== undefined) origin.windowBytes += bytes
  }

  /** Sends it and waits for its ACK. `hasRoom` was asked before. */
  deliver(attachment: Attachment, entry: InFlight<Outlet>): void {
    const { window, outlet } = attachment
    if (window.count === 0) attachment.progressAt = this.#now()
    window.add(entry)
    this.#count(outlet, entry.size)
    outlet.deliver(entry)
  }

  /** The oldest unacknowledged one, when its number is at most `sequence`. */
  takeUpTo({ outlet, window }: Attachment, sequence: number): InFlight<Outlet> | undefined {
    const entry = window.takeUpTo(sequence)
    if (entry !== undefined) this.#count(outlet, -entry.size)
    return entry
  }
}

/**
 * An agent's standing connection to its relay: dials, dials again with backoff when it ends, and stays away when another
 * connection of the same AMID took over (two programs with one identity would replace each other for ever). States and
 * their diagram: `transport.ts`.
 */
import type { RandomBytes } from '../crypto/signing.ts'
import type { Identity } from '../identity/index.ts'
import {
  AgentMeshError,
  binaryCodec,
  isAgentMeshError,
  jsonCodec,
  type Amid,
  type PresenceState,
} from '../wire/index.ts'
import { backoffMs, systemDelay, type Delay } from './backoff.ts'
import { deferred, type Deferred } from './deferred.ts'
import { RelayLink } from './relay-link.ts'
import {
  NO_STATE,
  type OutgoingMessage,
  type SentResult,
  type StateClaim,
  type Transport,
  type TransportEvents,
  type TransportState,
} from './transport.ts'

/** A connection that lasted so long makes the next failure a first one. */
const SETTLED_MS = 10_000
/**
 * One that lasted less counts as so many failures at most: a relay that lets us in is there, and what ended the connection
 * is worth seconds, not the minute that a relay out of reach is.
 */
const UNSETTLED_FAILURES = 3
/** However long a relay asks us to stay away. */
const MAX_WAIT_MS = 300_000

export interface RelayConnectionOptions extends TransportEvents {
  /** `ws://host[:port]` or `wss://host[:port]`. */
  readonly url: string
  readonly identity: Identity
  readonly subprotocol?: 'bin' | 'json'
  readonly presence?: PresenceState
  /** Absent for what keeps no state. */
  readonly state?: StateClaim
  readonly random: RandomBytes
  /** Milliseconds since the epoch. */
  readonly now: () => number
  /** Timers; the system's unless given. */
  readonly delay?: Delay
}

export class RelayConnection implements Transport {
  readonly #options: RelayConnectionOptions
  readonly #delay: Delay
  #state: TransportState = 'closed'
  #presence: PresenceState
  #link: RelayLink | undefined
  #failures = 0
  #connectedAt = 0
  #cancelWait: () => void = () => {}
  #first: Deferred<void> | undefined

  constructor(options: RelayConnectionOptions) {
    this.#options = options
    this.#delay = options.delay ?? systemDelay
    this.#presence = options.presence ?? 'online'
  }

  get state(): TransportState {
    return this.#state
  }

  /** The IP address it is connected to, while it is. */
  get address(): string | undefined {
    return this.#link?.address
  }

  /** @throws MALFORMED for a bad URL, CONNECTION_REPLACED, RELAY_DISCONNECTED when closed before it connected */
  // Not async: this very promise has its rejection handled, so that a caller who does not wait is not ended by it.
  connect(): Promise<void> {
    if (this.#first !== undefined) return this.#first.promise
    const first = deferred<void>()
    first.promise.catch(() => {})
    this.#first = first
    this.#failures = 0
    this.#dial()
    return first.promise
  }

  async send(message: OutgoingMessage): Promise<SentResult> {
    return this.#connectedLink().send(message)
  }

  setPresence(state: PresenceState): void {
    this.#presence = state
    this.#link?.setPresence(state)
  }

  async queryPresence(amid: Amid): Promise<PresenceState> {
    return this.#connectedLink().queryPresence(amid)
  }

  async close(): Promise<void> {
    const link = this.#link
    this.#link = undefined
    this.#cancelWait()
    if (this.#state !== 'closed') this.#enter('closed')
    this.#abandon(new AgentMeshError('RELAY_DISCONNECTED', 'Closed by us'))
    await link?.close()
  }

  #connectedLink(): RelayLink {
    if (this.#link === undefined || this.#state !== 'connected') {
      throw new AgentMeshError('RELAY_DISCONNECTED', 'Not connected', { operation: 'relay' })
    }
    return this.#link
  }

  #dial(): void {
    const { url, identity, subprotocol, now } = this.#options
    // A CONNECT with `offline` would be a connection that only sends (spec/relay.md 2).
    const presence = this.#presence === 'offline' ? 'away' : this.#presence
    this.#enter('connecting')
    try {
      const link: RelayLink = new RelayLink(
        {
          url,
          identity,
          codec: subprotocol === 'json' ? jsonCodec : binaryCodec,
          presence,
          state: this.#options.state ?? NO_STATE,
          now,
          delay: this.#delay,
        },
        {
          onConnected: () => {
            if (this.#link !== link) return
            this.#connectedAt = now()
            // Changed while CONNECT was on its way.
            if (this.#presence !== presence) link.setPresence(this.#presence)
            this.#enter('connected')
            this.#first?.resolve()
          },
          onReceive: (message) => {
            if (this.#link === link) this.#options.onReceive(message)
          },
          onEnd: (error) => {
            if (this.#link === link) this.#ended(error)
          },
        },
      )
      this.#link = link
    } catch (error) {
      if (!isAgentMeshError(error)) throw error
      this.#enter('closed', error)
      this.#abandon(error)
    }
  }

  #ended(error: AgentMeshError): void {
    this.#link = undefined
    if (error.code === 'CONNECTION_REPLACED') {
      this.#enter('replaced', error)
      this.#abandon(error)
      return
    }
    if (this.#state === 'connected') {
      const settled = this.#options.now() - this.#connectedAt >= SETTLED_MS
      this.#failures = settled ? 0 : Math.min(this.#failures, UNSETTLED_FAILURES)
    }
    const asked = Math.min(MAX_WAIT_MS, (error.retryAfterSeconds ?? 0) * 1000)
    const wait = Math.max(asked, backoffMs(this.#failures, this.#options.random))
    this.#failures += 1
    this.#cancelWait = this.#delay(wait, () => this.#dial())
    this.#enter('waiting', error)
  }

  /** The next `connect` starts anew. */
  #abandon(error: AgentMeshError): void {
    this.#first?.reject(error)
    this.#first = undefined
  }

  #enter(state: TransportState, error?: AgentMeshError): void {
    this.#state = state
    this.#options.onState(state, error)
  }
}

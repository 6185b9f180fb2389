/**
 * The connection at which this agent is reached: the nearest relay of the owner's list (DESIGN §6).
 *
 *   measuring --> connecting --> connected --(another clearly nearer, at a measurement)--> connecting elsewhere
 *                     |             |
 *                     |             +--(shutting down, its store failed; gone, and not back at once)--+
 *                     +--(cannot be reached)----------------------------------------------------------+--> the next one
 *
 * The record names the home once it is connected. What senders still bring to the old one waits in its mailbox; they find
 * out by the receipts that do not come, look the record up and bring it again.
 */
import {
  RelayConnection,
  type Delay,
  type ReceivedMessage,
  type TransportState,
} from '../../transport/index.ts'
import type { AgentMeshError, ErrorCode, PresenceState } from '../../wire/index.ts'
import {
  chooseHome,
  noteFailure,
  type HomeReason,
  type RelayStanding,
  type RelayView,
} from './home-choice.ts'
import { audit, background, type Core } from '../core.ts'

const MEASURE_EVERY_MS = 300_000
/** At the start, for what is measured by then. */
const START_WAIT_MS = 3_000
/** A connection that lasted so long makes the next failure a first one. */
const SETTLED_MS = 10_000

/** What another relay would say as well: our clock, our rate, another program with our identity. */
const NOT_ITS_FAULT: ReadonlySet<ErrorCode> = new Set([
  'CLOCK_SKEW',
  'RATE_LIMITED',
  'SLOW_READER',
  'STATE_BEHIND',
])
/** A relay that says so will not be back at once. */
const LEAVING: ReadonlySet<ErrorCode> = new Set(['RELAY_SHUTTING_DOWN', 'RELAY_STORE_FAILED'])

type HomeState = TransportState | 'stopped' | 'measuring'

export interface HomeEvents {
  onReceive(message: ReceivedMessage): void
  /** Chosen or connected: where peers are to find us. */
  onHome(url: string): void
  onConnected(): void
}

export interface HomeParts {
  /** Milliseconds to a relay's HELLO; undefined when it cannot be reached. */
  readonly measure: (url: string) => Promise<number | undefined>
  readonly delay: Delay
}

export class HomeRelay {
  readonly #core: Core
  readonly #events: HomeEvents
  readonly #parts: HomeParts
  readonly #views: readonly RelayView[]
  #connection: RelayConnection | undefined
  #url: string | undefined
  #reason: HomeReason | undefined
  #state: HomeState = 'stopped'
  #error: string | undefined
  #connectedSince = Number.POSITIVE_INFINITY
  #presence: PresenceState = 'online'
  #cancelTimer: () => void = () => {}
  /** Of the time between `start` and `stop`: what was begun in an earlier one has no effect. */
  #run = 0

  constructor(core: Core, events: HomeEvents, parts: HomeParts) {
    this.#core = core
    this.#events = events
    this.#parts = parts
    this.#views = core.config.relays.map((url) => ({ url, failures: 0, downUntil: 0 }))
  }

  get url(): string | undefined {
    return this.#url
  }

  get reason(): HomeReason | undefined {
    return this.#reason
  }

  get state(): string {
    return this.#state
  }

  /** Why the relay does not reach us, while it does not. */
  get error(): string | undefined {
    return this.#error
  }

  /** Since when a relay reaches us, milliseconds since the epoch; infinite while none does. */
  get connectedSince(): number {
    return this.#connectedSince
  }

  /** The connection, while it is up. */
  get connected(): RelayConnection | undefined {
    return this.#state === 'connected' ? this.#connection : undefined
  }

  list(): RelayStanding[] {
    const now = this.#core.now()
    return this.#views.map(({ url, latency, downUntil }) => ({
      url,
      home: url === this.#url,
      latency_ms: latency === undefined ? null : Math.round(latency * 10) / 10,
      down: downUntil > now,
    }))
  }

  start(presence: PresenceState): void {
    this.#run += 1
    this.#presence = presence
    this.#url = undefined
    if (this.#views.length === 1) return this.#decide()
    this.#state = 'measuring'
    const run = this.#run
    const begin = (): void => {
      if (run === this.#run && this.#url === undefined) this.#decide()
    }
    this.#cancelTimer = this.#parts.delay(START_WAIT_MS, begin)
    background(this.#core, 'measure relays', this.#measure(run))
  }

  async stop(): Promise<void> {
    this.#run += 1
    this.#cancelTimer()
    const connection = this.#connection
    this.#connection = undefined
    this.#became('stopped')
    await connection?.close()
  }

  setPresence(state: PresenceState): void {
    this.#presence = state
    this.#connection?.setPresence(state)
  }

  // --- which --------------------------------------------------------------------------------------------------------------

  async #measure(run: number): Promise<void> {
    const measuring = this.#views.map(async (view) => {
      const latency = await this.#parts.measure(view.url)
      if (run !== this.#run) return
      if (latency === undefined) delete view.latency
      else view.latency = latency
    })
    await Promise.all(measuring)
    if (run === this.#run) this.#decide()
  }

  #decide(): void {
    const { url, reason } = chooseHome(this.#views, this.#url, this.#core.now())
    this.#reason = reason
    if (url !== this.#url) this.#moveTo(url)
    this.#measureLater()
  }

  /** After a while, and when one that failed may be tried again. */
  #measureLater(): void {
    this.#cancelTimer()
    if (this.#views.length === 1) return
    const now = this.#core.now()
    const waits = this.#views.map(({ downUntil }) => downUntil - now).filter((wait) => wait > 0)
    const run = this.#run
    this.#cancelTimer = this.#parts.delay(Math.min(MEASURE_EVERY_MS, ...waits), () =>
      background(this.#core, 'measure relays', this.#measure(run)),
    )
  }

  #moveTo(url: string): void {
    const { identity, config, state: claim, random, now } = this.#core
    const previous = this.#connection
    const first = this.#url === undefined
    if (!first) this.#became('connecting')
    this.#url = url
    // Replaced before it is closed: what it still says is not ours to hear.
    const connection: RelayConnection = new RelayConnection({
      url,
      identity,
      subprotocol: config.relay_encoding === 'json' ? 'json' : 'bin',
      presence: this.#presence,
      state: claim,
      onReceive: (message) => this.#events.onReceive(message),
      onState: (state, error) => {
        if (this.#connection === connection) this.#connectionIs(url, state, error)
      },
      random,
      now,
    })
    this.#connection = connection
    if (previous !== undefined) background(this.#core, 'leave a relay', previous.close())
    if (first) this.#events.onHome(url)
    // Whoever waits for the connection waits for the `connection` event; dialling goes on by itself.
    connection.connect().catch(() => {})
  }

  // --- how it is ----------------------------------------------------------------------------------------------------------

  #connectionIs(url: string, state: TransportState, error: AgentMeshError | undefined): void {
    const since = this.#connectedSince
    if (error) this.#error = `${error.code}: ${error.message}`
    this.#became(state, error)
    if (state === 'connected') this.#events.onHome(url)
    else if (error !== undefined && this.#failed(state, error, since)) this.#fallOver()
  }

  /** Whether the home is one to leave. @param since when it was connected, infinite when it was not */
  #failed(state: TransportState, { code }: AgentMeshError, since: number): boolean {
    if (state !== 'waiting' || NOT_ITS_FAULT.has(code)) return false
    // One that was there a moment ago is given one more try.
    return LEAVING.has(code) || !(this.#core.now() - since >= SETTLED_MS)
  }

  #fallOver(): void {
    const view = this.#views.find(({ url }) => url === this.#url)
    if (view) noteFailure(view, this.#core.now())
    this.#decide()
  }

  #became(state: HomeState, error?: AgentMeshError): void {
    const was = this.#state
    this.#state = state
    // Dialling again is no news: only that the connection came, and that it went.
    if (this.#url !== undefined && (state === 'connected' || was === 'connected')) {
      const code = error === undefined ? {} : { code: error.code }
      const told = state === 'connected' || state === 'waiting' || state === 'replaced' ? state : 'closed'
      audit(this.#core, { event: 'relay_state', relay: this.#url, state: told, ...code })
    }
    if (state === 'connected') {
      this.#error = undefined
      this.#connectedSince = this.#core.now()
      this.#events.onConnected()
    } else if (was === 'connected') {
      this.#core.state.disconnected()
      this.#settle()
      this.#connectedSince = Number.POSITIVE_INFINITY
    }
    this.#core.events.emit('connection')
  }

  /** It was there for long: its earlier failures say nothing any more. */
  #settle(): void {
    const view = this.#views.find(({ url }) => url === this.#url)
    if (view && this.#core.now() - this.#connectedSince >= SETTLED_MS) view.failures = 0
  }
}

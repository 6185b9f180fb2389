/**
 * Where the agent is reachable: its registry record, its relay connection and what it can prove of itself, kept while the
 * owner lets it be online.
 */
import { RelayConnection, type TransportState } from '../transport/index.ts'
import type { AgentMeshError, PresenceState } from '../wire/index.ts'
import { audit, background, type Core } from './core.ts'
import type { Outbox } from './outbox.ts'
import type { Receiver } from './receiver.ts'
import type { Registrar } from './registrar.ts'
import type { TrustKeeper } from './trust-keeper.ts'

export class Network {
  readonly #core: Core
  readonly #outbox: Outbox
  readonly #registrar: Registrar
  readonly #trust: TrustKeeper
  #receiver!: Receiver
  #relay: RelayConnection | undefined
  #relayState = 'stopped'
  #relayError: string | undefined
  #connectedSince = Number.POSITIVE_INFINITY
  #presence: PresenceState = 'online'

  constructor(core: Core, outbox: Outbox, registrar: Registrar, trust: TrustKeeper) {
    this.#core = core
    this.#outbox = outbox
    this.#registrar = registrar
    this.#trust = trust
  }

  /** The receiver decides with what it knows of the network, so the two are joined after both exist. */
  join(receiver: Receiver): void {
    this.#receiver = receiver
  }

  get presence(): PresenceState {
    return this.#presence
  }

  get relayState(): string {
    return this.#relayState
  }

  /** Why the relay does not reach us, while it does not. */
  get relayError(): string | undefined {
    return this.#relayError
  }

  /** Since when the relay reaches us, milliseconds since the epoch; infinite while it does not. */
  get connectedSince(): number {
    return this.#connectedSince
  }

  /** Known to the registry and connected to the relay. */
  get online(): boolean {
    return this.#relayState === 'connected' && this.#registrar.state === 'registered'
  }

  start(): void {
    const { identity, config, random, now } = this.#core
    this.#registrar.start()
    this.#trust.start()
    const relay = new RelayConnection({
      url: config.relay,
      identity,
      subprotocol: config.relay_encoding === 'json' ? 'json' : 'bin',
      presence: this.#presence,
      onReceive: (message) => {
        const received = this.#receiver.receive(message).then(() => this.#outbox.heard(message.from))
        background(this.#core, 'receive', received)
      },
      onState: (state, error) => this.#relayIs(relay, state, error),
      random,
      now,
    })
    this.#relay = relay
    // Whoever waits for the connection waits for the `connection` event; dialling goes on by itself.
    relay.connect().catch(() => {})
  }

  #relayIs(relay: RelayConnection, state: TransportState, error: AgentMeshError | undefined): void {
    // Dialling again is no news: only that the connection came, and that it went.
    if (state !== 'connecting' && (state === 'connected' || this.#relayState === 'connected')) {
      const code = error === undefined ? {} : { code: error.code }
      audit(this.#core, { event: 'relay_state', relay: this.#core.config.relay, state, ...code })
    }
    this.#relayState = state
    if (error) this.#relayError = `${error.code}: ${error.message}`
    if (state === 'connected') {
      this.#relayError = undefined
      this.#connectedSince = this.#core.now()
      this.#outbox.connected(relay)
    } else {
      this.#connectedSince = Number.POSITIVE_INFINITY
      this.#outbox.disconnected()
    }
    this.#core.events.emit('connection')
  }

  async stop(): Promise<void> {
    const relay = this.#relay
    this.#relay = undefined
    this.#outbox.disconnected()
    await Promise.all([relay?.close(), this.#registrar.stop(), this.#trust.stop()])
    this.#relayState = 'stopped'
  }

  async setPresence(state: PresenceState): Promise<void> {
    this.#presence = state
    this.#relay?.setPresence(state)
    await this.#registrar.setPresence(state)
  }
}

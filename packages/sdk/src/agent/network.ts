/**
 * Where the agent is reachable: its registry record, its home relay and what it can prove of itself, kept while the owner
 * lets it be online.
 */
import { performance } from 'node:perf_hooks'
import { measureRelay, systemDelay } from '../transport/index.ts'
import type { PresenceState } from '../wire/index.ts'
import { background, type Core } from './core.ts'
import { HomeRelay } from './relays/home-relay.ts'
import type { Outbox } from './outbox.ts'
import type { Receiver } from './receiver.ts'
import type { Registrar } from './registrar.ts'
import { Routes } from './relays/routes.ts'
import type { TrustKeeper } from './trust/trust-keeper.ts'

export class Network {
  /** The relay at which we are reached. */
  readonly home: HomeRelay
  /** The ways to peers. */
  readonly routes: Routes
  readonly #registrar: Registrar
  readonly #trust: TrustKeeper
  #receiver!: Receiver
  #presence: PresenceState = 'online'

  constructor(core: Core, outbox: Outbox, registrar: Registrar, trust: TrustKeeper) {
    this.#registrar = registrar
    this.#trust = trust
    this.home = new HomeRelay(
      core,
      {
        onReceive: (message) => {
          const received = this.#receiver.receive(message).then(() => outbox.heard(message.from))
          background(core, 'receive', received)
        },
        onHome: (url) => registrar.setRelay(url),
        onConnected: () => {
          this.routes.homeConnected(this.home.connected)
          outbox.connected()
        },
      },
      { measure: async (url) => measureRelay(url, () => performance.now()), delay: systemDelay },
    )
    this.routes = new Routes(core, systemDelay, this.home, {
      onReady: () => outbox.ready(),
      onMoved: (peer) => outbox.moved(peer),
      onFailed: (url) => outbox.failed(url),
    })
    outbox.join(this.routes)
  }

  /** The receiver decides with what it knows of the network, so the two are joined after both exist. */
  join(receiver: Receiver): void {
    this.#receiver = receiver
  }

  get presence(): PresenceState {
    return this.#presence
  }

  /** Known to the registry and connected to the relay. */
  get online(): boolean {
    return this.home.connected !== undefined && this.#registrar.state === 'registered'
  }

  start(): void {
    this.#trust.start()
    this.#registrar.start()
    this.routes.start()
    this.home.start(this.#presence)
  }

  async stop(): Promise<void> {
    await Promise.all([this.home.stop(), this.routes.stop(), this.#registrar.stop(), this.#trust.stop()])
  }

  async setPresence(state: PresenceState): Promise<void> {
    this.#presence = state
    this.home.setPresence(state)
    await this.#registrar.setPresence(state)
  }
}

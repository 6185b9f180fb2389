/**
 * Which connection a packet takes (spec/relay.md 2): our own home for peers that are reached there, a connection that only
 * sends for those of another relay.
 */
import {
  addressKind,
  checkPeerRelay,
  namedKind,
  normalRelayUrl,
  openSender,
  SenderPool,
  type AddressKind,
  type Delay,
  type OutgoingMessage,
  type OwnKinds,
  type RelayConnection,
  type SentResult,
} from '../../transport/index.ts'
import type { AgentMeshError, AgentRecord, Amid } from '../../wire/index.ts'
import { audit, type Core } from '../core.ts'
import { PeerRelays } from './peer-relays.ts'

/** Packets handed to our own relay and not yet answered, at most: bounds memory, keeps the pipe full. */
const HOME_IN_FLIGHT = 64
/** The same for a relay that a stranger chose. */
const SENDER_IN_FLIGHT = 16

/** A connection that can send now. */
export interface Route {
  /** Two routes over the same connection have the same. */
  readonly url: string
  readonly room: number
  send(message: OutgoingMessage): Promise<SentResult>
}

export interface RouteEvents {
  /** What waited for a connection can be tried again. */
  onReady(): void
  /** What this peer has not confirmed goes out again. */
  onMoved(peer: Amid): void
  /** Nothing can be handed to this relay for now. */
  onFailed(url: string): void
}

export interface HomeView {
  readonly url: string | undefined
  readonly connected: RelayConnection | undefined
}

export class Routes {
  readonly #core: Core
  readonly #delay: Delay
  readonly #home: HomeView
  readonly #events: RouteEvents
  readonly #peers: PeerRelays
  /** Kinds of addresses that our own relays were seen to have. */
  readonly #seenKinds = new Set<AddressKind>()
  #plainSeen = false
  #pool: SenderPool | undefined

  constructor(core: Core, delay: Delay, home: HomeView, events: RouteEvents) {
    this.#core = core
    this.#delay = delay
    this.#home = home
    this.#events = events
    this.#peers = new PeerRelays(core, delay, {
      onFound: () => events.onReady(),
      onMoved: (peer) => events.onMoved(peer),
    })
  }

  start(): void {
    const { identity, random, now } = this.#core
    this.#pool = new SenderPool({
      open: (url, events) => {
        // Our own list is the owner's word, any other a stranger's.
        const guard = this.#core.config.relays.includes(url) ? {} : { guard: this.#ownKinds() }
        return openSender({ url, identity, now, delay: this.#delay, ...guard }, events)
      },
      onReady: () => this.#events.onReady(),
      onFailed: (url, error) => this.#failed(url, error),
      random,
      now,
      delay: this.#delay,
    })
  }

  async stop(): Promise<void> {
    const pool = this.#pool
    this.#pool = undefined
    this.#peers.stop()
    await pool?.close()
  }

  /** The way to a peer, when there is one now; `onReady` says when to ask again. */
  to(peer: Amid): Route | undefined {
    if (this.#pool === undefined) return undefined
    const url = this.#peers.at(peer)
    if (url === undefined) return undefined
    if (!this.#isHome(url)) {
      const sender = this.#pool.to(url)
      return sender && { url, room: SENDER_IN_FLIGHT, send: async (message) => sender.send(message) }
    }
    const { connected, url: home = '' } = this.#home
    return connected && { url: home, room: HOME_IN_FLIGHT, send: async (message) => connected.send(message) }
  }

  #isHome(url: string): boolean {
    return url === 'home' || url === this.#home.url
  }

  /** Whether a peer is reached at this relay, as far as is known. */
  isAt(peer: Amid, url: string): boolean {
    return this.#peers.at(peer) === url
  }

  /** Whether a peer is reached at a relay that is not our home. */
  isForeign(peer: Amid): boolean {
    const url = this.#peers.at(peer)
    return url !== undefined && !this.#isHome(url)
  }

  /** A record was looked up. @throws RELAY_FORBIDDEN when it names a relay that is not dialled for a stranger */
  note(record: AgentRecord): void {
    const { relay_endpoint: endpoint } = record
    const own = this.#core.config.relays.includes(normalRelayUrl(endpoint))
    if (!own) checkPeerRelay(endpoint, this.#ownKinds())
    this.#peers.note(record)
  }

  doubt(peer: Amid, urgent = false): void {
    this.#peers.doubt(peer, urgent)
  }

  heard(peer: Amid): void {
    this.#peers.heard(peer)
  }

  forget(peer: Amid): void {
    this.#peers.forget(peer)
  }

  /** Our home is connected: its address says what kind of network we are in, whatever name it goes by. */
  homeConnected(connection: RelayConnection | undefined): void {
    const { address } = connection ?? {}
    if (address === undefined) return
    const kind = addressKind(address)
    this.#seenKinds.add(kind)
    if (kind !== 'public' && this.#home.url?.startsWith('ws:') === true) this.#plainSeen = true
  }

  #ownKinds(): OwnKinds {
    const urls = this.#core.config.relays.map((text) => new URL(text))
    const named = urls.map((url) => ({ plain: url.protocol === 'ws:', kind: namedKind(url) }))
    const kinds = new Set(this.#seenKinds)
    for (const { kind } of named) if (kind !== undefined) kinds.add(kind)
    const plain = named.some((own) => own.plain && own.kind !== undefined && own.kind !== 'public')
    return { kinds, plain: plain || this.#plainSeen }
  }

  #failed(url: string, { code }: AgentMeshError): void {
    if (code === 'RELAY_FORBIDDEN') audit(this.#core, { event: 'relay_refused', relay: url, code })
    this.#events.onFailed(url)
  }
}

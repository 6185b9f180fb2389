/**
 * Who may have a TCP connection (DESIGN §6). Each counts against its IP address, as long as it is open, as one that was opened,
 * and, until a CONNECT was accepted on it, as one of nobody we know, with a time limit. That covers silent sockets, slow HTTP
 * headers, WebSockets that never say who they are, and one machine with many AMIDs. A connection of a trusted proxy counts against its client's address, from the request that names it.
 */
import type { Socket } from 'node:net'
import { addressKey, type TrustedAddresses } from '@agentmesh/sdk/hosting'
import type { Counters } from './counters.ts'
import type { RelayLimits } from './limits.ts'
import { Origin } from './origin.ts'
import { RateLimiter } from './rate-limit.ts'

/** One TCP connection's place. */
export interface GuardedSocket {
  readonly origin: Origin
  /** Called once when the time is up, instead of destroying the socket. */
  onTimeout: (() => void) | undefined
  /** The socket belongs to an agent: no timer, and no stranger. */
  release(): void
  /** The same connection goes on as another socket. */
  follow(socket: Socket): void
}

export interface GuardOptions {
  readonly limits: RelayLimits
  readonly counters: Counters
  readonly proxies: TrustedAddresses
  /** Milliseconds since the epoch. */
  readonly now: () => number
  /** A socket that is refused cannot be told so: it has not even begun its handshake. */
  readonly tls: boolean
}

const NOBODY = new Origin('')

export class SocketGuard {
  readonly #options: GuardOptions
  readonly #sockets = new Map<Socket, Guarded>()
  readonly #places: Places = {
    origins: new Map(),
    moved: (guarded, from, to) => {
      this.#sockets.delete(from)
      this.#sockets.set(to, guarded)
    },
    gone: (socket) => {
      this.#sockets.delete(socket)
      if (this.#sockets.size === 0) this.#onEmpty?.()
    },
  }
  /** TLS sockets, by the TCP sockets they stand on. */
  readonly #secured = new WeakMap<Socket, Guarded>()
  readonly #opened: RateLimiter
  #onEmpty: (() => void) | undefined

  constructor(options: GuardOptions) {
    this.#options = options
    this.#opened = new RateLimiter(options.limits.socketsOpenedPerIp)
  }

  get open(): number {
    return this.#sockets.size
  }

  /** Takes a new socket in, or answers 429 or 503 and ends it. */
  admit(socket: Socket): void {
    const { limits, counters, proxies } = this.#options
    const address = addressKey(socket.remoteAddress)
    if (this.#sockets.size >= limits.maxSockets) return this.#refuse(socket, '503 Service Unavailable')
    const proxied = proxies.has(socket.remoteAddress ?? '')
    if (!proxied && !this.#isWelcome(address)) return this.#refuse(socket, '429 Too Many Requests')

    counters.socketsOpened += 1
    const guarded = new Guarded(address, socket, limits.connectTimeoutMs, this.#places)
    if (!proxied) guarded.countUnder(address)
    this.#sockets.set(socket, guarded)
  }

  /** The TLS connection on a socket that was admitted. */
  secure(socket: Socket, over: Socket): void {
    const guarded = this.#sockets.get(over)
    if (guarded !== undefined) this.#secured.set(socket, guarded)
  }

  /** Counts a socket under the client that its proxy speaks for; false when that one has too many. */
  identify(guarded: GuardedSocket, address: string): boolean {
    if (!this.#isWelcome(address)) return false
    ;(guarded as Guarded).countUnder(address)
    return true
  }

  of(socket: Socket): GuardedSocket | undefined {
    return this.#sockets.get(socket) ?? this.#secured.get(socket)
  }

  destroyAll(): void {
    for (const socket of this.#sockets.keys()) socket.destroy()
  }

  /** Resolves when no socket is open. */
  async emptied(): Promise<void> {
    if (this.#sockets.size === 0) return
    await new Promise<void>((resolve) => {
      this.#onEmpty = resolve
    })
  }

  #isWelcome(address: string): boolean {
    const { limits, now } = this.#options
    if (this.#opened.take(address, now()) > 0) return false
    const { sockets, strangers } = this.#places.origins.get(address) ?? NOBODY
    return sockets < limits.socketsPerIp && strangers < limits.preAuthSocketsPerIp
  }

  /** Forgets full token buckets. */
  sweep(): void {
    this.#opened.sweep(this.#options.now())
  }

  #refuse(socket: Socket, status: string): void {
    this.#options.counters.socketsRefused += 1
    if (this.#options.tls) {
      socket.destroy()
      return
    }
    socket.on('error', () => {})
    socket.end(
      `HTTP/1.1 ${status}\r\nConnection: close\r\nRetry-After: 10\r\nContent-Length: 0\r\n\r\n`,
      () => socket.destroy(),
    )
  }
}

/** What a guarded socket changes in its guard. */
interface Places {
  readonly origins: Map<string, Origin>
  moved(guarded: Guarded, from: Socket, to: Socket): void
  gone(socket: Socket): void
}

class Guarded implements GuardedSocket {
  origin: Origin
  onTimeout: (() => void) | undefined
  #socket: Socket
  readonly #timeoutMs: number
  readonly #places: Places
  #timer: NodeJS.Timeout | undefined
  /** Whether it counts under its origin, and there as a stranger. */
  #counted = false
  #stranger = false
  readonly #closed = () => {
    this.release()
    this.#leave()
    this.#places.gone(this.#socket)
  }

  constructor(address: string, socket: Socket, timeoutMs: number, places: Places) {
    this.origin = new Origin(address)
    this.#socket = socket
    this.#timeoutMs = timeoutMs
    this.#places = places
    socket.once('close', this.#closed)
    this.#startTimer()
  }

  countUnder(address: string): void {
    this.#leave()
    const { origins } = this.#places
    this.origin = origins.get(address) ?? new Origin(address)
    origins.set(address, this.origin)
    this.origin.sockets += 1
    this.origin.strangers += 1
    this.#counted = true
    this.#stranger = true
    // A proxy may have kept the connection since before the client came.
    this.#startTimer()
  }

  release(): void {
    clearTimeout(this.#timer)
    this.#timer = undefined
    this.onTimeout = undefined
    if (this.#stranger) this.origin.strangers -= 1
    this.#stranger = false
  }

  #leave(): void {
    if (!this.#counted) return
    this.#counted = false
    if (this.#stranger) this.origin.strangers -= 1
    this.#stranger = false
    this.origin.sockets -= 1
    if (this.origin.sockets === 0) this.#places.origins.delete(this.origin.address)
  }

  follow(socket: Socket): void {
    this.#socket.off('close', this.#closed)
    this.#places.moved(this, this.#socket, socket)
    this.#socket = socket
    socket.once('close', this.#closed)
  }

  #startTimer(): void {
    clearTimeout(this.#timer)
    this.#timer = setTimeout(() => this.#timeUp(), this.#timeoutMs)
  }

  #timeUp(): void {
    if (this.onTimeout === undefined) this.#socket.destroy()
    else this.onTimeout()
  }
}

/**
 * Sockets of nobody we know (DESIGN §6): each TCP connection counts against its IP address, and has a time limit, until a
 * CONNECT was accepted on it. That covers silent sockets, slow HTTP headers, and WebSockets that never say who they are.
 * A connection of a trusted proxy counts against its client's address, from the request that names it.
 */
import type { Socket } from 'node:net'
import { addressKey, type TrustedAddresses } from '@agentmesh/sdk/hosting'
import type { Counters } from './counters.ts'
import type { RelayLimits } from './limits.ts'

/** One TCP connection's place. */
export interface GuardedSocket {
  /** What limits by address count under. */
  readonly address: string
  /** Called once when the time is up, instead of destroying the socket. */
  onTimeout: (() => void) | undefined
  /** The socket belongs to an agent: no limit, no timer. */
  release(): void
  /** The same connection goes on as another socket. */
  follow(socket: Socket): void
}

export interface GuardOptions {
  readonly limits: RelayLimits
  readonly counters: Counters
  readonly proxies: TrustedAddresses
  /** A socket that is refused cannot be told so: it has not even begun its handshake. */
  readonly tls: boolean
}

export class SocketGuard {
  readonly #options: GuardOptions
  readonly #sockets = new Map<Socket, Guarded>()
  readonly #places: Places = {
    unknownByAddress: new Map(),
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
  #onEmpty: (() => void) | undefined

  constructor(options: GuardOptions) {
    this.#options = options
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
    if (!proxied && this.#isFull(address)) return this.#refuse(socket, '429 Too Many Requests')

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
    if (this.#isFull(address)) return false
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

  #isFull(address: string): boolean {
    return (this.#places.unknownByAddress.get(address) ?? 0) >= this.#options.limits.preAuthSocketsPerIp
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
  readonly unknownByAddress: Map<string, number>
  moved(guarded: Guarded, from: Socket, to: Socket): void
  gone(socket: Socket): void
}

class Guarded implements GuardedSocket {
  address: string
  onTimeout: (() => void) | undefined
  #socket: Socket
  readonly #timeoutMs: number
  readonly #places: Places
  #timer: NodeJS.Timeout | undefined
  #counted = false
  readonly #closed = () => {
    this.release()
    this.#places.gone(this.#socket)
  }

  constructor(address: string, socket: Socket, timeoutMs: number, places: Places) {
    this.address = address
    this.#socket = socket
    this.#timeoutMs = timeoutMs
    this.#places = places
    socket.once('close', this.#closed)
    this.#startTimer()
  }

  countUnder(address: string): void {
    this.address = address
    this.#counted = true
    const { unknownByAddress } = this.#places
    unknownByAddress.set(address, (unknownByAddress.get(address) ?? 0) + 1)
    // A proxy may have kept the connection since before the client came.
    this.#startTimer()
  }

  release(): void {
    clearTimeout(this.#timer)
    this.#timer = undefined
    this.onTimeout = undefined
    if (!this.#counted) return
    this.#counted = false
    const { unknownByAddress } = this.#places
    const left = (unknownByAddress.get(this.address) ?? 1) - 1
    if (left === 0) unknownByAddress.delete(this.address)
    else unknownByAddress.set(this.address, left)
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

/**
 * Sockets of nobody we know (DESIGN §6): each TCP connection counts against its IP address, and has a time limit, until a
 * CONNECT was accepted on it. That covers silent sockets, slow HTTP headers, and WebSockets that never say who they are.
 */
import type { Socket } from 'node:net'
import { addressKey } from './client-address.ts'
import type { Counters } from './counters.ts'
import type { RelayLimits } from './limits.ts'

export interface GuardedSocket {
  readonly address: string
  /** Called once when the time is up; destroys the socket unless something kinder is put here. */
  onTimeout: () => void
  /** The socket belongs to an agent: no limit, no timer. */
  release(): void
}

export class SocketGuard {
  readonly #limits: RelayLimits
  readonly #counters: Counters
  readonly #sockets = new Map<Socket, GuardedSocket>()
  readonly #unknownByAddress = new Map<string, number>()

  constructor(limits: RelayLimits, counters: Counters) {
    this.#limits = limits
    this.#counters = counters
  }

  get open(): number {
    return this.#sockets.size
  }

  /** Takes a new socket in, or answers 429 or 503 and ends it. */
  admit(socket: Socket): void {
    const address = addressKey(socket.remoteAddress)
    const unknown = this.#unknownByAddress.get(address) ?? 0
    if (this.#sockets.size >= this.#limits.maxSockets) return this.#refuse(socket, '503 Service Unavailable')
    if (unknown >= this.#limits.preAuthSocketsPerIp) return this.#refuse(socket, '429 Too Many Requests')

    this.#counters.socketsOpened += 1
    this.#unknownByAddress.set(address, unknown + 1)
    const timer = setTimeout(() => guarded.onTimeout(), this.#limits.connectTimeoutMs)
    let released = false
    const guarded: GuardedSocket = {
      address,
      onTimeout: () => socket.destroy(),
      release: () => {
        if (released) return
        released = true
        clearTimeout(timer)
        const left = (this.#unknownByAddress.get(address) ?? 1) - 1
        if (left === 0) this.#unknownByAddress.delete(address)
        else this.#unknownByAddress.set(address, left)
      },
    }
    this.#sockets.set(socket, guarded)
    socket.once('close', () => {
      guarded.release()
      this.#sockets.delete(socket)
    })
  }

  of(socket: Socket): GuardedSocket | undefined {
    return this.#sockets.get(socket)
  }

  destroyAll(): void {
    for (const socket of this.#sockets.keys()) socket.destroy()
  }

  #refuse(socket: Socket, status: string): void {
    this.#counters.socketsRefused += 1
    socket.on('error', () => {})
    socket.end(
      `HTTP/1.1 ${status}\r\nConnection: close\r\nRetry-After: 10\r\nContent-Length: 0\r\n\r\n`,
      () => socket.destroy(),
    )
  }
}

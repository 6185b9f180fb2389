/**
 * The WebSockets of a relay, from the HTTP request that asks for one to the end.
 *
 *     serving ---- drain() ----> draining ---- close() ----> closed
 *
 * While draining, who comes is told to go elsewhere at once, and those who are there a portion at a time.
 */
import type { IncomingMessage } from 'node:http'
import type { Socket } from 'node:net'
import { systemRandom } from '@agentmesh/sdk/crypto/signing'
import { addressKey, clientAddress, type TrustedAddresses } from '@agentmesh/sdk/hosting'
import { CONNECT_NONCE_BYTES } from '@agentmesh/sdk/identity'
import { binaryCodec, jsonCodec, RELAY_PATH, type RelayCodec } from '@agentmesh/sdk/wire'
import { Connection, type ConnectionContext } from './connection.ts'
import { drainInPortions } from './drain.ts'
import type { GuardedSocket, SocketGuard } from './socket-guard.ts'
import { handshakeAnswer, handshakeFault } from './web-socket-upgrade.ts'

const SHUTDOWN_RETRY_SECONDS = 1
const DRAINING_RETRY_SECONDS = 10

const CODECS = new Map<string, RelayCodec>(
  [binaryCodec, jsonCodec].map((codec) => [codec.subprotocol, codec]),
)

export interface ConnectionsParts {
  readonly context: ConnectionContext
  readonly guard: SocketGuard
  readonly proxies: TrustedAddresses
  /** Known once the port is. */
  readonly relayIds: () => readonly string[]
}

export class Connections {
  readonly #parts: ConnectionsParts
  readonly #open = new Set<Connection>()
  #phase: 'serving' | 'draining' | 'closed' = 'serving'
  readonly #ended = (connection: Connection) => {
    this.#open.delete(connection)
  }

  constructor(parts: ConnectionsParts) {
    this.#parts = parts
  }

  get size(): number {
    return this.#open.size
  }

  /** An HTTP request that asks to become a WebSocket. */
  upgrade(request: IncomingMessage, socket: Socket, head: Buffer): void {
    const { guard, context, relayIds } = this.#parts
    socket.on('error', () => socket.destroy())
    const guarded = guard.of(socket)
    if (guarded === undefined) return
    if ((request.url ?? '').split('?', 1)[0] !== RELAY_PATH) return refuseUpgrade(socket, '404 Not Found')
    if (this.#phase === 'closed') return refuseUpgrade(socket, '503 Service Unavailable')
    const codec = chooseCodec(request.headers['sec-websocket-protocol'])
    if (codec === undefined) return refuseUpgrade(socket, '400 Bad Request')
    const fault = handshakeFault(request)
    if (fault !== undefined) return refuseUpgrade(socket, fault)
    if (!this.#isWelcome(request, guarded)) return refuseUpgrade(socket, '429 Too Many Requests')
    const { host } = request.headers
    const relayId = host !== undefined && relayIds().includes(host) ? host : (relayIds()[0] ?? '')
    const connection = new Connection(context, {
      handshake: { socket, head, answer: handshakeAnswer(request, codec.subprotocol) },
      codec,
      challenge: { relayId, nonce: systemRandom(CONNECT_NONCE_BYTES) },
      guarded,
      onEnded: this.#ended,
    })
    if (this.#phase === 'draining') return connection.cut('RELAY_SHUTTING_DOWN', DRAINING_RETRY_SECONDS)
    this.#open.add(connection)
  }

  /** Whether the client for whom a proxy asks has room for another connection. */
  #isWelcome({ headers, socket }: IncomingMessage, guarded: GuardedSocket): boolean {
    const { guard, proxies, context } = this.#parts
    const remote = socket.remoteAddress ?? ''
    if (!proxies.has(remote)) return true
    const forwarded = headers['x-forwarded-for']
    // node:http joins several such headers with commas.
    const client = clientAddress(remote, String(forwarded ?? ''), proxies)
    if (guard.identify(guarded, addressKey(client))) return true
    context.counters.socketsRefused += 1
    return false
  }

  checkAlive(): void {
    for (const connection of this.#open) connection.checkAlive()
  }

  /** Resolves when all that are there were told to go, or none may come any more. */
  async drain(seconds: number): Promise<void> {
    this.#phase = 'draining'
    await drainInPortions({ connections: this.#open, seconds, stopped: () => this.#phase === 'closed' })
  }

  /** Nobody is let in from now on. */
  close(): void {
    this.#phase = 'closed'
  }

  cutAll(): void {
    for (const connection of this.#open) connection.cut('RELAY_SHUTTING_DOWN', SHUTDOWN_RETRY_SECONDS)
  }
}

function chooseCodec(header: string | undefined): RelayCodec | undefined {
  for (const name of (header ?? '').split(',')) {
    const codec = CODECS.get(name.trim())
    if (codec !== undefined) return codec
  }
  return undefined
}

function refuseUpgrade(socket: Socket, status: string): void {
  socket.end(`HTTP/1.1 ${status}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n`, () => socket.destroy())
}

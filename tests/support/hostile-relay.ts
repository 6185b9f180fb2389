/**
 * A relay that lies. It speaks the binary protocol to real agents and lets a test change, drop, repeat or invent what it
 * hands over. Nothing is stored: whoever is away misses it.
 */
import { once } from 'node:events'
import type { AddressInfo } from 'node:net'
import {
  binaryCodec,
  type Amid,
  type MessageType,
  newSessionId,
  PROTOCOL_VERSION,
  RELAY_PATH,
  SUBPROTOCOL_BINARY,
  type SentFrame,
  MAX_PAYLOAD_BYTES,
} from '@agentmesh/sdk/wire'
import { randomBytes } from 'node:crypto'
import { WebSocketServer, type WebSocket } from 'ws'

export interface Handover {
  from: Amid
  to: Amid
  type: MessageType
  payload: Uint8Array
}

/** What a SEND becomes: none, one or several RECEIVEs. */
export type Mischief = (message: Handover) => Handover[]

const honest: Mischief = (message) => [message]
const random = (length: number): Uint8Array => new Uint8Array(randomBytes(length))

export class HostileRelay {
  readonly #server: WebSocketServer
  readonly #sockets = new Map<Amid, { socket: WebSocket; sequence: number }>()
  readonly passed: Handover[] = []
  mischief: Mischief = honest
  /** What CONNECTED says the agent has shown. */
  stateCounter = 0
  /** What a sender is told; default that its message is stored. */
  refusal: (message: Handover) => Pick<SentFrame, 'code' | 'retryAfterSeconds'> | undefined = () => undefined

  private constructor(server: WebSocketServer) {
    this.#server = server
    server.on('connection', (socket) => this.#serve(socket))
  }

  static async start(): Promise<HostileRelay> {
    const server = new WebSocketServer({
      host: '127.0.0.1',
      port: 0,
      path: RELAY_PATH,
      handleProtocols: () => SUBPROTOCOL_BINARY,
    })
    await once(server, 'listening')
    return new HostileRelay(server)
  }

  get url(): string {
    return `ws://127.0.0.1:${(this.#server.address() as AddressInfo).port}`
  }

  #serve(socket: WebSocket): void {
    let amid: Amid | undefined
    socket.send(
      binaryCodec.encode({
        frame: 'HELLO',
        protocol: PROTOCOL_VERSION,
        relayId: new URL(this.url).host,
        nonce: random(32),
        maxPayloadBytes: MAX_PAYLOAD_BYTES,
      }),
    )
    socket.on('message', (data: Buffer) => {
      const frame = binaryCodec.decodeFromAgent(new Uint8Array(data))
      if (frame.frame === 'CONNECT') {
        amid = frame.amid
        this.#sockets.set(amid, { socket, sequence: 0 })
        socket.send(
          binaryCodec.encode({
            frame: 'CONNECTED',
            sessionId: newSessionId(random),
            pendingMessages: 0,
            stateCounter: this.stateCounter,
          }),
        )
      } else if (frame.frame === 'SEND' && amid !== undefined) {
        const message = {
          from: amid,
          to: frame.to,
          type: frame.type,
          payload: Uint8Array.from(frame.payload),
        }
        this.passed.push(message)
        const refused = this.refusal(message)
        const outcome = refused ? { status: 'refused' as const, ...refused } : { status: 'stored' as const }
        socket.send(binaryCodec.encode({ frame: 'SENT', id: frame.id, ...outcome }))
        if (refused) return
        for (const changed of this.mischief(message)) this.handOver(changed)
      }
    })
  }

  /** Hands something over that perhaps nobody sent. */
  handOver({ from, to, type, payload }: Handover): void {
    const receiver = this.#sockets.get(to)
    if (!receiver) return
    receiver.sequence++
    const { sequence } = receiver
    receiver.socket.send(
      binaryCodec.encode({ frame: 'RECEIVE', sequence, from, type, timestamp: Date.now(), payload }),
    )
  }

  async close(): Promise<void> {
    for (const client of this.#server.clients) client.terminate()
    await new Promise((resolve) => {
      this.#server.close(resolve)
    })
  }
}

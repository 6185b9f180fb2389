/**
 * A WebSocket proxy between agents and a relay that does to frames what no network should, by a schedule that follows
 * from a seed, the number of the connection, the direction, and the number of the frame:
 *
 *   delay      this frame and all behind it wait a few milliseconds
 *   duplicate  it comes twice
 *   reorder    the next one overtakes it
 *   drop       it is gone; the connection ends soon after, as one does that lost bytes
 *   cut        half of its bytes arrive, and the connection ends
 *
 * HELLO, CONNECT and CONNECTED pass, so that a connection exists to be disturbed. Agents dial the proxy, and the relay
 * must know its authority.
 */
import { once } from 'node:events'
import type { AddressInfo, Socket } from 'node:net'
import { RELAY_PATH } from '@agentmesh/sdk/wire'
import { WebSocket, WebSocketServer } from 'ws'
import { Random } from '../fuzz/random.ts'

export type Fault = 'delay' | 'duplicate' | 'reorder' | 'drop' | 'cut'
type Way = 'to-relay' | 'to-agent'

/** A frame in so many meets each fault. */
const ONE_IN: Readonly<Record<Fault, number>> = {
  delay: 20,
  duplicate: 400,
  reorder: 400,
  drop: 600,
  cut: 600,
}
const MAX_DELAY_MS = 30
/** From a frame that was dropped to the end of its connection. */
const DROPPED_MS = 100
/** A frame that waits to be overtaken goes on when nothing follows. */
const OVERTAKEN_MS = 50
/** Of each direction: HELLO and CONNECTED, CONNECT. */
const HANDSHAKE: Readonly<Record<Way, number>> = { 'to-agent': 2, 'to-relay': 1 }

interface Frame {
  readonly data: Buffer
  readonly binary: boolean
}

/** Half of the WebSocket frame that carries a message (RFC 6455, 5.2), then the end of the connection. */
function cutInHalf({ data, binary }: Frame, to: WebSocket, way: Way, end: () => void): void {
  // `ws` sends whole frames only, so this goes to the socket below it.
  const socket = Reflect.get(to, '_socket') as Socket | null
  if (!socket) return end()
  const header = Buffer.alloc(10)
  header[0] = 0x80 | (binary ? 2 : 1)
  // What a client sends is masked; a mask of zeros changes nothing.
  header[1] = 127 | (way === 'to-relay' ? 0x80 : 0)
  header.writeBigUInt64BE(BigInt(data.length), 2)
  const mask = Buffer.alloc(way === 'to-relay' ? 4 : 0)
  socket.write(Buffer.concat([header, mask, data.subarray(0, data.length >> 1)]), end)
}

export class FrameProxy {
  readonly #server: WebSocketServer
  readonly #seed: number
  readonly #relayPort: () => number
  readonly #oneIn: Partial<Record<Fault, number>>
  #connections = 0
  readonly counts: Record<Fault | 'frames' | 'connections', number> = {
    delay: 0,
    duplicate: 0,
    reorder: 0,
    drop: 0,
    cut: 0,
    frames: 0,
    connections: 0,
  }

  private constructor(
    server: WebSocketServer,
    seed: number,
    relayPort: () => number,
    oneIn: Partial<Record<Fault, number>>,
  ) {
    this.#server = server
    this.#seed = seed
    this.#relayPort = relayPort
    this.#oneIn = oneIn
    server.on('connection', (agent, request) => {
      const subprotocol = agent.protocol === '' ? [] : [agent.protocol]
      const relay = new WebSocket(`ws://127.0.0.1:${this.#relayPort()}${RELAY_PATH}`, subprotocol, {
        headers: { host: request.headers.host ?? '' },
        perMessageDeflate: false,
      })
      this.#join(agent, relay)
    })
  }

  /** @param relayPort asked at each connection, so that the relay may start after the proxy @param oneIn the faults wanted */
  static async start(
    seed: number,
    relayPort: () => number,
    oneIn: Partial<Record<Fault, number>> = ONE_IN,
  ): Promise<FrameProxy> {
    const server = new WebSocketServer({
      host: '127.0.0.1',
      port: 0,
      path: RELAY_PATH,
      perMessageDeflate: false,
    })
    await once(server, 'listening')
    return new FrameProxy(server, seed, relayPort, oneIn)
  }

  /** What the relay must take for its own name. */
  get authority(): string {
    return `127.0.0.1:${(this.#server.address() as AddressInfo).port}`
  }

  #join(agent: WebSocket, relay: WebSocket): void {
    const connection = this.#connections++
    this.counts.connections++
    const end = () => {
      agent.terminate()
      relay.terminate()
    }
    for (const socket of [agent, relay]) {
      socket.on('error', end)
      socket.on('close', end)
    }
    const ready = new Promise<void>((resolve) => relay.once('open', () => resolve()))
    this.#carry('to-relay', connection, agent, relay, ready, end)
    this.#carry('to-agent', connection, relay, agent, ready, end)
  }

  #carry(
    way: Way,
    connection: number,
    from: WebSocket,
    to: WebSocket,
    ready: Promise<void>,
    end: () => void,
  ): void {
    let number = 0
    let overtaken: Frame | undefined
    let cut = false
    // One after the other: a frame that is delayed holds up those behind it.
    let line = ready
    const pass = (frame: Frame) => {
      if (!cut && to.readyState === WebSocket.OPEN) to.send(frame.data, { binary: frame.binary })
    }
    const release = () => {
      const late = overtaken
      overtaken = undefined
      if (late) pass(late)
    }
    const handle = async (frame: Frame, fault: Fault | undefined, random: Random): Promise<void> => {
      switch (fault) {
        case 'delay':
          await new Promise((resolve) => setTimeout(resolve, 1 + random.below(MAX_DELAY_MS)))
          break
        case 'duplicate':
          pass(frame)
          break
        case 'reorder':
          release()
          overtaken = frame
          setTimeout(() => {
            if (overtaken === frame) release()
          }, OVERTAKEN_MS)
          return
        case 'drop':
          setTimeout(end, DROPPED_MS)
          return
        case 'cut':
          cut = true
          cutInHalf(frame, to, way, end)
          return
        case undefined:
      }
      pass(frame)
      release()
    }
    from.on('message', (data, binary) => {
      const index = number++
      this.counts.frames++
      const random = new Random(this.#seed, `${connection} ${way}`, index)
      const fault = index >= HANDSHAKE[way] ? this.#fault(random) : undefined
      if (fault !== undefined) this.counts[fault]++
      line = line.then(() => handle({ data: data as Buffer, binary }, fault, random))
    })
  }

  #fault(random: Random): Fault | undefined {
    for (const [fault, times] of Object.entries(this.#oneIn)) if (random.oneIn(times)) return fault as Fault
    return undefined
  }

  async close(): Promise<void> {
    for (const client of this.#server.clients) client.terminate()
    await new Promise((resolve) => {
      this.#server.close(resolve)
    })
  }
}

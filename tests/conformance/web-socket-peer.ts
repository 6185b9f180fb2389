/**
 * A client for conformance tests: an authenticated agent on a raw TCP socket, that writes whatever bytes a case asks for, in
 * whatever pieces. A relay has no echo of its own, but an agent may send to itself: `echo` is a SEND whose RECEIVE must come
 * back, so that a message is known to have been read as it was written.
 */
import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import { systemRandom } from '@agentmesh/sdk/crypto/signing'
import {
  binaryCodec,
  jsonCodec,
  newMessageId,
  RELAY_PATH,
  toBase64,
  type AgentFrame,
  type HelloFrame,
  type RelayFrame,
} from '@agentmesh/sdk/wire'
import { newIdentity, signConnect } from '../e2e/relay-harness.ts'

export const CONTINUATION = 0
export const TEXT = 1
export const BINARY = 2
export const CLOSE = 8
export const PING = 9
export const PONG = 10

export interface FrameOptions {
  readonly final?: boolean
  /** RSV1 to RSV3, as a number of three bits. */
  readonly reserved?: number
}

/** A masked frame (RFC 6455 §5.2). */
export function frame(
  opcode: number,
  payload: Uint8Array | string = '',
  { final = true, reserved = 0 }: FrameOptions = {},
): Buffer {
  const body = Buffer.from(payload)
  const header = Buffer.alloc(body.length < 126 ? 2 : body.length < 65_536 ? 4 : 10)
  header[0] = (final ? 0x80 : 0) | (reserved << 4) | opcode
  header[1] = 0x80 | (header.length === 2 ? body.length : header.length === 4 ? 126 : 127)
  if (header.length === 4) header.writeUInt16BE(body.length, 2)
  if (header.length === 10) header.writeBigUInt64BE(BigInt(body.length), 2)
  const key = Buffer.from(systemRandom(4))
  for (let index = 0; index < body.length; index++) body[index]! ^= key[index % 4]!
  return Buffer.concat([header, key, body])
}

/** A Close with a code and a reason. */
export function closeFrame(code: number, reason: Uint8Array | string = ''): Buffer {
  const head = Buffer.alloc(2)
  head.writeUInt16BE(code)
  return frame(CLOSE, Buffer.concat([head, Buffer.from(reason)]))
}

/** A message in so many frames. */
export function fragments(opcode: number, payload: Uint8Array, count: number): Buffer[] {
  const size = Math.ceil(payload.length / count)
  return Array.from({ length: count }, (_, index) =>
    frame(index === 0 ? opcode : CONTINUATION, payload.subarray(index * size, (index + 1) * size), {
      final: index === count - 1,
    }),
  )
}

export interface ServerFrame {
  readonly opcode: number
  readonly payload: Buffer
}

export type Kind = 'text' | 'binary'

/** How the connection ended: the code of the relay's Close, or that there was none. */
export type Ending = number | 'no status' | 'no close'

export class WebSocketPeer {
  readonly kind: Kind
  readonly #socket: Socket
  readonly #identity = newIdentity()
  readonly #frames: ServerFrame[] = []
  #rest = Buffer.alloc(0)
  #wake: (() => void) | undefined
  #ended = false
  #sent = 0

  private constructor(kind: Kind, socket: Socket) {
    this.kind = kind
    this.#socket = socket
  }

  static async open(port: number, kind: Kind): Promise<WebSocketPeer> {
    const socket = connect({ port, host: '127.0.0.1', noDelay: true })
    socket.on('error', () => {})
    const peer = new WebSocketPeer(kind, socket)
    socket.write(
      [
        `GET ${RELAY_PATH} HTTP/1.1`,
        `Host: 127.0.0.1:${port}`,
        'Upgrade: websocket',
        'Connection: Upgrade',
        `Sec-WebSocket-Key: ${toBase64(systemRandom(16))}`,
        'Sec-WebSocket-Version: 13',
        `Sec-WebSocket-Protocol: ${peer.#codec.subprotocol}`,
        '\r\n',
      ].join('\r\n'),
    )
    let head = Buffer.alloc(0)
    while (!head.includes('\r\n\r\n')) {
      const [chunk] = (await once(socket, 'data')) as [Buffer]
      head = Buffer.concat([head, chunk])
    }
    const end = head.indexOf('\r\n\r\n') + 4
    if (!head.toString('latin1').startsWith('HTTP/1.1 101 ')) throw new Error(head.toString('latin1'))
    socket.on('data', (chunk: Buffer) => peer.#read(chunk))
    socket.on('close', () => {
      peer.#ended = true
      peer.#wake?.()
    })
    peer.#read(head.subarray(end))
    const hello = (await peer.nextMessage()) as HelloFrame
    peer.write(peer.message(signConnect(peer.#identity, hello)))
    const connected = await peer.nextMessage()
    if (connected.frame !== 'CONNECTED') throw new Error(`${connected.frame} for CONNECTED`)
    return peer
  }

  get #codec() {
    return this.kind === 'text' ? jsonCodec : binaryCodec
  }
  get opcode(): number {
    return this.kind === 'text' ? TEXT : BINARY
  }

  #read(chunk: Buffer): void {
    let data = Buffer.concat([this.#rest, chunk])
    while (data.length >= 2) {
      const short = data[1]!
      const start = short < 126 ? 2 : short === 126 ? 4 : 10
      if (data.length < start) break
      const length =
        short < 126 ? short : short === 126 ? data.readUInt16BE(2) : Number(data.readBigUInt64BE(2))
      if (data.length < start + length) break
      // §5.1: a server never masks; §5.2: and sets no reserved bit.
      if ((short & 0x80) !== 0 || (data[0]! & 0x70) !== 0) throw new Error('The relay wrote a bad frame')
      this.#frames.push({ opcode: data[0]! & 15, payload: data.subarray(start, start + length) })
      data = data.subarray(start + length)
    }
    this.#rest = data
    this.#wake?.()
  }

  /** The next frame of the relay, or undefined when the connection is over. */
  async next(): Promise<ServerFrame | undefined> {
    while (this.#frames.length === 0 && !this.#ended) {
      await new Promise<void>((resolve) => {
        this.#wake = resolve
      })
    }
    return this.#frames.shift()
  }

  async nextMessage(): Promise<RelayFrame> {
    const next = await this.next()
    if (next === undefined || next.opcode !== this.opcode) throw new Error(`${next?.opcode} for a message`)
    return this.#codec.decodeFromRelay(this.kind === 'text' ? next.payload.toString() : next.payload)
  }

  /** Until the end of the connection: messages and control frames, and how it ended. */
  async drain(): Promise<{ readonly frames: ServerFrame[]; readonly ending: Ending }> {
    const frames: ServerFrame[] = []
    for (let each = await this.next(); each !== undefined; each = await this.next()) frames.push(each)
    const close = frames.find(({ opcode }) => opcode === CLOSE)
    if (close === undefined) return { frames, ending: 'no close' }
    return { frames, ending: close.payload.length === 0 ? 'no status' : close.payload.readUInt16BE(0) }
  }

  write(...data: readonly Uint8Array[]): void {
    this.#socket.write(Buffer.concat(data))
  }

  /** In pieces of that many bytes, each in a turn of its own. */
  async writeChopped(data: Uint8Array, size: number): Promise<void> {
    for (let at = 0; at < data.length; at += size) {
      this.#socket.write(data.subarray(at, at + size))
      await new Promise((resolve) => setImmediate(resolve))
    }
  }

  /** A frame of the relay protocol as the payload of a message. */
  body(value: AgentFrame): Buffer {
    return Buffer.from(this.#codec.encode(value))
  }
  message(value: AgentFrame): Buffer {
    return frame(this.opcode, this.body(value))
  }

  /** A SEND to itself with so many bytes of payload: of `length` bytes in all, where that is given. */
  echoBody(length?: number): Buffer {
    this.#sent += 1
    const send = {
      frame: 'SEND',
      id: newMessageId(systemRandom),
      to: this.#identity.amid,
      type: 'message',
    } as const
    const empty = this.body({ ...send, payload: new Uint8Array(0) })
    if (length === undefined) return this.body({ ...send, payload: Buffer.from(`echo ${this.#sent}`) })
    if (length < empty.length) throw new Error('too short for a SEND')
    if (this.kind === 'binary') return Buffer.concat([empty, Buffer.alloc(length - empty.length, 0x2a)])
    // A field that the relay does not know, because base64 has no text of every length.
    return this.withText('*'.repeat(length - empty.length - ',"x":""'.length), empty)
  }

  /** A JSON query for its own presence, of `length` bytes. */
  queryBody(length: number): Buffer {
    const query = this.body({ frame: 'PRESENCE_QUERY', amid: this.#identity.amid })
    return this.withText('*'.repeat(length - query.length - ',"x":""'.length), query)
  }

  /** A JSON SEND to itself with that text in it. */
  withText(text: Uint8Array | string, json = this.echoBody()): Buffer {
    return Buffer.concat([json.subarray(0, -1), Buffer.from(',"x":"'), Buffer.from(text), Buffer.from('"}')])
  }

  /** Reads frames until this many RECEIVEs have come; returns what else came, and acknowledges. */
  async echoes(count: number): Promise<ServerFrame[]> {
    const others: ServerFrame[] = []
    let left = count
    while (left > 0) {
      const next = await this.next()
      if (next === undefined) throw new Error('ended before the echo came')
      if (next.opcode !== this.opcode) {
        others.push(next)
        if (next.opcode === CLOSE) throw new Error(`closed: ${next.payload.toString('latin1')}`)
        continue
      }
      const value = this.#codec.decodeFromRelay(this.kind === 'text' ? next.payload.toString() : next.payload)
      if (value.frame !== 'RECEIVE') throw new Error(`${value.frame}: ${JSON.stringify(value)}`)
      left -= 1
      this.#last = value.sequence
    }
    this.write(this.message({ frame: 'ACK', sequence: this.#last, stateCounter: 0 }))
    for (let sent = 0; sent < count; sent++) {
      const value = await this.nextMessage()
      if (value.frame !== 'SENT' || value.status !== 'delivered') throw new Error(`${value.frame} for SENT`)
    }
    return others
  }
  #last = 0

  /** Nothing was broken: an echo comes back. Returns the control frames before it. */
  async works(): Promise<ServerFrame[]> {
    this.write(frame(this.opcode, this.echoBody()))
    return this.echoes(1)
  }

  destroy(): void {
    this.#socket.destroy()
  }
}

/**
 * Outgoing frames of one connection: collected during an event-loop turn, written to the socket at its end in one call.
 *
 * The WebSocket header (RFC 6455 §5.2, server to client: not masked, never fragmented) is built here and not by `ws`,
 * whose `send` writes twice a frame. Whole frames go to the socket, so `ws` may put its own control frames between them.
 */
import type { Duplex } from 'node:stream'
import type { Counters } from './counters.ts'
import { TurnEnd } from './turn.ts'

const TEXT = 0x81
const BINARY = 0x82

/** The writers that have something to write in this turn. */
export class WriteBatch {
  readonly #writers = new Set<SocketWriter>()
  readonly #turnEnd = new TurnEnd(() => {
    for (const writer of this.#writers) writer.flush()
  })

  add(writer: SocketWriter): void {
    this.#writers.add(writer)
    this.#turnEnd.schedule()
  }
  delete(writer: SocketWriter): void {
    this.#writers.delete(writer)
  }
}

export class SocketWriter {
  readonly #socket: Duplex
  readonly #batch: WriteBatch
  readonly #counters: Counters
  #chunks: Uint8Array[] = []
  #bytes = 0

  constructor(socket: Duplex, batch: WriteBatch, counters: Counters) {
    this.#socket = socket
    this.#batch = batch
    this.#counters = counters
  }

  /** Bytes that the other side has not read yet, those of this turn included. */
  get waiting(): number {
    return this.#bytes + this.#socket.writableLength
  }

  push(data: Uint8Array | string): void {
    const payload = typeof data === 'string' ? Buffer.from(data) : data
    const header = frameHeader(typeof data === 'string' ? TEXT : BINARY, payload.length)
    if (this.#chunks.length === 0) this.#batch.add(this)
    this.#chunks.push(header, payload)
    this.#bytes += header.length + payload.length
  }

  flush(): void {
    this.#batch.delete(this)
    if (this.#chunks.length === 0) return
    const data = Buffer.concat(this.#chunks, this.#bytes)
    this.#chunks = []
    this.#bytes = 0
    if (!this.#socket.writable) return
    this.#counters.writes += 1
    this.#counters.bytesOut += data.length
    this.#socket.write(data)
  }
}

export function frameHeader(opcode: number, length: number): Uint8Array {
  if (length < 126) return Uint8Array.of(opcode, length)
  if (length < 0x1_0000) return Uint8Array.of(opcode, 126, length >>> 8, length & 0xff)
  const header = new Uint8Array(10)
  header[0] = opcode
  header[1] = 127
  new DataView(header.buffer).setUint32(6, length)
  return header
}

/**
 * Outgoing frames of one connection: written into a slab as they are made, during an event-loop turn, and handed to the
 * socket at its end in one call (RFC 6455 §5.2: a server's frames are not masked; ours are never fragmented).
 *
 *     slab  | read by the kernel, or held by a window | of this turn | free |
 *                                                     start          end
 *
 * What was delivered and is not acknowledged stays where it was written: whoever needs it holds the slab. The writer holds it
 * until it is written, and goes on behind it in the next turn if it is still held then; a slab that nobody holds goes to
 * another connection.
 *
 * When the kernel did not take all of a write, that slab is left to the socket. Until the socket is empty again, what is
 * written to it is copied, so that a peer that is behind holds what waits for it and not whole slabs.
 */
import type { Writable } from 'node:stream'
import type { Counters } from './counters.ts'
import { SlabPool, type Slab } from './slab-pool.ts'
import { TurnEnd } from './turn.ts'

const MAX_HEADER_BYTES = 10
/** A turn that wrote more gets no more room ahead than this. */
const MAX_EXPECTED_BYTES = 16 * 1024

/** What all connections share: slabs, and the writers that have something to write in this turn. */
export class WriteBatch {
  readonly slabs = new SlabPool()
  #writers: SocketWriter[] = []
  readonly #turnEnd = new TurnEnd(() => {
    const writers = this.#writers
    this.#writers = []
    for (const writer of writers) writer.flush()
  })

  add(writer: SocketWriter): void {
    this.#writers.push(writer)
    this.#turnEnd.schedule()
  }
}

export class SocketWriter {
  readonly #socket: Writable
  readonly #batch: WriteBatch
  readonly #counters: Counters
  readonly #onWaiting: (bytes: number) => void
  /** Where the payload goes that `take` made room for. */
  slab: Slab
  #start = 0
  #end = 0
  /** Slabs that this turn has filled, and what of them it wrote. */
  #full: { slab: Slab; data: Buffer }[] | undefined
  #fullBytes = 0
  /** Bytes of the last turn, and likely of the next. */
  #lately = 0
  #queued = false

  /** @param onWaiting called after what a turn wrote was handed over, with the bytes the other side has not read, where there are any */
  constructor(socket: Writable, batch: WriteBatch, counters: Counters, onWaiting: (bytes: number) => void) {
    this.#socket = socket
    this.#batch = batch
    this.#counters = counters
    this.#onWaiting = onWaiting
    this.slab = batch.slabs.none
  }

  /** Bytes that the other side has not read yet, those of this turn included. */
  get waiting(): number {
    return this.#fullBytes + this.#end - this.#start + this.#socket.writableLength
  }

  /**
   * Begins a frame: writes its header and returns where in `slab` its payload of `length` bytes belongs.
   *
   * @param first FIN and opcode
   */
  take(first: number, length: number): number {
    const room = MAX_HEADER_BYTES + length
    if (!this.#queued) this.#beginTurn(room)
    if (this.#end + room > this.slab.bytes.length) this.#nextSlab(room)
    const { bytes } = this.slab
    let at = this.#end
    bytes[at++] = first
    if (length < 126) bytes[at++] = length
    else if (length < 0x1_0000) {
      bytes[at++] = 126
      bytes[at++] = length >>> 8
      bytes[at++] = length & 0xff
    } else {
      bytes[at++] = 127
      at = bytes.writeUInt32BE(0, at)
      at = bytes.writeUInt32BE(length, at)
    }
    this.#end = at + length
    return at
  }

  #beginTurn(room: number): void {
    this.#queued = true
    this.#batch.add(this)
    if (this.slab.owner === this) this.slab.hold()
    else this.#useSlab(this.#batch.slabs.take(Math.max(room, this.#lately), this))
  }

  #nextSlab(room: number): void {
    const { slab } = this
    if (this.#end > this.#start) {
      this.#full ??= []
      this.#full.push({ slab, data: slab.bytes.subarray(this.#start, this.#end) })
      this.#fullBytes += this.#end - this.#start
    } else slab.drop()
    // Twice as much as it has come to: a turn that goes on writing is not cut into many pieces.
    const expected = Math.min(Math.max(this.#lately, 2 * this.#fullBytes), MAX_EXPECTED_BYTES)
    this.#useSlab(this.#batch.slabs.take(Math.max(room, expected), this))
  }

  #useSlab(slab: Slab): void {
    this.slab = slab
    this.#start = 0
    this.#end = 0
  }

  /** Hands to the socket what this turn has written. */
  flush(): void {
    if (!this.#queued) return
    this.#queued = false
    this.#handOver()
    const waiting = this.#socket.writableLength
    // Last: whoever is told may write and flush again.
    if (waiting > 0) this.#onWaiting(waiting)
  }

  #handOver(): void {
    const bytes = this.#fullBytes + this.#end - this.#start
    this.#lately = Math.min(bytes, MAX_EXPECTED_BYTES)
    const socket = this.#socket
    if (socket.writable) {
      this.#counters.writes += 1
      this.#counters.bytesOut += bytes
      const last = this.slab.bytes.subarray(this.#start, this.#end)
      if (socket.writableLength > 0) {
        socket.write(Buffer.concat([...(this.#full ?? []).map(({ data }) => data), last], bytes))
      } else {
        this.#write(last)
        if (socket.writableLength > 0) return this.#leaveSlabs()
      }
    }
    this.#start = this.#end
    this.slab.drop()
    if (this.#full === undefined) return
    for (const { slab } of this.#full) slab.drop()
    this.#full = undefined
    this.#fullBytes = 0
  }

  /** To the socket, which has not written all of them. */
  #leaveSlabs(): void {
    this.slab.owner = undefined
    this.#useSlab(this.#batch.slabs.none)
    this.#full = undefined
    this.#fullBytes = 0
  }

  #write(last: Buffer): void {
    const socket = this.#socket
    if (this.#full === undefined) {
      socket.write(last)
      return
    }
    socket.cork()
    for (const { data } of this.#full) socket.write(data)
    socket.write(last)
    socket.uncork()
  }
}

/**
 * WebSocket frames from a client (RFC 6455 §5), read strictly and where they lie: a frame that came whole is unmasked in the
 * buffer it came in and handed on from there; only what came in pieces is copied.
 *
 *      0               1               2 .. 3 (126) or 9 (127)   4 bytes   rest
 *     +-+-+-+-+-------+-+-------------+------------------------+---------+------------------+
 *     |F|R|R|R| opcode|M| length      | extended length        | mask    | masked payload   |
 *     +-+-+-+-+-------+-+-------------+------------------------+---------+------------------+
 *
 * A message costs at most its limit in memory, and no more than twice what has come of it.
 */
import { isUtf8 } from 'node:buffer'
import { wordsOf } from './words.ts'

const CONTINUATION = 0x0
const TEXT = 0x1
const BINARY = 0x2
const CLOSE = 0x8
const PING = 0x9
const PONG = 0xa

const FIN = 0x80
const RESERVED_BITS = 0x70
const MASKED = 0x80
const MAX_CONTROL_BYTES = 125
const MAX_HEADER_BYTES = 14
const FIRST_HELD_BYTES = 256

/** Close codes of RFC 6455 §7.4.1. */
const PROTOCOL_ERROR = 1002
const INVALID_PAYLOAD = 1007
const POLICY_VIOLATION = 1008
const TOO_BIG = 1009
/** §7.4.1: no code in a Close that names none. Never sent. */
export const NO_STATUS = 1005

/** What breaks the protocol; the connection is to be closed with this code (§7.1.7). */
export class WebSocketFault extends Error {
  readonly closeCode: number

  constructor(closeCode: number, message: string) {
    super(message)
    this.closeCode = closeCode
  }
}

/** What a reader hands on. Bytes are valid during the call only. */
export interface WebSocketSink {
  /** Whether a message is taken as it lies there. Of a text only one that was read to its last byte, all of it ASCII. */
  takes(data: Buffer, start: number, end: number, isText: boolean): boolean
  /** Any other. Text is UTF-8. */
  onMessage(data: Buffer, start: number, end: number, isText: boolean): void
  onPing(payload: Buffer): void
  onPong(): void
  /** The last event of a connection. */
  onClose(closeCode: number): void
}

export interface ReaderLimits {
  readonly maxMessageBytes: number
  /** Enough for any honest client, too few to make reassembly costly. */
  readonly maxFragments: number
}

export class WebSocketReader {
  readonly #sink: WebSocketSink
  readonly #limits: ReaderLimits
  /** The beginning of a frame whose end has not come. */
  #held: Buffer | undefined
  #heldBytes = 0
  /** The fragments of a message whose last one has not come. */
  #message: Buffer | undefined
  #messageBytes = 0
  #messageOpcode = 0
  #fragments = 0
  /** Frames that were read whole. */
  frames = 0
  #ended = false

  constructor(sink: WebSocketSink, limits: ReaderLimits) {
    this.#sink = sink
    this.#limits = limits
  }

  /** Memory for what has come of a message that has no end yet. */
  get unfinishedBytes(): number {
    return (this.#held?.length ?? 0) + (this.#message?.length ?? 0)
  }

  /**
   * Reads what came: `data` from 0 to `end`, which is written over. Nothing after a Close is looked at.
   *
   * @throws WebSocketFault, after which nothing more may be read
   */
  read(data: Buffer, end: number): void {
    let at = this.#held === undefined ? 0 : this.#complete(data, end)
    while (at < end && !this.#ended) {
      const size = this.#frameSize(data, at, end)
      if (size === 0 || size > end - at) {
        this.#hold(data, at, end, size)
        return
      }
      this.#frame(data, at, at + size)
      at += size
    }
  }

  /** Adds to the held frame what belongs to it, reads it when it is whole, and returns where the next one begins. */
  #complete(data: Buffer, end: number): number {
    let at = 0
    while (this.#held !== undefined) {
      const size = this.#frameSize(this.#held, 0, this.#heldBytes)
      if (size > 0 && this.#heldBytes >= size) {
        const frame = this.#held
        this.#held = undefined
        this.#heldBytes = 0
        this.#frame(frame, 0, size)
      } else if (at === end) break
      else {
        // A header that is not whole grows byte by byte: where it ends is not known yet.
        const next = size === 0 ? at + 1 : Math.min(end, at + size - this.#heldBytes)
        this.#hold(data, at, next, size)
        at = next
      }
    }
    return at
  }

  /** Room grows with what has come, not with what a header promises. */
  #hold(data: Buffer, start: number, end: number, size: number): void {
    const bytes = this.#heldBytes + end - start
    this.#held = withRoom(this.#held, this.#heldBytes, bytes, Math.max(size, MAX_HEADER_BYTES))
    data.copy(this.#held, this.#heldBytes, start, end)
    this.#heldBytes = bytes
  }

  /** Bytes of the frame at `start` with its header, or 0 while the header is not whole. What has come of it is checked. */
  #frameSize(data: Buffer, start: number, end: number): number {
    if (end - start < 2) return 0
    const first = data[start] as number
    const second = data[start + 1] as number
    // §5.2: no extension gives the reserved bits a meaning.
    if ((first & RESERVED_BITS) !== 0) throw new WebSocketFault(PROTOCOL_ERROR, 'Reserved bit set')
    // §5.1: a client masks every frame.
    if ((second & MASKED) === 0) throw new WebSocketFault(PROTOCOL_ERROR, 'Frame not masked')
    this.#checkOpcode(first & 0x0f, (first & FIN) !== 0, second & 0x7f)
    const length = payloadLength(data, start, end)
    if (length < 0) return 0
    const isData = (first & 0x0f) < CLOSE
    if (isData && length + this.#messageBytes > this.#limits.maxMessageBytes) {
      throw new WebSocketFault(TOO_BIG, 'Message too big')
    }
    const size = headerBytes(second & 0x7f) + length
    return size > length + end - start ? 0 : size
  }

  #checkOpcode(opcode: number, final: boolean, length: number): void {
    switch (opcode) {
      case CONTINUATION:
        // §5.4: only after a first fragment.
        if (this.#fragments === 0) throw new WebSocketFault(PROTOCOL_ERROR, 'Nothing to continue')
        return
      case TEXT:
      case BINARY:
        // §5.4: fragments of two messages are never interleaved.
        if (this.#fragments > 0) throw new WebSocketFault(PROTOCOL_ERROR, 'Message within a message')
        return
      case CLOSE:
      case PING:
      case PONG:
        // §5.5: control frames are short and whole.
        if (!final) throw new WebSocketFault(PROTOCOL_ERROR, 'Control frame in fragments')
        if (length > MAX_CONTROL_BYTES) throw new WebSocketFault(PROTOCOL_ERROR, 'Control frame too long')
        return
      default:
        throw new WebSocketFault(PROTOCOL_ERROR, 'Reserved opcode')
    }
  }

  /** A whole, checked frame. */
  #frame(data: Buffer, start: number, end: number): void {
    this.frames += 1
    const first = data[start] as number
    const payload = start + headerBytes((data[start + 1] as number) & 0x7f)
    unmask(data, payload, end)
    const opcode = first & 0x0f
    if (opcode >= CLOSE) this.#control(opcode, data.subarray(payload, end))
    else if (opcode !== CONTINUATION && (first & FIN) !== 0) this.#deliver(opcode, data, payload, end)
    else this.#fragment(opcode, (first & FIN) !== 0, data, payload, end)
  }

  #control(opcode: number, payload: Buffer): void {
    if (opcode === PING) return this.#sink.onPing(payload)
    if (opcode === PONG) return this.#sink.onPong()
    this.#ended = true
    this.#sink.onClose(readClose(payload))
  }

  #fragment(opcode: number, final: boolean, data: Buffer, start: number, end: number): void {
    if (opcode !== CONTINUATION) this.#messageOpcode = opcode
    this.#fragments += 1
    if (this.#fragments > this.#limits.maxFragments) {
      throw new WebSocketFault(POLICY_VIOLATION, 'Too many fragments')
    }
    const bytes = this.#messageBytes + end - start
    this.#message = withRoom(this.#message, this.#messageBytes, bytes, this.#limits.maxMessageBytes)
    data.copy(this.#message, this.#messageBytes, start, end)
    this.#messageBytes = bytes
    if (!final) return
    const message = this.#message
    this.#message = undefined
    this.#messageBytes = 0
    this.#fragments = 0
    this.#deliver(this.#messageOpcode, message, 0, bytes)
  }

  #deliver(opcode: number, data: Buffer, start: number, end: number): void {
    if (this.#sink.takes(data, start, end, opcode === TEXT)) return
    // §8.1: text that is no UTF-8 fails the connection.
    if (opcode === TEXT && !isUtf8(data.subarray(start, end))) {
      throw new WebSocketFault(INVALID_PAYLOAD, 'Text is not UTF-8')
    }
    this.#sink.onMessage(data, start, end, opcode === TEXT)
  }
}

/** Bytes of a header with its mask, by the short length in it. */
function headerBytes(short: number): number {
  return short < 126 ? 6 : short === 126 ? 8 : MAX_HEADER_BYTES
}

/** §5.2, or -1 while the length is not whole. */
function payloadLength(data: Buffer, start: number, end: number): number {
  const short = (data[start + 1] as number) & 0x7f
  if (short < 126) return short
  if (end - start < headerBytes(short) - 4) return -1
  const length =
    short === 126
      ? data.readUInt16BE(start + 2)
      : data.readUInt32BE(start + 2) * 0x1_0000_0000 + data.readUInt32BE(start + 6)
  // The shortest form is the only one, and the highest bit of 64 is 0.
  if (length < (short === 126 ? 126 : 0x1_0000) || length >= 2 ** 63) {
    throw new WebSocketFault(PROTOCOL_ERROR, 'Length not in its shortest form')
  }
  return length
}

/** §5.3: byte i of the payload is masked with byte i mod 4 of the four before it. */
function unmask(data: Buffer, start: number, end: number): void {
  const words = wordsOf(data)
  const key = words.getInt32(start - 4, true)
  let at = start
  for (const last = end - 16; at <= last; at += 16) {
    words.setInt32(at, words.getInt32(at, true) ^ key, true)
    words.setInt32(at + 4, words.getInt32(at + 4, true) ^ key, true)
    words.setInt32(at + 8, words.getInt32(at + 8, true) ^ key, true)
    words.setInt32(at + 12, words.getInt32(at + 12, true) ^ key, true)
  }
  for (let byte = 0; at < end; at++, byte++) data[at] = (data[at] as number) ^ (key >>> ((byte & 3) * 8))
}

/**
 * The code of a Close (§5.5.1).
 *
 * @throws WebSocketFault for one that may not be sent (§7.4) or a reason that is not UTF-8
 */
function readClose(payload: Buffer): number {
  if (payload.length === 0) return NO_STATUS
  if (payload.length === 1) throw new WebSocketFault(PROTOCOL_ERROR, 'Half a close code')
  const code = payload.readUInt16BE(0)
  if (!mayBeSent(code)) throw new WebSocketFault(PROTOCOL_ERROR, 'Reserved close code')
  if (!isUtf8(payload.subarray(2))) throw new WebSocketFault(INVALID_PAYLOAD, 'Reason is not UTF-8')
  return code
}

/** §7.4.1 and the IANA registry (1012 to 1014); 3000 to 4999 are for libraries and applications. */
function mayBeSent(code: number): boolean {
  if (code >= 3000 && code <= 4999) return true
  return code >= 1000 && code <= 1014 && code !== 1004 && code !== 1005 && code !== 1006
}

/** `buffer` with its first `used` bytes and room for `bytes`: twice as much as is needed, but at most `most`. */
function withRoom(buffer: Buffer | undefined, used: number, bytes: number, most: number): Buffer {
  if (buffer !== undefined && buffer.length >= bytes) return buffer
  const larger = Buffer.allocUnsafeSlow(
    Math.max(bytes, Math.min(most, Math.max(FIRST_HELD_BYTES, 2 * bytes))),
  )
  buffer?.copy(larger, 0, 0, used)
  return larger
}

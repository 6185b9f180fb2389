/**
 * Text encodings of bytes, and big-endian cursors over them. Every encoding that reaches the wire is made and read
 * here, in its one canonical form: what decodes to the same bytes under a second spelling is refused.
 */
import { base58, base64urlnopad } from '@scure/base'
import { AgentMeshError } from './errors.ts'

/** base58 takes quadratic time; nothing on the wire is longer than a multibase key. */
const MAX_BASE58_LENGTH = 128

const utf8Encoder = new TextEncoder()
const utf8Decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })

export function utf8Bytes(text: string): Uint8Array {
  return utf8Encoder.encode(text)
}

/** @throws MALFORMED when the bytes are not UTF-8. */
export function utf8Text(bytes: Uint8Array): string {
  try {
    return utf8Decoder.decode(bytes)
  } catch (cause) {
    throw new AgentMeshError('MALFORMED', 'Not UTF-8', { cause })
  }
}

/** Standard base64 with padding (RFC 4648 §4). */
export function toBase64(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('base64')
}

/** @throws MALFORMED for anything but canonical padded base64. */
export function fromBase64(text: string): Uint8Array {
  const bytes = Buffer.from(text, 'base64')
  // Buffer skips what it does not know; only the canonical spelling encodes back to itself.
  if (bytes.toString('base64') !== text) throw new AgentMeshError('MALFORMED', 'Not base64')
  return new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength)
}

/** base64url without padding (RFC 4648 §5). */
export function toBase64Url(bytes: Uint8Array): string {
  return base64urlnopad.encode(bytes)
}

/** @throws MALFORMED for anything but canonical unpadded base64url. */
export function fromBase64Url(text: string): Uint8Array {
  return decodeText('base64url', text, base64urlnopad.decode)
}

export function toHex(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('hex')
}

/** @throws MALFORMED for anything but lowercase hex of even length. */
export function fromHex(text: string): Uint8Array {
  const bytes = Buffer.from(text, 'hex')
  // Buffer stops at what it does not know.
  if (bytes.toString('hex') !== text) throw new AgentMeshError('MALFORMED', 'Not lowercase hex')
  return new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength)
}

/** base58btc, the alphabet without 0, O, I and l. */
export function toBase58(bytes: Uint8Array): string {
  return base58.encode(bytes)
}

/** @throws MALFORMED for anything but base58btc, or more than 128 characters of it. */
export function fromBase58(text: string): Uint8Array {
  if (text.length > MAX_BASE58_LENGTH) throw new AgentMeshError('MALFORMED', 'Not base58: too long')
  return decodeText('base58', text, base58.decode)
}

function decodeText(encoding: string, text: string, decode: (text: string) => Uint8Array): Uint8Array {
  try {
    return decode(text)
  } catch (cause) {
    throw new AgentMeshError('MALFORMED', `Not ${encoding}`, { cause })
  }
}

export function concatBytes(...parts: readonly Uint8Array[]): Uint8Array {
  let length = 0
  for (const part of parts) length += part.length
  const out = new Uint8Array(length)
  let offset = 0
  for (const part of parts) {
    out.set(part, offset)
    offset += part.length
  }
  return out
}

/** Reads big-endian fields from the front of a buffer. Every method throws MALFORMED past the end. */
export class ByteReader {
  readonly #bytes: Uint8Array
  readonly #view: DataView
  #offset = 0

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  }

  /** Bytes read up to here. */
  get offset(): number {
    return this.#offset
  }

  #take(length: number): number {
    const start = this.#offset
    if (start + length > this.#bytes.length) throw new AgentMeshError('MALFORMED', 'Input ends early')
    this.#offset = start + length
    return start
  }

  u8(): number {
    return this.#view.getUint8(this.#take(1))
  }
  u16(): number {
    return this.#view.getUint16(this.#take(2))
  }
  u32(): number {
    return this.#view.getUint32(this.#take(4))
  }
  /** An unsigned 64-bit integer that must fit in 2^53 - 1. */
  u64(): number {
    const high = this.u32()
    const low = this.u32()
    if (high > 0x1fffff) throw new AgentMeshError('MALFORMED', 'Integer exceeds 2^53 - 1')
    return high * 0x1_0000_0000 + low
  }
  /** A view on the next bytes; valid as long as the input is. */
  bytes(length: number): Uint8Array {
    const start = this.#take(length)
    return this.#bytes.subarray(start, start + length)
  }
  rest(): Uint8Array {
    return this.bytes(this.#bytes.length - this.#offset)
  }
  /** @throws MALFORMED when something is left. */
  end(): void {
    if (this.#offset !== this.#bytes.length) throw new AgentMeshError('MALFORMED', 'Input has trailing bytes')
  }
}

const FIRST_WRITER_BYTES = 64

/**
 * Appends big-endian fields; `finish` returns them in one buffer and leaves none of them behind, since some are secrets. A number
 * its field cannot hold throws MALFORMED.
 */
export class ByteWriter {
  #bytes = new Uint8Array(FIRST_WRITER_BYTES)
  #length = 0

  /** Where so many bytes more belong. */
  #take(count: number): number {
    const start = this.#length
    const end = start + count
    if (end > this.#bytes.length) {
      const larger = new Uint8Array(Math.max(end, 2 * this.#bytes.length))
      larger.set(this.#bytes)
      this.#bytes.fill(0)
      this.#bytes = larger
    }
    this.#length = end
    return start
  }

  #number(length: number, value: number, max: number): this {
    if (!Number.isInteger(value) || value < 0 || value > max) {
      throw new AgentMeshError('MALFORMED', `Number does not fit in ${length} bytes`)
    }
    const start = this.#take(length)
    let rest = value
    for (let at = start + length - 1; at >= start; at--) {
      this.#bytes[at] = rest % 256
      rest = Math.floor(rest / 256)
    }
    return this
  }

  u8(value: number): this {
    return this.#number(1, value, 0xff)
  }
  u16(value: number): this {
    return this.#number(2, value, 0xffff)
  }
  u32(value: number): this {
    return this.#number(4, value, 0xffff_ffff)
  }
  /** At most 2^53 - 1. */
  u64(value: number): this {
    return this.#number(8, value, Number.MAX_SAFE_INTEGER)
  }
  bytes(value: Uint8Array): this {
    const start = this.#take(value.length)
    this.#bytes.set(value, start)
    return this
  }
  finish(): Uint8Array {
    const written = this.#bytes.slice(0, this.#length)
    this.#bytes.fill(0, 0, this.#length)
    this.#length = 0
    return written
  }
}

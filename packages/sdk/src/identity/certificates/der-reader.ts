/**
 * Reads DER (X.690), and nothing that is only BER: definite lengths in their shortest form, one-byte tags, no bytes left over.
 *
 * One pass, no tree, and the caller asks for the tag that its type has at that place, so a hostile input costs no more than
 * its length. General ASN.1 libraries accept BER, and take longer for one certificate than its signature check does many times.
 */
import { AgentMeshError, isAgentMeshError, parseTimestamp, toHex, utf8Text } from '../../wire/index.ts'

export const TAG = {
  boolean: 0x01,
  integer: 0x02,
  bitString: 0x03,
  octetString: 0x04,
  objectIdentifier: 0x06,
  enumerated: 0x0a,
  utf8String: 0x0c,
  utcTime: 0x17,
  generalizedTime: 0x18,
  sequence: 0x30,
  set: 0x31,
} as const
/** Context-specific tags: [n] of a primitive, and of a constructed value. */
export const contextPrimitive = (number: number): number => 0x80 + number
export const contextConstructed = (number: number): number => 0xa0 + number

/** Octets of a serial number at most (RFC 5280 4.1.2.2). */
const MAX_SERIAL_BYTES = 20

export function malformed(why: string, cause?: unknown): AgentMeshError {
  return new AgentMeshError('CERTIFICATE_MALFORMED', why, { operation: 'read a certificate', cause })
}

/** Every method throws CERTIFICATE_MALFORMED for what does not stand there, or is not canonical. */
export class DerReader {
  readonly #bytes: Uint8Array
  #offset = 0

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes
  }

  get isAtEnd(): boolean {
    return this.#offset === this.#bytes.length
  }

  end(): void {
    if (!this.isAtEnd) throw malformed('Bytes are left over')
  }

  /** Whether the next value has this tag. */
  isNext(tag: number): boolean {
    return this.#bytes[this.#offset] === tag
  }

  /** The content of the next value; a view, as long as the input is. */
  content(tag: number): Uint8Array {
    return this.#next(tag).content
  }

  /** The next value with its tag and length. */
  whole(tag: number): Uint8Array {
    return this.#next(tag).whole
  }

  /** A reader of the content of the next value, which is constructed. */
  enter(tag: number = TAG.sequence): DerReader {
    return new DerReader(this.content(tag))
  }

  /** The content of the next value when it has this tag. */
  optional(tag: number): Uint8Array | undefined {
    return this.isNext(tag) ? this.content(tag) : undefined
  }

  #byte(): number {
    const byte = this.#bytes[this.#offset++]
    if (byte === undefined) throw malformed('The input ends early')
    return byte
  }

  #next(tag: number): { readonly content: Uint8Array; readonly whole: Uint8Array } {
    const start = this.#offset
    if (this.#byte() !== tag) throw malformed('A value of another type')
    const first = this.#byte()
    let length = first
    if (first >= 0x80) {
      const count = first - 0x80
      if (count < 1 || count > 3) throw malformed('An indefinite or absurd length')
      length = 0
      for (let index = 0; index < count; index++) length = length * 256 + this.#byte()
      if (length < 0x80 || length < 256 ** (count - 1)) throw malformed('A length not in its shortest form')
    }
    const from = this.#offset
    const end = from + length
    if (end > this.#bytes.length) throw malformed('The input ends early')
    this.#offset = end
    return { content: this.#bytes.subarray(from, end), whole: this.#bytes.subarray(start, end) }
  }

  /** A BOOLEAN that is not the default FALSE, which DER leaves out. */
  isTrue(): boolean {
    const content = this.optional(TAG.boolean)
    if (content === undefined) return false
    if (content.length !== 1 || content[0] !== 0xff) throw malformed('Not the BOOLEAN true')
    return true
  }

  /** An INTEGER or ENUMERATED from 0 to 2^47 - 1. */
  number(tag: number = TAG.integer): number {
    const content = this.content(tag)
    if (content.length > 6) throw malformed('An integer is too large')
    checkPositive(content)
    return content.reduce((sum, byte) => sum * 256 + byte, 0)
  }

  /** The content octets of a serial number, in lower-case hex. */
  serial(): string {
    const content = this.content(TAG.integer)
    checkPositive(content)
    if (content.length > MAX_SERIAL_BYTES || content.every((byte) => byte === 0)) {
      throw malformed('The serial number is zero or longer than 20 octets')
    }
    return toHex(content)
  }

  /** A BIT STRING of whole bytes. */
  bits(): Uint8Array {
    const content = this.content(TAG.bitString)
    if (content[0] !== 0) throw malformed('A BIT STRING of other than whole bytes')
    return content.slice(1)
  }

  /** A BIT STRING of named bits: the numbers of those that are set (X.690 11.2.2: no trailing zeros). */
  namedBits(): number[] {
    const [unused = 8, ...bytes] = this.content(TAG.bitString)
    const length = bytes.length * 8 - unused
    const isSet = (bit: number) => ((bytes[bit >> 3] ?? 0) & (0x80 >> (bit & 7))) !== 0
    const isPadded = ((bytes.at(-1) ?? 0) & ((1 << unused) - 1)) === 0
    if (unused > 7 || length < 1 || length > 16 || !isPadded || !isSet(length - 1)) {
      throw malformed('Named bits that are empty or not canonical')
    }
    return Array.from({ length }, (_, bit) => bit).filter(isSet)
  }

  /** Dotted decimal. */
  oid(): string {
    const content = this.content(TAG.objectIdentifier)
    const arcs: number[] = []
    let arc = 0
    for (const [index, byte] of content.entries()) {
      if (arc === 0 && byte === 0x80) throw malformed('An object identifier is not canonical')
      arc = arc * 128 + (byte & 0x7f)
      if (arc > 0xffff_ffff) throw malformed('An object identifier is too large')
      if (byte < 0x80) {
        arcs.push(arc)
        arc = 0
      } else if (index === content.length - 1) throw malformed('An object identifier ends early')
    }
    const [first, ...others] = arcs
    if (first === undefined) throw malformed('An object identifier is empty')
    const root = Math.min(Math.floor(first / 40), 2)
    return [root, first - root * 40, ...others].join('.')
  }

  /** UTCTime up to 2049, GeneralizedTime after it (RFC 5280 4.1.2.5), whole seconds: milliseconds since the epoch. */
  time(): number {
    const isUtcTime = this.isNext(TAG.utcTime)
    const text = asciiText(this.content(isUtcTime ? TAG.utcTime : TAG.generalizedTime))
    const parts = (isUtcTime ? UTC_TIME : GENERALIZED_TIME).exec(text)
    if (parts === null) throw malformed('Not a time')
    const [, year = '', month, day, hour, minute, second] = parts
    const century = isUtcTime ? (year < '50' ? '20' : '19') : ''
    if (!isUtcTime && year < '2050') throw malformed('A time of the wrong type')
    try {
      return parseTimestamp(`${century}${year}-${month}-${day}T${hour}:${minute}:${second}Z`)
    } catch (cause) {
      throw malformed('Not a time', cause)
    }
  }
}

const UTC_TIME = /^(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)Z$/
const GENERALIZED_TIME = /^(\d{4})(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)Z$/

function checkPositive(content: Uint8Array): void {
  const [first, second] = content
  if (first === undefined || first >= 0x80 || (first === 0 && second !== undefined && second < 0x80)) {
    throw malformed('An integer is negative or not in its shortest form')
  }
}

/** IA5String of printable characters: anything else in a DNS name, a URI or a time is a trick. */
export function asciiText(content: Uint8Array): string {
  if (content.some((byte) => byte < 0x21 || byte > 0x7e))
    throw malformed('Text with other than printable ASCII')
  return String.fromCharCode(...content)
}

export function utf8TextOf(content: Uint8Array): string {
  try {
    return utf8Text(content)
  } catch (cause) {
    if (isAgentMeshError(cause)) throw malformed('Not UTF-8', cause)
    throw cause
  }
}

// --- what certificates and CRLs share -------------------------------------------------------------------------------

export interface ExtensionRead {
  readonly critical: boolean
  readonly value: Uint8Array
}

/** The extensions of a SEQUENCE, by id. @throws CERTIFICATE_MALFORMED for none, or one twice (RFC 5280 4.2) */
export function readExtensions(reader: DerReader): ReadonlyMap<string, ExtensionRead> {
  const extensions = new Map<string, ExtensionRead>()
  if (reader.isAtEnd) throw malformed('An empty list of extensions')
  while (!reader.isAtEnd) {
    const extension = reader.enter()
    const id = extension.oid()
    if (extensions.has(id)) throw malformed('An extension stands there twice')
    extensions.set(id, { critical: extension.isTrue(), value: extension.content(TAG.octetString) })
    extension.end()
  }
  return extensions
}

/** Reads a whole value with nothing behind it. */
export function readWhole<T>(der: Uint8Array, read: (reader: DerReader) => T): T {
  const reader = new DerReader(der)
  const value = read(reader)
  reader.end()
  return value
}

/** id-Ed25519, which has no parameters (RFC 8410 §3), as a whole AlgorithmIdentifier. */
const ED25519_ALGORITHM = '300506032b6570'

/** The `SEQUENCE { signed, algorithm, signature }` of certificates and CRLs. */
export function readSigned(der: Uint8Array) {
  return readWhole(der, (reader) => {
    const outer = reader.enter()
    const signed = outer.whole(TAG.sequence).slice()
    checkAlgorithm(outer)
    const signature = outer.bits()
    outer.end()
    if (signature.length !== 64) throw malformed('The signature has not 64 bytes')
    return { signed, signature }
  })
}

/** @throws CERTIFICATE_MALFORMED unless Ed25519 */
export function checkAlgorithm(reader: DerReader): void {
  if (toHex(reader.whole(TAG.sequence)) !== ED25519_ALGORITHM) throw malformed('Not signed with Ed25519')
}

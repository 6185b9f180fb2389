/**
 * `agentmesh.v0.2.json` in place (spec/relay.md 4): SEND and ACK as `JSON.stringify` spells them, fields in the order of the
 * specification. A payload stays the base64 text it came as, all of it checked, from one JSON agent to the other.
 */
import { formatTimestamp, MAX_PAYLOAD_BYTES, MESSAGE_TYPES, type MessageType } from '@agentmesh/sdk/wire'
import { copyBytes, wordsOf } from '../words.ts'
import { Ascii } from './ascii.ts'
import type { AmidMemo } from './amid-memo.ts'
import { isVersion4 } from './binary-in-place.ts'
import type { AckInPlace, FrameRoom, InPlaceEncoding } from './encoding.ts'
import type { InFlight, MessageInPlace, SentInPlace } from './message-in-place.ts'

/** A whole text message (RFC 6455 §5.2). */
const FIRST = 0x81
const QUOTE = 0x22
const DASH = 0x2d
const PADDING = 0x3d
const ID_LENGTH = 36
/** Where the dashes of an id are. */
const DASHES = [8, 13, 18, 23]
const MAX_AMID_LENGTH = 28
const MAX_U32 = 0xffff_ffff
const U32_DIGITS = 10
/** As many digits as surely fit into 2^53 - 1; the codec reads longer ones. */
const SAFE_DIGITS = 15
const COMMA = 0x2c

const SEND_ID = new Ascii('{"frame":"SEND","id":"')
const TO = new Ascii('","to":"')
const TYPE = new Ascii('","type":"')
const PAYLOAD = new Ascii('","encrypted_payload":"')
const END = '"}'
const [END_QUOTE, END_BRACE] = [0x22, 0x7d]
const ACK = new Ascii('{"frame":"ACK","sequence":')
const STATE_COUNTER = new Ascii(',"state_counter":')
const RECEIVE = new Ascii('{"frame":"RECEIVE","sequence":')
const FROM = new Ascii(',"from":"')
const SENT_ID = new Ascii('{"frame":"SENT","id":"')
const SENT_END = {
  delivered: new Ascii('","status":"delivered"}'),
  stored: new Ascii('","status":"stored"}'),
} as const

const TYPES = (Object.keys(MESSAGE_TYPES) as MessageType[]).map((name) => ({
  name,
  text: new Ascii(`${name}"`),
}))

/** What stands between the sender and the payload of a RECEIVE: made once for all messages of a type and millisecond. */
interface Middle {
  time: number
  text: Ascii
}

function middleOf(type: MessageType, time: number): Middle {
  const text = `","type":"${type}","timestamp":"${formatTimestamp(time)}","encrypted_payload":"`
  return { time, text: new Ascii(text) }
}

export class JsonInPlace implements InPlaceEncoding {
  readonly #amids: AmidMemo
  readonly #middles = new Map(TYPES.map(({ name }) => [name, middleOf(name, 0)]))

  constructor(amids: AmidMemo) {
    this.#amids = amids
  }

  readSend(message: MessageInPlace, data: Buffer, start: number, end: number): boolean {
    const words = wordsOf(data)
    if (!SEND_ID.isAt(words, start, end)) return false
    let at = start + SEND_ID.length
    if (at + ID_LENGTH > end || !readId(message, data, words, at)) return false
    at += ID_LENGTH
    if (!TO.isAt(words, at, end)) return false
    at += TO.length
    let amidEnd = at
    while (amidEnd - at <= MAX_AMID_LENGTH && amidEnd < end && data[amidEnd] !== QUOTE) amidEnd++
    const to = this.#amids.fromText(data, at, amidEnd)
    if (to === undefined || !TYPE.isAt(words, amidEnd, end)) return false
    at = amidEnd + TYPE.length
    const type = typeAt(words, at, end)
    if (type === undefined) return false
    // The quote that ends the type begins the next separator.
    at += type.text.length - 1
    if (!PAYLOAD.isAt(words, at, end)) return false
    at += PAYLOAD.length
    const payloadEnd = end - END.length
    if (payloadEnd < at || data[payloadEnd] !== END_QUOTE || data[payloadEnd + 1] !== END_BRACE) return false
    if (!isBase64(data, words, at, payloadEnd)) return false
    message.to = to
    message.type = type.name
    message.bytes = data
    message.start = at
    message.end = payloadEnd
    message.base64 = true
    return message.size <= MAX_PAYLOAD_BYTES
  }

  readAck(ack: AckInPlace, data: Buffer, start: number, end: number): boolean {
    const words = wordsOf(data)
    if (!ACK.isAt(words, start, end)) return false
    const digits = start + ACK.length
    let comma = digits
    while (comma < end && comma - digits <= U32_DIGITS && data[comma] !== COMMA) comma++
    if (!STATE_COUNTER.isAt(words, comma, end)) return false
    const last = end - 1
    if (data[last] !== END_BRACE) return false
    const sequence = integerAt(data, digits, comma)
    const stateCounter = integerAt(data, comma + STATE_COUNTER.length, last)
    if (sequence < 0 || sequence > MAX_U32 || stateCounter < 0) return false
    ack.sequence = sequence
    ack.stateCounter = stateCounter
    return true
  }

  writeReceive(room: FrameRoom, message: InFlight<unknown>): void {
    const { sequence, from, type, timestamp } = message
    const middle = this.#middle(type, timestamp)
    const digits = digitsOf(sequence)
    const length = message.base64 ? message.end - message.start : 4 * Math.ceil(message.size / 3)
    const head = RECEIVE.length + digits + FROM.length + from.length + middle.length
    let at = room.take(FIRST, head + length + END.length)
    const { bytes, words } = room.slab
    RECEIVE.put(words, at)
    at += RECEIVE.length
    let rest = sequence
    for (let digit = at + digits - 1; digit >= at; digit--) {
      bytes[digit] = 0x30 + (rest % 10)
      rest = Math.floor(rest / 10)
    }
    at += digits
    FROM.put(words, at)
    at += FROM.length
    for (let index = 0; index < from.length; index++) bytes[at + index] = from.charCodeAt(index)
    at += from.length
    middle.put(words, at)
    at += middle.length
    if (message.base64) copyBytes(message.bytes, message.start, message.end, bytes, words, at)
    else bytes.write(message.bytes.toString('base64', message.start, message.end), at, 'latin1')
    bytes[at + length] = END_QUOTE
    bytes[at + length + 1] = END_BRACE
    message.liesIn(room.slab, at, at + length, true)
  }

  writeSent(room: FrameRoom, { message, status }: SentInPlace): void {
    const end = SENT_END[status]
    let at = room.take(FIRST, SENT_ID.length + ID_LENGTH + end.length)
    const { bytes, words } = room.slab
    SENT_ID.put(words, at)
    at += SENT_ID.length
    writeId(bytes, words, at, message)
    end.put(words, at + ID_LENGTH)
  }

  #middle(type: MessageType, time: number): Ascii {
    let middle = this.#middles.get(type)
    if (middle?.time !== time) {
      middle = middleOf(type, time)
      this.#middles.set(type, middle)
    }
    return middle.text
  }
}

function typeAt(words: DataView, at: number, end: number): (typeof TYPES)[number] | undefined {
  for (const type of TYPES) if (type.text.isAt(words, at, end)) return type
  return undefined
}

/** -1 for what is no integer of JSON, or a long one. */
function integerAt(data: Buffer, start: number, end: number): number {
  // Leading zeros are no JSON.
  if (end <= start || end - start > SAFE_DIGITS || (data[start] === 0x30 && end - start > 1)) return -1
  let value = 0
  for (let at = start; at < end; at++) {
    const digit = (data[at] as number) - 0x30
    if (digit < 0 || digit > 9) return -1
    value = value * 10 + digit
  }
  return value
}

/** Decimal digits of a u32. */
function digitsOf(value: number): number {
  let digits = 1
  for (let bound = 10; value >= bound; bound *= 10) digits += 1
  return digits
}

/** By two characters as one number, the first the higher: the byte that two lowercase hex digits spell, or -1. */
const HEX_VALUES = new Int16Array(0x1_0000).fill(-1)
/** By a byte: the two digits. */
const HEX_DIGITS = new Uint16Array(256)
for (let byte = 0; byte < 256; byte++) {
  const digits = byte.toString(16).padStart(2, '0')
  const pair = (digits.charCodeAt(0) << 8) | digits.charCodeAt(1)
  HEX_VALUES[pair] = byte
  HEX_DIGITS[byte] = pair
}

/** A lowercase UUID of version 4, into the message. */
function readId(message: MessageInPlace, data: Buffer, words: DataView, start: number): boolean {
  for (const dash of DASHES) if (data[start + dash] !== DASH) return false
  const a1 = hex16(words, start)
  const a2 = hex16(words, start + 4)
  const b1 = hex16(words, start + 9)
  const b2 = hex16(words, start + 14)
  const c1 = hex16(words, start + 19)
  const c2 = hex16(words, start + 24)
  const d1 = hex16(words, start + 28)
  const d2 = hex16(words, start + 32)
  if ((a1 | a2 | b1 | b2 | c1 | c2 | d1 | d2) < 0) return false
  const idB = (b1 << 16) | b2
  const idC = (c1 << 16) | c2
  if (!isVersion4(idB, idC)) return false
  message.idA = (a1 << 16) | a2
  message.idB = idB
  message.idC = idC
  message.idD = (d1 << 16) | d2
  return true
}

/** Four hex digits; negative when they are none. */
function hex16(words: DataView, at: number): number {
  const high = HEX_VALUES[words.getUint16(at)] as number
  return (high << 8) | (HEX_VALUES[words.getUint16(at + 2)] as number)
}

function writeId(
  bytes: Buffer,
  words: DataView,
  start: number,
  { idA, idB, idC, idD }: MessageInPlace,
): void {
  for (const dash of DASHES) bytes[start + dash] = DASH
  putHex16(words, start, idA >>> 16)
  putHex16(words, start + 4, idA & 0xffff)
  putHex16(words, start + 9, idB >>> 16)
  putHex16(words, start + 14, idB & 0xffff)
  putHex16(words, start + 19, idC >>> 16)
  putHex16(words, start + 24, idC & 0xffff)
  putHex16(words, start + 28, idD >>> 16)
  putHex16(words, start + 32, idD & 0xffff)
}

function putHex16(words: DataView, at: number, value: number): void {
  words.setUint16(at, HEX_DIGITS[value >>> 8] as number)
  words.setUint16(at + 2, HEX_DIGITS[value & 0xff] as number)
}

const BASE64_DIGITS = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/'
/** The value of a digit; 255 for anything else. */
const BASE64_VALUES = new Uint8Array(256).fill(255)
for (let value = 0; value < 64; value++) BASE64_VALUES[BASE64_DIGITS.charCodeAt(value)] = value
/** By two characters as one number: 0 where both are digits. */
const NOT_BASE64 = new Uint8Array(0x1_0000)
for (let pair = 0; pair < NOT_BASE64.length; pair++) {
  const worst = (BASE64_VALUES[pair >>> 8] as number) | (BASE64_VALUES[pair & 0xff] as number)
  NOT_BASE64[pair] = worst < 64 ? 0 : 1
}

/** RFC 4648 §4 in its one spelling: padded, and no bit set that the payload does not have. */
function isBase64(data: Buffer, words: DataView, start: number, end: number): boolean {
  if ((end - start) % 4 !== 0) return false
  if (start === end) return true
  const lastFour = end - 4
  let bad = 0
  for (let at = start; at < lastFour; at += 4) {
    const four = words.getInt32(at)
    bad |= (NOT_BASE64[four >>> 16] as number) | (NOT_BASE64[four & 0xffff] as number)
  }
  if (bad !== 0) return false
  let digits = end
  if (data[end - 1] === PADDING) digits -= data[end - 2] === PADDING ? 2 : 1
  let worst = 0
  for (let at = lastFour; at < digits; at++) worst |= BASE64_VALUES[data[at] as number] as number
  if (worst >= 64) return false
  const last = BASE64_VALUES[data[digits - 1] as number] as number
  const spare = end - digits
  return spare === 0 || (last & (spare === 1 ? 3 : 15)) === 0
}

/**
 * `agentmesh.v0.2.json` in place (spec/relay.md 4): SEND and ACK as `JSON.stringify` spells them, fields in the order of the
 * specification. A payload stays the base64 text it came as, all of it checked, from one JSON agent to the other.
 */
import { formatTimestamp, MAX_PAYLOAD_BYTES, MESSAGE_TYPES, type MessageType } from '@agentmesh/sdk/wire'
import { copyBytes } from '../words.ts'
import type { AmidMemo } from './amid-memo.ts'
import { isVersion4 } from './binary-in-place.ts'
import type { FrameRoom, InPlaceEncoding } from './encoding.ts'
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

const SEND_ID = ascii('{"frame":"SEND","id":"')
const TO = ascii('","to":"')
const TYPE = ascii('","type":"')
const PAYLOAD = ascii('","encrypted_payload":"')
const END = ascii('"}')
const ACK = ascii('{"frame":"ACK","sequence":')
const SENT_ID = ascii('{"frame":"SENT","id":"')
const SENT_END = {
  delivered: ascii('","status":"delivered"}'),
  stored: ascii('","status":"stored"}'),
} as const

const HEX = ascii('0123456789abcdef')
/** The value of a lowercase hex digit; of a base64 digit; 255 for anything else. */
const HEX_VALUES = values('0123456789abcdef')
const BASE64_VALUES = values('ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/')

const TYPES = (Object.keys(MESSAGE_TYPES) as MessageType[]).map((name) => ({ name, text: ascii(`${name}"`) }))

export class JsonInPlace implements InPlaceEncoding {
  readonly #amids: AmidMemo
  #time = 0
  #timeText = formatTimestamp(0)

  constructor(amids: AmidMemo) {
    this.#amids = amids
  }

  readSend(message: MessageInPlace, data: Buffer, start: number, end: number): boolean {
    if (!begins(data, start, end, SEND_ID)) return false
    let at = start + SEND_ID.length
    if (at + ID_LENGTH > end || !readId(message, data, at)) return false
    at += ID_LENGTH
    if (!begins(data, at, end, TO)) return false
    at += TO.length
    let amidEnd = at
    while (amidEnd - at <= MAX_AMID_LENGTH && amidEnd < end && data[amidEnd] !== QUOTE) amidEnd++
    const to = this.#amids.fromText(data, at, amidEnd)
    if (to === undefined || !begins(data, amidEnd, end, TYPE)) return false
    at = amidEnd + TYPE.length
    const type = TYPES.find(({ text }) => begins(data, at, end, text))
    if (type === undefined) return false
    // The quote that ends the type begins the next separator.
    at += type.text.length - 1
    if (!begins(data, at, end, PAYLOAD)) return false
    at += PAYLOAD.length
    const payloadEnd = end - END.length
    if (payloadEnd < at || !begins(data, payloadEnd, end, END) || !isBase64(data, at, payloadEnd))
      return false
    message.to = to
    message.type = type.name
    message.bytes = data
    message.start = at
    message.end = payloadEnd
    message.base64 = true
    return message.size <= MAX_PAYLOAD_BYTES
  }

  readAck(data: Buffer, start: number, end: number): number {
    if (!begins(data, start, end, ACK)) return -1
    const digits = start + ACK.length
    const last = end - 1
    if (last <= digits || last - digits > 10 || data[last] !== 0x7d) return -1
    // Leading zeros are no JSON.
    if (data[digits] === 0x30 && last - digits > 1) return -1
    let value = 0
    for (let at = digits; at < last; at++) {
      const digit = (data[at] as number) - 0x30
      if (digit < 0 || digit > 9) return -1
      value = value * 10 + digit
    }
    return value > MAX_U32 ? -1 : value
  }

  writeReceive(room: FrameRoom, message: InFlight<unknown>): void {
    const { sequence, from, type, timestamp } = message
    const head = `{"frame":"RECEIVE","sequence":${sequence},"from":"${from}","type":"${type}","timestamp":"${this.#timestamp(timestamp)}","encrypted_payload":"`
    const length = message.base64 ? message.end - message.start : 4 * Math.ceil(message.size / 3)
    let at = room.take(FIRST, head.length + length + END.length)
    const { bytes, words } = room.slab
    bytes.write(head, at, 'latin1')
    at += head.length
    if (message.base64) copyBytes(message.bytes, message.start, message.end, bytes, words, at)
    else bytes.write(message.bytes.toString('base64', message.start, message.end), at, 'latin1')
    put(bytes, at + length, END)
    message.liesIn(room.slab, at, at + length, true)
  }

  writeSent(room: FrameRoom, { message, status }: SentInPlace): void {
    const end = SENT_END[status]
    let at = room.take(FIRST, SENT_ID.length + ID_LENGTH + end.length)
    const { bytes } = room.slab
    put(bytes, at, SENT_ID)
    at += SENT_ID.length
    writeId(bytes, at, message)
    put(bytes, at + ID_LENGTH, end)
  }

  #timestamp(milliseconds: number): string {
    if (milliseconds !== this.#time) {
      this.#timeText = formatTimestamp(milliseconds)
      this.#time = milliseconds
    }
    return this.#timeText
  }
}

function ascii(text: string): Uint8Array {
  return new Uint8Array(Buffer.from(text, 'latin1'))
}

function values(digits: string): Uint8Array {
  const table = new Uint8Array(256).fill(255)
  for (let value = 0; value < digits.length; value++) table[digits.charCodeAt(value)] = value
  return table
}

function begins(data: Buffer, start: number, end: number, text: Uint8Array): boolean {
  if (end - start < text.length) return false
  for (let index = 0; index < text.length; index++) if (data[start + index] !== text[index]) return false
  return true
}

function put(out: Buffer, at: number, text: Uint8Array): void {
  for (let index = 0; index < text.length; index++) out[at + index] = text[index] as number
}

/** A lowercase UUID of version 4, into the message. */
function readId(message: MessageInPlace, data: Buffer, start: number): boolean {
  for (const dash of DASHES) if (data[start + dash] !== DASH) return false
  const idA = hex32(data, start, start + 4)
  const idB = hex32(data, start + 9, start + 14)
  const idC = hex32(data, start + 19, start + 24)
  const idD = hex32(data, start + 28, start + 32)
  if (idA === undefined || idB === undefined || idC === undefined || idD === undefined) return false
  if (!isVersion4(idB, idC)) return false
  message.idA = idA
  message.idB = idB
  message.idC = idC
  message.idD = idD
  return true
}

/** Eight hex digits in two groups of four. */
function hex32(data: Buffer, first: number, second: number): number | undefined {
  let value = 0
  let worst = 0
  for (let index = 0; index < 8; index++) {
    const at = index < 4 ? first + index : second + index - 4
    const digit = HEX_VALUES[data[at] as number] as number
    worst |= digit
    value = (value << 4) | (digit & 15)
  }
  return worst > 15 ? undefined : value
}

function writeId(out: Buffer, start: number, { idA, idB, idC, idD }: MessageInPlace): void {
  for (const dash of DASHES) out[start + dash] = DASH
  writeHex32(out, start, start + 4, idA)
  writeHex32(out, start + 9, start + 14, idB)
  writeHex32(out, start + 19, start + 24, idC)
  writeHex32(out, start + 28, start + 32, idD)
}

function writeHex32(out: Buffer, first: number, second: number, value: number): void {
  for (let index = 0; index < 4; index++) {
    out[first + index] = HEX[(value >>> (28 - 4 * index)) & 15] as number
    out[second + index] = HEX[(value >>> (12 - 4 * index)) & 15] as number
  }
}

/** RFC 4648 §4 in its one spelling: padded, and no bit set that the payload does not have. */
function isBase64(data: Buffer, start: number, end: number): boolean {
  if ((end - start) % 4 !== 0) return false
  if (start === end) return true
  let digits = end
  if (data[end - 1] === PADDING) digits -= data[end - 2] === PADDING ? 2 : 1
  let worst = 0
  for (let at = start; at < digits; at++) worst |= BASE64_VALUES[data[at] as number] as number
  if (worst >= 64) return false
  const last = BASE64_VALUES[data[digits - 1] as number] as number
  const spare = end - digits
  return spare === 0 || (last & (spare === 1 ? 3 : 15)) === 0
}

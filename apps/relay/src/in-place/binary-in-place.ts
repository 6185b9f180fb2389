/**
 * `agentmesh.v0.2.bin` in place (spec/relay.md 3):
 *
 *   0x02 SEND      u8 type | message id 16 | to 20 | payload rest
 *   0x03 ACK       u32 sequence | u64 state counter
 *   0x83 SENT      message id 16 | u8 status | u32 retry after, 0 | u8 code length, 0
 *   0x84 RECEIVE   u8 type | u32 sequence | from 20 | u64 ms | payload rest
 */
import {
  FRAME_CODES,
  MAX_PAYLOAD_BYTES,
  MESSAGE_TYPES,
  SENT_STATUSES,
  type MessageType,
} from '@agentmesh/sdk/wire'
import { copyBytes, wordsOf } from '../words.ts'
import type { AmidMemo } from './amid-memo.ts'
import type { AckInPlace, FrameRoom, InPlaceEncoding } from './encoding.ts'
import type { InFlight, MessageInPlace, SentInPlace } from './message-in-place.ts'

/** A whole binary message (RFC 6455 §5.2). */
const FIRST = 0x82
const SEND_HEADER = 38
const RECEIVE_HEADER = 34
const SENT_BYTES = 23
const ACK_BYTES = 13
/** The upper half of 2^53 - 1. */
const MAX_HIGH = 0x1f_ffff

const TYPES: (MessageType | undefined)[] = []
for (const [name, code] of Object.entries(MESSAGE_TYPES)) TYPES[code] = name as MessageType

export class BinaryInPlace implements InPlaceEncoding {
  readonly #amids: AmidMemo

  constructor(amids: AmidMemo) {
    this.#amids = amids
  }

  readSend(message: MessageInPlace, data: Buffer, start: number, end: number): boolean {
    const payload = start + SEND_HEADER
    if (data[start] !== FRAME_CODES.SEND || payload > end || end - payload > MAX_PAYLOAD_BYTES) return false
    const type = TYPES[data[start + 1] as number]
    if (type === undefined) return false
    const words = wordsOf(data)
    const idB = words.getInt32(start + 6)
    const idC = words.getInt32(start + 10)
    if (!isVersion4(idB, idC)) return false
    message.type = type
    message.idA = words.getInt32(start + 2)
    message.idB = idB
    message.idC = idC
    message.idD = words.getInt32(start + 14)
    message.to = this.#amids.fromBytes(data, start + 18)
    message.bytes = data
    message.start = payload
    message.end = end
    message.base64 = false
    return true
  }

  readAck(ack: AckInPlace, data: Buffer, start: number, end: number): boolean {
    if (end - start !== ACK_BYTES || data[start] !== FRAME_CODES.ACK) return false
    const words = wordsOf(data)
    const high = words.getUint32(start + 5)
    if (high > MAX_HIGH) return false
    ack.sequence = words.getUint32(start + 1)
    ack.stateCounter = high * 0x1_0000_0000 + words.getUint32(start + 9)
    return true
  }

  writeReceive(room: FrameRoom, message: InFlight<unknown>): void {
    const { size, timestamp } = message
    const at = room.take(FIRST, RECEIVE_HEADER + size)
    const { slab } = room
    const { bytes, words } = slab
    bytes[at] = FRAME_CODES.RECEIVE
    bytes[at + 1] = MESSAGE_TYPES[message.type]
    words.setUint32(at + 2, message.sequence)
    this.#amids.write(message.from, words, at + 6)
    words.setUint32(at + 26, Math.floor(timestamp / 0x1_0000_0000))
    words.setUint32(at + 30, timestamp)
    const payload = at + RECEIVE_HEADER
    if (message.base64) {
      bytes.write(message.bytes.toString('latin1', message.start, message.end), payload, 'base64')
    } else copyBytes(message.bytes, message.start, message.end, bytes, words, payload)
    message.liesIn(slab, payload, payload + size, false)
  }

  writeSent(room: FrameRoom, { message, status }: SentInPlace): void {
    const at = room.take(FIRST, SENT_BYTES)
    const { bytes, words } = room.slab
    bytes[at] = FRAME_CODES.SENT
    words.setInt32(at + 1, message.idA)
    words.setInt32(at + 5, message.idB)
    words.setInt32(at + 9, message.idC)
    words.setInt32(at + 13, message.idD)
    bytes[at + 17] = SENT_STATUSES[status]
    words.setInt32(at + 18, 0)
    bytes[at + 22] = 0
  }
}

/** The variant and version bits of RFC 9562 §5.4, in the second and third integer of an id. */
export function isVersion4(idB: number, idC: number): boolean {
  return ((idB >>> 12) & 0xf) === 4 && idC >>> 30 === 2
}

import { randomBytes } from 'node:crypto'
import {
  binaryCodec,
  jsonCodec,
  utf8Bytes,
  type AgentFrame,
  type Amid,
  type MessageId,
  type RelayCodec,
  type RelayFrame,
} from '@agentmesh/sdk'
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { find, haystacks, readRecording } from './recording.ts'

const AMID = '5TeC66QiBsJaxeMtz9oEwMFQWBD' as Amid
const SECRET = 'Wilhelmina Quillfeather'

/** A masked WebSocket frame, as a client sends it (RFC 6455 §5.2). */
function clientFrame(payload: Uint8Array, opcode: number, fin = true): Buffer {
  const mask = randomBytes(4)
  const length =
    payload.length < 126
      ? Buffer.from([0x80 | payload.length])
      : Buffer.from([0x80 | 126, payload.length >> 8, payload.length & 0xff])
  const masked = Buffer.from(payload.map((byte, index) => byte ^ mask[index % 4]!))
  return Buffer.concat([Buffer.from([(fin ? 0x80 : 0) | opcode]), length, mask, masked])
}

function record(direction: 0 | 1, bytes: Buffer): Buffer {
  const head = Buffer.alloc(9)
  head.writeUInt32BE(1, 0)
  head.writeUInt8(direction, 4)
  head.writeUInt32BE(bytes.length, 5)
  return Buffer.concat([head, bytes])
}

/** One connection on which an agent sent these frames, cut into TCP chunks of `chunk` bytes. */
function recordingOf(codec: RelayCodec, frames: readonly AgentFrame[], chunk: number): Buffer {
  const head = Buffer.from('GET /v1/connect HTTP/1.1\r\nHost: x\r\n\r\n')
  const answer = Buffer.from(`HTTP/1.1 101 Go\r\nSec-WebSocket-Protocol: ${codec.subprotocol}\r\n\r\n`)
  const sent = frames.map((frame) => {
    const encoded = codec.encode(frame)
    const bytes = typeof encoded === 'string' ? utf8Bytes(encoded) : encoded
    return Buffer.concat([
      clientFrame(bytes.subarray(0, 5), typeof encoded === 'string' ? 1 : 2, false),
      clientFrame(Buffer.from('ping'), 9),
      clientFrame(bytes.subarray(5), 0),
    ])
  })
  const stream = Buffer.concat([head, ...sent])
  const chunks = Array.from({ length: Math.ceil(stream.length / chunk) }, (_, index) =>
    record(0, stream.subarray(index * chunk, (index + 1) * chunk)),
  )
  return Buffer.concat([record(1, answer), ...chunks])
}

const send = (text: string): AgentFrame => ({
  frame: 'SEND',
  id: '6f9619ff-8b86-4011-b42d-00cf4fc964ff' as MessageId,
  to: AMID,
  type: 'message',
  payload: utf8Bytes(text),
})

test.each([
  ['binary', binaryCodec],
  ['JSON', jsonCodec],
])('reads %s frames back through masks, fragments, pings and TCP chunks', (_name, codec) => {
  for (const chunk of [1, 7, 10_000]) {
    const [connection] = readRecording(recordingOf(codec, [send('one'), send('two')], chunk))
    expect(connection?.subprotocol).toBe(codec.subprotocol)
    const encode = (frame: AgentFrame | RelayFrame) => Buffer.from(codec.encode(frame)).toString('hex')
    expect(connection?.frames.map(encode)).toEqual([send('one'), send('two')].map(encode))
  }
})

test.each([
  ['binary', binaryCodec, 'plain'],
  ['JSON', jsonCodec, 'base64'],
])('finds plain text that an agent sent in a %s frame', (_name, codec, spelling) => {
  const hay = haystacks(readRecording(recordingOf(codec, [send(`xx ${SECRET} yy`)], 50)))
  const found = find(utf8Bytes(SECRET), hay)
  expect(found.some((form) => form.startsWith(spelling))).toBe(true)
  expect(find(utf8Bytes('not there'), hay)).toEqual([])
})

test('finds bytes in every spelling, wherever they stand', () => {
  const bytes = (minLength: number) => fc.uint8Array({ minLength, maxLength: 40 })
  fc.assert(
    fc.property(bytes(0), bytes(6), bytes(0), (before, needle, after) => {
      const whole = Buffer.concat([before, needle, after])
      for (const [spelling, name] of [
        [whole, 'plain'],
        [Buffer.from(whole.toString('hex')), 'hex'],
        [Buffer.from(whole.toString('hex').toUpperCase()), 'HEX'],
        [Buffer.from(whole.toString('base64')), `base64+${before.length % 3}`],
        [Buffer.from(whole.toString('base64url')), `base64url+${before.length % 3}`],
      ] as const) {
        expect(find(needle, [Buffer.from('other'), spelling])).toContain(name)
      }
    }),
  )
})

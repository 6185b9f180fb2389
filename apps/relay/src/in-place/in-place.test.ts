/** What is read and written in place, held against the codecs: they may never disagree. */
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import {
  amidFromBytes,
  binaryCodec,
  isAgentMeshError,
  jsonCodec,
  MAX_PAYLOAD_BYTES,
  MAX_TIMESTAMP,
  MESSAGE_TYPES,
  newMessageId,
  toBase64,
  type AgentFrame,
  type Amid,
  type MessageType,
} from '@agentmesh/sdk/wire'
import { SlabPool } from '../slab-pool.ts'
import { AmidMemo } from './amid-memo.ts'
import { BinaryInPlace } from './binary-in-place.ts'
import { AckInPlace, type FrameRoom } from './encoding.ts'
import { JsonInPlace } from './json-in-place.ts'
import { InFlight, MessageInPlace, SentInPlace } from './message-in-place.ts'

const bytes = (length: number) => fc.uint8Array({ minLength: length, maxLength: length })
const amid = bytes(20).map(amidFromBytes)
const id = bytes(16).map((random) => newMessageId(() => random))
const type = fc.constantFrom(...(Object.keys(MESSAGE_TYPES) as MessageType[]))
const payload = fc.uint8Array({ maxLength: 100 })
const send = fc.record({ frame: fc.constant('SEND' as const), id, to: amid, type, payload })
const ack = fc.record({
  frame: fc.constant('ACK' as const),
  sequence: fc.integer({ min: 0, max: 0xffff_ffff }),
  // Longer ones in JSON are left to the codec.
  stateCounter: fc.maxSafeNat().map((counter) => Math.floor(counter / 16)),
})

const amids = new AmidMemo()
const ENCODINGS = [
  { name: 'binary', codec: binaryCodec, inPlace: new BinaryInPlace(amids) },
  { name: 'JSON', codec: jsonCodec, inPlace: new JsonInPlace(amids) },
]

/** As it would lie among other frames: what comes before and after must not matter. */
function among(data: Uint8Array | string): { data: Buffer; start: number; end: number } {
  const frame = Buffer.from(data)
  const around = Buffer.from('0123456789"}')
  return {
    data: Buffer.concat([around, frame, around]),
    start: around.length,
    end: around.length + frame.length,
  }
}

class Room implements FrameRoom {
  readonly slab = new SlabPool().take(1 << 18, this)
  #at = 3
  #length = 0
  first = 0

  take(first: number, length: number): number {
    this.#at += 5
    this.#length = length
    this.first = first
    return this.#at
  }
  frame(): Buffer {
    return this.slab.bytes.subarray(this.#at, this.#at + this.#length)
  }
}

describe.each(ENCODINGS)('$name', ({ codec, inPlace }) => {
  const text = codec === jsonCodec
  const asCodec = (frame: Buffer) => (text ? frame.toString() : Uint8Array.from(frame))

  function decoded(data: Buffer): AgentFrame | undefined {
    try {
      return codec.decodeFromAgent(asCodec(data))
    } catch (error) {
      if (!isAgentMeshError(error)) throw error
      return undefined
    }
  }

  it('reads every SEND as the codec does', () => {
    fc.assert(
      fc.property(send, (frame) => {
        const { data, start, end } = among(codec.encode(frame))
        const message = new MessageInPlace()
        expect(inPlace.readSend(message, data, start, end)).toBe(true)
        expect({ frame: 'SEND', ...message.copy(frame.to, 7) }).toEqual({
          ...frame,
          from: frame.to,
          timestamp: 7,
        })
        expect(message.size).toBe(frame.payload.length)
        expect(inPlace.readAck(new AckInPlace(), data, start, end)).toBe(false)
      }),
    )
  })

  it('reads every ACK as the codec does', () => {
    fc.assert(
      fc.property(ack, (frame) => {
        const { data, start, end } = among(codec.encode(frame))
        const found = new AckInPlace()
        expect(inPlace.readAck(found, data, start, end)).toBe(true)
        expect({ frame: 'ACK', sequence: found.sequence, stateCounter: found.stateCounter }).toEqual(frame)
        expect(inPlace.readSend(new MessageInPlace(), data, start, end)).toBe(false)
      }),
    )
  })

  it('takes nothing that the codec reads otherwise or refuses', () => {
    const damage = fc.array(fc.tuple(fc.nat({ max: 400 }), fc.nat({ max: 255 }), fc.nat({ max: 2 })), {
      minLength: 1,
      maxLength: 3,
    })
    let taken = 0
    fc.assert(
      fc.property(fc.oneof(send, ack), damage, (frame, changes) => {
        let broken = Buffer.from(codec.encode(frame))
        for (const [place, value, how] of changes) {
          const at = place % (broken.length + 1)
          const rest = broken.subarray(how === 0 ? at : at + 1)
          broken = Buffer.concat([
            broken.subarray(0, at),
            ...(how === 2 ? [] : [Uint8Array.of(text ? value & 0x7f : value)]),
            rest,
          ])
        }
        const { data, start, end } = among(broken)
        const expected = decoded(broken)
        const message = new MessageInPlace()
        if (inPlace.readSend(message, data, start, end)) {
          taken += 1
          const { from: _, timestamp: __, ...rest } = message.copy(message.to, 0)
          expect({ frame: 'SEND', ...rest }).toEqual(expected)
        }
        const found = new AckInPlace()
        if (inPlace.readAck(found, data, start, end))
          expect({ frame: 'ACK', sequence: found.sequence, stateCounter: found.stateCounter }).toEqual(
            expected,
          )
      }),
      { numRuns: 5000 },
    )
    // A damaged payload or id is often a good one still.
    expect(taken).toBeGreaterThan(50)
  })

  it('leaves a payload that is too large to the codec', () => {
    const largest = new Uint8Array(MAX_PAYLOAD_BYTES)
    const frame = { frame: 'SEND', id: newMessageId(() => new Uint8Array(16)), type: 'ice' } as const
    const to = amidFromBytes(new Uint8Array(20))
    for (const [size, takes] of [
      [MAX_PAYLOAD_BYTES, true],
      [MAX_PAYLOAD_BYTES + 1, false],
    ] as const) {
      const data = Buffer.concat([largest, Uint8Array.of(1)]).subarray(0, size)
      const found = among(codec.encode({ ...frame, to, payload: data }))
      expect(inPlace.readSend(new MessageInPlace(), found.data, found.start, found.end)).toBe(takes)
    }
  })

  it('writes a RECEIVE that the codec reads, wherever the payload came from, and finds it there again', () => {
    const received = fc.record({
      id,
      to: amid,
      from: amid,
      type,
      payload,
      timestamp: fc.integer({ min: 0, max: MAX_TIMESTAMP }),
      sequence: fc.integer({ min: 0, max: 0xffff_ffff }),
      base64: fc.boolean(),
    })
    fc.assert(
      fc.property(received, ({ base64, sequence, from, timestamp, ...parts }) => {
        const source = MessageInPlace.of({ ...parts, payload: Uint8Array.from(parts.payload) })
        if (base64) {
          source.bytes = Buffer.from(toBase64(parts.payload), 'latin1')
          source.end = source.bytes.length
          source.base64 = true
        }
        const message = new InFlight<Amid>(source, from, timestamp, undefined, undefined)
        message.sequence = sequence
        const room = new Room()
        inPlace.writeReceive(room, message)
        expect(codec.decodeFromRelay(asCodec(room.frame()))).toEqual({
          frame: 'RECEIVE',
          sequence,
          from,
          type: parts.type,
          timestamp,
          payload: parts.payload,
        })
        expect(room.first).toBe(text ? 0x81 : 0x82)
        source.bytes.fill(0xff)
        expect(message.copy(from, timestamp)).toEqual({ ...parts, from, timestamp })
        expect(message.size).toBe(parts.payload.length)
      }),
    )
  })

  it('writes a SENT as the codec does', () => {
    fc.assert(
      fc.property(id, amid, fc.constantFrom('delivered' as const, 'stored' as const), (name, to, status) => {
        const message = MessageInPlace.of({ id: name, to, type: 'message', payload: new Uint8Array(0) })
        const room = new Room()
        inPlace.writeSent(room, new SentInPlace(message, status))
        const expected = codec.encode({ frame: 'SENT', id: name, status })
        expect(room.frame()).toEqual(Buffer.from(expected))
      }),
    )
  })
})

it.each([
  ['fields in another order', '{"id":"ID","frame":"SEND","to":"TO","type":"message","encrypted_payload":""}'],
  ['white space', '{"frame":"SEND", "id":"ID","to":"TO","type":"message","encrypted_payload":""}'],
  ['another field', '{"frame":"SEND","id":"ID","to":"TO","type":"message","encrypted_payload":"","x":1}'],
])('leaves JSON with %s to the codec, which reads it', (_, template) => {
  const name = newMessageId(() => new Uint8Array(16))
  const to = amidFromBytes(new Uint8Array(20).fill(200))
  const json = template.replace('ID', name).replace('TO', to)
  const { data, start, end } = among(json)
  expect(new JsonInPlace(amids).readSend(new MessageInPlace(), data, start, end)).toBe(false)
  expect(jsonCodec.decodeFromAgent(json)).toMatchObject({ frame: 'SEND', id: name, to, type: 'message' })
})

it('takes no text with a byte that is not ASCII, since nobody else looks for UTF-8 then', () => {
  const name = newMessageId(() => new Uint8Array(16))
  const to = amidFromBytes(new Uint8Array(20).fill(200))
  const json = new JsonInPlace(amids)
  const frames = [0, 1, 2, 3, 40].map((size) =>
    jsonCodec.encode({ frame: 'SEND', id: name, to, type: 'message', payload: new Uint8Array(size) }),
  )
  const texts = [...frames, jsonCodec.encode({ frame: 'ACK', sequence: 1234, stateCounter: 5678 })]
  for (const text of texts) {
    const { data, start, end } = among(text)
    for (let at = start; at < end; at++) {
      const good = data[at] as number
      for (const bad of [good | 0x80, 0xc3, 0xff]) {
        data[at] = bad
        expect(json.readSend(new MessageInPlace(), data, start, end)).toBe(false)
        expect(json.readAck(new AckInPlace(), data, start, end)).toBe(false)
      }
      data[at] = good
    }
  }
})

describe('AmidMemo', () => {
  it('answers as the parser does, whatever it was asked before', () => {
    const memo = new AmidMemo()
    fc.assert(
      fc.property(bytes(20), fc.string({ minLength: 18, maxLength: 30 }), (raw, noise) => {
        const expected = amidFromBytes(raw)
        const data = Buffer.concat([Uint8Array.of(9), raw])
        expect(memo.fromBytes(data, 1)).toBe(expected)
        const found = among(expected)
        expect(memo.fromText(found.data, found.start, found.end)).toBe(expected)
        const other = among(noise)
        expect(memo.fromText(other.data, other.start, other.end)).toBe(undefined)
        const out = Buffer.alloc(22)
        memo.write(expected, new DataView(out.buffer, out.byteOffset), 1)
        expect([...out]).toEqual([0, ...raw, 0])
      }),
    )
  })

  it('never mistakes one for another in the same place', () => {
    const memo = new AmidMemo()
    // The place by bytes depends on the third and the fourth.
    const all = Array.from({ length: 300 }, (_, index) =>
      Uint8Array.of(index >> 8, index & 255, 1, 2, ...new Uint8Array(16)),
    )
    for (const round of [0, 1]) {
      for (const raw of all) {
        const expected = amidFromBytes(raw)
        expect(memo.fromBytes(Buffer.from(raw), 0), `round ${round}`).toBe(expected)
        const found = among(expected)
        expect(memo.fromText(found.data, found.start, found.end)).toBe(expected)
        const out = Buffer.alloc(20)
        memo.write(expected, new DataView(out.buffer, out.byteOffset), 0)
        expect([...out]).toEqual([...raw])
      }
    }
  })
})

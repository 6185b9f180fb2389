import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { toHex, utf8Bytes } from './bytes.ts'
import { MAX_PAYLOAD_BYTES, SUBPROTOCOL_BINARY, SUBPROTOCOL_JSON } from './constants.ts'
import { ERROR_CODES, isAgentMeshError, type ErrorCode } from './errors.ts'
import { amidFromBytes, newMessageId, newSessionId } from './ids.ts'
import { binaryCodec, FRAME_CODES } from './relay-binary.ts'
import {
  MESSAGE_TYPES,
  type AgentFrame,
  type MessageType,
  type RelayCodec,
  type RelayFrame,
} from './relay-frames.ts'
import { JSON_FRAMES, jsonCodec, MAX_JSON_FRAME_BYTES } from './relay-json.ts'
import { MAX_TIMESTAMP } from './time.ts'

const refused = (code: ErrorCode) => expect.objectContaining({ name: 'AgentMeshError', code })
const bytes = (length: number) => fc.uint8Array({ minLength: length, maxLength: length })
const u32 = fc.integer({ min: 0, max: 0xffff_ffff })
const amid = bytes(20).map(amidFromBytes)
const messageId = bytes(16).map((random) => newMessageId(() => random))
const type = fc.constantFrom(...(Object.keys(MESSAGE_TYPES) as MessageType[]))
const presence = fc.constantFrom('online' as const, 'away' as const, 'dnd' as const, 'offline' as const)
const protocol = fc.constantFrom('agentmesh/0.2', 'agentmesh/1.0')
const timestamp = fc.integer({ min: 0, max: MAX_TIMESTAMP })
const payload = fc.uint8Array({ maxLength: 200 })
const code = fc.constantFrom(...(Object.keys(ERROR_CODES) as ErrorCode[]))
const retry = fc.oneof(
  fc.constant({}),
  fc.integer({ min: 1, max: 0xffff_ffff }).map((retryAfterSeconds) => ({ retryAfterSeconds })),
)
const counter = fc.maxSafeNat()
const frame = <T extends string>(name: T) => fc.constant(name)

const agentFrames: fc.Arbitrary<AgentFrame> = fc.oneof(
  fc.record({
    frame: frame('CONNECT'),
    protocol,
    amid,
    publicKey: bytes(32),
    timestamp,
    signature: bytes(64),
    presence,
    stateCounter: counter,
  }),
  fc.record({ frame: frame('SEND'), id: messageId, to: amid, type, payload }),
  fc.record({ frame: frame('ACK'), sequence: u32, stateCounter: counter }),
  fc.record({ frame: frame('PRESENCE'), state: presence }),
  fc.record({ frame: frame('PRESENCE_QUERY'), amid }),
)
const sent: fc.Arbitrary<RelayFrame> = fc
  .tuple(
    messageId,
    retry,
    fc.oneof(
      fc.record({ status: fc.constantFrom('delivered' as const, 'stored' as const) }),
      fc.record({ status: fc.constant('refused' as const), code }),
    ),
  )
  .map(([id, after, outcome]) => ({ frame: 'SENT', id, ...outcome, ...after }))
const relayFrames: fc.Arbitrary<RelayFrame> = fc.oneof(
  fc.record({
    frame: frame('HELLO'),
    protocol,
    relayId: fc.constantFrom('relay.example', '127.0.0.1:8443', '[::1]:9000'),
    nonce: bytes(32),
    maxPayloadBytes: fc.integer({ min: 1, max: 0xffff_ffff }),
  }),
  fc.record({
    frame: frame('CONNECTED'),
    sessionId: bytes(16).map((random) => newSessionId(() => random)),
    pendingMessages: u32,
    stateCounter: counter,
  }),
  sent,
  fc.record({ frame: frame('RECEIVE'), sequence: u32, from: amid, type, timestamp, payload }),
  fc.record({ frame: frame('PRESENCE_RESULT'), amid, state: presence }),
  fc
    .tuple(code, fc.string({ unit: 'grapheme', maxLength: 100 }), fc.boolean(), retry)
    .map(([errorCode, message, fatal, after]) => ({
      frame: 'ERROR' as const,
      code: errorCode,
      message: message.toWellFormed(),
      fatal,
      ...after,
    })),
)

const codecs: RelayCodec[] = [binaryCodec, jsonCodec]

/** The codec's data with one byte or character changed, cut or added. */
function damaged(codec: RelayCodec, value: AgentFrame | RelayFrame, at: number, junk: number) {
  const data = codec.encode(value)
  if (typeof data === 'string') {
    const place = at % (data.length + 1)
    return data.slice(0, place) + String.fromCharCode(junk) + data.slice(place + (junk % 2))
  }
  const copy = Uint8Array.from(data)
  copy[at % copy.length] = junk
  return junk % 3 === 0 ? copy.subarray(0, at % copy.length) : copy
}

describe.each(codecs)('$subprotocol', (codec) => {
  it('gives every frame of an agent back', () => {
    fc.assert(
      fc.property(agentFrames, (value) => {
        expect(codec.decodeFromAgent(codec.encode(value))).toEqual(value)
      }),
      { numRuns: 500 },
    )
  })

  it('gives every frame of a relay back', () => {
    fc.assert(
      fc.property(relayFrames, (value) => {
        expect(codec.decodeFromRelay(codec.encode(value))).toEqual(value)
      }),
      { numRuns: 500 },
    )
  })

  it('refuses the other side’s frames', () => {
    fc.assert(
      fc.property(agentFrames, relayFrames, (fromAgent, fromRelay) => {
        expect(() => codec.decodeFromRelay(codec.encode(fromAgent))).toThrow(refused('UNKNOWN_TYPE'))
        expect(() => codec.decodeFromAgent(codec.encode(fromRelay))).toThrow(refused('UNKNOWN_TYPE'))
      }),
    )
  })

  it('throws only its own errors for damaged frames and noise', () => {
    const noise = fc.oneof(fc.uint8Array({ maxLength: 300 }), fc.string({ unit: 'binary' }), fc.json())
    const broken = fc
      .tuple(fc.oneof(agentFrames, relayFrames), fc.nat({ max: 1000 }), fc.nat({ max: 255 }))
      .map(([value, at, junk]) => damaged(codec, value, at, junk))
    fc.assert(
      fc.property(fc.oneof(noise, broken), (data) => {
        for (const decode of [codec.decodeFromAgent, codec.decodeFromRelay]) {
          try {
            decode(data)
          } catch (error) {
            if (!isAgentMeshError(error)) throw error
          }
        }
      }),
      { numRuns: 3000 },
    )
  })

  it('takes a payload of the largest size and not a byte more', () => {
    const send = (length: number): AgentFrame => ({
      frame: 'SEND',
      id: newMessageId((size) => new Uint8Array(size)),
      to: amidFromBytes(new Uint8Array(20).fill(255)),
      type: 'message',
      payload: new Uint8Array(length),
    })
    const largest = codec.encode(send(MAX_PAYLOAD_BYTES))
    expect(codec.decodeFromAgent(largest)).toMatchObject({ payload: { length: MAX_PAYLOAD_BYTES } })
    expect(() => codec.decodeFromAgent(codec.encode(send(MAX_PAYLOAD_BYTES + 1)))).toThrow(
      refused('TOO_LARGE'),
    )
    expect(() => codec.decodeFromAgent(codec.encode(send(MAX_PAYLOAD_BYTES * 2)))).toThrow(
      refused('TOO_LARGE'),
    )
  })

  it('refuses the other kind of WebSocket message', () => {
    const other =
      codec === binaryCodec ? '{"frame":"ACK","sequence":1}' : utf8Bytes('{"frame":"ACK","sequence":1}')
    expect(() => codec.decodeFromAgent(other)).toThrow(refused('MALFORMED'))
    expect(() => codec.decodeFromRelay(other)).toThrow(refused('MALFORMED'))
  })

  it('names the SEND it could not read, where its id is readable, and nothing else', () => {
    const id = newMessageId((size) => new Uint8Array(size).fill(7))
    const to = amidFromBytes(new Uint8Array(20).fill(255))
    const tooLarge: AgentFrame = {
      frame: 'SEND',
      id,
      to,
      type: 'message',
      payload: new Uint8Array(MAX_PAYLOAD_BYTES + 1),
    }
    expect(codec.refusedSendId(codec.encode(tooLarge))).toBe(id)
    expect(codec.refusedSendId(codec.encode({ frame: 'ACK', sequence: 1, stateCounter: 2 }))).toBe(undefined)
    const noise = fc.oneof(fc.uint8Array({ maxLength: 60 }), fc.string({ unit: 'binary' }), fc.json())
    fc.assert(fc.property(noise, (data) => void codec.refusedSendId(data)))
  })

  it('a refused SEND has a code, and no other has', () => {
    const id = newMessageId((size) => new Uint8Array(size))
    for (const bad of [
      { frame: 'SENT', id, status: 'refused' },
      { frame: 'SENT', id, status: 'stored', code: 'MALFORMED' },
    ] as RelayFrame[]) {
      expect(() => codec.decodeFromRelay(codec.encode(bad))).toThrow(refused('MALFORMED'))
    }
  })

  it('reads zero seconds as no time named', () => {
    const value: RelayFrame = {
      frame: 'ERROR',
      code: 'TOO_LARGE',
      message: '',
      fatal: true,
      retryAfterSeconds: 0,
    }
    expect(codec.decodeFromRelay(codec.encode(value))).not.toHaveProperty('retryAfterSeconds')
  })

  it('refuses an error message over 1024 code points, counted alike', () => {
    const error = (message: string): RelayFrame => ({
      frame: 'ERROR',
      code: 'TOO_LARGE',
      message,
      fatal: false,
    })
    const largest = error('\u{1f600}'.repeat(1024))
    expect(codec.decodeFromRelay(codec.encode(largest))).toEqual(largest)
    expect(() => codec.decodeFromRelay(codec.encode(error('a'.repeat(1025))))).toThrow(refused('MALFORMED'))
  })

  it.each(['', 'a b', 'x'.repeat(256), 'é.example', 'a\n'])('refuses the relay id %j', (relayId) => {
    const hello: RelayFrame = {
      frame: 'HELLO',
      protocol: 'agentmesh/0.2',
      relayId,
      nonce: new Uint8Array(32),
      maxPayloadBytes: 1,
    }
    expect(() => codec.decodeFromRelay(codec.encode(hello))).toThrow(refused('MALFORMED'))
  })
})

it('both encodings carry the same values', () => {
  fc.assert(
    fc.property(agentFrames, relayFrames, (fromAgent, fromRelay) => {
      expect(
        jsonCodec.decodeFromAgent(
          jsonCodec.encode(binaryCodec.decodeFromAgent(binaryCodec.encode(fromAgent))),
        ),
      ).toEqual(
        binaryCodec.decodeFromAgent(
          binaryCodec.encode(jsonCodec.decodeFromAgent(jsonCodec.encode(fromAgent))),
        ),
      )
      expect(
        jsonCodec.decodeFromRelay(
          jsonCodec.encode(binaryCodec.decodeFromRelay(binaryCodec.encode(fromRelay))),
        ),
      ).toEqual(
        binaryCodec.decodeFromRelay(
          binaryCodec.encode(jsonCodec.decodeFromRelay(jsonCodec.encode(fromRelay))),
        ),
      )
    }),
  )
})

it('what the binary decoder takes has one spelling', () => {
  const broken = fc
    .tuple(fc.oneof(agentFrames, relayFrames), fc.nat({ max: 200 }), fc.nat({ max: 255 }))
    .map(([value, at, junk]) => damaged(binaryCodec, value, at, junk) as Uint8Array)
  fc.assert(
    fc.property(broken, (data) => {
      for (const decode of [binaryCodec.decodeFromAgent, binaryCodec.decodeFromRelay]) {
        let value: AgentFrame | RelayFrame
        try {
          value = decode(data)
        } catch {
          continue
        }
        expect(toHex(binaryCodec.encode(value) as Uint8Array)).toBe(toHex(data))
      }
    }),
    { numRuns: 3000 },
  )
})

it('names the same eleven frames in both encodings, each with its own code', () => {
  expect(Object.keys(JSON_FRAMES).toSorted()).toEqual(Object.keys(FRAME_CODES).toSorted())
  expect(new Set(Object.values(FRAME_CODES)).size).toBe(11)
})

it('the two subprotocols differ', () => {
  expect([binaryCodec.subprotocol, jsonCodec.subprotocol]).toEqual([SUBPROTOCOL_BINARY, SUBPROTOCOL_JSON])
})

it('a JSON CONNECT without presence is online', () => {
  const connect = {
    frame: 'CONNECT',
    protocol: 'agentmesh/0.2',
    amid: '1'.repeat(20),
    public_key: `ed25519:${Buffer.alloc(32).toString('base64')}`,
    timestamp: '2026-02-01T12:00:00Z',
    state_counter: 0,
    signature: Buffer.alloc(64).toString('base64'),
  }
  expect(jsonCodec.decodeFromAgent(JSON.stringify(connect))).toMatchObject({ presence: 'online' })
})

it('refuses an oversized JSON frame before reading it', () => {
  expect(() => jsonCodec.decodeFromAgent('['.repeat(MAX_JSON_FRAME_BYTES + 1))).toThrow(refused('TOO_LARGE'))
})

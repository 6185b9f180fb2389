import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import {
  amidFromBytes,
  concatBytes,
  ERROR_CODES,
  isAgentMeshError,
  MAX_PAYLOAD_BYTES,
  MESSAGE_TYPES,
  messageIdFromBytes,
  type ErrorCode,
  type MessageType,
} from '@agentmesh/sdk/wire'
import { AmidMemo } from '../in-place/amid-memo.ts'
import {
  CLUSTER_VERSION,
  decodeClusterMessage,
  encodeClusterMessage,
  MAX_CLUSTER_BYTES,
  MAX_ITEMS,
  newInstanceId,
  parseInstanceId,
  type ClusterMessage,
} from './cluster-wire.ts'

const amids = new AmidMemo()
const encode = (message: ClusterMessage) => encodeClusterMessage(message, amids)
const decode = (data: Uint8Array) => decodeClusterMessage(data, amids)
const refused = (code: ErrorCode) => expect.objectContaining({ name: 'AgentMeshError', code })
const bytes = (length: number) => fc.uint8Array({ minLength: length, maxLength: length })
const amid = bytes(20).map(amidFromBytes)
const from = bytes(16).map((random) => newInstanceId(() => random))
const time = fc.integer({ min: 0, max: Date.UTC(2100, 0) })
const number = fc.nat({ max: Number.MAX_SAFE_INTEGER })
const presence = fc.constantFrom('online' as const, 'away' as const, 'dnd' as const, 'offline' as const)
const id = bytes(16).map((random) => {
  const uuid = Uint8Array.from(random)
  uuid[6] = (uuid[6]! & 0x0f) | 0x40
  uuid[8] = (uuid[8]! & 0x3f) | 0x80
  return messageIdFromBytes(uuid)
})
const agent = fc.record({ amid, presence, since: time })
const change = fc.record({ amid, presence: fc.option(presence, { nil: undefined }), since: time })
const message = fc.record({
  to: amid,
  from: amid,
  id,
  type: fc.constantFrom(...(Object.keys(MESSAGE_TYPES) as MessageType[])),
  timestamp: time,
  payload: fc.uint8Array({ maxLength: 300 }),
})
const outcome = fc.oneof(
  fc.record({ number, status: fc.constantFrom('delivered' as const, 'stored' as const) }),
  fc.record({
    number,
    status: fc.constant('refused' as const),
    code: fc.constantFrom(...(Object.keys(ERROR_CODES) as ErrorCode[])),
    retryAfterSeconds: fc.integer({ min: 1, max: 0xffff_ffff }),
  }),
)
const kind = <T extends string>(name: T) => fc.constant(name)
const anyMessage: fc.Arbitrary<ClusterMessage> = fc.oneof(
  fc.record({ kind: kind('presence'), from, sequence: number, changes: fc.array(change) }),
  fc.record({ kind: kind('leave'), from }),
  fc.record({ kind: kind('snapshot-ask'), from }),
  fc.record({ kind: kind('probe'), from }),
  fc.record({
    kind: kind('snapshot'),
    from,
    sequence: number,
    part: fc.nat({ max: 7 }),
    parts: fc.integer({ min: 8, max: 64 }),
    agents: fc.array(agent),
  }),
  fc.record({ kind: kind('forward'), from, messages: fc.array(fc.record({ number, message })) }),
  fc.record({ kind: kind('outcomes'), from, outcomes: fc.array(outcome) }),
  fc.record({ kind: kind('mail'), from, recipients: fc.array(amid) }),
)

const INSTANCE = new Uint8Array(16).fill(0xab)
/** Hand-written bytes, so that the layout is checked and not only that both directions agree. */
const raw = (...body: (number | Uint8Array)[]) =>
  concatBytes(...body.map((each) => (typeof each === 'number' ? Uint8Array.of(each) : each)))
const header = (kindCode: number) => raw(CLUSTER_VERSION, kindCode, INSTANCE)
const u16 = (value: number) => Uint8Array.of(value >> 8, value & 0xff)
const u32 = (value: number) => Uint8Array.of(value >>> 24, value >> 16, value >> 8, value)
const u64 = (value: number) => Uint8Array.of(0, 0, 0, 0, 0, 0, value >> 8, value & 0xff)
const person = new Uint8Array(20).fill(1)
const uuid = Uint8Array.of(0, 1, 2, 3, 4, 5, 0x46, 7, 0x88, 9, 10, 11, 12, 13, 14, 15)

describe('cluster messages', () => {
  it('come back as they were written', () => {
    fc.assert(
      fc.property(anyMessage, (value) => {
        expect(decode(encode(value))).toEqual(value)
      }),
    )
  })

  it('have the layout that is written down', () => {
    const forwarded = raw(header(5), u16(1), u64(7), person, person, uuid, 4, u64(9))
    expect(decode(raw(forwarded, 0, 0, 0, 2, 65, 66))).toMatchObject({
      kind: 'forward',
      from: 'ab'.repeat(16),
      messages: [{ number: 7, message: { type: 'message', timestamp: 9, payload: Uint8Array.of(65, 66) } }],
    })
    expect(decode(raw(header(1), u64(3), u16(1), person, 0, u64(5)))).toMatchObject({
      sequence: 3,
      changes: [{ presence: undefined, since: 5 }],
    })
  })

  it('are read exactly or refused with a code, whatever was damaged', () => {
    fc.assert(
      fc.property(anyMessage, fc.nat(), fc.nat({ max: 255 }), (value, at, junk) => {
        const damaged = Uint8Array.from(encode(value))
        damaged[at % damaged.length] = junk
        const input = junk % 3 === 0 ? damaged.subarray(0, at % damaged.length) : damaged
        try {
          expect(encode(decode(input))).toEqual(input)
        } catch (error) {
          if (!isAgentMeshError(error)) throw error
        }
      }),
      { numRuns: 300 },
    )
  })

  it.each<[string, Uint8Array, ErrorCode]>([
    ['nothing', raw(), 'MALFORMED'],
    ['another version', raw(2, 2, INSTANCE), 'UNSUPPORTED_VERSION'],
    ['an unknown kind', header(99), 'UNKNOWN_TYPE'],
    ['bytes behind the end', raw(header(2), 0), 'MALFORMED'],
    ['more than NATS carries', new Uint8Array(MAX_CLUSTER_BYTES + 1), 'TOO_LARGE'],
    ['more items than one message may have', raw(header(7), u16(MAX_ITEMS + 1)), 'TOO_LARGE'],
    ['fewer items than it says', raw(header(7), u16(2), person), 'MALFORMED'],
    ['an unknown presence', raw(header(1), u64(1), u16(1), person, 9, u64(5)), 'UNKNOWN_TYPE'],
    [
      'a snapshot of who is gone',
      raw(header(4), u64(1), u16(0), u16(1), u16(1), person, 0, u64(5)),
      'MALFORMED',
    ],
    ['a part behind the last one', raw(header(4), u64(1), u16(1), u16(1), u16(0)), 'MALFORMED'],
    ['too many parts', raw(header(4), u64(1), u16(0), u16(65), u16(0)), 'MALFORMED'],
    [
      'an unknown payload type',
      raw(header(5), u16(1), u64(7), person, person, uuid, 99, u64(9)),
      'UNKNOWN_TYPE',
    ],
    [
      'a payload over the limit',
      raw(header(5), u16(1), u64(7), person, person, uuid, 4, u64(9), u32(MAX_PAYLOAD_BYTES + 1)),
      'TOO_LARGE',
    ],
    ['a refusal without a code', raw(header(6), u16(1), u64(7), 3, 0, 0, 0, 0, 0), 'MALFORMED'],
    ['an unknown status', raw(header(6), u16(1), u64(7), 9, 0, 0, 0, 0, 0), 'UNKNOWN_TYPE'],
  ])('are refused: %s', (_, input, code) => {
    expect(() => decode(input)).toThrow(refused(code))
  })

  it('name instances in one spelling', () => {
    expect(parseInstanceId('ab'.repeat(16))).toBe('ab'.repeat(16))
    for (const text of ['', 'ab', 'AB'.repeat(16), '*'.repeat(32)]) {
      expect(() => parseInstanceId(text)).toThrow(refused('MALFORMED'))
    }
  })
})

import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { concatBytes } from './bytes.ts'
import { MAX_KNOCK_BYTES, MAX_PAYLOAD_BYTES } from './constants.ts'
import { isAgentMeshError, type ErrorCode } from './errors.ts'
import { newSessionId } from './ids.ts'
import {
  decodeAnswerPacket,
  decodeKnockPacket,
  decodeSessionPacket,
  encodeAnswerPacket,
  encodeKnockHeader,
  encodeKnockPacket,
  encodeSessionPacket,
  type KnockHeader,
} from './packets.ts'

const refused = (code: ErrorCode) => expect.objectContaining({ name: 'AgentMeshError', code })
const bytes = (length: number) => fc.uint8Array({ minLength: length, maxLength: length })
const id = fc.integer({ min: 1, max: 0xffff_ffff })

const headers: fc.Arbitrary<KnockHeader> = fc.record({
  suite: fc.nat({ max: 255 }),
  exchangeKeySequence: fc.nat({ max: 0xffff_ffff }),
  versions: fc.array(fc.constantFrom('agentmesh/0.2', 'agentmesh/0.3', 'agentmesh/12.345'), {
    minLength: 1,
    maxLength: 16,
  }),
  identityKey: bytes(32),
  ephemeralKey: bytes(32),
  ratchetKey: bytes(32),
  signedPrekeyId: id,
  oneTimePrekeyId: fc.option(id, { nil: undefined }),
  kemKind: fc.constantFrom('one-time' as const, 'last-resort' as const),
  kemPrekeyId: id,
  kemCiphertext: bytes(1088),
})

const sample: KnockHeader = {
  suite: 1,
  exchangeKeySequence: 8,
  versions: ['agentmesh/0.2'],
  identityKey: new Uint8Array(32).fill(1),
  ephemeralKey: new Uint8Array(32).fill(2),
  ratchetKey: new Uint8Array(32).fill(3),
  signedPrekeyId: 7,
  oneTimePrekeyId: undefined,
  kemKind: 'last-resort',
  kemPrekeyId: 9,
  kemCiphertext: new Uint8Array(1088).fill(4),
}
const sampleBytes = encodeKnockHeader(sample)
/** Offsets of the fields behind a version list of one `agentmesh/0.2`. */
const AT = { count: 5, version: 7, signedPrekeyId: 116, oneTimePrekeyId: 120, kemKind: 124, kemPrekeyId: 125 }

describe('KNOCK packet', () => {
  it('gives every field back, with the bytes that are authenticated and hashed', () => {
    fc.assert(
      fc.property(
        headers,
        fc.uint8Array({ maxLength: 300 }),
        fc.option(fc.uint8Array({ minLength: 1 }), { nil: undefined }),
        (header, sealed, optimistic) => {
          const headerBytes = encodeKnockHeader(header)
          const packet = encodeKnockPacket(headerBytes, sealed, optimistic)
          const read = decodeKnockPacket(packet)
          expect(read.header).toEqual(header)
          expect(read.headerBytes).toEqual(headerBytes)
          expect(read.sealedKnock).toEqual(sealed)
          expect(read.knockBytes).toEqual(encodeKnockPacket(headerBytes, sealed))
          expect(read.optimisticMessage).toEqual(optimistic)
          expect(
            encodeKnockPacket(encodeKnockHeader(read.header), read.sealedKnock, read.optimisticMessage),
          ).toEqual(packet)
        },
      ),
      { numRuns: 50 },
    )
  })

  it('takes 8 KiB, optimistic message apart, and not a byte more', () => {
    const room = MAX_KNOCK_BYTES - sampleBytes.length - 2
    const full = encodeKnockPacket(sampleBytes, new Uint8Array(room), new Uint8Array(50_000))
    expect(decodeKnockPacket(full).knockBytes).toHaveLength(MAX_KNOCK_BYTES)
    expect(() => encodeKnockPacket(sampleBytes, new Uint8Array(room + 1))).toThrow(refused('TOO_LARGE'))
    const length = Uint8Array.of((room + 1) >> 8, (room + 1) & 0xff)
    expect(() => decodeKnockPacket(concatBytes(sampleBytes, length, new Uint8Array(room + 1)))).toThrow(
      refused('TOO_LARGE'),
    )
    expect(() => encodeKnockPacket(sampleBytes, new Uint8Array(70_000))).toThrow(refused('MALFORMED'))
  })

  it('takes, optimistic message and all, what a relay carries, and not a byte more', () => {
    const alone = encodeKnockPacket(sampleBytes, new Uint8Array(100))
    const room = MAX_PAYLOAD_BYTES - alone.length
    const full = encodeKnockPacket(sampleBytes, new Uint8Array(100), new Uint8Array(room))
    expect(decodeKnockPacket(full).optimisticMessage).toHaveLength(room)
    const over = concatBytes(full, Uint8Array.of(0))
    expect(() => decodeKnockPacket(over)).toThrow(refused('TOO_LARGE'))
    expect(() => encodeKnockPacket(sampleBytes, new Uint8Array(100), over.subarray(alone.length))).toThrow(
      refused('TOO_LARGE'),
    )
  })

  it('refuses every cut', () => {
    const packet = encodeKnockPacket(sampleBytes, new Uint8Array(40))
    for (let length = 0; length < packet.length; length++) {
      expect(() => decodeKnockPacket(packet.subarray(0, length))).toThrow(refused('MALFORMED'))
    }
  })

  it.each([
    ['no version', AT.count, [0]],
    ['17 versions', AT.count, [17]],
    ['a version that is not one', AT.version, [0x41]],
    ['a version that is not UTF-8', AT.version, [0xff]],
    ['KEM key kind 0', AT.kemKind, [0]],
    ['KEM key kind 3', AT.kemKind, [3]],
    ['signed prekey id 0', AT.signedPrekeyId, [0, 0, 0, 0]],
    ['KEM prekey id 0', AT.kemPrekeyId, [0, 0, 0, 0]],
  ])('refuses %s', (_, at, change) => {
    const packet = encodeKnockPacket(sampleBytes, new Uint8Array(40))
    expect(decodeKnockPacket(packet).header).toEqual(sample)
    packet.set(change, at)
    expect(() => decodeKnockPacket(packet)).toThrow(refused('MALFORMED'))
  })

  it('reads one-time prekey id 0 as none', () => {
    const packet = encodeKnockPacket(encodeKnockHeader({ ...sample, oneTimePrekeyId: 5 }), new Uint8Array(1))
    expect(decodeKnockPacket(packet).header.oneTimePrekeyId).toBe(5)
    packet.fill(0, AT.oneTimePrekeyId, AT.oneTimePrekeyId + 4)
    expect(decodeKnockPacket(packet).header.oneTimePrekeyId).toBe(undefined)
  })
})

it('an answer packet is a hash and a ratchet message', () => {
  fc.assert(
    fc.property(bytes(32), fc.uint8Array(), (knockHash, ratchetMessage) => {
      const packet = encodeAnswerPacket({ knockHash, ratchetMessage })
      expect(packet).toEqual(concatBytes(knockHash, ratchetMessage))
      expect(decodeAnswerPacket(packet)).toEqual({ knockHash, ratchetMessage })
    }),
  )
  expect(() => decodeAnswerPacket(new Uint8Array(31))).toThrow(refused('MALFORMED'))
})

it('a session packet is a session id and a ratchet message', () => {
  fc.assert(
    fc.property(bytes(16), fc.uint8Array(), (random, ratchetMessage) => {
      const sessionId = newSessionId(() => random)
      expect(decodeSessionPacket(encodeSessionPacket({ sessionId, ratchetMessage }))).toEqual({
        sessionId,
        ratchetMessage,
      })
    }),
  )
  expect(() => decodeSessionPacket(new Uint8Array(15))).toThrow(refused('MALFORMED'))
  expect(() => decodeSessionPacket(new Uint8Array(40))).toThrow(refused('INVALID_ID'))
})

it('no packet reader throws anything but its own errors', () => {
  const noise = fc.oneof(
    fc.uint8Array({ maxLength: 3000 }),
    fc.tuple(fc.nat({ max: sampleBytes.length }), fc.nat({ max: 255 })).map(([at, value]) => {
      const packet = encodeKnockPacket(sampleBytes, new Uint8Array(20))
      packet[at] = value
      return packet
    }),
  )
  fc.assert(
    fc.property(noise, (packet) => {
      for (const decode of [decodeKnockPacket, decodeAnswerPacket, decodeSessionPacket]) {
        try {
          decode(packet)
        } catch (error) {
          if (!isAgentMeshError(error)) throw error
        }
      }
    }),
    { numRuns: 1000 },
  )
})

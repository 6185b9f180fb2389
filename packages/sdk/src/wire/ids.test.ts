import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { fromHex } from './bytes.ts'
import { isAgentMeshError, type ErrorCode } from './errors.ts'
import {
  amidFromBytes,
  amidToBytes,
  idToBytes,
  isAmid,
  messageIdFromBytes,
  newMessageId,
  newSessionId,
  parseAmid,
  parseMessageId,
  parseSessionId,
  sessionIdFromBytes,
} from './ids.ts'

const refused = (code: ErrorCode) => expect.objectContaining({ name: 'AgentMeshError', code })
const AMID = '3mWDuxZEz3wzZMC2ePGTMkPbPRC6'
const UUID = '0b9a3c1e-5d2f-4a6b-8c7d-9e0f1a2b3c4d'

describe('AMID', () => {
  it('goes from 20 bytes to text and back', () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 20, maxLength: 20 }), (bytes) => {
        const amid = amidFromBytes(bytes)
        expect(parseAmid(amid)).toBe(amid)
        expect([...amidToBytes(amid)]).toEqual([...bytes])
      }),
    )
  })

  it('takes the smallest and the largest', () => {
    expect(parseAmid('1'.repeat(20))).toBe(amidFromBytes(new Uint8Array(20)))
    expect(isAmid(amidFromBytes(new Uint8Array(20).fill(255)))).toBe(true)
  })

  it.each([
    ['the empty text', ''],
    ['19 bytes', '1'.repeat(19)],
    ['21 bytes', '1'.repeat(21)],
    ['more than 20 bytes in 28 digits', 'z'.repeat(28)],
    ['an added leading zero digit', `1${AMID}`],
    ['the look-alike 0', AMID.replace('3', '0')],
    ['the look-alike O', AMID.replace('3', 'O')],
    ['the look-alike I', AMID.replace('3', 'I')],
    ['the look-alike l', AMID.replace('3', 'l')],
    ['a Cyrillic letter', AMID.replace('e', '\u0435')],
    ['white space around it', ` ${AMID}`],
    ['a line feed at the end', `${AMID}\n`],
    ['a path', '../../../../../../etc/passwd'],
    ['a path behind an AMID', `${AMID}/../x`],
    ['a NUL', `${AMID.slice(0, -1)}\u0000`],
    ['a DID', `did:agentmesh:${AMID}`],
    ['a megabyte', '1'.repeat(1_000_000)],
  ])('refuses %s', (_, text) => {
    expect(() => parseAmid(text)).toThrow(refused('INVALID_AMID'))
    expect(isAmid(text)).toBe(false)
  })

  it.each([0, 19, 21])('refuses %d bytes', (length) => {
    expect(() => amidFromBytes(new Uint8Array(length))).toThrow(refused('INVALID_AMID'))
  })
})

describe.each([
  { what: 'session id', parse: parseSessionId, fromBytes: sessionIdFromBytes, fresh: newSessionId },
  { what: 'message id', parse: parseMessageId, fromBytes: messageIdFromBytes, fresh: newMessageId },
])('$what', ({ parse, fromBytes, fresh }) => {
  it('is made from 16 random bytes, and goes to bytes and back', () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 16, maxLength: 16 }), (random) => {
        const before = Uint8Array.from(random)
        const id = fresh(() => random)
        expect(parse(id)).toBe(id)
        expect(fromBytes(idToBytes(id))).toBe(id)
        expect(random).toEqual(before)
      }),
    )
  })

  it('keeps all 122 random bits', () => {
    expect(fresh(() => new Uint8Array(16))).toBe('00000000-0000-4000-8000-000000000000')
    expect(fresh(() => new Uint8Array(16).fill(255))).toBe('ffffffff-ffff-4fff-bfff-ffffffffffff')
  })

  it.each([
    ['upper case', UUID.toUpperCase()],
    ['version 1', UUID.replace('-4a6b', '-1a6b')],
    ['the wrong variant', UUID.replace('-8c7d', '-cc7d')],
    ['no hyphens', UUID.replaceAll('-', '')],
    ['braces', `{${UUID}}`],
    ['a line feed at the end', `${UUID}\n`],
    ['a path', '../../../../../../../../../../etc/pw'],
    ['a path of the right length', '../../../../../../../../../../../etc'],
    ['the nil UUID', '00000000-0000-0000-0000-000000000000'],
    ['the empty text', ''],
  ])('refuses %s', (_, text) => {
    expect(() => parse(text)).toThrow(refused('INVALID_ID'))
  })

  it('refuses bytes of another length or version', () => {
    expect(() => fromBytes(new Uint8Array(15))).toThrow(refused('INVALID_ID'))
    expect(() => fromBytes(fromHex('00000000000010008000000000000000'))).toThrow(refused('INVALID_ID'))
  })
})

it('throws only its own errors for any text', () => {
  fc.assert(
    fc.property(fc.string({ unit: 'binary', maxLength: 60 }), (text) => {
      for (const parse of [parseAmid, parseSessionId, parseMessageId]) {
        try {
          parse(text)
        } catch (error) {
          if (!isAgentMeshError(error)) throw error
        }
      }
    }),
  )
})

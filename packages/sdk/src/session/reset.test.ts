import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { ed25519KeyPair, sha256, sign } from '../crypto/index.ts'
import { identityFromKeyPair, type Identity } from '../identity/index.ts'
import {
  canonicalBytes,
  canonicalText,
  formatKey,
  MAX_RESET_BYTES,
  newSessionId,
  parseJsonObject,
  toBase64,
  unsignedBytes,
  utf8Bytes,
  type JsonObject,
} from '../wire/index.ts'
import { consumeReset, createReset, readReset, type ResetNotice, type ResetPlace } from './reset.ts'
import { isBehind } from './session.ts'
import { NOW, testRandom } from '../identity/test-support.ts'
import { outcome } from '../wire/test-support.ts'
import { flipped, meet } from './test-support.ts'

const identityOf = (name: string) => identityFromKeyPair(ed25519KeyPair(testRandom(name)(32)))
const alice = identityOf('alice')
const bob = identityOf('bob')
const mallory = identityOf('mallory')
const HOUR = 3_600_000

const packet = testRandom('packet')(300)
const sessionId = newSessionId(testRandom('session'))
const knockHash = toBase64(sha256(packet))
const broken: ResetNotice = {
  to: alice.amid,
  about: { session_id: sessionId },
  packet,
  reason: 'undecryptable',
  receivedUpTo: 3,
}
/** Alice takes it from Bob. */
const place: ResetPlace = { from: bob.amid, to: alice.amid, peerSigningKey: bob.signing.publicKey, now: NOW }

const made = createReset(bob, broken, NOW)
const taken = (bytes: Uint8Array, changes: Partial<ResetPlace> = {}) =>
  outcome(() => consumeReset(bytes, { ...place, ...changes }))

/** A RESET with its fields changed and signed again, as a dishonest peer can. */
function forged(
  changes: (reset: JsonObject) => void,
  { signer = bob, label = 'reset' }: { signer?: Identity; label?: 'reset' | 'reject' } = {},
): Uint8Array {
  const { signature: _, ...reset } = parseJsonObject(made, MAX_RESET_BYTES)
  changes(reset)
  const signature = sign(label, signer.signing.secretKey, canonicalBytes(reset))
  return canonicalBytes({ ...reset, signature: toBase64(signature) })
}

describe('a RESET', () => {
  it('says which packet could not be used, why, and how far the session was received', () => {
    const reset = consumeReset(made, place)
    expect(reset).toMatchObject({
      from: bob.amid,
      to: alice.amid,
      about: { session_id: sessionId },
      packet_hash: toBase64(sha256(packet)),
      reason: 'undecryptable',
      received_up_to: 3,
      timestamp: '2026-02-01T12:00:00.000Z',
    })
    expect(readReset(made)).toEqual(reset)
  })

  it('is the canonical form of what it says, and small', () => {
    expect(canonicalText(parseJsonObject(made, MAX_RESET_BYTES))).toBe(new TextDecoder().decode(made))
    expect(made.length).toBeLessThan(MAX_RESET_BYTES / 2)
  })

  it.each([
    { about: { session_id: sessionId }, reason: 'session_unknown' },
    { about: { session_id: sessionId }, reason: 'state_behind', receivedUpTo: 9 },
    { about: { knock_hash: knockHash }, reason: 'prekey_unknown' },
    { about: { knock_hash: knockHash }, reason: 'undecryptable' },
  ] as const)('about $about can be $reason', (notice) => {
    expect(taken(createReset(bob, { to: alice.amid, packet, ...notice }, NOW))).toBe('ok')
  })

  it.each([
    { about: { knock_hash: knockHash }, reason: 'session_unknown' },
    { about: { knock_hash: knockHash }, reason: 'state_behind', receivedUpTo: 9 },
    { about: { knock_hash: knockHash }, reason: 'undecryptable', receivedUpTo: 9 },
    { about: { session_id: sessionId }, reason: 'prekey_unknown' },
    { about: { session_id: sessionId }, reason: 'state_behind' },
  ] as const)('about $about cannot be $reason so', (notice) => {
    expect(outcome(() => createReset(bob, { to: alice.amid, packet, ...notice }, NOW))).toBe('MALFORMED')
  })

  it('of the forger’s own hand, with nothing changed, is taken: the cases below fail for what they change', () => {
    expect(taken(forged(() => {}))).toBe('ok')
  })

  it('that a relay invents is not signed by the peer', () => {
    expect(taken(forged(() => {}, { signer: mallory }))).toBe('INVALID_SIGNATURE')
    const own = forged(
      (reset) => {
        reset['from'] = mallory.amid
        reset['signing_public_key'] = formatKey('ed25519', mallory.signing.publicKey)
      },
      { signer: mallory },
    )
    expect(taken(own)).toBe('AMID_MISMATCH')
    expect(taken(own, { from: mallory.amid })).toBe('AMID_MISMATCH')
  })

  it('in the peer’s name under another key is refused', () => {
    const key = formatKey('ed25519', mallory.signing.publicKey)
    expect(taken(forged((reset) => (reset['signing_public_key'] = key), { signer: mallory }))).toBe(
      'AMID_MISMATCH',
    )
  })

  it('that names another sender than signed it is refused', () => {
    const renamed = forged((reset) => (reset['from'] = mallory.amid))
    expect(taken(renamed)).toBe('AMID_MISMATCH')
    expect(taken(renamed, { from: mallory.amid })).toBe('AMID_MISMATCH')
  })

  it('that a relay passes off as another agent’s is refused', () => {
    expect(taken(made, { from: mallory.amid })).toBe('AMID_MISMATCH')
    expect(taken(made, { from: mallory.amid, peerSigningKey: mallory.signing.publicKey })).toBe(
      'AMID_MISMATCH',
    )
  })

  it('for somebody else is refused, and so is one sent back to its maker', () => {
    expect(taken(made, { to: mallory.amid })).toBe('RESET_MISMATCH')
    expect(taken(made, { from: alice.amid, to: bob.amid, peerSigningKey: alice.signing.publicKey })).toBe(
      'AMID_MISMATCH',
    )
  })

  it('signed under another label is refused', () => {
    expect(taken(forged(() => {}, { label: 'reject' }))).toBe('INVALID_SIGNATURE')
  })

  it('has every field under its signature, unknown ones too', () => {
    const other = {
      about: { session_id: newSessionId(testRandom('other')) },
      packet_hash: toBase64(sha256(made)),
      reason: 'session_unknown',
      received_up_to: 4,
      timestamp: '2026-02-01T12:00:01Z',
      x_note: 'added',
    }
    for (const [field, value] of Object.entries(other)) {
      const raw = { ...parseJsonObject(made, MAX_RESET_BYTES), [field]: value }
      expect(taken(canonicalBytes(raw))).toBe('INVALID_SIGNATURE')
    }
    const { received_up_to: _, ...without } = parseJsonObject(made, MAX_RESET_BYTES)
    expect(taken(canonicalBytes(without))).toBe('INVALID_SIGNATURE')
    expect(taken(forged((reset) => (reset['x_note'] = 'signed too')))).toBe('ok')
  })

  it('names one packet: one that repeats an earlier RESET names that one’s', () => {
    const later = createReset(bob, { ...broken, packet: flipped(packet, 0) }, NOW)
    expect(readReset(later).packet_hash).not.toBe(readReset(made).packet_hash)
  })

  it('from the future, or older than a mailbox keeps, is refused', () => {
    expect(taken(made, { now: NOW - 300_000 })).toBe('ok')
    expect(taken(made, { now: NOW - 300_001 })).toBe('TIME_IMPLAUSIBLE')
    expect(taken(made, { now: NOW + 72 * HOUR + 300_000 })).toBe('ok')
    expect(taken(made, { now: NOW + 72 * HOUR + 300_001 })).toBe('TIME_IMPLAUSIBLE')
  })

  it('that is not strict JSON, or too long, is refused', () => {
    const text = new TextDecoder().decode(made)
    expect(taken(utf8Bytes(`${text.slice(0, -1)},"to":"x"}`))).toBe('JSON_DUPLICATE_KEY')
    expect(taken(new Uint8Array(0))).toBe('JSON_SYNTAX')
    expect(taken(forged((reset) => (reset['x'] = 'A'.repeat(MAX_RESET_BYTES))))).toBe('TOO_LARGE')
    expect(
      taken(forged((reset) => (reset['about'] = { session_id: sessionId, knock_hash: knockHash }))),
    ).toBe('MALFORMED')
  })

  it('with any bit changed, or cut short, is refused', () => {
    fc.assert(
      fc.property(fc.nat({ max: made.length - 1 }), (index) => {
        expect(taken(flipped(made, index))).not.toBe('ok')
        expect(taken(made.subarray(0, index))).not.toBe('ok')
      }),
      { numRuns: 300 },
    )
  })

  it('signs what the specification says', () => {
    const raw = parseJsonObject(made, MAX_RESET_BYTES)
    const { signature, ...rest } = raw
    expect(unsignedBytes(raw)).toEqual(canonicalBytes(rest))
    expect(signature).toBe(toBase64(sign('reset', bob.signing.secretKey, canonicalBytes(rest))))
  })
})

describe('a state', () => {
  it('is behind when the peer has seen what it has not sent', () => {
    const session = { ...meet().atAlice, sendSequence: 5 }
    expect([0, 4, 5, 6, 2 ** 53 - 1].map((seen) => isBehind(session, seen))).toEqual([
      false,
      false,
      false,
      true,
      true,
    ])
  })
})

/** The message that goes along with a KNOCK, and what somebody between the two, or one of them, may try with it. */
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { aeadEncrypt, concatBytes, sha256, sign, type SigningLabel } from '../crypto/index.ts'
import {
  canonicalBytes,
  DEFAULT_MAX_MESSAGE_BYTES,
  decodeKnockPacket,
  formatTimestamp,
  MAX_PAYLOAD_BYTES,
  newMessageId,
  parseEnvelope,
  toBase64,
  unsignedBytes,
  utf8Bytes,
  type JsonObject,
} from '../wire/index.ts'
import { associatedData } from './handshake.ts'
import { createAccept, createReject } from './knock-answer.ts'
import { consumeAnswer, type PendingKnock } from './knock-initiator.ts'
import type { OpenedKnock } from './knock-responder.ts'
import { openOptimistic, type OptimisticDraft } from './optimistic.ts'
import { decodePending, encodePending, encodeSession } from './session-codec.ts'
import type { Session } from './session.ts'
import { NOW, testRandom } from '../identity/test-support.ts'
import { outcome } from '../wire/test-support.ts'
import {
  acceptTerms,
  CONVERSATION,
  environment,
  FLIGHTS,
  flipped,
  knockOn,
  TestAgent,
} from './test-support.ts'

const alice = new TestAgent('alice')
const bob = new TestAgent('bob')
const mallory = new TestAgent('mallory')

const draft: OptimisticDraft = {
  type: 'request',
  id: newMessageId(testRandom('message id')),
  payload: { intent: FLIGHTS, parameters: { origin: 'TLV', destination: 'BER', note: 'Grüße' } },
}
const withRequest = (changes = {}, env = environment('knock'), oneTimeKeys = true) =>
  knockOn(alice, bob.verifiedBundle(oneTimeKeys), { optimistic: draft, ...changes }, env)
const { pending, packet } = withRequest()
const { knockBytes, optimisticMessage } = decodeKnockPacket(packet)
const alone = Uint8Array.from(knockBytes)
const sealed = Uint8Array.from(optimisticMessage!)

const accept = (opened: OpenedKnock, limits = {}) => {
  const terms = acceptTerms(opened, bob)
  return createAccept(
    opened,
    { ...terms, constraints: { ...terms.constraints, ...limits } },
    environment('accept'),
  )
}
function answered(to: PendingKnock, answer: Uint8Array): Session {
  const read = consumeAnswer(to, 'accept', answer, environment('answer'))
  if (read.kind !== 'accepted') throw new Error('not accepted')
  return read.session
}

/** Bob lets the KNOCK in, and does not take what came along: for that reason, and with nothing changed. */
function expectNotTaken(code: string, received: Uint8Array, limits = {}): void {
  const opened = bob.open(received, alice)
  const accepted = accept(opened, limits)
  const before = encodeSession(accepted.session)
  expect(outcome(() => openOptimistic(opened, accepted.session))).toBe(code)
  expect(encodeSession(accepted.session)).toEqual(before)
  expect(accepted.accept.optimistic_taken).toBe(false)
  const session = answered(pending, accepted.packet)
  expect([session.sendSequence, session.sentCount, session.exchange]).toEqual([0, 0, 'idle'])
}

/** Alice's KNOCK with a message of her own making: changed, then signed and sealed as it should be, or not. */
function forged(
  changes: (envelope: JsonObject) => void,
  options: {
    signer?: TestAgent
    direction?: 1 | 2
    label?: SigningLabel
    type?: 'knock' | 'accept' | 'message'
    text?: (text: string) => string
    on?: Uint8Array
  } = {},
): Uint8Array {
  const base = options.on ?? alone
  const opened = bob.open(base, alice)
  const envelope: JsonObject = {
    knock_hash: toBase64(opened.knockHash),
    id: draft.id,
    sequence: 1,
    from: alice.identity.amid,
    to: bob.identity.amid,
    type: 'request',
    timestamp: formatTimestamp(NOW),
    payload: structuredClone<unknown>(draft.payload) as JsonObject,
  }
  changes(envelope)
  const { secretKey } = (options.signer ?? alice).identity.signing
  const direction = Uint8Array.of(options.direction ?? 1)
  const signature = sign(options.label ?? 'envelope', secretKey, direction, unsignedBytes(envelope))
  const text = JSON.stringify({ ...envelope, signature: toBase64(signature) })
  const place = associatedData({
    type: options.type ?? 'knock',
    version: opened.version,
    context: opened.knockHash,
    from: alice.identity.amid,
    to: bob.identity.amid,
  })
  const nonce = testRandom('forged')(24)
  const plaintext = utf8Bytes(options.text?.(text) ?? text)
  return concatBytes(base, nonce, aeadEncrypt(opened.keys.optimisticKey, nonce, plaintext, place))
}

describe('an optimistic message', () => {
  it('is the first of the session at both ends', () => {
    const opened = bob.open(packet, alice)
    const accepted = accept(opened)
    const taken = openOptimistic(opened, accepted.session)
    expect(accepted.accept.optimistic_taken).toBe(true)
    expect(taken.envelope).toMatchObject({
      session_id: accepted.session.id,
      id: draft.id,
      sequence: 1,
      from: alice.identity.amid,
      to: bob.identity.amid,
      type: 'request',
      payload: draft.payload,
    })
    expect(parseEnvelope(taken.envelope as unknown as JsonObject)).toBe(taken.envelope)
    const { received, receivedCount, exchange, sendSequence } = taken.session
    expect({ received, receivedCount, exchange, sendSequence }).toEqual({
      received: { highest: 1, missing: [] },
      receivedCount: 1,
      exchange: 'asked',
      sendSequence: 0,
    })
    const session = answered(pending, accepted.packet)
    expect([session.sendSequence, session.sentCount, session.exchange]).toEqual([1, 1, 'asked'])
    expect(session.received).toEqual({ highest: 0, missing: [] })
  })

  it('stays sealed in an opened KNOCK, and a relay sees nothing of it', () => {
    const opened = bob.open(packet, alice)
    expect(opened.sealedOptimistic).toEqual(sealed)
    expect(JSON.stringify(opened.knock)).not.toContain('TLV')
    for (const text of ['TLV', 'origin', draft.id]) {
      expect(Buffer.from(packet).includes(text)).toBe(false)
    }
  })

  it('does not change which KNOCK it goes along with', () => {
    expect(pending.knockHash).toEqual(sha256(alone))
    expect(knockOn(alice, bob.verifiedBundle()).packet).toEqual(alone)
    expect(pending.optimisticMessageId).toBe(draft.id)
    expect(knockOn(alice, bob.verifiedBundle()).pending.optimisticMessageId).toBeUndefined()
  })

  it('is remembered by a pending KNOCK that was stored', () => {
    const row = encodePending(pending)
    expect(decodePending(row)).toEqual(pending)
    expect(outcome(() => decodePending(Uint8Array.of(1, ...row.subarray(1))))).toBe('MALFORMED')
    const session = answered(decodePending(row), accept(bob.open(packet, alice)).packet)
    expect(session.sendSequence).toBe(1)
  })

  it('keeps a signature that a third party can check: over what was sent, without the session’s id', () => {
    const opened = bob.open(packet, alice)
    const { envelope } = openOptimistic(opened, accept(opened).session)
    const { session_id: _, signature, ...sent } = envelope
    expect(sent).toMatchObject({ knock_hash: toBase64(pending.knockHash) })
    const { secretKey } = alice.identity.signing
    expect(signature).toBe(toBase64(sign('envelope', secretKey, Uint8Array.of(1), canonicalBytes(sent))))
  })

  it('stays at home when there are no one-time keys, and follows in the session', () => {
    const without = withRequest({}, environment('knock'), false)
    expect(without.pending.optimisticMessageId).toBeUndefined()
    expect(decodeKnockPacket(without.packet).optimisticMessage).toBeUndefined()
    const mixed = { ...bob.verifiedBundle(false), oneTimePrekey: bob.verifiedBundle().oneTimePrekey! }
    expect(knockOn(alice, mixed, { optimistic: draft }).pending.optimisticMessageId).toBeUndefined()
  })

  it.each([
    ['is too large', { text: 'A'.repeat(DEFAULT_MAX_MESSAGE_BYTES) }],
    ['is not JSON', { price: Number.NaN }],
    ['is nested too deep', JSON.parse('{"a":'.repeat(40) + '1' + '}'.repeat(40)) as Record<string, unknown>],
  ])('stays at home when it %s, and the KNOCK goes alone', (_, parameters) => {
    const optimistic = { ...draft, payload: { intent: FLIGHTS, parameters } }
    const made = withRequest({ optimistic })
    expect(made.packet).toEqual(alone)
    expect(made.pending.optimisticMessageId).toBeUndefined()
  })

  it('of the largest size fits what a relay carries', () => {
    const sized = (length: number) => {
      const payload = { intent: FLIGHTS, parameters: { text: 'A'.repeat(length) } }
      return withRequest({ optimistic: { ...draft, payload } })
    }
    // Nonce and tag aside, what is sealed is the canonical form, signature included.
    const empty = decodeKnockPacket(sized(0).packet).optimisticMessage!.length - 24 - 16
    const room = DEFAULT_MAX_MESSAGE_BYTES - empty
    expect(sized(room + 1).pending.optimisticMessageId).toBeUndefined()
    const full = sized(room)
    expect(full.packet.length).toBeLessThan(MAX_PAYLOAD_BYTES)
    expect(accept(bob.open(full.packet, alice)).accept.optimistic_taken).toBe(true)
  })

  it('fails with the KNOCK that is turned away', () => {
    const opened = bob.open(packet, alice)
    const terms = {
      identity: bob.identity,
      reason: 'paused',
      humanReadable: 'No.',
      retryAfterSeconds: null,
    } as const
    const reject = createReject(opened, terms, environment('reject'))
    expect(consumeAnswer(pending, 'reject', reject, environment('answer')).kind).toBe('rejected')
  })

  it('is taken once a session, and only in the session of its KNOCK', () => {
    const opened = bob.open(packet, alice)
    const { session } = accept(opened)
    const taken = openOptimistic(opened, session)
    expect(outcome(() => openOptimistic(opened, taken.session))).toBe('SEQUENCE_REPEATED')
    expect(outcome(() => openOptimistic(opened, { ...session, state: 'closed' }))).toBe('SESSION_CLOSED')
    const foreign = { ...session, peer: mallory.identity.amid }
    expect(outcome(() => openOptimistic(opened, foreign))).toBe('SESSION_MISMATCH')
    expect(outcome(() => openOptimistic(opened, { ...session, role: 'initiator' }))).toBe('SESSION_MISMATCH')
  })

  it('that was not sent cannot have been taken', () => {
    const opened = bob.open(alone, alice)
    const { session, accept: said } = accept(opened)
    expect(said.optimistic_taken).toBeUndefined()
    expect(outcome(() => openOptimistic(opened, session))).toBe('OPTIMISTIC_REFUSED')
    const other = knockOn(alice, bob.verifiedBundle())
    const lied = accept(bob.open(packet, alice)).packet
    expect(outcome(() => consumeAnswer(other.pending, 'accept', lied, environment('answer')))).toBe(
      'MALFORMED',
    )
  })
})

describe('a relay', () => {
  it('that strips it leaves a KNOCK that opens, and a sender who knows', () => {
    fc.assert(
      fc.property(fc.string({ maxLength: 200 }), fc.string({ minLength: 1 }), (text, seed) => {
        const payload = { intent: FLIGHTS, parameters: { text } }
        const made = withRequest({ optimistic: { ...draft, payload } }, environment(seed))
        const stripped = decodeKnockPacket(made.packet).knockBytes
        const opened = bob.open(stripped, alice)
        expect(opened.sealedOptimistic).toBeUndefined()
        expect(opened.knockHash).toEqual(made.pending.knockHash)
        const session = answered(made.pending, accept(opened).packet)
        expect([session.sendSequence, session.sentCount, session.exchange]).toEqual([0, 0, 'idle'])
      }),
      { numRuns: 20 },
    )
  })

  it('that swaps those of two KNOCKs has two KNOCKs that open, and no message', () => {
    const second = withRequest({}, environment('second'))
    const other = decodeKnockPacket(second.packet)
    expectNotTaken('DECRYPTION_FAILED', concatBytes(alone, other.optimisticMessage!))
    const opened = bob.open(concatBytes(other.knockBytes, sealed), alice)
    expect(accept(opened).accept.optimistic_taken).toBe(false)
  })

  it('that changes, cuts or lengthens it has a KNOCK that opens, and no message', () => {
    fc.assert(
      fc.property(fc.nat({ max: sealed.length - 1 }), (index) => {
        const cases = [
          flipped(sealed, index),
          sealed.subarray(0, index),
          concatBytes(sealed, Uint8Array.of(index)),
        ]
        for (const changed of cases) {
          const opened = bob.open(concatBytes(alone, changed), alice)
          expect(opened.knockHash).toEqual(pending.knockHash)
          const accepted = accept(opened)
          expect(accepted.accept.optimistic_taken).toBe(changed.length === 0 ? undefined : false)
          expect(outcome(() => openOptimistic(opened, accepted.session))).not.toBe('ok')
        }
      }),
      { numRuns: 40 },
    )
    expectNotTaken('DECRYPTION_FAILED', concatBytes(alone, flipped(sealed, 0)))
    expectNotTaken('MALFORMED', concatBytes(alone, sealed.subarray(0, 23)))
    expectNotTaken('DECRYPTION_FAILED', concatBytes(alone, sealed.subarray(0, 24)))
  })

  it('that replays the packet is known by the header, whatever stands behind the KNOCK', () => {
    const busy = new TestAgent('bob')
    busy.seenHeaders.add(bob.open(packet, alice).headerHash.join())
    for (const again of [packet, alone, concatBytes(alone, flipped(sealed, 30))]) {
      expect(outcome(() => busy.open(again, alice))).toBe('KNOCK_REPLAYED')
    }
  })

  it('that replays it to a receiver who lost its nonces finds the one-time keys gone', () => {
    const restored = new TestAgent('bob')
    restored.usedUp.add(restored.oneTime).add(restored.oneTimeKem)
    expect(outcome(() => restored.open(packet, alice))).toBe('PREKEY_UNKNOWN')
  })

  it('that puts more behind a KNOCK than relays carry is refused', () => {
    const room = MAX_PAYLOAD_BYTES - alone.length
    expect(bob.open(concatBytes(alone, new Uint8Array(room)), alice).sealedOptimistic).toHaveLength(room)
    expect(outcome(() => bob.open(concatBytes(alone, new Uint8Array(room + 1)), alice))).toBe('TOO_LARGE')
  })
})

describe('a dishonest sender', () => {
  it('who changes nothing is believed: the cases below fail for what they change', () => {
    const opened = bob.open(
      forged(() => {}),
      alice,
    )
    expect(openOptimistic(opened, accept(opened).session).envelope.id).toBe(draft.id)
  })

  it('cannot have a message taken without one-time keys', () => {
    const { packet: on } = knockOn(alice, bob.verifiedBundle(false))
    const opened = bob.open(
      forged(() => {}, { on }),
      alice,
    )
    const accepted = accept(opened)
    expect(accepted.accept.optimistic_taken).toBe(false)
    expect(outcome(() => openOptimistic(opened, accepted.session))).toBe('OPTIMISTIC_REFUSED')
  })

  it.each<[string, string, (envelope: JsonObject) => void]>([
    ['names another KNOCK', 'SESSION_MISMATCH', (raw) => (raw['knock_hash'] = toBase64(new Uint8Array(32)))],
    ['names another sender', 'SESSION_MISMATCH', (raw) => (raw['from'] = mallory.identity.amid)],
    ['names another receiver', 'SESSION_MISMATCH', (raw) => (raw['to'] = mallory.identity.amid)],
    ['is no request', 'MALFORMED', (raw) => (raw['type'] = 'response')],
    ['is not the first', 'MALFORMED', (raw) => (raw['sequence'] = 2)],
    ['brings a session id', 'MALFORMED', (raw) => (raw['session_id'] = draft.id)],
    ['answers something that is no id', 'MALFORMED', (raw) => (raw['in_reply_to'] = 7)],
    ['has a payload of another type', 'MALFORMED', (raw) => (raw['payload'] = { reason: 'completed' })],
    ['was made before', 'TIME_IMPLAUSIBLE', (raw) => (raw['timestamp'] = formatTimestamp(NOW - 300_001))],
    ['was made after', 'TIME_IMPLAUSIBLE', (raw) => (raw['timestamp'] = formatTimestamp(NOW + 300_001))],
  ])('whose message %s is refused with %s', (_, code, change) => {
    expectNotTaken(code, forged(change))
  })

  it('who does not sign it himself, for this direction and label, is refused', () => {
    const same = () => {}
    expectNotTaken('INVALID_SIGNATURE', forged(same, { signer: mallory }))
    expectNotTaken('INVALID_SIGNATURE', forged(same, { direction: 2 }))
    expectNotTaken('INVALID_SIGNATURE', forged(same, { label: 'knock' }))
  })

  it('who seals it for another place is refused', () => {
    expectNotTaken(
      'DECRYPTION_FAILED',
      forged(() => {}, { type: 'message' }),
    )
    expectNotTaken(
      'DECRYPTION_FAILED',
      forged(() => {}, { type: 'accept' }),
    )
  })

  it('whose message is not strict JSON is refused', () => {
    const twice = (text: string) => `${text.slice(0, -1)},"to":"x"}`
    expectNotTaken(
      'JSON_DUPLICATE_KEY',
      forged(() => {}, { text: twice }),
    )
    const proto = (text: string) => `${text.slice(0, -1)},"__proto__":{}}`
    expectNotTaken(
      'JSON_FORBIDDEN_KEY',
      forged(() => {}, { text: proto }),
    )
  })

  it('whose message is larger than the session allows is refused', () => {
    const some = (raw: JsonObject) => (raw['x'] = 'A'.repeat(5000))
    expectNotTaken('LIMIT_SIZE', forged(some), { max_message_size_bytes: 4096 })
    const long = (raw: JsonObject) => (raw['x'] = 'A'.repeat(DEFAULT_MAX_MESSAGE_BYTES))
    expectNotTaken('LIMIT_SIZE', forged(long))
  })

  it('gets an unknown field through, which its signature covers', () => {
    const opened = bob.open(
      forged((raw) => (raw['x_trace'] = 1)),
      alice,
    )
    expect(openOptimistic(opened, accept(opened).session).envelope).toMatchObject({ x_trace: 1 })
  })
})

it('opens a session of any type', () => {
  for (const type of ['request_response', 'conversation', 'stream'] as const) {
    const made = withRequest({ sessionRequest: { ...CONVERSATION, type } })
    const opened = bob.open(made.packet, alice)
    const accepted = accept(opened)
    expect(openOptimistic(opened, accepted.session).session.exchange).toBe('asked')
    expect(answered(made.pending, accepted.packet).exchange).toBe('asked')
  }
})

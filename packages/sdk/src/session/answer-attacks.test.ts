/** What somebody between two agents, or one of them, may try with the answer to a KNOCK. Every case ends with nothing changed. */
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import {
  concatBytes,
  encodeRatchetState,
  equalBytes,
  ownRatchetKey,
  ratchetEncrypt,
  ratchetRespond,
  sign,
} from '../crypto/index.ts'
import {
  amidToBytes,
  canonicalBytes,
  encodeAnswerPacket,
  formatTimestamp,
  newSessionId,
  toBase64,
  utf8Bytes,
} from '../wire/index.ts'
import { associatedData, deriveSessionId, keyConfirmation } from './handshake.ts'
import { createAccept, createReject } from './knock-answer.ts'
import { consumeAnswer, type PendingKnock } from './knock-initiator.ts'
import type { OpenedKnock } from './knock-responder.ts'
import { NOW, testRandom } from '../identity/test-support.ts'
import { outcome } from '../wire/test-support.ts'
import { acceptTerms, CONVERSATION, environment, flipped, knockOn, meet, TestAgent } from './test-support.ts'

const alice = new TestAgent('alice')
const bob = new TestAgent('bob')
const mallory = new TestAgent('mallory')
const { pending, packet } = knockOn(alice, bob.verifiedBundle())
const opened = bob.open(packet, alice)
const accepted = createAccept(opened, acceptTerms(opened, bob), environment('accept'))
const rejected = createReject(
  opened,
  { identity: bob.identity, reason: 'paused', humanReadable: 'Later.', retryAfterSeconds: null },
  environment('reject'),
)

/** An answer by somebody who holds Bob's session keys: fields changed, signed by `signer`, sealed for `type`. */
function forgedAnswer(
  changes: Readonly<Record<string, unknown>>,
  options: {
    type?: 'accept' | 'reject'
    signer?: TestAgent
    label?: 'accept' | 'reject'
    of?: OpenedKnock
  } = {},
): Uint8Array {
  const knock = options.of ?? opened
  const type = options.type ?? 'accept'
  const env = environment('accept')
  const ratchet = ratchetRespond(knock.keys, knock.ratchetKey, knock.kemKey, env)
  const terms = acceptTerms(knock, bob)
  const unsigned = {
    type: 'accept',
    session_id: deriveSessionId(ratchet, knock.transcript),
    protocol_version: knock.version,
    nonce: toBase64(knock.nonce),
    knock_hash: toBase64(knock.knockHash),
    session_key: toBase64(
      keyConfirmation(ratchet, knock.transcript, deriveSessionId(ratchet, knock.transcript)),
    ),
    constraints: terms.constraints,
    one_time_prekey_used: true,
    timestamp: formatTimestamp(NOW),
    ...changes,
  }
  const signature = sign(
    options.label ?? type,
    (options.signer ?? bob).identity.signing.secretKey,
    knock.transcript,
    amidToBytes(alice.identity.amid),
    amidToBytes(bob.identity.amid),
    ownRatchetKey(ratchet)!,
    canonicalBytes(unsigned),
  )
  const place = {
    type,
    version: knock.version,
    context: knock.knockHash,
    from: bob.identity.amid,
    to: alice.identity.amid,
  }
  const text = JSON.stringify({ ...unsigned, signature: toBase64(signature) })
  const { message } = ratchetEncrypt(ratchet, utf8Bytes(text), associatedData(place), env)
  return encodeAnswerPacket({ knockHash: knock.knockHash, ratchetMessage: message })
}

/** B's ratchet as the forged answers have it. */
function responded() {
  const { keys, ratchetKey, kemKey, transcript } = opened
  return { ratchet: ratchetRespond(keys, ratchetKey, kemKey, environment('accept')), transcript }
}

function answered(
  answer: Uint8Array,
  type: 'accept' | 'reject' = 'accept',
  to: PendingKnock = pending,
): string {
  const before = encodeRatchetState(to.ratchet)
  const result = outcome(() => consumeAnswer(to, type, answer, environment('answer')))
  expect(equalBytes(encodeRatchetState(to.ratchet), before)).toBe(true)
  return result
}

describe('an answer', () => {
  it('by the forger’s own hand, with nothing changed, is read', () => {
    expect(answered(forgedAnswer({}))).toBe('ok')
  })

  it('ACCEPT forged by a relay is not read', () => {
    const random = testRandom('relay')
    const noise = encodeAnswerPacket({ knockHash: pending.knockHash, ratchetMessage: random(2600) })
    expect(answered(noise)).toBe('MALFORMED')
    const shaped = concatBytes(accepted.packet.subarray(0, 34), random(accepted.packet.length - 34))
    expect(answered(shaped)).toBe('DECRYPTION_FAILED')
  })

  it('ACCEPT signed by somebody else is refused', () => {
    expect(answered(forgedAnswer({}, { signer: mallory }))).toBe('INVALID_SIGNATURE')
    expect(answered(forgedAnswer({}, { label: 'reject' }))).toBe('INVALID_SIGNATURE')
  })

  it('ACCEPT that names any other session than the one of its keys is refused, right in everything else', () => {
    const { ratchet, transcript } = responded()
    const stolen = meet(CONVERSATION, alice, mallory).atAlice.id
    for (const session_id of [stolen, newSessionId(testRandom('chosen'))]) {
      const session_key = toBase64(keyConfirmation(ratchet, transcript, session_id))
      expect(answered(forgedAnswer({ session_id, session_key }))).toBe('ANSWER_MISMATCH')
    }
  })

  it('ACCEPT of another KNOCK is refused, also under this one’s hash', () => {
    const other = knockOn(alice, bob.verifiedBundle(), {}, environment('second'))
    expect(answered(accepted.packet, 'accept', other.pending)).toBe('ANSWER_MISMATCH')
    const renamed = concatBytes(other.pending.knockHash, accepted.packet.subarray(32))
    expect(answered(renamed, 'accept', other.pending)).toBe('DECRYPTION_FAILED')
    const nonce = toBase64(other.pending.nonce)
    expect(answered(forgedAnswer({ nonce }))).toBe('ANSWER_MISMATCH')
    expect(answered(forgedAnswer({ knock_hash: nonce }))).toBe('ANSWER_MISMATCH')
  })

  it('REJECT forged by the relay is not read', () => {
    const relayed = concatBytes(pending.knockHash, flipped(rejected.subarray(32), 40))
    expect(answered(relayed, 'reject')).toBe('DECRYPTION_FAILED')
    expect(answered(accepted.packet, 'reject')).toBe('DECRYPTION_FAILED')
  })

  it('REJECT turned into an ACCEPT is not read', () => {
    expect(answered(rejected, 'accept')).toBe('DECRYPTION_FAILED')
    const relabelled = forgedAnswer({ type: 'reject' }, { type: 'accept' })
    expect(answered(relabelled, 'accept')).toBe('MALFORMED')
  })

  it('choosing a version below the best common one is refused', () => {
    expect(answered(forgedAnswer({ protocol_version: 'agentmesh/0.1' }))).toBe('UNSUPPORTED_VERSION')
    const better = { ...pending, version: 'agentmesh/0.3' }
    expect(answered(accepted.packet, 'accept', better)).toBe('DECRYPTION_FAILED')
  })

  it('that does not prove the session key is refused', () => {
    expect(answered(forgedAnswer({ session_key: toBase64(new Uint8Array(32)) }))).toBe('MALFORMED')
  })

  it('that hides that no one-time key was used is refused', () => {
    expect(answered(forgedAnswer({ one_time_prekey_used: false }))).toBe('MALFORMED')
  })

  it('that grants more time than was asked is refused', () => {
    const constraints = { max_message_size_bytes: 1000, max_messages: 5, ttl_seconds: 3601 }
    expect(answered(forgedAnswer({ constraints }))).toBe('MALFORMED')
  })

  it('from before its KNOCK or from the future is refused', () => {
    const at = (time: number) => forgedAnswer({ timestamp: formatTimestamp(time) })
    expect(answered(at(NOW - 300_001))).toBe('TIME_IMPLAUSIBLE')
    expect(answered(at(NOW + 300_001))).toBe('TIME_IMPLAUSIBLE')
  })

  it('with any byte changed is not read and leaves the pending KNOCK as it was', () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: accepted.packet.length - 1 }), (index) => {
        expect(answered(flipped(accepted.packet, index))).not.toBe('ok')
        expect(answered(accepted.packet.subarray(0, index))).not.toBe('ok')
      }),
      { numRuns: 150 },
    )
    expect(answered(accepted.packet)).toBe('ok')
  })
})

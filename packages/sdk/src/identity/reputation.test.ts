import { describe, expect, it } from 'vitest'
import { ed25519KeyPair, sha256 } from '../crypto/signing.ts'
import {
  formatTimestamp,
  isAgentMeshError,
  parseSessionId,
  utf8Bytes,
  type ClosingStatement,
  type ErrorCode,
} from '../wire/index.ts'
import { identityFromKeyPair } from './amid.ts'
import {
  ratee,
  signClosing,
  signFeedback,
  signReputationCredential,
  verifyClosingSignature,
  verifyFeedback,
  verifyReputationCredential,
  verifySessionClosing,
} from './reputation.ts'

const NOW = Date.UTC(2026, 1, 1, 12)
const HOUR = 3_600_000
const person = (name: string) => identityFromKeyPair(ed25519KeyPair(sha256(utf8Bytes(name))))
const alice = person('alice')
const bob = person('bob')
const mallory = person('mallory')
const service = ed25519KeyPair(sha256(utf8Bytes('service')))
const keys = { initiator: alice.signing.publicKey, responder: bob.signing.publicKey }

const statement = (fields: Partial<ClosingStatement> = {}): ClosingStatement => ({
  type: 'session_closing',
  session_id: parseSessionId('0f0e0d0c-0b0a-4908-8706-050403020100'),
  initiator: alice.amid,
  responder: bob.amid,
  reason: 'completed',
  closed_at: formatTimestamp(NOW),
  ...fields,
})

const closed = (of = statement()) => ({
  ...of,
  initiator_signature: signClosing(alice, of),
  responder_signature: signClosing(bob, of),
})

function expectRefusal(code: ErrorCode, call: () => unknown): void {
  expect(call).toThrow(expect.toSatisfy((error) => isAgentMeshError(error, code), code))
}

describe('session closing', () => {
  it('holds when both sides signed the same statement', () => {
    expect(verifySessionClosing(closed(), keys)).toEqual(closed())
    expect(verifyClosingSignature(statement(), signClosing(bob, statement()), keys.responder)).toBe(true)
  })

  it('keeps a field of a later version under both signatures', () => {
    const later = { ...statement(), chapter: 2 }
    expect(verifySessionClosing(closed(later), keys)).toEqual(closed(later))
    expectRefusal('INVALID_SIGNATURE', () => verifySessionClosing({ ...closed(later), chapter: 3 }, keys))
  })

  it.each([
    ['reason', { reason: 'error' }],
    ['session', { session_id: '1f0e0d0c-0b0a-4908-8706-050403020100' }],
    ['time', { closed_at: formatTimestamp(NOW + 1000) }],
    ['side', { responder: mallory.amid }],
  ])('refuses a closing whose %s was changed after signing', (_what, change) => {
    expectRefusal('INVALID_SIGNATURE', () => verifySessionClosing({ ...closed(), ...change }, keys))
  })

  it('refuses one side’s signature in the place of the other', () => {
    const { initiator_signature, responder_signature, ...rest } = closed()
    const swapped = {
      ...rest,
      initiator_signature: responder_signature,
      responder_signature: initiator_signature,
    }
    expectRefusal('INVALID_SIGNATURE', () => verifySessionClosing(swapped, keys))
    expectRefusal('INVALID_SIGNATURE', () =>
      verifySessionClosing({ ...closed(), responder_signature: initiator_signature }, keys),
    )
    expectRefusal('MALFORMED', () => verifySessionClosing({ ...rest, initiator_signature }, keys))
  })

  it('signs nothing for a session of others or with itself', () => {
    expectRefusal('MALFORMED', () => signClosing(mallory, statement()))
    expectRefusal('MALFORMED', () => signClosing(alice, statement({ responder: alice.amid })))
    expect(verifyClosingSignature(statement(), 'AAAA', keys.responder)).toBe(false)
  })
})

describe('feedback', () => {
  const feedback = signFeedback(alice, { closing: closed(), rating: 0.75, tags: ['fast', 'accurate'] }, NOW)

  it('names the other side', () => {
    expect(verifyFeedback(feedback, keys, NOW)).toEqual(feedback)
    expect(ratee(feedback)).toBe(bob.amid)
    expect(ratee(signFeedback(bob, { closing: closed(), rating: 0 }, NOW))).toBe(alice.amid)
  })

  it('refuses another rating, tag or rater than was signed', () => {
    expectRefusal('INVALID_SIGNATURE', () => verifyFeedback({ ...feedback, rating: 0 }, keys, NOW))
    expectRefusal('INVALID_SIGNATURE', () => verifyFeedback({ ...feedback, tags: ['spam'] }, keys, NOW))
    expectRefusal('INVALID_SIGNATURE', () => verifyFeedback({ ...feedback, rater: bob.amid }, keys, NOW))
  })

  it('refuses a closing that only the rater signed', () => {
    const forged = { ...closed(), responder_signature: closed().initiator_signature }
    expectRefusal('INVALID_SIGNATURE', () =>
      verifyFeedback(signFeedback(alice, { closing: forged, rating: 1 }, NOW), keys, NOW),
    )
  })

  it('refuses a stranger’s, one out of range, unknown tags, and dates to come', () => {
    expectRefusal('MALFORMED', () => signFeedback(mallory, { closing: closed(), rating: 1 }, NOW))
    expectRefusal('MALFORMED', () => signFeedback(alice, { closing: closed(), rating: 1.01 }, NOW))
    expectRefusal('MALFORMED', () =>
      verifyFeedback({ ...feedback, tags: ['his intent was flights'] }, keys, NOW),
    )
    expectRefusal('MALFORMED', () => verifyFeedback(feedback, keys, NOW - HOUR))
  })
})

describe('reputation credential', () => {
  const registry = 'ab'.repeat(32)
  const credential = signReputationCredential(service.secretKey, {
    registry,
    amid: alice.amid,
    score: 0.62,
    sessions: 7,
    tier: 1,
    issuedAt: NOW,
    expiresAt: NOW + 12 * HOUR,
  })
  const expected = { registry, serviceKey: service.publicKey, amid: alice.amid, now: NOW }

  it('is the registry’s word for as long as it says', () => {
    expect(verifyReputationCredential(credential, expected)).toEqual(credential)
    expectRefusal('SIGNATURE_EXPIRED', () =>
      verifyReputationCredential(credential, { ...expected, now: NOW + 12 * HOUR }),
    )
    expectRefusal('SIGNATURE_EXPIRED', () =>
      verifyReputationCredential(credential, { ...expected, now: NOW - HOUR }),
    )
  })

  it('is refused for another agent, under another registry or key, and changed', () => {
    expectRefusal('AMID_MISMATCH', () =>
      verifyReputationCredential(credential, { ...expected, amid: bob.amid }),
    )
    expectRefusal('MALFORMED', () =>
      verifyReputationCredential(credential, { ...expected, registry: 'cd'.repeat(32) }),
    )
    const serviceKey = mallory.signing.publicKey
    expectRefusal('INVALID_SIGNATURE', () =>
      verifyReputationCredential(credential, { ...expected, serviceKey }),
    )
    expectRefusal('INVALID_SIGNATURE', () =>
      verifyReputationCredential({ ...credential, score: 0.99 }, expected),
    )
  })
})

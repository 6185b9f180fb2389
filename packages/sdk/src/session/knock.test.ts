import { x25519KeyPair } from '../crypto/index.ts'
import { describe, expect, it } from 'vitest'
import { RejectReason, toBase64 } from '../wire/index.ts'
import { bestCommonVersion, knockHash } from './handshake.ts'
import { createAccept, createReject } from './knock-answer.ts'
import { consumeAnswer } from './knock-initiator.ts'
import { decodePending, decodeSession, encodePending, encodeSession } from './session-codec.ts'
import { NOW } from '../identity/test-support.ts'
import { outcome } from '../wire/test-support.ts'
import { acceptTerms, environment, FLIGHTS, knockOn, meet, TestAgent } from './test-support.ts'

const alice = new TestAgent('alice')
const bob = new TestAgent('bob')

describe('a handshake', () => {
  it.each([true, false])('gives both sides one session (one-time prekeys: %s)', (oneTimeKeys) => {
    const { pending, packet } = knockOn(alice, bob.verifiedBundle(oneTimeKeys), { displayName: 'Alice' })
    const opened = bob.open(packet, alice)
    expect(opened.knock.intent).toEqual(FLIGHTS)
    expect(opened.knock.from).toEqual({ amid: alice.identity.amid, tier: 2, display_name: 'Alice' })
    expect(opened.oneTimePrekeyUsed).toBe(oneTimeKeys)
    expect(opened.used).toEqual(oneTimeKeys ? { oneTimePrekeyId: 31, oneTimeKemPrekeyId: 41 } : {})

    const accepted = createAccept(opened, acceptTerms(opened, bob), environment('accept'))
    const answer = consumeAnswer(pending, 'accept', accepted.packet, environment('answer'))
    if (answer.kind !== 'accepted') throw new Error('not accepted')
    const { session } = answer
    expect(session.id).toBe(accepted.session.id)
    expect(session.constraints).toEqual(accepted.session.constraints)
    expect([session.self, session.peer]).toEqual([accepted.session.peer, accepted.session.self])
    expect([session.role, accepted.session.role]).toEqual(['initiator', 'responder'])
    expect([session.createdAt, session.expiresAt]).toEqual([NOW, NOW + 3_600_000])
    expect([session.oneTimePrekeyUsed, accepted.session.oneTimePrekeyUsed]).toEqual([
      oneTimeKeys,
      oneTimeKeys,
    ])
  })

  it('says that no one-time key protected it when only the curve one was left', () => {
    const bundle = { ...bob.bundle(), kem_prekey: bob.lastResort.record }
    const mixed = { ...bob.verifiedBundle(false), oneTimePrekey: bob.verifiedBundle().oneTimePrekey! }
    expect(bundle.one_time_prekey).toBeDefined()
    expect(bob.open(knockOn(alice, mixed).packet, alice).oneTimePrekeyUsed).toBe(false)
  })

  it('opens a KNOCK made for the exchange key before the current one', () => {
    const { publicKey: identityKey } = x25519KeyPair(bob.previousExchange.secret)
    const bundle = { ...bob.verifiedBundle(), identityKey, identityKeySequence: 1 }
    expect(bob.open(knockOn(alice, bundle).packet, alice).from).toBe(alice.identity.amid)
  })

  it('names a KNOCK by a hash both sides compute', () => {
    const { pending, packet } = knockOn(alice, bob.verifiedBundle())
    expect(knockHash(packet)).toEqual(pending.knockHash)
    expect(bob.open(packet, alice).knockHash).toEqual(pending.knockHash)
  })

  it('tells the receiver which nonce to keep, and until when', () => {
    const { pending, packet } = knockOn(alice, bob.verifiedBundle())
    const opened = bob.open(packet, alice)
    expect(opened.nonce).toEqual(pending.nonce)
    expect(opened.expiresAt).toBe(NOW + 72 * 3_600_000)
    expect(opened.forgetAfter).toBe(opened.expiresAt + 300_000)
  })

  it.each(RejectReason.enum)('carries the reason %s in a signed REJECT', (reason) => {
    const { pending, packet } = knockOn(alice, bob.verifiedBundle())
    const terms = { identity: bob.identity, reason, humanReadable: 'No.', retryAfterSeconds: 7 }
    const reject = createReject(bob.open(packet, alice), terms, environment('reject'))
    const answer = consumeAnswer(pending, 'reject', reject, environment('answer'))
    expect(answer).toMatchObject({
      kind: 'rejected',
      reject: {
        reason,
        human_readable: 'No.',
        retry_after_seconds: 7,
        knock_hash: toBase64(pending.knockHash),
      },
    })
  })

  it('survives encoding at every stage', () => {
    const { pending, packet } = knockOn(alice, bob.verifiedBundle())
    const stored = decodePending(encodePending(pending))
    expect(stored).toEqual(pending)
    const opened = bob.open(packet, alice)
    const accepted = createAccept(opened, acceptTerms(opened, bob), environment('accept'))
    expect(decodeSession(encodeSession(accepted.session))).toEqual(accepted.session)
    const answer = consumeAnswer(stored, 'accept', accepted.packet, environment('answer'))
    expect(answer.kind).toBe('accepted')
  })

  it('refuses a stored session whose row was changed', () => {
    const row = encodeSession(meet().atBob)
    expect(outcome(() => decodeSession(row.subarray(0, row.length - 1)))).toBe('MALFORMED')
    expect(outcome(() => decodeSession(Uint8Array.of(2, ...row.subarray(1))))).toBe('MALFORMED')
    const renamed = Buffer.from(row)
    renamed.write('"rolX"', renamed.indexOf('"role"'))
    expect(outcome(() => decodeSession(renamed))).toBe('MALFORMED')
  })

  it('grants no more time than was asked, and never more than a day', () => {
    const { packet } = knockOn(alice, bob.verifiedBundle(), {
      sessionRequest: { type: 'stream', ttl_seconds: 9 * 86_400 },
    })
    const opened = bob.open(packet, alice)
    const terms = acceptTerms(opened, bob)
    expect(terms.constraints).toMatchObject({ ttl_seconds: 86_400, max_messages: null })
    const longer = { ...terms, constraints: { ...terms.constraints, ttl_seconds: 10 * 86_400 } }
    expect(outcome(() => createAccept(opened, longer, environment('accept')))).toBe('MALFORMED')
  })
})

describe('the version of a handshake', () => {
  it('is the initiator’s best that the responder speaks', () => {
    const both = ['agentmesh/0.4', 'agentmesh/0.3', 'agentmesh/0.2']
    expect(bestCommonVersion(both, ['agentmesh/0.2', 'agentmesh/0.3'])).toBe('agentmesh/0.3')
    expect(outcome(() => bestCommonVersion(both, ['agentmesh/0.1']))).toBe('UNSUPPORTED_VERSION')
  })

  it('is a clear error when there is none in common', () => {
    const old = new TestAgent('old', ['agentmesh/0.1'])
    expect(outcome(() => knockOn(alice, old.verifiedBundle()))).toBe('UNSUPPORTED_VERSION')
  })

  it('is found among versions only the receiver knows', () => {
    const newer = new TestAgent('newer', ['agentmesh/0.9', 'agentmesh/0.2'])
    expect(newer.open(knockOn(alice, newer.verifiedBundle()).packet, alice).version).toBe('agentmesh/0.2')
  })
})

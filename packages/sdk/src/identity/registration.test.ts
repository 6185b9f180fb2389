import { describe, expect, it } from 'vitest'
import { formatKey, type AgentRecord, type Registration } from '../wire/index.ts'
import { verifyAgentRecord, verifyRegistration } from './registration.ts'
import { outcome } from '../wire/test-support.ts'
import { DAY, NOW, testIdentity, testKeys, testRegistration } from './test-support.ts'

const alice = testIdentity('alice')
const mallory = testIdentity('mallory')
const registration = testRegistration(alice)
const check = (raw: unknown, now = NOW) => outcome(() => verifyRegistration(raw, now))

function answer(changes: object = {}): AgentRecord {
  return {
    ...registration,
    tier: 2,
    presence: 'online',
    online: true,
    last_seen: null,
    registered_at: '2026-02-01T12:00:00.000Z',
    reputation_score: 0.5,
    ...changes,
  }
}

describe('a registration', () => {
  it('verifies as sent', () => {
    expect(verifyRegistration(registration, NOW)).toEqual(registration)
  })

  it.each<[string, Partial<Registration>]>([
    ['capability', { capabilities: [{ category: 'finance' }] }],
    ['relay', { relay_endpoint: 'wss://evil.example/v1/connect' }],
    ['direct endpoint', { direct_endpoint: 'tcp://evil.example:1' }],
    ['display name', { display_name: 'Somebody' }],
    ['sequence', { sequence: 2 }],
    ['date', { created_at: '2026-02-01T12:00:00.001Z' }],
    ['recovery key', { recovery_public_key: formatKey('ed25519', mallory.signing.publicKey) }],
  ])('refuses a changed %s', (_name, change) => {
    expect(check({ ...registration, ...change })).toBe('INVALID_SIGNATURE')
  })

  it('refuses an unknown field that was added or changed', () => {
    expect(check({ ...registration, hint: 1 })).toBe('INVALID_SIGNATURE')
  })

  it("refuses somebody else's key under the AMID", () => {
    const other = testRegistration(mallory)
    expect(check({ ...other, amid: alice.amid })).toBe('AMID_MISMATCH')
    expect(check({ ...registration, public_keys: other.public_keys })).toBe('AMID_MISMATCH')
  })

  it("refuses somebody else's exchange key, even signed into the record", () => {
    const stolen = testRegistration(alice, { exchange_key: testKeys(mallory).exchange.record })
    expect(check(stolen)).toBe('AMID_MISMATCH')
  })

  it('refuses a prekey in place of the exchange key', () => {
    expect(check(testRegistration(alice, { exchange_key: testKeys(alice).signed.record }))).toBe('MALFORMED')
  })

  it('refuses a record from the future and an exchange key out of date', () => {
    expect(check(registration, NOW - 600_000)).toBe('KEY_EXPIRED')
    const ahead = testRegistration(alice, { created_at: '2026-02-01T12:10:00.000Z' })
    expect(check(ahead)).toBe('MALFORMED')
    expect(check(registration, NOW + 10 * DAY)).toBe('KEY_EXPIRED')
  })
})

describe('a registry’s answer', () => {
  it('verifies whatever the registry says in its own name', () => {
    expect(verifyAgentRecord(answer()).reputation_score).toBe(0.5)
    expect(verifyAgentRecord(answer({ presence: 'dnd', tier: 1.5, organization: 'X' })).tier).toBe(1.5)
  })

  it('is refused when the agent did not say so', () => {
    expect(outcome(() => verifyAgentRecord(answer({ capabilities: [] })))).toBe('INVALID_SIGNATURE')
    expect(outcome(() => verifyAgentRecord(answer({ relay_endpoint: 'ws://evil.example/' })))).toBe(
      'INVALID_SIGNATURE',
    )
  })

  it('is still believed when the exchange key has gone out of date', () => {
    const old = testRegistration(alice, {}, NOW - 365 * DAY)
    expect(outcome(() => verifyAgentRecord(answer(old)))).toBe('ok')
  })

  it('is refused with a reputation out of range', () => {
    expect(outcome(() => verifyAgentRecord(answer({ reputation_score: 1.01 })))).toBe('MALFORMED')
  })
})

import { describe, expect, it } from 'vitest'
import { sign, x25519KeyPair } from '../crypto/signing.ts'
import { toBase64, unsignedBytes, type KeyKind, type SignedKey } from '../wire/index.ts'
import { signKeyRecord, verifyKeyRecord, type KeyRecordFields } from './key-records.ts'
import { outcome } from '../wire/test-support.ts'
import { DAY, NOW, testIdentity, testKeys, testRandom } from './test-support.ts'

const alice = testIdentity('alice')
const mallory = testIdentity('mallory')
const key = x25519KeyPair(testRandom('key')(32)).publicKey
const fields: KeyRecordFields = {
  kind: 'spk',
  id: 7,
  sequence: 3,
  key,
  versions: ['agentmesh/0.2'],
  createdAt: NOW,
  expiresAt: NOW + 10 * DAY,
}
const record = signKeyRecord(alice, fields)
const check = (raw: unknown, kind: KeyKind = 'spk', now = NOW, owner = alice) =>
  outcome(() => verifyKeyRecord(raw, owner.signing.publicKey, { kind, now }))

/** The record with changes, signed anew by `signer` under `label`. */
function resigned(changes: object, signer = alice, label: KeyKind = 'spk'): object {
  const changed = { ...record, ...changes }
  return { ...changed, signature: toBase64(sign(label, signer.signing.secretKey, unsignedBytes(changed))) }
}

describe('a signed key record', () => {
  it('gives back the key to who knows the owner', () => {
    expect(verifyKeyRecord(record, alice.signing.publicKey, { kind: 'spk', now: NOW })).toEqual(key)
  })

  it('keeps unknown fields under the signature', () => {
    const extended = resigned({ note: 'later version' })
    expect(check(extended)).toBe('ok')
    expect(check({ ...extended, note: 'changed' })).toBe('INVALID_SIGNATURE')
    expect(check({ ...record, note: 'added' })).toBe('INVALID_SIGNATURE')
  })

  it.each<[string, Partial<SignedKey>]>([
    ['id', { id: 8 }],
    ['sequence', { sequence: 4 }],
    [
      'key',
      { key: signKeyRecord(alice, { ...fields, key: x25519KeyPair(testRandom('x')(32)).publicKey }).key },
    ],
    ['version list', { versions: ['agentmesh/0.1'] }],
    ['creation date', { created_at: '2026-02-01T12:00:01.000Z' }],
    ['expiry', { expires_at: '2027-02-01T12:00:00.000Z' }],
  ])('refuses a changed %s', (_name, change) => {
    expect(check({ ...record, ...change })).toBe('INVALID_SIGNATURE')
  })

  it('refuses another kind than asked for', () => {
    expect(check(record, 'ik')).toBe('MALFORMED')
    expect(check(record, 'opk')).toBe('MALFORMED')
  })

  it('refuses a key signed under the label of another kind', () => {
    expect(check(resigned({ kind: 'ik' }, alice, 'spk'), 'ik')).toBe('INVALID_SIGNATURE')
    expect(check(resigned({}, alice, 'opk'))).toBe('INVALID_SIGNATURE')
  })

  it("refuses a key signed by somebody else in the owner's name", () => {
    expect(check(resigned({}, mallory))).toBe('INVALID_SIGNATURE')
  })

  it("refuses somebody else's own key record", () => {
    expect(check(resigned({ amid: mallory.amid }, mallory))).toBe('AMID_MISMATCH')
    expect(check(record, 'spk', NOW, mallory)).toBe('AMID_MISMATCH')
  })

  it('is good from its creation, give or take skewed clocks, until its expiry', () => {
    expect(check(record, 'spk', NOW - 300_000)).toBe('ok')
    expect(check(record, 'spk', NOW - 300_001)).toBe('KEY_EXPIRED')
    expect(check(record, 'spk', NOW + 10 * DAY - 1)).toBe('ok')
    expect(check(record, 'spk', NOW + 10 * DAY)).toBe('KEY_EXPIRED')
  })

  it('leaves dates to the caller when no clock is given', () => {
    const old = signKeyRecord(alice, { ...fields, createdAt: 0, expiresAt: 1 })
    expect(verifyKeyRecord(old, alice.signing.publicKey, { kind: 'spk' })).toEqual(key)
  })

  it.each<[string, object]>([
    ['a sequence of 0', { sequence: 0 }],
    ['an id of 0', { id: 0 }],
    ['an id over 32 bits', { id: 2 ** 32 }],
    ['a signed prekey without versions', { versions: undefined }],
    ['dates the wrong way round', { expires_at: '2026-01-01T00:00:00Z' }],
    ['an X25519 key in a KEM slot', { kind: 'pq-one' }],
    ['a kind nobody knows', { kind: 'xyz' }],
  ])('refuses %s', (_name, change) => {
    const changed = resigned(change) as SignedKey
    const stripped = JSON.parse(JSON.stringify(changed)) as SignedKey
    expect(check(stripped, changed.kind)).toMatch(/^(MALFORMED|INVALID_KEY)$/)
  })

  it('refuses a second spelling of the same signature', () => {
    const [, last] = /(.)==$/.exec(record.signature) ?? []
    const alphabet = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/'
    const twin = alphabet[alphabet.indexOf(last ?? '') + 1]
    expect(check({ ...record, signature: record.signature.replace(/.==$/, `${twin}==`) })).toBe('MALFORMED')
  })

  it.each([null, 7, 'text', [], {}])('refuses %j', (raw) => {
    expect(check(raw)).toBe('MALFORMED')
  })

  it('cannot be signed without versions as a signed prekey', () => {
    const { versions: _versions, ...rest } = fields
    expect(outcome(() => signKeyRecord(alice, rest))).toBe('MALFORMED')
  })
})

describe('the prekeys an agent makes', () => {
  const keys = testKeys(alice)

  it.each([
    ['exchange key', keys.exchange, 'ik', 10, 32],
    ['signed prekey', keys.signed, 'spk', 10, 32],
    ['last-resort KEM prekey', keys.lastResort, 'pq-last', 10, 64],
    ['one-time prekey', keys.oneTime[1]!, 'opk', 30, 32],
    ['one-time KEM prekey', keys.oneTimeKem[1]!, 'pq-one', 30, 64],
  ] as const)('%s: verifies for its lifetime and no longer', (_name, own, kind, days, secretBytes) => {
    expect(own.secret).toHaveLength(secretBytes)
    expect(check(own.record, kind, NOW + days * DAY - 1)).toBe('ok')
    expect(check(own.record, kind, NOW + days * DAY)).toBe('KEY_EXPIRED')
  })

  it('have ids that count up and keys that differ', () => {
    expect(keys.oneTime.map((own) => own.record.id)).toEqual([1, 2])
    expect(keys.oneTime[0]!.record.key).not.toBe(keys.oneTime[1]!.record.key)
  })

  it('are the public halves of their secrets', () => {
    const found = verifyKeyRecord(keys.signed.record, alice.signing.publicKey, { kind: 'spk' })
    expect(found).toEqual(x25519KeyPair(keys.signed.secret).publicKey)
  })
})

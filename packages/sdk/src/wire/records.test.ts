import { describe, expect, it } from 'vitest'
import type { TSchema } from 'typebox'
import type { ErrorCode } from './errors.ts'
import { unsignedBytes } from './json.ts'
import {
  AgentRecord,
  Bundle,
  PrekeyUpload,
  Registration,
  SearchAnswer,
  SignedKey,
  UNSIGNED_RECORD_FIELDS,
} from './records.ts'
import { formatKey, validate } from './schema.ts'
import { toBase64 } from './bytes.ts'

const refused = (code: ErrorCode) => expect.objectContaining({ name: 'AgentMeshError', code })

const signedKey = {
  kind: 'opk',
  amid: '1'.repeat(20),
  id: 1,
  sequence: 1,
  key: formatKey('x25519', new Uint8Array(32).fill(9)),
  created_at: '2026-02-01T12:00:00Z',
  expires_at: '2026-03-01T12:00:00Z',
  signature: toBase64(new Uint8Array(64)),
}
const registration = {
  amid: signedKey.amid,
  public_keys: {
    signing_public_key: formatKey('ed25519', new Uint8Array(32).fill(8)),
    exchange_key: { ...signedKey, kind: 'ik' },
  },
  capabilities: ['travel'],
  relay_endpoint: 'ws://127.0.0.1:8443/v1/connect',
  sequence: 1,
  created_at: '2026-02-01T12:00:00Z',
  signature: toBase64(new Uint8Array(64)),
}
const record = {
  ...registration,
  tier: 2,
  presence: 'online',
  online: true,
  last_seen: null,
  registered_at: '2026-02-01T12:00:00Z',
  reputation_score: 0.5,
}
const upload = {
  signed_prekey: signedKey,
  last_resort_kem_prekey: signedKey,
  one_time_prekeys: [signedKey],
  one_time_kem_prekeys: [],
}
const bundle = {
  amid: signedKey.amid,
  signing_public_key: registration.public_keys.signing_public_key,
  exchange_key: signedKey,
  signed_prekey: signedKey,
  kem_prekey: signedKey,
}

describe('records with signed keys in them', () => {
  const cases: [string, TSchema, object, (key: object) => object][] = [
    ['a bundle', Bundle, bundle, (key) => ({ ...bundle, one_time_prekey: key })],
    ['an upload', PrekeyUpload, upload, (key) => ({ ...upload, one_time_kem_prekeys: [key] })],
    [
      'a registration',
      Registration,
      registration,
      (key) => ({ ...registration, public_keys: { ...registration.public_keys, exchange_key: key } }),
    ],
    ['a search answer', SearchAnswer, { agents: [record], next_cursor: null }, (key) => ({ agents: [key] })],
  ]

  it.each(cases)('%s is checked together with them', (_, schema, value, withKey) => {
    expect(validate(SignedKey, signedKey)).toBe(signedKey)
    expect(validate(schema, value)).toBe(value)
    expect(() => validate(schema, withKey({ ...signedKey, id: 0 }))).toThrow(refused('MALFORMED'))
    expect(() => validate(schema, withKey({}))).toThrow(refused('MALFORMED'))
  })
})

describe('what the registry adds', () => {
  it('is outside the agent’s signature, and all else is inside', () => {
    const signed = unsignedBytes(registration, UNSIGNED_RECORD_FIELDS)
    expect(unsignedBytes(validate(AgentRecord, record), UNSIGNED_RECORD_FIELDS)).toEqual(signed)
    for (const field of Object.keys(registration)) {
      if (field === 'signature') continue
      expect(unsignedBytes({ ...record, [field]: null }, UNSIGNED_RECORD_FIELDS)).not.toEqual(signed)
    }
    expect(unsignedBytes({ ...record, x_note: 1 }, UNSIGNED_RECORD_FIELDS)).not.toEqual(signed)
  })

  it('covers every field of an answer that a registration lacks', () => {
    const added = Object.keys(record).filter((field) => !(field in registration))
    expect(UNSIGNED_RECORD_FIELDS).toEqual(expect.arrayContaining(added))
    const optional = Object.keys(Registration.properties).filter((field) =>
      UNSIGNED_RECORD_FIELDS.includes(field as never),
    )
    expect(optional).toEqual(['tier', 'verification_token', 'online', 'last_seen'])
  })
})

it.each([
  'https://relay.example',
  'ws://',
  'wss://relay example',
  'wss://relay.example/\u202e',
  'wss://relay.example\n',
  'javascript:wss://x',
])('refuses the relay endpoint %j', (relay_endpoint) => {
  expect(() => validate(Registration, { ...registration, relay_endpoint })).toThrow(refused('MALFORMED'))
})

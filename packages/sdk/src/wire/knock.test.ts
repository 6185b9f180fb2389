import { readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import type { ErrorCode } from './errors.ts'
import { parseJsonObject, unsignedBytes, type JsonObject } from './json.ts'
import { Accept, Knock, Reject, RejectReason } from './knock.ts'
import { validate } from './schema.ts'

const refused = (code: ErrorCode) => expect.objectContaining({ name: 'AgentMeshError', code })

/** The first valid case of a vector file. */
function sample(name: string): JsonObject {
  const url = new URL(`../../../../test-vectors/wire/${name}.json`, import.meta.url)
  const { cases } = JSON.parse(readFileSync(url, 'utf8')) as {
    cases: { input: { text: string }; expect: string }[]
  }
  return parseJsonObject(cases.find((vector) => vector.expect === 'ok')!.input.text, 8192)
}

const messages = [
  { name: 'knock', schema: Knock },
  { name: 'accept', schema: Accept },
  { name: 'reject', schema: Reject },
]

describe.each(messages)('$name', ({ name, schema }) => {
  it('is told apart from the other two', () => {
    for (const other of messages) {
      if (other.name === name) expect(validate(schema, sample(name))).toEqual(sample(name))
      else expect(() => validate(schema, sample(other.name))).toThrow(refused('MALFORMED'))
    }
  })

  it('signs every field it has, unknown ones too', () => {
    const value = sample(name)
    const signed = unsignedBytes(value)
    for (const field of Object.keys(value)) {
      const changed = unsignedBytes({ ...value, [field]: 'changed' })
      if (field === 'signature') expect(changed).toEqual(signed)
      else expect(changed).not.toEqual(signed)
    }
    expect(unsignedBytes({ ...value, x_unknown: 1 })).not.toEqual(signed)
  })

  it('cannot lose its signature, nonce or time', () => {
    for (const field of ['signature', 'nonce', 'timestamp']) {
      const { [field]: _, ...rest } = sample(name)
      expect(() => validate(schema, rest)).toThrow(refused('MALFORMED'))
    }
  })
})

it('a KNOCK has room to spare in its 8 KiB', () => {
  expect(JSON.stringify(sample('knock')).length).toBeLessThan(6 * 1024)
})

it('has the rejection reasons of the specification, and three more', () => {
  expect(RejectReason.enum).toEqual([
    'invalid_signature',
    'blocked',
    'insufficient_trust',
    'rate_limited',
    'intent_not_accepted',
    'not_in_allowlist',
    'low_reputation',
    'at_capacity',
    'paused',
    'expired',
    'unverified_claim',
  ])
})

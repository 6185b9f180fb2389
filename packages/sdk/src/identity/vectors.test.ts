import { describe, expect, it } from 'vitest'
import { signedBytes, verify } from '../crypto/signing.ts'
import {
  AgentMeshError,
  formatKey,
  fromBase64,
  fromHex,
  isAgentMeshError,
  parseAmid,
  parseTimestamp,
  toHex,
} from '../wire/index.ts'
import { vectorFiles } from '../wire/test-support.ts'
import { amidFromPublicKey } from './amid.ts'
import { verifyBundle } from './bundle.ts'
import { connectSignatureParts } from './connect.ts'
import { didDocument, fromMultikey } from './did-document.ts'
import { verifyRequest } from './http-signature.ts'
import { verifyKeyRecord } from './key-records.ts'
import { recoveryKeyPair, verifySuccession } from './recovery.ts'
import { verifyRegistration } from './registration.ts'
import { identityVectors } from './test-support-scenarios.ts'
import type { IdentityVector, VectorKind } from './test-support-vectors.ts'

const scenarios = identityVectors()
const print = (vector: IdentityVector): string => `${JSON.stringify(vector, null, 2)}\n`

const { names, load } = vectorFiles('identity', scenarios, print)

// eslint-disable-next-line typescript/no-explicit-any -- vectors are data; a wrong shape fails the test by itself
const RUN: Record<VectorKind, (input: any) => unknown> = {
  amid: ({ public_key }) => amidFromPublicKey(fromHex(public_key)),
  'amid-text': ({ text }) => (parseAmid(text), null),
  multikey: ({ algorithm, text }) => toHex(fromMultikey(algorithm, text)),
  'did-document': ({ record }) => didDocument(record),
  'key-record': ({ record, signing_public_key, kind, now }) => {
    const key = verifyKeyRecord(record, fromHex(signing_public_key), { kind, now: parseTimestamp(now) })
    return formatKey(kind.startsWith('pq') ? 'mlkem768' : 'x25519', key)
  },
  bundle: ({ bundle, expected_amid, now }) => {
    const verified = verifyBundle(bundle, expected_amid, parseTimestamp(now))
    return { kem_kind: verified.kemPrekey.kind, one_time_prekey: verified.oneTimePrekey?.id ?? null }
  },
  registration: ({ registration, now }) => verifyRegistration(registration, parseTimestamp(now)).amid,
  request: ({ body, now, ...request }) =>
    verifyRequest({ ...request, body: fromBase64(body) }, parseTimestamp(now)).amid,
  connect: ({ relay_id, nonce, amid, public_key, timestamp, state_counter, signature }) => {
    const key = fromHex(public_key)
    const parts = connectSignatureParts(relay_id, fromHex(nonce), amid, key, timestamp, state_counter)
    if (!verify('connect', key, fromHex(signature), ...parts)) throw new AgentMeshError('INVALID_SIGNATURE')
    return toHex(signedBytes('connect', ...parts))
  },
  recovery: ({ words }) => toHex(recoveryKeyPair(words).publicKey),
  succession: ({ statement, recovery_public_key, now }) =>
    verifySuccession(statement, fromHex(recovery_public_key), parseTimestamp(now)).new_amid,
}

function run(vector: IdentityVector): { expect: string; output?: unknown } {
  try {
    return { expect: 'ok', output: RUN[vector.kind](vector.input) }
  } catch (error) {
    if (isAgentMeshError(error)) return { expect: error.code }
    throw error
  }
}

describe('test-vectors/identity', () => {
  it('holds every scenario and nothing else', () => {
    expect(names.toSorted()).toEqual([...scenarios.keys()].toSorted())
  })

  it('has what passes and what is refused for every check', () => {
    const counts = new Map<string, { ok: number; refused: number }>()
    for (const { kind, expect: expected } of scenarios.values()) {
      const count = counts.get(kind) ?? { ok: 0, refused: 0 }
      count[expected === 'ok' ? 'ok' : 'refused']++
      counts.set(kind, count)
    }
    expect([...counts.keys()].toSorted()).toEqual(Object.keys(RUN).toSorted())
    // A DID document is made, not checked.
    const thin = [...counts].filter(([, { ok, refused }]) => ok === 0 || refused < 3).map(([kind]) => kind)
    expect(thin).toEqual(['did-document'])
  })

  it.each(names)('%s', (name) => {
    const vector = JSON.parse(load(name)) as IdentityVector
    expect(vector).toEqual(JSON.parse(JSON.stringify(scenarios.get(name))))
    const { description: _text, section: _section, kind: _kind, input: _input, ...expected } = vector
    expect(run(vector)).toEqual(expected)
  })
})

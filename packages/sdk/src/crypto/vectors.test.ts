import assert from 'node:assert/strict'
import { describe, expect, it } from 'vitest'
import { outcome, printVector, vectorFiles } from '../wire/test-support.ts'
import { ed25519KeyPair, kemKeyPair, x25519KeyPair, type RandomBytes } from './primitives.ts'
import { ratchetDecrypt, ratchetEncrypt, ratchetInitiate, ratchetRespond } from './ratchet.ts'
import { encodeRatchetState, type RatchetState } from './ratchet-state.ts'
import { open, seal } from './sealing.ts'
import { sign, signedBytes, verify } from './signing.ts'
import type { CryptoVector, RatchetVector, SealVector, SignatureVector, X3dhVector } from './vector-format.ts'
import { fromHex, toHex } from './vector-players.ts'
import { cryptoVectors } from './vector-scenarios.ts'
import { x3dhInitiate, x3dhRespond } from './x3dh.ts'

const scenarios = cryptoVectors()
const print = (vector: CryptoVector) => printVector(vector, 80)

const { names, load } = vectorFiles('crypto', scenarios, print)

/** Hands out the recorded draws, and fails a call that draws another amount than was recorded. */
function replayed(hex: string): { readonly random: RandomBytes; readonly end: () => void } {
  const bytes = fromHex(hex)
  let at = 0
  return {
    random: (length) => {
      at += length
      return bytes.slice(at - length, at)
    },
    end: () => assert.equal(at, bytes.length),
  }
}

function assertX3dh(vector: X3dhVector): void {
  const { bundle, initiator, responder, offer, result } = vector
  const context = {
    initiator: fromHex(vector.context.initiator),
    responder: fromHex(vector.context.responder),
    initiatorVersions: vector.context.initiator_versions,
    responderVersions: vector.context.responder_versions,
  }
  const draws = replayed(initiator.random)
  const initiate = () =>
    x3dhInitiate(
      context,
      x25519KeyPair(fromHex(initiator.identity_secret)),
      {
        identityKey: fromHex(bundle.identity_key),
        signedPrekey: fromHex(bundle.signed_prekey),
        ...(bundle.one_time_prekey === null ? {} : { oneTimePrekey: fromHex(bundle.one_time_prekey) }),
        kemKey: fromHex(bundle.kem_key),
        kemKind: responder.kem_kind,
      },
      draws.random,
    )
  const { one_time_prekey_secret: oneTime } = responder
  const respond = () =>
    x3dhRespond(
      context,
      {
        identityKey: x25519KeyPair(fromHex(responder.identity_secret)),
        signedPrekey: x25519KeyPair(fromHex(responder.signed_prekey_secret)),
        ...(oneTime === null ? {} : { oneTimePrekey: x25519KeyPair(fromHex(oneTime)) }),
        kemKey: kemKeyPair(fromHex(responder.kem_seed)),
        kemKind: responder.kem_kind,
      },
      {
        identityKey: fromHex(offer?.identity_key ?? ''),
        ephemeralKey: fromHex(offer?.ephemeral_key ?? ''),
        ratchetKey: fromHex(offer?.ratchet_key ?? ''),
        kemCiphertext: fromHex(offer?.kem_ciphertext ?? ''),
      },
    )
  if (vector.refused_by === 'a') return assert.equal(outcome(initiate), vector.expect)
  if (vector.refused_by === 'b') return assert.equal(outcome(respond), vector.expect)

  const initiation = initiate()
  draws.end()
  assert.equal(toHex(initiation.ephemeralKey), offer?.ephemeral_key)
  assert.equal(toHex(initiation.ratchetKeyPair.publicKey), offer?.ratchet_key)
  assert.equal(toHex(initiation.kemCiphertext), offer?.kem_ciphertext)
  for (const { transcript, keys } of [initiation, respond()]) {
    assert.deepEqual(
      {
        transcript: toHex(transcript),
        knock_key: toHex(keys.knockKey),
        optimistic_key: toHex(keys.optimisticKey),
        chain_key: toHex(keys.chainKey),
        initiator_header_key: toHex(keys.initiatorHeaderKey),
        responder_header_key: toHex(keys.responderHeaderKey),
      },
      result,
    )
  }
}

function assertRatchet(vector: RatchetVector): void {
  const unused = new Uint8Array(0)
  const keys = {
    knockKey: unused,
    optimisticKey: unused,
    chainKey: fromHex(vector.keys.chain_key),
    initiatorHeaderKey: fromHex(vector.keys.initiator_header_key),
    responderHeaderKey: fromHex(vector.keys.responder_header_key),
  }
  const ratchet = x25519KeyPair(fromHex(vector.initiator.ratchet_secret))
  const kem = kemKeyPair(fromHex(vector.initiator.kem_seed))
  const states: { a: RatchetState; b?: RatchetState } = { a: ratchetInitiate(keys, ratchet, kem) }
  const stateOf = (party: 'a' | 'b') => {
    const state = states[party]
    if (state === undefined) throw new Error('B speaks before it responded')
    return state
  }
  const refusals: string[] = []
  for (const step of vector.steps) {
    const { now } = step
    if (step.do === 'respond') {
      const draws = replayed(step.random)
      states.b = ratchetRespond(keys, ratchet.publicKey, kem.publicKey, { random: draws.random, now })
      draws.end()
    } else if (step.do === 'encrypt') {
      const draws = replayed(step.random)
      const { state, message } = ratchetEncrypt(
        stateOf(step.by),
        fromHex(step.plaintext),
        fromHex(step.associated_data),
        { random: draws.random, now },
      )
      draws.end()
      assert.equal(toHex(message), step.message)
      states[step.by] = state
    } else if (step.do === 'discard') {
      const environment = { random: (length: number) => new Uint8Array(length), now }
      for (let n = 0; n < step.count; n++) {
        states[step.by] = ratchetEncrypt(stateOf(step.by), unused, unused, environment).state
      }
    } else {
      const before = encodeRatchetState(stateOf(step.by))
      const decrypt = () => {
        const { state, plaintext } = ratchetDecrypt(
          stateOf(step.by),
          fromHex(step.message),
          fromHex(step.associated_data),
          { random: (length) => new Uint8Array(length), now },
        )
        assert.equal(toHex(plaintext), step.plaintext)
        states[step.by] = state
      }
      assert.equal(outcome(decrypt), step.expect)
      if (step.expect !== 'ok') {
        refusals.push(step.expect)
        assert.deepEqual(encodeRatchetState(stateOf(step.by)), before)
      }
    }
  }
  assert.deepEqual(refusals, vector.expect === 'ok' ? [] : [vector.expect])
}

function assertSignature(vector: SignatureVector): void {
  const pair = ed25519KeyPair(fromHex(vector.seed))
  const parts = vector.parts.map(fromHex)
  assert.equal(toHex(pair.publicKey), vector.public_key)
  assert.equal(toHex(signedBytes(vector.label, ...parts)), vector.signed_bytes)
  const isGood = vector.expect === 'ok'
  assert.equal(verify(vector.label, pair.publicKey, fromHex(vector.signature), ...parts), isGood)
  assert.equal(toHex(sign(vector.label, pair.secretKey, ...parts)) === vector.signature, isGood)
}

function assertSeal(vector: SealVector): void {
  const key = fromHex(vector.key)
  const place = fromHex(vector.place)
  assert.equal(
    outcome(() => open(key, fromHex(vector.sealed), place)),
    vector.expect,
  )
  const sealed = seal(key, fromHex(vector.plaintext), place, replayed(vector.random).random)
  assert.equal(toHex(sealed) === vector.sealed, vector.expect === 'ok')
}

function assertReplays(vector: CryptoVector): void {
  if (vector.kind === 'x3dh') assertX3dh(vector)
  else if (vector.kind === 'ratchet') assertRatchet(vector)
  else if (vector.kind === 'signature') assertSignature(vector)
  else assertSeal(vector)
}

describe('test-vectors/crypto', () => {
  it('has a file for every scenario and no other', () => {
    expect(names.toSorted()).toEqual([...scenarios.keys()].toSorted())
  })

  it.each([...scenarios])('%s is what the scenario gives, byte for byte', (name, vector) => {
    expect(load(name)).toBe(print(vector))
  })

  it.each(names)('%s replays from the file alone', (name) => {
    assertReplays(JSON.parse(load(name)) as CryptoVector)
  })
})

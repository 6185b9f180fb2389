/** Targets of the crypto layer: ratchet messages, headers and states, sealed records. */
import {
  aeadEncrypt,
  kemKeyPair,
  x25519KeyPair,
  AEAD_NONCE_BYTES,
  open,
  ratchetDecrypt,
  ratchetEncrypt,
  seal,
  decodeRatchetState,
  encodeRatchetState,
  type RatchetState,
} from '../../../packages/sdk/src/crypto/index.ts'
import {
  decodeHeader,
  encodeFrame,
  encodeHeader,
  type RatchetHeader,
} from '../../../packages/sdk/src/crypto/ratchet-header.ts'
import { makeSession, seededRandom } from '../../../packages/sdk/src/crypto/test-support.ts'
import { utf8Bytes } from '@agentmesh/sdk/wire'
import type { Target, TargetMaker } from '../target.ts'

const NOW = Date.UTC(2026, 1, 1, 12)
const NO_DATA = new Uint8Array(0)

/** A conversation with both ends after each step, messages lost on the way included. */
function conversation() {
  const environment = { random: seededRandom('fuzz ratchet'), now: NOW }
  let { a, b } = makeSession(environment)
  const states: RatchetState[] = [a, b]
  const say = (from: 'a' | 'b', text: string, lost = 0) => {
    let sender = from === 'a' ? a : b
    const receiver = from === 'a' ? b : a
    let message = NO_DATA
    for (let count = 0; count <= lost; count++) {
      const sent = ratchetEncrypt(sender, utf8Bytes(text), NO_DATA, environment)
      sender = sent.state
      message = Uint8Array.from(sent.message)
    }
    const { state } = ratchetDecrypt(receiver, message, NO_DATA, environment)
    if (from === 'a') [a, b] = [sender, state]
    else [a, b] = [state, sender]
    states.push(a, b)
  }
  say('b', 'accept')
  say('a', 'one')
  say('b', 'two', 3)
  say('a', 'three', 2)
  // Both directions are under way now: the next message of each stands in an open chain.
  const next = ratchetEncrypt(a, utf8Bytes('four'), NO_DATA, environment)
  const after = ratchetEncrypt(next.state, utf8Bytes('five'), NO_DATA, environment)
  const reply = ratchetEncrypt(b, utf8Bytes('new chain'), NO_DATA, environment)
  return { a, b, states, toB: [next.message, after.message], toA: [reply.message] }
}

const MESSAGE_REFUSALS = [
  'MALFORMED',
  'DECRYPTION_FAILED',
  'RATCHET_DUPLICATE',
  'RATCHET_GAP',
  'RATCHET_EXHAUSTED',
  'WEAK_SHARED_SECRET',
] as const

function messages(): Target {
  const { b, toB } = conversation()
  const before = encodeRatchetState(b)
  return {
    name: 'ratchet-message',
    form: 'bytes',
    seeds: toB,
    refusals: MESSAGE_REFUSALS,
    read(input) {
      const { plaintext } = ratchetDecrypt(b, input, NO_DATA, { random: seededRandom('unused'), now: NOW })
      return plaintext
    },
    close() {
      if (Buffer.compare(before, encodeRatchetState(b)) !== 0)
        throw new Error('a message changed the state it was read with')
    },
  }
}

/** What a peer that has the keys can put in the header of a new chain: sealed as it should be, before a body that is not. */
function headersOfPeer(): Target {
  const { a } = conversation()
  const nonce = new Uint8Array(AEAD_NONCE_BYTES)
  const { publicKey } = x25519KeyPair(new Uint8Array(32).fill(8))
  const kem = kemKeyPair(new Uint8Array(64).fill(8))
  const kemStep = { ciphertext: new Uint8Array(1088).fill(3), publicKey: kem.publicKey }
  const plain = { ratchetKey: publicKey, previousCounter: 4, counter: 0, kemStep: undefined }
  return {
    name: 'ratchet-peer-header',
    // At most a gap of 2,000 in the old chain and in the new: a derivation for each, and for each key that is kept.
    maxCost: 8001,
    form: 'bytes',
    seeds: [plain, { ...plain, kemStep }].map(encodeHeader),
    takesNothing: true,
    refusals: MESSAGE_REFUSALS,
    read(input) {
      const sealedHeader = aeadEncrypt(a.nextReceivingHeaderKey, nonce, input, NO_DATA)
      const message = encodeFrame({ nonce, sealedHeader, ciphertext: new Uint8Array(20) })
      return ratchetDecrypt(a, message, NO_DATA, { random: seededRandom('unused'), now: NOW })
    },
  }
}

export const CRYPTO_TARGETS: Readonly<Record<string, TargetMaker>> = {
  'ratchet-message': messages,
  'ratchet-peer-header': headersOfPeer,
  'ratchet-header': () => ({
    name: 'ratchet-header',
    form: 'bytes',
    seeds: [
      undefined,
      { ciphertext: new Uint8Array(1088).fill(1), publicKey: new Uint8Array(1184).fill(2) },
    ].map((kemStep) =>
      encodeHeader({ ratchetKey: new Uint8Array(32).fill(9), previousCounter: 7, counter: 8, kemStep }),
    ),
    refusals: ['MALFORMED', 'RATCHET_EXHAUSTED'],
    read: decodeHeader,
    write: (header: RatchetHeader) => encodeHeader(header),
  }),
  'ratchet-state': () => ({
    name: 'ratchet-state',
    form: 'bytes',
    seeds: conversation().states.map(encodeRatchetState),
    refusals: ['MALFORMED'],
    read: decodeRatchetState,
    write: encodeRatchetState,
  }),
  sealed: () => {
    const key = new Uint8Array(32).fill(5)
    const place = utf8Bytes('place')
    const random = seededRandom('sealed')
    return {
      name: 'sealed',
      form: 'bytes',
      seeds: ['', 'a', 'a longer record'].map((text) => seal(key, utf8Bytes(text), place, random)),
      refusals: ['SEAL_BROKEN'],
      dress: (input, draws) => seal(key, input, place, (length) => draws.bytes(length)),
      read: (input) => open(key, input, place),
      write: (plaintext: Uint8Array) => seal(key, plaintext, place, random),
    }
  },
}

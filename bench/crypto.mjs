/**
 * The crypto path against its primitive bound: handshakes, messages one way, and ping-pong round trips.
 * Run after a build: node bench/crypto.mjs
 *
 * The JSON around the messages is measured elsewhere; here signatures are over 256 bytes. The bound makes the libsodium
 * calls that the path must make, on inputs of the same length, and nothing else: no framing, no states, no randomness. The
 * KEM step of every fiftieth message is in the ping-pong path and not in its bound.
 */
import sodium from 'libsodium-wrappers-sumo'
import * as crypto from '../packages/sdk/dist/crypto/index.js'
import { compare, printComparison, printMachine } from './lib/measure.mjs'

await sodium.ready

const random = crypto.systemRandom
const BODY = random(256)
const KNOCK_BODY = random(3000)
const AD = random(96)
const now = Date.now()
const context = {
  initiator: random(20),
  responder: random(20),
  initiatorVersions: ['agentmesh/0.2'],
  responderVersions: ['agentmesh/0.2'],
}

const a = { signing: crypto.ed25519KeyPair(random(32)), identity: crypto.x25519KeyPair(random(32)) }
const b = {
  signing: crypto.ed25519KeyPair(random(32)),
  identityKey: crypto.x25519KeyPair(random(32)),
  signedPrekey: crypto.x25519KeyPair(random(32)),
  oneTimePrekey: crypto.x25519KeyPair(random(32)),
  kemKey: crypto.kemKeyPair(random(64)),
  kemKind: /** @type {const} */ ('one-time'),
}
const bundle = {
  identityKey: b.identityKey.publicKey,
  signedPrekey: b.signedPrekey.publicKey,
  oneTimePrekey: b.oneTimePrekey.publicKey,
  kemKey: b.kemKey.publicKey,
  kemKind: b.kemKind,
}
const bundleSignatures = /** @type {const} */ ([
  ['ik', bundle.identityKey],
  ['spk', bundle.signedPrekey],
  ['opk', bundle.oneTimePrekey],
  ['pq-one', bundle.kemKey],
]).map(([label, key]) => /** @type {const} */ ([label, key, crypto.sign(label, b.signing.secretKey, key)]))

/** @param {boolean} condition */
function must(condition) {
  if (!condition) throw new Error('the benchmark does not do what it measures')
}

/** @param {import('../packages/sdk/dist/crypto/index.js').SigningLabel} label @param {Uint8Array} key @param {Uint8Array} bytes */
function signed(label, key, bytes) {
  return crypto.concatBytes(crypto.sign(label, key, bytes), bytes)
}

/** @param {import('../packages/sdk/dist/crypto/index.js').SigningLabel} label @param {Uint8Array} key @param {Uint8Array} bytes */
function verified(label, key, bytes) {
  must(crypto.verify(label, key, bytes.subarray(0, 64), bytes.subarray(64)))
}

/** KNOCK and ACCEPT, both sides, from a fetched bundle to a session both have. */
function handshake() {
  for (const [label, key, signature] of bundleSignatures) {
    must(crypto.verify(label, b.signing.publicKey, signature, key))
  }
  const knock = crypto.x3dhInitiate(context, a.identity, bundle, random)
  const kem = crypto.kemKeyPair(random(64))
  const nonce = random(24)
  const sealed = crypto.aeadEncrypt(
    knock.keys.knockKey,
    nonce,
    signed('knock', a.signing.secretKey, KNOCK_BODY),
    AD,
  )
  const waiting = crypto.ratchetInitiate(knock.keys, knock.ratchetKeyPair, kem)

  const { keys } = crypto.x3dhRespond(context, b, {
    identityKey: a.identity.publicKey,
    ephemeralKey: knock.ephemeralKey,
    ratchetKey: knock.ratchetKeyPair.publicKey,
    kemCiphertext: knock.kemCiphertext,
  })
  const opened = crypto.aeadDecrypt(keys.knockKey, nonce, sealed, AD)
  if (opened === null) throw new Error('the KNOCK does not open')
  verified('knock', a.signing.publicKey, opened)
  const responded = crypto.ratchetRespond(keys, knock.ratchetKeyPair.publicKey, kem.publicKey, {
    random,
    now,
  })
  const accept = crypto.ratchetEncrypt(responded, signed('accept', b.signing.secretKey, BODY), AD, {
    random,
    now,
  })

  const received = crypto.ratchetDecrypt(waiting, accept.message, AD, { random, now })
  verified('accept', b.signing.publicKey, received.plaintext)
  return { a: received.state, b: accept.state }
}

const state = handshake()

/** @param {'a' | 'b'} from @param {'a' | 'b'} to @param {Uint8Array} body */
function carry(from, to, body) {
  const sender = from === 'a' ? a : b
  const sent = crypto.ratchetEncrypt(state[from], signed('envelope', sender.signing.secretKey, body), AD, {
    random,
    now,
  })
  const received = crypto.ratchetDecrypt(state[to], sent.message, AD, { random, now })
  verified('envelope', sender.signing.publicKey, received.plaintext)
  state[from] = sent.state
  state[to] = received.state
}

// The same calls, bare.
const key = random(32)
const nonce24 = random(24)
const labelled = random(256 + 4 + 23)
const header = random(41)
const plaintext = random(64 + 256)
const associated = random(96 + 57)
const sealedHeader = sodium.crypto_aead_xchacha20poly1305_ietf_encrypt(header, null, null, nonce24, key)
const sealedBody = sodium.crypto_aead_xchacha20poly1305_ietf_encrypt(
  plaintext,
  associated,
  null,
  nonce24,
  key,
)
const bigHeader = random(2313)
const sealedBigHeader = sodium.crypto_aead_xchacha20poly1305_ietf_encrypt(bigHeader, null, null, nonce24, key)
const knockPlaintext = random(64 + 3000)
const sealedKnock = sodium.crypto_aead_xchacha20poly1305_ietf_encrypt(knockPlaintext, AD, null, nonce24, key)
const knockLabelled = random(3000 + 27)
const signature = sodium.crypto_sign_detached(labelled, a.signing.secretKey)
const knockSignature = sodium.crypto_sign_detached(knockLabelled, a.signing.secretKey)
const kemSeed = random(64)
const kemSent = sodium.crypto_kem_mlkem768_enc_deterministic(bundle.kemKey, key)
const transcript = random(2700)

/** @param {number} count @param {() => unknown} call */
function times(count, call) {
  for (let n = 0; n < count; n++) call()
}
const hmac = () => sodium.crypto_auth_hmacsha256(key, key)
const agree = () => sodium.crypto_scalarmult(a.identity.secretKey, bundle.signedPrekey)
const makeKey = () => sodium.crypto_scalarmult_base(key)
const signBare = () => sodium.crypto_sign_detached(labelled, a.signing.secretKey)
const verifyBare = () => sodium.crypto_sign_verify_detached(signature, labelled, a.signing.publicKey)

function sealBody() {
  sodium.crypto_aead_xchacha20poly1305_ietf_encrypt(plaintext, associated, null, nonce24, key)
  sodium.crypto_aead_xchacha20poly1305_ietf_decrypt(null, sealedBody, associated, nonce24, key)
}

function messageBound() {
  signBare()
  verifyBare()
  sodium.crypto_aead_xchacha20poly1305_ietf_encrypt(header, null, null, nonce24, key)
  sodium.crypto_aead_xchacha20poly1305_ietf_decrypt(null, sealedHeader, null, nonce24, key)
  sealBody()
  times(4, hmac)
}

function roundTripBound() {
  for (let direction = 0; direction < 2; direction++) {
    makeKey()
    times(2, agree)
    times(8, hmac)
    messageBound()
    // The first header of a new chain does not open under the old chain's key: one more trial.
    try {
      sodium.crypto_aead_xchacha20poly1305_ietf_decrypt(null, sealedHeader, header, nonce24, key)
    } catch {}
  }
}

function handshakeBound() {
  times(3, makeKey)
  times(10, agree)
  times(2, () => sodium.crypto_kem_mlkem768_enc_deterministic(bundle.kemKey, key))
  times(2, () => sodium.crypto_kem_mlkem768_dec(kemSent.ciphertext, b.kemKey.secretKey))
  times(2, () => sodium.crypto_kem_mlkem768_seed_keypair(kemSeed))
  times(2, () => sodium.crypto_hash_sha256(transcript))
  times(4 + 10 + 8 + 4, hmac)
  sodium.crypto_sign_detached(knockLabelled, a.signing.secretKey)
  sodium.crypto_sign_verify_detached(knockSignature, knockLabelled, a.signing.publicKey)
  times(5, verifyBare)
  signBare()
  sodium.crypto_aead_xchacha20poly1305_ietf_encrypt(knockPlaintext, AD, null, nonce24, key)
  sodium.crypto_aead_xchacha20poly1305_ietf_decrypt(null, sealedKnock, AD, nonce24, key)
  sodium.crypto_aead_xchacha20poly1305_ietf_encrypt(bigHeader, null, null, nonce24, key)
  sodium.crypto_aead_xchacha20poly1305_ietf_decrypt(null, sealedBigHeader, null, nonce24, key)
  sealBody()
}

printMachine()
console.log(`libsodium ${sodium.SODIUM_VERSION_STRING} (WebAssembly)\n`)
printComparison('handshake: bundle, KNOCK, ACCEPT, both sides', compare(handshake, handshakeBound))
printComparison(
  'one way: sign, encrypt, decrypt, verify 256 B',
  compare(() => carry('a', 'b', BODY), messageBound),
)
printComparison(
  'ping-pong: the same both ways, a new key each',
  compare(() => {
    carry('b', 'a', BODY)
    carry('a', 'b', BODY)
  }, roundTripBound),
)

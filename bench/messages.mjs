/**
 * The message path against its primitive bound: whole envelopes one way, and ping-pong round trips.
 * Run after a build: node bench/messages.mjs
 *
 * Beside bench/crypto.mjs this adds what makes a message of a payload: the strict reader on both sides, the schemas, the
 * canonical form, base64 and the session's limits. The bound makes the bare libsodium calls on inputs of the same length.
 */
import sodium from 'libsodium-wrappers-sumo'
import * as crypto from '../packages/sdk/dist/crypto/index.js'
import * as identity from '../packages/sdk/dist/identity/index.js'
import * as messages from '../packages/sdk/dist/messages/index.js'
import * as session from '../packages/sdk/dist/session/index.js'
import * as wire from '../packages/sdk/dist/wire/index.js'
import { compare, printComparison, printMachine } from './lib/measure.mjs'

await sodium.ready

const random = crypto.systemRandom
const now = Date.now()
const environment = { random, now }
const options = { startId: 1, sequence: 1, random, now }

const a = identity.identityFromKeyPair(crypto.ed25519KeyPair(random(32)))
const b = identity.identityFromKeyPair(crypto.ed25519KeyPair(random(32)))
const exchangeA = identity.makeExchangeKey(a, options)
const exchangeB = identity.makeExchangeKey(b, options)
const signed = identity.makeSignedPrekey(b, options)
const [oneTime] = identity.makeOneTimePrekeys(b, { ...options, count: 1 })
const [oneTimeKem] = identity.makeOneTimeKemPrekeys(b, { ...options, count: 1 })
if (oneTime === undefined || oneTimeKem === undefined) throw new Error('no one-time prekeys')
const bundle = {
  amid: b.amid,
  signing_public_key: wire.formatKey('ed25519', b.signing.publicKey),
  exchange_key: exchangeB.record,
  signed_prekey: signed.record,
  one_time_prekey: oneTime.record,
  kem_prekey: oneTimeKem.record,
}
const keys = {
  find: () => ({
    exchangeKeys: [crypto.x25519KeyPair(exchangeB.secret)],
    signedPrekey: crypto.x25519KeyPair(signed.secret),
    versions: wire.PROTOCOL_VERSIONS,
    oneTimePrekey: crypto.x25519KeyPair(oneTime.secret),
    kemKey: crypto.kemKeyPair(oneTimeKem.secret),
  }),
  headerSeen: () => false,
}

/** From a fetched bundle to a session both have. A stream, since it has no limit on messages. */
function handshake() {
  const { pending, packet } = session.createKnock(
    {
      identity: a,
      exchangeKey: exchangeA,
      bundle: identity.verifyBundle(bundle, b.amid, now),
      intent: { category: 'travel', subcategory: 'flights' },
      sessionRequest: { type: 'stream', ttl_seconds: 86_400 },
    },
    environment,
  )
  const opened = session.openKnock(packet, a.amid, { identity: b, keys }, environment)
  const accepted = session.createAccept(
    opened,
    {
      identity: b,
      constraints: session.grantConstraints(opened.knock.session_request),
    },
    environment,
  )
  const answer = session.consumeAnswer(pending, 'accept', accepted.packet, environment)
  if (answer.kind !== 'accepted') throw new Error('the handshake failed')
  return { a: answer.session, b: accepted.session }
}

const ends = handshake()
const identities = { a, b }
const messageId = wire.newMessageId(random)
const payload = {
  intent: { category: 'travel', subcategory: 'flights' },
  parameters: { text: 'x'.repeat(256) },
}

/** @param {'a' | 'b'} from @param {'a' | 'b'} to */
function carry(from, to) {
  const draft = /** @type {const} */ ({ type: 'request', id: messageId, payload })
  const sent = messages.createMessage(ends[from], draft, identities[from], environment)
  const received = messages.consumeMessage(ends[to], sent.packet, 'message', environment)
  if (received.envelope.sequence !== sent.envelope.sequence)
    throw new Error('the benchmark does not do what it measures')
  ends[from] = sent.session
  ends[to] = received.session
  return sent.envelope
}

// The same calls, bare, on inputs as long as the path's.
const envelope = carry('a', 'b')
const plaintextLength = JSON.stringify(envelope).length
const key = random(32)
const nonce = random(24)
const labelled = crypto.concatBytes(
  wire.utf8Bytes('agentmesh/0.2 envelope\0'),
  random(4 + 1 + 4),
  wire.unsignedBytes(envelope),
)
const header = random(41)
const plaintext = random(plaintextLength)
const associated = random(15 + 16 + 40 + 57)
const none = new Uint8Array(0)
const sealedHeader = sodium.crypto_aead_xchacha20poly1305_ietf_encrypt(header, none, null, nonce, key)
const sealedBody = sodium.crypto_aead_xchacha20poly1305_ietf_encrypt(plaintext, associated, null, nonce, key)
const signature = sodium.crypto_sign_detached(labelled, a.signing.secretKey)

function messageBound() {
  sodium.crypto_sign_detached(labelled, a.signing.secretKey)
  sodium.crypto_sign_verify_detached(signature, labelled, a.signing.publicKey)
  sodium.crypto_aead_xchacha20poly1305_ietf_encrypt(header, none, null, nonce, key)
  sodium.crypto_aead_xchacha20poly1305_ietf_decrypt(null, sealedHeader, none, nonce, key)
  sodium.crypto_aead_xchacha20poly1305_ietf_encrypt(plaintext, associated, null, nonce, key)
  sodium.crypto_aead_xchacha20poly1305_ietf_decrypt(null, sealedBody, associated, nonce, key)
  for (let n = 0; n < 4; n++) sodium.crypto_auth_hmacsha256(key, key)
}

const peer = crypto.x25519KeyPair(random(32)).publicKey

function roundTripBound() {
  for (let direction = 0; direction < 2; direction++) {
    // A new chain: a key pair, an agreement on each side, HKDF of 96 bytes on each side, one header trial that misses.
    sodium.crypto_scalarmult_base(key)
    sodium.crypto_scalarmult(key, peer)
    sodium.crypto_scalarmult(key, peer)
    for (let n = 0; n < 8; n++) sodium.crypto_auth_hmacsha256(key, key)
    try {
      sodium.crypto_aead_xchacha20poly1305_ietf_decrypt(null, sealedHeader, header, nonce, key)
    } catch {}
    messageBound()
  }
}

printMachine()
console.log(`envelopes of ${plaintextLength} bytes, 256 of them free text\n`)
printComparison(
  'one way: envelope, sign, encrypt, decrypt, verify',
  compare(() => carry('a', 'b'), messageBound),
)
printComparison(
  'ping-pong: the same both ways, a new key each',
  compare(() => {
    carry('b', 'a')
    carry('a', 'b')
  }, roundTripBound),
)

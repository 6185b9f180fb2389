/**
 * Targets of the handshake: packets as they come from a relay, and, behind the encryption, what a peer that has keys
 * of its own can say in them. The latter are encrypted by the target itself, with handshakes made once.
 */
import {
  AEAD_NONCE_BYTES,
  aeadDecrypt,
  aeadEncrypt,
  concatBytes,
  ratchetEncrypt,
  ratchetRespond,
  sign,
  SUITE_X25519_MLKEM768,
  theirRatchetKey,
  x25519KeyPair,
  x3dhInitiate,
  ratchetDecrypt,
} from '../../../packages/sdk/src/crypto/index.ts'
import { knockAssociatedData } from '../../../packages/sdk/src/session/handshake.ts'
import {
  associatedData,
  consumeAnswer,
  createAccept,
  createReject,
  openKnock,
  openOptimistic,
  type OpenedKnock,
  type PendingKnock,
} from '../../../packages/sdk/src/session/index.ts'
import { NOW, testRandom } from '../../../packages/sdk/src/identity/test-support.ts'
import {
  acceptTerms,
  environment,
  FLIGHTS,
  knockOn,
  TestAgent,
} from '../../../packages/sdk/src/session/test-support.ts'
import {
  amidToBytes,
  canonicalBytes,
  encodeAnswerPacket,
  encodeKnockHeader,
  encodeKnockPacket,
  formatKey,
  newMessageId,
  PROTOCOL_VERSIONS,
  toBase64,
  unsignedBytes,
  utf8Bytes,
  type ErrorCode,
  type JsonObject,
} from '@agentmesh/sdk/wire'
import { JSON_REFUSALS, textOf, type Target, type TargetMaker } from '../target.ts'
import { wireSeeds } from '../vectors.ts'

const KNOCK_REFUSALS: readonly ErrorCode[] = [
  ...JSON_REFUSALS,
  'UNSUPPORTED_VERSION',
  'PREKEY_UNKNOWN',
  'KNOCK_REPLAYED',
  'WEAK_SHARED_SECRET',
  'DECRYPTION_FAILED',
  'INVALID_KEY',
  'AMID_MISMATCH',
  'INVALID_SIGNATURE',
  'KEY_EXPIRED',
  'KNOCK_NOT_FOR_US',
  'KNOCK_EXPIRED',
]
export const RATCHET_REFUSALS = [
  'DECRYPTION_FAILED',
  'RATCHET_DUPLICATE',
  'RATCHET_GAP',
  'RATCHET_EXHAUSTED',
  'WEAK_SHARED_SECRET',
] as const

/** The JSON with the signature that `make` gives for it; what is no JSON object stays as it is. */
export function signedJson(input: Uint8Array, make: (fields: JsonObject) => Uint8Array): Uint8Array {
  try {
    const fields = JSON.parse(textOf(input)) as JsonObject
    return utf8Bytes(JSON.stringify({ ...fields, signature: toBase64(make(fields)) }))
  } catch {
    return input
  }
}

/** KNOCK packets as a stranger sends them. */
function knocks(): Target {
  const alice = new TestAgent('alice')
  const bob = new TestAgent('bob')
  return {
    name: 'knock',
    form: 'bytes',
    seeds: [true, false].map((oneTime) => knockOn(alice, bob.verifiedBundle(oneTime)).packet),
    edges: wireSeeds('packet-knock', 'base64').seeds,
    refusals: KNOCK_REFUSALS,
    read: (input) => openKnock(input, alice.identity.amid, bob, { now: NOW }),
  }
}

/** A handshake that is encrypted as it should be, and what stands in its KNOCK. */
function knocksInside(): Target {
  const alice = new TestAgent('alice')
  const bob = new TestAgent('bob')
  const random = testRandom('knock inside')
  const bundle = bob.verifiedBundle(false)
  const identityKey = x25519KeyPair(alice.exchange.secret)
  const [from, to] = [alice.identity.amid, bob.identity.amid]
  const agreed = x3dhInitiate(
    {
      initiator: amidToBytes(from),
      responder: amidToBytes(to),
      initiatorVersions: PROTOCOL_VERSIONS,
      responderVersions: bundle.signedPrekey.versions,
    },
    identityKey,
    {
      identityKey: bundle.identityKey,
      signedPrekey: bundle.signedPrekey.key,
      kemKey: bundle.kemPrekey.key,
      kemKind: 'last-resort',
    },
    random,
  )
  const header = encodeKnockHeader({
    suite: SUITE_X25519_MLKEM768,
    exchangeKeySequence: bundle.identityKeySequence,
    versions: PROTOCOL_VERSIONS,
    identityKey: identityKey.publicKey,
    ephemeralKey: agreed.ephemeralKey,
    ratchetKey: agreed.ratchetKeyPair.publicKey,
    signedPrekeyId: bundle.signedPrekey.id,
    oneTimePrekeyId: undefined,
    kemKind: 'last-resort',
    kemPrekeyId: bundle.kemPrekey.id,
    kemCiphertext: agreed.kemCiphertext,
  })
  const knock = {
    type: 'knock',
    protocol_version: PROTOCOL_VERSIONS[0],
    from: { amid: from, tier: 2, display_name: 'Alice', organization: null, reputation_score: 0.5 },
    to,
    intent: FLIGHTS,
    session_request: { type: 'conversation', expected_messages: 4, ttl_seconds: 3600 },
    nonce: toBase64(random(32)),
    timestamp: new Date(NOW).toISOString(),
    expires_at: new Date(NOW + 3_600_000).toISOString(),
    signing_public_key: formatKey('ed25519', alice.identity.signing.publicKey),
    exchange_key: alice.exchange.record,
    kem_public_key: formatKey('mlkem768', bundle.kemPrekey.key),
  }
  const signed = (input: Uint8Array) =>
    signedJson(input, (fields) =>
      sign('knock', alice.identity.signing.secretKey, agreed.transcript, header, unsignedBytes(fields)),
    )
  const nonce = new Uint8Array(AEAD_NONCE_BYTES)
  return {
    name: 'knock-inside',
    form: 'json',
    seeds: [signed(canonicalBytes(knock))],
    edges: wireSeeds('knock').edges,
    refusals: KNOCK_REFUSALS,
    dress: signed,
    read(input) {
      const sealed = aeadEncrypt(agreed.keys.knockKey, nonce, input, knockAssociatedData(header, from, to))
      return openKnock(encodeKnockPacket(header, concatBytes(nonce, sealed)), from, bob, { now: NOW }).knock
    },
  }
}

/** What stands in the message that goes along with a KNOCK. */
function optimisticMessages(): Target {
  const alice = new TestAgent('alice')
  const bob = new TestAgent('bob')
  const payload = { intent: FLIGHTS, parameters: { origin: 'TLV', note: 'Grüße' } }
  const draft = { type: 'request', id: newMessageId(testRandom('optimistic')), payload } as const
  const opened = bob.open(knockOn(alice, bob.verifiedBundle(), { optimistic: draft }).packet, alice)
  const { session } = createAccept(opened, acceptTerms(opened, bob), environment('accept'))
  const [from, to] = [alice.identity.amid, bob.identity.amid]
  const place = associatedData({
    type: 'knock',
    version: opened.version,
    context: opened.knockHash,
    from,
    to,
  })
  const along = opened.sealedOptimistic ?? new Uint8Array(0)
  const nonce = along.subarray(0, AEAD_NONCE_BYTES)
  const genuine = aeadDecrypt(opened.keys.optimisticKey, nonce, along.subarray(AEAD_NONCE_BYTES), place)
  if (genuine === null) throw new Error('the genuine message does not open')
  return {
    name: 'optimistic',
    form: 'json',
    seeds: [genuine],
    edges: wireSeeds('envelope').edges,
    refusals: [
      ...JSON_REFUSALS,
      'SESSION_MISMATCH',
      'OPTIMISTIC_REFUSED',
      'DECRYPTION_FAILED',
      'INVALID_SIGNATURE',
      'LIMIT_SIZE',
      'TIME_IMPLAUSIBLE',
    ],
    dress: (input) =>
      signedJson(input, (fields) =>
        sign('envelope', alice.identity.signing.secretKey, Uint8Array.of(1), unsignedBytes(fields)),
      ),
    read(input) {
      const sealed = concatBytes(nonce, aeadEncrypt(opened.keys.optimisticKey, nonce, input, place))
      return openOptimistic({ ...opened, sealedOptimistic: sealed }, session).envelope
    },
  }
}

interface Answering {
  readonly alice: TestAgent
  readonly bob: TestAgent
  readonly pending: PendingKnock
  readonly opened: OpenedKnock
}

function answering(): Answering {
  const alice = new TestAgent('alice')
  const bob = new TestAgent('bob')
  const { pending, packet } = knockOn(alice, bob.verifiedBundle())
  return { alice, bob, pending, opened: bob.open(packet, alice) }
}

const ANSWER_REFUSALS: readonly ErrorCode[] = [
  ...JSON_REFUSALS,
  ...RATCHET_REFUSALS,
  'ANSWER_MISMATCH',
  'UNKNOWN_TYPE',
  'INVALID_SIGNATURE',
  'UNSUPPORTED_VERSION',
  'TIME_IMPLAUSIBLE',
]

function answers(type: 'accept' | 'reject'): Target {
  const { bob, pending, opened } = answering()
  const { identity } = bob
  const rejection = { identity, reason: 'blocked', humanReadable: 'No.', retryAfterSeconds: null } as const
  const packet =
    type === 'accept'
      ? createAccept(opened, acceptTerms(opened, bob), environment('accept')).packet
      : createReject(opened, rejection, environment('reject'))
  return {
    name: `answer-${type}`,
    form: 'bytes',
    seeds: [packet],
    refusals: ANSWER_REFUSALS,
    read: (input) => consumeAnswer(pending, type, input, environment('read')),
  }
}

/** What B can say in an ACCEPT or REJECT that is encrypted as it should be. */
function answersInside(type: 'accept' | 'reject'): Target {
  const { alice, bob, pending, opened } = answering()
  const { identity } = bob
  const ratchet = ratchetRespond(opened.keys, opened.ratchetKey, opened.kemKey, environment('answer'))
  const ratchetKey = ratchet.turn.kind === 'sending' ? ratchet.turn.ownRatchet.publicKey : new Uint8Array(32)
  const place = associatedData({
    type,
    version: opened.version,
    context: opened.knockHash,
    from: identity.amid,
    to: alice.identity.amid,
  })
  const rejection = { identity, reason: 'blocked', humanReadable: 'No.', retryAfterSeconds: 60 } as const
  const packet =
    type === 'accept'
      ? createAccept(opened, { ...acceptTerms(opened, bob), capabilities: ['travel'] }, environment('answer'))
          .packet
      : createReject(opened, rejection, environment('answer'))
  // The same draws make the same ratchet, so the answer's own text is what this one decrypts.
  const genuine = ratchetDecrypt(pending.ratchet, packet.subarray(32), place, environment('read'))
  if (theirRatchetKey(genuine.state)?.join() !== ratchetKey.join()) throw new Error('the ratchets differ')
  return {
    name: `answer-${type}-inside`,
    form: 'json',
    seeds: [genuine.plaintext],
    edges: wireSeeds(type).edges,
    refusals: ANSWER_REFUSALS,
    dress: (input) =>
      signedJson(input, (fields) =>
        sign(
          type,
          identity.signing.secretKey,
          opened.transcript,
          amidToBytes(alice.identity.amid),
          amidToBytes(identity.amid),
          ratchetKey,
          unsignedBytes(fields),
        ),
      ),
    read(input) {
      const { message } = ratchetEncrypt(ratchet, input, place, environment('seal'))
      const bytes = encodeAnswerPacket({ knockHash: opened.knockHash, ratchetMessage: message })
      return consumeAnswer(pending, type, bytes, environment('read'))
    },
  }
}

export const SESSION_TARGETS: Readonly<Record<string, TargetMaker>> = {
  knock: knocks,
  'knock-inside': knocksInside,
  'answer-accept': () => answers('accept'),
  'answer-reject': () => answers('reject'),
  'answer-accept-inside': () => answersInside('accept'),
  'answer-reject-inside': () => answersInside('reject'),
  optimistic: optimisticMessages,
}

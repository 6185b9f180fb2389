/**
 * A's side of the handshake: makes a KNOCK and reads its answer (specification §5.2, §5.4, DESIGN §7.1).
 *
 *     createKnock     bundle of B -> X3DH -> KNOCK, signed, sealed under the knock key; keeps what the answer needs
 *     consumeAnswer   ratchet decrypt -> parse -> belongs to this KNOCK -> signature -> version, key, limits -> Session
 *
 * Between the two A holds the ratchet's first root, RK_A and a fresh ML-KEM key; EK_A, the KEM coins, the shared secret and
 * the knock key are gone, because a KNOCK may wait 72 hours in a mailbox.
 */
import {
  AEAD_NONCE_BYTES,
  aeadEncrypt,
  concatBytes,
  equalBytes,
  kemKeyPair,
  ratchetDecrypt,
  ratchetInitiate,
  sha256,
  sign,
  SUITE_X25519_MLKEM768,
  theirRatchetKey,
  verify,
  x25519KeyPair,
  x3dhInitiate,
  zero,
  type RatchetState,
} from '../crypto/index.ts'
import type { Identity, VerifiedBundle } from '../identity/index.ts'
import {
  Accept,
  AgentMeshError,
  amidToBytes,
  canonicalBytes,
  CLOCK_SKEW_SECONDS,
  decodeAnswerPacket,
  encodeKnockHeader,
  encodeKnockPacket,
  formatKey,
  formatTimestamp,
  fromBase64,
  Knock,
  KNOCK_TTL_SECONDS,
  MAX_KNOCK_BYTES,
  parseJsonObject,
  parseTimestamp,
  PROTOCOL_VERSIONS,
  Reject,
  toBase64,
  unsignedBytes,
  utf8Bytes,
  validate,
  type Amid,
  type ErrorCode,
  type Intent,
  type MessageId,
  type SignedKey,
} from '../wire/index.ts'
import {
  associatedData,
  bestCommonVersion,
  deriveSessionId,
  headerSequence,
  keyConfirmation,
  knockAssociatedData,
  type SessionEnvironment,
} from './handshake.ts'
import { afterOptimistic, sealOptimistic, type OptimisticDraft } from './optimistic.ts'
import { claimsOf, shownInKnock, type OwnStanding } from './own-standing.ts'
import { openSession, type Session } from './session.ts'

export interface KnockRequest {
  readonly identity: Identity
  /** Our current exchange key: its published record and its 32-byte X25519 secret. */
  readonly exchangeKey: { readonly record: SignedKey; readonly secret: Uint8Array }
  /** The receiver's keys, checked by `verifyBundle`. */
  readonly bundle: VerifiedBundle
  readonly intent: Intent
  readonly sessionRequest: Knock['session_request']
  readonly displayName?: string
  /** What shows who we are. Without it we are anonymous. */
  readonly standing?: OwnStanding
  /**
   * A first message for the same packet. It goes along only when the bundle has one-time keys of both kinds and it can be
   * carried (see `sealOptimistic`); `PendingKnock.optimisticMessageId` says whether it does.
   */
  readonly optimistic?: OptimisticDraft
}

/** What A keeps of a KNOCK until its answer comes. Holds secrets: seal it at rest. */
export interface PendingKnock {
  readonly self: Amid
  readonly peer: Amid
  readonly peerSigningKey: Uint8Array
  readonly intent: Intent
  readonly sessionRequest: Knock['session_request']
  /** 32 bytes each: what the answer must repeat, the packet's name, and X3DH's transcript hash. */
  readonly nonce: Uint8Array
  readonly knockHash: Uint8Array
  readonly transcript: Uint8Array
  /** The best version both speak; any other is refused. */
  readonly version: string
  /** Milliseconds since the epoch. */
  readonly createdAt: number
  readonly expiresAt: number
  readonly oneTimePrekeyUsed: boolean
  /** The message that went along. ACCEPT says whether it was taken; if not, it is to be sent in the session. */
  readonly optimisticMessageId?: MessageId
  readonly ratchet: RatchetState
}

/** A ratchet frame's plaintext is bounded by the relay already; an answer is far smaller than a KNOCK. */
const MAX_ANSWER_BYTES = MAX_KNOCK_BYTES

/**
 * Makes a KNOCK. Draws, in this order: what X3DH draws, 64 bytes for the fresh ML-KEM key, 32 for the nonce, 24 for the
 * seal's nonce, 24 for the seal of an optimistic message. With certificates, 16 for a serial number behind the nonce.
 *
 * @throws CERTIFICATE_MALFORMED when the agent certificate is not this identity's; UNSUPPORTED_VERSION when the receiver speaks none of our versions, MALFORMED for a request its schema refuses,
 *   TOO_LARGE, INVALID_KEY, WEAK_SHARED_SECRET
 */
export function createKnock(
  request: KnockRequest,
  { random, now }: SessionEnvironment,
): { readonly pending: PendingKnock; readonly packet: Uint8Array } {
  const { identity, exchangeKey, bundle, intent, sessionRequest, optimistic } = request
  const self = identity.amid
  const peer = bundle.amid
  const version = bestCommonVersion(PROTOCOL_VERSIONS, bundle.signedPrekey.versions)
  const exchangeKeyPair = x25519KeyPair(exchangeKey.secret)
  const agreed = x3dhInitiate(
    {
      initiator: amidToBytes(self),
      responder: amidToBytes(peer),
      initiatorVersions: PROTOCOL_VERSIONS,
      responderVersions: bundle.signedPrekey.versions,
    },
    exchangeKeyPair,
    {
      identityKey: bundle.identityKey,
      signedPrekey: bundle.signedPrekey.key,
      ...(bundle.oneTimePrekey === undefined ? {} : { oneTimePrekey: bundle.oneTimePrekey.key }),
      kemKey: bundle.kemPrekey.key,
      kemKind: bundle.kemPrekey.kind,
    },
    random,
  )
  const headerBytes = encodeKnockHeader({
    suite: SUITE_X25519_MLKEM768,
    exchangeKeySequence: headerSequence(bundle.identityKeySequence),
    versions: PROTOCOL_VERSIONS,
    identityKey: exchangeKeyPair.publicKey,
    ephemeralKey: agreed.ephemeralKey,
    ratchetKey: agreed.ratchetKeyPair.publicKey,
    signedPrekeyId: bundle.signedPrekey.id,
    oneTimePrekeyId: bundle.oneTimePrekey?.id,
    kemKind: bundle.kemPrekey.kind,
    kemPrekeyId: bundle.kemPrekey.id,
    kemCiphertext: agreed.kemCiphertext,
  })

  const kemSeed = random(64)
  const ownKem = kemKeyPair(kemSeed)
  zero(kemSeed)
  const nonce = random(32)
  const expiresAt = now + KNOCK_TTL_SECONDS * 1000
  const text = JSON.stringify({
    type: 'knock',
    protocol_version: version,
    from: { amid: self, ...claimsOf(request.displayName, request.standing) },
    to: peer,
    intent,
    session_request: sessionRequest,
    nonce: toBase64(nonce),
    timestamp: formatTimestamp(now),
    expires_at: formatTimestamp(expiresAt),
    signing_public_key: formatKey('ed25519', identity.signing.publicKey),
    exchange_key: exchangeKey.record,
    kem_public_key: formatKey('mlkem768', ownKem.publicKey),
    ...shownInKnock(
      request.standing,
      { identity, ephemeralKey: agreed.ephemeralKey, expiresAt },
      { random, now },
    ),
  })
  // Read back strictly, so that what is signed is what the receiver's reader will see.
  const unsigned = parseJsonObject(text, MAX_KNOCK_BYTES)
  const signature = sign(
    'knock',
    identity.signing.secretKey,
    agreed.transcript,
    headerBytes,
    canonicalBytes(unsigned),
  )
  const knock = validate(Knock, { ...unsigned, signature: toBase64(signature) }, 'make KNOCK')
  const sealNonce = random(AEAD_NONCE_BYTES)
  const sealedKnock = aeadEncrypt(
    agreed.keys.knockKey,
    sealNonce,
    utf8Bytes(JSON.stringify(knock)),
    knockAssociatedData(headerBytes, self, peer),
  )
  const sealed = concatBytes(sealNonce, sealedKnock)
  const knockHash = sha256(encodeKnockPacket(headerBytes, sealed))
  const oneTimePrekeyUsed = bundle.oneTimePrekey !== undefined && bundle.kemPrekey.kind === 'one-time'
  const along =
    optimistic === undefined || !oneTimePrekeyUsed
      ? undefined
      : sealOptimistic(
          optimistic,
          { knockHash, version, from: self, to: peer },
          agreed.keys.optimisticKey,
          identity,
          { random, now },
        )
  zero(agreed.keys.knockKey, agreed.keys.optimisticKey)
  const packet = encodeKnockPacket(headerBytes, sealed, along)
  return {
    packet,
    pending: {
      self,
      peer,
      peerSigningKey: bundle.signingPublicKey,
      intent,
      sessionRequest,
      nonce,
      knockHash,
      transcript: agreed.transcript,
      version,
      createdAt: now,
      expiresAt,
      oneTimePrekeyUsed,
      ...(optimistic === undefined || along === undefined ? {} : { optimisticMessageId: optimistic.id }),
      ratchet: ratchetInitiate(agreed.keys, agreed.ratchetKeyPair, ownKem),
    },
  }
}

export type KnockAnswer =
  | { readonly kind: 'accepted'; readonly session: Session; readonly accept: Accept }
  | { readonly kind: 'rejected'; readonly reject: Reject }

/**
 * Reads the answer to a KNOCK. When ACCEPT has `optimistic_taken`, the session begins with that message sent, sequence 1; when
 * a message went along and was not taken, the session begins with none, and the message is to be sent in it.
 *
 * `pending` stays as it is; whoever stores the outcome deletes it, which is what makes a
 * second answer to the same KNOCK unreadable.
 *
 * @param type the relay's type of the packet
 * @throws ANSWER_MISMATCH for another KNOCK's answer, or a session id that is not the one of its keys; DECRYPTION_FAILED for a forged or changed one, MALFORMED,
 *   UNKNOWN_TYPE, INVALID_SIGNATURE, UNSUPPORTED_VERSION for a version that is not the best common one,
 *   TIME_IMPLAUSIBLE, and the codes of `ratchetDecrypt` and of the strict JSON reader
 */
export function consumeAnswer(
  pending: PendingKnock,
  type: 'accept' | 'reject',
  packet: Uint8Array,
  environment: SessionEnvironment,
): KnockAnswer {
  const { knockHash, ratchetMessage } = decodeAnswerPacket(packet)
  if (!equalBytes(knockHash, pending.knockHash)) throw answerError('ANSWER_MISMATCH')
  const opened = ratchetDecrypt(
    pending.ratchet,
    ratchetMessage,
    associatedData({
      type,
      version: pending.version,
      context: knockHash,
      from: pending.peer,
      to: pending.self,
    }),
    environment,
  )
  const raw = parseJsonObject(opened.plaintext, MAX_ANSWER_BYTES)
  const answer =
    type === 'accept' ? validate(Accept, raw, 'read ACCEPT') : validate(Reject, raw, 'read REJECT')
  const peerRatchetKey = theirRatchetKey(opened.state)
  if (peerRatchetKey === undefined) throw answerError('MALFORMED', 'The answer began no ratchet chain')
  const genuine = verify(
    type,
    pending.peerSigningKey,
    fromBase64(answer.signature),
    pending.transcript,
    amidToBytes(pending.self),
    amidToBytes(pending.peer),
    peerRatchetKey,
    unsignedBytes(raw),
  )
  if (!genuine) throw answerError('INVALID_SIGNATURE')
  checkAnswer(pending, answer, environment.now)
  if (answer.type === 'reject') return { kind: 'rejected', reject: answer }

  checkAccept(pending, answer, opened.state)
  const session = openSession({
    id: answer.session_id,
    role: 'initiator',
    self: pending.self,
    peer: pending.peer,
    peerSigningKey: pending.peerSigningKey,
    intent: pending.intent,
    type: pending.sessionRequest.type,
    constraints: answer.constraints,
    version: pending.version,
    createdAt: parseTimestamp(answer.timestamp),
    ratchet: opened.state,
    oneTimePrekeyUsed: pending.oneTimePrekeyUsed,
  })
  return {
    kind: 'accepted',
    accept: answer,
    session: answer.optimistic_taken === true ? afterOptimistic(session) : session,
  }
}

function answerError(code: ErrorCode, why?: string) {
  return new AgentMeshError(code, why, { operation: 'read the answer to a KNOCK' })
}

function checkAnswer(pending: PendingKnock, answer: Accept | Reject, now: number): void {
  if (answer.nonce !== toBase64(pending.nonce) || answer.knock_hash !== toBase64(pending.knockHash)) {
    throw answerError('ANSWER_MISMATCH')
  }
  if (answer.protocol_version !== pending.version) {
    throw new AgentMeshError(
      'UNSUPPORTED_VERSION',
      'The answer chooses another version than the best common one',
      { operation: 'read the answer to a KNOCK' },
    )
  }
  const answeredAt = parseTimestamp(answer.timestamp)
  const skew = CLOCK_SKEW_SECONDS * 1000
  if (answeredAt < pending.createdAt - skew || answeredAt > now + skew) {
    throw answerError('TIME_IMPLAUSIBLE')
  }
}

function checkAccept(pending: PendingKnock, accept: Accept, ratchet: RatchetState): void {
  if (accept.session_id !== deriveSessionId(ratchet, pending.transcript)) {
    throw answerError('ANSWER_MISMATCH', 'The ACCEPT names another session than the one of its keys')
  }
  const confirmation = keyConfirmation(ratchet, pending.transcript, accept.session_id)
  if (!equalBytes(fromBase64(accept.session_key), confirmation)) {
    throw answerError('MALFORMED', 'The key confirmation is wrong')
  }
  if (accept.one_time_prekey_used !== pending.oneTimePrekeyUsed) {
    throw answerError('MALFORMED', 'The ACCEPT is wrong about one-time prekeys')
  }
  if (accept.optimistic_taken === true && pending.optimisticMessageId === undefined) {
    throw answerError('MALFORMED', 'The ACCEPT took a message that was not sent')
  }
  if (accept.constraints.ttl_seconds > pending.sessionRequest.ttl_seconds) {
    throw answerError('MALFORMED', 'The ACCEPT grants more time than was asked')
  }
}

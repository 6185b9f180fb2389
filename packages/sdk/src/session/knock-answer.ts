/**
 * B's answers to an opened KNOCK: ACCEPT and REJECT, the first message of B's ratchet (specification §5.4, DESIGN §7.1,
 * spec/knock.md 5).
 *
 *     createAccept   RK_B, session id, key confirmation, terms, whether the optimistic message was taken -> sign -> ratchet encrypt
 *     createReject   reason -> sign -> ratchet encrypt, so that no relay can refuse in B's name
 */
import { ownRatchetKey, ratchetEncrypt, ratchetRespond, sign } from '../crypto/index.ts'
import type { Identity } from '../identity/index.ts'
import {
  Accept,
  AgentMeshError,
  amidToBytes,
  encodeAnswerPacket,
  formatTimestamp,
  isAgentMeshError,
  MAX_KNOCK_BYTES,
  parseJsonObject,
  Reject,
  toBase64,
  unsignedBytes,
  utf8Bytes,
  validate,
  type Constraints,
  type RejectReason,
  type SessionId,
} from '../wire/index.ts'
import { associatedData, deriveSessionId, keyConfirmation, type SessionEnvironment } from './handshake.ts'
import type { OpenedKnock } from './knock-responder.ts'
import { shownInAccept, type OwnStanding } from './own-standing.ts'
import { readOptimistic } from './optimistic.ts'
import { openSession, type Session } from './session.ts'

export interface AcceptTerms {
  readonly identity: Identity
  readonly constraints: Constraints
  readonly capabilities?: readonly string[]
  /** What shows who we are. Without it we are anonymous to the other side. */
  readonly standing?: OwnStanding
}

/**
 * Lets the KNOCK in. The session is stored before the packet leaves. Draws what `ratchetRespond` draws, then 24 bytes.
 *
 * When a message came along with the KNOCK, it is tried here, and ACCEPT says whether it is the session's first: if so, the
 * caller hands it to the application with `openOptimistic`. One that does not open leaves a KNOCK as good as any.
 *
 * @throws KNOCK_EXPIRED when the decision came too late, MALFORMED for terms the schema refuses or more time than was asked
 */
export function createAccept(
  opened: OpenedKnock,
  terms: AcceptTerms,
  environment: SessionEnvironment,
): { readonly session: Session; readonly packet: Uint8Array; readonly accept: Accept } {
  const { knock } = opened
  const { identity, constraints, capabilities, standing } = terms
  if (environment.now > opened.forgetAfter)
    throw new AgentMeshError('KNOCK_EXPIRED', undefined, { operation: 'make ACCEPT' })
  if (constraints.ttl_seconds > knock.session_request.ttl_seconds) {
    throw new AgentMeshError('MALFORMED', 'A session lives no longer than was asked', {
      operation: 'make ACCEPT',
    })
  }
  const ratchet = ratchetRespond(opened.keys, opened.ratchetKey, opened.kemKey, environment)
  const sessionId = deriveSessionId(ratchet, opened.transcript)
  const taken = optimisticTaken(opened, sessionId, constraints)
  const { answer, packet, state } = sealAnswer(opened, identity, ratchet, environment, Accept, {
    type: 'accept',
    session_id: sessionId,
    protocol_version: opened.version,
    nonce: toBase64(opened.nonce),
    knock_hash: toBase64(opened.knockHash),
    session_key: toBase64(keyConfirmation(ratchet, opened.transcript, sessionId)),
    ...(capabilities === undefined ? {} : { capabilities: [...capabilities] }),
    constraints,
    one_time_prekey_used: opened.oneTimePrekeyUsed,
    ...(taken === undefined ? {} : { optimistic_taken: taken }),
    ...shownInAccept(standing),
    timestamp: formatTimestamp(environment.now),
  })
  return {
    accept: answer,
    packet,
    session: openSession({
      id: sessionId,
      role: 'responder',
      self: identity.amid,
      peer: opened.from,
      peerSigningKey: opened.peerSigningKey,
      intent: knock.intent,
      type: knock.session_request.type,
      constraints,
      version: opened.version,
      createdAt: environment.now,
      ratchet: state,
      oneTimePrekeyUsed: opened.oneTimePrekeyUsed,
    }),
  }
}

/** Undefined when nothing came along. */
function optimisticTaken(
  opened: OpenedKnock,
  sessionId: SessionId,
  constraints: Constraints,
): boolean | undefined {
  if (opened.sealedOptimistic === undefined) return undefined
  try {
    readOptimistic(opened, sessionId, constraints)
    return true
  } catch (error) {
    if (isAgentMeshError(error)) return false
    throw error
  }
}

export interface RejectTerms {
  readonly identity: Identity
  readonly reason: RejectReason
  /** For the other side's owner; at most 256 characters. */
  readonly humanReadable: string
  readonly retryAfterSeconds: number | null
}

/** Turns the KNOCK away, so that nobody else can have done it. Draws as `createAccept` does. */
export function createReject(
  opened: OpenedKnock,
  terms: RejectTerms,
  environment: SessionEnvironment,
): Uint8Array {
  const ratchet = ratchetRespond(opened.keys, opened.ratchetKey, opened.kemKey, environment)
  return sealAnswer(opened, terms.identity, ratchet, environment, Reject, {
    type: 'reject',
    reason: terms.reason,
    human_readable: terms.humanReadable,
    retry_after_seconds: terms.retryAfterSeconds,
    protocol_version: opened.version,
    nonce: toBase64(opened.nonce),
    knock_hash: toBase64(opened.knockHash),
    timestamp: formatTimestamp(environment.now),
  }).packet
}

function sealAnswer<S extends typeof Accept | typeof Reject>(
  opened: OpenedKnock,
  identity: Identity,
  ratchet: ReturnType<typeof ratchetRespond>,
  environment: SessionEnvironment,
  schema: S,
  fields: Readonly<Record<string, unknown>> & { readonly type: 'accept' | 'reject' },
) {
  const ratchetKey = ownRatchetKey(ratchet)
  if (ratchetKey === undefined)
    throw new AgentMeshError('RATCHET_NOT_READY', undefined, { operation: 'answer KNOCK' })
  const unsigned = parseJsonObject(JSON.stringify(fields), MAX_KNOCK_BYTES)
  const signature = sign(
    fields.type,
    identity.signing.secretKey,
    opened.transcript,
    amidToBytes(opened.from),
    amidToBytes(identity.amid),
    ratchetKey,
    unsignedBytes(unsigned),
  )
  const answer = validate(schema, { ...unsigned, signature: toBase64(signature) }, `make ${fields.type}`)
  const sealed = ratchetEncrypt(
    ratchet,
    utf8Bytes(JSON.stringify(answer)),
    associatedData({
      type: fields.type,
      version: opened.version,
      context: opened.knockHash,
      from: identity.amid,
      to: opened.from,
    }),
    environment,
  )
  const packet = encodeAnswerPacket({ knockHash: opened.knockHash, ratchetMessage: sealed.message })
  return { answer, packet, state: sealed.state }
}

/**
 * Signing and checking what reputation is made of (`spec/reputation.md`).
 *
 *     closing    Ed25519(label `close`, RFC 8785 bytes of the statement): by initiator and responder, over the same bytes
 *     feedback   Ed25519(label `feedback`, RFC 8785 bytes without `signature`): by one of the two
 *     credential Ed25519(label `reputation`, RFC 8785 bytes without `signature`): by the registry's service key
 */
import { sign, verify } from '../crypto/signing.ts'
import {
  AgentMeshError,
  CLOCK_SKEW_SECONDS,
  CLOSING_SIGNATURE_FIELDS,
  ClosingStatement,
  Feedback,
  formatTimestamp,
  fromBase64,
  parseTimestamp,
  ReputationCredential,
  SessionClosing,
  toBase64,
  unsignedBytes,
  validate,
  type Amid,
  type FeedbackTag,
  type TierNumber,
} from '../wire/index.ts'
import type { Identity } from './amid.ts'

const SKEW = CLOCK_SKEW_SECONDS * 1000

/** The Ed25519 public keys of both sides of a session. */
export interface ClosingKeys {
  readonly initiator: Uint8Array
  readonly responder: Uint8Array
}

/**
 * One side's signature, base64.
 *
 * @throws MALFORMED for a statement out of form, one of a session with oneself, or one that the signer has no part in
 */
export function signClosing(identity: Identity, statement: ClosingStatement): string {
  const checked = checkStatement(statement)
  if (identity.amid !== checked.initiator && identity.amid !== checked.responder) {
    throw new AgentMeshError('MALFORMED', 'The closing is of a session of others', {
      operation: 'sign a closing',
    })
  }
  return toBase64(sign('close', identity.signing.secretKey, closingBytes(checked)))
}

/** What both sides sign: the statement as it came, so that a field of a later version stays under both signatures. */
export function closingBytes(closing: ClosingStatement | SessionClosing): Uint8Array {
  return unsignedBytes(closing, CLOSING_SIGNATURE_FIELDS)
}

/** Whether `signature` (base64) is `publicKey`'s over the statement. False for anything out of form. */
export function verifyClosingSignature(
  statement: ClosingStatement,
  signature: string,
  publicKey: Uint8Array,
): boolean {
  try {
    return verify('close', publicKey, fromBase64(signature), closingBytes(checkStatement(statement)))
  } catch {
    return false
  }
}

/**
 * Checks a closing that both sides signed.
 *
 * @throws MALFORMED, INVALID_SIGNATURE naming the side whose signature is wrong
 */
export function verifySessionClosing(raw: unknown, keys: ClosingKeys): SessionClosing {
  const closing = validate(SessionClosing, raw, 'verify a closing')
  checkSides(closing)
  const covered = closingBytes(closing)
  for (const side of ['initiator', 'responder'] as const) {
    if (!verify('close', keys[side], fromBase64(closing[`${side}_signature`]), covered)) {
      throw new AgentMeshError('INVALID_SIGNATURE', `The closing is not signed by the ${side}`)
    }
  }
  return closing
}

export interface FeedbackFields {
  readonly closing: SessionClosing
  /** 0 to 1. */
  readonly rating: number
  readonly tags?: readonly FeedbackTag[]
}

/** @param now milliseconds since the epoch. @throws MALFORMED; also when the signer has no part in the session */
export function signFeedback(identity: Identity, fields: FeedbackFields, now: number): Feedback {
  const unsigned = {
    type: 'feedback' as const,
    rater: identity.amid,
    closing: fields.closing,
    rating: fields.rating,
    tags: [...(fields.tags ?? [])],
    created_at: formatTimestamp(now),
  }
  const signature = toBase64(sign('feedback', identity.signing.secretKey, unsignedBytes(unsigned)))
  const feedback = validate(Feedback, { ...unsigned, signature }, 'sign feedback')
  ratee(feedback)
  return feedback
}

/**
 * Checks feedback as received: its own signature and both of the closing in it.
 *
 * @param now milliseconds since the epoch
 * @throws MALFORMED (also for a rater without a part in the session, and dates in the future), INVALID_SIGNATURE
 */
export function verifyFeedback(raw: unknown, keys: ClosingKeys, now: number): Feedback {
  const feedback = validate(Feedback, raw, 'verify feedback')
  ratee(feedback)
  const raterKey = feedback.rater === feedback.closing.initiator ? keys.initiator : keys.responder
  if (!verify('feedback', raterKey, fromBase64(feedback.signature), unsignedBytes(feedback))) {
    throw new AgentMeshError('INVALID_SIGNATURE', 'The feedback is not signed by its rater')
  }
  verifySessionClosing(feedback.closing, keys)
  const dates = [feedback.created_at, feedback.closing.closed_at].map(parseTimestamp)
  if (dates.some((date) => date > now + SKEW)) {
    throw new AgentMeshError('MALFORMED', 'The feedback is dated in the future')
  }
  return feedback
}

/** Whom feedback is about: the other side. @throws MALFORMED when the rater had no part in the session */
export function ratee(feedback: Feedback): Amid {
  const { initiator, responder } = checkSides(feedback.closing)
  if (feedback.rater === initiator) return responder
  if (feedback.rater === responder) return initiator
  throw new AgentMeshError('MALFORMED', 'The rater has no part in the session')
}

export interface CredentialFields {
  readonly registry: string
  readonly amid: Amid
  readonly score: number
  readonly sessions: number
  readonly tier?: TierNumber
  /** Milliseconds since the epoch. */
  readonly issuedAt: number
  readonly expiresAt: number
}

/** @param secretKey the registry's service key, 64-byte form. @throws MALFORMED, INVALID_KEY */
export function signReputationCredential(
  secretKey: Uint8Array,
  fields: CredentialFields,
): ReputationCredential {
  const unsigned = {
    type: 'reputation' as const,
    registry: fields.registry,
    amid: fields.amid,
    score: fields.score,
    sessions: fields.sessions,
    ...(fields.tier === undefined ? {} : { tier: fields.tier }),
    issued_at: formatTimestamp(fields.issuedAt),
    expires_at: formatTimestamp(fields.expiresAt),
  }
  const signature = toBase64(sign('reputation', secretKey, unsignedBytes(unsigned)))
  return validate(ReputationCredential, { ...unsigned, signature }, 'sign a reputation credential')
}

export interface CredentialExpectation {
  /** Fingerprint of the registry whose service key this is. */
  readonly registry: string
  readonly serviceKey: Uint8Array
  readonly amid: Amid
  /** Milliseconds since the epoch. */
  readonly now: number
}

/**
 * Checks a credential as received.
 *
 * @throws MALFORMED (also for another registry's), AMID_MISMATCH for another agent's, SIGNATURE_EXPIRED outside its dates,
 * INVALID_SIGNATURE
 */
export function verifyReputationCredential(
  raw: unknown,
  expected: CredentialExpectation,
): ReputationCredential {
  const credential = validate(ReputationCredential, raw, 'verify a reputation credential')
  if (credential.registry !== expected.registry) {
    throw new AgentMeshError('MALFORMED', 'The reputation credential is of another registry')
  }
  if (credential.amid !== expected.amid) {
    throw new AgentMeshError('AMID_MISMATCH', 'The reputation credential is another agent’s')
  }
  const { serviceKey, now } = expected
  if (!verify('reputation', serviceKey, fromBase64(credential.signature), unsignedBytes(credential))) {
    throw new AgentMeshError('INVALID_SIGNATURE', 'The reputation credential is not signed by the registry')
  }
  if (parseTimestamp(credential.issued_at) > now + SKEW || parseTimestamp(credential.expires_at) <= now) {
    throw new AgentMeshError('SIGNATURE_EXPIRED', 'The reputation credential is outside its dates')
  }
  return credential
}

function checkStatement(raw: ClosingStatement): ClosingStatement {
  return checkSides(validate(ClosingStatement, raw, 'read a closing statement'))
}

function checkSides<T extends Pick<ClosingStatement, 'initiator' | 'responder'>>(statement: T): T {
  if (statement.initiator === statement.responder) {
    throw new AgentMeshError('MALFORMED', 'A session has two different sides')
  }
  return statement
}

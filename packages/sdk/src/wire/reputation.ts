/**
 * Reputation on the wire (specification §6.2 CLOSE, §8.3; `spec/reputation.md`).
 *
 *     closing statement --signed by both sides--> session closing --in--> feedback --to the registry--> score --> credential
 *
 * A statement says that a session was, between whom, how and when it ended: nothing of what it was about. Each side signs
 * the same bytes, so that nobody can claim a session that the other side did not have.
 */
import type { Static } from 'typebox'
import { Type } from './type.ts'
import { TierNumber } from './capability.ts'
import { CloseReason } from './envelope.ts'
import { AmidText, Embedded, HashText, SessionIdText, SignatureText, Timestamp } from './schema.ts'

/** SHA-256 of a registry's root certificate: its name everywhere. */
export const RegistryFingerprint = Type.String({
  pattern: '^[0-9a-f]{64}$',
  description: 'Lower-case hex SHA-256 of the registry’s root certificate',
})

export const Score = Type.Number({ minimum: 0, maximum: 1 })

const closingFields = {
  type: Type.Literal('session_closing'),
  session_id: SessionIdText,
  initiator: AmidText,
  responder: AmidText,
  reason: CloseReason,
  closed_at: Timestamp,
}

export const ClosingStatement = Type.Object(closingFields, {
  $id: 'agentmesh/closing-statement',
  description: 'What both sides of a session sign when it ends; initiator is who sent the KNOCK',
})
export type ClosingStatement = Static<typeof ClosingStatement>

/** The fields of a `SessionClosing` that its signatures do not cover. */
export const CLOSING_SIGNATURE_FIELDS = ['initiator_signature', 'responder_signature'] as const

export const SessionClosing = Type.Object(
  { ...closingFields, initiator_signature: SignatureText, responder_signature: SignatureText },
  {
    $id: 'agentmesh/session-closing',
    description:
      'A closing statement under both signatures (label close), each over the statement without the signatures',
  },
)
export type SessionClosing = Static<typeof SessionClosing>

/** The words feedback may use. No free text: it would carry content of the session to the registry. */
export const FEEDBACK_TAGS = [
  'accurate',
  'inaccurate',
  'complete',
  'incomplete',
  'fast',
  'slow',
  'good_price',
  'overpriced',
  'helpful',
  'unhelpful',
  'reliable',
  'unreliable',
  'polite',
  'rude',
  'spam',
  'deceptive',
] as const
export const FeedbackTag = Type.Enum([...FEEDBACK_TAGS])
export type FeedbackTag = Static<typeof FeedbackTag>

export const Feedback = Type.Object(
  {
    type: Type.Literal('feedback'),
    rater: AmidText,
    closing: Embedded(SessionClosing),
    rating: Score,
    tags: Type.Array(FeedbackTag, { maxItems: 8, uniqueItems: true }),
    created_at: Timestamp,
    signature: SignatureText,
  },
  {
    $id: 'agentmesh/feedback',
    description: 'One side’s word on the other after a session; signed by the rater, once a side and session',
  },
)
export type Feedback = Static<typeof Feedback>

export const ReputationCredential = Type.Object(
  {
    type: Type.Literal('reputation'),
    registry: RegistryFingerprint,
    amid: AmidText,
    score: Score,
    sessions: Type.Integer({ minimum: 0, description: 'Sessions that counted' }),
    tier: Type.Optional(TierNumber),
    issued_at: Timestamp,
    expires_at: Timestamp,
    signature: SignatureText,
  },
  {
    $id: 'agentmesh/reputation-credential',
    description: 'A registry’s word on an agent’s reputation, signed by its service key (label reputation)',
  },
)
export type ReputationCredential = Static<typeof ReputationCredential>

/** The four terms of the score, each 0 to 1 (specification §8.3). */
export const ReputationTerms = Type.Object({ completion: Score, feedback: Score, age: Score, tier: Score })
export type ReputationTerms = Static<typeof ReputationTerms>

export const ReputationAnswer = Type.Object(
  {
    amid: AmidText,
    score: Score,
    sessions: Type.Integer({ minimum: 0 }),
    terms: ReputationTerms,
    changed_at: Timestamp,
    held: Type.Boolean({ description: 'A change waits for review; score is what stood before it' }),
  },
  { $id: 'agentmesh/reputation-answer', description: 'What a registry says of an agent’s reputation' },
)
export type ReputationAnswer = Static<typeof ReputationAnswer>

export const FeedbackAnswer = Type.Object(
  { closing: { ...HashText, description: 'base64 SHA-256 of the closing statement that was counted' } },
  {
    $id: 'agentmesh/feedback-answer',
    description: 'The feedback is stored; the score follows at the next evaluation',
  },
)
export type FeedbackAnswer = Static<typeof FeedbackAnswer>

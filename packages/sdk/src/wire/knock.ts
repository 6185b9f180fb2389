/**
 * The JSON inside the encrypted handshake packets: KNOCK, ACCEPT and REJECT (specification §5.2 and §5.4, DESIGN §7.1).
 * The packets around them are in `packets.ts`.
 */
import type { Static } from 'typebox'
import { Type } from './type.ts'
import { MIN_MAX_MESSAGE_BYTES } from './constants.ts'
import { Intent, TierNumber } from './capability.ts'
import { SignedKey } from './records.ts'
import { ReputationCredential } from './reputation.ts'
import {
  AmidText,
  Base64Of,
  Embedded,
  KemKeyText,
  Nullable,
  PeerText,
  SessionIdText,
  SignatureText,
  SigningKeyText,
  Timestamp,
  VersionList,
} from './schema.ts'
import { CertificateProof } from './transparency.ts'
import { CertificateText } from './trust.ts'

export const SessionType = Type.Enum(['request_response', 'conversation', 'stream'], {
  description: 'One question and its answer, several turns, or ongoing',
})
export type SessionType = Static<typeof SessionType>

/** What a side shows for itself; checked by the other, who believes none of it unseen (DESIGN §8). */
const shown = {
  certificate_chain: Type.Optional(
    Type.Array(CertificateText, {
      minItems: 1,
      maxItems: 3,
      description: 'Session, agent and, for its agents, organisation certificate',
    }),
  ),
  certificate_proof: Type.Optional(Embedded(CertificateProof)),
  reputation_credential: Type.Optional(Embedded(ReputationCredential)),
}

export const Knock = Type.Object(
  {
    type: Type.Literal('knock'),
    protocol_version: VersionList.items,
    from: Type.Object({
      amid: AmidText,
      tier: TierNumber,
      display_name: Type.Optional(Nullable(PeerText(64))),
      organization: Type.Optional(Nullable(PeerText(128))),
      reputation_score: Type.Optional(Type.Number({ minimum: 0, maximum: 1 })),
    }),
    to: AmidText,
    intent: Intent,
    session_request: Type.Object({
      type: SessionType,
      expected_messages: Type.Optional(Type.Integer({ minimum: 1, maximum: 1_000_000 })),
      ttl_seconds: Type.Integer({ minimum: 1, maximum: 30 * 86_400 }),
    }),
    nonce: Base64Of(32, '', 'Fresh for each KNOCK: base64 of 32 bytes'),
    timestamp: Timestamp,
    expires_at: Timestamp,
    signing_public_key: SigningKeyText,
    exchange_key: Embedded(SignedKey),
    kem_public_key: KemKeyText,
    ...shown,
    signature: SignatureText,
  },
  {
    $id: 'agentmesh/knock',
    description: 'KNOCK: who asks, whom, what about. Everything under `from` is a claim.',
  },
)
export type Knock = Static<typeof Knock>

export const Constraints = Type.Object({
  max_message_size_bytes: Type.Integer({
    minimum: MIN_MAX_MESSAGE_BYTES,
    description: 'Of an envelope, canonical',
  }),
  max_messages: Nullable(Type.Integer({ minimum: 1, description: 'null: no limit (stream)' })),
  ttl_seconds: Type.Integer({ minimum: 1 }),
})
export type Constraints = Static<typeof Constraints>

export const Accept = Type.Object(
  {
    type: Type.Literal('accept'),
    session_id: SessionIdText,
    protocol_version: VersionList.items,
    nonce: Base64Of(32, '', 'That of the KNOCK'),
    knock_hash: Base64Of(32, '', 'SHA-256 of the KNOCK packet without its optimistic message'),
    session_key: Base64Of(32, '', 'Key confirmation, not a key: HMAC under the session secret (DESIGN §7)'),
    capabilities: Type.Optional(Type.Array(PeerText(64), { maxItems: 64 })),
    constraints: Constraints,
    one_time_prekey_used: Type.Boolean({
      description: 'false: forward secrecy of the KNOCK rests on weekly keys',
    }),
    optimistic_taken: Type.Optional(
      Type.Boolean({
        description: 'When a message came along with the KNOCK: whether it is the first of the session',
      }),
    ),
    ...shown,
    timestamp: Timestamp,
    signature: SignatureText,
  },
  { $id: 'agentmesh/accept', description: 'ACCEPT: first ratchet message of the receiver' },
)
export type Accept = Static<typeof Accept>

/** Specification §5.3, and what the design adds: `paused`, `expired` and `unverified_claim`. */
export const RejectReason = Type.Enum([
  'invalid_signature',
  'blocked',
  'insufficient_trust',
  'rate_limited',
  'intent_not_accepted',
  'not_in_allowlist',
  'low_reputation',
  'at_capacity',
  'paused',
  'expired',
  'unverified_claim',
])
export type RejectReason = Static<typeof RejectReason>

export const Reject = Type.Object(
  {
    type: Type.Literal('reject'),
    reason: RejectReason,
    human_readable: PeerText(256),
    retry_after_seconds: Nullable(Type.Integer({ minimum: 0 })),
    protocol_version: VersionList.items,
    nonce: Base64Of(32, '', 'That of the KNOCK'),
    knock_hash: Base64Of(32, '', 'SHA-256 of the KNOCK packet without its optimistic message'),
    timestamp: Timestamp,
    signature: SignatureText,
  },
  {
    $id: 'agentmesh/reject',
    description: 'REJECT: signed and encrypted like ACCEPT, so that no relay can forge it',
  },
)
export type Reject = Static<typeof Reject>

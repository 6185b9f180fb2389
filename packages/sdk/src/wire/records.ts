/**
 * Signed records that live outside a session: exchange keys and prekeys, the bundle a KNOCK starts from, the agent's
 * registry record and its DID document (specification §2, §3.1, DESIGN §4, §7.1).
 */
import type { Static } from 'typebox'
import { Type } from './type.ts'
import { Capability, TierNumber } from './capability.ts'
import {
  AmidText,
  Embedded,
  ExchangeKeyText,
  KemKeyText,
  Nullable,
  PeerText,
  SignatureText,
  SigningKeyText,
  Timestamp,
  VersionList,
} from './schema.ts'

/** The kinds of signed key, each signed under the label of the same name. */
export const KeyKind = Type.Enum(['ik', 'spk', 'opk', 'pq-last', 'pq-one'], {
  description:
    'Exchange key, signed prekey, one-time prekey, last-resort and one-time KEM prekey; the signing label',
})
export type KeyKind = Static<typeof KeyKind>

export const SignedKey = Type.Object(
  {
    kind: KeyKind,
    amid: AmidText,
    id: Type.Integer({ minimum: 1, maximum: 0xffff_ffff, description: 'Names the key in a KNOCK header' }),
    sequence: Type.Integer({ minimum: 1, maximum: Number.MAX_SAFE_INTEGER, description: 'Never goes back' }),
    key: Type.Union([ExchangeKeyText, KemKeyText]),
    versions: Type.Optional(VersionList),
    created_at: Timestamp,
    expires_at: Timestamp,
    signature: SignatureText,
  },
  {
    $id: 'agentmesh/signed-key',
    description: 'A public key under its owner’s signature; `spk` carries `versions`',
  },
)
export type SignedKey = Static<typeof SignedKey>

export const StateCounter = Type.Object(
  {
    counter: Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER }),
    signature: SignatureText,
  },
  {
    $id: 'agentmesh/state-counter',
    description: 'How far an agent’s state was, in its own word and for itself (relay.md 2)',
  },
)
export type StateCounter = Static<typeof StateCounter>

export const PrekeyUpload = Type.Object(
  {
    signed_prekey: Embedded(SignedKey),
    last_resort_kem_prekey: Embedded(SignedKey),
    one_time_prekeys: Type.Array(Embedded(SignedKey), { maxItems: 100 }),
    one_time_kem_prekeys: Type.Array(Embedded(SignedKey), { maxItems: 100 }),
    state_counter: Type.Optional(Embedded(StateCounter)),
  },
  {
    $id: 'agentmesh/prekey-upload',
    description: 'Replaces the signed and last-resort prekeys, adds the one-time ones',
  },
)
export type PrekeyUpload = Static<typeof PrekeyUpload>

const HighestId = Type.Integer({
  minimum: 0,
  maximum: 0xffff_ffff,
  description: 'Highest id ever uploaded: new keys need higher ones',
})

export const PrekeyCounts = Type.Object(
  {
    one_time_prekeys: Type.Integer({ minimum: 0 }),
    one_time_kem_prekeys: Type.Integer({ minimum: 0 }),
    highest_one_time_prekey_id: Type.Optional(HighestId),
    highest_one_time_kem_prekey_id: Type.Optional(HighestId),
    state_counter: Type.Optional(Embedded(StateCounter)),
  },
  { $id: 'agentmesh/prekey-counts', description: 'One-time prekeys the registry still holds' },
)
export type PrekeyCounts = Static<typeof PrekeyCounts>

export const Bundle = Type.Object(
  {
    amid: AmidText,
    signing_public_key: SigningKeyText,
    exchange_key: Embedded(SignedKey),
    signed_prekey: Embedded(SignedKey),
    one_time_prekey: Type.Optional(Embedded(SignedKey)),
    kem_prekey: Embedded(SignedKey),
  },
  {
    $id: 'agentmesh/bundle',
    description: 'What a KNOCK starts from; kem_prekey is one-time, or last-resort when none is left',
  },
)
export type Bundle = Static<typeof Bundle>

export const PresenceState = Type.Enum(['online', 'away', 'dnd', 'offline'], {
  description: 'dnd: existing sessions only',
})
export type PresenceState = Static<typeof PresenceState>

const recordFields = {
  amid: AmidText,
  public_keys: Type.Object({ signing_public_key: SigningKeyText, exchange_key: Embedded(SignedKey) }),
  recovery_public_key: Type.Optional({
    ...SigningKeyText,
    description: 'May name a successor of this AMID; peers keep the first one they see',
  }),
  display_name: Type.Optional(Nullable(PeerText(64))),
  framework: Type.Optional(PeerText(64)),
  framework_version: Type.Optional(PeerText(32)),
  capabilities: Type.Array(Type.Union([Capability, Capability.properties.category]), { maxItems: 64 }),
  relay_endpoint: Type.String({
    maxLength: 256,
    pattern: '^wss?://[!-~]+$',
    description: 'WebSocket URL of the home relay',
  }),
  direct_endpoint: Type.Optional(
    Nullable(
      Type.String({
        maxLength: 256,
        pattern: '^(wss?|tcps?)://[!-~]+$',
        description: 'Set when publicly reachable',
      }),
    ),
  ),
  registry_endpoint: Type.Optional(
    Type.String({
      maxLength: 256,
      pattern: '^https?://[!-~]+$',
      description: 'URL of the home registry: where the record and the prekeys are kept up to date',
    }),
  ),
  p2p_capable: Type.Optional(Type.Boolean({ description: 'Can talk without a relay' })),
  sequence: Type.Integer({ minimum: 1, maximum: Number.MAX_SAFE_INTEGER, description: 'Never goes back' }),
  created_at: Timestamp,
  signature: SignatureText,
}

/**
 * Fields of a registry answer or registration that the registry speaks for, and so are outside the agent's signature.
 * Everything else in the object, unknown fields included, is covered by it.
 */
export const UNSIGNED_RECORD_FIELDS = [
  'tier',
  'verification_token',
  'presence',
  'online',
  'last_seen',
  'registered_at',
  'reputation_score',
  'organization',
  'verified_name',
] as const

export const Registration = Type.Object(
  {
    ...recordFields,
    tier: Type.Optional(TierNumber),
    verification_token: Type.Optional(Nullable(PeerText(4096))),
    online: Type.Optional(Type.Boolean()),
    last_seen: Type.Optional(Timestamp),
  },
  {
    $id: 'agentmesh/registration',
    description: 'Body of register and update: the signed agent record (specification §3.1)',
  },
)
export type Registration = Static<typeof Registration>

export const AgentRecord = Type.Object(
  {
    ...recordFields,
    tier: TierNumber,
    presence: PresenceState,
    online: Type.Boolean({ description: 'false exactly when presence is offline' }),
    last_seen: Nullable(Timestamp),
    registered_at: Timestamp,
    reputation_score: Type.Number({ minimum: 0, maximum: 1 }),
    verified_name: Type.Optional(PeerText(64, 'Chosen by the human whom the registry verified')),
    organization: Type.Optional(
      PeerText(
        64,
        'Name and domain of the organisation that the agent belongs to, as the registry verified it',
      ),
    ),
  },
  {
    $id: 'agentmesh/agent-record',
    description: 'Answer of lookup and search: the signed record and what the registry adds',
  },
)
export type AgentRecord = Static<typeof AgentRecord>

export const SearchAnswer = Type.Object(
  {
    agents: Type.Array(Embedded(AgentRecord)),
    next_cursor: Nullable(Type.String({ maxLength: 256, description: 'Pass as `cursor` for the next page' })),
  },
  { $id: 'agentmesh/search-answer' },
)
export type SearchAnswer = Static<typeof SearchAnswer>

export const ErrorBody = Type.Object(
  {
    code: Type.String({ pattern: '^[A-Z][A-Z0-9_]{0,63}$', description: 'A code of errors.md' }),
    message: Type.String(),
    retry_after_seconds: Type.Optional(Type.Integer({ minimum: 0 })),
  },
  { $id: 'agentmesh/error-body', description: 'Body of every HTTP error answer' },
)
export type ErrorBody = Static<typeof ErrorBody>

export const DidDocument = Type.Object(
  {
    '@context': Type.Union([Type.String(), Type.Array(Type.String())]),
    id: Type.String({ pattern: '^did:agentmesh:[1-9A-HJ-NP-Za-km-z]{20,28}$' }),
    verificationMethod: Type.Array(
      Type.Object({
        id: Type.String(),
        type: Type.Literal('Ed25519VerificationKey2020'),
        controller: Type.String(),
        publicKeyMultibase: Type.String({ pattern: '^z6Mk[1-9A-HJ-NP-Za-km-z]{44}$' }),
      }),
    ),
    keyAgreement: Type.Array(
      Type.Object({
        id: Type.String(),
        type: Type.Literal('X25519KeyAgreementKey2020'),
        controller: Type.String(),
        publicKeyMultibase: Type.String({ pattern: '^z6LS[1-9A-HJ-NP-Za-km-z]{44}$' }),
      }),
    ),
    service: Type.Array(
      Type.Object({
        id: Type.String(),
        type: Type.Literal('AgentMeshEndpoint'),
        serviceEndpoint: Type.String(),
      }),
    ),
  },
  { $id: 'agentmesh/did-document', description: 'did:agentmesh:<amid> (specification §2.3)' },
)
export type DidDocument = Static<typeof DidDocument>

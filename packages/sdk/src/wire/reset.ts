/**
 * RESET: a signed notice that its sender could not use a packet, so that the other side knocks again instead of sending
 * into the void (DESIGN §7, spec/sessions.md 6). The payload is the RFC 8785 bytes of this record. It is not encrypted:
 * the session it speaks of may be what is broken.
 */
import type { Static } from 'typebox'
import { Type } from './type.ts'
import { AgentMeshError } from './errors.ts'
import type { SessionId } from './ids.ts'
import type { JsonObject } from './json.ts'
import {
  AmidText,
  Base64Of,
  SessionIdText,
  SignatureText,
  SigningKeyText,
  Timestamp,
  validate,
} from './schema.ts'

export const ResetReason = Type.Enum(
  [
    'session_unknown',
    'undecryptable',
    'prekey_unknown',
    'state_behind',
    'envelope_unreadable',
    'signature_invalid',
    'identity_mismatch',
  ],
  { description: 'Why the packet could not be used' },
)
export type ResetReason = Static<typeof ResetReason>

/** What the unusable packet belonged to. */
export type ResetSubject = { readonly session_id: SessionId } | { readonly knock_hash: string }

const Subject = Type.Unsafe<ResetSubject>(
  Type.Object(
    {
      session_id: Type.Optional(SessionIdText),
      knock_hash: Type.Optional(
        Base64Of(32, '', 'SHA-256 of the KNOCK packet without its optimistic message'),
      ),
    },
    {
      minProperties: 1,
      maxProperties: 1,
      additionalProperties: false,
      description: 'Exactly one of its two fields: what the packet belonged to',
    },
  ),
)

export const Reset = Type.Object(
  {
    type: Type.Literal('reset'),
    from: AmidText,
    to: AmidText,
    about: Subject,
    packet_hash: Base64Of(32, '', 'SHA-256 of the packet that could not be used'),
    reason: ResetReason,
    received_up_to: Type.Optional(
      Type.Integer({
        minimum: 0,
        maximum: Number.MAX_SAFE_INTEGER,
        description: 'Highest envelope sequence the sender has seen in that session',
      }),
    ),
    signing_public_key: SigningKeyText,
    timestamp: Timestamp,
    signature: SignatureText,
  },
  {
    $id: 'agentmesh/reset',
    description: 'RESET: the sender could not use a packet. Not encrypted',
  },
)
export type Reset = Static<typeof Reset>

/** A KNOCK names prekeys and no state; a session has state and used no prekey. */
const SUBJECTS: Readonly<Record<ResetReason, readonly ('session' | 'knock')[]>> = {
  session_unknown: ['session'],
  undecryptable: ['session', 'knock'],
  prekey_unknown: ['knock'],
  state_behind: ['session'],
  envelope_unreadable: ['session'],
  signature_invalid: ['session'],
  identity_mismatch: ['session'],
}

/** @throws MALFORMED for a wrong field, or a reason or count that its subject cannot have. */
export function parseReset(raw: JsonObject): Reset {
  const reset = validate(Reset, raw, 'read RESET')
  const subject = 'session_id' in reset.about ? 'session' : 'knock'
  const counted = reset.received_up_to !== undefined
  if (
    !SUBJECTS[reset.reason].includes(subject) ||
    (counted && subject === 'knock') ||
    (!counted && reset.reason === 'state_behind')
  ) {
    throw new AgentMeshError('MALFORMED', `A ${subject} cannot be ${reset.reason} so`, {
      operation: 'read RESET',
    })
  }
  return reset
}

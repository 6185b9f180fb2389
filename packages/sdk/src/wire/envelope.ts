/**
 * The envelope around every message of a session, and its payload types (specification §6, DESIGN §7).
 *
 * The relay sees the session id; everything else is inside the ratchet's encryption.
 */
import type { Static, TSchema } from 'typebox'
import { Type } from './type.ts'
import { Attachments, checkManifests, type AttachmentManifest } from './attachment.ts'
import { Intent } from './capability.ts'
import { AgentMeshError } from './errors.ts'
import { UUID_PATTERN, type MessageId } from './ids.ts'
import { canonicalBytes, type JsonObject } from './json.ts'
import { areRanges, rangesOf } from './ranges.ts'
import {
  AmidText,
  Embedded,
  MessageIdText,
  Nullable,
  PeerText,
  SessionIdText,
  SignatureText,
  Timestamp,
  validate,
} from './schema.ts'

export const SchemaName = Type.String({
  pattern: '^(agentmesh|x-[a-z0-9][a-z0-9_-]{0,63})(/[a-z0-9][a-z0-9_-]{0,63}){1,4}/v(0|[1-9][0-9]{0,3})$',
  description: 'Such as agentmesh/travel/flight-search/v1',
})

export const RequestPayload = Type.Object(
  {
    intent: Intent,
    parameters: Type.Record(Type.String(), Type.Unknown(), {
      description: 'What the intent needs; the peer’s own schema',
    }),
    budget: Type.Optional(
      Type.Object({
        max: Type.Number({ minimum: 0 }),
        currency: Type.String({ pattern: '^[A-Za-z]{3,10}$' }),
      }),
    ),
    response_format: Type.Optional(
      Type.Object({ type: Type.Enum(['structured', 'text']), schema: Type.Optional(SchemaName) }),
    ),
    attachments: Type.Optional(Attachments),
  },
  { $id: 'agentmesh/payload/request' },
)
export type RequestPayload = Static<typeof RequestPayload>

export const ResponsePayload = Type.Object(
  {
    status: Type.Enum(['success', 'partial', 'failure']),
    results: Type.Unknown({ description: 'Any JSON value' }),
    result_count: Type.Optional(Type.Integer({ minimum: 0 })),
    schema: Type.Optional(SchemaName),
    attachments: Type.Optional(Attachments),
  },
  { $id: 'agentmesh/payload/response' },
)
export type ResponsePayload = Static<typeof ResponsePayload>

export const StatusPayload = Type.Object(
  {
    status: Type.Enum(['queued', 'processing', 'waiting']),
    progress: Type.Optional(Type.Number({ minimum: 0, maximum: 1 })),
    estimated_completion_seconds: Type.Optional(Type.Number({ minimum: 0 })),
    message: Type.Optional(PeerText(1024)),
  },
  { $id: 'agentmesh/payload/status' },
)
export type StatusPayload = Static<typeof StatusPayload>

export const ErrorPayload = Type.Object(
  {
    code: Type.String({ pattern: '^[A-Z][A-Z0-9_]{0,63}$' }),
    message: PeerText(1024),
    retry_after_seconds: Type.Optional(Nullable(Type.Integer({ minimum: 0 }))),
    fallback_amid: Type.Optional(Nullable(AmidText)),
    refused: Type.Optional(
      Type.Object(
        { sequence: Type.Integer({ minimum: 1, maximum: Number.MAX_SAFE_INTEGER }) },
        { description: 'The envelope of the other side that was refused with this code (sessions.md 4)' },
      ),
    ),
  },
  { $id: 'agentmesh/payload/error' },
)
export type ErrorPayload = Static<typeof ErrorPayload>

export const CloseReason = Type.Enum([
  'completed',
  'error',
  'timeout',
  'limit',
  'policy',
  'killed',
  'shutdown',
])
export type CloseReason = Static<typeof CloseReason>

export const ClosePayload = Type.Object(
  {
    reason: CloseReason,
    summary: Type.Optional(PeerText(1024)),
    closing: Type.Optional(
      Type.Object(
        { closed_at: Timestamp, signature: SignatureText },
        { description: 'The signer’s word on the closing statement (reputation.md); both sides say it once' },
      ),
    ),
    reputation_feedback: Type.Optional(
      Type.Object({
        score: Type.Number({ minimum: 0, maximum: 1 }),
        tags: Type.Optional(Type.Array(PeerText(32), { maxItems: 8 })),
      }),
    ),
  },
  { $id: 'agentmesh/payload/close' },
)
export type ClosePayload = Static<typeof ClosePayload>

/**
 * The receiver's signed word on what happened to the other side's envelopes in this session (DESIGN §7.2), all of it each
 * time: one that is lost is made up for by the next. In an envelope of type `receipt` for a side that has nothing else to
 * say; any other envelope takes it along. Never itself acknowledged.
 */
export const ReceiptPayload = Type.Object(
  {
    received: Type.Integer({
      minimum: 0,
      maximum: Number.MAX_SAFE_INTEGER,
      description: 'All envelopes up to this sequence are kept, in their turn; 0 for none',
    }),
    read: Type.Optional(rangesOf('Whose application has them, or that need none')),
    answered: Type.Optional(rangesOf('Requests whose answer was sent since the last receipts')),
    closed: Type.Optional(
      Type.Integer({
        minimum: 1,
        maximum: Number.MAX_SAFE_INTEGER,
        description: 'Sequence of the last CLOSE that came; it alone may be above `received`',
      }),
    ),
    at: Timestamp,
  },
  { $id: 'agentmesh/payload/receipt' },
)
export type ReceiptPayload = Static<typeof ReceiptPayload>

const CapabilityName = Type.String({
  pattern: '^[a-z0-9][a-z0-9_./:-]{0,63}$',
  description: 'Such as flight_search',
})
const PaymentMethod = Type.String({
  pattern: '^[a-z0-9][a-z0-9_.-]{0,63}$',
  description: 'Such as stripe',
})
/** RFC 4647 section 2.1. */
const LanguageRange = Type.String({
  pattern: '^(\\*|[A-Za-z]{1,8}(-[A-Za-z0-9]{1,8}){0,7})$',
  maxLength: 64,
  description: 'BCP 47 language tag, or * for any',
})

function namesOf<T extends TSchema>(name: T, description: string) {
  return Type.Array(name, { maxItems: 64, uniqueItems: true, description })
}

/** What one side needs and can do (specification §6.3); the other answers with what fits. */
export const CapabilityNegotiationPayload = Type.Object(
  {
    i_need: namesOf(CapabilityName, 'What the sender wants of the other'),
    i_offer: Type.Optional(namesOf(CapabilityName, 'How the sender can ask, and what else it brings')),
    preferred_schemas: Type.Optional(
      namesOf(SchemaName, 'Best first; agentmesh/travel/v1 stands for all agentmesh/travel/<schema>/v1'),
    ),
    languages: Type.Optional(namesOf(LanguageRange, 'Best first')),
    payment_methods: Type.Optional(namesOf(PaymentMethod, 'Best first')),
  },
  { $id: 'agentmesh/payload/capability_negotiation' },
)
export type CapabilityNegotiationPayload = Static<typeof CapabilityNegotiationPayload>

export const AlternativeAgent = Type.Object({
  amid: AmidText,
  display_name: Type.Optional(PeerText(64)),
  reason: Type.Optional(PeerText(256)),
})
export type AlternativeAgent = Static<typeof AlternativeAgent>

export const CapabilityNegotiationResponsePayload = Type.Object(
  {
    matched: namesOf(CapabilityName, 'Of i_need, what can be had here'),
    unavailable: namesOf(CapabilityName, 'Of i_need, the rest'),
    suggested_alternative: Type.Optional(
      Type.Record(Type.String(), AlternativeAgent, {
        maxProperties: 64,
        description:
          'Who may help with what is unavailable, by its name; a hint, to be knocked at like anybody',
      }),
    ),
    agreed_schema: Type.Optional(SchemaName),
    agreed_language: Type.Optional(LanguageRange),
    agreed_payment_method: Type.Optional(PaymentMethod),
  },
  { $id: 'agentmesh/payload/capability_negotiation_response' },
)
export type CapabilityNegotiationResponsePayload = Static<typeof CapabilityNegotiationResponsePayload>

/** What an agent can do for others, as its owner says it: the side that answers a negotiation. */
export const CapabilityOffer = Type.Object({
  capabilities: Type.Optional(namesOf(CapabilityName, 'What can be had here')),
  schemas: Type.Optional(
    namesOf(SchemaName, 'Spoken here, best first; a family such as agentmesh/travel/v1 stands for all of it'),
  ),
  languages: Type.Optional(namesOf(LanguageRange, 'Best first; * for any')),
  payment_methods: Type.Optional(namesOf(PaymentMethod, 'Best first')),
  alternatives: Type.Optional(
    Type.Record(Type.String(), AlternativeAgent, {
      maxProperties: 64,
      description: 'Whom to ask instead, by the name of the capability',
    }),
  ),
})
export type CapabilityOffer = Static<typeof CapabilityOffer>

/** Payload schema by envelope type: a reader looks the type up here, it never guesses over a union. */
export const PAYLOADS = {
  request: RequestPayload,
  response: ResponsePayload,
  status: StatusPayload,
  error: ErrorPayload,
  close: ClosePayload,
  receipt: ReceiptPayload,
  capability_negotiation: CapabilityNegotiationPayload,
  capability_negotiation_response: CapabilityNegotiationResponsePayload,
} as const satisfies Record<string, TSchema>
export type EnvelopeType = keyof typeof PAYLOADS
export type Payload<T extends EnvelopeType = EnvelopeType> = Static<(typeof PAYLOADS)[T]>

export const Envelope = Type.Object(
  {
    session_id: SessionIdText,
    id: MessageIdText,
    in_reply_to: Type.Optional(
      Type.Unsafe<MessageId>(
        Type.String({ pattern: UUID_PATTERN, description: 'Id of the message this answers' }),
      ),
    ),
    sequence: Type.Integer({
      minimum: 1,
      maximum: Number.MAX_SAFE_INTEGER,
      description: 'Per direction, from 1, no gaps',
    }),
    from: AmidText,
    to: AmidText,
    type: Type.Enum(Object.keys(PAYLOADS) as EnvelopeType[]),
    timestamp: Timestamp,
    first_sent_at: Type.Optional(
      Type.Unsafe<string>({
        ...Timestamp,
        description:
          'When the message was made, where it may have been sent before, on another session or with a KNOCK',
      }),
    ),
    receipts: Type.Optional(
      Type.Unsafe<ReceiptPayload>({
        ...Embedded(ReceiptPayload),
        description:
          'For envelopes of the other side; always in a CLOSE, never in an envelope of type receipt',
      }),
    ),
    payload: Type.Record(Type.String(), Type.Unknown(), {
      description: 'By `type`: payload/request and so on',
    }),
    signature: SignatureText,
  },
  {
    $id: 'agentmesh/envelope',
    description: 'One message of a session; the payload schema is that of its type',
  },
)

/** An envelope whose payload type is known from its `type`. */
export type Envelope<T extends EnvelopeType = EnvelopeType> = {
  [K in T]: Omit<Static<typeof Envelope>, 'type' | 'payload'> & { type: K; payload: Payload<K> }
}[T]

/** What every envelope has, whatever its type: enough to know whose it is, where it belongs and what signs it. */
const EnvelopeFrame = Type.Object({
  session_id: SessionIdText,
  sequence: Envelope.properties.sequence,
  from: AmidText,
  to: AmidText,
  type: Type.String(),
  signature: SignatureText,
})
export type EnvelopeFrame = Static<typeof EnvelopeFrame>

/** @throws MALFORMED for a wrong field of the frame; the rest is not looked at */
export function parseEnvelopeFrame(raw: JsonObject): EnvelopeFrame {
  return validate(EnvelopeFrame, raw, 'read envelope')
}

/** @throws UNSUPPORTED_TYPE for a type not in `PAYLOADS`, MALFORMED for a wrong field in envelope or payload. */
export function parseEnvelope(raw: JsonObject): Envelope {
  const type = raw['type']
  if (typeof type !== 'string') throw new AgentMeshError('MALFORMED', 'type must be string')
  if (!Object.hasOwn(PAYLOADS, type)) throw new AgentMeshError('UNSUPPORTED_TYPE')
  validate(Envelope, raw, 'read envelope')
  const envelope = raw as unknown as Envelope
  validate<TSchema>(PAYLOADS[envelope.type], raw['payload'], `read ${type} payload`)
  checkReceipts(envelope)
  checkManifests(attachmentsOf(envelope))
  return envelope
}

function checkReceipts(envelope: Envelope): void {
  const receipts = receiptsOf(envelope)
  const wrong =
    (envelope.type === 'close' && receipts === undefined) ||
    (envelope.type === 'receipt' && envelope.receipts !== undefined) ||
    ![receipts?.read ?? [], receipts?.answered ?? []].every(areRanges)
  if (wrong) throw new AgentMeshError('MALFORMED', 'receipts are missing or not in form')
}

/** The files that come with a message. */
export function attachmentsOf({ type, payload }: Pick<Envelope, 'type' | 'payload'>): AttachmentManifest[] {
  return type === 'request' || type === 'response'
    ? ((payload as RequestPayload | ResponsePayload).attachments ?? [])
    : []
}

/** What an envelope says of the other side's, wherever it stands. */
export function receiptsOf(envelope: Envelope): ReceiptPayload | undefined {
  return envelope.type === 'receipt' ? envelope.payload : envelope.receipts
}

/** Bytes an envelope occupies against `max_message_size_bytes`: its canonical form. */
export function envelopeBytes(envelope: Envelope): Uint8Array {
  return canonicalBytes(envelope)
}

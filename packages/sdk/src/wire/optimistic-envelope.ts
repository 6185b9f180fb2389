/**
 * The envelope of a first request that goes along with its KNOCK (specification §5.5, DESIGN §7.1, spec/knock.md 6). It
 * stands under the KNOCK's hash, since there is no session yet.
 */
import type { Static } from 'typebox'
import { Type } from './type.ts'
import { Envelope, RequestPayload } from './envelope.ts'
import { Base64Of, Embedded } from './schema.ts'

const { session_id: _, in_reply_to: __, receipts: ___, ...shared } = Envelope.properties

export const OptimisticEnvelope = Type.Object(
  {
    ...shared,
    knock_hash: Base64Of(32, '', 'SHA-256 of the KNOCK packet without its optimistic message'),
    session_id: Type.Optional(Type.Never({ description: 'Must be absent: there is no session yet' })),
    sequence: Type.Literal(1),
    type: Type.Literal('request'),
    payload: Embedded(RequestPayload),
  },
  {
    $id: 'agentmesh/optimistic-envelope',
    description: 'A request that goes along with a KNOCK, and becomes the first message of its session',
  },
)
export type OptimisticEnvelope = Static<typeof OptimisticEnvelope>

/** What an agent is told by its relay to use a TURN server (spec/relay.md). */
import type { Static } from 'typebox'
import { Type } from './type.ts'
import { Timestamp } from './schema.ts'

export const TurnCredentials = Type.Object(
  {
    uris: Type.Array(
      Type.String({
        maxLength: 256,
        pattern: '^turns?:[A-Za-z0-9.:[\\]-]+([?]transport=(udp|tcp))?$',
        description: 'RFC 7065, such as turn:turn.example.org:3478?transport=udp',
      }),
      { minItems: 1, maxItems: 16 },
    ),
    username: Type.String({
      maxLength: 256,
      description: 'Unix time of the end, a colon, a name for this agent',
    }),
    password: Type.String({ maxLength: 256, description: 'base64 of HMAC-SHA-1 over the username' }),
    expires_at: Timestamp,
  },
  {
    $id: 'agentmesh/turn-credentials',
    description: 'For a TURN server with long-term credentials, for a while',
  },
)
export type TurnCredentials = Static<typeof TurnCredentials>

/** What an operator of a relay may set: the one source of options, variables, file keys, help and docs/operators.md. */
import { Type } from '@agentmesh/sdk/wire'
import {
  problemsOf,
  Seconds,
  sharedChecks,
  sharedOptions,
  sharedSettings,
  type ServerDefinition,
} from '@agentmesh/sdk/hosting'
import type { Static } from 'typebox'
import { natsOptions } from './cluster/nats-url.ts'
import { LimitSettings } from './limits.ts'
import type { RelayOptions } from './relay-options.ts'

const RelaySettings = Type.Object({
  host: Type.String({ default: '127.0.0.1', minLength: 1, description: 'address to listen on' }),
  port: Type.Integer({ default: 7800, minimum: 0, maximum: 65_535, description: 'port; 0: any free one' }),
  data: Type.String({
    default: 'agentmesh-relay.db',
    minLength: 1,
    description: 'SQLite file of the mailboxes',
  }),
  databaseUrl: Type.Optional(
    Type.String({
      minLength: 1,
      variable: 'DATABASE_URL',
      secret: true,
      description: 'PostgreSQL in place of the file; several relays may share one database',
    }),
  ),
  natsUrl: Type.Optional(
    Type.String({
      minLength: 1,
      variable: 'NATS_URL',
      secret: true,
      description: 'NATS servers, to be one service with the other relays of the same database',
    }),
  ),
  names: Type.Optional(
    Type.Array(Type.String({ pattern: '^[a-z0-9.:[\\]-]{1,255}$' }), {
      minItems: 1,
      maxItems: 32,
      option: 'name',
      description: 'host[:port] that agents dial, when not the address listened on and localhost',
    }),
  ),
  turn: Type.Optional(
    Type.Object({
      uris: Type.Optional(
        Type.Array(
          Type.String({ maxLength: 256, pattern: '^turns?:[A-Za-z0-9.:[\\]-]+([?]transport=(udp|tcp))?$' }),
          {
            minItems: 1,
            maxItems: 16,
            option: 'turn-uri',
            description: 'TURN server told to agents, such as turn:turn.example.org:3478?transport=udp',
          },
        ),
      ),
      secret: Type.Optional(
        Type.String({
          minLength: 16,
          maxLength: 512,
          secret: true,
          description: 'the static-auth-secret of that coturn',
        }),
      ),
      ttlSeconds: Seconds(3_600, 'how long TURN credentials hold', 60, 86_400),
    }),
  ),
  ...sharedSettings(Seconds(10, 'after SIGTERM: agents are told to go, in portions, over so long', 0, 3_600)),
  limit: LimitSettings,
})
export type RelaySettings = Static<typeof RelaySettings>

export const RELAY_DEFINITION: ServerDefinition<typeof RelaySettings> = {
  name: 'relay',
  prefix: 'AGENTMESH_RELAY',
  schema: RelaySettings,
}

/** Mistakes that a setting's form does not show. */
export function checkRelaySettings(settings: RelaySettings): Promise<readonly string[]> {
  const { databaseUrl, natsUrl, turn } = settings
  return problemsOf({
    ...sharedChecks(settings, Date.now()),
    nats_url: () => {
      if (natsUrl === undefined) return
      natsOptions(natsUrl)
      if (databaseUrl === undefined)
        throw new Error('needs database_url: relays of one service share their mailboxes')
    },
    turn: () => {
      if ((turn?.uris === undefined) !== (turn?.secret === undefined)) {
        throw new Error('uris and secret are set both, or neither')
      }
    },
  })
}

export function relayOptions(settings: RelaySettings): RelayOptions {
  const { host, port, data, databaseUrl, natsUrl, names, limit } = settings
  const { uris, secret, ttlSeconds } = settings.turn ?? {}
  return {
    host,
    port,
    ...sharedOptions(settings),
    limits: limit,
    ...(names === undefined ? {} : { names }),
    ...(uris === undefined || secret === undefined || ttlSeconds === undefined
      ? {}
      : { turn: { uris, secret, ttlSeconds } }),
    ...(databaseUrl === undefined
      ? { dataPath: data }
      : { databaseUrl, ...(natsUrl === undefined ? {} : { natsUrl }) }),
  }
}

/** What a relay is started with, and what it tells of itself. */
import type { RunningServer, ServerOptions } from '@agentmesh/sdk/hosting'
import type { RelayLimits } from './limits.ts'
import type { RelayLogger } from './logger.ts'
import type { TurnSettings } from './turn-credentials.ts'

/** `drainSeconds` is 10 when not given. */
export type RelayOptions = ServerOptions & {
  /**
   * Authorities (host, and port where not the scheme's default) that agents dial, the first being the relay's main name.
   * CONNECT signatures are bound to them. Default: the listening address, and `localhost`.
   */
  readonly names?: readonly string[]
  /** Gives out credentials for a TURN server that has the same secret; none without. */
  readonly turn?: TurnSettings
  readonly limits?: Partial<RelayLimits>
  readonly logger?: RelayLogger
} & (
    | {
        /** SQLite file for the mailboxes, or `:memory:`. */
        readonly dataPath: string
      }
    | {
        /** PostgreSQL connection URL: mailboxes that several relays share. */
        readonly databaseUrl: string
        /** NATS servers through which it works with the other relays of this database; see `natsLink`. */
        readonly natsUrl?: string
      }
  )

export interface RelayStats {
  readonly agents: number
  /** Connections that only send. */
  readonly senders: number
  readonly sockets: number
  readonly delivered: number
  readonly stored: number
  readonly refused: number
  readonly turnCredentials: number
  readonly mailboxMessages: number
  readonly mailboxBytes: number
}

export interface RunningRelay extends RunningServer {
  /** `ws://host:port`, or `wss:` with TLS, without the path. */
  readonly url: string
  readonly port: number
  readonly relayIds: readonly string[]
  /** Where metrics have a port of their own. */
  readonly metricsPort: number | undefined
  stats(): RelayStats
}

/** What a relay is started with, and what it tells of itself. */
import type { RunningServer, TlsFiles } from '@agentmesh/sdk/hosting'
import type { RelayLimits } from './limits.ts'
import type { RelayLogger } from './logger.ts'
import type { TurnSettings } from './turn-credentials.ts'

export type RelayOptions = {
  readonly host?: string
  /** 0 takes a free one. */
  readonly port?: number
  /**
   * Authorities (host, and port where not the scheme's default) that agents dial, the first being the relay's main name.
   * CONNECT signatures are bound to them. Default: the listening address, and `localhost`.
   */
  readonly names?: readonly string[]
  /** Serves wss and https with these; ws and http without. */
  readonly tls?: TlsFiles
  /** Addresses and networks of proxies whose `X-Forwarded-For` is believed, for the limits by address. */
  readonly trustedProxies?: readonly string[]
  /** Gives out credentials for a TURN server that has the same secret; none without. */
  readonly turn?: TurnSettings
  /** `host:port` where /metrics, /healthz and /readyz are; /metrics is nowhere else then. */
  readonly metricsAddress?: string
  /** In which `drain` tells agents to go; 10 when not given. */
  readonly drainSeconds?: number
  readonly limits?: Partial<RelayLimits>
  readonly logger?: RelayLogger
  /** Milliseconds since the epoch. */
  readonly now?: () => number
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

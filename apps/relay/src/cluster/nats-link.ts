/**
 * The link between relays on core NATS. Subjects:
 *
 *   agentmesh.presence            changes, heartbeats, farewells, to all
 *   agentmesh.mail                who got mail, to all
 *   agentmesh.relay.<instance>    to one relay
 *   agentmesh.absent.<instance>.<other>   where NATS answers instance that other is not there ("no responders")
 *
 * A relay serves its own agents without NATS, so this never fails: it is up or down, and while it is down it tries again.
 */
import {
  connect,
  type ConnectionOptions,
  type Msg,
  type NatsConnection,
  type Subscription,
} from '@nats-io/transport-node'
import type { RelayLogger } from '../logger.ts'
import { parseInstanceId, type InstanceId } from './cluster-wire.ts'
import type { ClusterLink, LinkEvents, OpenLink, Topic } from './link.ts'
import { natsOptions } from './nats-url.ts'

/** A connection that answers no ping for three of these is given up. */
const PING_MS = 1_000
const MAX_PINGS_OUT = 2
const CONNECT_MS = 5_000
const RETRY_MS = 500
const NO_RESPONDERS = 503

/** @throws MALFORMED for a URL that `natsOptions` does not take */
export function natsLink(url: string, logger: RelayLogger): OpenLink {
  const options = natsOptions(url)
  return (instance, events) => new NatsLink(options, instance, events, logger)
}

class NatsLink implements ClusterLink {
  readonly #options: ConnectionOptions
  readonly #instance: InstanceId
  readonly #events: LinkEvents
  readonly #logger: RelayLogger
  #connection: NatsConnection | undefined
  readonly #subscriptions: Subscription[] = []
  #up = false
  #closed = false
  #retry: NodeJS.Timeout | undefined

  constructor(options: ConnectionOptions, instance: InstanceId, events: LinkEvents, logger: RelayLogger) {
    this.#options = options
    this.#instance = instance
    this.#events = events
    this.#logger = logger
    void this.#connect(true)
  }

  get up(): boolean {
    return this.#up
  }

  async #connect(first: boolean): Promise<void> {
    try {
      const connection = await connect({
        ...this.#options,
        name: `agentmesh relay ${this.#instance}`,
        noEcho: true,
        timeout: CONNECT_MS,
        pingInterval: PING_MS,
        maxPingOut: MAX_PINGS_OUT,
        reconnectTimeWait: RETRY_MS,
        maxReconnectAttempts: -1,
        // A wrong password may be put right at the server.
        ignoreAuthErrorAbort: true,
      })
      if (this.#closed) return await connection.close()
      this.#connection = connection
      this.#subscribe(connection)
      void this.#watch(connection)
      await this.#subscribed(connection)
    } catch (error) {
      if (this.#closed) return
      if (first) this.#logger.warn({ err: error }, 'NATS not reached; trying again')
      this.#retry = setTimeout(() => void this.#connect(false), RETRY_MS)
    }
  }

  #subscribe(connection: NatsConnection): void {
    const subscribe = (subject: string, take: (message: Msg) => void) => {
      const subscription = connection.subscribe(subject, {
        callback: (error, message) => {
          try {
            if (error !== null) throw error
            take(message)
          } catch (cause) {
            // Thrown into the client, it would end the reading of its connection.
            this.#logger.error({ err: cause, subject }, 'NATS message not taken')
          }
        },
      })
      this.#subscriptions.push(subscription)
    }
    for (const subject of ['agentmesh.presence', 'agentmesh.mail', `agentmesh.relay.${this.#instance}`]) {
      subscribe(subject, ({ data }) => this.#events.onMessage(data))
    }
    subscribe(`agentmesh.absent.${this.#instance}.*`, ({ headers, subject }) => {
      if (headers?.code !== NO_RESPONDERS) return
      this.#events.onAbsent(parseInstanceId(subject.split('.').at(-1) ?? ''))
    })
  }

  async #watch(connection: NatsConnection): Promise<void> {
    for await (const { type } of connection.status()) {
      if (type === 'disconnect') this.#setUp(false)
      else if (type === 'reconnect') void this.#subscribed(connection)
    }
  }

  /** Up when the server has seen the subscriptions. */
  async #subscribed(connection: NatsConnection): Promise<void> {
    try {
      await connection.flush()
    } catch {
      // It went away again, and comes again.
      return
    }
    this.#setUp(true)
  }

  #setUp(up: boolean): void {
    if (this.#up === up || this.#closed) return
    this.#up = up
    if (up) this.#events.onUp()
    else this.#events.onDown()
  }

  broadcast(topic: Topic, data: Uint8Array): void {
    this.#publish(`agentmesh.${topic}`, data)
  }

  tell(instance: InstanceId, data: Uint8Array): void {
    this.#publish(`agentmesh.relay.${instance}`, data, `agentmesh.absent.${this.#instance}.${instance}`)
  }

  #publish(subject: string, data: Uint8Array, reply?: string): void {
    if (!this.#up || this.#connection === undefined) return
    try {
      this.#connection.publish(subject, data, reply === undefined ? {} : { reply })
    } catch (error) {
      this.#logger.error({ err: error }, 'not published on NATS')
    }
  }

  /** The server has seen that nobody is here any more, where it can be reached, before this resolves. */
  async close(): Promise<void> {
    this.#closed = true
    clearTimeout(this.#retry)
    for (const subscription of this.#subscriptions) subscription.unsubscribe()
    if (this.#up) await this.#connection?.flush().catch(() => {})
    this.#up = false
    await this.#connection?.close()
  }
}

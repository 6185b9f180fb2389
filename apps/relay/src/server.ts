/**
 * The relay as a server: one port with `/v1/connect` for WebSockets and `/healthz`, `/readyz`, `/metrics` for operators.
 *
 *     TCP socket -> SocketGuard (limits a stranger) -> HTTP upgrade (path, subprotocol) -> Connection -> Router -> Mailbox
 */
import type { IncomingMessage, Server } from 'node:http'
import type { Socket } from 'node:net'
import type { Registry } from 'prom-client'
import { systemRandom } from '@agentmesh/sdk/crypto/signing'
import {
  listenerTls,
  TrustedAddresses,
  openOperatorPort,
  type ListenerTls,
  type OperatorPort,
} from '@agentmesh/sdk/hosting'
import { MAX_JSON_FRAME_BYTES } from '@agentmesh/sdk/wire'
import { Cluster } from './cluster/cluster.ts'
import type { OpenLink } from './cluster/link.ts'
import type { ConnectionContext } from './connection.ts'
import { Connections } from './connections.ts'
import { Counters } from './counters.ts'
import { AmidMemo } from './in-place/amid-memo.ts'
import { BinaryInPlace } from './in-place/binary-in-place.ts'
import { JsonInPlace } from './in-place/json-in-place.ts'
import { DEFAULT_LIMITS, type RelayLimits } from './limits.ts'
import { HttpEndpoints, type Readiness } from './http-endpoints.ts'
import { createListener, listen } from './listener.ts'
import { silentLogger, sparingLogger, type RelayLogger } from './logger.ts'
import type { Mailbox } from './mailbox.ts'
import { RateLimiter } from './rate-limit.ts'
import type { RelayOptions, RelayStats, RunningRelay } from './relay-options.ts'
import { Router } from './router.ts'
import { Senders } from './senders.ts'
import { SocketGuard } from './socket-guard.ts'
import { TurnDesk } from './turn-credentials.ts'
import { WriteBatch } from './socket-writer.ts'
import { SqliteMailbox } from './sqlite-mailbox.ts'
import { TurnClock } from './turn.ts'

const DEFAULT_DRAIN_SECONDS = 10
const TICK_MS = 1_000
const PURGE_TICKS = 60
/** Fragments of one message; enough for any honest client, too few to make reassembly costly. */
const MAX_FRAGMENTS = 64

/**
 * @throws CONFIG_INVALID for TLS files that cannot be taken; MALFORMED for a NATS URL that is none; RELAY_STORE_FAILED when the
 *   mailboxes cannot be opened; system errors when the port cannot be had
 */
export async function startRelay(options: RelayOptions): Promise<RunningRelay> {
  const limits = { ...DEFAULT_LIMITS, ...options.limits }
  const now = options.now ?? Date.now
  const openLink = await findLink(options)
  const tls =
    options.tls === undefined ? undefined : listenerTls(options.tls, options.logger ?? silentLogger, now)
  const mailbox = await openMailbox(options, limits, now).catch((error: unknown) => {
    tls?.close()
    throw error
  })
  const relay = new RelayServer(options, limits, mailbox, tls, openLink, now)
  try {
    await relay.listen()
  } catch (error) {
    await relay.giveUp()
    throw error
  }
  return relay
}

async function openMailbox(options: RelayOptions, limits: RelayLimits, now: () => number): Promise<Mailbox> {
  if ('dataPath' in options) return new SqliteMailbox(options.dataPath, limits, now)
  // The driver is no weight on a relay that has a file.
  const { PostgresMailbox } = await import('./postgres-mailbox.ts')
  return PostgresMailbox.open(options.databaseUrl, limits, now, (error) =>
    options.logger?.warn({ err: error }, 'an idle database connection broke'),
  )
}

/** The NATS client is loaded by a relay that has others. */
async function findLink(options: RelayOptions): Promise<OpenLink | undefined> {
  if (!('natsUrl' in options) || options.natsUrl === undefined) return undefined
  const { natsLink } = await import('./cluster/nats-link.ts')
  return natsLink(options.natsUrl, options.logger ?? silentLogger)
}

class RelayServer implements RunningRelay {
  readonly #options: RelayOptions
  readonly #limits: RelayLimits
  readonly #mailbox: Mailbox
  readonly #logger: RelayLogger
  readonly #counters = new Counters()
  readonly #guard: SocketGuard
  readonly #context: ConnectionContext
  readonly #cluster: Cluster | undefined
  readonly #connections: Connections
  readonly #tls: ListenerTls | undefined
  readonly #turn: TurnDesk
  readonly #requests: RateLimiter
  readonly #endpoints: HttpEndpoints
  #operatorPort: OperatorPort | undefined
  readonly #http: Server
  #metrics: Promise<Registry> | undefined
  #timers: NodeJS.Timeout[] = []
  #ticks = 0
  #phase: 'serving' | 'draining' | 'closing' = 'serving'
  #closing: Promise<void> | undefined
  #relayIds: readonly string[] = []
  #port = 0

  constructor(
    options: RelayOptions,
    limits: RelayLimits,
    mailbox: Mailbox,
    tls: ListenerTls | undefined,
    openLink: OpenLink | undefined,
    now: () => number,
  ) {
    this.#options = options
    this.#limits = limits
    this.#mailbox = mailbox
    this.#logger = sparingLogger(options.logger ?? silentLogger, now)
    this.#tls = tls
    const proxies = new TrustedAddresses(options.trustedProxies ?? [])
    this.#guard = new SocketGuard({
      limits,
      counters: this.#counters,
      proxies,
      now,
      tls: tls !== undefined,
    })
    const clock = new TurnClock(now)
    const shared = { limits, counters: this.#counters, logger: this.#logger, now: () => clock.now() }
    const parts = { ...shared, mailbox, random: systemRandom }
    const amids = new AmidMemo()
    this.#cluster = openLink === undefined ? undefined : new Cluster({ ...parts, amids, openLink })
    const router = new Router({ ...parts, ...(this.#cluster === undefined ? {} : { peers: this.#cluster }) })
    this.#context = {
      ...shared,
      router,
      senders: new Senders(limits, systemRandom),
      webSockets: {
        batch: new WriteBatch(),
        counters: this.#counters,
        maxMessageBytes: MAX_JSON_FRAME_BYTES,
        maxFragments: MAX_FRAGMENTS,
        maxWaitingBytes: limits.socketBufferBytes,
        pauseWaitingBytes: limits.answerBufferBytes,
        closeGraceMs: limits.closeGraceMs,
      },
      encodings: { binary: new BinaryInPlace(amids), json: new JsonInPlace(amids) },
      signatureChecks: new RateLimiter(limits.signatureChecksPerIp),
      frames: new RateLimiter(limits.framesPerIp),
      connects: new RateLimiter(limits.connects),
    }
    this.#turn = new TurnDesk({
      settings: options.turn,
      perAgent: limits.turnCredentials,
      perAddress: limits.turnCredentialsPerIp,
      signatureChecks: this.#context.signatureChecks,
      now,
    })
    this.#requests = new RateLimiter(limits.requestsPerIp)
    this.#endpoints = new HttpEndpoints({
      counters: this.#counters,
      logger: this.#logger,
      proxies,
      turn: this.#turn,
      requests: this.#requests,
      now,
      relayIds: () => this.#relayIds,
      readiness: () => this.#readiness(),
      metrics: () => this.#metricsRegistry(),
    })
    this.#http = createListener(this.#guard, tls, (request, response) =>
      this.#endpoints.answerStranger(request, response, options.metricsAddress === undefined),
    )
    this.#connections = new Connections({
      context: this.#context,
      guard: this.#guard,
      proxies,
      relayIds: () => this.#relayIds,
    })
    this.#http.on('upgrade', (request: IncomingMessage, socket: Socket, head: Buffer) =>
      this.#connections.upgrade(request, socket, head),
    )
  }

  get port(): number {
    return this.#port
  }
  get url(): string {
    return `${this.#tls === undefined ? 'ws' : 'wss'}://${authority(this.#options.host ?? '127.0.0.1', this.#port)}`
  }
  get metricsPort(): number | undefined {
    return this.#operatorPort?.port
  }
  get relayIds(): readonly string[] {
    return this.#relayIds
  }

  async listen(): Promise<void> {
    const { host = '127.0.0.1', port = 0, names } = this.#options
    if (this.#options.metricsAddress !== undefined) {
      this.#operatorPort = await openOperatorPort(this.#options.metricsAddress, (request, response) =>
        this.#endpoints.answer(request, response, true),
      )
    }
    this.#port = await listen(this.#http, host, port)
    this.#relayIds =
      names === undefined || names.length === 0
        ? [...new Set([authority(host, this.#port), authority('localhost', this.#port)])]
        : names
    this.#cluster?.start(this.#context.router)
    this.#timers = [
      setInterval(() => this.#tick(), TICK_MS),
      setInterval(() => this.#connections.checkAlive(), this.#limits.pingIntervalMs),
    ]
    this.#logger.info({ url: this.url, relayIds: this.#relayIds }, 'relay listening')
  }

  stats(): RelayStats {
    const { router, senders } = this.#context
    return {
      agents: router.connected,
      senders: senders.open,
      sockets: this.#guard.open,
      delivered: this.#counters.delivered,
      stored: this.#counters.stored,
      refused: this.#counters.refused,
      turnCredentials: this.#counters.turnCredentials,
      mailboxMessages: this.#mailbox.messages,
      mailboxBytes: this.#mailbox.bytes,
    }
  }

  #tick(): void {
    const { router, signatureChecks, frames, connects, now } = this.#context
    router.tick()
    this.#cluster?.tick()
    for (const limiter of [signatureChecks, frames, connects, this.#requests]) limiter.sweep(now())
    this.#guard.sweep()
    this.#turn.sweep()
    this.#ticks += 1
    if (this.#ticks % PURGE_TICKS !== 0) return
    this.#mailbox.purge().then(
      (expired) => (this.#counters.expired += expired),
      (error: unknown) => this.#logger.error({ err: error }, 'mailboxes not purged'),
    )
  }

  // --- HTTP -----------------------------------------------------------------------------------------------------------

  async #readiness(): Promise<Readiness> {
    if (this.#phase !== 'serving' || !(await this.#mailbox.check())) return 'not ready'
    // Its own agents are served, so a balancer should go on sending them.
    return this.#cluster?.linked === false ? 'degraded: NATS is away' : 'ready'
  }

  /** Loaded by the first scrape: the library costs an idle relay 10 MB. */
  async #metricsRegistry(): Promise<Registry> {
    this.#metrics ??= import('./metrics.ts').then(({ metricsRegistry }) =>
      metricsRegistry({
        counters: this.#counters,
        router: this.#context.router,
        senders: this.#context.senders,
        mailbox: this.#mailbox,
        guard: this.#guard,
        tls: this.#tls,
        cluster: this.#cluster,
      }),
    )
    return this.#metrics
  }

  // --- the end --------------------------------------------------------------------------------------------------------

  reload(): void {
    this.#tls?.reload()
  }

  /** What was opened by a start that failed. */
  async giveUp(): Promise<void> {
    this.#tls?.close()
    await this.#operatorPort?.close()
    await this.#mailbox.close()
  }

  async drain(): Promise<void> {
    if (this.#phase === 'serving') {
      this.#phase = 'draining'
      const { drainSeconds = DEFAULT_DRAIN_SECONDS } = this.#options
      this.#logger.info({ connections: this.#connections.size, drainSeconds }, 'relay draining')
      await this.#connections.drain(drainSeconds)
    }
    await this.close()
  }

  async close(): Promise<void> {
    this.#phase = 'closing'
    this.#connections.close()
    this.#closing ??= this.#close()
    await this.#closing
  }

  async #close(): Promise<void> {
    for (const timer of this.#timers) clearInterval(timer)
    const closed = new Promise<void>((resolve) => this.#http.close(() => resolve()))
    this.#cluster?.settle()
    await this.#context.router.stop()
    const left = this.#cluster?.close()
    this.#connections.cutAll()
    this.#http.closeIdleConnections()
    const grace = setTimeout(() => this.#guard.destroyAll(), this.#limits.closeGraceMs)
    // The sockets of agents are no longer the HTTP server's.
    await Promise.all([closed, this.#guard.emptied()])
    clearTimeout(grace)
    this.#tls?.close()
    await this.#operatorPort?.close()
    await left
    await this.#mailbox.close()
    this.#logger.info({}, 'relay closed')
  }
}

function authority(host: string, port: number): string {
  return `${host.includes(':') ? `[${host}]` : host}:${port}`
}

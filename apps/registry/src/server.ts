/**
 * The registry server: agents register, find each other, and leave prekeys for those who want to talk to them
 * (specification §3, DESIGN §4, §8; `spec/registry.md` is the protocol).
 *
 * It is trusted for being there and for what it says in its own name (tier, presence, times, reputation). It cannot
 * forge a record or a key: those carry their owners' signatures.
 */
import type { AddressInfo } from 'node:net'
import type { Server as TlsServer } from 'node:tls'
import fastifySwagger from '@fastify/swagger'
import Fastify, { LogController, type FastifyBaseLogger, type FastifyInstance } from 'fastify'
import {
  addressKey,
  addressNetwork,
  listenerTls,
  TrustedAddresses,
  openOperatorPort,
  type ListenerTls,
  type OperatorPort,
  type RunningServer,
  type ServerOptions,
} from '@agentmesh/sdk/hosting'
import { AgentMeshError } from '@agentmesh/sdk/wire'
import { pino } from 'pino'
import { addAdminRoutes, parseAdministrators } from './admin/index.ts'
import { addAgentRoutes } from './agents.ts'
import { humanKey, type AuthorityKeys } from './authority/authority-keys.ts'
import { startCertification, type Certification } from './authority/certification.ts'
import { addAuthorityRoutes } from './authority/routes.ts'
import { limitConnections } from './connections.ts'
import { makeLimiters, takeToken, type Context } from './context.ts'
import { DEFAULT_LIMITS, type RegistryLimits } from './limits.ts'
import { RegistryMetrics } from './metrics.ts'
import { openApiOptions } from './openapi.ts'
import { addCatalogueRoutes, addOperationRoutes, operatorListener } from './operations.ts'
import { DEFAULT_RESOLVERS, type ResolverAddress } from './organizations/dns-lookup.ts'
import { addPrekeyRoutes } from './prekeys.ts'
import { authorityOf, isWildcard, localAuthorities, parsePublicUrl } from './public-address.ts'
import { addReputationRoutes, evaluateDue, storedPeople } from './reputation/index.ts'
import { FORGET_EVIDENCE_MS } from './reputation/constants.ts'
import { refuseSocket, sendRefusal } from './refusals.ts'
import { SchemaCatalogue } from './schema-catalogue.ts'
import { addSearchRoute } from './search.ts'
import { openPostgresStore, openSqliteStore } from './store/sql-store.ts'
import type { Store } from './store/store.ts'
import { addTransparencyRoutes } from './transparency/routes.ts'
import { readProviders } from './verification/configuration.ts'
import { addVerificationRoutes } from './verification/routes.ts'
import { Verifier, type VerifierSettings } from './verification/verifier.ts'

const MAX_URL_SEGMENT = 128

/** `drain` says no at /readyz for `drainSeconds` before the port closes; 0 when not given. */
export type RegistryOptions = ServerOptions & {
  /**
   * The URL agents use, when it is not the address listened on (behind a proxy, under a name). Signed requests are then
   * taken for its host only.
   */
  readonly publicUrl?: string
  /** File that says where people can vouch for agents; nowhere when not given. Needs an authority. */
  readonly providersPath?: string
  readonly limits?: Partial<RegistryLimits>
  /** Certifies agents and organisations; without it agents are anonymous. */
  readonly authority?: AuthorityKeys
  /** DNS resolvers at which domains are checked: two or more, `IP[:port]`. Public ones when not given. */
  readonly resolvers?: readonly ResolverAddress[]
  /** `name:token` of every operator, separated by commas; the admin endpoints are closed without. */
  readonly adminTokens?: string
  /** A pino logger; silent when not given. */
  readonly logger?: FastifyBaseLogger
} & (
    | {
        /** SQLite file, or `:memory:`. */
        readonly dataPath: string
      }
    | {
        /** PostgreSQL connection URL. */
        readonly databaseUrl: string
      }
  )

export interface RunningRegistry extends RunningServer {
  /** Where agents reach it: `publicUrl`, or the address listened on. */
  readonly url: string
  readonly port: number
  /** Of its certificate authority, if it has one. */
  readonly fingerprint: string | undefined
  /** Where metrics have a port of their own. */
  readonly metricsPort: number | undefined
}

/**
 * @throws STORE_FAILED; CONFIG_INVALID for TLS files that cannot be taken; MALFORMED for a `publicUrl` that is not http or https, or a providers file with a mistake. Rejects
 *   when the port is taken.
 */
export async function startRegistry(options: RegistryOptions): Promise<RunningRegistry> {
  const publicUrl = options.publicUrl === undefined ? undefined : parsePublicUrl(options.publicUrl)
  const logger = options.logger ?? pino({ level: 'silent' })
  const limits = { ...DEFAULT_LIMITS, ...options.limits }
  const now = options.now ?? Date.now
  const administrators = parseAdministrators(options.adminTokens)
  const providers = await openProviders(options, limits, now)
  const tls = options.tls === undefined ? undefined : listenerTls(options.tls, logger, now)
  const store = await openStore(options, logger)
  const certification = await certify(options, publicUrl, store, limits, now())
  const leaving = new AbortController()
  const context: Context = {
    store,
    limits,
    limiters: makeLimiters(limits),
    metrics: new RegistryMetrics(),
    schemas: new SchemaCatalogue(),
    authority: certification?.authority,
    now,
    people: storedPeople(store),
    administrators,
    authorities: new Set(),
    leaving: leaving.signal,
  }
  if (tls !== undefined) context.metrics.watchCertificate(() => tls.expiresAt)

  const host = options.host ?? '127.0.0.1'
  const verifier =
    providers === undefined
      ? undefined
      : new Verifier(context, providers, (error) => logger.error({ err: error }, 'a mail was not sent'))
  const app = await buildApp(context, { verifier, certification }, logger, {
    trustedProxies: options.trustedProxies ?? [],
    publicUrl: publicUrl?.origin,
    tls,
    metrics: options.metricsAddress === undefined,
  })
  let operatorPort: OperatorPort | undefined
  try {
    await keepHouse(context)
    if (options.metricsAddress !== undefined) {
      operatorPort = await openOperatorPort(options.metricsAddress, operatorListener(context))
    }
    await app.listen({ host, port: options.port ?? 0 })
  } catch (error) {
    await operatorPort?.close()
    await app.close()
    tls?.close()
    await store.close()
    throw error
  }
  const { port } = app.server.address() as AddressInfo
  const [scheme, standardPort] = tls === undefined ? (['http', 80] as const) : (['https', 443] as const)
  for (const authority of publicUrl === undefined
    ? localAuthorities(host, port, standardPort)
    : [publicUrl.host]) {
    context.authorities.add(authority)
  }

  let checking: Promise<void> = Promise.resolve()
  const timer = setInterval(() => {
    keepHouse(context).catch((error: unknown) => logger.error({ err: error }, 'purge failed'))
    // One after the other: looking at domains may take longer than the interval.
    checking = checking
      .then(() => keepCertified(certification, now()))
      .catch((error: unknown) => logger.error({ err: error }, 'upkeep of certificates failed'))
  }, limits.purgeIntervalMs)
  timer.unref()
  let evaluating: Promise<unknown> = Promise.resolve()
  const evaluation = setInterval(() => {
    evaluating = evaluating
      .then(() => evaluateDue(context, context.now(), limits.maxEvaluationBatches))
      .catch((error: unknown) => logger.error({ err: error }, 'evaluation of reputation failed'))
  }, limits.evaluationIntervalMs)
  evaluation.unref()

  let closing: Promise<void> | undefined
  let wake = () => {}
  /** Answers what has arrived, takes nothing new, closes the database. */
  const close = async () => {
    leaving.abort()
    wake()
    clearInterval(timer)
    clearInterval(evaluation)
    await evaluating
    await app.close()
    await verifier?.close()
    await checking
    await operatorPort?.close()
    tls?.close()
    await store.close()
  }
  const drain = async () => {
    leaving.abort()
    if (closing === undefined) {
      await new Promise<void>((resolve) => {
        wake = resolve
        setTimeout(resolve, (options.drainSeconds ?? 0) * 1000)
      })
    }
    await (closing ??= close())
  }
  return {
    url:
      publicUrl?.origin ??
      `${scheme}://${authorityOf(isWildcard(host) ? '127.0.0.1' : host, port, standardPort)}`,
    port,
    fingerprint: options.authority?.fingerprint,
    close: () => (closing ??= close()),
    drain,
    metricsPort: operatorPort?.port,
    reload: () => tls?.reload(),
  }
}

/** @throws MALFORMED for providers that nobody can certify for, or a file with a mistake */
async function openProviders(
  { authority, providersPath }: RegistryOptions,
  limits: RegistryLimits,
  now: () => number,
): Promise<VerifierSettings | undefined> {
  if (providersPath === undefined) return undefined
  if (authority === undefined) {
    throw new AgentMeshError('MALFORMED', 'Identity providers need a certificate authority', {
      operation: 'start registry',
    })
  }
  const providers = await readProviders(providersPath, { maxSeconds: limits.verificationSeconds, now })
  return { providers, secret: humanKey(authority) }
}

function openStore(options: RegistryOptions, logger: FastifyBaseLogger): Promise<Store> {
  if ('dataPath' in options) return openSqliteStore(options.dataPath)
  return openPostgresStore(options.databaseUrl, (error) =>
    logger.warn({ err: error }, 'an idle database connection broke'),
  )
}

/** @throws MALFORMED for another address than the authority's; the store is closed then */
async function certify(
  { authority, resolvers = DEFAULT_RESOLVERS }: RegistryOptions,
  publicUrl: URL | undefined,
  store: Store,
  limits: RegistryLimits,
  now: number,
): Promise<Certification | undefined> {
  if (authority === undefined) return undefined
  try {
    if (publicUrl !== undefined && publicUrl.origin !== authority.url) {
      throw new AgentMeshError(
        'MALFORMED',
        `The authority is that of ${authority.url}, not of ${publicUrl.origin}`,
      )
    }
    return await startCertification(authority, store, limits, resolvers, now)
  } catch (error) {
    await store.close()
    throw error
  }
}

async function keepCertified(certification: Certification | undefined, now: number): Promise<void> {
  if (certification === undefined) return
  await certification.authority.keepHouse(now)
  await certification.organizations.recheck(now)
}

async function keepHouse(context: Context): Promise<void> {
  const now = context.now()
  const { store } = context
  const { presenceSeconds, searchableSeconds, cursorSeconds, forgetSeconds } = context.limits
  const ago = (seconds: number) => now - seconds * 1000
  await store.alone(async () => {
    await store.verification.purge(now)
    await store.rates.purge(now)
    await store.purge({
      now,
      lapsedBefore: ago(presenceSeconds + cursorSeconds),
      dormantBefore: ago(searchableSeconds + cursorSeconds),
      forgetBefore: ago(forgetSeconds),
    })
    await store.transaction('purge reputation', (tx) => store.reputation.purge(tx, now - FORGET_EVIDENCE_MS))
    // An agent that registered while it was being banned.
    await store.transaction('sweep banned agents', (tx) => store.admin.sweep(tx))
  })
  context.metrics.agents(await store.countAgents())
}

/** What some registries have. */
interface Parts {
  readonly verifier: Verifier | undefined
  readonly certification: Certification | undefined
}

interface Listening {
  readonly trustedProxies: readonly string[]
  readonly publicUrl: string | undefined
  readonly tls: ListenerTls | undefined
  /** Whether they are on this port. */
  readonly metrics: boolean
}

async function buildApp(
  context: Context,
  { verifier, certification }: Parts,
  logger: FastifyBaseLogger,
  { trustedProxies, publicUrl, tls, metrics: withMetrics }: Listening,
): Promise<FastifyInstance> {
  const { limits, metrics } = context
  const proxies = new TrustedAddresses(trustedProxies)
  const overdue = { connectionsCheckingInterval: Math.ceil(limits.requestTimeoutMs / 3) }
  const app: FastifyInstance = Fastify({
    loggerInstance: logger,
    logController: new LogController({ disableRequestLogging: true }),
    trustProxy: (address: string) => proxies.has(address),
    ...(tls === undefined ? { http: overdue } : { https: { ...tls.options, ...overdue } }),
    requestTimeout: limits.requestTimeoutMs,
    connectionTimeout: limits.idleTimeoutMs,
    keepAliveTimeout: limits.idleTimeoutMs,
    bodyLimit: limits.maxBodyBytes,
    routerOptions: { maxParamLength: MAX_URL_SEGMENT },
    forceCloseConnections: 'idle',
    clientErrorHandler: refuseSocket,
    frameworkErrors: (error, request, reply) => void sendRefusal(metrics, logger, error, request, reply),
  })
  limitConnections(app.server, limits, proxies, metrics)
  tls?.attach(app.server as unknown as TlsServer)

  // The body stays bytes: the signature covers them, and wire's strict reader takes them from there.
  app.removeAllContentTypeParsers()
  app.addContentTypeParser('application/json', { parseAs: 'buffer' }, (_request, body, done) =>
    done(null, body),
  )
  app.setValidatorCompiler(() => () => true)
  app.setSerializerCompiler(() => JSON.stringify)

  app.addHook('onRequest', async (request, reply) => {
    reply.header('x-content-type-options', 'nosniff').header('cache-control', 'no-store')
    // A balancer's connections end with the answers on them.
    if (context.leaving.aborted) reply.header('connection', 'close')
    takeToken(context, 'requestsPerIp', addressKey(request.ip))
  })
  app.addHook('onResponse', async (request, reply) => {
    const route = request.routeOptions.url ?? 'none'
    metrics.answered(request.method, route, reply.statusCode, reply.elapsedTime / 1000)
    const { method, ip } = request
    const facts = { method, route, status: reply.statusCode, ms: Math.round(reply.elapsedTime) }
    logger.debug({ ...facts, client: addressNetwork(ip) }, 'answered')
  })
  app.setErrorHandler((error, request, reply) => sendRefusal(metrics, logger, error, request, reply))
  app.setNotFoundHandler((request, reply) =>
    sendRefusal(metrics, logger, new AgentMeshError('NOT_FOUND'), request, reply),
  )

  await app.register(fastifySwagger, openApiOptions(publicUrl))
  addAgentRoutes(app, context)
  addSearchRoute(app, context)
  addPrekeyRoutes(app, context)
  addTransparencyRoutes(app, context)
  addVerificationRoutes(app, context, verifier)
  addAuthorityRoutes(app, context, certification)
  addReputationRoutes(app, context)
  addAdminRoutes(app, context)
  addCatalogueRoutes(app, context)
  addOperationRoutes(app, context, withMetrics)
  await app.ready()
  return app
}

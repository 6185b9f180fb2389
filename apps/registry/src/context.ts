/** What every endpoint of one running registry shares. */
import { AgentMeshError } from '@agentmesh/sdk/wire'
import type { Authority } from './authority/authority.ts'
import type { Administrator } from './admin/auth.ts'
import type { RegistryLimits } from './limits.ts'
import type { RegistryMetrics } from './metrics.ts'
import { RateLimiter } from './rate-limiter.ts'
import type { People } from './reputation/people.ts'
import type { SchemaCatalogue } from './schema-catalogue.ts'
import type { Store } from './store/store.ts'

const RATES = [
  'requestsPerIp',
  'registrationsPerIp',
  'searchesPerIp',
  'uploadsPerIp',
  'logReadsPerIp',
  'verificationsPerIp',
  'requestsPerAgent',
  'uploadsPerAgent',
  'fetchesPerAgent',
  'verificationsPerAgent',
  'listsPerIp',
  'feedbackPerIp',
  'certificatesPerAgent',
  'domainChecksPerAgent',
  'feedbackPerAgent',
  'adminPerIp',
] as const
export type RateName = (typeof RATES)[number]

/**
 * Counted in the database as well: what they bound is done to somebody else (mails, questions to providers and resolvers,
 * one-time prekeys, entries in the log), or is kept, and a second registry must not double it. The others bound the load of
 * one process.
 */
const SHARED_RATES = [
  'registrationsPerIp',
  'verificationsPerIp',
  'verificationsPerAgent',
  'certificatesPerAgent',
  'domainChecksPerAgent',
  'feedbackPerAgent',
  'oneTimePerPair',
  'oneTimePerTarget',
] as const
type SharedRateName = (typeof SHARED_RATES)[number]

export type Limiters = Readonly<Record<RateName, RateLimiter>>

export interface Context {
  readonly store: Store
  readonly limits: RegistryLimits
  readonly limiters: Limiters
  readonly metrics: RegistryMetrics
  readonly schemas: SchemaCatalogue
  /** Undefined: this registry registers anonymous agents only. */
  readonly authority: Authority | undefined
  readonly people: People
  /** Nobody: the admin endpoints are closed. */
  readonly administrators: readonly Administrator[]
  /** Milliseconds since the epoch. */
  readonly now: () => number
  /** Aborted once the registry is on its way out. */
  readonly leaving: AbortSignal
  /** The `Host` values, lowercase, under which this registry takes signed requests. */
  readonly authorities: Set<string>
}

export function makeLimiters(limits: RegistryLimits): Limiters {
  const entries = RATES.map((name) => [name, new RateLimiter(limits[name], limits.maxRateKeys)] as const)
  return Object.fromEntries(entries) as Record<RateName, RateLimiter>
}

/** In this process. @throws RATE_LIMITED with the seconds to wait. */
export function takeToken(context: Context, rate: RateName, key: string): void {
  refuseUnless(rate, context.limiters[rate].take(key, context.now()))
}

/** In the database, for a rate that is counted there. @throws RATE_LIMITED with the seconds to wait. */
export async function takeShared(context: Context, rate: RateName | undefined, key: string): Promise<void> {
  if (rate !== undefined && isShared(rate)) refuseUnless(rate, await waitForShared(context, rate, key))
}

/** 0: there was one, and it is taken. Else the seconds to wait. */
export function waitForShared(context: Context, rate: SharedRateName, key: string): Promise<number> {
  return context.store.rates.take(rate, key, context.limits[rate], context.now())
}

function isShared(rate: string): rate is SharedRateName {
  return (SHARED_RATES as readonly string[]).includes(rate)
}

function refuseUnless(rate: RateName, retryAfterSeconds: number): void {
  if (retryAfterSeconds > 0) {
    throw new AgentMeshError('RATE_LIMITED', undefined, { operation: rate, retryAfterSeconds })
  }
}

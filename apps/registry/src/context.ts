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
  'oneTimePerPair',
  'oneTimePerTarget',
] as const
export type RateName = (typeof RATES)[number]

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
  /** The `Host` values, lowercase, under which this registry takes signed requests. */
  readonly authorities: Set<string>
}

export function makeLimiters(limits: RegistryLimits): Limiters {
  const entries = RATES.map((name) => [name, new RateLimiter(limits[name], limits.maxRateKeys)] as const)
  return Object.fromEntries(entries) as Record<RateName, RateLimiter>
}

/** @throws RATE_LIMITED with the seconds to wait. */
export function takeToken(context: Context, rate: RateName, key: string): void {
  const retryAfterSeconds = context.limiters[rate].take(key, context.now())
  if (retryAfterSeconds > 0) {
    throw new AgentMeshError('RATE_LIMITED', undefined, { operation: rate, retryAfterSeconds })
  }
}

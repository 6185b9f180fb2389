/** Every number an operator may set. Nothing a stranger can touch is without one of them. Sizes are bytes. */
import type { Rate } from './rate-limiter.ts'

export interface RegistryLimits {
  /** Body of a registration or update. With it a record and its capabilities are bounded. */
  readonly maxRecordBytes: number
  /** Body of a prekey upload: two signed keys and 100 one-time ones of each kind take about 250 KiB. */
  readonly maxUploadBytes: number
  /** A revocation list that an organisation brings: a thousand entries take about 50 KiB. */
  readonly maxListBytes: number
  /** Every other body. */
  readonly maxBodyBytes: number
  readonly maxConnections: number
  /** From the first byte of a request to the last. */
  readonly requestTimeoutMs: number

  readonly maxAgents: number
  /** Agents that one verified human may have. */
  readonly maxAgentsOfHuman: number
  /** One-time prekeys kept for an agent, of each kind. */
  readonly maxOneTimePrekeys: number
  /** Most agents on one search page, and most bytes of records on it. */
  readonly maxPageAgents: number
  readonly maxPageBytes: number

  /** An agent without a sign of life for so long counts as offline, */
  readonly presenceSeconds: number
  /** for so long is not found by search, */
  readonly searchableSeconds: number
  /** and for so long is forgotten. */
  readonly forgetSeconds: number
  /** How long a search may be continued from its first page. */
  readonly cursorSeconds: number
  readonly purgeIntervalMs: number
  /** How often due scores are looked for, and batches of 20 then evaluated at most. */
  readonly evaluationIntervalMs: number
  readonly maxEvaluationBatches: number

  /** Life of an attempt to verify a person, and how many of them an agent has at a time. */
  readonly verificationSeconds: number
  readonly maxVerificationsPerAgent: number
  /** Tries at a code that was mailed, and mails to one address within the life of an attempt. */
  readonly maxCodeAttempts: number
  readonly mailsPerAddress: number

  /** Per IP address (IPv6: one /64): all requests, then those that cost more. */
  readonly requestsPerIp: Rate
  readonly registrationsPerIp: Rate
  readonly searchesPerIp: Rate
  readonly uploadsPerIp: Rate
  readonly logReadsPerIp: Rate
  readonly verificationsPerIp: Rate
  readonly listsPerIp: Rate
  /** Per AMID, after its signature was verified. */
  readonly requestsPerAgent: Rate
  readonly uploadsPerAgent: Rate
  readonly fetchesPerAgent: Rate
  readonly verificationsPerAgent: Rate
  readonly certificatesPerAgent: Rate
  /** Each asks every resolver. */
  readonly domainChecksPerAgent: Rate
  readonly feedbackPerAgent: Rate
  /** Per IP address at the admin endpoints, right or wrong token alike. */
  readonly adminPerIp: Rate
  /**
   * One-time prekeys given to one fetcher, and taken from one agent. Beyond these a bundle comes without them: refusing it
   * would let anybody make an agent unreachable.
   */
  readonly oneTimePerPair: Rate
  readonly oneTimePerTarget: Rate
  /** Keys each rate limiter remembers. */
  readonly maxRateKeys: number
}

const DAY_SECONDS = 86_400

export const DEFAULT_LIMITS: RegistryLimits = {
  maxRecordBytes: 16 * 1024,
  maxUploadBytes: 384 * 1024,
  maxListBytes: 64 * 1024,
  maxBodyBytes: 4 * 1024,
  maxConnections: 2_000,
  requestTimeoutMs: 15_000,

  maxAgents: 1_000_000,
  maxAgentsOfHuman: 10,
  maxOneTimePrekeys: 100,
  maxPageAgents: 100,
  maxPageBytes: 512 * 1024,

  presenceSeconds: 600,
  searchableSeconds: 30 * DAY_SECONDS,
  forgetSeconds: 180 * DAY_SECONDS,
  cursorSeconds: 3_600,
  purgeIntervalMs: 60_000,
  evaluationIntervalMs: 15_000,
  maxEvaluationBatches: 10,

  verificationSeconds: 600,
  maxVerificationsPerAgent: 5,
  maxCodeAttempts: 5,
  mailsPerAddress: 3,

  requestsPerIp: { perSecond: 10, burst: 300 },
  registrationsPerIp: { perSecond: 0.5, burst: 60 },
  searchesPerIp: { perSecond: 1, burst: 60 },
  uploadsPerIp: { perSecond: 0.5, burst: 60 },
  logReadsPerIp: { perSecond: 2, burst: 120 },
  verificationsPerIp: { perSecond: 0.1, burst: 30 },
  requestsPerAgent: { perSecond: 2, burst: 120 },
  uploadsPerAgent: { perSecond: 0.1, burst: 10 },
  fetchesPerAgent: { perSecond: 0.5, burst: 60 },
  verificationsPerAgent: { perSecond: 1 / 60, burst: 10 },
  listsPerIp: { perSecond: 2, burst: 120 },
  certificatesPerAgent: { perSecond: 1 / 60, burst: 30 },
  domainChecksPerAgent: { perSecond: 1 / 60, burst: 10 },
  feedbackPerAgent: { perSecond: 1 / 60, burst: 30 },
  adminPerIp: { perSecond: 1, burst: 60 },
  oneTimePerPair: { perSecond: 20 / 3_600, burst: 20 },
  oneTimePerTarget: { perSecond: 0.1, burst: 200 },
  maxRateKeys: 100_000,
}

/** Every number an operator may set. Nothing a stranger can touch is without one of them. */
import { Type } from '@agentmesh/sdk/wire'
import { Bytes, Count, defaultsOf, Milliseconds, RateLimit, Seconds } from '@agentmesh/sdk/hosting'
import type { Static } from 'typebox'

const DAY_SECONDS = 86_400
const KIB = 1024

export const LimitSettings = Type.Object({
  maxRecordBytes: Bytes(16 * KIB, 'a registration or update: bounds a record and its capabilities'),
  /** Two signed keys and 100 one-time ones of each kind take about 250 KiB. */
  maxUploadBytes: Bytes(384 * KIB, 'a prekey upload'),
  /** A thousand entries take about 50 KiB. */
  maxListBytes: Bytes(64 * KIB, 'a revocation list that an organisation brings'),
  maxBodyBytes: Bytes(4 * KIB, 'any other body'),
  maxConnections: Count(2_000, 'open TCP connections'),
  maxConnectionsPerIp: Count(200, 'the same of an address (IPv6: one /64); one more is closed at once'),
  requestTimeoutMs: Milliseconds(15_000, 'a request, from the connection to its last byte'),
  idleTimeoutMs: Milliseconds(
    60_000,
    'a connection on which nothing moves: no request, or an answer nobody reads',
  ),

  maxAgents: Count(1_000_000, 'registered agents; beyond: REGISTRY_FULL'),
  maxAgentsOfHuman: Count(10, 'agents of one verified person; beyond: AGENTS_OF_HUMAN_LIMIT'),
  maxOneTimePrekeys: Count(100, 'one-time prekeys kept for an agent, of each kind'),
  reservedOneTimePrekeys: Count(
    15,
    'of those, kept for callers with standing; below the 20 at which an agent fills up',
    0,
  ),
  standingSeconds: Seconds(7 * DAY_SECONDS, 'since its registration: an anonymous agent has standing', 0),
  maxPageAgents: Count(100, 'agents on one page of a search'),
  maxPageBytes: Bytes(512 * KIB, 'records on one page of a search'),

  presenceSeconds: Seconds(600, 'without a sign of life: shown as offline', 1),
  searchableSeconds: Seconds(30 * DAY_SECONDS, 'without one: not found by search', 1),
  forgetSeconds: Seconds(180 * DAY_SECONDS, 'without one: deleted', 1),
  cursorSeconds: Seconds(3_600, 'how long a search may be continued from its first page', 1),
  purgeIntervalMs: Milliseconds(60_000, 'between two rounds of housekeeping'),
  evaluationIntervalMs: Milliseconds(15_000, 'between two looks for scores that are due'),
  maxEvaluationBatches: Count(10, 'batches of 20 scores evaluated at a look'),

  verificationSeconds: Seconds(600, 'life of an attempt to verify a person', 1),
  maxVerificationsPerAgent: Count(5, 'such attempts of an AMID at a time'),
  maxCodeAttempts: Count(5, 'tries at a mailed code'),
  mailsPerAddress: Count(3, 'mails to one address within the life of an attempt'),

  requestsPerIp: RateLimit(10, 300, 'all requests of an address (IPv6: one /64)'),
  registrationsPerIp: RateLimit(0.5, 60, 'registrations from an address'),
  searchesPerIp: RateLimit(1, 60, 'searches from an address'),
  uploadsPerIp: RateLimit(0.5, 60, 'prekey uploads from an address'),
  logReadsPerIp: RateLimit(2, 120, 'reads of the transparency log from an address'),
  verificationsPerIp: RateLimit(0.1, 30, 'attempts to verify a person, begun or finished, from an address'),
  listsPerIp: RateLimit(2, 120, 'revocation lists read from an address'),
  feedbackPerIp: RateLimit(1, 120, 'ratings brought from an address'),
  requestsPerAgent: RateLimit(2, 120, 'signed requests of an AMID'),
  uploadsPerAgent: RateLimit(0.1, 10, 'prekey uploads of an AMID'),
  fetchesPerAgent: RateLimit(0.5, 60, 'bundles fetched by an AMID'),
  verificationsPerAgent: RateLimit(1 / 60, 10, 'attempts to verify a person, begun by an AMID'),
  certificatesPerAgent: RateLimit(
    1 / 60,
    30,
    'certificates, lists, organisations and successions of an AMID',
  ),
  domainChecksPerAgent: RateLimit(1 / 60, 10, 'DNS checks of an AMID; each asks every resolver'),
  feedbackPerAgent: RateLimit(1 / 60, 30, 'feedback of an AMID'),
  adminPerIp: RateLimit(1, 60, 'requests of an address at the admin endpoints, right or wrong token alike'),
  oneTimePerPair: RateLimit(
    20 / 3_600,
    20,
    'one-time prekeys of one agent given to one fetcher; to all without standing at one address',
  ),
  oneTimePerTarget: RateLimit(0.1, 200, 'one-time prekeys of one agent given to everybody'),
  maxRateKeys: Count(100_000, 'addresses or AMIDs each limiter remembers; the idlest are forgotten first'),
})

export type RegistryLimits = Readonly<Static<typeof LimitSettings>>

export const DEFAULT_LIMITS: RegistryLimits = defaultsOf(LimitSettings)

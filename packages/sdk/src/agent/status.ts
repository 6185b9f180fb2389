/** How an agent stands, as its owner sees it. */
import { formatTimestamp, PROTOCOL_VERSION, tierName } from '../wire/index.ts'
import type { Breakers } from './breakers.ts'
import type { Core } from './core.ts'
import type { Inbox } from './inbox.ts'
import type { Keyring } from './keyring.ts'
import type { Network } from './network.ts'
import type { Notices } from './notices.ts'
import type { Outbox } from './outbox.ts'
import type { Registrar } from './registrar.ts'
import type { Successions } from './trust/successions.ts'
import type { TrustKeeper } from './trust/trust-keeper.ts'
import type { AgentStatus } from './types.ts'

export interface StatusParts {
  /** Milliseconds since the epoch. */
  readonly startedAt: number
  readonly breakers: Breakers
  readonly network: Network
  readonly registrar: Registrar
  readonly outbox: Outbox
  readonly inbox: Inbox
  readonly keyring: Keyring
  readonly notices: Notices
  readonly trust: TrustKeeper
  readonly successions: Successions
}

export function statusOf(core: Core, parts: StatusParts): AgentStatus {
  const { identity, config, store, policy } = core
  const { breakers, network, registrar, outbox, inbox, keyring, notices, trust, successions } = parts
  const { home } = network
  const { certificates, credential, problem } = trust
  const packets = outbox.counts()
  const keys = keyring.status()
  const error = policy.error()
  return {
    amid: identity.amid,
    display_name: config.display_name ?? null,
    version: PROTOCOL_VERSION,
    home: core.home.path,
    pid: process.pid,
    started_at: formatTimestamp(parts.startedAt),
    breaker: breakers.state,
    presence: breakers.offline ? 'offline' : network.presence,
    relay: {
      url: home.url ?? null,
      state: home.state,
      ...(home.reason === undefined ? {} : { reason: home.reason }),
      ...(home.error === undefined ? {} : { last_error: home.error }),
    },
    relays: home.list(),
    registry: {
      url: config.registry,
      state: registrar.state,
      ...(registrar.lastError === undefined ? {} : { last_error: registrar.lastError }),
    },
    sessions: { open: store.tables.sessions.count({ b: 'open' }), total: store.tables.sessions.count() },
    outbox: {
      queued: store.tables.outgoing.count({ b: 'queued' }),
      unacknowledged: packets.waiting + packets.relayed,
    },
    inbox: { waiting: inbox.waiting() },
    prekeys: {
      one_time_left: keys.oneTimeLeft,
      one_time_kem_left: keys.oneTimeKemLeft,
      signed_prekey_rotates_at: formatTimestamp(keys.signedPrekeyRotatesAt),
      exchange_key_rotates_at: formatTimestamp(keys.exchangeKeyRotatesAt),
    },
    trust: {
      tier: tierName(certificates?.tier ?? 2),
      ...(certificates?.displayName === undefined ? {} : { display_name: certificates.displayName }),
      ...(certificates?.organization === undefined ? {} : { organization: certificates.organization }),
      ...(certificates === undefined
        ? {}
        : { certificate_expires_at: formatTimestamp(certificates.notAfter) }),
      ...(credential === undefined ? {} : { reputation: credential.score }),
      registries: trust.list().map(({ name }) => name),
      inconsistent: core.trust.inconsistent.map(({ name }) => name),
      ...(problem === undefined ? {} : { last_error: problem }),
    },
    successors: successions.list().filter(({ state }) => state === 'offered'),
    audit: { gaps: core.trail.unacknowledged },
    policy: error === undefined ? { valid: true } : { valid: false, error },
    capabilities: config.capabilities,
    notices: [...notices.last],
  }
}

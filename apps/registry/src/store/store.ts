/**
 * What the registry keeps, behind one interface: agents with their capabilities, prekeys, and the nonces of signed
 * requests (specification §3, DESIGN §4, §8).
 *
 * A store decides nothing about trust. Signatures, tiers and limits are checked before it is called; what it owns is
 * what only a transaction can promise: a sequence that never goes back, a one-time prekey that leaves once, a nonce that
 * is new once.
 */
import type { Transaction } from 'kysely'
import type {
  Amid,
  KeyKind,
  PrekeyCounts,
  PresenceState,
  StateCounter,
  TierNumber,
} from '@agentmesh/sdk/wire'
import type { CertificatesStore } from './certificates-store.ts'
import type { AdminStore } from './admin-store.ts'
import type { RateStore } from './rates.ts'
import type { ReputationStore } from './reputation-store.ts'
import type { Tables } from './tables.ts'
import type { VerificationStore } from './verification-store.ts'
import type { AgentInput, PurgeTimes } from './agent-input.ts'
import type { TransparencyStore } from './transparency-store.ts'

export interface StoredAgent {
  readonly amid: Amid
  readonly record: string
  readonly tier: TierNumber
  readonly reputation: number
  /** What the registry verified: the name its human chose, and the organisation. */
  readonly verifiedName: string | null
  readonly organization: string | null
  /** As last reported; whether it still holds is for `effectivePresence` to say. */
  readonly presence: PresenceState
  readonly lastSeen: number
  readonly registeredAt: number
}

/** `sequence-replayed`: not newer than what is stored and not the same content either. */
export type PutOutcome = 'created' | 'updated' | 'unchanged' | 'sequence-replayed' | 'not-found' | 'full'

export interface PutRule {
  /** Whether an agent that is not stored yet is created; otherwise the outcome is `not-found`. */
  readonly create: boolean
  readonly maxAgents: number
}

/** A place in the order of search results: online first, then reputation falling, then AMID. */
export interface SearchPosition {
  readonly online: boolean
  readonly reputation: number
  readonly amid: Amid
}

export interface SearchInput {
  readonly category: string
  readonly subcategory: string | undefined
  readonly action: string | undefined
  readonly minTierRank: number
  readonly onlineOnly: boolean
  /** Agents seen before this are not found. */
  readonly seenSince: number
  /** Agents seen before this count as offline. */
  readonly onlineSince: number
  readonly after: SearchPosition | undefined
  readonly limit: number
}

export interface KeyInput {
  readonly kind: KeyKind
  readonly id: number
  readonly sequence: number
  readonly expiresAt: number
  /** Canonical JSON of the signed key as it came. */
  readonly record: string
}

export interface PrekeyInput {
  readonly signed: KeyInput
  readonly lastResort: KeyInput
  readonly oneTime: readonly KeyInput[]
  /** Kept where it is higher than the one there. */
  readonly stateCounter?: StateCounter
}

export type PrekeyOutcome =
  | { readonly outcome: 'stored'; readonly counts: PrekeyCounts }
  | { readonly outcome: 'sequence-replayed' | 'not-found' }

/** The JSON texts a bundle is made of. */
export interface StoredBundle {
  readonly record: string
  readonly signedPrekey: string
  readonly oneTimePrekey: string | undefined
  readonly kemPrekey: string
}

export interface SignedVisit {
  readonly amid: Amid
  /** Names the nonce; at most 64 characters of ASCII. */
  readonly nonce: string
  readonly expiresAt: number
  readonly now: number
}

export interface Store {
  readonly certificates: CertificatesStore
  readonly verification: VerificationStore
  readonly transparency: TransparencyStore
  readonly reputation: ReputationStore
  readonly admin: AdminStore
  readonly rates: RateStore

  /** Rejects when the database does not answer. */
  ping(): Promise<void>

  /**
   * Runs `work` in one transaction: what it throws undoes everything. It must begin with a write, and ask the database
   * through `tx` only. It may run more than once, when the database undid it to end a deadlock. Errors of ours pass as
   * they are.
   */
  transaction<T>(operation: string, work: (tx: Transaction<Tables>) => Promise<T>): Promise<T>

  /**
   * Remembers the nonce of a signed request until `expiresAt` and notes the sign of life.
   * False when the nonce was used before: the request is a replay.
   */
  admit(visit: SignedVisit): Promise<boolean>

  putAgent(agent: AgentInput, rule: PutRule, now: number): Promise<PutOutcome>
  getAgent(amid: Amid): Promise<StoredAgent | undefined>
  /** Removes the agent and its prekeys. False when there was none. */
  deleteAgent(amid: Amid): Promise<boolean>
  setPresence(amid: Amid, state: PresenceState): Promise<boolean>
  search(input: SearchInput): Promise<StoredAgent[]>
  countAgents(): Promise<number>

  /**
   * Replaces the signed and the last-resort prekey and adds one-time ones, of which the newest `maxOneTime` of each kind
   * stay. A one-time id that was stored before is passed over, so that a repeated upload revives no key already given
   * out. All or nothing.
   */
  putPrekeys(amid: Amid, prekeys: PrekeyInput, maxOneTime: number): Promise<PrekeyOutcome>
  /** One-time keys left that are in date at `now`. */
  countPrekeys(amid: Amid, now: number): Promise<PrekeyCounts>
  /**
   * The bundle of an agent whose signed prekey is in date. With `oneTime`, takes one key of each one-time kind away for
   * good; no two calls ever get the same one.
   */
  takeBundle(amid: Amid, oneTime: boolean, now: number, leave?: number): Promise<StoredBundle | undefined>

  /** Does `work`, unless another registry on the database is doing it; false then. */
  alone(work: () => Promise<void>): Promise<boolean>

  /** Removes expired nonces and one-time keys and agents not seen for long, and keeps the search of the others short. */
  purge(times: PurgeTimes): Promise<void>
  close(): Promise<void>
}

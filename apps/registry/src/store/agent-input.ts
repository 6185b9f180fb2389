/** What the store is given about agents. */
import type { Amid, PresenceState } from '@agentmesh/sdk/wire'

/** An agent's signed record as it came, and the columns searched by. Times are milliseconds since the epoch. */
export interface AgentInput {
  readonly amid: Amid
  /** Canonical JSON of what the agent signed, unknown fields included. */
  readonly record: string
  readonly sequence: number
  readonly exchangeKey: string
  readonly exchangeSequence: number
  /** Named in the record; the first one ever named is the one that counts. */
  readonly recoveryKey: string | undefined
  /** Undefined keeps what presence the agent has (offline when it is new). */
  readonly presence: PresenceState | undefined
  readonly capabilities: readonly CapabilityRow[]
}

/** One searchable offer. Empty text stands for "none named". */
export interface CapabilityRow {
  readonly category: string
  readonly subcategory: string
  readonly action: string
}

/** Milliseconds since the epoch. */
export interface PurgeTimes {
  readonly now: number
  /** No search that may still be continued counts an agent as online that was not seen since, */
  readonly lapsedBefore: number
  /** or finds one that was not seen since. */
  readonly dormantBefore: number
  /** Agents not seen since are removed; no later than `dormantBefore`. */
  readonly forgetBefore: number
}

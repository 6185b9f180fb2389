/**
 * What every way to carry packets offers the layers above (specification §4, DESIGN §6). Delivery is at least once and
 * keeps the order of each pair of agents; the receiver's duplicate filter makes it once. `tests/e2e/relay-transport.test.ts`
 * is the contract, run on each implementation.
 */
import type {
  AgentMeshError,
  Amid,
  ErrorCode,
  MessageId,
  MessageType,
  PresenceState,
  SentStatus,
} from '../wire/index.ts'

export interface OutgoingMessage {
  /** Names the message for good: sent again under the same id it is the same message. */
  readonly id: MessageId
  readonly to: Amid
  readonly type: MessageType
  readonly payload: Uint8Array
}

/** `delivered`: the receiver acknowledged it; `stored`: on disk for it; `refused`: with `code`. */
export interface SentResult {
  readonly status: SentStatus
  readonly code?: ErrorCode
  readonly retryAfterSeconds?: number
}

export interface ReceivedMessage {
  /** Authenticated by the relay; the layers above check it again. */
  readonly from: Amid
  readonly type: MessageType
  /** When the relay took it, milliseconds since the epoch. */
  readonly timestamp: number
  readonly payload: Uint8Array
  /** To be called once it is on disk, or is to be dropped for good; in any order. What is not acknowledged comes again. */
  ack(): void
}

/**
 *     closed --connect()--> connecting --CONNECTED--> connected
 *                              ^  |                      |
 *                         timer|  |refused, unreachable  |ended
 *                              |  v                      |
 *                             waiting <------------------+
 *
 *     connected --another connection of this AMID--> replaced --connect()--> connecting
 *     any state --close()--> closed
 */
export type TransportState = 'connecting' | 'connected' | 'waiting' | 'replaced' | 'closed'

export interface TransportEvents {
  onReceive(message: ReceivedMessage): void
  /** `error`: why it is `waiting` or `replaced`. */
  onState(state: TransportState, error?: AgentMeshError): void
}

/** By what a relay can tell us that our state is an older copy of itself (spec/relay.md 2). */
export interface StateClaim {
  /** The highest number this state has told anybody. */
  readonly counter: number
  /**
   * Asked at each CONNECTED, before anything is received.
   *
   * @param seen the highest that the relay had seen of us
   * @returns whether this state may go on; else the connection ends with STATE_BEHIND
   */
  admits(seen: number): boolean
}

/** Of what keeps no state. */
export const NO_STATE: StateClaim = { counter: 0, admits: () => true }

export interface Transport {
  readonly state: TransportState
  /** Resolves when connected for the first time; rejects when closed or replaced before. Failures are tried again. */
  connect(): Promise<void>
  /** @throws RELAY_DISCONNECTED when not connected, or no longer, before the answer: send again under the same id */
  send(message: OutgoingMessage): Promise<SentResult>
  setPresence(state: PresenceState): void
  /** @throws RATE_LIMITED, RELAY_DISCONNECTED */
  queryPresence(amid: Amid): Promise<PresenceState>
  close(): Promise<void>
}

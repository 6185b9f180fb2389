/**
 * What the parts of an agent share: its identity, its store, and everything the outside world gives them (clock,
 * randomness, registry). The parts are `outbox` (bytes to relays), `initiator` and `responder` (KNOCKs), `outgoing` and
 * `inbox` (messages of the application), `keyring` (exchange keys and prekeys); `agent.ts` joins them.
 */
import type { EventEmitter } from 'node:events'
import type { Home, HomeIdentity } from '../identity/index.ts'
import type { SchemaBook } from '../messages/index.ts'
import type { AuditEventName, AuditFields, AuditLog } from '../observability/index.ts'
import {
  formatTimestamp,
  isAgentMeshError,
  type AgentMeshError,
  type Amid,
  type MessageId,
  type SessionId,
} from '../wire/index.ts'
import type { AuditTrail } from './audit-trail.ts'
import type { Config } from './config.ts'
import type { PolicyFile } from './policy-file.ts'
import type { Registries } from './trust/registries.ts'
import type { StateCounter } from './state-counter.ts'
import type { StateStore } from './store/index.ts'
import type { OutgoingRow, TABLES } from './tables.ts'
import type { TrustFile } from './trust/trust-file.ts'
import type { BreakerState, ConversationMessage, DecisionRecord, Notice, ProgressEvent } from './types.ts'

export interface AgentEvents {
  /** An outgoing message came one stage further. */
  progress: [id: MessageId, event: ProgressEvent]
  /** A message of a session, either direction, in the order the application is to see it. */
  message: [message: ConversationMessage]
  session: [event: { session_id: SessionId; peer: Amid; state: 'open' | 'closed' }]
  knock: [decision: DecisionRecord]
  /** A packet was not taken: forged, changed, repeated, or not for us. */
  refused: [refusal: { from: Amid; code: string }]
  /** Something an owner asked to be told (policy `notify_owner`), or should know. */
  notice: [notice: Notice]
  breaker: [state: BreakerState]
  /** The agent cannot go on; whoever runs it closes it and may open it again. */
  fatal: [error: AgentMeshError]
  /** Registry or relay came or went: look at `status()`. */
  connection: []
}

export type AgentStore = StateStore<typeof TABLES>

export interface Core {
  readonly home: Home
  readonly identity: HomeIdentity
  readonly config: Config
  readonly store: AgentStore
  /** How far the state is, and whether another one was further. */
  readonly state: StateCounter
  readonly audit: AuditLog
  /** What is remembered of it. */
  readonly trail: AuditTrail
  readonly policy: PolicyFile
  readonly schemas: SchemaBook
  readonly registries: Registries
  readonly trust: TrustFile
  readonly events: EventEmitter<AgentEvents>
  readonly random: (length: number) => Uint8Array
  /** Milliseconds since the epoch. */
  readonly now: () => number
  /** What was signed before this time may have been handed over in an earlier run. Milliseconds since the epoch. */
  readonly startedAt: number
}

const MAX_PROGRESS_EVENTS = 64

/** Whether strangers may not take this peer's place in a budget: the owner listed it, or a session with it is kept. */
export function isKnownPeer(core: Core, peer: Amid): boolean {
  if (core.policy.current().allowlist.includes(peer)) return true
  return core.store.tables.sessions.count({ a: peer }) > 0
}

/** Whether it was the owner's side that chose this peer: it is listed, or was knocked at. Nobody can bring this about for itself. */
export function isChosenPeer(core: Core, peer: Amid): boolean {
  return core.policy.current().allowlist.includes(peer) || core.store.tables.contacts.get(peer) !== undefined
}

/** Adds a stage to an outgoing row and tells listeners once the row is safe; call within a commit that puts the row. */
export function noteProgress(
  core: Core,
  row: OutgoingRow,
  event: Omit<ProgressEvent, 'at'>,
  afterCommit: (() => void)[],
): OutgoingRow {
  const stamped: ProgressEvent = { ...event, at: formatTimestamp(core.now()) }
  // A chatty peer's status updates push out older ones, never the stages.
  const progress = [...row.progress, stamped]
  if (progress.length > MAX_PROGRESS_EVENTS) {
    progress.splice(
      Math.max(
        0,
        progress.findIndex((known) => known.stage === 'status'),
      ),
      1,
    )
  }
  afterCommit.push(() => core.events.emit('progress', row.id, stamped))
  return { ...row, progress }
}

/**
 * Whether something that was put off to `at`, by `period` at most, is due: a clock that jumped ahead and back does not put
 * it off for longer. All in milliseconds.
 */
export function isDue(at: number, period: number, now: number): boolean {
  return now >= at || at > now + period
}

/** Runs `work` in one durable commit, then what it left to do once the commit is on disk. */
export async function commit<T>(core: Core, work: (afterCommit: (() => void)[]) => T): Promise<T> {
  const afterCommit: (() => void)[] = []
  const result = await core.store.commit(() => work(afterCommit))
  for (const effect of afterCommit) effect()
  return result
}

/** By which of the owner's hands something was done. */
export type Actor = AuditFields['breaker']['by']

/** An audit event without its time, which is now. */
type AuditNote = { [K in AuditEventName]: { event: K } & AuditFields[K] }[AuditEventName]

/** Writes to the audit log: at once, or with `afterCommit` once the change it tells of is on disk. */
export function audit(core: Core, note: AuditNote, afterCommit?: (() => void)[]): void {
  const event = { ...note, ts: formatTimestamp(core.now()) }
  if (afterCommit) afterCommit.push(() => core.audit.append(event))
  else core.audit.append(event)
}

/**
 * Runs what nobody waits for. A failure of ours (a full disk, say) is recorded and told to the owner; any other is a
 * mistake in the code and ends the process.
 */
export function background(core: Core, operation: string, work: Promise<unknown>): void {
  work.catch((error: unknown) => {
    if (!isAgentMeshError(error)) throw error
    const { code, message } = error
    // The agent was closed meanwhile. What was not committed is on disk as it was before.
    if (code === 'STATE_CLOSED' || code === 'AUDIT_WRITE_FAILED') return
    audit(core, { event: 'agent_error', code, operation, detail: message })
    core.events.emit('notice', {
      at: formatTimestamp(core.now()),
      about: operation,
      text: `${code}: ${message}`,
    })
    if (core.store.lost) core.events.emit('fatal', core.store.lost)
  })
}

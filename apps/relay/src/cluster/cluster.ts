/**
 * This relay among the others of its service (DESIGN §6): who is connected where, and messages to and from there.
 *
 *   SEND here, receiver at B --> FORWARD to B --> B delivers or stores it --> OUTCOMES back --> SENT
 *                                    |
 *                                    '--> B is absent, silent, or the link is down: stored here, in the mailbox all share
 *   stored, receiver not here --> MAIL to all: who has the receiver looks into its mailbox
 *
 * The relay that took a message keeps it until its outcome is known, so losing a relay, NATS, or any message on NATS costs a
 * write to the mailbox, never the message. A message may come twice that way; the receiver's filter takes it once. Every
 * two seconds each relay asks the database who got mail, which finds what was never heard on NATS.
 *
 * Whose connection is newer keeps an agent that is connected to two relays; the other one is told CONNECTION_REPLACED.
 */
import { isAgentMeshError, type Amid, type PresenceState, type RelayFrame } from '@agentmesh/sdk/wire'
import type { RandomBytes } from '@agentmesh/sdk/crypto/signing'
import type { Counters } from '../counters.ts'
import type { AmidMemo } from '../in-place/amid-memo.ts'
import type { RelayLogger } from '../logger.ts'
import type { Mailbox, MailboxMessage } from '../mailbox.ts'
import type { Outlet, Peers } from '../outlet.ts'
import { TurnEnd } from '../turn.ts'
import {
  decodeClusterMessage,
  encodeClusterMessage,
  FORWARD_BATCH_BYTES,
  MAX_ITEMS,
  newInstanceId,
  type ClusterMessage,
  type ForwardedMessage,
  type InstanceId,
  type Outcome,
  type PresenceChange,
} from './cluster-wire.ts'
import { Forwards, type Forward, type ForwardLimits } from './forwards.ts'
import type { ClusterLink, OpenLink } from './link.ts'
import { OwnPresence, PresenceDirectory, PROBE_MS, SILENT_MS } from './presence-directory.ts'

/** Of one that is alive, an outcome comes within a receiver's commit; after so long the message is stored here. */
const OUTCOME_MS = 3_000
const POLL_TICKS = 2

/** What the cluster asks of this relay's router. */
export interface LocalRouter {
  take(message: MailboxMessage, sender: Outlet): void
  replaced(amid: Amid): void
  mailArrived(amid: Amid): void
  /** An agent gets its mail from the relay it has connected to. */
  fetched(amid: Amid): void
}

export interface ClusterParts {
  readonly openLink: OpenLink
  readonly mailbox: Pick<Mailbox, 'recipientsSince'>
  readonly limits: ForwardLimits
  readonly counters: Counters
  readonly logger: RelayLogger
  readonly now: () => number
  readonly random: RandomBytes
  readonly amids: AmidMemo
}

/** Everything that goes out at the end of a turn. */
interface Outbox {
  readonly mail: Set<Amid>
  readonly forwards: Map<InstanceId, ForwardedMessage[]>
  readonly outcomes: Map<InstanceId, Outcome[]>
}

export class Cluster implements Peers {
  readonly instance: InstanceId
  readonly #parts: ClusterParts
  readonly #directory = new PresenceDirectory()
  readonly #own = new OwnPresence()
  readonly #forwards: Forwards
  readonly #turnEnd = new TurnEnd(() => this.#flush())
  #outbox: Outbox = emptyOutbox()
  #router!: LocalRouter
  #link!: ClusterLink
  #snapshot: { readonly sequence: number; readonly parts: readonly Uint8Array[] } | undefined
  #leaving = false
  #ticks = 0
  #polling = false
  #mark: string | undefined

  constructor(parts: ClusterParts) {
    this.#parts = parts
    this.instance = newInstanceId(parts.random)
    this.#forwards = new Forwards(parts.limits)
  }

  /** Before anything else is called. */
  start(router: LocalRouter): void {
    this.#router = router
    this.#link = this.#parts.openLink(this.instance, {
      onUp: () => this.#up(),
      onDown: () => this.#down(),
      onMessage: (data) => this.#read(data),
      onAbsent: (instance) => this.#lost(instance),
    })
    void this.#poll()
  }

  get linked(): boolean {
    return this.#link.up
  }
  /** Other relays heard of lately. */
  get relays(): number {
    return this.#directory.size
  }
  /** Messages other relays have not answered for. */
  get waiting(): number {
    return this.#forwards.size
  }

  // --- what the router says and asks ------------------------------------------------------------------------------------

  attached(amid: Amid, presence: PresenceState): void {
    // Newer than the one it replaces, also by a clock that is behind that relay's.
    const earlier = this.#directory.find(amid)?.since ?? 0
    this.#own.set({ amid, presence, since: Math.max(this.#parts.now(), earlier + 1) })
    this.#turnEnd.schedule()
  }

  presenceChanged(amid: Amid, presence: PresenceState): void {
    const agent = this.#own.get(amid)
    if (agent === undefined || agent.presence === presence) return
    this.#own.set({ ...agent, presence })
    this.#turnEnd.schedule()
  }

  detached(amid: Amid): void {
    this.#own.delete(amid)
    this.#turnEnd.schedule()
  }

  presenceOf(amid: Amid): PresenceState | undefined {
    return this.#directory.find(amid)?.presence
  }

  forward(message: MailboxMessage, sender: Outlet): boolean {
    if (!this.#link.up || this.#leaving) return false
    const earlier = this.#forwards.find(message)
    if (earlier !== undefined) {
      earlier.sender = sender
      return true
    }
    const there = this.#directory.find(message.to)
    if (there === undefined) return false
    const forward = this.#forwards.add(there.instance, message, sender, this.#parts.now())
    if (forward === undefined) return false
    this.#parts.counters.forwarded += 1
    push(this.#outbox.forwards, there.instance, forward)
    this.#turnEnd.schedule()
    return true
  }

  mailStored(to: Amid): void {
    this.#outbox.mail.add(to)
    this.#turnEnd.schedule()
  }

  // --- what goes out ----------------------------------------------------------------------------------------------------

  /** Mail before messages: a receiver's relay then puts what is forwarded behind what was stored before it. */
  #flush(): void {
    const { mail, forwards, outcomes } = this.#outbox
    this.#outbox = emptyOutbox()
    this.#tellChanges()
    for (const recipients of chunks([...mail])) this.#broadcast('mail', { kind: 'mail', recipients })
    for (const [instance, messages] of forwards) {
      for (const batch of batches(messages)) this.#tell(instance, { kind: 'forward', messages: batch })
    }
    for (const [instance, all] of outcomes) {
      for (const batch of chunks(all)) this.#tell(instance, { kind: 'outcomes', outcomes: batch })
    }
  }

  /** They are numbered also while the link is down, so that what others missed shows as a gap. */
  #tellChanges(): void {
    for (const { sequence, changes } of this.#own.takeChanges()) {
      this.#broadcast('presence', { kind: 'presence', sequence, changes })
    }
  }

  #broadcast(topic: 'presence' | 'mail', message: Body): void {
    this.#link.broadcast(topic, encodeClusterMessage({ ...message, from: this.instance }, this.#parts.amids))
  }

  #tell(instance: InstanceId, message: Body): void {
    this.#link.tell(instance, encodeClusterMessage({ ...message, from: this.instance }, this.#parts.amids))
  }

  #heartbeat(): void {
    this.#tellChanges()
    this.#broadcast('presence', { kind: 'presence', sequence: this.#own.sequence, changes: [] })
  }

  /** Written once for all who ask at a time, as they do when NATS has come back. */
  #tellSnapshot(instance: InstanceId): void {
    this.#tellChanges()
    const { sequence } = this.#own
    if (this.#snapshot?.sequence !== sequence) {
      const parts = this.#own
        .snapshot()
        .map((part) =>
          encodeClusterMessage({ kind: 'snapshot', ...part, from: this.instance }, this.#parts.amids),
        )
      this.#snapshot = { sequence, parts }
    }
    for (const part of this.#snapshot.parts) this.#link.tell(instance, part)
  }

  // --- what comes in ----------------------------------------------------------------------------------------------------

  #read(data: Uint8Array): void {
    let message: ClusterMessage
    try {
      message = decodeClusterMessage(data, this.#parts.amids)
    } catch (error) {
      if (!isAgentMeshError(error)) throw error
      this.#parts.counters.clusterMessagesRefused += 1
      return
    }
    if (message.from !== this.instance) this.#take(message)
  }

  #take(message: ClusterMessage): void {
    const { from } = message
    switch (message.kind) {
      case 'presence': {
        const { sequence, changes } = message
        const wanted = this.#directory.change(from, sequence, changes, this.#parts.now())
        if (wanted === 'ask') this.#tell(from, { kind: 'snapshot-ask' })
        return this.#giveUpReplaced(from, changes)
      }
      case 'leave':
        return this.#lost(from)
      case 'snapshot-ask':
        return this.#tellSnapshot(from)
      case 'snapshot':
        return this.#giveUpReplaced(from, this.#directory.snapshot(from, message) ?? [])
      case 'forward':
        for (const { number, message: each } of message.messages) {
          this.#router.take(each, this.#remoteSender(from, number, each.from))
        }
        return
      case 'outcomes':
        for (const outcome of message.outcomes) this.#settle(from, outcome)
        return
      case 'mail':
        for (const amid of message.recipients) this.#router.mailArrived(amid)
        return
      case 'probe':
    }
  }

  /** Our own connections of agents that are connected there, later. */
  #giveUpReplaced(there: InstanceId, agents: readonly PresenceChange[]): void {
    for (const { amid, presence, since } of agents) {
      if (presence !== undefined) this.#router.fetched(amid)
      const here = this.#own.get(amid)
      if (here === undefined || presence === undefined) continue
      if (since > here.since || (since === here.since && there > this.instance)) this.#router.replaced(amid)
    }
  }

  /** The sender of a forwarded message, for the router: what it is told goes back to the relay that forwarded it. */
  #remoteSender(instance: InstanceId, number: number, amid: Amid): Outlet {
    return {
      amid,
      origin: undefined,
      deliver: (frame: RelayFrame) => {
        if (frame.frame !== 'SENT') return
        const { status, code, retryAfterSeconds } = frame
        push(this.#outbox.outcomes, instance, {
          number,
          status,
          ...(code === undefined ? {} : { code }),
          ...(retryAfterSeconds === undefined ? {} : { retryAfterSeconds }),
        })
        this.#turnEnd.schedule()
      },
      cut: () => {},
    }
  }

  #settle(instance: InstanceId, { number, ...outcome }: Outcome): void {
    const forward = this.#forwards.take(instance, number)
    forward?.sender.deliver({ frame: 'SENT', id: forward.message.id, ...outcome })
  }

  // --- what fails -------------------------------------------------------------------------------------------------------

  #takeBack(forwards: readonly Forward[]): void {
    for (const { message, sender } of forwards) {
      this.#parts.counters.forwardsReturned += 1
      this.#router.take(message, sender)
    }
  }

  #lost(instance: InstanceId): void {
    if (this.#directory.forget(instance))
      this.#parts.logger.warn({ instance }, 'relay of the cluster is gone')
    this.#outbox.forwards.delete(instance)
    this.#takeBack(this.#forwards.takeAll(instance))
  }

  #up(): void {
    this.#parts.logger.info({ instance: this.instance }, 'connected to NATS')
    this.#heartbeat()
    void this.#poll()
  }

  #down(): void {
    this.#parts.logger.warn({ instance: this.instance }, 'NATS is away: agents of other relays are offline')
    this.#directory.clear()
    this.#outbox.forwards.clear()
    this.#takeBack(this.#forwards.takeAll())
  }

  // --- time and the end -------------------------------------------------------------------------------------------------

  /** Every second. */
  tick(): void {
    const now = this.#parts.now()
    this.#heartbeat()
    for (const instance of this.#directory.silent(now, SILENT_MS)) this.#lost(instance)
    for (const instance of this.#directory.silent(now, PROBE_MS)) this.#tell(instance, { kind: 'probe' })
    this.#takeBack(this.#forwards.takeOlder(now - OUTCOME_MS))
    this.#ticks += 1
    if (this.#ticks % POLL_TICKS === 0) void this.#poll()
  }

  async #poll(): Promise<void> {
    if (this.#polling) return
    this.#polling = true
    try {
      const found = await this.#parts.mailbox.recipientsSince?.(this.#mark)
      this.#mark = found?.mark
      for (const amid of found?.recipients ?? []) this.#router.mailArrived(amid)
    } catch (error) {
      this.#parts.logger.error({ err: error }, 'not known who got mail')
    } finally {
      this.#polling = false
    }
  }

  /** Nothing is forwarded any more; what other relays have not answered for is stored here. */
  settle(): void {
    this.#leaving = true
    this.#takeBack(this.#forwards.takeAll())
  }

  /** When the router has stopped: the other relays are told so. */
  async close(): Promise<void> {
    this.#turnEnd.runNow()
    this.#broadcast('presence', { kind: 'leave' })
    await this.#link.close()
  }
}

/** A message without its sender. */
type Body = ClusterMessage extends infer Each ? (Each extends unknown ? Omit<Each, 'from'> : never) : never

function emptyOutbox(): Outbox {
  return { mail: new Set(), forwards: new Map(), outcomes: new Map() }
}

function push<K, V>(lists: Map<K, V[]>, key: K, value: V): void {
  const list = lists.get(key)
  if (list === undefined) lists.set(key, [value])
  else list.push(value)
}

function chunks<T>(items: readonly T[]): T[][] {
  const parts: T[][] = []
  for (let start = 0; start < items.length; start += MAX_ITEMS)
    parts.push(items.slice(start, start + MAX_ITEMS))
  return parts
}

function batches(messages: readonly ForwardedMessage[]): ForwardedMessage[][] {
  const all: ForwardedMessage[][] = []
  let batch: ForwardedMessage[] = []
  let bytes = 0
  for (const each of messages) {
    const size = each.message.payload.length
    if (batch.length > 0 && (bytes + size > FORWARD_BATCH_BYTES || batch.length >= MAX_ITEMS)) {
      all.push(batch)
      batch = []
      bytes = 0
    }
    batch.push(each)
    bytes += size
  }
  if (batch.length > 0) all.push(batch)
  return all
}

/**
 * Who is connected to which of the other relays, put together from what those say, in whatever way NATS loses, repeats or
 * swaps it.
 *
 * Each relay numbers its changes from 1 and says the latest number in every heartbeat. A number that leaves one out means
 * that something was lost: what came is believed, and the whole is asked for. A snapshot carries the number it was taken at
 * and replaces all that was known up to there. Old numbers change nothing.
 */
import type { Amid, PresenceState } from '@agentmesh/sdk/wire'
import {
  MAX_ITEMS,
  MAX_SNAPSHOT_PARTS,
  type InstanceId,
  type PresenceChange,
  type PresentAgent,
} from './cluster-wire.ts'

/** So long after the last word of a relay NATS is asked whether it is there; and so long after, it is not. */
export const PROBE_MS = 1_500
export const SILENT_MS = 5_000
/** A snapshot is asked for again when it has not come. */
const ASK_AGAIN_MS = 1_000
const MAX_INSTANCES = 256
const MAX_AGENTS = MAX_ITEMS * MAX_SNAPSHOT_PARTS

export interface Whereabouts {
  readonly instance: InstanceId
  readonly presence: PresenceState
  readonly since: number
}

export interface SnapshotPart {
  readonly sequence: number
  readonly part: number
  readonly parts: number
  readonly agents: readonly PresentAgent[]
}

interface OtherRelay {
  readonly agents: Map<Amid, PresentAgent>
  /** The latest number heard. */
  sequence: number
  /** Nothing up to that number is missing. */
  whole: boolean
  heardAt: number
  askedAt: number
  /** Parts of a snapshot that is not complete. */
  collected: { readonly sequence: number; readonly parts: Map<number, readonly PresentAgent[]> } | undefined
}

export class PresenceDirectory {
  readonly #relays = new Map<InstanceId, OtherRelay>()

  /** Relays heard of lately. */
  get size(): number {
    return this.#relays.size
  }

  /** Where an agent connected last. */
  find(amid: Amid): Whereabouts | undefined {
    let latest: Whereabouts | undefined
    for (const [instance, { agents }] of this.#relays) {
      const agent = agents.get(amid)
      if (agent === undefined) continue
      const { presence, since } = agent
      if (latest === undefined || since > latest.since) latest = { instance, presence, since }
    }
    return latest
  }

  /**
   * Changes, or none: a heartbeat.
   *
   * @returns whether to ask for a snapshot; the caller then does
   */
  change(
    instance: InstanceId,
    sequence: number,
    changes: readonly PresenceChange[],
    now: number,
  ): 'ask' | undefined {
    const relay = this.#relays.get(instance) ?? this.#add(instance)
    if (relay === undefined) return undefined
    relay.heardAt = now
    const expected = changes.length === 0 ? relay.sequence : relay.sequence + 1
    if (sequence > expected) relay.whole = false
    if (sequence > relay.sequence) {
      relay.sequence = sequence
      for (const change of changes) apply(relay.agents, change)
    }
    return ask(relay, now)
  }

  /**
   * @returns the agents of a snapshot that is complete and was taken over
   */
  snapshot(
    instance: InstanceId,
    { sequence, part, parts, agents }: SnapshotPart,
  ): readonly PresentAgent[] | undefined {
    const relay = this.#relays.get(instance)
    // Older than what is known: the next heartbeat asks again where something is missing.
    if (relay === undefined || sequence < relay.sequence) return undefined
    if (relay.collected?.sequence !== sequence) relay.collected = { sequence, parts: new Map() }
    relay.collected.parts.set(part, agents)
    if (relay.collected.parts.size < parts) return undefined
    const all = [...relay.collected.parts.values()].flat()
    relay.collected = undefined
    relay.agents.clear()
    for (const agent of all) relay.agents.set(agent.amid, agent)
    relay.sequence = sequence
    relay.whole = true
    return all
  }

  /** @returns whether it was known */
  forget(instance: InstanceId): boolean {
    return this.#relays.delete(instance)
  }

  /** Of which nothing was heard for longer than that. */
  silent(now: number, ms: number): InstanceId[] {
    return [...this.#relays].filter(([, { heardAt }]) => now - heardAt > ms).map(([id]) => id)
  }

  clear(): void {
    this.#relays.clear()
  }

  #add(instance: InstanceId): OtherRelay | undefined {
    if (this.#relays.size >= MAX_INSTANCES) return undefined
    const relay: OtherRelay = {
      agents: new Map(),
      sequence: 0,
      whole: false,
      heardAt: 0,
      askedAt: Number.NEGATIVE_INFINITY,
      collected: undefined,
    }
    this.#relays.set(instance, relay)
    return relay
  }
}

function apply(agents: Map<Amid, PresentAgent>, { amid, presence, since }: PresenceChange): void {
  if (presence === undefined) agents.delete(amid)
  else if (agents.size < MAX_AGENTS || agents.has(amid)) agents.set(amid, { amid, presence, since })
}

function ask(relay: OtherRelay, now: number): 'ask' | undefined {
  if (relay.whole || now - relay.askedAt < ASK_AGAIN_MS) return undefined
  relay.askedAt = now
  return 'ask'
}

/**
 * Who is connected here, as the other relays are told: changes collected and numbered, or all of it.
 */
export class OwnPresence {
  readonly #agents = new Map<Amid, PresentAgent>()
  /** The last word on each agent that changed; one message says both that it came and went. */
  #changed = new Map<Amid, PresenceChange>()
  #sequence = 0

  /** Of the last change that was taken to be told. */
  get sequence(): number {
    return this.#sequence
  }

  get(amid: Amid): PresentAgent | undefined {
    return this.#agents.get(amid)
  }

  set(agent: PresentAgent): void {
    this.#agents.set(agent.amid, agent)
    this.#changed.set(agent.amid, agent)
  }

  delete(amid: Amid): void {
    const agent = this.#agents.get(amid)
    if (agent === undefined) return
    this.#agents.delete(amid)
    this.#changed.set(amid, { ...agent, presence: undefined })
  }

  /** Messages about what changed since the last call. */
  takeChanges(): { readonly sequence: number; readonly changes: readonly PresenceChange[] }[] {
    const all = [...this.#changed.values()]
    this.#changed = new Map()
    return chunks(all).map((changes) => ({ sequence: ++this.#sequence, changes }))
  }

  /** After `takeChanges`: everybody, in at least one part. */
  snapshot(): SnapshotPart[] {
    const parts = this.#agents.size === 0 ? [[]] : chunks([...this.#agents.values()])
    return parts.map((agents, part) => ({ sequence: this.#sequence, part, parts: parts.length, agents }))
  }
}

function chunks<T>(items: readonly T[]): T[][] {
  const parts: T[][] = []
  for (let start = 0; start < items.length; start += MAX_ITEMS)
    parts.push(items.slice(start, start + MAX_ITEMS))
  return parts
}

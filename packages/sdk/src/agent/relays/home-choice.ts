/**
 * Which relay of the owner's list is the home: the nearest that can be reached, and no other for a small gain. A pure
 * function of what was measured and what failed; `home-relay.ts` does the measuring and the moving.
 *
 *   reachable ones: the nearest, those that were never measured last, in the owner's order
 *   the home is one of them: it stays unless another is clearly nearer
 *   none is reachable: the home stays, and is dialled on
 */

/** A relay of the list, as far as it is known. */
export interface RelayView {
  readonly url: string
  /** Milliseconds to its HELLO when last measured; absent when it was not, or could not be reached. */
  latency?: number
  /** How often in a row it failed as home. */
  failures: number
  /** Until when it is passed over, milliseconds since the epoch. */
  downUntil: number
}

export type HomeReason = 'only' | 'nearest' | 'near_enough' | 'fallback' | 'last_resort'

/** One relay of the list, as the owner sees it. */
export interface RelayStanding {
  url: string
  home: boolean
  /** Milliseconds to its HELLO; null when it was not measured or could not be reached. */
  latency_ms: number | null
  /** Passed over for now, because it failed as home. */
  down: boolean
}

export interface HomeChoice {
  readonly url: string
  readonly reason: HomeReason
}

const FIRST_DOWN_MS = 30_000
const MAX_DOWN_MS = 600_000
/** A move costs a connection, a record and every sender's next look-up. */
const CLEAR_GAIN = 0.7
const CLEAR_GAIN_MS = 20

/** @param relays in the owner's order, at least one */
export function chooseHome(relays: readonly RelayView[], home: string | undefined, now: number): HomeChoice {
  const [first] = relays
  if (first === undefined) throw new RangeError('no relay to choose from')
  if (relays.length === 1) return { url: first.url, reason: 'only' }
  const byLatency = relays.toSorted((left, right) => latencyOf(left) - latencyOf(right))
  const reachable = byLatency.filter((relay) => !isDown(relay, now))
  const [nearest] = reachable
  if (nearest === undefined) {
    const soonest = relays.toSorted((left, right) => left.downUntil - right.downUntil)[0] ?? first
    return { url: home ?? soonest.url, reason: 'last_resort' }
  }
  const current = reachable.find(({ url }) => url === home)
  if (current !== undefined && current !== nearest && !isClearGain(nearest, current)) {
    return { url: current.url, reason: 'near_enough' }
  }
  // One that is passed over for its failures would be nearer.
  return { url: nearest.url, reason: byLatency[0] === nearest ? 'nearest' : 'fallback' }
}

function latencyOf({ latency }: RelayView): number {
  return latency ?? Number.MAX_VALUE
}

/** Put off for longer than ever, it was by a clock that was wrong. */
function isDown({ downUntil }: RelayView, now: number): boolean {
  return downUntil > now && downUntil <= now + MAX_DOWN_MS
}

function isClearGain(nearest: RelayView, current: RelayView): boolean {
  if (nearest.latency === undefined || current.latency === undefined) return false
  const gain = current.latency - nearest.latency
  return gain >= CLEAR_GAIN_MS && nearest.latency <= current.latency * CLEAR_GAIN
}

/** It failed as home: passed over for a while, each time for longer. */
export function noteFailure(relay: RelayView, now: number): void {
  relay.downUntil = now + Math.min(FIRST_DOWN_MS * 2 ** relay.failures, MAX_DOWN_MS)
  relay.failures += 1
}

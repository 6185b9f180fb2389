/**
 * Agents are told to go a portion at a time, evenly over the time there is: told all at once, all of them would fall on the next
 * relay at once. Those told first were connected first.
 * At least ten go each second.
 */
import type { Connection } from './connection.ts'

const STEP_MS = 100

export interface Draining {
  /** Loses what is cut. */
  readonly connections: ReadonlySet<Connection>
  readonly seconds: number
  /** Whether somebody has lost patience. */
  readonly stopped: () => boolean
}

/** Resolves when all are told. */
export async function drainInPortions({ connections, seconds, stopped }: Draining): Promise<void> {
  const waiting = [...connections]
  // One at least each time: a relay of few agents has not to wait for its own patience.
  for (let steps = Math.min(waiting.length, (seconds * 1000) / STEP_MS); waiting.length > 0; steps--) {
    const portion = waiting.splice(0, Math.ceil(waiting.length / Math.max(1, steps)))
    // Not before the others are gone, or this relay would have them again.
    const retrySeconds = Math.max(1, Math.ceil((steps * STEP_MS) / 1000))
    for (const connection of portion) connection.cut('RELAY_SHUTTING_DOWN', retrySeconds)
    if (waiting.length === 0 || stopped()) return
    await new Promise((resolve) => setTimeout(resolve, STEP_MS))
    if (stopped()) return
  }
}

/**
 * Whose request the application works on next. Peers take turns, each with its oldest request first, and one peer has at
 * most half of what the others leave free: with 32 in all, 16 for one, 8 for a second, and so on. So whoever keeps the
 * application busy for long does not keep it from others.
 *
 * Only keys are kept here; the requests wait on disk.
 */
import type { Amid } from '../wire/index.ts'

/** Requests an application works on at the same time. */
const MAX_RUNNING = 32

/** One request. */
export interface Turn {
  readonly key: string
  readonly from: Amid
}

export class Turns {
  /** By peer, oldest first; the peer served longest ago comes first. */
  readonly #waiting = new Map<Amid, Map<string, Turn>>()
  readonly #running = new Map<string, Turn>()
  readonly #runningOf = new Map<Amid, number>()

  wait(turn: Turn): void {
    const queue = this.#waiting.get(turn.from) ?? new Map<string, Turn>()
    queue.set(turn.key, turn)
    this.#waiting.set(turn.from, queue)
  }

  /** The next one, which runs from now on; undefined when nobody may. */
  next(): string | undefined {
    if (this.#running.size >= MAX_RUNNING) return undefined
    for (const [peer, queue] of this.#waiting) {
      const [turn] = queue.values()
      if (!turn || !this.#mayRun(peer)) continue
      queue.delete(turn.key)
      this.#waiting.delete(peer)
      if (queue.size > 0) this.#waiting.set(peer, queue)
      this.#running.set(turn.key, turn)
      this.#runningOf.set(peer, (this.#runningOf.get(peer) ?? 0) + 1)
      return turn.key
    }
    return undefined
  }

  #mayRun(peer: Amid): boolean {
    const mine = this.#runningOf.get(peer) ?? 0
    const others = this.#running.size - mine
    return mine < (MAX_RUNNING - others) / 2
  }

  /** It runs no more. */
  done(key: string): void {
    const turn = this.#running.get(key)
    if (!turn) return
    this.#running.delete(key)
    const left = (this.#runningOf.get(turn.from) ?? 1) - 1
    if (left > 0) this.#runningOf.set(turn.from, left)
    else this.#runningOf.delete(turn.from)
  }

  /** It runs no more and was not answered: the next of its peer. */
  again(key: string): void {
    const turn = this.#running.get(key)
    if (!turn) return
    this.done(key)
    const behind = this.#waiting.get(turn.from) ?? []
    this.#waiting.set(turn.from, new Map([[key, turn], ...behind]))
  }
}

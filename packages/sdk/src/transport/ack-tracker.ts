/**
 * Turns acknowledgements in any order into the cumulative one of the relay protocol: the highest number below which
 * nothing is open.
 */
import { AgentMeshError } from '../wire/index.ts'

export class AckTracker {
  /** Ascending, since numbers arrive so: its first element is the lowest open one. */
  readonly #open = new Set<number>()
  #last = 0
  #reported = 0

  /** @throws MALFORMED for any number but the next: behind a gap is a message we would acknowledge unseen */
  receive(sequence: number): void {
    if (sequence !== this.#last + 1) throw new AgentMeshError('MALFORMED', 'RECEIVE numbers have no gaps')
    this.#last = sequence
    this.#open.add(sequence)
  }

  acknowledge(sequence: number): void {
    this.#open.delete(sequence)
  }

  /** The number to acknowledge now, or undefined when that was reported already. */
  take(): number | undefined {
    const [lowest] = this.#open
    const done = lowest === undefined ? this.#last : lowest - 1
    if (done <= this.#reported) return undefined
    this.#reported = done
    return done
  }
}

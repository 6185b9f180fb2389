/**
 * Makes one piece of work of what is asked in one event-loop turn, or while earlier work is still going on: the busier the
 * database, the more messages a transaction. In the order of asking; bounded in what waits.
 */
import { AgentMeshError } from '@agentmesh/sdk/wire'

export interface GatherBounds {
  /** Items of one piece of work, and their size; a single item may be larger. */
  readonly items: number
  readonly size: number
  /** Pieces of work at a time; with more than one, order holds inside each. */
  readonly atOnce: number
  /** What may wait. Beyond, asking is refused. */
  readonly waitingItems: number
  readonly waitingSize: number
}

interface Asked<Item, Answer> {
  readonly item: Item
  readonly size: number
  readonly resolve: (answer: Answer) => void
  readonly reject: (error: unknown) => void
}

export class Gather<Item, Answer> {
  readonly #operation: string
  readonly #bounds: GatherBounds
  readonly #work: (items: readonly Item[]) => Promise<readonly Answer[]>
  #waiting: Asked<Item, Answer>[] = []
  #waitingSize = 0
  #working = 0
  #scheduled = false
  #whenIdle: (() => void)[] = []

  /**
   * @param operation names it in errors
   * @param work resolves with an answer for each item, in their order
   */
  constructor(
    operation: string,
    bounds: GatherBounds,
    work: (items: readonly Item[]) => Promise<readonly Answer[]>,
  ) {
    this.#operation = operation
    this.#bounds = bounds
    this.#work = work
  }

  /** @throws RELAY_STORE_FAILED when the work failed, or too much waits already */
  async ask(item: Item, size = 0): Promise<Answer> {
    const { waitingItems, waitingSize } = this.#bounds
    if (this.#waiting.length >= waitingItems || this.#waitingSize + size > waitingSize) {
      throw this.#failed(new Error('Too much waits for the database'))
    }
    return new Promise((resolve, reject) => {
      this.#waiting.push({ item, size, resolve, reject })
      this.#waitingSize += size
      this.#schedule()
    })
  }

  /** Resolves when everything that was asked is answered. */
  async idle(): Promise<void> {
    if (this.#waiting.length === 0 && this.#working === 0) return
    await new Promise<void>((resolve) => this.#whenIdle.push(resolve))
  }

  #schedule(): void {
    if (this.#scheduled || this.#working >= this.#bounds.atOnce) return
    this.#scheduled = true
    setImmediate(() => {
      this.#scheduled = false
      void this.#workOff()
    })
  }

  async #workOff(): Promise<void> {
    this.#working += 1
    for (let taken = this.#take(); taken.length > 0; taken = this.#take()) {
      // More than fits into one.
      if (this.#waiting.length > 0) this.#schedule()
      try {
        const answers = await this.#work(taken.map(({ item }) => item))
        for (const [index, { resolve, reject }] of taken.entries()) {
          const answer = answers[index]
          if (answer === undefined) reject(this.#failed(new Error('No answer')))
          else resolve(answer)
        }
      } catch (cause) {
        for (const { reject } of taken) reject(this.#failed(cause))
      }
    }
    this.#working -= 1
    if (this.#working === 0) for (const resolve of this.#whenIdle.splice(0)) resolve()
  }

  #take(): Asked<Item, Answer>[] {
    const { items, size } = this.#bounds
    let count = 0
    let taken = 0
    for (const each of this.#waiting) {
      if (count === items || (count > 0 && taken + each.size > size)) break
      count += 1
      taken += each.size
    }
    this.#waitingSize -= taken
    return this.#waiting.splice(0, count)
  }

  #failed(cause: unknown): AgentMeshError {
    return new AgentMeshError('RELAY_STORE_FAILED', undefined, { operation: this.#operation, cause })
  }
}

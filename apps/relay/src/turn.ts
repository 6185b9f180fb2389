/**
 * Work that is done once at the end of an event-loop turn: a commit for all messages of the turn, one write a socket.
 */
export class TurnEnd {
  readonly #work: () => void
  #scheduled: NodeJS.Immediate | undefined

  constructor(work: () => void) {
    this.#work = work
  }

  schedule(): void {
    this.#scheduled ??= setImmediate(() => {
      this.#scheduled = undefined
      this.#work()
    })
  }

  /** Does the work at once where some is scheduled. */
  runNow(): void {
    if (this.#scheduled === undefined) return
    clearImmediate(this.#scheduled)
    this.#scheduled = undefined
    this.#work()
  }
}

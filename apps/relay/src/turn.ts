/**
 * A clock that is read once an event-loop turn: a message is not worth a system call, and nothing here is decided by less than
 * a turn takes.
 */
export class TurnClock {
  readonly #read: () => number
  readonly #turnEnd = new TurnEnd(() => (this.#now = undefined))
  #now: number | undefined

  /** @param read milliseconds since the epoch */
  constructor(read: () => number) {
    this.#read = read
  }

  now(): number {
    if (this.#now !== undefined) return this.#now
    this.#now = this.#read()
    this.#turnEnd.schedule()
    return this.#now
  }
}

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

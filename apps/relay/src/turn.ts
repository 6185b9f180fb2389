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

/** What is to be done at the end of this turn, in the order it was asked for. */
let due: TurnEnd[] = []

function endTurn(): void {
  const all = due
  due = []
  for (const each of all) each.runNow()
}

/**
 * Work that is done once at the end of an event-loop turn: a commit for all messages of the turn, one write a socket. All of a
 * turn share one immediate, since a turn may have a single message.
 */
export class TurnEnd {
  readonly #work: () => void
  #scheduled = false

  constructor(work: () => void) {
    this.#work = work
  }

  schedule(): void {
    if (this.#scheduled) return
    this.#scheduled = true
    if (due.length === 0) setImmediate(endTurn)
    due.push(this)
  }

  /** Does the work at once where some is scheduled. */
  runNow(): void {
    if (!this.#scheduled) return
    this.#scheduled = false
    this.#work()
  }
}

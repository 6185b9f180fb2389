/**
 * How long an agent has run, whatever the clock said meanwhile, and what the clock said on the way:
 *
 *     step      what passed between two looks, no more than a minute: sleep and jumps count as one step
 *     mark      each hour of running: what the clock showed then
 *     cutoff    the earliest of the marks of the last 96 hours of running, less an hour
 *
 * A row written within the last 96 hours of running has a time after the cutoff, also when the clock jumped ahead and back
 * in between, and also while it still stands ahead. So what is deleted by the cutoff has been there for that long. A
 * clock that runs evenly makes it 96 hours of the calendar.
 */
const HOUR_MS = 3_600_000
const MINUTE_MS = 60_000
/** A sender repeats for 72 hours what was not confirmed, a mailbox's lifetime. */
const KEPT_MINUTES = 96 * 60

/** What of it is kept on disk. Minutes of running; milliseconds since the epoch. */
export interface RunningMarks {
  readonly minutes: number
  readonly marks: readonly { readonly minutes: number; readonly at: number }[]
}

/** The marks after one more minute, or at a first start. */
export function addMinute(before: RunningMarks | undefined, now: number): RunningMarks {
  if (!before) return { minutes: 0, marks: [{ minutes: 0, at: now }] }
  const minutes = before.minutes + 1
  if (minutes % 60 !== 0) return { ...before, minutes }
  // The mark before the oldest needed one is where the hour of the oldest row began.
  const marks = before.marks.filter((mark) => mark.minutes >= minutes - KEPT_MINUTES - 60)
  return { minutes, marks: [...marks, { minutes, at: now }] }
}

export function cutoffOf({ marks }: RunningMarks): number {
  return Math.min(...marks.map(({ at }) => at)) - HOUR_MS
}

/** Counts the minutes of one run of the program. */
export class RunningMinutes {
  #last: number | undefined
  #passed = 0

  /** @returns whether another minute is full */
  look(now: number): boolean {
    const step = now - (this.#last ?? now)
    this.#last = now
    this.#passed += Math.min(Math.max(0, step), MINUTE_MS)
    if (this.#passed < MINUTE_MS) return false
    this.#passed -= MINUTE_MS
    return true
  }
}

/**
 * Which chunks of a file go out, and when (spec/sessions.md). Pure: the caller seals and sends them.
 *
 *     quiet --(the receiver says what it has)--> flowing: up to WINDOW chunks it has not confirmed are on their way
 *       ^                                           |
 *       +------(nothing new from it in time)--------+      quiet: one chunk at a time, later and later
 *
 * A peer that is away costs its mailbox one chunk a wait, not a file.
 */
import type { ChunkRange } from '../../wire/index.ts'
import { hasChunk, joinRanges, missingChunks } from './chunk-ranges.ts'

/** Chunks of one file that are on their way and not confirmed. */
export const WINDOW = 16
/** First wait for word of what was sent; doubles each time. */
const RESEND_AFTER_MS = 15_000
const MAX_RESEND_AFTER_MS = 3_600_000

export class SendWindow {
  readonly #chunks: number
  readonly #onTheWay = new Set<number>()
  #ranges: readonly ChunkRange[]
  #flowing = false
  #attempts = 0
  /** When something was last sent or heard, milliseconds since the epoch. */
  #since: number

  constructor(chunks: number, ranges: readonly ChunkRange[], now: number) {
    this.#chunks = chunks
    this.#ranges = ranges
    this.#since = now
  }

  get ranges(): readonly ChunkRange[] {
    return this.#ranges
  }

  get onTheWay(): number {
    return this.#onTheWay.size
  }

  /** The receiver said what it has. Returns whether that was news. */
  heard(ranges: readonly ChunkRange[], now: number): boolean {
    const wasFlowing = this.#flowing
    const joined = joinRanges(this.#ranges, ranges)
    const isNews = JSON.stringify(joined) !== JSON.stringify(this.#ranges)
    this.#ranges = joined
    for (const index of this.#onTheWay) if (hasChunk(joined, index)) this.#onTheWay.delete(index)
    this.#flowing = true
    if (isNews) this.#attempts = 0
    if (isNews || !wasFlowing) this.#since = now
    return isNews
  }

  /** The chunks to send now, at most so many; they count as on their way from then on. */
  next(room: number, now: number): number[] {
    const free = Math.min(room, WINDOW - this.#onTheWay.size)
    if (!this.#flowing || free <= 0) return []
    const chosen: number[] = []
    for (const index of missingChunks(this.#ranges, this.#chunks)) {
      if (chosen.length === free) break
      if (!this.#onTheWay.has(index)) chosen.push(index)
    }
    for (const index of chosen) this.#onTheWay.add(index)
    if (chosen.length > 0) this.#since = now
    return chosen
  }

  /** The chunk that asks a receiver which said nothing for long enough; what was on its way counts as lost. */
  probe(now: number): number | undefined {
    const wait = Math.min(RESEND_AFTER_MS * 2 ** this.#attempts, MAX_RESEND_AFTER_MS)
    // A clock that jumped back puts nothing off.
    if (now < this.#since + wait && now >= this.#since) return undefined
    this.#flowing = false
    this.#onTheWay.clear()
    this.#attempts++
    this.#since = now
    const { value } = missingChunks(this.#ranges, this.#chunks).next()
    if (value === undefined) return undefined
    this.#onTheWay.add(value)
    return value
  }

  /** The session ended: nothing that was sent on it arrives. */
  interrupted(): void {
    this.#flowing = false
    this.#onTheWay.clear()
  }
}

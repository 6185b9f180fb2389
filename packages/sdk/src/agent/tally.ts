/**
 * Keeps a flood from filling a log: the first of a kind are written in full, the rest are counted, and once a minute the
 * counts are written, the largest by name and all others as one. So what strangers can make us write is bounded, whoever
 * they say they are, and the owner still sees who it was and how much.
 */
import type { Amid } from '../wire/index.ts'

const PERIOD_MS = 60_000
/** Kinds told apart in a period; whoever comes after shares one count. */
const MAX_KINDS = 500
/** Counts written by name. */
const MAX_NAMED = 20

export interface TallyLimits {
  /** Written in full of one kind in a period. */
  readonly perKind: number
  /** Written in full in all, but for peers we know. */
  readonly inAll: number
}

/** What was counted and not written in full. Without `from` and `code`: the rest. */
export interface Counted<Code> {
  readonly from?: Amid
  readonly code?: Code
  readonly count: number
}

interface Kind<Code> {
  readonly from: Amid
  readonly code: Code
  written: number
  count: number
}

export class Tally<Code extends string> {
  readonly #limits: TallyLimits
  readonly #kinds = new Map<string, Kind<Code>>()
  #written = 0
  #others = 0
  #since: number | undefined

  constructor(limits: TallyLimits) {
    this.#limits = limits
  }

  /**
   * Whether this one is to be written in full; if not, it was counted.
   *
   * @param known whether its sender is a peer whose place strangers must not take
   */
  note(from: Amid, code: Code, known: boolean): boolean {
    const name = `${from} ${code}`
    let kind = this.#kinds.get(name)
    if (!kind) {
      if (this.#kinds.size >= MAX_KINDS) {
        this.#others++
        return false
      }
      kind = { from, code, written: 0, count: 0 }
      this.#kinds.set(name, kind)
    }
    if (kind.written >= this.#limits.perKind || (!known && this.#written >= this.#limits.inAll)) {
      kind.count++
      return false
    }
    kind.written++
    if (!known) this.#written++
    return true
  }

  /** The counts of a period that is over, and nothing before it is. @param now milliseconds since the epoch */
  due(now: number): Counted<Code>[] {
    this.#since ??= now
    // A clock that jumped back does not make the period longer.
    if (now >= this.#since && now < this.#since + PERIOD_MS) return []
    this.#since = now
    return this.drain()
  }

  /** The counts so far; counting begins anew. */
  drain(): Counted<Code>[] {
    const counted = [...this.#kinds.values()].filter(({ count }) => count > 0)
    counted.sort((one, other) => other.count - one.count)
    const named = counted.slice(0, MAX_NAMED).map(({ from, code, count }) => ({ from, code, count }))
    const unnamed = counted.slice(MAX_NAMED).reduce((sum, { count }) => sum + count, this.#others)
    this.#kinds.clear()
    this.#written = 0
    this.#others = 0
    return unnamed > 0 ? [...named, { count: unnamed }] : named
  }
}

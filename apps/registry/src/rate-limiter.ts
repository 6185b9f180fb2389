/**
 * Token buckets by key, a bounded number of them. When there are too many keys, those idle longest go first: their
 * buckets are the fullest, so least is forgotten.
 *
 * They live in this process and bound its load. What registries on one database count together is `store/rates.ts`.
 */

export interface Rate {
  readonly perSecond: number
  /** What may come at once. */
  readonly burst: number
}

interface Bucket {
  tokens: number
  /** Milliseconds since the epoch. */
  at: number
}

export class RateLimiter {
  readonly #rate: Rate
  readonly #maxKeys: number
  /** In order of last use. */
  readonly #buckets = new Map<string, Bucket>()

  constructor(rate: Rate, maxKeys: number) {
    this.#rate = rate
    this.#maxKeys = maxKeys
  }

  get size(): number {
    return this.#buckets.size
  }

  /** Takes a token and returns 0, or takes none and returns the whole seconds (at least 1) until there is one. */
  take(key: string, now: number): number {
    const { perSecond, burst } = this.#rate
    const known = this.#buckets.get(key)
    // A clock that went back refills nothing.
    const elapsed = known === undefined ? 0 : Math.max(0, now - known.at)
    const tokens = known === undefined ? burst : Math.min(burst, known.tokens + (elapsed / 1000) * perSecond)
    const taken = tokens >= 1
    this.#buckets.delete(key)
    this.#buckets.set(key, { tokens: taken ? tokens - 1 : tokens, at: now })
    if (this.#buckets.size > this.#maxKeys) {
      const idlest = this.#buckets.keys().next()
      if (!idlest.done) this.#buckets.delete(idlest.value)
    }
    return taken ? 0 : Math.max(1, Math.ceil((1 - tokens) / perSecond))
  }
}

/**
 * Token buckets by key. They belong to the relay and not to a connection, so that connecting again buys nothing.
 *
 * A bucket is two numbers; one that has filled up again says the same as none and is dropped, which bounds the map by
 * what was active within one refill time.
 */
export interface Rate {
  readonly perSecond: number
  readonly burst: number
}

interface Bucket {
  tokens: number
  /** Milliseconds since the epoch. */
  updatedAt: number
}

export class RateLimiter {
  readonly #rate: Rate
  readonly #buckets = new Map<string, Bucket>()

  constructor(rate: Rate) {
    this.#rate = rate
  }

  get size(): number {
    return this.#buckets.size
  }

  /** Takes `cost` tokens and returns 0, or takes none and returns the whole seconds (at least 1) to wait. */
  take(key: string, now: number, cost = 1): number {
    const { perSecond, burst } = this.#rate
    const bucket = this.#bucket(key, now)
    // A cost above the burst could never be paid: it takes the full bucket.
    const price = Math.min(cost, burst)
    if (bucket.tokens < price) return Math.max(1, Math.ceil((price - bucket.tokens) / perSecond))
    bucket.tokens -= price
    return 0
  }

  /**
   * Takes `cost` tokens for what is done already, if need be on credit, and returns the milliseconds until the debt is paid: 0
   * where there is none.
   */
  charge(key: string, now: number, cost: number): number {
    const bucket = this.#bucket(key, now)
    bucket.tokens -= cost
    return bucket.tokens >= 0 ? 0 : Math.ceil((-bucket.tokens / this.#rate.perSecond) * 1000)
  }

  #bucket(key: string, now: number): Bucket {
    let bucket = this.#buckets.get(key)
    if (bucket === undefined) {
      bucket = { tokens: this.#rate.burst, updatedAt: now }
      this.#buckets.set(key, bucket)
    } else {
      this.#refill(bucket, now)
    }
    return bucket
  }

  #refill(bucket: Bucket, now: number): void {
    // A clock that went back refills nothing.
    const elapsed = Math.max(0, now - bucket.updatedAt)
    bucket.tokens = Math.min(this.#rate.burst, bucket.tokens + (elapsed / 1000) * this.#rate.perSecond)
    bucket.updatedAt = now
  }

  /** Drops the buckets that are full again. */
  sweep(now: number): void {
    for (const [key, bucket] of this.#buckets) {
      this.#refill(bucket, now)
      if (bucket.tokens >= this.#rate.burst) this.#buckets.delete(key)
    }
  }
}

/**
 * A token bucket for each sender (specification §7.3 `rate_limit`). The bucket is pure; `RateLimiter` keeps one a sender and
 * turns into plain entries, so that limits survive a restart.
 *
 * Senders are strangers and AMIDs are free, so the number of buckets is bounded: beyond it the one used longest ago goes.
 */

/** Tokens left, and when that was true; milliseconds since the epoch. */
export interface TokenBucket {
  readonly tokens: number
  readonly at: number
}

export interface TokenTaken {
  readonly allowed: boolean
  /** Whole seconds until there is a token; 0 when allowed. */
  readonly retryAfterSeconds: number
  readonly bucket: TokenBucket
}

const MINUTE = 60_000

/** Takes one token, or `amount` together. A bucket begins full, holds a minute's worth or `size`, and refills evenly. */
export function takeToken(
  bucket: TokenBucket | undefined,
  perMinute: number,
  now: number,
  amount = 1,
  size = perMinute,
): TokenTaken {
  // A clock that went back neither gives nor takes.
  const elapsed = bucket === undefined ? 0 : Math.max(0, now - bucket.at)
  const tokens = Math.min(size, (bucket?.tokens ?? size) + (elapsed * perMinute) / MINUTE)
  const allowed = tokens >= amount
  return {
    allowed,
    retryAfterSeconds: allowed ? 0 : Math.ceil(((amount - tokens) * 60) / perMinute),
    bucket: { tokens: allowed ? tokens - amount : tokens, at: now },
  }
}

/** The most senders remembered at once. */
export const MAX_BUCKETS = 10_000

/** Buckets by sender, least recently used first. */
export class RateLimiter {
  readonly #buckets: Map<string, TokenBucket>

  /** `entries` as `entries()` gave them. */
  constructor(entries: Iterable<readonly [string, TokenBucket]> = []) {
    this.#buckets = new Map(entries)
  }

  /** Takes one of the sender's tokens, of which there are `perMinute` a minute, or `amount` together. */
  take(sender: string, perMinute: number, now: number, amount = 1): TokenTaken {
    const taken = takeToken(this.#buckets.get(sender), perMinute, now, amount)
    this.#buckets.delete(sender)
    this.#buckets.set(sender, taken.bucket)
    if (this.#buckets.size > MAX_BUCKETS) {
      const [oldest] = this.#buckets.keys()
      if (oldest !== undefined) this.#buckets.delete(oldest)
    }
    return taken
  }

  /** Puts back what was taken for something that is not to count. */
  giveBack(sender: string, amount: number): void {
    const bucket = this.#buckets.get(sender)
    if (bucket) this.#buckets.set(sender, { ...bucket, tokens: bucket.tokens + amount })
  }

  entries(): readonly (readonly [string, TokenBucket])[] {
    return [...this.#buckets]
  }
}

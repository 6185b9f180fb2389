/** How much one AMID may ask for, whatever its connections: the rates of `limits.ts` that survive a reconnect. */
import type { Amid, MessageType } from '@agentmesh/sdk/wire'
import type { RelayLimits } from './limits.ts'
import { RateLimiter } from './rate-limit.ts'

export class Admission {
  readonly #sends: RateLimiter
  readonly #sendBytes: RateLimiter
  readonly #knocks: RateLimiter
  readonly #queries: RateLimiter

  constructor(limits: RelayLimits) {
    this.#sends = new RateLimiter(limits.sends)
    this.#sendBytes = new RateLimiter(limits.sendBytes)
    this.#knocks = new RateLimiter(limits.knocks)
    this.#queries = new RateLimiter(limits.presenceQueries)
  }

  /** Seconds to wait before such a message is taken; 0 when it is. */
  send(from: Amid, type: MessageType, bytes: number, now: number): number {
    return (
      this.#sends.take(from, now) ||
      this.#sendBytes.take(from, now, bytes) ||
      (type === 'knock' ? this.#knocks.take(from, now) : 0)
    )
  }

  /** Seconds to wait before a presence query is answered; 0 when it is. */
  query(from: Amid, now: number): number {
    return this.#queries.take(from, now)
  }

  /** Forgets full token buckets. */
  sweep(now: number): void {
    for (const limiter of [this.#sends, this.#sendBytes, this.#knocks, this.#queries]) limiter.sweep(now)
  }
}

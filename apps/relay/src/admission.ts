/**
 * How much one AMID may ask for, and all of one address, whatever their connections: the rates of `limits.ts` that survive a
 * reconnect.
 */
import type { Amid, MessageType } from '@agentmesh/sdk/wire'
import type { RelayLimits } from './limits.ts'
import type { Origin } from './origin.ts'
import type { Outlet } from './outlet.ts'
import { RateLimiter } from './rate-limit.ts'

/** Receivers of an address that are remembered; then it begins anew. */
const MAX_RECEIVERS = 100_000

export class Admission {
  readonly #sends: RateLimiter
  readonly #sendBytes: RateLimiter
  readonly #knocks: RateLimiter
  readonly #knocksOfAddress: RateLimiter
  readonly #receivers: RateLimiter
  readonly #queries: RateLimiter
  readonly #queriesOfAddress: RateLimiter

  constructor(limits: RelayLimits) {
    this.#sends = new RateLimiter(limits.sends)
    this.#sendBytes = new RateLimiter(limits.sendBytes)
    this.#knocks = new RateLimiter(limits.knocks)
    this.#knocksOfAddress = new RateLimiter(limits.knocksPerIp)
    this.#receivers = new RateLimiter(limits.receiversPerIp)
    this.#queries = new RateLimiter(limits.presenceQueries)
    this.#queriesOfAddress = new RateLimiter(limits.presenceQueriesPerIp)
  }

  /** Seconds to wait before such a message is taken; 0 when it is. */
  send({ amid, origin }: Outlet, to: Amid, type: MessageType, bytes: number, now: number): number {
    return (
      this.#sends.take(amid, now) ||
      this.#sendBytes.take(amid, now, bytes) ||
      (type === 'knock' ? this.#knocks.take(amid, now) || take(this.#knocksOfAddress, origin, now) : 0) ||
      (origin === undefined || origin.receivers.has(to) ? 0 : this.#begin(origin, to, now))
    )
  }

  /** Whoever writes to many learns who is connected, and makes as many mailboxes. */
  #begin(origin: Origin, to: Amid, now: number): number {
    const wait = this.#receivers.take(origin.address, now)
    if (wait > 0) return wait
    if (origin.receivers.size >= MAX_RECEIVERS) origin.receivers.clear()
    origin.receivers.add(to)
    return 0
  }

  /** Seconds to wait before a presence is told, or changed; 0 when it is. */
  presence({ amid, origin }: Outlet, now: number): number {
    return this.#queries.take(amid, now) || take(this.#queriesOfAddress, origin, now)
  }

  /** Forgets full token buckets. */
  sweep(now: number): void {
    for (const limiter of [
      this.#sends,
      this.#sendBytes,
      this.#knocks,
      this.#knocksOfAddress,
      this.#receivers,
      this.#queries,
      this.#queriesOfAddress,
    ])
      limiter.sweep(now)
  }
}

function take(limiter: RateLimiter, origin: Origin | undefined, now: number): number {
  return origin === undefined ? 0 : limiter.take(origin.address, now)
}

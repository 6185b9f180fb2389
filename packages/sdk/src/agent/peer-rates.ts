/** How much a peer may say a minute inside its sessions, whatever their number. */
import { RateLimiter, type TokenTaken } from '../session/index.ts'
import type { Amid } from '../wire/index.ts'
import type { Core } from './core.ts'

/** Requests refused for their rate, to each one a minute that policy allows, before the session ends. */
const REFUSALS_PER_MESSAGE = 4
/** Envelopes of receipts a minute that confirm nothing: twice what an honest peer repeats. */
const IDLE_RECEIPTS_PER_MINUTE = 60

export class PeerRates {
  readonly #core: Core
  readonly #limits = new RateLimiter()

  constructor(core: Core) {
    this.#core = core
  }

  /** Policy `messages_per_minute`. */
  message(from: Amid): TokenTaken {
    return this.#limits.take(from, this.#messages, this.#core.now())
  }

  /** A message beyond that rate, which is answered. */
  refusal(from: Amid): TokenTaken {
    return this.#limits.take(`${from} refused`, REFUSALS_PER_MESSAGE * this.#messages, this.#core.now())
  }

  /** An envelope of receipts that says nothing new. */
  idleReceipt(from: Amid): TokenTaken {
    return this.#limits.take(`${from} receipts`, IDLE_RECEIPTS_PER_MINUTE, this.#core.now())
  }

  get #messages(): number {
    return this.#core.policy.current().rate_limit.messages_per_minute
  }
}

/**
 * Connections that only send (spec/relay.md 2): an agent whose home is another relay says so with presence `offline`. It is
 * told CONNECTED, with no pending messages and no state counter, its SENDs are routed and answered under the same limits as any agent's, and that is all: it is not
 * reached here, so it takes nobody's place and shows in no presence.
 */
import type { RandomBytes } from '@agentmesh/sdk/crypto/signing'
import { newSessionId, type Amid } from '@agentmesh/sdk/wire'
import type { RelayLimits } from './limits.ts'
import type { Outlet } from './outlet.ts'

const RETRY_SECONDS = 30

export class Senders {
  readonly #limits: RelayLimits
  readonly #random: RandomBytes
  readonly #outlets = new Map<Amid, Set<Outlet>>()
  #open = 0

  constructor(limits: RelayLimits, random: RandomBytes) {
    this.#limits = limits
    this.#random = random
  }

  get open(): number {
    return this.#open
  }

  /** Answers CONNECTED, or cuts with RATE_LIMITED when the AMID has as many as it may. */
  admit(outlet: Outlet): void {
    const outlets = this.#outlets.get(outlet.amid) ?? new Set()
    if (outlets.size >= this.#limits.sendersPerAgent) return outlet.cut('RATE_LIMITED', RETRY_SECONDS)
    this.#outlets.set(outlet.amid, outlets.add(outlet))
    this.#open += 1
    const sessionId = newSessionId(this.#random)
    outlet.deliver({ frame: 'CONNECTED', sessionId, pendingMessages: 0, stateCounter: 0 })
  }

  dismiss(outlet: Outlet): void {
    const outlets = this.#outlets.get(outlet.amid)
    if (outlets?.delete(outlet) !== true) return
    this.#open -= 1
    if (outlets.size === 0) this.#outlets.delete(outlet.amid)
  }
}

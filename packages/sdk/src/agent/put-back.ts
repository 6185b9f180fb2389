/**
 * What happens when it turns out that the home is an older copy of itself (DESIGN §7.2, `state-counter.ts`), at a start or
 * while the agent runs, as in a machine that was set back and resumed.
 *
 *     (waiting) --a relay has seen no later state--> handing over <--+
 *         ^                                             |            |  the relay, connected anew
 *         +-- a relay or the registry has seen a later one           |
 *                 everything given up, new keys published -----------+
 *
 * Requests wait until a relay has confirmed the state: what lies here may have been handed over by a later one.
 */
import { formatTimestamp } from '../wire/index.ts'
import { audit, background, type Core } from './core.ts'
import type { Inbox } from './inbox.ts'
import type { Recovery } from './recovery.ts'
import type { Registrar } from './registrar.ts'
import type { RequestHandler } from './types.ts'

const DETAIL =
  'a relay or registry has seen a later state: sessions and prekeys of this older copy are not used again'

export class PutBack {
  readonly #core: Core
  readonly #inbox: Inbox
  readonly #recovery: Recovery
  readonly #registrar: Registrar
  readonly #knock: () => void
  #handler: RequestHandler | undefined
  #isConfirmed = false
  #isGivingUp = false

  /** @param knock asks for sessions for all that waits */
  constructor(core: Core, inbox: Inbox, recovery: Recovery, registrar: Registrar, knock: () => void) {
    this.#core = core
    this.#inbox = inbox
    this.#recovery = recovery
    this.#registrar = registrar
    this.#knock = knock
    core.state.onConfirmed = () => {
      this.#isConfirmed = true
      this.handle(this.#handler)
    }
    core.state.onBehind = () => {
      this.#isConfirmed = false
      this.#inbox.handle(undefined)
      if (!this.#isGivingUp) background(core, 'give up an older state', this.#giveUp())
    }
    core.state.onFailure = (error) => this.#tell(`${error.code}: ${error.message}`)
  }

  /** Who answers requests, once the state is confirmed. */
  handle(handler: RequestHandler | undefined): void {
    this.#handler = handler
    if (this.#isConfirmed || handler === undefined) this.#inbox.handle(handler)
  }

  async #giveUp(): Promise<void> {
    this.#isGivingUp = true
    try {
      await this.#recovery.giveUpAll('older')
      audit(this.#core, { event: 'state_recovered', what: 'home', detail: DETAIL })
      this.#tell(`The home was put back: ${DETAIL}`)
      this.#registrar.publishAgain()
      this.#knock()
    } finally {
      this.#isGivingUp = false
    }
  }

  #tell(text: string): void {
    this.#core.events.emit('notice', { at: formatTimestamp(this.#core.now()), about: 'recovery', text })
  }
}

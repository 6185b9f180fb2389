/** Packets that were not taken, as the owner reads of them: a flood is a few lines (`tally.ts`). */
import type { Amid } from '../wire/index.ts'
import { audit, isKnownPeer, type Core } from './core.ts'
import { Tally } from './tally.ts'

export class Refusals {
  readonly #core: Core
  readonly #tally = new Tally<string>({ perKind: 1, inAll: 60 })

  constructor(core: Core) {
    this.#core = core
  }

  note(from: Amid, code: string, size_bytes: number): void {
    this.#core.events.emit('refused', { from, code })
    if (this.#tally.note(from, code, isKnownPeer(this.#core, from)))
      audit(this.#core, { event: 'message_refused', from, code, size_bytes })
  }

  /** Writes the counts once a minute; called at each maintenance, and `atOnce` at the end. */
  flush(atOnce = false): void {
    const counted = atOnce ? this.#tally.drain() : this.#tally.due(this.#core.now())
    for (const note of counted) audit(this.#core, { event: 'message_refused', code: 'OTHERS', ...note })
  }
}

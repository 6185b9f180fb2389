/**
 * What was not taken from peers, as the owner reads it: the first of a kind at once, the rest of a flood as one line with
 * a count, so that a stranger cannot grow the log.
 */
import type { Amid } from '../wire/index.ts'
import { audit, type Core } from './core.ts'

/** Kinds counted one by one between two flushes; whoever comes after shares one count. */
const MAX_KINDS = 500

interface Repeated {
  from?: Amid
  code: string
  count: number
}

export class Refusals {
  readonly #core: Core
  readonly #kinds = new Map<string, Repeated>()
  #others = 0

  constructor(core: Core) {
    this.#core = core
  }

  note(from: Amid, code: string, size_bytes: number): void {
    this.#core.events.emit('refused', { from, code })
    const known = this.#kinds.get(`${from} ${code}`)
    if (known) known.count++
    else if (this.#kinds.size >= MAX_KINDS) this.#others++
    else {
      this.#kinds.set(`${from} ${code}`, { from, code, count: 0 })
      audit(this.#core, { event: 'message_refused', from, code, size_bytes })
    }
  }

  /** Writes the counts; called at each maintenance. */
  flush(): void {
    const repeated: Repeated[] = [...this.#kinds.values(), { code: 'OTHERS', count: this.#others }]
    for (const note of repeated) if (note.count > 0) audit(this.#core, { event: 'message_refused', ...note })
    this.#kinds.clear()
    this.#others = 0
  }
}

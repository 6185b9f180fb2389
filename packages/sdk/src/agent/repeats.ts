/**
 * Receipts for packets that come again: their sender did not hear from us, or somebody replays them.
 *
 *   packet known -> noted -> (a second later) one receipt envelope a session, at most 30 a minute a peer
 *
 * What finds no room is dropped: an honest sender says its packet again after 15 seconds, and again later. So a replay costs
 * us what an honest repetition does, however often it comes.
 */
import { RateLimiter } from '../session/index.ts'
import type { SessionId } from '../wire/index.ts'
import { background, commit, type Core } from './core.ts'
import type { Receipts } from './receipts.ts'

const GATHER_MS = 1_000
const ENVELOPES_PER_MINUTE = 30

export class Repeats {
  readonly #core: Core
  readonly #receipts: Receipts
  readonly #noted = new Set<SessionId>()
  readonly #limits = new RateLimiter()

  constructor(core: Core, receipts: Receipts) {
    this.#core = core
    this.#receipts = receipts
  }

  note(sessionId: SessionId): void {
    if (this.#noted.size === 0)
      setTimeout(() => background(this.#core, 'repeat receipts', this.#send()), GATHER_MS).unref()
    this.#noted.add(sessionId)
  }

  async #send(): Promise<void> {
    const noted = [...this.#noted]
    this.#noted.clear()
    await commit(this.#core, (afterCommit) => {
      for (const sessionId of noted) {
        const peer = this.#core.store.tables.sessions.get(sessionId)?.session.peer
        if (!peer || !this.#limits.take(peer, ENVELOPES_PER_MINUTE, this.#core.now()).allowed) continue
        this.#receipts.owe(sessionId)
        this.#receipts.sendOwed(sessionId, afterCommit)
      }
    })
  }
}

/** Frames of attachments onto a session, and the bound on those of a peer that bring nothing. */
import { createAttachmentFrame } from '../../messages/index.ts'
import { RateLimiter } from '../../session/index.ts'
import type { Amid, AttachmentFrame, SessionId } from '../../wire/index.ts'
import type { Core } from '../core.ts'
import type { Outbox } from '../outbox.ts'
import { touchSession } from '../session-rows.ts'

/** Frames a minute that bring nothing: more than an honest peer repeats. */
const IDLE_FRAMES_PER_MINUTE = 240

export class Frames {
  readonly #core: Core
  readonly #outbox: Outbox
  readonly #idle = new RateLimiter()

  constructor(core: Core, outbox: Outbox) {
    this.#core = core
    this.#outbox = outbox
  }

  /** Seals a frame on a session. Call within a commit. False when the session carries nothing more. */
  send(sessionId: SessionId, frame: AttachmentFrame, afterCommit: (() => void)[]): boolean {
    const row = this.#core.store.tables.sessions.get(sessionId)
    const now = this.#core.now()
    if (row?.session.state !== 'open' || now >= row.session.expiresAt) return false
    const { session, packet } = createAttachmentFrame(row.session, frame, { random: this.#core.random, now })
    touchSession(this.#core, { ...row, session })
    this.#outbox.put(
      // What is lost is made again: the other side says what it has.
      { to: session.peer, type: 'message', packet, awaitsReceipt: false, expiresAt: session.expiresAt },
      afterCommit,
    )
    return true
  }

  /** A frame that brought nothing. False when the peer sends too many of them. */
  idle(peer: Amid): boolean {
    return this.#idle.take(peer, IDLE_FRAMES_PER_MINUTE, this.#core.now()).allowed
  }
}

/**
 * The highest state counter that each agent has shown here (spec/relay.md 2): from it an agent learns at its next CONNECT that
 * what it runs on is an older copy of its state.
 *
 *     ACK of what lay in the mailbox   written in the commit that removes it
 *     CONNECT, any other ACK           written at the next tick, and when the connection ends
 *
 * So a counter is never older than the last message that left the mailbox. A relay that is killed loses what was said since its
 * last tick, of messages it had delivered without storing them.
 */
import type { Attachment, Attachments } from './attachments.ts'
import type { RelayLimits } from './limits.ts'
import type { RelayLogger } from './logger.ts'
import type { Mailbox } from './mailbox.ts'
import { RateLimiter } from './rate-limit.ts'

export interface StateCounterParts {
  readonly mailbox: Mailbox
  readonly limits: RelayLimits
  readonly logger: RelayLogger
  /** Milliseconds since the epoch. */
  readonly now: () => number
}

export class StateCounters {
  readonly #parts: StateCounterParts
  readonly #attachments: Attachments
  /** A stranger can connect under any number of names. */
  readonly #beginners: RateLimiter
  readonly #unwritten = new Set<Attachment>()

  constructor(parts: StateCounterParts, attachments: Attachments) {
    this.#parts = parts
    this.#attachments = attachments
    this.#beginners = new RateLimiter(parts.limits.stateCountersPerIp)
  }

  /**
   * An agent connects.
   *
   * @param shown in its CONNECT
   * @returns the highest it had shown before
   */
  async begin(attachment: Attachment, shown: number): Promise<number> {
    const kept = await this.#parts.mailbox.stateCounter(attachment.outlet.amid)
    attachment.stateCounter = Math.max(attachment.stateCounter, kept)
    attachment.keepsCounter ||= kept > 0
    this.raise(attachment, shown)
    // Seen today, so kept for 30 days more.
    if (attachment.keepsCounter) this.#unwritten.add(attachment)
    return kept
  }

  raise(attachment: Attachment, shown: number): void {
    if (shown <= attachment.stateCounter) return
    const { origin } = attachment.outlet
    if (!attachment.keepsCounter && origin !== undefined) {
      if (this.#beginners.take(origin.address, this.#parts.now()) > 0) return
    }
    attachment.keepsCounter = true
    attachment.stateCounter = shown
    this.#unwritten.add(attachment)
  }

  /** What goes into a commit that is made for other reasons; 0: nothing to write. */
  take(attachment: Attachment): number {
    return this.#unwritten.delete(attachment) ? attachment.stateCounter : 0
  }

  /** The connection is over: whoever connects next is told what it said last. */
  end(attachment: Attachment): void {
    if (this.#unwritten.has(attachment)) this.#write(attachment)
  }

  tick(now: number): void {
    for (const attachment of this.#unwritten) this.#write(attachment)
    this.#beginners.sweep(now)
  }

  #write(attachment: Attachment): void {
    const { mailbox, logger } = this.#parts
    const { outlet } = attachment
    mailbox.remove(outlet.amid, [], this.take(attachment)).catch((error: unknown) => {
      logger.error({ err: error }, 'state counter not kept')
      if (this.#attachments.of(outlet) !== undefined) this.#unwritten.add(attachment)
    })
  }
}

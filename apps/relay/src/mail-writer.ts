/** Messages on their way to the mailbox: each is stored, and its sender told what became of it. */
import type { Amid, ErrorCode } from '@agentmesh/sdk/wire'
import type { Counters } from './counters.ts'
import type { RelayLogger } from './logger.ts'
import type { Deposits } from './deposits.ts'
import type { Mailbox, MailboxMessage, StoreRefusal } from './mailbox.ts'
import { deliverRefusal, type Outlet } from './outlet.ts'

export const STORE_RETRY_SECONDS = 5
const FULL_RETRY_SECONDS = 60

const OUTCOME_CODES: Record<StoreRefusal, ErrorCode> = {
  'mailbox-full': 'MAILBOX_FULL',
  'sender-quota': 'SENDER_QUOTA',
  'store-full': 'RELAY_STORE_FAILED',
}

export interface MailWriterParts {
  readonly mailbox: Mailbox
  readonly counters: Counters
  readonly logger: RelayLogger
  /** Milliseconds since the epoch. */
  readonly now: () => number
  readonly deposits: Deposits
}

export class MailWriter {
  readonly #parts: MailWriterParts
  readonly #onStored: (to: Amid) => void
  readonly #stores = new Set<Promise<void>>()
  /** How many messages are on their way, by receiver. */
  readonly #writing = new Map<Amid, number>()

  /** @param onStored called after the commit, before the sender is told */
  constructor(parts: MailWriterParts, onStored: (to: Amid) => void) {
    this.#parts = parts
    this.#onStored = onStored
  }

  isWriting(to: Amid): boolean {
    return this.#writing.has(to)
  }

  /**
   * @param sender told what became of it, where somebody still waits for it
   * @param place as in `Mailbox.store`
   */
  write(message: MailboxMessage, sender: Outlet | undefined, place?: number): void {
    const store = this.#store(message, sender, place)
    this.#stores.add(store)
    void store.finally(() => this.#stores.delete(store))
  }

  async #store(
    message: MailboxMessage,
    sender: Outlet | undefined,
    place: number | undefined,
  ): Promise<void> {
    const { mailbox, counters, logger, now, deposits } = this.#parts
    const { to, id } = message
    const address = sender?.origin?.address
    const deposit = address === undefined ? undefined : deposits.make(address, message, now())
    if (deposit === 'full') return this.#refuse(message, sender, 'SENDER_QUOTA', FULL_RETRY_SECONDS)
    let stored = false
    this.#writing.set(to, (this.#writing.get(to) ?? 0) + 1)
    try {
      const outcome = await mailbox.store(message, place)
      if (outcome === 'stored') {
        stored = true
        counters.stored += 1
        this.#onStored(to)
        sender?.deliver({ frame: 'SENT', id, status: 'stored' })
      } else this.#refuse(message, sender, OUTCOME_CODES[outcome], FULL_RETRY_SECONDS)
    } catch (error) {
      logger.error({ err: error }, 'message not stored')
      this.#refuse(message, sender, 'RELAY_STORE_FAILED', STORE_RETRY_SECONDS)
    } finally {
      if (!stored && deposit === 'new') deposits.withdraw({ ...message, size: message.payload.length })
      const left = (this.#writing.get(to) ?? 1) - 1
      if (left > 0) this.#writing.set(to, left)
      else this.#writing.delete(to)
    }
  }

  #refuse({ id }: MailboxMessage, sender: Outlet | undefined, code: ErrorCode, retrySeconds: number): void {
    if (sender === undefined) return
    this.#parts.counters.countRefused(code)
    deliverRefusal(sender, id, code, retrySeconds)
  }

  /** Resolves when nothing is on its way any more. */
  async settled(): Promise<void> {
    while (this.#stores.size > 0) await Promise.all(this.#stores)
  }
}

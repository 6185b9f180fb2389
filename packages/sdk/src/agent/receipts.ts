/**
 * Receipts this agent owes its peers (DESIGN §7): `received` when a message is on our disk, `read` when the application
 * has it. The answer itself is the receipt of having answered. Receipts go along with the next message of their session;
 * when there is none, those of one session travel together a little later: an envelope of receipts costs as much as one of
 * the application's.
 *
 * What is owed is kept in memory: after a crash the peer sends its message again, and the duplicate filter owes the
 * receipt once more.
 */
import {
  formatTimestamp,
  isAgentMeshError,
  MAX_RECEIPTS_ALONG,
  type MessageId,
  type ReceiptPayload,
  type SessionId,
} from '../wire/index.ts'
import { background, commit, type Core } from './core.ts'

/** A receipt waits this long for company. */
const DELAY_MS = 20
const MAX_TOGETHER = 256

type Receipt = ReceiptPayload['receipts'][number]
/** Seals a receipt envelope on a session. @throws when the session can carry nothing any more */
export type SendReceipts = (
  sessionId: SessionId,
  payload: ReceiptPayload,
  afterCommit: (() => void)[],
) => void

export class Receipts {
  readonly #core: Core
  readonly #send: SendReceipts
  readonly #owed = new Map<SessionId, Receipt[]>()
  #timer: NodeJS.Timeout | undefined

  constructor(core: Core, send: SendReceipts) {
    this.#core = core
    this.#send = send
  }

  /** Runs work that is undone when it throws: what it owed and what it sent is then as before. */
  attempt<T>(work: () => T): T {
    const before = [...this.#owed].map(([id, owed]): [SessionId, Receipt[]] => [id, [...owed]])
    try {
      return work()
    } catch (error) {
      this.#owed.clear()
      for (const [id, owed] of before) this.#owed.set(id, owed)
      throw error
    }
  }

  owe(sessionId: SessionId, messageId: MessageId, state: Receipt['state']): void {
    const owed = this.#owed.get(sessionId) ?? []
    owed.push({ message_id: messageId, state, at: formatTimestamp(this.#core.now()) })
    this.#owed.set(sessionId, owed)
    this.#timer ??= setTimeout(() => background(this.#core, 'send receipts', this.flush()), DELAY_MS)
  }

  /** What the next message of a session takes along; `sent` says that it did. */
  along(sessionId: SessionId): readonly Receipt[] {
    return this.#owed.get(sessionId)?.slice(0, MAX_RECEIPTS_ALONG) ?? []
  }

  /** Receipts of `along` are in a sealed message. */
  sent(sessionId: SessionId, receipts: readonly Receipt[]): void {
    const rest = this.#owed.get(sessionId)?.slice(receipts.length) ?? []
    if (rest.length > 0) this.#owed.set(sessionId, rest)
    else this.#owed.delete(sessionId)
  }

  /** Sends every owed receipt; resolves when they are on disk. */
  async flush(): Promise<void> {
    clearTimeout(this.#timer)
    this.#timer = undefined
    if (this.#owed.size === 0) return
    await commit(this.#core, (afterCommit) => {
      for (const sessionId of this.#owed.keys()) this.sendOwed(sessionId, afterCommit)
    })
  }

  /** Sends what a session's last message cannot take along. Call within a commit. */
  sendSurplus(sessionId: SessionId, afterCommit: (() => void)[]): void {
    if ((this.#owed.get(sessionId)?.length ?? 0) > MAX_RECEIPTS_ALONG) this.sendOwed(sessionId, afterCommit)
  }

  /** Sends what one session is owed. Call within a commit. */
  sendOwed(sessionId: SessionId, afterCommit: (() => void)[]): void {
    const owed = this.#owed.get(sessionId)
    if (!owed) return
    this.#owed.delete(sessionId)
    for (let start = 0; start < owed.length; start += MAX_TOGETHER) {
      try {
        this.#send(sessionId, { receipts: owed.slice(start, start + MAX_TOGETHER) }, afterCommit)
      } catch (error) {
        // A session that cannot carry a receipt any more is over, and with it the wait for one.
        if (!isAgentMeshError(error)) throw error
        return
      }
    }
  }
}

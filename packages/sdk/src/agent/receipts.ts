/**
 * Receipts this agent owes its peers (DESIGN §7.2): `received` when an envelope is on our disk and its turn has come,
 * `read` when the application has it, `answered` with an answer. Each statement is about the whole session and goes along
 * with the next envelope of that session; where there is none, it goes alone a little later, for an envelope of receipts
 * costs as much as one of the application's.
 *
 * How far a session was received stands in its row, and so does what was said to be read. That something is to be said is
 * kept in memory: after a crash the peer sends its message again, and the duplicate filter owes the receipts once more.
 */
import {
  formatTimestamp,
  isAgentMeshError,
  MAX_RANGES,
  rangesFrom,
  unionOf,
  type ReceiptPayload,
  type SequenceRanges,
  type SessionId,
} from '../wire/index.ts'
import { background, commit, type Core } from './core.ts'
import type { SessionRow } from './tables.ts'

/** Receipts wait no longer for company, */
const DELAY_MS = 50
/** nor for more of a session's envelopes than that. */
const MAX_TOGETHER = 32

/** Seals a receipt envelope on a session. @throws when the session can carry nothing any more */
export type SendReceipts = (
  sessionId: SessionId,
  payload: ReceiptPayload,
  afterCommit: (() => void)[],
) => void

/** What a session's peer is to be told. */
interface Owed {
  envelopes: number
  readonly read: number[]
  readonly answered: number[]
}

export class Receipts {
  readonly #core: Core
  readonly #send: SendReceipts
  readonly #owed = new Map<SessionId, Owed>()
  #timer: NodeJS.Timeout | undefined

  constructor(core: Core, send: SendReceipts) {
    this.#core = core
    this.#send = send
  }

  /** Runs work that is undone when it throws: what it owed and what it sent is then as before. */
  attempt<T>(work: () => T): T {
    const before = [...this.#owed].map(([id, { envelopes, read, answered }]): [SessionId, Owed] => [
      id,
      { envelopes, read: [...read], answered: [...answered] },
    ])
    try {
      return work()
    } catch (error) {
      this.#owed.clear()
      for (const [id, owed] of before) this.#owed.set(id, owed)
      throw error
    }
  }

  /** An envelope was received in its turn; how far, the session's row says. */
  owe(sessionId: SessionId): void {
    this.#note(sessionId).envelopes += 1
  }

  /** The application has an envelope, and no commit says so yet. */
  read(sessionId: SessionId, sequence: number): void {
    this.#note(sessionId).read.push(sequence)
  }

  answered(sessionId: SessionId, sequence: number): void {
    this.#note(sessionId).answered.push(sequence)
  }

  #note(sessionId: SessionId): Owed {
    const owed = this.#owed.get(sessionId) ?? { envelopes: 0, read: [], answered: [] }
    this.#owed.set(sessionId, owed)
    const wait = owed.envelopes + 1 >= MAX_TOGETHER ? 0 : DELAY_MS
    if (wait === 0) clearTimeout(this.#timer)
    if (wait === 0 || this.#timer === undefined)
      this.#timer = setTimeout(() => background(this.#core, 'send receipts', this.flush()), wait)
    return owed
  }

  isOwed(sessionId: SessionId): boolean {
    return this.#owed.has(sessionId)
  }

  /** All that a session's peer can be told now; `said` says that it was. */
  statement(row: SessionRow): ReceiptPayload {
    const received = row.deliverNext - 1
    const answered = rangesFrom(this.#owed.get(row.session.id)?.answered ?? []).slice(0, MAX_RANGES)
    // The ratchet may know of more than has had its turn.
    const read = this.readOf(row)
      .filter(([first]) => first <= received)
      .map(([first, last]): [number, number] => [first, Math.min(last, received)])
      .slice(0, MAX_RANGES)
    return {
      received,
      ...(read.length === 0 ? {} : { read }),
      ...(answered.length === 0 ? {} : { answered }),
      ...(row.peerClose === undefined ? {} : { closed: row.peerClose }),
      at: formatTimestamp(this.#core.now()),
    }
  }

  /** What is read of a session, said or not. */
  readOf({ session, read = [] }: SessionRow): SequenceRanges {
    const owed = this.#owed.get(session.id)?.read ?? []
    return owed.length === 0 ? read : unionOf(read, rangesFrom(owed))
  }

  /** The statement is in a sealed envelope. */
  said(sessionId: SessionId): void {
    this.#owed.delete(sessionId)
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

  /** Sends what one session is owed. Call within a commit. */
  sendOwed(sessionId: SessionId, afterCommit: (() => void)[]): void {
    const row = this.#core.store.tables.sessions.get(sessionId)
    try {
      if (row && this.#owed.has(sessionId)) this.#send(sessionId, this.statement(row), afterCommit)
    } catch (error) {
      // A session that cannot carry a receipt any more is over, and with it the wait for one.
      if (!isAgentMeshError(error)) throw error
    }
    this.#owed.delete(sessionId)
  }
}

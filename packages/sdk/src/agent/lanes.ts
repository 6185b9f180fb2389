/**
 * What is remembered so that a message need not ask the store where it goes: hints, which the rows confirm.
 */
import type { SessionId } from '../wire/index.ts'
import type { Core } from './core.ts'
import { laneOf, waitingFor } from './outgoing-rows.ts'
import type { OutgoingRow, SessionRow } from './tables.ts'

/** Lanes remembered; one that is not costs a query. */
const MAX_LANES = 1000

/** The open session of each lane. */
export class Lanes {
  readonly #core: Core
  /** The session a lane used last; whether it can still be used its row says. */
  readonly #last = new Map<string, SessionId>()

  constructor(core: Core) {
    this.#core = core
  }

  /** A session a message can go on, if one is open. */
  session(row: OutgoingRow): SessionRow | undefined {
    const lane = laneOf(row)
    const { sessions } = this.#core.store.tables
    const usable = (entry: SessionRow | undefined): boolean =>
      entry?.lane === lane &&
      entry.session.peer === row.to &&
      entry.session.state === 'open' &&
      entry.session.expiresAt > this.#core.now()
    const key = waitingFor(row.to, lane)
    const lastId = this.#last.get(key)
    const last = lastId === undefined ? undefined : sessions.get(lastId)
    if (usable(last)) return last
    this.#last.delete(key)
    const open = sessions.list({ a: row.to, b: 'open' }).map((entry) => entry.value)
    const found = open.find(usable)
    // The lane of a single request is used once.
    if (found && row.sessionType !== 'request_response') this.#remember(key, found.session.id)
    return found
  }

  #remember(key: string, id: SessionId): void {
    if (this.#last.size >= MAX_LANES) this.#last.clear()
    this.#last.set(key, id)
  }
}

/**
 * The sessions on which messages may wait for room: a work that was undone leaves one here too many, never one too few.
 */
export class WaitingOn {
  /** With how often one was added. */
  readonly #sessions = new Map<SessionId, number>()

  has(id: SessionId): boolean {
    return this.#sessions.has(id)
  }

  add(id: SessionId): void {
    this.#sessions.set(id, (this.#sessions.get(id) ?? 0) + 1)
  }

  /** Nothing waits there any more, once this commit is on disk, unless a later work of its group added something. */
  delete(id: SessionId, afterCommit: (() => void)[]): void {
    const added = this.#sessions.get(id)
    if (added === undefined) return
    afterCommit.push(() => {
      if (this.#sessions.get(id) === added) this.#sessions.delete(id)
    })
  }
}

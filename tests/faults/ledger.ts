/**
 * What two applications saw of their numbered requests, and what of it must never happen. An application is a listener
 * that writes down what it is handed before it answers; a request counts as processed from the moment its answer was
 * accepted by the daemon.
 *
 *   planned -> sent (send() resolved) -> handed, again after a crash -> accepted -> answered (the asker has the answer)
 */
import type { MessageId, SessionId } from '@agentmesh/sdk'

export interface HandedRequest {
  readonly id: MessageId
  readonly session_id: SessionId
  readonly n: number
}

interface Entry {
  readonly from: string
  readonly n: number
  sent: boolean
  handed: number
  accepted: number
  answers: unknown[]
}

export interface LedgerTotals {
  requests: number
  handedAgain: number
  sessions: number
}

export class Ledger {
  readonly #entries = new Map<MessageId, Entry>()
  /** Highest number handed for the first time, by session. */
  readonly #firsts = new Map<SessionId, number>()
  /** Numbers handed in one life of a daemon, by life and session: the last one. */
  readonly #lives = new Map<string, number>()
  readonly #problems: string[] = []

  /** Before send() is called: a call that a crash cut off may have been taken. */
  planned(from: string, id: MessageId, n: number): void {
    this.#entries.set(id, { from, n, sent: false, handed: 0, accepted: 0, answers: [] })
  }

  sent(id: MessageId): void {
    this.#entry(id).sent = true
  }

  /** @param life of the receiving daemon: within one, nothing is handed over twice */
  handed(life: string, { id, session_id, n }: HandedRequest): void {
    const entry = this.#entries.get(id)
    if (entry === undefined || entry.n !== n) {
      this.problem(`${life}: handed a request nobody sent: ${id}, ${n}`)
      return
    }
    if (entry.accepted > 0)
      this.problem(`${life}: ${describe(entry)} handed again after its answer was accepted`)
    if (entry.handed === 0) this.#inOrder(this.#firsts, session_id, session_id, entry)
    this.#inOrder(this.#lives, `${life} ${session_id}`, session_id, entry)
    entry.handed++
  }

  #inOrder<K>(last: Map<K, number>, key: K, session: SessionId, entry: Entry): void {
    const before = last.get(key) ?? -1
    if (entry.n <= before) this.problem(`${describe(entry)} handed after ${before} in session ${session}`)
    last.set(key, Math.max(before, entry.n))
  }

  accepted(id: MessageId): void {
    const entry = this.#entry(id)
    entry.accepted++
    if (entry.accepted > 1) this.problem(`${describe(entry)} was processed twice`)
  }

  answered(id: MessageId, results: unknown): void {
    this.#entry(id).answers.push(results)
  }

  problem(text: string): void {
    this.#problems.push(text)
  }

  #entry(id: MessageId): Entry {
    const entry = this.#entries.get(id)
    if (!entry) throw new Error(`${id} was never planned`)
    return entry
  }

  totals(): LedgerTotals {
    const entries = [...this.#entries.values()]
    return {
      requests: entries.filter(({ sent }) => sent).length,
      handedAgain: entries.reduce((sum, { handed }) => sum + Math.max(0, handed - 1), 0),
      sessions: this.#firsts.size,
    }
  }

  /** Everything that was wrong, when all has come to rest: what was sent is processed, and answered once with its number. */
  problems(): string[] {
    const problems = [...this.#problems]
    for (const entry of this.#entries.values()) {
      if (!entry.sent) continue
      if (entry.handed === 0) problems.push(`${describe(entry)} was never handed over`)
      const [answer, ...more] = entry.answers
      if (answer !== entry.n || more.length > 0) {
        problems.push(`${describe(entry)} has the answers ${JSON.stringify(entry.answers)}`)
      }
    }
    return problems
  }
}

function describe({ from, n }: Entry): string {
  return `request ${n} of ${from}`
}

/**
 * One application of the kill run: it asks numbered questions of its peer one after the other, answers the peer's, and
 * writes both into the ledger. It outlives its daemon: what a crash cut off is asked again under the same id, and streams
 * are read again from the next life on.
 */
import { isAgentMeshError, newMessageId, type MessageId } from '@agentmesh/sdk'
import { FLIGHTS } from '../support/network.ts'
import type { Member } from '../support/process-mesh.ts'
import type { Ledger } from './ledger.ts'

/** Requests without an answer, at most, that the application asks for by itself. */
const OUTSTANDING = 8
/** Every so many requests one has a session of its own, so that handshakes are cut off too. */
const KNOCK_EVERY = 6

/** Closed while the daemon is down. */
class Gate {
  readonly open: Promise<void>
  passable = false
  #pass!: () => void

  constructor() {
    this.open = new Promise<void>((resolve) => {
      this.#pass = resolve
    })
  }

  pass(): void {
    this.passable = true
    this.#pass()
  }
}

export class Application {
  readonly name: string
  readonly member: Member
  readonly #ledger: Ledger
  readonly #happened: () => void
  #peer!: Member
  #up = new Gate()
  #life = 0
  #next = 0
  #stopped = false
  #asking: Promise<void> = Promise.resolve()
  readonly #waiting = new Set<Promise<void>>()
  readonly #listening = new Set<Promise<void>>()

  /** @param happened called when a question was taken or answered, and when one of the peer's was handed over or its answer accepted */
  constructor(name: string, member: Member, ledger: Ledger, happened: () => void) {
    this.name = name
    this.member = member
    this.#ledger = ledger
    this.#happened = happened
  }

  /** The daemon answers: its listener attaches, and what waited for it goes on. */
  up(): void {
    this.#life++
    const listening = this.#listen(`${this.name} ${this.#life}`)
    this.#listening.add(listening)
    void listening.finally(() => this.#listening.delete(listening))
    this.#up.pass()
  }

  /** The daemon was killed. */
  down(): void {
    this.#up = new Gate()
  }

  /** Asks the peer without end, until `stop`. */
  async run(peer: Member): Promise<void> {
    this.#peer = peer
    while (!this.#stopped) {
      if (this.#waiting.size < OUTSTANDING) await this.ask()
      else await Promise.race(this.#waiting)
    }
  }

  stop(): void {
    this.#stopped = true
  }

  /** Resolves when every question has its end. */
  async answered(): Promise<void> {
    while (this.#waiting.size > 0) await Promise.all(this.#waiting)
  }

  /** Resolves when the listeners of killed daemons have ended. */
  async over(): Promise<void> {
    this.down()
    await Promise.all(this.#listening)
  }

  /** Asks one question; resolves when the daemon took it. Questions are taken in the order of their numbers. */
  async ask(): Promise<void> {
    const asked = this.#asking.then(() => this.#askNext())
    this.#asking = asked
    await asked
  }

  async #askNext(): Promise<void> {
    const n = this.#next++
    const id = newMessageId((length) => crypto.getRandomValues(new Uint8Array(length)))
    this.#ledger.planned(this.name, id, n)
    await this.#persist(() =>
      this.member.client.send(
        this.#peer.amid,
        { intent: FLIGHTS, parameters: { n } },
        { id, sessionType: n % KNOCK_EVERY === KNOCK_EVERY - 1 ? 'request_response' : 'conversation' },
      ),
    )
    this.#ledger.sent(id)
    const waiting = this.#persist(() => this.#awaitAnswer(id))
    this.#waiting.add(waiting)
    void waiting.finally(() => this.#waiting.delete(waiting))
    this.#happened()
  }

  /** Does it again after each crash that cut it off. */
  async #persist<T>(work: () => Promise<T>): Promise<T> {
    for (;;) {
      const { open } = this.#up
      await open
      try {
        return await work()
      } catch (error) {
        if (!isAgentMeshError(error, 'DAEMON_NOT_RUNNING')) throw error
        // Nobody closed the gate, so nobody killed it.
        if (this.#up.open === open) {
          throw new Error(`The daemon of ${this.name} went away by itself: ${this.member.daemon.stderr}`, {
            cause: error,
          })
        }
      }
    }
  }

  async #awaitAnswer(id: MessageId): Promise<void> {
    for await (const { stage, answer, code, message } of this.member.client.progress(id)) {
      if (stage === 'failed') this.#ledger.problem(`${id} of ${this.name} failed: ${code} ${message}`)
      if (stage !== 'answered') continue
      const results = answer && 'results' in answer.payload ? answer.payload.results : answer?.payload
      this.#ledger.answered(id, results)
      this.#happened()
    }
  }

  async #listen(life: string): Promise<void> {
    try {
      for await (const event of this.member.client.requests()) {
        if (event.type !== 'request') continue
        const { id, session_id, payload } = event.request
        const n = Number(payload.parameters['n'])
        this.#ledger.handed(life, { id, session_id, n })
        this.#happened()
        void this.#answer(event.handle, id, n)
      }
    } catch (error) {
      if (!isAgentMeshError(error, 'DAEMON_NOT_RUNNING')) throw error
    }
  }

  async #answer(handle: string, id: MessageId, n: number): Promise<void> {
    try {
      await this.member.client.answer(handle, { results: n })
      this.#ledger.accepted(id)
      this.#happened()
    } catch (error) {
      if (isAgentMeshError(error, 'DAEMON_NOT_RUNNING')) return
      this.#ledger.problem(`${this.name}: the answer to ${n} was refused: ${String(error)}`)
    }
  }
}

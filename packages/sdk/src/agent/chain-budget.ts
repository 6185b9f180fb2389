/**
 * How much a peer may make us derive a minute (spec/crypto.md 5.4). Who was let in holds the keys of its headers, so that one
 * small frame can say that 2,000 messages before it are missing; what it costs is known when the header is open, and taken
 * from a budget before anything is derived.
 *
 *     frame -> overdrawn? junk? -> header -> budget -> keys -> body -> opens: a new chain's price goes back
 *                                              |                 '---> does not: remembered, never derived for again
 *                                              '---> spent: the session is overdrawn and nothing of it is opened any more
 *
 * The next message of a chain is free, so that an honest peer spends nothing while messages come in order.
 */
import { RateLimiter } from '../session/index.ts'
import { AgentMeshError, isAgentMeshError, type Amid } from '../wire/index.ts'
import { isChosenPeer, type Core } from './core.ts'

/** Steps a minute, for one peer, and for all together whom the owner neither listed nor ever knocked at. */
export const STEPS_PER_PEER = 10_000
export const STEPS_OF_OTHERS = 60_000
/** What a new chain costs beside its steps: one Diffie-Hellman and one decapsulation, in steps of a chain. */
export const NEW_CHAIN_STEPS = 100
const OTHERS = 'others'

const MAX_OVERDRAWN = 1_000
const MAX_JUNK = 1_000

/** A packet whose reading is metered. */
export interface MeteredPacket {
  readonly from: Amid
  /** The session, or the KNOCK, that it says it belongs to. */
  readonly about: string
  /** Of sender, packet and type: under another type than it was sealed for the same bytes do not open. */
  readonly key: string
}

type MayDerive = (steps: number, newChain: boolean) => boolean

/** The last `max` values. */
class Recent {
  readonly #values = new Set<string>()
  readonly #max: number

  constructor(max: number) {
    this.#max = max
  }

  has(value: string): boolean {
    return this.#values.has(value)
  }

  add(value: string): void {
    this.#values.add(value)
    const [oldest] = this.#values
    if (this.#values.size > this.#max && oldest !== undefined) this.#values.delete(oldest)
  }
}

export class ChainBudget {
  readonly #core: Core
  readonly #peers = new RateLimiter()
  readonly #others = new RateLimiter()
  readonly #overdrawn = new Recent(MAX_OVERDRAWN)
  readonly #junk = new Recent(MAX_JUNK)

  constructor(core: Core) {
    this.#core = core
  }

  /** Whether a peer has spent its budget on this session. */
  isOverdrawn(from: Amid, about: string): boolean {
    return this.#overdrawn.has(`${from} ${about}`)
  }

  /**
   * Reads a packet within the budget.
   *
   * @throws what `read` throws; RATCHET_BUDGET, DECRYPTION_FAILED for what was said before, without a call of `read`
   */
  meter<T>({ from, about, key }: MeteredPacket, read: (mayDerive: MayDerive) => T): T {
    if (this.isOverdrawn(from, about)) throw new AgentMeshError('RATCHET_BUDGET')
    // The whole packet: a relay that changed its body must not keep the one it was made from away.
    if (this.#junk.has(key)) throw new AgentMeshError('DECRYPTION_FAILED')
    let isAsked = false
    let refund = 0
    const mayDerive: MayDerive = (steps, newChain) => {
      isAsked = true
      refund = newChain ? NEW_CHAIN_STEPS : 0
      return this.#take(from, about, steps + refund)
    }
    try {
      const opened = read(mayDerive)
      // It answers something that we said. What was passed over on the way counts all the same.
      this.#giveBack(from, refund)
      return opened
    } catch (error) {
      if (isAsked && isAgentMeshError(error, 'DECRYPTION_FAILED')) this.#junk.add(key)
      throw error
    }
  }

  #take(from: Amid, about: string, steps: number): boolean {
    const now = this.#core.now()
    if (!this.#peers.take(from, STEPS_PER_PEER, now, steps).allowed) {
      this.#overdrawn.add(`${from} ${about}`)
      return false
    }
    if (isChosenPeer(this.#core, from) || this.#others.take(OTHERS, STEPS_OF_OTHERS, now, steps).allowed)
      return true
    // Others spent it: this peer says its message again, and is not held to have spent anything.
    this.#peers.giveBack(from, steps)
    return false
  }

  #giveBack(from: Amid, steps: number): void {
    if (steps === 0) return
    this.#peers.giveBack(from, steps)
    if (!isChosenPeer(this.#core, from)) this.#others.giveBack(OTHERS, steps)
  }
}

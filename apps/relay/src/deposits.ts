/**
 * What each address has put into mailboxes and nobody has fetched. AMIDs cost nothing, so a quota by sender alone lets one
 * machine with many of them fill a mailbox, or all there are.
 *
 * It is kept in memory by the relay that took the messages. A restart forgets it, which gives an address its share once more.
 * Relays of one service each count what came through them, and divide the share of a mailbox by their number.
 */
import type { Amid, MessageId } from '@agentmesh/sdk/wire'
import type { RelayLimits } from './limits.ts'
import type { MailboxMessage } from './mailbox.ts'

export type DepositLimits = Pick<
  RelayLimits,
  | 'mailboxTtlMs'
  | 'senderMessages'
  | 'mailboxMessagesPerIp'
  | 'mailboxBytesPerIp'
  | 'storeMessagesPerIp'
  | 'storeBytesPerIp'
>

/** There may be as many as messages are stored. */
const SWEEP_MS = 60_000

export interface Stored {
  readonly to: Amid
  readonly from: Amid
  readonly id: MessageId
  /** Bytes of payload. */
  readonly size: number
}

interface Held {
  messages: number
  bytes: number
}

interface Deposit {
  /** Of each message its sender and id: sent again, it takes no second place. */
  readonly names: Set<string>
  bytes: number
  /** When the latest one was made, in milliseconds since the epoch. */
  at: number
}

export class Deposits {
  readonly #limits: DepositLimits
  readonly #relays: () => number
  readonly #byReceiver = new Map<Amid, Map<string, Deposit>>()
  readonly #byAddress = new Map<string, Held>()
  #sweptAt = 0

  /** @param relays of this service that are at work, this one included */
  constructor(limits: DepositLimits, relays: () => number) {
    this.#limits = limits
    this.#relays = relays
  }

  /** Mailboxes with something that is remembered. */
  get size(): number {
    return this.#byReceiver.size
  }

  /**
   * Whether an address may put a message into a mailbox. `new` is counted, until `withdraw` or `emptied`; `known` is counted
   * already.
   */
  make(address: string, message: MailboxMessage, now: number): 'new' | 'known' | 'full' {
    const { to, payload } = message
    const here = this.#byReceiver.get(to)
    const deposit = here?.get(address) ?? { names: new Set(), bytes: 0, at: now }
    const name = nameOf(message)
    if (deposit.names.has(name)) return 'known'
    const total = this.#byAddress.get(address) ?? { messages: 0, bytes: 0 }
    if (!this.#hasRoom(total, deposit, payload.length)) return 'full'
    deposit.names.add(name)
    deposit.bytes += payload.length
    deposit.at = now
    total.messages += 1
    total.bytes += payload.length
    this.#byAddress.set(address, total)
    if (here === undefined) this.#byReceiver.set(to, new Map([[address, deposit]]))
    else here.set(address, deposit)
    return 'new'
  }

  #hasRoom(total: Held, deposit: Deposit, bytes: number): boolean {
    const limits = this.#limits
    // What one honest sender may leave there is not cut by how many relays there are.
    const share = Math.max(limits.senderMessages, Math.floor(limits.mailboxMessagesPerIp / this.#relays()))
    return (
      total.messages < limits.storeMessagesPerIp &&
      total.bytes + bytes <= limits.storeBytesPerIp &&
      deposit.names.size < share &&
      deposit.bytes + bytes <= limits.mailboxBytesPerIp
    )
  }

  /** It is not in its mailbox: it was not stored after all, or its receiver has it. */
  withdraw({ to, from, id, size }: Stored): void {
    const here = this.#byReceiver.get(to)
    if (here === undefined) return
    for (const [address, deposit] of here) {
      if (!deposit.names.delete(nameOf({ from, id }))) continue
      deposit.bytes -= size
      this.#subtract(address, 1, size)
      if (deposit.names.size === 0) here.delete(address)
    }
    if (here.size === 0) this.#byReceiver.delete(to)
  }

  /** Its receiver gets its mail from another relay. */
  emptied(to: Amid): void {
    const here = this.#byReceiver.get(to)
    if (here === undefined) return
    for (const [address, { names, bytes }] of here) this.#subtract(address, names.size, bytes)
    this.#byReceiver.delete(to)
  }

  /** Forgets what has expired. */
  sweep(now: number): void {
    if (now - this.#sweptAt < SWEEP_MS) return
    this.#sweptAt = now
    for (const [to, here] of this.#byReceiver) {
      for (const [address, { names, bytes, at }] of here) {
        if (now - at <= this.#limits.mailboxTtlMs) continue
        this.#subtract(address, names.size, bytes)
        here.delete(address)
      }
      if (here.size === 0) this.#byReceiver.delete(to)
    }
  }

  #subtract(address: string, messages: number, bytes: number): void {
    const total = this.#byAddress.get(address)
    if (total === undefined) return
    total.messages -= messages
    total.bytes -= bytes
    if (total.messages === 0) this.#byAddress.delete(address)
  }
}

function nameOf({ from, id }: Pick<Stored, 'from' | 'id'>): string {
  return `${from} ${id}`
}

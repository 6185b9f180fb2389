/**
 * Messages that were given to another relay and whose outcome is not known: the only copy that anybody has promised
 * anything about is still here. Bounded like a connection's window, by receiver and in all.
 */
import type { Amid } from '@agentmesh/sdk/wire'
import type { RelayLimits } from '../limits.ts'
import type { MailboxMessage } from '../mailbox.ts'
import type { Outlet } from '../outlet.ts'
import type { ForwardedMessage, InstanceId } from './cluster-wire.ts'

export interface Forward extends ForwardedMessage {
  readonly instance: InstanceId
  readonly at: number
  /** The connection that waits for SENT; the last one that sent this message. */
  sender: Outlet
}

export type ForwardLimits = Pick<RelayLimits, 'windowMessages' | 'windowBytes' | 'totalWindowBytes'>

export class Forwards {
  readonly #limits: ForwardLimits
  /** Oldest first. */
  readonly #byNumber = new Map<number, Forward>()
  readonly #byMessage = new Map<string, Forward>()
  readonly #byReceiver = new Map<Amid, { messages: number; bytes: number }>()
  #lastNumber = 0
  #bytes = 0

  constructor(limits: ForwardLimits) {
    this.#limits = limits
  }

  get size(): number {
    return this.#byNumber.size
  }
  get bytes(): number {
    return this.#bytes
  }

  find(message: MailboxMessage): Forward | undefined {
    return this.#byMessage.get(keyOf(message))
  }

  /** `undefined` when there is no room. */
  add(instance: InstanceId, message: MailboxMessage, sender: Outlet, at: number): Forward | undefined {
    const { windowMessages, windowBytes, totalWindowBytes } = this.#limits
    const share = this.#byReceiver.get(message.to) ?? { messages: 0, bytes: 0 }
    if (share.messages >= windowMessages || share.bytes >= windowBytes) return undefined
    if (this.#bytes >= totalWindowBytes) return undefined
    share.messages += 1
    share.bytes += message.payload.length
    this.#byReceiver.set(message.to, share)
    this.#bytes += message.payload.length
    const forward = { number: ++this.#lastNumber, instance, message, sender, at }
    this.#byNumber.set(forward.number, forward)
    this.#byMessage.set(keyOf(message), forward)
    return forward
  }

  /** Its outcome is known. `undefined` for a number that is not out at this relay. */
  take(instance: InstanceId, number: number): Forward | undefined {
    const forward = this.#byNumber.get(number)
    if (forward?.instance !== instance) return undefined
    return this.#remove(forward)
  }

  /** Everything at one relay, or at all of them, in the order it was sent. */
  takeAll(instance?: InstanceId): Forward[] {
    return [...this.#byNumber.values()]
      .filter((forward) => instance === undefined || forward.instance === instance)
      .map((forward) => this.#remove(forward))
  }

  /** What was sent before `time`. */
  takeOlder(time: number): Forward[] {
    const older: Forward[] = []
    for (const forward of this.#byNumber.values()) {
      if (forward.at >= time) break
      older.push(forward)
    }
    return older.map((forward) => this.#remove(forward))
  }

  #remove(forward: Forward): Forward {
    const { number, message } = forward
    this.#byNumber.delete(number)
    this.#byMessage.delete(keyOf(message))
    this.#bytes -= message.payload.length
    const share = this.#byReceiver.get(message.to)
    if (share !== undefined) {
      share.messages -= 1
      share.bytes -= message.payload.length
      if (share.messages === 0) this.#byReceiver.delete(message.to)
    }
    return forward
  }
}

function keyOf({ to, from, id }: MailboxMessage): string {
  return `${to} ${from} ${id}`
}

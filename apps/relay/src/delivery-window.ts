/**
 * The RECEIVEs a connection has not acknowledged yet, numbered from 1. Bounded by its user, who asks `hasRoom` first.
 *
 * A message that is also in the mailbox is only remembered here; of the others this is the only copy until the receiver
 * acknowledges or the connection ends.
 */
import { AgentMeshError, type Amid, type MessageId } from '@agentmesh/sdk/wire'
import type { MailboxMessage, Place } from './mailbox.ts'

export interface InFlight<Sender> {
  readonly message: MailboxMessage
  /** Where it stands in the mailbox, its sender having been told `stored`; undefined: this is the only copy. */
  place: Place | undefined
  /** The connection that waits for SENT; the last one that sent this message. */
  sender: Sender | undefined
}

export class DeliveryWindow<Sender> {
  readonly #bySequence = new Map<number, InFlight<Sender>>()
  readonly #byMessage = new Map<string, InFlight<Sender>>()
  #sent = 0
  #acknowledged = 0
  #bytes = 0

  get count(): number {
    return this.#bySequence.size
  }
  get bytes(): number {
    return this.#bytes
  }

  hasRoom(maxMessages: number, maxBytes: number): boolean {
    return this.#bySequence.size < maxMessages && this.#bytes < maxBytes
  }

  find(from: Amid, id: MessageId): InFlight<Sender> | undefined {
    return this.#byMessage.get(messageKey(from, id))
  }

  /** Returns the sequence number for its RECEIVE. */
  add(entry: InFlight<Sender>): number {
    this.#sent += 1
    this.#bySequence.set(this.#sent, entry)
    this.#byMessage.set(messageKey(entry.message.from, entry.message.id), entry)
    this.#bytes += entry.message.payload.length
    return this.#sent
  }

  /**
   * Everything up to `sequence`, oldest first; nothing when it was acknowledged before.
   *
   * @throws ACK_OUT_OF_RANGE for a number that was never sent
   */
  acknowledge(sequence: number): InFlight<Sender>[] {
    if (sequence > this.#sent) throw new AgentMeshError('ACK_OUT_OF_RANGE')
    const done: InFlight<Sender>[] = []
    while (this.#acknowledged < sequence) {
      this.#acknowledged += 1
      const entry = this.#bySequence.get(this.#acknowledged)
      if (entry === undefined) continue
      this.#bySequence.delete(this.#acknowledged)
      this.#byMessage.delete(messageKey(entry.message.from, entry.message.id))
      this.#bytes -= entry.message.payload.length
      done.push(entry)
    }
    return done
  }

  /** What is unacknowledged, oldest first. */
  entries(): IterableIterator<InFlight<Sender>> {
    return this.#bySequence.values()
  }
}

function messageKey(from: Amid, id: MessageId): string {
  return `${from} ${id}`
}

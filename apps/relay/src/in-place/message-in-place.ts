/**
 * A message where it lies: in the buffer a socket was read into, in the slab it was written to, or in bytes of its own. The
 * send path hands these on instead of frames with texts and copies; whoever keeps a message that lies in somebody else's buffer
 * asks for `copy`.
 */
import {
  fromBase64,
  idToBytes,
  messageIdFromBytes,
  type Amid,
  type MessageId,
  type MessageType,
  type ReceiveFrame,
  type SentFrame,
  type SentStatus,
} from '@agentmesh/sdk/wire'
import type { MailboxMessage, Place } from '../mailbox.ts'
import type { Slab } from '../slab-pool.ts'

const NOTHING = Buffer.alloc(0)
const NOBODY = '' as Amid

export class MessageInPlace {
  to: Amid = NOBODY
  type: MessageType = 'message'
  /** The 16 bytes of its id, as four signed integers: compared and written without a text. */
  idA = 0
  idB = 0
  idC = 0
  idD = 0
  /** The payload is `bytes` from `start` to `end`; as the base64 text of it where `base64` is set. */
  bytes: Buffer = NOTHING
  start = 0
  end = 0
  base64 = false

  /** Of a message that lies in bytes of its own. */
  static of({
    to,
    type,
    id,
    payload,
  }: Pick<MailboxMessage, 'to' | 'type' | 'id' | 'payload'>): MessageInPlace {
    const message = new MessageInPlace()
    message.to = to
    message.type = type
    message.setId(id)
    message.bytes = Buffer.from(payload.buffer, payload.byteOffset, payload.length)
    message.end = payload.length
    return message
  }

  /** Payload bytes, before any base64. */
  get size(): number {
    const length = this.end - this.start
    if (!this.base64) return length
    const padding = this.bytes[this.end - 2] === PADDING ? 2 : this.bytes[this.end - 1] === PADDING ? 1 : 0
    return length === 0 ? 0 : (length / 4) * 3 - padding
  }

  get id(): MessageId {
    const bytes = Buffer.allocUnsafe(16)
    bytes.writeInt32BE(this.idA, 0)
    bytes.writeInt32BE(this.idB, 4)
    bytes.writeInt32BE(this.idC, 8)
    bytes.writeInt32BE(this.idD, 12)
    return messageIdFromBytes(bytes)
  }

  setId(id: MessageId): void {
    const bytes = Buffer.from(idToBytes(id))
    this.idA = bytes.readInt32BE(0)
    this.idB = bytes.readInt32BE(4)
    this.idC = bytes.readInt32BE(8)
    this.idD = bytes.readInt32BE(12)
  }

  hasIdOf(other: MessageInPlace): boolean {
    return (
      this.idA === other.idA && this.idB === other.idB && this.idC === other.idC && this.idD === other.idD
    )
  }

  /** A copy. */
  get payload(): Uint8Array {
    if (this.base64) return fromBase64(this.bytes.toString('latin1', this.start, this.end))
    return new Uint8Array(this.bytes.subarray(this.start, this.end))
  }

  /** What stays when the buffer is used again. */
  copy(from: Amid, timestamp: number): MailboxMessage {
    const { to, id, type, payload } = this
    return { to, from, id, type, timestamp, payload }
  }
}

const PADDING = 0x3d

/** A message that was delivered and is not acknowledged: a RECEIVE, and all that is needed to store it after all. */
export class InFlight<Sender> extends MessageInPlace implements ReceiveFrame {
  readonly frame = 'RECEIVE'
  readonly from: Amid
  readonly timestamp: number
  sequence = 0
  /** Where it stands in the mailbox, its sender having been told `stored`; undefined: this is the only copy. */
  place: Place | undefined
  /** The connection that waits for SENT; the last one that sent this message. */
  sender: Sender | undefined
  /** In the window: the one that was sent after it, and an older one with the same hash. */
  newer: InFlight<Sender> | undefined
  next: InFlight<Sender> | undefined
  #slab: Slab | undefined

  constructor(
    message: MessageInPlace,
    from: Amid,
    timestamp: number,
    sender: Sender | undefined,
    place: Place | undefined,
  ) {
    super()
    this.to = message.to
    this.type = message.type
    this.idA = message.idA
    this.idB = message.idB
    this.idC = message.idC
    this.idD = message.idD
    this.bytes = message.bytes
    this.start = message.start
    this.end = message.end
    this.base64 = message.base64
    this.from = from
    this.timestamp = timestamp
    this.sender = sender
    this.place = place
  }

  /** It has been written there. */
  liesIn(slab: Slab, start: number, end: number, base64: boolean): void {
    slab.hold()
    this.#slab = slab
    this.bytes = slab.bytes
    this.start = start
    this.end = end
    this.base64 = base64
  }

  /** Nobody will ask for its payload any more. */
  release(): void {
    if (this.#slab === undefined) return
    this.#slab.drop()
    this.#slab = undefined
    this.bytes = NOTHING
    this.start = 0
    this.end = 0
  }
}

/** SENT for a message that was taken. */
export class SentInPlace implements SentFrame {
  readonly frame = 'SENT'
  readonly message: MessageInPlace
  readonly status: Exclude<SentStatus, 'refused'>

  constructor(message: MessageInPlace, status: Exclude<SentStatus, 'refused'>) {
    this.message = message
    this.status = status
  }

  get id(): MessageId {
    return this.message.id
  }
}

/**
 * The four frames of the send path, read where they came and written where they go, in each of the two encodings. What is
 * not read here, because it is another frame, is spelled otherwise, or is wrong, the codec reads: only it decides what is
 * refused, and `in-place.test.ts` holds the two against each other.
 */
import type { Slab } from '../slab-pool.ts'
import type { InFlight, MessageInPlace, SentInPlace } from './message-in-place.ts'

/** Where frames are written: the caller of `take` fills as many bytes of `slab` as it asked for, from where it is told. */
export interface FrameRoom {
  readonly slab: Slab
  take(first: number, length: number): number
}

/** The numbers of an ACK. */
export class AckInPlace {
  sequence = 0
  stateCounter = 0
}

export interface InPlaceEncoding {
  /** Fills `message` with the SEND that lies there; false when the codec has to read it. */
  readSend(message: MessageInPlace, data: Buffer, start: number, end: number): boolean
  /** Fills `ack` with the ACK that lies there; false when the codec has to read it. */
  readAck(ack: AckInPlace, data: Buffer, start: number, end: number): boolean
  /** Writes a RECEIVE; from then on the message lies where it was written. */
  writeReceive(room: FrameRoom, message: InFlight<unknown>): void
  writeSent(room: FrameRoom, sent: SentInPlace): void
}

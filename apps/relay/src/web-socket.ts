/**
 * One WebSocket, the server's side, on a TCP connection that has asked for it: frames in and out, pings, and the closing
 * handshake (RFC 6455 §5.5, §7).
 *
 *     open ---- close(), fault ----> closing ---- Close came, or its time is up ----> closed
 *       \------ Close came, answered, socket ended -------------------------------------^
 *
 * What comes while closing is read only to find the Close: leaving it unread would make the kernel reset the connection, and
 * the other side would lose what it was told.
 */
import type { Socket } from 'node:net'
import type { Counters } from './counters.ts'
import { readInPlace } from './read-in-place.ts'
import { SocketWriter, type WriteBatch } from './socket-writer.ts'
import {
  NO_STATUS,
  WebSocketFault,
  WebSocketReader,
  type ReaderLimits,
  type WebSocketSink,
} from './web-socket-reader.ts'

const ignore = () => {}

/** First bytes of frames a server sends whole (§5.2). */
const CLOSE = 0x88
const PING = 0x89
const PONG = 0x8a

export interface WebSocketUser {
  /** As `WebSocketSink.takes`. */
  takes(data: Buffer, start: number, end: number, isText: boolean): boolean
  /** Valid during the call only. */
  message(data: Buffer, start: number, end: number, isText: boolean): void
  /** So much more memory is taken by a message whose end has not come; less, where it has. */
  unfinished(bytes: number): void
  /** Frames were read; returns for how many milliseconds no more are to be. */
  restAfter(frames: number): number
  /** The other side does not read what it is sent: more waits than may. */
  behind(): void
  /** The first sign that it is over; once. Nothing comes after it. */
  ending(): void
  /** The TCP connection is gone; once. */
  ended(): void
}

/** What all WebSockets of a server share. */
export interface WebSocketSettings extends ReaderLimits {
  readonly batch: WriteBatch
  readonly counters: Counters
  /** Bytes that may wait for the other side to read them, and so many that nothing is read from it meanwhile. */
  readonly maxWaitingBytes: number
  readonly pauseWaitingBytes: number
  /** Milliseconds a closing socket may take to finish by itself. */
  readonly closeGraceMs: number
}

/** A request that was found good. */
export interface Handshake {
  /** As accepted; `WebSocket.socket` is the one to use after. */
  readonly socket: Socket
  /** What came behind the request. */
  readonly head: Buffer
  /** The HTTP answer that is written first. */
  readonly answer: string
}

export class WebSocket implements WebSocketSink {
  readonly socket: Socket
  readonly writer: SocketWriter
  readonly #user: WebSocketUser
  readonly #reader: WebSocketReader
  readonly #settings: WebSocketSettings
  #state: 'open' | 'closing' | 'closed' = 'open'
  /** A fault was found: nothing that comes can be understood. */
  #deaf = false
  /** A ping is out and nothing has come back since. */
  #silent = false
  #closeTimer: NodeJS.Timeout | undefined
  /** Nothing is read before then: it is not its turn, or it has to read first. */
  #restTimer: NodeJS.Timeout | undefined
  #waits = false
  #unfinishedBytes = 0

  constructor(handshake: Handshake, settings: WebSocketSettings, user: WebSocketUser) {
    this.#user = user
    this.#settings = settings
    this.#reader = new WebSocketReader(this, settings)
    this.socket = readInPlace(handshake.socket, (data, length) => this.#read(data, length))
    this.writer = new SocketWriter(this.socket, settings.batch, settings.counters, (bytes) => {
      if (this.#state === 'open' && bytes > settings.maxWaitingBytes) this.#user.behind()
    })
    // `close` follows, and says all there is to know.
    this.socket.on('error', ignore)
    this.socket.on('close', () => this.#socketClosed())
    this.socket.write(handshake.answer)
    if (handshake.head.length > 0) {
      const head = Buffer.from(handshake.head)
      // Not before the user has this object.
      setImmediate(() => this.#read(head, head.length))
    }
  }

  /** Ends a connection whose other side is gone without a word; asks the others for a sign of life. */
  checkAlive(): void {
    if (this.#silent) return this.terminate()
    this.#silent = true
    this.#control(PING, Buffer.alloc(0))
  }

  /** Begins the closing handshake. @param reason ASCII, at most 123 characters */
  close(closeCode: number, reason: string): void {
    if (this.#state !== 'open') return
    this.#state = 'closing'
    this.#readAgain()
    this.#sendClose(closeCode, reason)
    this.#limitTime()
  }

  terminate(): void {
    if (this.#state === 'open') this.#user.ending()
    this.#state = 'closed'
    this.socket.destroy()
  }

  /** The other side's Close is waited for. */
  #readAgain(): void {
    clearTimeout(this.#restTimer)
    this.#restTimer = undefined
    this.#waits = false
    this.socket.resume()
  }

  #limitTime(): void {
    clearTimeout(this.#closeTimer)
    this.#closeTimer = setTimeout(() => this.terminate(), this.#settings.closeGraceMs)
    this.#closeTimer.unref()
  }

  #read(data: Buffer, length: number): void {
    this.#silent = false
    if (this.#deaf) return
    const before = this.#reader.frames
    try {
      this.#reader.read(data, length)
      this.#countUnfinished(this.#reader.unfinishedBytes)
      // Bytes one by one cost as much as frames.
      this.#rest(Math.max(1, this.#reader.frames - before))
    } catch (error) {
      if (!(error instanceof WebSocketFault)) throw error
      this.#deaf = true
      if (this.#state === 'open') this.#user.ending()
      this.close(error.closeCode, error.message)
    }
  }

  #countUnfinished(bytes: number): void {
    const more = bytes - this.#unfinishedBytes
    if (more === 0) return
    this.#unfinishedBytes = bytes
    this.#user.unfinished(more)
  }

  #rest(frames: number): void {
    if (this.#state !== 'open') return
    const { socket } = this
    if (socket.writableLength > this.#settings.pauseWaitingBytes && !this.#waits) {
      this.#waits = true
      socket.once('drain', () => {
        this.#waits = false
        this.#goOn()
      })
    }
    const restMs = this.#user.restAfter(frames)
    if (restMs > 0) {
      clearTimeout(this.#restTimer)
      this.#restTimer = setTimeout(() => {
        this.#restTimer = undefined
        this.#goOn()
      }, restMs).unref()
    }
    if (!this.#waits && this.#restTimer === undefined) return
    this.#settings.counters.pauses += 1
    socket.pause()
  }

  #goOn(): void {
    if (!this.#waits && this.#restTimer === undefined) this.socket.resume()
  }

  #socketClosed(): void {
    clearTimeout(this.#closeTimer)
    clearTimeout(this.#restTimer)
    this.#countUnfinished(0)
    if (this.#state === 'open') this.#user.ending()
    this.#state = 'closed'
    this.#user.ended()
  }

  // --- from the reader ------------------------------------------------------------------------------------------------

  takes(data: Buffer, start: number, end: number, isText: boolean): boolean {
    return this.#state === 'open' && this.#user.takes(data, start, end, isText)
  }

  onMessage(data: Buffer, start: number, end: number, isText: boolean): void {
    if (this.#state === 'open') this.#user.message(data, start, end, isText)
  }

  onPing(payload: Buffer): void {
    if (this.#state === 'open') this.#control(PONG, payload)
  }

  onPong(): void {}

  onClose(closeCode: number): void {
    if (this.#state === 'open') {
      this.#user.ending()
      // §5.5.1: the answer names the same code.
      this.#sendClose(closeCode, '')
    }
    this.#state = 'closed'
    this.socket.end()
    this.#limitTime()
  }

  // --- out ------------------------------------------------------------------------------------------------------------

  #sendClose(closeCode: number, reason: string): void {
    const payload = Buffer.alloc(closeCode === NO_STATUS ? 0 : 2 + reason.length)
    if (payload.length > 0) {
      payload.writeUInt16BE(closeCode)
      payload.write(reason, 2, 'latin1')
    }
    this.#control(CLOSE, payload)
    this.writer.flush()
  }

  #control(first: number, payload: Buffer): void {
    const at = this.writer.take(first, payload.length)
    this.writer.slab.bytes.set(payload, at)
  }
}

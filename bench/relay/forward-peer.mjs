/** A connection to `forward-server.mjs`: messages are so many bytes each, to whoever it paired this one with. */
import { Connection } from './connection.mjs'

/** What a SEND has in front of its payload, with its WebSocket header. */
const HEADER_BYTES = 46

export class ForwardPeer {
  connection
  name = ''
  arrived = 0
  answered = 0
  refused = 0
  /** @type {() => void} */
  onProgress = () => {}
  #message = Buffer.alloc(0)
  #rest = 0

  /** @param {{ host: string, port: number, localAddress?: string }} options */
  constructor({ host, port, localAddress }) {
    this.connection = new Connection(host, port, localAddress)
  }

  async open() {
    await this.connection.opened()
    this.connection.reader = (_, start, end) => {
      const bytes = this.#rest + end - start
      this.arrived += Math.floor(bytes / this.#message.length)
      this.#rest = bytes % this.#message.length
      if (this.arrived > 0) this.onProgress()
      return end
    }
    return 0
  }

  /** @param {string} _ @param {number} size */
  prepare(_, size) {
    this.#message = Buffer.alloc(HEADER_BYTES + size, 7)
  }

  /** @param {string} _ @param {number} count */
  send(_, count) {
    this.sendAll([''], count)
  }

  /** @param {readonly string[]} receivers @param {number} count */
  sendAll(receivers, count) {
    const { connection } = this
    const messages = receivers.length * count
    const out = connection.room(messages * this.#message.length)
    for (let index = 0; index < messages; index++) this.#message.copy(out, index * this.#message.length)
    connection.flush(messages * this.#message.length)
  }

  acknowledge() {}

  close() {
    this.connection.close()
  }
}

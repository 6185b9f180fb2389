/**
 * An MQTT 3.1.1 client of the load generator, over TCP, at quality of service 1: the session outlives the connection, so
 * that the broker keeps what comes meanwhile, and every message is acknowledged by PUBACK.
 */
import { randomBytes } from 'node:crypto'
import { Connection } from './connection.mjs'

const KEEP_SESSION = 0x00

export class MqttPeer {
  connection
  name
  arrived = 0
  answered = 0
  refused = 0
  /** @type {() => void} */
  onProgress = () => {}
  /** Packet ids to acknowledge. @type {number[]} */
  #received = []
  #packet = 0
  /** @type {Map<string, Buffer>} */
  #messages = new Map()
  /** @type {(type: number) => void} */
  #onAnswer = () => {}

  /** @param {{ host: string, port: number, name?: string, localAddress?: string }} options */
  constructor({ host, port, name = randomBytes(14).toString('hex'), localAddress }) {
    this.name = name
    this.connection = new Connection(host, port, localAddress)
  }

  async open() {
    await this.connection.opened()
    this.connection.reader = this.#read
    const id = Buffer.from(this.name)
    const body = Buffer.concat([
      Buffer.from([0, 4]),
      Buffer.from('MQTT'),
      Buffer.from([4, KEEP_SESSION, 0, 0, 0, id.length]),
      id,
    ])
    await this.#ask(0x20, packet(0x10, body))
    return 0
  }

  async subscribe() {
    const topic = Buffer.from(this.name)
    await this.#ask(
      0x90,
      packet(0x82, Buffer.concat([Buffer.from([0, 1, 0, topic.length]), topic, Buffer.from([1])])),
    )
  }

  /** @param {number} type of the answer @param {Buffer} bytes */
  async #ask(type, bytes) {
    const answered = new Promise((resolve) => {
      this.#onAnswer = (got) => {
        if (got === type) resolve(undefined)
      }
    })
    this.connection.socket.write(bytes)
    await answered
  }

  #read = (/** @type {Buffer} */ data, /** @type {number} */ start, /** @type {number} */ end) => {
    let at = start
    for (;;) {
      if (end - at < 2) break
      let length = 0
      let body = at + 1
      let shift = 0
      while (body < end) {
        const byte = data[body++] ?? 0
        length |= (byte & 0x7f) << shift
        shift += 7
        if (byte < 0x80) {
          shift = -1
          break
        }
      }
      if (shift >= 0 || end - body < length) break
      const type = (data[at] ?? 0) & 0xf0
      if (type === 0x30) {
        this.#received.push(data.readUInt16BE(body + 2 + data.readUInt16BE(body)))
        this.arrived += 1
      } else if (type === 0x40) this.answered += 1
      else this.#onAnswer(type)
      at = body + length
    }
    if (this.arrived + this.answered > 0) this.onProgress()
    return at
  }

  /** @param {string} to @param {number} size */
  prepare(to, size) {
    if (this.#messages.has(to)) return
    const topic = Buffer.from(to)
    const head = Buffer.from([0, topic.length])
    this.#messages.set(
      to,
      packet(0x32, Buffer.concat([head, topic, Buffer.alloc(2), Buffer.alloc(size, 0x61)])),
    )
  }

  /** @param {string} to @param {number} count */
  send(to, count) {
    this.sendAll([to], count)
  }

  /** @param {readonly string[]} receivers @param {number} count */
  sendAll(receivers, count) {
    let length = 0
    for (const to of receivers) length += (this.#messages.get(to)?.length ?? 0) * count
    const out = this.connection.room(length)
    let at = 0
    for (const to of receivers) {
      const message = this.#messages.get(to)
      if (message === undefined) throw new Error('not prepared')
      for (let index = 0; index < count; index++) {
        message.copy(out, at)
        this.#packet = (this.#packet % 0xffff) + 1
        const header = 1 + (message.length > 129 ? 2 : 1)
        out.writeUInt16BE(this.#packet, at + header + 2 + to.length)
        at += message.length
      }
    }
    this.connection.flush(at)
  }

  acknowledge() {
    if (this.#received.length === 0) return
    const out = this.connection.room(4 * this.#received.length)
    let at = 0
    for (const id of this.#received) {
      out[at] = 0x40
      out[at + 1] = 2
      at = out.writeUInt16BE(id, at + 2)
    }
    this.#received = []
    this.connection.flush(at)
  }

  close() {
    this.connection.close()
  }
}

/** @param {number} type @param {Buffer} body */
function packet(type, body) {
  /** @type {number[]} */
  const length = []
  let left = body.length
  do {
    length.push((left & 0x7f) | (left > 0x7f ? 0x80 : 0))
    left >>= 7
  } while (left > 0)
  return Buffer.concat([Buffer.from([type, ...length]), body])
}

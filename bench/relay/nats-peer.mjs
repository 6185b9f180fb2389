/**
 * A NATS client of the load generator, over TCP or WebSocket: one subscription under its own name, messages published to
 * others. What is published at once travels in one WebSocket frame, as NATS's own clients do it.
 */
import { randomBytes } from 'node:crypto'
import { Connection } from './connection.mjs'
import {
  BINARY,
  headerBytes,
  mask,
  maskedFrame,
  readFrames,
  upgradeRequest,
  writeHeader,
} from './web-socket.mjs'

const CONNECT = `CONNECT ${JSON.stringify({
  verbose: false,
  pedantic: false,
  lang: 'bench',
  version: '1',
  protocol: 1,
  headers: false,
})}\r\n`
const NEW_LINE = 0x0a

export class NatsPeer {
  connection
  name = randomBytes(14).toString('hex')
  arrived = 0
  answered = 0
  refused = 0
  /** @type {() => void} */
  onProgress = () => {}
  #webSocket
  /** What to skip until the end of a message's payload. */
  #skip = 0
  #line = ''
  /** @type {Map<string, Buffer>} */
  #messages = new Map()
  /** @type {() => void} */
  #onPong = () => {}

  /** @param {{ encoding: 'tcp' | 'ws', host: string, port: number, localAddress?: string }} options */
  constructor({ encoding, host, port, localAddress }) {
    this.#webSocket = encoding === 'ws'
    this.connection = new Connection(host, port, localAddress)
    this.host = `${host}:${port}`
  }

  async open() {
    const { connection } = this
    await connection.opened()
    if (this.#webSocket) {
      await new Promise((resolve) => {
        connection.reader = (data, start, end) => {
          const head = data.indexOf('\r\n\r\n', start)
          if (head < 0 || head >= end) return start
          connection.reader = this.#readFrames
          resolve(undefined)
          return this.#readFrames(data, head + 4, end)
        }
        connection.socket.write(upgradeRequest(this.host, '/', undefined))
      })
    } else connection.reader = this.#readStream
    const pong = new Promise((resolve) => {
      this.#onPong = () => resolve(undefined)
    })
    this.#write(Buffer.from(`${CONNECT}SUB ${this.name} 1\r\nPING\r\n`))
    await pong
    return 0
  }

  /** @param {Buffer} bytes */
  #write(bytes) {
    this.connection.socket.write(this.#webSocket ? maskedFrame(BINARY, bytes) : bytes)
  }

  #readFrames = (/** @type {Buffer} */ data, /** @type {number} */ start, /** @type {number} */ end) => {
    const done = readFrames(data, start, end, (bytes, opcode, from, to) => {
      if (opcode === 9) this.connection.socket.write(maskedFrame(0x8a, bytes.subarray(from, to)))
      if (opcode < 8) this.#readProtocol(bytes, from, to)
    })
    if (this.arrived > 0) this.onProgress()
    return done
  }

  #readStream = (/** @type {Buffer} */ data, /** @type {number} */ start, /** @type {number} */ end) => {
    this.#readProtocol(data, start, end)
    if (this.arrived > 0) this.onProgress()
    return end
  }

  /** @param {Buffer} data @param {number} start @param {number} end */
  #readProtocol(data, start, end) {
    let at = start
    while (at < end) {
      if (this.#skip > 0) {
        const part = Math.min(this.#skip, end - at)
        at += part
        this.#skip -= part
        if (this.#skip === 0) this.arrived += 1
        continue
      }
      const lineEnd = data.indexOf(NEW_LINE, at)
      if (lineEnd < 0 || lineEnd >= end) {
        this.#line += data.latin1Slice(at, end)
        return
      }
      if (this.#line === '' && data[at] === 0x4d) this.#skip = sizeBefore(data, lineEnd - 1) + 2
      else this.#readLine(this.#line + data.latin1Slice(at, lineEnd - 1))
      this.#line = ''
      at = lineEnd + 1
    }
  }

  /** @param {string} line */
  #readLine(line) {
    if (line.startsWith('MSG ')) this.#skip = Number(line.slice(line.lastIndexOf(' ') + 1)) + 2
    else if (line === 'PING') this.#write(Buffer.from('PONG\r\n'))
    else if (line === 'PONG') this.#onPong()
    else if (line.startsWith('-ERR')) {
      this.refused += 1
      console.error(line)
    }
  }

  /** @param {string} to @param {number} size */
  prepare(to, size) {
    if (this.#messages.has(to)) return
    const payload = Uint8Array.from({ length: size }, (_, index) => (index * 7 + 13) & 0xff)
    const message = Buffer.concat([Buffer.from(`PUB ${to} ${size}\r\n`), payload, Buffer.from('\r\n')])
    if (this.#webSocket) mask(message, 0, message.length)
    this.#messages.set(to, message)
  }

  /** @param {string} to @param {number} count */
  send(to, count) {
    this.sendAll([to], count)
  }

  /** @param {readonly string[]} receivers @param {number} count */
  sendAll(receivers, count) {
    let length = 0
    for (const to of receivers) length += (this.#messages.get(to)?.length ?? 0) * count
    const header = this.#webSocket ? headerBytes(length) : 0
    const out = this.connection.room(header + length)
    let at = this.#webSocket ? writeHeader(out, 0, BINARY, length) : 0
    for (const to of receivers) {
      const message = this.#messages.get(to)
      if (message === undefined) throw new Error('not prepared')
      for (let index = 0; index < count; index++) at += message.copy(out, at)
    }
    this.connection.flush(at)
  }

  acknowledge() {}

  close() {
    this.connection.close()
  }
}

/** The decimal number that ends before `end`. @param {Buffer} data @param {number} end */
function sizeBefore(data, end) {
  let value = 0
  let unit = 1
  for (let at = end - 1; data[at] !== 0x20; at--) {
    value += ((data[at] ?? 0) - 0x30) * unit
    unit *= 10
  }
  return value
}

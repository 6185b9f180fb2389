/**
 * A raw TCP connection of the load generator: all connections of the process read into one buffer, and what is not a whole
 * frame yet is kept aside. One event of a connection is one write at most.
 */
import { once } from 'node:events'
import { connect } from 'node:net'

const shared = Buffer.allocUnsafe(256 * 1024)

export class Connection {
  socket
  /** Reads `data` from `start` to `end`; returns how far it came. @type {(data: Buffer, start: number, end: number) => number} */
  reader = (_, start) => start
  #rest = Buffer.alloc(0)
  #out = Buffer.allocUnsafe(1024)

  /**
   * @param {string} host
   * @param {number} port
   * @param {string} [localAddress]
   */
  constructor(host, port, localAddress) {
    this.socket = connect({
      host,
      port,
      ...(localAddress === undefined ? {} : { localAddress }),
      noDelay: true,
      onread: {
        buffer: shared,
        callback: (length, data) => {
          this.#read(/** @type {Buffer} */ (data), length)
          return true
        },
      },
    })
    this.socket.on('error', (error) => {
      console.error(`a connection failed: ${error.message}`)
      process.exit(1)
    })
    this.socket.on('close', () => {
      if (this.closing) return
      console.error('the server closed a connection')
      process.exit(1)
    })
  }

  closing = false

  async opened() {
    await once(this.socket, 'connect')
  }

  close() {
    this.closing = true
    this.socket.destroy()
  }

  /** @param {Buffer} chunk @param {number} length */
  #read(chunk, length) {
    let data = chunk
    let end = length
    if (this.#rest.length > 0) {
      data = Buffer.concat([this.#rest, chunk.subarray(0, length)])
      end = data.length
      this.#rest = Buffer.alloc(0)
    }
    const done = this.reader(data, 0, end)
    if (done < end) this.#rest = Buffer.from(data.subarray(done, end))
  }

  /** Room for that many bytes, to be filled and sent by `flush`. @param {number} bytes */
  room(bytes) {
    // What the kernel has not taken is still in use.
    if (this.#out.length < bytes || this.socket.writableLength > 0) this.#out = Buffer.allocUnsafe(bytes)
    return this.#out
  }

  /** @param {number} length */
  flush(length) {
    this.socket.write(this.#out.subarray(0, length))
  }
}

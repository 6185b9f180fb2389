/**
 * An agent of the load generator, on either encoding: CONNECT signed as any agent's, then SENDs from a frame built once, in
 * which only the message id changes, and one cumulative ACK in front of what it answers.
 */
import { ed25519KeyPair, sign, systemRandom } from '../../packages/sdk/dist/crypto/signing.js'
import { connectSignatureParts, identityFromKeyPair } from '../../packages/sdk/dist/identity/index.js'
import {
  amidToBytes,
  binaryCodec,
  jsonCodec,
  newMessageId,
  PROTOCOL_VERSION,
  RELAY_PATH,
} from '../../packages/sdk/dist/wire/index.js'
import { Connection } from './connection.mjs'
import {
  BINARY,
  headerBytes,
  mask,
  maskedFrame,
  readFrames,
  TEXT,
  upgradeRequest,
  writeHeader,
  writeMaskedU32,
} from './web-socket.mjs'

const HEX = Buffer.from('0123456789abcdef')
/** From the start of a frame's payload: the last four bytes of the message id; of its text, the last eight digits. */
const BINARY_ID_AT = 2 + 12
const JSON_ID_AT = '{"frame":"SEND","id":"'.length + 28
/** From the start of a SENT's payload: the first letter of its status. */
const JSON_STATUS_AT = '{"frame":"SENT","id":"00000000-0000-0000-0000-000000000000","status":"'.length
const ACK_BYTES = 96

export class RelayPeer {
  connection
  identity = identityFromKeyPair(ed25519KeyPair(systemRandom(32)))
  /** Messages that came, and SENTs, since somebody looked. */
  arrived = 0
  answered = 0
  refused = 0
  /** @type {() => void} */
  onProgress = () => {}
  #binary
  #codec
  #sequence = 0
  #counter = 0
  /** Its SENDs to each of its peers. @type {Map<string, Buffer>} */
  #frames = new Map()

  /**
   * @param {{ encoding: 'bin' | 'json', host: string, port: number, localAddress?: string }} options
   */
  constructor({ encoding, host, port, localAddress }) {
    this.#binary = encoding === 'bin'
    this.#codec = this.#binary ? binaryCodec : jsonCodec
    this.connection = new Connection(host, port, localAddress)
    this.host = `${host}:${port}`
  }

  get name() {
    return this.identity.amid
  }

  /** Resolves with the number of messages in the mailbox. */
  async open() {
    const { connection } = this
    await connection.opened()
    const upgraded = new Promise((resolve) => {
      connection.reader = (data, start, end) => {
        const head = data.indexOf('\r\n\r\n', start)
        if (head < 0 || head >= end) return start
        if (!data.toString('latin1', start, start + 12).endsWith('101')) throw new Error('not upgraded')
        resolve(undefined)
        connection.reader = setup
        return setup(data, head + 4, end)
      }
    })
    /** @type {(frame: import('../../packages/sdk/dist/wire/index.js').RelayFrame) => void} */
    let take = () => {}
    /** @type {import('../../packages/sdk/dist/wire/index.js').RelayFrame[]} */
    const early = []
    const setup = (/** @type {Buffer} */ data, /** @type {number} */ start, /** @type {number} */ end) => {
      const done = readFrames(data, start, end, (bytes, opcode, from, to) => {
        if (connection.reader !== setup || opcode >= 8) return this.#takeFrame(bytes, opcode, from, to)
        const copy = Uint8Array.from(bytes.subarray(from, to))
        const frame = this.#codec.decodeFromRelay(this.#binary ? copy : Buffer.from(copy).toString())
        if (frame.frame === 'CONNECTED') connection.reader = this.#reader
        early.push(frame)
        take(frame)
      })
      if (this.arrived > 0) this.onProgress()
      return done
    }
    const next = async (/** @type {string} */ name) =>
      new Promise((resolve, reject) => {
        take = (frame) => {
          if (frame.frame === name) resolve(frame)
          else reject(new Error(`${frame.frame} for ${name}: ${JSON.stringify(frame)}`))
        }
        const waiting = early.shift()
        if (waiting !== undefined) take(waiting)
      })
    connection.socket.write(upgradeRequest(this.host, RELAY_PATH, this.#codec.subprotocol))
    await upgraded
    const hello = await next('HELLO')
    early.length = 0
    const { publicKey, secretKey } = this.identity.signing
    const timestamp = Date.now()
    const parts = connectSignatureParts(hello.relayId, hello.nonce, this.name, publicKey, timestamp, 0)
    this.#write({
      frame: 'CONNECT',
      protocol: PROTOCOL_VERSION,
      amid: this.name,
      publicKey,
      timestamp,
      presence: 'online',
      stateCounter: 0,
      signature: sign('connect', secretKey, ...parts),
    })
    return (await next('CONNECTED')).pendingMessages
  }

  /** @param {import('../../packages/sdk/dist/wire/index.js').AgentFrame} frame */
  #write(frame) {
    this.connection.socket.write(this.#frame(frame))
  }

  /** @param {import('../../packages/sdk/dist/wire/index.js').AgentFrame} frame */
  #frame(frame) {
    return maskedFrame(this.#binary ? BINARY : TEXT, Buffer.from(this.#codec.encode(frame)))
  }

  #reader = (/** @type {Buffer} */ data, /** @type {number} */ start, /** @type {number} */ end) => {
    const done = readFrames(data, start, end, this.#takeFrame)
    if (this.arrived + this.answered + this.refused > 0) this.onProgress()
    return done
  }

  #takeFrame = (
    /** @type {Buffer} */ data,
    /** @type {number} */ opcode,
    /** @type {number} */ start,
    /** @type {number} */ end,
  ) => {
    if (opcode === 9) return void this.connection.socket.write(maskedFrame(0x8a, data.subarray(start, end)))
    if (opcode === 8) return console.error(`closed: ${data.toString('latin1', start + 2, end)}`)
    const kind = this.#binary ? data[start] : data[start + 10]
    if (kind === 0x84 || kind === 0x52) {
      this.arrived += 1
      this.#sequence += 1
    } else if (this.#binary && kind === 0x83) {
      if (data[start + 17] === 3) this.#countRefusal(data, start, end)
      else this.answered += 1
    } else if (kind === 0x53) {
      if (data[start + JSON_STATUS_AT] === 0x72) this.#countRefusal(data, start, end)
      else this.answered += 1
    } else this.#countRefusal(data, start, end)
  }

  /** @param {Buffer} data @param {number} start @param {number} end */
  #countRefusal(data, start, end) {
    this.refused += 1
    if (this.refused === 1) console.error(`refused: ${data.toString('latin1', start, end)}`)
  }

  /**
   * Has to be called once for each receiver before messages go to it.
   * @param {string} to
   * @param {number} size bytes of the payload
   */
  prepare(to, size) {
    if (this.#frames.has(to)) return
    const payload = Uint8Array.from({ length: size }, (_, index) => (index * 7 + 13) & 0xff)
    const amid = /** @type {import('../../packages/sdk/dist/wire/index.js').Amid} */ (to)
    amidToBytes(amid)
    this.#frames.set(
      to,
      this.#frame({ frame: 'SEND', id: newMessageId(systemRandom), to: amid, type: 'message', payload }),
    )
  }

  /**
   * Writes one ACK for all that has come and then that many SENDs, at once.
   * @param {string} to
   * @param {number} count
   */
  send(to, count) {
    this.sendAll([to], count)
  }

  /** `count` SENDs to each. @param {readonly string[]} receivers @param {number} count */
  sendAll(receivers, count) {
    const { connection } = this
    let bytes = ACK_BYTES
    for (const to of receivers) bytes += (this.#frames.get(to)?.length ?? 0) * count
    const out = connection.room(bytes)
    let at = this.#acknowledged === this.#sequence ? 0 : this.#putAck(out)
    for (const to of receivers) {
      const frame = this.#frames.get(to)
      if (frame === undefined) throw new Error('not prepared')
      const header = frame.length - bodyLength(frame)
      for (let index = 0; index < count; index++) {
        frame.copy(out, at)
        this.#counter += 1
        if (this.#binary) writeMaskedU32(out, this.#counter, at + header + BINARY_ID_AT)
        else putMaskedHex(out, this.#counter, at + header + JSON_ID_AT)
        at += frame.length
      }
    }
    connection.flush(at)
  }

  /** Only an ACK, where one is due. */
  acknowledge() {
    if (this.#acknowledged === this.#sequence) return
    const out = this.connection.room(ACK_BYTES)
    this.connection.flush(this.#putAck(out))
  }

  #acknowledged = 0

  /** @param {Buffer} out */
  #putAck(out) {
    this.#acknowledged = this.#sequence
    if (this.#binary) {
      const at = writeHeader(out, 0, BINARY, 13)
      out[at] = 3
      out.writeUInt32BE(this.#sequence, at + 1)
      // How far its state is moves with what it takes.
      out.writeBigUInt64BE(BigInt(this.#sequence), at + 5)
      mask(out, at, at + 13)
      return at + 13
    }
    const text = `{"frame":"ACK","sequence":${this.#sequence},"state_counter":${this.#sequence}}`
    const at = writeHeader(out, 0, TEXT, text.length)
    out.latin1Write(text, at)
    mask(out, at, at + text.length)
    return at + text.length
  }

  close() {
    this.connection.close()
  }
}

/** @param {Buffer} frame */
function bodyLength(frame) {
  const short = (frame[1] ?? 0) & 0x7f
  if (short < 126) return short
  const length = short === 126 ? frame.readUInt16BE(2) : frame.readUInt32BE(6)
  if (headerBytes(length) + length !== frame.length) throw new Error('not one frame')
  return length
}

/** @param {Buffer} out @param {number} value @param {number} offset */
function putMaskedHex(out, value, offset) {
  for (let digit = 0; digit < 8; digit++) out[offset + digit] = HEX[(value >>> (28 - 4 * digit)) & 15] ?? 0
  mask(out, offset, offset + 8)
}

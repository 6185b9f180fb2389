/**
 * The client's half of RFC 6455, as much as a load generator needs: the handshake, masked frames built once and sent many
 * times, and a reader of the server's frames that copies nothing. Clients of a library would saturate long before a
 * server does.
 */

/** One byte four times: a field can be changed in a masked frame wherever it stands. */
const MASK = 0x5a

export const TEXT = 0x81
export const BINARY = 0x82

/**
 * @param {string} host
 * @param {string} path
 * @param {string | undefined} subprotocol
 */
export function upgradeRequest(host, path, subprotocol) {
  const lines = [
    `GET ${path} HTTP/1.1`,
    `Host: ${host}`,
    'Connection: Upgrade',
    'Upgrade: websocket',
    'Sec-WebSocket-Version: 13',
    'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==',
    ...(subprotocol === undefined ? [] : [`Sec-WebSocket-Protocol: ${subprotocol}`]),
  ]
  return Buffer.from(`${lines.join('\r\n')}\r\n\r\n`)
}

/**
 * A whole frame, masked.
 * @param {number} opcode
 * @param {Uint8Array} payload
 */
export function maskedFrame(opcode, payload) {
  const header = headerBytes(payload.length)
  const frame = Buffer.allocUnsafe(header + payload.length)
  writeHeader(frame, 0, opcode, payload.length)
  for (let index = 0; index < payload.length; index++) frame[header + index] = (payload[index] ?? 0) ^ MASK
  return frame
}

/** Bytes before the payload of a masked frame. @param {number} length */
export function headerBytes(length) {
  return length < 126 ? 6 : length < 0x1_0000 ? 8 : 14
}

/**
 * @param {Buffer} out
 * @param {number} offset
 * @param {number} opcode
 * @param {number} length
 */
export function writeHeader(out, offset, opcode, length) {
  let at = offset
  out[at++] = opcode
  if (length < 126) out[at++] = 0x80 | length
  else if (length < 0x1_0000) {
    out[at++] = 0x80 | 126
    at = out.writeUInt16BE(length, at)
  } else {
    out[at++] = 0x80 | 127
    at = out.writeUInt32BE(0, at)
    at = out.writeUInt32BE(length, at)
  }
  out.fill(MASK, at, at + 4)
  return at + 4
}

/**
 * Changes a u32 inside a masked frame.
 * @param {Buffer} out
 * @param {number} value
 * @param {number} offset
 */
export function writeMaskedU32(out, value, offset) {
  out[offset] = (value >>> 24) ^ MASK
  out[offset + 1] = ((value >>> 16) & 0xff) ^ MASK
  out[offset + 2] = ((value >>> 8) & 0xff) ^ MASK
  out[offset + 3] = (value & 0xff) ^ MASK
}

/** Masks in place. @param {Buffer} out @param {number} start @param {number} end */
export function mask(out, start, end) {
  for (let index = start; index < end; index++) out[index] ^= MASK
}

/**
 * Hands each whole frame of the server to `take(opcode, start, end)`; returns where the first one that is not whole begins.
 * @param {Buffer} data
 * @param {number} start
 * @param {number} end
 * @param {(data: Buffer, opcode: number, start: number, end: number) => void} take
 */
export function readFrames(data, start, end, take) {
  let at = start
  while (end - at >= 2) {
    const opcode = (data[at] ?? 0) & 0x0f
    let length = data[at + 1] ?? 0
    let body = at + 2
    if (length === 126) {
      if (end - at < 4) break
      length = data.readUInt16BE(body)
      body += 2
    } else if (length === 127) {
      if (end - at < 10) break
      length = data.readUInt32BE(body + 4)
      body += 8
    }
    if (end - body < length) break
    take(data, opcode, body, body + length)
    at = body + length
  }
  return at
}

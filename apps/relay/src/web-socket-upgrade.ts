/** The opening handshake of a WebSocket, the server's half (RFC 6455 §4.2). No extension is ever agreed on. */
import { createHash } from 'node:crypto'
import type { IncomingMessage } from 'node:http'

/** §1.3: what makes the answer differ from anything another protocol would send. */
const GUID = '258EAFA5-E914-47DA-95CA-C5AB0DC85B11'
const KEY = /^[A-Za-z0-9+/]{22}==$/

/** The status line that refuses a request which is no handshake (§4.2.1), or undefined. */
export function handshakeFault({ method, headers }: IncomingMessage): string | undefined {
  if (method !== 'GET') return '405 Method Not Allowed'
  if (headers.upgrade?.toLowerCase() !== 'websocket') return '400 Bad Request'
  if (!KEY.test(headers['sec-websocket-key'] ?? '')) return '400 Bad Request'
  if (headers['sec-websocket-version'] !== '13') return '426 Upgrade Required\r\nSec-WebSocket-Version: 13'
  return undefined
}

/** The answer that makes the connection a WebSocket (§4.2.2). */
export function handshakeAnswer({ headers }: IncomingMessage, subprotocol: string): string {
  const accept = createHash('sha1')
    .update(`${headers['sec-websocket-key'] ?? ''}${GUID}`)
    .digest('base64')
  return [
    'HTTP/1.1 101 Switching Protocols',
    'Upgrade: websocket',
    'Connection: Upgrade',
    `Sec-WebSocket-Accept: ${accept}`,
    `Sec-WebSocket-Protocol: ${subprotocol}`,
    '\r\n',
  ].join('\r\n')
}

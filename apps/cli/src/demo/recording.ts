/**
 * Reads what the recording proxy wrote: TCP bytes, the WebSocket messages in them (unmasked, RFC 6455 §5.2), the relay
 * frames in those. And searches all of it, in every spelling plain text could have.
 */
import {
  binaryCodec,
  jsonCodec,
  SUBPROTOCOL_JSON,
  utf8Text,
  type AgentFrame,
  type RelayCodec,
  type RelayFrame,
} from '@agentmesh/sdk'

export interface RecordedConnection {
  readonly subprotocol: string
  /** Bytes as they crossed the wire, HTTP head included. */
  readonly raw: readonly [Buffer, Buffer]
  /** The same without WebSocket's frames and masks. */
  readonly messages: readonly [Buffer[], Buffer[]]
  readonly frames: readonly (AgentFrame | RelayFrame)[]
}

const HEAD_BYTES = 9
const CONTROL_OPCODE = 8
const CONTINUATION = 0

/** @throws RangeError, AgentMeshError for a file that is no recording of relay connections */
export function readRecording(file: Buffer): RecordedConnection[] {
  const streams = new Map<number, [Buffer[], Buffer[]]>()
  for (let at = 0; at < file.length;) {
    const connection = file.readUInt32BE(at)
    const direction = file.readUInt8(at + 4) === 0 ? 0 : 1
    const end = at + HEAD_BYTES + file.readUInt32BE(at + 5)
    const both: [Buffer[], Buffer[]] = streams.get(connection) ?? [[], []]
    streams.set(connection, both)
    both[direction].push(file.subarray(at + HEAD_BYTES, end))
    at = end
  }
  return [...streams.values()].map(([agent, relay]) =>
    readConnection(Buffer.concat(agent), Buffer.concat(relay)),
  )
}

function readConnection(agent: Buffer, relay: Buffer): RecordedConnection {
  const [, subprotocol = ''] = /^sec-websocket-protocol: *(\S+)/im.exec(relay.toString('latin1')) ?? []
  const codec = subprotocol === SUBPROTOCOL_JSON ? jsonCodec : binaryCodec
  const messages = [webSocketMessages(agent), webSocketMessages(relay)] as const
  const frames = [
    ...messages[0].map((message) => codec.decodeFromAgent(codecInput(codec, message))),
    ...messages[1].map((message) => codec.decodeFromRelay(codecInput(codec, message))),
  ]
  return { subprotocol, raw: [agent, relay], messages, frames }
}

function codecInput(codec: RelayCodec, message: Buffer): Uint8Array | string {
  return codec === jsonCodec ? utf8Text(message) : message
}

/** The data messages after the HTTP head; one that was cut off by the end of the recording is left out. */
function webSocketMessages(stream: Buffer): Buffer[] {
  const messages: Buffer[] = []
  let parts: Buffer[] = []
  let at = stream.indexOf('\r\n\r\n') + 4
  if (at < 4) return []
  while (at + 2 <= stream.length) {
    const first = stream.readUInt8(at)
    const second = stream.readUInt8(at + 1)
    let length = second & 0x7f
    let payload = at + 2
    if (length === 126) {
      if (payload + 2 > stream.length) break
      length = stream.readUInt16BE(payload)
      payload += 2
    } else if (length === 127) {
      if (payload + 8 > stream.length) break
      length = Number(stream.readBigUInt64BE(payload))
      payload += 8
    }
    const mask = (second & 0x80) === 0 ? undefined : stream.subarray(payload, payload + 4)
    if (mask !== undefined) payload += 4
    if (payload + length > stream.length) break
    const data = unmask(stream.subarray(payload, payload + length), mask)
    at = payload + length
    const opcode = first & 0x0f
    if (opcode >= CONTROL_OPCODE) continue
    if (opcode !== CONTINUATION) parts = []
    parts.push(data)
    if ((first & 0x80) !== 0) messages.push(Buffer.concat(parts))
  }
  return messages
}

function unmask(data: Buffer, mask: Buffer | undefined): Buffer {
  if (mask === undefined) return data
  return Buffer.from(data.map((byte, index) => byte ^ (mask[index % 4] ?? 0)))
}

/** Everything that can be searched: the raw bytes, and each direction's messages one after the other. */
export function haystacks(recording: readonly RecordedConnection[]): Buffer[] {
  return recording.flatMap(({ raw, messages }) => [...raw, ...messages.map((list) => Buffer.concat(list))])
}

/** The spellings of some bytes in which a search finds them: as they are, hexadecimal, base64 at each offset. */
export function spellings(bytes: Uint8Array): ReadonlyMap<string, Buffer> {
  const plain = Buffer.from(bytes)
  const hex = plain.toString('hex')
  const forms = new Map([
    ['plain', plain],
    ['hex', Buffer.from(hex)],
    ['HEX', Buffer.from(hex.toUpperCase())],
    ['utf16', Buffer.from(plain.toString('latin1'), 'utf16le')],
  ])
  for (const offset of [0, 1, 2]) {
    const text = Buffer.concat([Buffer.alloc(offset), plain]).toString('base64')
    // Characters that also hold bits of the bytes before or after are not fixed.
    const fixed = text.slice(Math.ceil((offset * 8) / 6), Math.floor(((offset + plain.length) * 8) / 6))
    forms.set(`base64+${offset}`, Buffer.from(fixed))
    forms.set(`base64url+${offset}`, Buffer.from(fixed.replaceAll('+', '-').replaceAll('/', '_')))
  }
  return forms
}

/** In which spellings the bytes occur. */
export function find(needle: Uint8Array, hay: readonly Buffer[]): string[] {
  return [...spellings(needle)]
    .filter(([, form]) => hay.some((bytes) => bytes.includes(form)))
    .map(([name]) => name)
}

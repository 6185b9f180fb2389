/**
 * The binary relay encoding, subprotocol `agentmesh.v0.2.bin`. Big-endian; one frame a WebSocket message; `rest` runs
 * to its end. Text is UTF-8 behind its length.
 *
 *   0x01 CONNECT          u8 version length, version | amid 20 | public key 32 | u64 ms | u8 presence | u64 state counter |
 *                         signature 64
 *   0x02 SEND             u8 type | message id 16 | to 20 | payload rest
 *   0x03 ACK              u32 sequence | u64 state counter
 *   0x04 PRESENCE         u8 state
 *   0x05 PRESENCE_QUERY   amid 20
 *   0x81 HELLO            u8 version length, version | nonce 32 | u32 max payload | u16 id length, relay id
 *   0x82 CONNECTED        session id 16 | u32 pending messages | u64 state counter
 *   0x83 SENT             message id 16 | u8 status | u32 retry after (0: none) | u8 code length, code
 *   0x84 RECEIVE          u8 type | u32 sequence | from 20 | u64 ms | payload rest
 *   0x85 PRESENCE_RESULT  amid 20 | u8 state
 *   0x86 ERROR            u8 fatal | u32 retry after (0: none) | u8 code length, code | u16 length, message
 */
import { ByteReader, ByteWriter, utf8Bytes, utf8Text } from './bytes.ts'
import {
  AMID_BYTES,
  ID_BYTES,
  MAX_ERROR_MESSAGE_LENGTH,
  MAX_PAYLOAD_BYTES,
  RELAY_ID_PATTERN,
  SUBPROTOCOL_BINARY,
  VERSION_PATTERN,
} from './constants.ts'
import { AgentMeshError } from './errors.ts'
import {
  amidFromBytes,
  amidToBytes,
  idToBytes,
  messageIdFromBytes,
  sessionIdFromBytes,
  type MessageId,
} from './ids.ts'
import type { PresenceState } from './records.ts'
import {
  knownErrorCode,
  MESSAGE_TYPES,
  retryAfter,
  SENT_STATUSES,
  sentOutcome,
  type AgentFrame,
  type MessageType,
  type RelayCodec,
  type RelayFrame,
  type SentStatus,
} from './relay-frames.ts'
import { checkTimestamp } from './time.ts'

export const FRAME_CODES = {
  CONNECT: 0x01,
  SEND: 0x02,
  ACK: 0x03,
  PRESENCE: 0x04,
  PRESENCE_QUERY: 0x05,
  HELLO: 0x81,
  CONNECTED: 0x82,
  SENT: 0x83,
  RECEIVE: 0x84,
  PRESENCE_RESULT: 0x85,
  ERROR: 0x86,
} as const

const PRESENCE_CODES: Record<PresenceState, number> = { online: 1, away: 2, dnd: 3, offline: 4 }

const versionPattern = new RegExp(VERSION_PATTERN)
const relayIdPattern = new RegExp(RELAY_ID_PATTERN)

const messageTypes = byCode<MessageType>(MESSAGE_TYPES)
const sentStatuses = byCode<SentStatus>(SENT_STATUSES)
const presenceStates = byCode<PresenceState>(PRESENCE_CODES)

function byCode<Name extends string>(codes: Record<Name, number>): ReadonlyMap<number, Name> {
  return new Map(Object.entries<number>(codes).map(([name, code]) => [code, name as Name]))
}

function nameOf<Name>(names: ReadonlyMap<number, Name>, code: number, what: string): Name {
  const name = names.get(code)
  if (name === undefined) throw new AgentMeshError('UNKNOWN_TYPE', `Unknown ${what} ${code}`)
  return name
}

function encode(frame: AgentFrame | RelayFrame): Uint8Array {
  const writer = new ByteWriter().u8(FRAME_CODES[frame.frame])
  switch (frame.frame) {
    case 'CONNECT':
      return shortText(writer, frame.protocol)
        .bytes(amidToBytes(frame.amid))
        .bytes(frame.publicKey)
        .u64(frame.timestamp)
        .u8(PRESENCE_CODES[frame.presence])
        .u64(frame.stateCounter)
        .bytes(frame.signature)
        .finish()
    case 'SEND':
      return writer
        .u8(MESSAGE_TYPES[frame.type])
        .bytes(idToBytes(frame.id))
        .bytes(amidToBytes(frame.to))
        .bytes(frame.payload)
        .finish()
    case 'ACK':
      return writer.u32(frame.sequence).u64(frame.stateCounter).finish()
    case 'PRESENCE':
      return writer.u8(PRESENCE_CODES[frame.state]).finish()
    case 'PRESENCE_QUERY':
      return writer.bytes(amidToBytes(frame.amid)).finish()
    case 'HELLO':
      return longText(
        shortText(writer, frame.protocol).bytes(frame.nonce).u32(frame.maxPayloadBytes),
        frame.relayId,
      ).finish()
    case 'CONNECTED':
      return writer
        .bytes(idToBytes(frame.sessionId))
        .u32(frame.pendingMessages)
        .u64(frame.stateCounter)
        .finish()
    case 'SENT':
      return shortText(
        writer
          .bytes(idToBytes(frame.id))
          .u8(SENT_STATUSES[frame.status])
          .u32(frame.retryAfterSeconds ?? 0),
        frame.code ?? '',
      ).finish()
    case 'RECEIVE':
      return writer
        .u8(MESSAGE_TYPES[frame.type])
        .u32(frame.sequence)
        .bytes(amidToBytes(frame.from))
        .u64(frame.timestamp)
        .bytes(frame.payload)
        .finish()
    case 'PRESENCE_RESULT':
      return writer.bytes(amidToBytes(frame.amid)).u8(PRESENCE_CODES[frame.state]).finish()
    case 'ERROR':
      return longText(
        shortText(writer.u8(frame.fatal ? 1 : 0).u32(frame.retryAfterSeconds ?? 0), frame.code),
        frame.message,
      ).finish()
  }
}

function shortText(writer: ByteWriter, text: string): ByteWriter {
  const bytes = utf8Bytes(text)
  return writer.u8(bytes.length).bytes(bytes)
}

function longText(writer: ByteWriter, text: string): ByteWriter {
  const bytes = utf8Bytes(text)
  return writer.u16(bytes.length).bytes(bytes)
}

function payload(reader: ByteReader): Uint8Array {
  const bytes = reader.rest()
  if (bytes.length > MAX_PAYLOAD_BYTES) throw new AgentMeshError('TOO_LARGE')
  return bytes
}

function version(reader: ByteReader): string {
  const text = utf8Text(reader.bytes(reader.u8()))
  if (!versionPattern.test(text)) throw new AgentMeshError('MALFORMED', 'Not a protocol version')
  return text
}

function relayId(reader: ByteReader): string {
  const text = utf8Text(reader.bytes(reader.u16()))
  if (!relayIdPattern.test(text)) throw new AgentMeshError('MALFORMED', 'Not a relay id')
  return text
}

/** Counted in code points, as JSON Schema's maxLength is. */
function errorMessage(reader: ByteReader): string {
  const text = utf8Text(reader.bytes(reader.u16()))
  if (Array.from(text).length > MAX_ERROR_MESSAGE_LENGTH)
    throw new AgentMeshError('MALFORMED', 'Message too long')
  return text
}

function flag(reader: ByteReader): boolean {
  const value = reader.u8()
  if (value > 1) throw new AgentMeshError('MALFORMED', 'A flag is 0 or 1')
  return value === 1
}

function readerOf(data: Uint8Array | string): ByteReader {
  if (typeof data === 'string') throw new AgentMeshError('MALFORMED', 'Text frame on a binary connection')
  return new ByteReader(data)
}

function decodeFromAgent(data: Uint8Array | string): AgentFrame {
  const reader = readerOf(data)
  const code = reader.u8()
  const frame = agentFrame(code, reader)
  reader.end()
  return frame
}

function agentFrame(frameCode: number, reader: ByteReader): AgentFrame {
  switch (frameCode) {
    case FRAME_CODES.CONNECT:
      return {
        frame: 'CONNECT',
        protocol: version(reader),
        amid: amidFromBytes(reader.bytes(AMID_BYTES)),
        publicKey: reader.bytes(32),
        timestamp: checkTimestamp(reader.u64()),
        presence: nameOf(presenceStates, reader.u8(), 'presence'),
        stateCounter: reader.u64(),
        signature: reader.bytes(64),
      }
    case FRAME_CODES.SEND:
      return {
        frame: 'SEND',
        type: nameOf(messageTypes, reader.u8(), 'message type'),
        id: messageIdFromBytes(reader.bytes(ID_BYTES)),
        to: amidFromBytes(reader.bytes(AMID_BYTES)),
        payload: payload(reader),
      }
    case FRAME_CODES.ACK:
      return { frame: 'ACK', sequence: reader.u32(), stateCounter: reader.u64() }
    case FRAME_CODES.PRESENCE:
      return { frame: 'PRESENCE', state: nameOf(presenceStates, reader.u8(), 'presence') }
    case FRAME_CODES.PRESENCE_QUERY:
      return { frame: 'PRESENCE_QUERY', amid: amidFromBytes(reader.bytes(AMID_BYTES)) }
    default:
      throw new AgentMeshError('UNKNOWN_TYPE', `Unknown frame ${frameCode}`)
  }
}

function decodeFromRelay(data: Uint8Array | string): RelayFrame {
  const reader = readerOf(data)
  const code = reader.u8()
  const frame = relayFrame(code, reader)
  reader.end()
  return frame
}

function relayFrame(frameCode: number, reader: ByteReader): RelayFrame {
  switch (frameCode) {
    case FRAME_CODES.HELLO: {
      const protocol = version(reader)
      const nonce = reader.bytes(32)
      const maxPayloadBytes = reader.u32()
      if (maxPayloadBytes === 0) throw new AgentMeshError('MALFORMED', 'A relay that takes no payload')
      return { frame: 'HELLO', protocol, nonce, maxPayloadBytes, relayId: relayId(reader) }
    }
    case FRAME_CODES.CONNECTED:
      return {
        frame: 'CONNECTED',
        sessionId: sessionIdFromBytes(reader.bytes(ID_BYTES)),
        pendingMessages: reader.u32(),
        stateCounter: reader.u64(),
      }
    case FRAME_CODES.SENT: {
      const id = messageIdFromBytes(reader.bytes(ID_BYTES))
      const status = nameOf(sentStatuses, reader.u8(), 'status')
      const retry = reader.u32()
      const code = utf8Text(reader.bytes(reader.u8()))
      return { frame: 'SENT', id, ...sentOutcome(status, code), ...retryAfter(retry) }
    }
    case FRAME_CODES.RECEIVE:
      return {
        frame: 'RECEIVE',
        type: nameOf(messageTypes, reader.u8(), 'message type'),
        sequence: reader.u32(),
        from: amidFromBytes(reader.bytes(AMID_BYTES)),
        timestamp: checkTimestamp(reader.u64()),
        payload: payload(reader),
      }
    case FRAME_CODES.PRESENCE_RESULT:
      return {
        frame: 'PRESENCE_RESULT',
        amid: amidFromBytes(reader.bytes(AMID_BYTES)),
        state: nameOf(presenceStates, reader.u8(), 'presence'),
      }
    case FRAME_CODES.ERROR: {
      const fatal = flag(reader)
      const retry = reader.u32()
      const code = knownErrorCode(utf8Text(reader.bytes(reader.u8())))
      return { frame: 'ERROR', code, message: errorMessage(reader), fatal, ...retryAfter(retry) }
    }
    default:
      throw new AgentMeshError('UNKNOWN_TYPE', `Unknown frame ${frameCode}`)
  }
}

function refusedSendId(data: Uint8Array | string): MessageId | undefined {
  if (typeof data === 'string' || data[0] !== FRAME_CODES.SEND) return undefined
  try {
    return messageIdFromBytes(data.subarray(2, 2 + ID_BYTES))
  } catch {
    return undefined
  }
}

export const binaryCodec: RelayCodec = {
  subprotocol: SUBPROTOCOL_BINARY,
  encode,
  decodeFromAgent,
  decodeFromRelay,
  refusedSendId,
}

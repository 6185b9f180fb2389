/**
 * The JSON relay encoding, subprotocol `agentmesh.v0.2.json`: the specification's frames (§4.2), one JSON object a
 * WebSocket text message, named by its `frame` field.
 */
import type { Static, TSchema } from 'typebox'
import { Type } from './type.ts'
import { fromBase64, toBase64 } from './bytes.ts'
import {
  MAX_ERROR_MESSAGE_LENGTH,
  MAX_PAYLOAD_BYTES,
  RELAY_ID_PATTERN,
  SUBPROTOCOL_JSON,
} from './constants.ts'
import { AgentMeshError } from './errors.ts'
import { parseMessageId, type MessageId } from './ids.ts'
import { parseJsonObject } from './json.ts'
import { PresenceState } from './records.ts'
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
import {
  AmidText,
  Base64Of,
  formatKey,
  MessageIdText,
  parseKey,
  PeerText,
  SessionIdText,
  SignatureText,
  SigningKeyText,
  Timestamp,
  validate,
  VersionList,
} from './schema.ts'
import { formatTimestamp, parseTimestamp } from './time.ts'

/** Room for a payload of the largest size as base64, and the fields around it. */
export const MAX_JSON_FRAME_BYTES = Math.ceil(MAX_PAYLOAD_BYTES / 3) * 4 + 1024

const MessageTypeName = Type.Enum(Object.keys(MESSAGE_TYPES) as MessageType[], {
  description: 'What the payload is, as far as the relay may know',
})
const PayloadText = Type.String({
  maxLength: MAX_JSON_FRAME_BYTES,
  description: 'base64; the relay cannot read it',
})
const MAX_U32 = 0xffff_ffff
const Sequence = Type.Integer({ minimum: 0, maximum: MAX_U32, description: 'Per connection, from 1' })
const StateCounter = Type.Integer({
  minimum: 0,
  maximum: Number.MAX_SAFE_INTEGER,
  description: "Moves with every change of the agent's state; 0: keeps none",
})
const Seconds = Type.Integer({
  minimum: 0,
  maximum: MAX_U32,
  description: 'When the same call may succeed; 0 or absent: no time named',
})
const CODE_PATTERN = '^[A-Z][A-Z0-9_]{0,63}$'
const CodeText = Type.String({ pattern: CODE_PATTERN, description: 'A code of errors.md' })

/** The schema of each frame, by its name. */
export const JSON_FRAMES = {
  HELLO: Type.Object(
    {
      frame: Type.Literal('HELLO'),
      protocol: VersionList.items,
      relay_id: Type.String({ pattern: RELAY_ID_PATTERN, description: 'The authority agents dial' }),
      nonce: Base64Of(32, '', 'Fresh for each connection: base64 of 32 bytes'),
      max_payload_bytes: Type.Integer({ minimum: 1, maximum: MAX_U32 }),
    },
    { $id: 'agentmesh/relay/hello', description: 'Relay to agent: the challenge' },
  ),
  CONNECT: Type.Object(
    {
      frame: Type.Literal('CONNECT'),
      protocol: VersionList.items,
      amid: AmidText,
      public_key: SigningKeyText,
      timestamp: Timestamp,
      presence: Type.Optional(PresenceState),
      state_counter: StateCounter,
      signature: SignatureText,
    },
    { $id: 'agentmesh/relay/connect', description: 'Agent to relay: the answer to HELLO' },
  ),
  CONNECTED: Type.Object(
    {
      frame: Type.Literal('CONNECTED'),
      session_id: SessionIdText,
      pending_messages: Type.Integer({
        minimum: 0,
        maximum: MAX_U32,
        description: 'Waiting in the mailbox; they follow as RECEIVE',
      }),
      state_counter: StateCounter,
    },
    { $id: 'agentmesh/relay/connected', description: 'Relay to agent: let in' },
  ),
  SEND: Type.Object(
    {
      frame: Type.Literal('SEND'),
      id: MessageIdText,
      to: AmidText,
      type: MessageTypeName,
      encrypted_payload: PayloadText,
    },
    { $id: 'agentmesh/relay/send', description: 'Agent to relay: one opaque payload to one agent' },
  ),
  SENT: Type.Object(
    {
      frame: Type.Literal('SENT'),
      id: MessageIdText,
      status: Type.Enum(Object.keys(SENT_STATUSES) as SentStatus[]),
      code: Type.Optional(
        Type.String({ pattern: CODE_PATTERN, description: 'Exactly when refused: a code of errors.md' }),
      ),
      retry_after_seconds: Type.Optional(Seconds),
    },
    { $id: 'agentmesh/relay/sent', description: 'Relay to agent: what became of a SEND' },
  ),
  RECEIVE: Type.Object(
    {
      frame: Type.Literal('RECEIVE'),
      sequence: Sequence,
      from: AmidText,
      type: MessageTypeName,
      timestamp: Timestamp,
      encrypted_payload: PayloadText,
    },
    { $id: 'agentmesh/relay/receive', description: 'Relay to agent: one opaque payload' },
  ),
  ACK: Type.Object(
    { frame: Type.Literal('ACK'), sequence: Sequence, state_counter: StateCounter },
    {
      $id: 'agentmesh/relay/ack',
      description: 'Agent to relay: this RECEIVE and all before it are committed',
    },
  ),
  PRESENCE: Type.Object(
    { frame: Type.Literal('PRESENCE'), state: PresenceState },
    { $id: 'agentmesh/relay/presence', description: 'Agent to relay: own state' },
  ),
  PRESENCE_QUERY: Type.Object(
    { frame: Type.Literal('PRESENCE_QUERY'), amid: AmidText },
    { $id: 'agentmesh/relay/presence-query', description: 'Agent to relay: whose state is asked for' },
  ),
  PRESENCE_RESULT: Type.Object(
    { frame: Type.Literal('PRESENCE_RESULT'), amid: AmidText, state: PresenceState },
    { $id: 'agentmesh/relay/presence-result', description: 'Relay to agent: the state asked for' },
  ),
  ERROR: Type.Object(
    {
      frame: Type.Literal('ERROR'),
      code: CodeText,
      message: PeerText(MAX_ERROR_MESSAGE_LENGTH),
      fatal: Type.Boolean({ description: 'true: the relay ends the connection' }),
      retry_after_seconds: Type.Optional(Seconds),
    },
    { $id: 'agentmesh/relay/error', description: 'Relay to agent: something went wrong' },
  ),
} as const satisfies Record<string, TSchema>

type FrameName = keyof typeof JSON_FRAMES
type JsonFrame = { [Name in FrameName]: Static<(typeof JSON_FRAMES)[Name]> }[FrameName]

function encode(frame: AgentFrame | RelayFrame): string {
  return JSON.stringify(toJson(frame))
}

function toJson(frame: AgentFrame | RelayFrame): JsonFrame {
  switch (frame.frame) {
    case 'HELLO':
      return {
        frame: 'HELLO',
        protocol: frame.protocol,
        relay_id: frame.relayId,
        nonce: toBase64(frame.nonce),
        max_payload_bytes: frame.maxPayloadBytes,
      }
    case 'CONNECT':
      return {
        frame: 'CONNECT',
        protocol: frame.protocol,
        amid: frame.amid,
        public_key: formatKey('ed25519', frame.publicKey),
        timestamp: formatTimestamp(frame.timestamp),
        presence: frame.presence,
        state_counter: frame.stateCounter,
        signature: toBase64(frame.signature),
      }
    case 'CONNECTED':
      return {
        frame: 'CONNECTED',
        session_id: frame.sessionId,
        pending_messages: frame.pendingMessages,
        state_counter: frame.stateCounter,
      }
    case 'SEND':
      return {
        frame: 'SEND',
        id: frame.id,
        to: frame.to,
        type: frame.type,
        encrypted_payload: toBase64(frame.payload),
      }
    case 'SENT':
      return {
        frame: 'SENT',
        id: frame.id,
        status: frame.status,
        ...(frame.code === undefined ? {} : { code: frame.code }),
        ...retryField(frame.retryAfterSeconds),
      }
    case 'RECEIVE':
      return {
        frame: 'RECEIVE',
        sequence: frame.sequence,
        from: frame.from,
        type: frame.type,
        timestamp: formatTimestamp(frame.timestamp),
        encrypted_payload: toBase64(frame.payload),
      }
    case 'ERROR':
      return {
        frame: 'ERROR',
        code: frame.code,
        message: frame.message,
        fatal: frame.fatal,
        ...retryField(frame.retryAfterSeconds),
      }
    case 'ACK':
      return { frame: 'ACK', sequence: frame.sequence, state_counter: frame.stateCounter }
    case 'PRESENCE':
    case 'PRESENCE_QUERY':
    case 'PRESENCE_RESULT':
      return frame
  }
}

function retryField(seconds: number | undefined): { retry_after_seconds?: number } {
  return seconds === undefined ? {} : { retry_after_seconds: seconds }
}

function read(data: Uint8Array | string): JsonFrame {
  if (typeof data !== 'string') throw new AgentMeshError('MALFORMED', 'Binary frame on a JSON connection')
  const raw = parseJsonObject(data, MAX_JSON_FRAME_BYTES)
  const name = raw['frame']
  if (typeof name !== 'string') throw new AgentMeshError('MALFORMED', 'frame must be string')
  if (!Object.hasOwn(JSON_FRAMES, name)) throw new AgentMeshError('UNKNOWN_TYPE')
  if (name === 'SEND' || name === 'RECEIVE') {
    // A type from a newer protocol is unknown, not malformed.
    const { type } = raw
    if (typeof type === 'string' && !Object.hasOwn(MESSAGE_TYPES, type))
      throw new AgentMeshError('UNKNOWN_TYPE')
  }
  return validate<TSchema>(JSON_FRAMES[name as FrameName], raw, `read ${name}`) as JsonFrame
}

function payload(text: string): Uint8Array {
  const bytes = fromBase64(text)
  if (bytes.length > MAX_PAYLOAD_BYTES) throw new AgentMeshError('TOO_LARGE')
  return bytes
}

function decodeFromAgent(data: Uint8Array | string): AgentFrame {
  const json = read(data)
  switch (json.frame) {
    case 'CONNECT':
      return {
        frame: 'CONNECT',
        protocol: json.protocol,
        amid: json.amid,
        publicKey: parseKey('ed25519', json.public_key),
        timestamp: parseTimestamp(json.timestamp),
        presence: json.presence ?? 'online',
        stateCounter: json.state_counter,
        signature: fromBase64(json.signature),
      }
    case 'SEND':
      return {
        frame: 'SEND',
        id: json.id,
        to: json.to,
        type: json.type,
        payload: payload(json.encrypted_payload),
      }
    case 'ACK':
      return { frame: 'ACK', sequence: json.sequence, stateCounter: json.state_counter }
    case 'PRESENCE':
      return { frame: 'PRESENCE', state: json.state }
    case 'PRESENCE_QUERY':
      return { frame: 'PRESENCE_QUERY', amid: json.amid }
    default:
      throw new AgentMeshError('UNKNOWN_TYPE', `${json.frame} is sent by relays`)
  }
}

function decodeFromRelay(data: Uint8Array | string): RelayFrame {
  const json = read(data)
  switch (json.frame) {
    case 'HELLO':
      return {
        frame: 'HELLO',
        protocol: json.protocol,
        relayId: json.relay_id,
        nonce: fromBase64(json.nonce),
        maxPayloadBytes: json.max_payload_bytes,
      }
    case 'CONNECTED':
      return {
        frame: 'CONNECTED',
        sessionId: json.session_id,
        pendingMessages: json.pending_messages,
        stateCounter: json.state_counter,
      }
    case 'SENT':
      return {
        frame: 'SENT',
        id: json.id,
        ...sentOutcome(json.status, json.code ?? ''),
        ...retryAfter(json.retry_after_seconds),
      }
    case 'RECEIVE':
      return {
        frame: 'RECEIVE',
        sequence: json.sequence,
        from: json.from,
        type: json.type,
        timestamp: parseTimestamp(json.timestamp),
        payload: payload(json.encrypted_payload),
      }
    case 'PRESENCE_RESULT':
      return { frame: 'PRESENCE_RESULT', amid: json.amid, state: json.state }
    case 'ERROR':
      return {
        frame: 'ERROR',
        code: knownErrorCode(json.code),
        message: json.message,
        fatal: json.fatal,
        ...retryAfter(json.retry_after_seconds),
      }
    default:
      throw new AgentMeshError('UNKNOWN_TYPE', `${json.frame} is sent by agents`)
  }
}

function refusedSendId(data: Uint8Array | string): MessageId | undefined {
  if (typeof data !== 'string') return undefined
  try {
    const raw = parseJsonObject(data, MAX_JSON_FRAME_BYTES)
    return raw['frame'] === 'SEND' && typeof raw['id'] === 'string' ? parseMessageId(raw['id']) : undefined
  } catch {
    return undefined
  }
}

export const jsonCodec: RelayCodec = {
  subprotocol: SUBPROTOCOL_JSON,
  encode,
  decodeFromAgent,
  decodeFromRelay,
  refusedSendId,
}

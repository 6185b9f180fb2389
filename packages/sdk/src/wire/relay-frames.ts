/**
 * The frames between an agent and a relay (specification §4.2, DESIGN §6), as values. `relay-binary.ts` and
 * `relay-json.ts` are the two encodings; the relay's state machine sees only these types.
 *
 *   relay -> agent  HELLO            id of the relay and a fresh nonce
 *   agent -> relay  CONNECT          signature over label, relay id, nonce, AMID, key, timestamp
 *   relay -> agent  CONNECTED        the highest state counter seen; the mailbox follows as RECEIVE frames
 *   agent -> relay  SEND             one opaque payload to one AMID, named by the sender's message id
 *   relay -> agent  SENT             delivered (receiver acknowledged), stored (on disk), or refused
 *   relay -> agent  RECEIVE          numbered per connection from 1
 *   agent -> relay  ACK              everything up to this number is committed at the receiver, in the state of this counter
 *   agent -> relay  PRESENCE         own state;  PRESENCE_QUERY / PRESENCE_RESULT: somebody else's
 *   relay -> agent  ERROR            a fatal one is followed by the socket's end
 */
import type { Amid, MessageId, SessionId } from './ids.ts'
import type { PresenceState } from './records.ts'
import { AgentMeshError, isErrorCode, type ErrorCode } from './errors.ts'

/** What a payload is, as far as the relay may know; its number in the binary encoding. */
export const MESSAGE_TYPES = {
  knock: 1,
  accept: 2,
  reject: 3,
  message: 4,
  close: 5,
  ice: 6,
  reset: 7,
} as const
export type MessageType = keyof typeof MESSAGE_TYPES

/** What became of a SEND; its number in the binary encoding. */
export const SENT_STATUSES = { delivered: 1, stored: 2, refused: 3 } as const
export type SentStatus = keyof typeof SENT_STATUSES

export interface HelloFrame {
  readonly frame: 'HELLO'
  readonly protocol: string
  /** The authority (host, and port where not the default) agents reach this relay at: what CONNECT is bound to. */
  readonly relayId: string
  /** 32 random bytes, fresh for each connection. */
  readonly nonce: Uint8Array
  readonly maxPayloadBytes: number
}

export interface ConnectFrame {
  readonly frame: 'CONNECT'
  readonly protocol: string
  readonly amid: Amid
  readonly publicKey: Uint8Array
  /** Milliseconds since the epoch. */
  readonly timestamp: number
  /** Ed25519, label `connect`, over `connectSignatureParts`. */
  readonly signature: Uint8Array
  readonly presence: PresenceState
  /** The highest number this state of the agent has told anybody (spec/relay.md 5.1); 0 of one that keeps no state. */
  readonly stateCounter: number
}

export interface ConnectedFrame {
  readonly frame: 'CONNECTED'
  readonly sessionId: SessionId
  readonly pendingMessages: number
  /** The highest the relay had seen of this agent before this CONNECT; 0 when none. */
  readonly stateCounter: number
}

export interface SendFrame {
  readonly frame: 'SEND'
  readonly id: MessageId
  readonly to: Amid
  readonly type: MessageType
  readonly payload: Uint8Array
}

export interface SentFrame {
  readonly frame: 'SENT'
  readonly id: MessageId
  readonly status: SentStatus
  /** Present exactly when refused. */
  readonly code?: ErrorCode
  /** Whole seconds, absent when the relay names no time. */
  readonly retryAfterSeconds?: number
}

export interface ReceiveFrame {
  readonly frame: 'RECEIVE'
  /** Per connection, from 1, without gaps. */
  readonly sequence: number
  readonly from: Amid
  readonly type: MessageType
  /** When the relay took the message, milliseconds since the epoch. */
  readonly timestamp: number
  readonly payload: Uint8Array
}

export interface AckFrame {
  readonly frame: 'ACK'
  /** Cumulative: acknowledges this RECEIVE and all before it. */
  readonly sequence: number
  /** Of the state that holds what is acknowledged. */
  readonly stateCounter: number
}

export interface PresenceFrame {
  readonly frame: 'PRESENCE'
  readonly state: PresenceState
}

export interface PresenceQueryFrame {
  readonly frame: 'PRESENCE_QUERY'
  readonly amid: Amid
}

export interface PresenceResultFrame {
  readonly frame: 'PRESENCE_RESULT'
  readonly amid: Amid
  readonly state: PresenceState
}

export interface ErrorFrame {
  readonly frame: 'ERROR'
  readonly code: ErrorCode
  readonly message: string
  readonly fatal: boolean
  readonly retryAfterSeconds?: number
}

export type AgentFrame = ConnectFrame | SendFrame | AckFrame | PresenceFrame | PresenceQueryFrame
export type RelayFrame =
  | HelloFrame
  | ConnectedFrame
  | SentFrame
  | ReceiveFrame
  | PresenceResultFrame
  | ErrorFrame

/** @throws UNKNOWN_TYPE for a code that is not in `ERROR_CODES`. */
export function knownErrorCode(text: string): ErrorCode {
  if (!isErrorCode(text)) throw new AgentMeshError('UNKNOWN_TYPE', 'Unknown error code')
  return text
}

/**
 * The outcome in a SENT, under the rule both encodings share: a code exactly when refused. No code is the empty text.
 *
 * @throws MALFORMED against that rule, UNKNOWN_TYPE for an unknown code
 */
export function sentOutcome(status: SentStatus, code: string): Pick<SentFrame, 'status' | 'code'> {
  if ((status === 'refused') !== (code !== '')) {
    throw new AgentMeshError('MALFORMED', 'A SENT carries a code exactly when refused')
  }
  return { status, ...(code === '' ? {} : { code: knownErrorCode(code) }) }
}

/** Zero seconds means that no time is named. */
export function retryAfter(seconds: number | undefined): { retryAfterSeconds?: number } {
  return seconds === undefined || seconds === 0 ? {} : { retryAfterSeconds: seconds }
}

/** One of the two encodings. Both sides decode with the codec the WebSocket subprotocol names. */
export interface RelayCodec {
  readonly subprotocol: string
  /** A string is sent as a text frame, bytes as a binary one. */
  readonly encode: (frame: AgentFrame | RelayFrame) => Uint8Array | string
  /** @throws MALFORMED, UNKNOWN_TYPE, TOO_LARGE, INVALID_AMID, INVALID_ID and the JSON_* codes */
  readonly decodeFromAgent: (data: Uint8Array | string) => AgentFrame
  /** @throws as `decodeFromAgent` */
  readonly decodeFromRelay: (data: Uint8Array | string) => RelayFrame
  /** The id of a SEND that `decodeFromAgent` refused, so that the refusal can name it. Never throws. */
  readonly refusedSendId: (data: Uint8Array | string) => MessageId | undefined
}

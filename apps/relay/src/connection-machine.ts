/**
 * One connection, as a pure function: the rules of the relay protocol without sockets, clocks or encodings, the same for
 * both subprotocols.
 *
 *     awaiting-connect --- CONNECT accepted ------------> connected
 *        |     |                                            |
 *        |     +--- accepted with presence `offline` --> sending
 *        |                                                  |
 *        |  any other frame, CONNECT refused,               |  unreadable frame, second CONNECT,
 *        |  timeout, shutdown                               |  replaced, too slow, shutdown
 *        +---------------------> closing <------------------+
 *
 * `sending` is an agent that is reached elsewhere and has something for agents here: its SENDs are answered, and it
 * receives nothing. In `closing` everything the agent still sends is ignored: what it did not acknowledge is in the mailbox already.
 */
import {
  ERROR_CODES,
  type AgentFrame,
  type AgentMeshError,
  type Amid,
  type ConnectFrame,
  type ErrorCode,
  type MessageId,
  type PresenceState,
  type RelayFrame,
  type SendFrame,
} from '@agentmesh/sdk/wire'

export type ConnectionState = 'awaiting-connect' | 'connected' | 'sending' | 'closing'

export type ConnectionEvent =
  | { readonly kind: 'frame'; readonly frame: AgentFrame }
  /** `sendId` when the frame was a SEND whose id could be read. */
  | { readonly kind: 'unreadable'; readonly error: AgentMeshError; readonly sendId: MessageId | undefined }
  | { readonly kind: 'accepted'; readonly connect: ConnectFrame }
  /** The relay ends the connection: refused, replaced, too slow, shutting down. */
  | { readonly kind: 'cut'; readonly code: ErrorCode; readonly retryAfterSeconds?: number }
  | { readonly kind: 'socket-ended' }

export type ConnectionEffect =
  | { readonly do: 'authenticate'; readonly connect: ConnectFrame }
  | {
      readonly do: 'attach'
      readonly amid: Amid
      readonly presence: PresenceState
      readonly stateCounter: number
    }
  | { readonly do: 'detach' }
  | { readonly do: 'admit-sender'; readonly amid: Amid }
  | { readonly do: 'dismiss-sender' }
  | { readonly do: 'route'; readonly send: SendFrame }
  | { readonly do: 'refuse'; readonly id: MessageId; readonly code: ErrorCode }
  | { readonly do: 'acknowledge'; readonly sequence: number; readonly stateCounter: number }
  | { readonly do: 'set-presence'; readonly presence: PresenceState }
  | { readonly do: 'answer-presence'; readonly amid: Amid }
  | { readonly do: 'send'; readonly frame: RelayFrame }
  | { readonly do: 'close'; readonly closeCode: number; readonly code: ErrorCode }

export interface Step {
  readonly state: ConnectionState
  readonly effects: readonly ConnectionEffect[]
}

/** WebSocket close codes (RFC 6455 §7.4.1) for the endings that have one of their own; any other is a policy violation. */
const CLOSE_CODES: Partial<Record<ErrorCode, number>> = {
  RELAY_SHUTTING_DOWN: 1001,
  MALFORMED: 1007,
  TOO_LARGE: 1009,
  RELAY_STORE_FAILED: 1011,
  RATE_LIMITED: 1013,
}
const POLICY_VIOLATION = 1008

export function stepConnection(state: ConnectionState, event: ConnectionEvent): Step {
  if (state === 'closing') return { state, effects: [] }
  switch (event.kind) {
    case 'frame':
      return READERS[state](event.frame)
    case 'unreadable':
      return state === 'awaiting-connect'
        ? close(state, event.error.code)
        : readUnreadable(state, event.error, event.sendId)
    case 'accepted':
      return accept(event.connect)
    case 'cut':
      return close(state, event.code, event.retryAfterSeconds)
    case 'socket-ended':
      return { state: 'closing', effects: leave(state) }
  }
}

function accept({ amid, presence, stateCounter }: ConnectFrame): Step {
  return presence === 'offline'
    ? { state: 'sending', effects: [{ do: 'admit-sender', amid }] }
    : { state: 'connected', effects: [{ do: 'attach', amid, presence, stateCounter }] }
}

type OpenState = Exclude<ConnectionState, 'closing'>

const READERS: Record<OpenState, (frame: AgentFrame) => Step> = {
  'awaiting-connect': readFirst,
  connected: readConnected,
  sending: readSending,
}

function readFirst(frame: AgentFrame): Step {
  if (frame.frame !== 'CONNECT') return close('awaiting-connect', 'CONNECT_REQUIRED')
  return { state: 'awaiting-connect', effects: [{ do: 'authenticate', connect: frame }] }
}

function readConnected(frame: AgentFrame): Step {
  switch (frame.frame) {
    case 'CONNECT':
      return close('connected', 'ALREADY_CONNECTED')
    case 'SEND':
      return connected({ do: 'route', send: frame })
    case 'ACK':
      return connected({ do: 'acknowledge', sequence: frame.sequence, stateCounter: frame.stateCounter })
    case 'PRESENCE':
      return connected({ do: 'set-presence', presence: frame.state })
    case 'PRESENCE_QUERY':
      return connected({ do: 'answer-presence', amid: frame.amid })
  }
}

function readSending(frame: AgentFrame): Step {
  switch (frame.frame) {
    case 'CONNECT':
      return close('sending', 'ALREADY_CONNECTED')
    case 'SEND':
      return { state: 'sending', effects: [{ do: 'route', send: frame }] }
    case 'ACK':
    case 'PRESENCE':
    case 'PRESENCE_QUERY':
      return close('sending', 'SENDING_ONLY')
  }
}

function connected(effect: ConnectionEffect): Step {
  return { state: 'connected', effects: [effect] }
}

/**
 * A SEND that only this relay does not understand, and a frame that a newer protocol may have, are refused by name; the
 * connection goes on. Any other unreadable frame means that the two ends disagree about the bytes: nothing after it can
 * be trusted.
 */
function readUnreadable(
  state: 'connected' | 'sending',
  { code }: AgentMeshError,
  sendId: MessageId | undefined,
): Step {
  if (code === 'UNKNOWN_TYPE' || code === 'TOO_LARGE') {
    if (sendId !== undefined) return { state, effects: [{ do: 'refuse', id: sendId, code }] }
    if (code === 'UNKNOWN_TYPE') return { state, effects: [{ do: 'send', frame: errorFrame(code, false) }] }
  }
  return close(state, code)
}

/** What the rest of the relay held for this connection is undone. */
function leave(from: OpenState): readonly ConnectionEffect[] {
  if (from === 'connected') return [{ do: 'detach' }]
  return from === 'sending' ? [{ do: 'dismiss-sender' }] : []
}

/** The relay's half of a fatal ERROR. A connected agent is detached first: its messages go to the mailbox. */
function close(from: OpenState, code: ErrorCode, retryAfterSeconds?: number): Step {
  return {
    state: 'closing',
    effects: [
      ...leave(from),
      { do: 'send', frame: errorFrame(code, true, retryAfterSeconds) },
      { do: 'close', closeCode: CLOSE_CODES[code] ?? POLICY_VIOLATION, code },
    ],
  }
}

function errorFrame(code: ErrorCode, fatal: boolean, retryAfterSeconds?: number): RelayFrame {
  return {
    frame: 'ERROR',
    code,
    message: ERROR_CODES[code].summary,
    fatal,
    ...(retryAfterSeconds === undefined ? {} : { retryAfterSeconds }),
  }
}

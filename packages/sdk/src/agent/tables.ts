/**
 * What an agent remembers, table by table. Every row is sealed; a commit moves all that belongs together (DESIGN §7:
 * ratchet advance, message, duplicate filter and receipt in one transaction). In the file, keys and indexes a and b are
 * keyed hashes.
 *
 *   table       key                      index a     index b          at
 *   sessions    session id               peer        open | closed    last activity
 *   handshakes  KNOCK hash               peer        lane             expiry        our KNOCKs waiting for an answer
 *   answers     KNOCK hash               peer                         expiry        what we answered, for repeated KNOCKs
 *   outgoing    message id               session id  state            created       messages of this agent's application
 *   incoming    session id : sequence    session id  state            order         messages from peers, in order a session
 *   requests    peer : message id        peer                         received      answers by request id, for repeats
 *   sentFiles   attachment id            peer        handle           stored        files of ours, until the peer has them
 *   receivedFiles peer : attachment id   peer        handle           last chunk    files of peers
 *   packets     relay message id         peer                         order         bytes that must reach a relay
 *   seen        hash of a packet                                      received      duplicate filter
 *   nonces      peer : nonce                                          expiry        KNOCK replay filter
 *   keys        kind : id                kind        current|retired  expiry        exchange keys and prekeys, both halves
 *   decisions   KNOCK hash               peer        accepted|rejected  decided     the owner's `why`
 *   contacts    peer                                                  last seen     what we hold about a peer's keys
 *   successions peer                     offered | accepted | none    looked at       recovery key, and who says to go on as the peer
 *   crls        keyId of an issuer       registry                     next update   revocation lists, as they came
 *   ratings     session id               peer        waiting|sent|refused  given    what the owner said of a session
 *   meta        name                                                                counters, breaker, registration
 */
import { decodePending, decodeSession, encodePending, encodeSession } from '../session/index.ts'
import type { PendingKnock, Session, VerifiedStanding } from '../session/index.ts'
import {
  ByteReader,
  ByteWriter,
  type Amid,
  type Envelope,
  type ClosingStatement,
  type EnvelopeType,
  type FeedbackTag,
  type Intent,
  type KeyKind,
  type MessageId,
  type MessageType,
  type Payload,
  type SequenceRanges,
  type SessionClosing,
  type SessionId,
  type SessionType,
  type SignedKey,
  type Succession,
} from '../wire/index.ts'
import type { ReceivedFileRow, SentFileRow } from './attachments/rows.ts'
import type { DecisionRecord, ProgressEvent } from './types.ts'
import { jsonCodec, type TableCodec } from './store/index.ts'

export interface SessionRow {
  session: Session
  /** What our queued messages look for (see `laneOf`); empty when the peer opened the session. */
  lane: string
  /** Envelope sequence the application is to see next; later ones wait in `incoming`. */
  deliverNext: number
  /** Of the peer, as it was checked when the session opened. */
  standing: VerifiedStanding
  /** What of the peer's envelopes is read, as it was told. */
  read?: SequenceRanges
  /** Sequences that no application sees and that came before their turn. */
  passed?: number[]
  /** Sequence of the peer's last CLOSE. */
  peerClose?: number
  /** What the peer said of ours. */
  heard?: Heard
  /** Once the session is over: what a rating of the peer rests on. */
  closing?: ClosingRow
}

/** A closing statement with the signatures there are. */
export type ClosingRow = ClosingStatement &
  Partial<Pick<SessionClosing, 'initiator_signature' | 'responder_signature'>>

/** The peer's receipts, all of them together. */
export interface Heard {
  received: number
  read: SequenceRanges
  /** Of our CLOSEs, up to this sequence. */
  closed: number
}

export interface HandshakeRow {
  pending: PendingKnock
  lane: string
  /** base64 SHA-256 of the packet: what a RESET about it names. */
  packetHash: string
  /** Of the KNOCK in `packets`, until it is answered. */
  packetId?: MessageId
  createdAt: number
}

export interface AnswerRow {
  type: 'accept' | 'reject'
  packet: Uint8Array
}

/** Milliseconds since the epoch, by receipt. */
export interface Receipts {
  stored?: number
  received?: number
  read?: number
  answered?: number
}

/**
 * queued: no session yet, or no room in its window; sealed: ciphertext is in `packets`; read: the peer's application works
 * on it; done: nothing more to do; failed: will not be sent.
 */
export type OutgoingState = 'queued' | 'sealed' | 'read' | 'done' | 'failed'

export interface OutgoingRow {
  id: MessageId
  to: Amid
  type: EnvelopeType
  payload: Payload
  inReplyTo?: MessageId
  intent: Intent
  sessionType: SessionType
  ttlSeconds: number
  sessionId?: SessionId
  sequence?: number
  state: OutgoingState
  createdAt: number
  expiresAt: number
  receipts: Receipts
  /** What `progress()` replays to somebody who asks later; bounded by the engine. */
  progress: ProgressEvent[]
  /** How often it went from a session that ended to a new one. */
  rebinds: number
}

/**
 * held: an earlier one is missing; coming: its files are not all here; ready: a request the application owes an answer; unread: a message no reader of the
 * conversation has seen; done: nothing more to do.
 */
export type IncomingState = 'held' | 'coming' | 'ready' | 'unread' | 'done'

export interface IncomingRow {
  envelope: Envelope
  receivedAt: number
  state: IncomingState
}

/** A request by its id, whatever session it came on: asked again, it gets the answer kept here. */
export interface RequestRow {
  /** Where the answer goes: the session it was asked on last. */
  sessionId: SessionId
  answer?: RequestAnswer
}

export type RequestAnswer =
  | { type: 'response'; payload: Payload<'response'> }
  | { type: 'error'; payload: Payload<'error'> }

/** Bytes for a relay. The id is the message's own when the peer must send a receipt for it, else a fresh one. */
export interface PacketRow {
  id: MessageId
  to: Amid
  type: MessageType
  packet: Uint8Array
  /** Kept until the peer's receipt, a KNOCK until it is answered; otherwise only until a relay has it. */
  awaitsReceipt: boolean
  order: number
  expiresAt: number
  /** What a RESET of ours is not to overtake: packets that are to be with a relay before it. */
  behind?: MessageId[]
}

/** What a packet held, so that its receipt can be repeated when the packet is. */
export interface SeenRow {
  sessionId?: SessionId
  /** Of its envelope; receipts have none, for nobody confirms them. */
  sequence?: number
}

export interface KeyRow {
  kind: KeyKind
  record: SignedKey
  secret: Uint8Array
  createdAt: number
  expiresAt: number
  uploaded: boolean
}

/** The highest sequences seen of what a peer signs: a registry that answers with lower ones replays the past. */
export interface ContactRow {
  recordSequence: number
  exchangeSequence: number
  /** Of the prekeys, by kind. */
  prekeySequences?: Partial<Record<KeyKind, number>>
  lastSeenAt: number
}

/** Who may speak for a peer that lost its key, and who says to be the peer. */
export interface SuccessionRow {
  /** The first that stood in the peer's record: `ed25519:<base64>`. */
  recoveryKey?: string
  /** Statements by that key, in the order they were met. */
  offers: Succession[]
  /** The owner's choice; no other is taken after it. */
  accepted?: Amid
  /** Signatures of statements that the owner was told of and that do not count. */
  refused: string[]
}

export interface RatingRow {
  /** 0 to 1. */
  rating: number
  tags: FeedbackTag[]
}

/** A JSON part and a binary part: the codec of rows around a value that has its own encoding. */
function framed<Row, Inner>(
  split: (row: Row) => { rest: object; inner: Inner },
  join: (rest: never, inner: Inner) => Row,
  encodeInner: (inner: Inner) => Uint8Array,
  decodeInner: (bytes: Uint8Array) => Inner,
): TableCodec<Row> {
  const restCodec = jsonCodec<object>()
  return {
    encode(row) {
      const { rest, inner } = split(row)
      const json = restCodec.encode(rest)
      return new ByteWriter().u32(json.length).bytes(json).bytes(encodeInner(inner)).finish()
    },
    decode(bytes) {
      const reader = new ByteReader(bytes)
      const rest = restCodec.decode(reader.bytes(reader.u32()))
      return join(rest as never, decodeInner(reader.rest()))
    },
  }
}

export const TABLES = {
  sessions: framed<SessionRow, Session>(
    ({ session, ...rest }) => ({ rest, inner: session }),
    (rest: Omit<SessionRow, 'session'>, session) => ({ ...rest, session }),
    encodeSession,
    decodeSession,
  ),
  handshakes: framed<HandshakeRow, PendingKnock>(
    ({ pending, ...rest }) => ({ rest, inner: pending }),
    (rest: Omit<HandshakeRow, 'pending'>, pending) => ({ ...rest, pending }),
    encodePending,
    decodePending,
  ),
  answers: jsonCodec<AnswerRow>(),
  outgoing: jsonCodec<OutgoingRow>(),
  incoming: jsonCodec<IncomingRow>(),
  requests: jsonCodec<RequestRow>(),
  sentFiles: jsonCodec<SentFileRow>(),
  receivedFiles: jsonCodec<ReceivedFileRow>(),
  packets: framed<PacketRow, Uint8Array>(
    ({ packet, ...rest }) => ({ rest, inner: packet }),
    (rest: Omit<PacketRow, 'packet'>, packet) => ({ ...rest, packet }),
    (packet) => packet,
    (bytes) => Uint8Array.from(bytes),
  ),
  seen: jsonCodec<SeenRow>(),
  nonces: jsonCodec<true>(),
  keys: jsonCodec<KeyRow>(),
  decisions: jsonCodec<DecisionRecord>(),
  contacts: jsonCodec<ContactRow>(),
  successions: jsonCodec<SuccessionRow>(),
  crls: jsonCodec<Uint8Array>(),
  ratings: jsonCodec<RatingRow>(),
  meta: jsonCodec<unknown>(),
} as const

type TableName = keyof typeof TABLES

/** Every message moves its session, and an answer its request more than once: written once a group. */
const LATE_TABLES: readonly TableName[] = ['sessions', 'outgoing']

/**
 * Prekeys, ratchets and texts: what is deleted of them is unreadable before anybody is told so. What a message replaces
 * (ratchets) or takes out (packets, which the relay had too) is overwritten a moment later.
 */
const SECRET_TABLES: readonly TableName[] = ['sessions', 'keys', 'incoming', 'outgoing', 'requests']

/** The filters outlive a peer that is forgotten: their keys, which name it, are nowhere to be read. */
const NAMELESS_TABLES: readonly TableName[] = ['nonces', 'seen']

/** Nothing is let in, sent or answered by these: rows that are gone from any other make the state one not to be used. */
export const UNGUARDED_TABLES: readonly string[] = ['decisions', 'ratings', 'crls']

/** How a store of these tables is opened. */
export const STORE_LAYOUT = {
  tables: TABLES,
  late: LATE_TABLES,
  secret: SECRET_TABLES,
  nameless: NAMELESS_TABLES,
} as const

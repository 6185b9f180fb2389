/**
 * What the relays of one service say to each other, over NATS (DESIGN §6). Big-endian; `count x` stands for a u16 and that
 * many; text is UTF-8.
 *
 *   every message      u8 version | u8 kind | sender's instance 16 | ...
 *   0x01 PRESENCE      u64 sequence | count x (amid 20 | u8 state, 0: gone | u64 since ms)
 *   0x02 LEAVE
 *   0x03 SNAPSHOT_ASK
 *   0x04 SNAPSHOT      u64 sequence | u16 part | u16 parts | count x (as PRESENCE, none gone)
 *   0x05 FORWARD       count x (u64 number | to 20 | from 20 | message id 16 | u8 type | u64 ms | u32 length, payload)
 *   0x06 OUTCOMES      count x (u64 number | u8 status | u32 retry after, 0: none | u8 length, code)
 *   0x07 MAIL          count x amid 20
 *   0x08 PROBE         says nothing; NATS tells when nobody is there to get it
 *
 * It comes from relays of the same operator, and is checked like anything else that comes over a socket: a message that is
 * not exactly this is refused whole. Relays of another version do not understand each other, and each takes the other's
 * agents for absent: mail between them goes through the mailboxes they share.
 */
import {
  AMID_BYTES,
  AgentMeshError,
  ByteReader,
  ByteWriter,
  ID_BYTES,
  MAX_PAYLOAD_BYTES,
  MESSAGE_TYPES,
  SENT_STATUSES,
  checkTimestamp,
  fromHex,
  idToBytes,
  messageIdFromBytes,
  retryAfter,
  sentOutcome,
  toHex,
  utf8Bytes,
  utf8Text,
  type Amid,
  type MessageType,
  type PresenceState,
  type SentFrame,
  type SentStatus,
} from '@agentmesh/sdk/wire'
import type { AmidMemo } from '../in-place/amid-memo.ts'
import type { MailboxMessage } from '../mailbox.ts'

declare const brand: unique symbol
/** One life of one relay process: 32 hexadecimal digits, drawn at its start. */
export type InstanceId = string & { readonly [brand]: 'InstanceId' }

/** An agent that is connected to a relay. */
export interface PresentAgent {
  readonly amid: Amid
  readonly presence: PresenceState
  /** When its connection began, milliseconds since the epoch. */
  readonly since: number
}
export interface PresenceChange extends Omit<PresentAgent, 'presence'> {
  /** `undefined`: not connected any more. */
  readonly presence: PresenceState | undefined
}
export interface ForwardedMessage {
  /** Of the forwarding relay, for the outcome. */
  readonly number: number
  readonly message: MailboxMessage
}
export interface Outcome extends Pick<SentFrame, 'status' | 'code' | 'retryAfterSeconds'> {
  readonly number: number
}

export type ClusterMessage = { readonly from: InstanceId } & (
  | { readonly kind: 'presence'; readonly sequence: number; readonly changes: readonly PresenceChange[] }
  | { readonly kind: 'leave' }
  | { readonly kind: 'snapshot-ask' }
  | { readonly kind: 'probe' }
  | {
      readonly kind: 'snapshot'
      readonly sequence: number
      /** From 0. */
      readonly part: number
      readonly parts: number
      readonly agents: readonly PresentAgent[]
    }
  | { readonly kind: 'forward'; readonly messages: readonly ForwardedMessage[] }
  | { readonly kind: 'outcomes'; readonly outcomes: readonly Outcome[] }
  | { readonly kind: 'mail'; readonly recipients: readonly Amid[] }
)

export const CLUSTER_VERSION = 1
/** What a NATS server takes unless it is told otherwise. */
export const MAX_CLUSTER_BYTES = 1024 * 1024
/** Of agents, outcomes or recipients in one message; keeps each below 300 KB. */
export const MAX_ITEMS = 8192
/** Payload bytes after which a batch of forwarded messages is full. */
export const FORWARD_BATCH_BYTES = 512 * 1024
/** So many times MAX_ITEMS agents can be connected to one relay. */
export const MAX_SNAPSHOT_PARTS = 64

const INSTANCE_BYTES = 16
const KINDS = {
  presence: 1,
  leave: 2,
  'snapshot-ask': 3,
  snapshot: 4,
  forward: 5,
  outcomes: 6,
  mail: 7,
  probe: 8,
} as const
const GONE = 0
const PRESENCES: readonly PresenceState[] = ['online', 'away', 'dnd', 'offline']
const messageTypes = new Map<number, MessageType>(
  Object.entries(MESSAGE_TYPES).map(([type, code]) => [code, type as MessageType]),
)
const statuses = new Map<number, SentStatus>(
  Object.entries(SENT_STATUSES).map(([status, code]) => [code, status as SentStatus]),
)

export function newInstanceId(random: (length: number) => Uint8Array): InstanceId {
  return toHex(random(INSTANCE_BYTES)) as InstanceId
}

/** @throws MALFORMED unless given 32 lowercase hexadecimal digits */
export function parseInstanceId(text: string): InstanceId {
  if (fromHex(text).length !== INSTANCE_BYTES) throw new AgentMeshError('MALFORMED', 'Not an instance id')
  return text as InstanceId
}

// --- writing ----------------------------------------------------------------------------------------------------------

export function encodeClusterMessage(message: ClusterMessage, amids: AmidMemo): Uint8Array {
  const writer = new ByteWriter().u8(CLUSTER_VERSION).u8(KINDS[message.kind]).bytes(fromHex(message.from))
  switch (message.kind) {
    case 'leave':
    case 'snapshot-ask':
    case 'probe':
      break
    case 'presence':
      writer.u64(message.sequence)
      writeAgents(writer, message.changes, amids)
      break
    case 'snapshot':
      writer.u64(message.sequence).u16(message.part).u16(message.parts)
      writeAgents(writer, message.agents, amids)
      break
    case 'forward':
      writer.u16(message.messages.length)
      for (const each of message.messages) writeForwarded(writer, each, amids)
      break
    case 'outcomes':
      writer.u16(message.outcomes.length)
      for (const { number, status, code, retryAfterSeconds } of message.outcomes) {
        const text = utf8Bytes(code ?? '')
        writer
          .u64(number)
          .u8(SENT_STATUSES[status])
          .u32(retryAfterSeconds ?? 0)
          .u8(text.length)
          .bytes(text)
      }
      break
    case 'mail':
      writer.u16(message.recipients.length)
      for (const amid of message.recipients) writer.bytes(amids.toBytes(amid))
  }
  return writer.finish()
}

function writeAgents(writer: ByteWriter, agents: readonly PresenceChange[], amids: AmidMemo): void {
  writer.u16(agents.length)
  for (const { amid, presence, since } of agents) {
    writer
      .bytes(amids.toBytes(amid))
      .u8(presence === undefined ? GONE : PRESENCES.indexOf(presence) + 1)
      .u64(since)
  }
}

function writeForwarded(writer: ByteWriter, { number, message }: ForwardedMessage, amids: AmidMemo): void {
  const { to, from, id, type, timestamp, payload } = message
  writer
    .u64(number)
    .bytes(amids.toBytes(to))
    .bytes(amids.toBytes(from))
    .bytes(idToBytes(id))
    .u8(MESSAGE_TYPES[type])
    .u64(timestamp)
    .u32(payload.length)
    .bytes(payload)
}

// --- reading ----------------------------------------------------------------------------------------------------------

/**
 * Payloads are views on `bytes`.
 *
 * @throws MALFORMED, UNKNOWN_TYPE, TOO_LARGE, UNSUPPORTED_VERSION, INVALID_ID
 */
export function decodeClusterMessage(bytes: Uint8Array, amids: AmidMemo): ClusterMessage {
  if (bytes.length > MAX_CLUSTER_BYTES) throw new AgentMeshError('TOO_LARGE')
  const reader = new ByteReader(bytes)
  if (reader.u8() !== CLUSTER_VERSION) throw new AgentMeshError('UNSUPPORTED_VERSION')
  const kind = reader.u8()
  const from = toHex(reader.bytes(INSTANCE_BYTES)) as InstanceId
  const message = readBody(kind, from, reader, amids)
  reader.end()
  return message
}

function readBody(kind: number, from: InstanceId, reader: ByteReader, amids: AmidMemo): ClusterMessage {
  switch (kind) {
    case KINDS.presence:
      return {
        kind: 'presence',
        from,
        sequence: reader.u64(),
        changes: readList(reader, () => readChange(reader, amids)),
      }
    case KINDS.leave:
      return { kind: 'leave', from }
    case KINDS['snapshot-ask']:
      return { kind: 'snapshot-ask', from }
    case KINDS.probe:
      return { kind: 'probe', from }
    case KINDS.snapshot: {
      const sequence = reader.u64()
      const part = reader.u16()
      const parts = reader.u16()
      if (part >= parts || parts > MAX_SNAPSHOT_PARTS) throw new AgentMeshError('MALFORMED', 'No such part')
      return {
        kind: 'snapshot',
        from,
        sequence,
        part,
        parts,
        agents: readList(reader, () => readPresent(reader, amids)),
      }
    }
    case KINDS.forward:
      return { kind: 'forward', from, messages: readList(reader, () => readForwarded(reader, amids)) }
    case KINDS.outcomes:
      return { kind: 'outcomes', from, outcomes: readList(reader, () => readOutcome(reader)) }
    case KINDS.mail:
      return { kind: 'mail', from, recipients: readList(reader, () => readAmid(reader, amids)) }
    default:
      throw new AgentMeshError('UNKNOWN_TYPE', `Unknown cluster message ${kind}`)
  }
}

function readList<T>(reader: ByteReader, read: () => T): T[] {
  const count = reader.u16()
  if (count > MAX_ITEMS) throw new AgentMeshError('TOO_LARGE')
  const items: T[] = []
  for (let index = 0; index < count; index++) items.push(read())
  return items
}

function readAmid(reader: ByteReader, amids: AmidMemo): Amid {
  return amids.fromBytes(reader.bytes(AMID_BYTES), 0)
}

function readChange(reader: ByteReader, amids: AmidMemo): PresenceChange {
  const amid = readAmid(reader, amids)
  const state = reader.u8()
  const presence = PRESENCES[state - 1]
  if (state !== GONE && presence === undefined) throw new AgentMeshError('UNKNOWN_TYPE', 'Unknown presence')
  return { amid, presence, since: checkTimestamp(reader.u64()) }
}

function readPresent(reader: ByteReader, amids: AmidMemo): PresentAgent {
  const { amid, presence, since } = readChange(reader, amids)
  if (presence === undefined) throw new AgentMeshError('MALFORMED', 'A snapshot has nobody who is gone')
  return { amid, presence, since }
}

function readForwarded(reader: ByteReader, amids: AmidMemo): ForwardedMessage {
  const number = reader.u64()
  const to = readAmid(reader, amids)
  const from = readAmid(reader, amids)
  const id = messageIdFromBytes(reader.bytes(ID_BYTES))
  const type = messageTypes.get(reader.u8())
  if (type === undefined) throw new AgentMeshError('UNKNOWN_TYPE', 'Unknown message type')
  const timestamp = checkTimestamp(reader.u64())
  const length = reader.u32()
  if (length > MAX_PAYLOAD_BYTES) throw new AgentMeshError('TOO_LARGE')
  return { number, message: { to, from, id, type, timestamp, payload: reader.bytes(length) } }
}

function readOutcome(reader: ByteReader): Outcome {
  const number = reader.u64()
  const status = statuses.get(reader.u8())
  if (status === undefined) throw new AgentMeshError('UNKNOWN_TYPE', 'Unknown status')
  const retrySeconds = reader.u32()
  const code = utf8Text(reader.bytes(reader.u8()))
  return { number, ...sentOutcome(status, code), ...retryAfter(retrySeconds) }
}

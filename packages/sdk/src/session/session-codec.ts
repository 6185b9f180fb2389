/**
 * Sessions and pending KNOCKs as bytes, for rows that are sealed before they reach the disk.
 *
 *     u8 version | u32 length | JSON of everything but the ratchet | ratchet state (crypto/ratchet-state.ts)
 *
 * Strict both ways: a row that is not what its schema says is damaged, not half a session.
 */
import type { Static, TSchema } from 'typebox'
import { decodeRatchetState, encodeRatchetState, type RatchetState } from '../crypto/index.ts'
import {
  AgentMeshError,
  AmidText,
  Base64Of,
  ByteReader,
  ByteWriter,
  CloseReason,
  Constraints,
  fromBase64,
  Intent,
  Knock,
  MessageIdText,
  parseJsonObject,
  SessionIdText,
  SessionType,
  toBase64,
  utf8Bytes,
  validate,
  VersionList,
  Type,
} from '../wire/index.ts'
import type { PendingKnock } from './knock-initiator.ts'
import type { Session } from './session.ts'

const SESSION_VERSION = 0x01
const PENDING_VERSION = 0x02
const MAX_ROW_JSON_BYTES = 256 * 1024

const Bytes32 = Base64Of(32)
const Time = Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER })
const Count = Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER })

const parties = {
  self: AmidText,
  peer: AmidText,
  peerSigningKey: Bytes32,
  intent: Intent,
  version: VersionList.items,
  createdAt: Time,
  expiresAt: Time,
  oneTimePrekeyUsed: Type.Boolean(),
}

const SessionRow = Type.Object(
  {
    ...parties,
    id: SessionIdText,
    role: Type.Enum(['initiator', 'responder']),
    type: SessionType,
    constraints: Constraints,
    lastActivityAt: Time,
    state: Type.Enum(['open', 'closed']),
    closes: Type.Enum(['none', 'ours', 'theirs', 'both', 'settled']),
    closeReason: Type.Optional(CloseReason),
    exchange: Type.Enum(['idle', 'asked', 'answered']),
    sendSequence: Count,
    received: Type.Object({ highest: Count, missing: Type.Array(Count) }),
    sentCount: Count,
    receivedCount: Count,
  },
  { additionalProperties: false },
)

const PendingRow = Type.Object(
  {
    ...parties,
    sessionRequest: Knock.properties.session_request,
    nonce: Bytes32,
    knockHash: Bytes32,
    transcript: Bytes32,
    optimisticMessageId: Type.Optional(MessageIdText),
  },
  { additionalProperties: false },
)

function encodeRow(version: number, json: object, ratchet: RatchetState): Uint8Array {
  const text = utf8Bytes(JSON.stringify(json))
  return new ByteWriter().u8(version).u32(text.length).bytes(text).bytes(encodeRatchetState(ratchet)).finish()
}

function decodeRow<T extends TSchema>(version: number, schema: T, bytes: Uint8Array, operation: string) {
  const reader = new ByteReader(bytes)
  if (reader.u8() !== version) throw new AgentMeshError('MALFORMED', 'Unknown row version', { operation })
  const raw = parseJsonObject(reader.bytes(reader.u32()), MAX_ROW_JSON_BYTES)
  const json: Static<T> = validate(schema, raw, operation)
  return { json, ratchet: decodeRatchetState(reader.rest()) }
}

/** Holds every key of the session: seal it before it leaves memory. */
export function encodeSession(session: Session): Uint8Array {
  const { ratchet, peerSigningKey, ...fields } = session
  return encodeRow(SESSION_VERSION, { ...fields, peerSigningKey: toBase64(peerSigningKey) }, ratchet)
}

/** @throws MALFORMED and the codes of the strict JSON reader */
export function decodeSession(bytes: Uint8Array): Session {
  const { json, ratchet } = decodeRow(SESSION_VERSION, SessionRow, bytes, 'read a session')
  return { ...json, peerSigningKey: fromBase64(json.peerSigningKey), ratchet }
}

/** Holds the keys the answer will be read with: seal it before it leaves memory. */
export function encodePending(pending: PendingKnock): Uint8Array {
  const { ratchet, peerSigningKey, nonce, knockHash, transcript, ...fields } = pending
  return encodeRow(
    PENDING_VERSION,
    {
      ...fields,
      peerSigningKey: toBase64(peerSigningKey),
      nonce: toBase64(nonce),
      knockHash: toBase64(knockHash),
      transcript: toBase64(transcript),
    },
    ratchet,
  )
}

/** @throws MALFORMED and the codes of the strict JSON reader */
export function decodePending(bytes: Uint8Array): PendingKnock {
  const { json, ratchet } = decodeRow(PENDING_VERSION, PendingRow, bytes, 'read a pending KNOCK')
  return {
    ...json,
    peerSigningKey: fromBase64(json.peerSigningKey),
    nonce: fromBase64(json.nonce),
    knockHash: fromBase64(json.knockHash),
    transcript: fromBase64(json.transcript),
    ratchet,
  }
}

/**
 * Identifiers, each a branded type made only by its parser, so that a plain string never reaches a path, a query or a
 * peer. All have exactly one spelling.
 */
import { AMID_BYTES, ID_BYTES } from './constants.ts'
import { fromBase58, fromHex, toBase58, toHex } from './bytes.ts'
import { AgentMeshError } from './errors.ts'

declare const brand: unique symbol

/** base58btc of the first 20 bytes of SHA-256 of an Ed25519 public key (DESIGN §4). */
export type Amid = string & { readonly [brand]: 'Amid' }
/** UUID version 4 of a session, chosen by the KNOCK's receiver. */
export type SessionId = string & { readonly [brand]: 'SessionId' }
/** UUID version 4 of a message: names a request end to end and a SEND to the relay. */
export type MessageId = string & { readonly [brand]: 'MessageId' }
/** UUID version 4 of a file that goes along with a message, chosen by its sender: names nothing without him. */
export type AttachmentId = string & { readonly [brand]: 'AttachmentId' }

/** The longest base58 spelling of 20 bytes is 28 characters. */
export const AMID_PATTERN = '^[1-9A-HJ-NP-Za-km-z]{20,28}$'
export const UUID_PATTERN = '^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$'
const amidPattern = new RegExp(AMID_PATTERN)
const uuidPattern = new RegExp(UUID_PATTERN)

/** @throws INVALID_AMID unless the text is the one base58btc spelling of 20 bytes. */
export function parseAmid(text: string): Amid {
  if (amidPattern.test(text)) {
    const bytes = fromBase58(text)
    if (bytes.length === AMID_BYTES && toBase58(bytes) === text) return text as Amid
  }
  throw new AgentMeshError('INVALID_AMID')
}

export function isAmid(text: string): text is Amid {
  try {
    parseAmid(text)
    return true
  } catch {
    return false
  }
}

export function amidToBytes(amid: Amid): Uint8Array {
  return fromBase58(amid)
}

/** @throws INVALID_AMID unless given exactly 20 bytes. */
export function amidFromBytes(bytes: Uint8Array): Amid {
  if (bytes.length !== AMID_BYTES) throw new AgentMeshError('INVALID_AMID')
  return toBase58(bytes) as Amid
}

/** @throws INVALID_ID unless the text is a lowercase UUID version 4. */
export function parseSessionId(text: string): SessionId {
  return parseUuid(text) as SessionId
}

/** @throws INVALID_ID unless the text is a lowercase UUID version 4. */
export function parseMessageId(text: string): MessageId {
  return parseUuid(text) as MessageId
}

function parseUuid(text: string): string {
  if (!uuidPattern.test(text)) throw new AgentMeshError('INVALID_ID')
  return text
}

export function isMessageId(text: string): text is MessageId {
  return uuidPattern.test(text)
}

/** The 16 bytes of a UUID. */
export function idToBytes(id: SessionId | MessageId | AttachmentId): Uint8Array {
  return fromHex(id.replaceAll('-', ''))
}

/** @throws INVALID_ID unless the bytes are a UUID version 4. */
export function sessionIdFromBytes(bytes: Uint8Array): SessionId {
  return uuidFromBytes(bytes) as SessionId
}

/** @throws INVALID_ID unless the bytes are a UUID version 4. */
export function messageIdFromBytes(bytes: Uint8Array): MessageId {
  return uuidFromBytes(bytes) as MessageId
}

/** @throws INVALID_ID unless the bytes are a UUID version 4. */
export function attachmentIdFromBytes(bytes: Uint8Array): AttachmentId {
  return uuidFromBytes(bytes) as AttachmentId
}

function uuidFromBytes(bytes: Uint8Array): string {
  // RFC 9562 §5.4: the version and the variant.
  const isVersion4 = ((bytes[6] ?? 0) & 0xf0) === 0x40 && ((bytes[8] ?? 0) & 0xc0) === 0x80
  if (bytes.length !== ID_BYTES || !isVersion4) throw new AgentMeshError('INVALID_ID')
  const text = toHex(bytes)
  return `${text.slice(0, 8)}-${text.slice(8, 12)}-${text.slice(12, 16)}-${text.slice(16, 20)}-${text.slice(
    20,
  )}`
}

/** A fresh session id from 16 random bytes (RFC 9562 §5.4). */
export function newSessionId(random: (length: number) => Uint8Array): SessionId {
  return newUuid(random) as SessionId
}

/** A fresh message id from 16 random bytes (RFC 9562 §5.4). */
export function newMessageId(random: (length: number) => Uint8Array): MessageId {
  return newUuid(random) as MessageId
}

/** A fresh attachment id from 16 random bytes (RFC 9562 §5.4). */
export function newAttachmentId(random: (length: number) => Uint8Array): AttachmentId {
  return newUuid(random) as AttachmentId
}

function newUuid(random: (length: number) => Uint8Array): string {
  const bytes = Uint8Array.from(random(ID_BYTES))
  bytes[6] = (bytes[6]! & 0x0f) | 0x40
  bytes[8] = (bytes[8]! & 0x3f) | 0x80
  return uuidFromBytes(bytes)
}

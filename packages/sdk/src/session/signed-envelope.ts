/**
 * How an envelope is signed and measured, for messages of a session and for the one that goes along with a KNOCK
 * (specification §6.1, DESIGN §7.1).
 *
 *     signature   label `envelope` over: direction u8 (1 initiator to responder, 2 back) | RFC 8785 bytes of the envelope
 *                 without its signature, which name sender, receiver, sequence, and session or KNOCK
 *     size        of the canonical form: the signed bytes and the signature field
 *
 * Each side makes the canonical form once. The sender appends the signature to it for the plaintext; the receiver takes
 * fields in any order.
 */
import type { TSchema } from 'typebox'
import { sign, verify } from '../crypto/index.ts'
import type { Identity } from '../identity/index.ts'
import {
  AgentMeshError,
  canonicalText,
  fromBase64,
  MAX_PAYLOAD_BYTES,
  parseJsonObject,
  PAYLOADS,
  toBase64,
  unsignedBytes,
  utf8Bytes,
  validate,
  type EnvelopeType,
  type JsonObject,
} from '../wire/index.ts'
import type { SessionRole } from './session.ts'

/** `,"signature":"` and `"` around 88 characters of base64. */
const SIGNATURE_FIELD_BYTES = 14 + 88 + 1

const DIRECTIONS: Readonly<Record<SessionRole, Uint8Array>> = {
  initiator: Uint8Array.of(1),
  responder: Uint8Array.of(2),
}

export interface EnvelopeSigner {
  readonly identity: Identity
  /** Which side signs. */
  readonly role: SessionRole
  /** Bytes of the canonical form, signature included. */
  readonly maxBytes: number
}

/**
 * Signs the fields of an envelope. What the receiver's reader would refuse is refused here.
 *
 * @returns the envelope, and its canonical text with the signature as last field, in UTF-8
 * @throws LIMIT_SIZE; MALFORMED and the codes of the strict JSON reader for a payload that cannot be carried exactly
 */
export function signEnvelope(
  fields: { readonly type: EnvelopeType; readonly payload: unknown },
  { identity, role, maxBytes }: EnvelopeSigner,
): { readonly raw: JsonObject; readonly plaintext: Uint8Array } {
  const text = textOf(fields)
  const signed = utf8Bytes(text)
  checkSize(signed, maxBytes)
  const raw = parseJsonObject(text, MAX_PAYLOAD_BYTES)
  validate<TSchema>(PAYLOADS[fields.type], raw['payload'], `make ${fields.type}`)
  const signature = toBase64(sign('envelope', identity.signing.secretKey, DIRECTIONS[role], signed))
  raw['signature'] = signature
  return { raw, plaintext: utf8Bytes(`${text.slice(0, -1)},"signature":"${signature}"}`) }
}

export interface EnvelopeSource {
  /** Ed25519, 32 bytes. */
  readonly signingKey: Uint8Array
  /** Which side is to have signed. */
  readonly role: SessionRole
  /** As for `EnvelopeSigner`. */
  readonly maxBytes: number
}

/** @throws INVALID_SIGNATURE, LIMIT_SIZE */
export function verifyEnvelope(raw: JsonObject, signature: string, source: EnvelopeSource): void {
  checkSize(verifiedBytes(raw, signature, source), source.maxBytes)
}

/**
 * The bytes that the peer signed, whatever their size: see `checkSize`.
 *
 * @throws INVALID_SIGNATURE
 */
export function verifiedBytes(
  raw: JsonObject,
  signature: string,
  { signingKey, role }: Pick<EnvelopeSource, 'signingKey' | 'role'>,
): Uint8Array {
  const signed = unsignedBytes(raw)
  if (!verify('envelope', signingKey, fromBase64(signature), DIRECTIONS[role], signed)) {
    throw new AgentMeshError('INVALID_SIGNATURE', undefined, { operation: 'read a message' })
  }
  return signed
}

function textOf(envelope: object): string {
  try {
    return canonicalText(envelope)
  } catch (cause) {
    throw new AgentMeshError('MALFORMED', 'The payload is not JSON', { operation: 'make a message', cause })
  }
}

/** @throws LIMIT_SIZE */
export function checkSize(signed: Uint8Array, maxBytes: number): void {
  if (signed.length + SIGNATURE_FIELD_BYTES > maxBytes) throw new AgentMeshError('LIMIT_SIZE')
}

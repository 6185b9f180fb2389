/**
 * How wire types are defined: one TypeBox object is the TypeScript type, the draft-07 JSON Schema published under
 * `spec/schemas/`, and (compiled by Ajv on first use) the validator. Unknown fields pass, since signatures cover them;
 * they stay out of the types. Only schemas written in this project are ever compiled.
 */
import { Ajv, type ErrorObject, type ValidateFunction } from 'ajv'
import type { Static, TSchema, TString } from 'typebox'
import { Type } from './type.ts'
import { MAX_VERSIONS, PROTOCOL_VERSION, VERSION_PATTERN } from './constants.ts'
import { fromBase64, toBase64 } from './bytes.ts'
import { AgentMeshError } from './errors.ts'
import { AMID_PATTERN, isAmid, UUID_PATTERN, type Amid, type MessageId, type SessionId } from './ids.ts'
import { isTimestamp, TIMESTAMP_PATTERN } from './time.ts'

// --- building blocks ----------------------------------------------------------------------------------------------

export const AmidText = Type.Unsafe<Amid>(
  Type.String({
    format: 'amid',
    pattern: AMID_PATTERN,
    description: 'AMID: base58btc of the first 20 bytes of SHA-256 of the signing key',
  }),
)
export const SessionIdText = Type.Unsafe<SessionId>(
  Type.String({ pattern: UUID_PATTERN, description: 'Session id: UUID version 4' }),
)
export const MessageIdText = Type.Unsafe<MessageId>(
  Type.String({ pattern: UUID_PATTERN, description: 'Message id: UUID version 4' }),
)
export const Timestamp = Type.String({
  format: 'date-time',
  pattern: TIMESTAMP_PATTERN,
  description: 'RFC 3339, UTC, seconds or milliseconds',
})
export const VersionList = Type.Array(
  Type.String({ pattern: VERSION_PATTERN, description: `Protocol version, such as ${PROTOCOL_VERSION}` }),
  {
    minItems: 1,
    maxItems: MAX_VERSIONS,
    description: `Protocol versions spoken, best first, such as ${PROTOCOL_VERSION}`,
  },
)

/** Canonical base64 of exactly `length` bytes, behind an optional `prefix:`. */
export function Base64Of(length: number, prefix = '', description?: string): TString {
  const digits = Math.floor((length * 4) / 3)
  // The last digit before padding carries 2 or 4 bits; the others of it must be zero (RFC 4648 §3.5).
  const last = ['', '[AQgw]==', '[AEIMQUYcgkosw048]='][length % 3]!
  return Type.String({
    pattern: `^${prefix}[A-Za-z0-9+/]{${digits}}${last}$`,
    description: description ?? `base64 of ${length} bytes${prefix === '' ? '' : ` behind ${prefix}`}`,
  })
}

export const SignatureText = Base64Of(64, '', 'Ed25519 signature, base64 of 64 bytes')
export const HashText = Base64Of(32)
export const SigningKeyText = Base64Of(32, 'ed25519:', 'ed25519: and base64 of the 32-byte public key')
export const ExchangeKeyText = Base64Of(32, 'x25519:', 'x25519: and base64 of the 32-byte public key')
export const KemKeyText = Base64Of(1184, 'mlkem768:', 'mlkem768: and base64 of the 1184-byte public key')

/** Text a peer supplies: capped in code points, and to be escaped wherever a person sees it (DESIGN §4). */
export function PeerText(maxLength: number, description?: string): TString {
  return Type.String({ maxLength, ...(description === undefined ? {} : { description }) })
}

export function Nullable<T extends TSchema>(schema: T) {
  return Type.Union([schema, Type.Null()])
}

/** A schema with an `$id` as part of another: without it, for one document may hold an `$id` only once. */
export function Embedded<T extends TSchema>(schema: T): T {
  const { $id: _, ...part } = schema as T & { $id?: string }
  return part as unknown as T
}

// --- public keys as text --------------------------------------------------------------------------------------------

export type KeyAlgorithm = 'ed25519' | 'x25519' | 'mlkem768'
const KEY_BYTES: Record<KeyAlgorithm, number> = { ed25519: 32, x25519: 32, mlkem768: 1184 }

/** `<algorithm>:<base64>` (specification §2.1). */
export function formatKey(algorithm: KeyAlgorithm, key: Uint8Array): string {
  return `${algorithm}:${toBase64(key)}`
}

/** @throws INVALID_KEY unless the text is `<algorithm>:` and canonical base64 of the algorithm's key length. */
export function parseKey(algorithm: KeyAlgorithm, text: string): Uint8Array {
  if (!text.startsWith(`${algorithm}:`)) throw new AgentMeshError('INVALID_KEY')
  let key: Uint8Array
  try {
    key = fromBase64(text.slice(algorithm.length + 1))
  } catch (cause) {
    throw new AgentMeshError('INVALID_KEY', undefined, { cause })
  }
  if (key.length !== KEY_BYTES[algorithm]) throw new AgentMeshError('INVALID_KEY')
  return key
}

// --- validators -----------------------------------------------------------------------------------------------------

// Tests hold our schemas to draft-07 (published-schemas.test.ts); compiling that first would slow every start.
const ajv = new Ajv({
  strict: true,
  allowUnionTypes: true,
  ownProperties: true,
  meta: false,
  validateSchema: false,
})
ajv.addFormat('amid', { type: 'string', validate: isAmid })
ajv.addFormat('date-time', { type: 'string', validate: isTimestamp })

const compiled = new WeakMap<TSchema, ValidateFunction>()

/**
 * Checks a value against one of our own schemas.
 *
 * @throws MALFORMED naming the first field that is wrong; never the value itself.
 */
export function validate<T extends TSchema>(schema: T, value: unknown, operation?: string): Static<T> {
  let check = compiled.get(schema)
  if (!check) {
    check = ajv.compile(schema)
    compiled.set(schema, check)
  }
  if (!check(value)) {
    throw new AgentMeshError(
      'MALFORMED',
      describe(check.errors?.[0]),
      operation === undefined ? {} : { operation },
    )
  }
  return value as Static<T>
}

function describe(error: ErrorObject | undefined): string {
  if (!error) return 'Invalid input'
  return `${error.instancePath === '' ? 'input' : error.instancePath.slice(1).replaceAll('/', '.')} ${error.message}`
}

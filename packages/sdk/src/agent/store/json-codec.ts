/**
 * Rows as bytes. A table's codec is either `jsonCodec` or a pair of functions of the value's own room.
 *
 * JSON here carries bytes as well: `Uint8Array` becomes `{"$bytes": "<base64>"}`. An object that has this very shape
 * already, such as one a peer sent, gets one more `$` in its key, and loses it on the way back, so that every value
 * returns as what it was.
 */
import { AgentMeshError, fromBase64, toBase64, utf8Bytes, utf8Text } from '../../wire/index.ts'

/** Turns a row's value into bytes and back. `decode` throws for bytes that `encode` cannot have made. */
export interface TableCodec<T> {
  encode(value: T): Uint8Array
  decode(bytes: Uint8Array): T
}

const BYTES_KEY = '$bytes'
const ESCAPED_KEY = /^\$+bytes$/

/**
 * JSON with bytes. Fields that are undefined are left out.
 *
 * `encode` throws MALFORMED for what would come back as something else: NaN and infinities, bigint, functions, undefined
 * in an array, and objects of a class (Map, Date).
 */
export function jsonCodec<T>(): TableCodec<T> {
  return {
    encode: (value) => utf8Bytes(JSON.stringify(isPlain(value) ? value : toPlain(value))),
    decode: (bytes) => JSON.parse(utf8Text(bytes), revive) as T,
  }
}

/** Whether a value is JSON as it stands. Most rows are, and a copy of them costs more than all else in writing them. */
function isPlain(value: unknown): boolean {
  if (value === null || typeof value === 'string' || typeof value === 'boolean') return true
  if (typeof value === 'number') return Number.isFinite(value)
  if (Array.isArray(value)) return value.every(isPlain)
  if (typeof value !== 'object' || Object.getPrototypeOf(value) !== Object.prototype) return false
  return Object.entries(value).every(
    ([key, field]) => !key.startsWith('$') && (field === undefined || isPlain(field)),
  )
}

function toPlain(value: unknown): unknown {
  if (value === null || typeof value === 'string' || typeof value === 'boolean') return value
  if (typeof value === 'number' && Number.isFinite(value)) return value
  if (Array.isArray(value)) return value.map(toPlain)
  if (value instanceof Uint8Array) return { [BYTES_KEY]: toBase64(value) }
  if (typeof value === 'object') {
    const prototype: unknown = Object.getPrototypeOf(value)
    if (prototype === Object.prototype || prototype === null) return plainObject(value)
  }
  throw new AgentMeshError('MALFORMED', `A row cannot hold a value of type ${typeName(value)}`)
}

function plainObject(value: object): object {
  const entries = Object.entries(value).filter(([, field]) => field !== undefined)
  const [only] = entries
  if (entries.length === 1 && only !== undefined && ESCAPED_KEY.test(only[0])) {
    return { [`$${only[0]}`]: toPlain(only[1]) }
  }
  // fromEntries defines own properties, so a key `__proto__` stays a key.
  return Object.fromEntries(entries.map(([key, field]) => [key, toPlain(field)]))
}

function typeName(value: unknown): string {
  if (typeof value !== 'object' || value === null) return typeof value
  return value.constructor?.name ?? 'object'
}

function revive(_key: string, value: unknown): unknown {
  if (typeof value === 'number' && (!Number.isFinite(value) || Object.is(value, -0))) {
    throw new AgentMeshError('MALFORMED', 'A number that no row was written with')
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return value
  const keys = Object.keys(value)
  const [key] = keys
  if (keys.length !== 1 || key === undefined || !ESCAPED_KEY.test(key)) return value
  const field = (value as Record<string, unknown>)[key]
  if (key !== BYTES_KEY) return { [key.slice(1)]: field }
  if (typeof field !== 'string') throw new AgentMeshError('MALFORMED', 'Bytes must be text')
  return fromBase64(field)
}

/**
 * The strict JSON reader and the canonical writer (RFC 8785). DESIGN §5, spec/wire.md.
 *
 * One pass over the text refuses what JSON.parse would silently change or take: duplicate keys, `__proto__`, nesting
 * over 32, numbers a double cannot carry exactly, lone surrogates, sizes over the caller's limit. Only then is the
 * text parsed, by JSON.parse, so that the grammar itself is not ours.
 */
import canonicalize from 'canonicalize'
import { MAX_JSON_DEPTH } from './constants.ts'
import { utf8Bytes, utf8Text } from './bytes.ts'
import { AgentMeshError } from './errors.ts'

export type JsonValue = null | boolean | number | string | JsonValue[] | JsonObject
export interface JsonObject {
  [key: string]: JsonValue
}

const QUOTE = 0x22
const BACKSLASH = 0x5c
const MAX_EXACT_INTEGER_DIGITS = 15
/** No double needs more characters than this, and a bound keeps the exactness check cheap. */
const MAX_NUMBER_LENGTH = 64
const NUMBER = /^(-?)(0|[1-9]\d*)(?:\.(\d+))?(?:[eE]([+-]?\d+))?$/

/**
 * Reads one JSON text.
 *
 * @param maxBytes the largest input taken, in UTF-8 bytes
 * @throws TOO_LARGE, MALFORMED (not UTF-8), JSON_SYNTAX, JSON_DUPLICATE_KEY, JSON_FORBIDDEN_KEY, JSON_DEPTH,
 *   JSON_NUMBER, JSON_SURROGATE
 */
export function parseJson(input: Uint8Array | string, maxBytes: number): JsonValue {
  // A UTF-16 unit is at least one UTF-8 byte, so the cheap check comes first.
  if (input.length > maxBytes) throw new AgentMeshError('TOO_LARGE', `JSON text exceeds ${maxBytes} bytes`)
  const text = typeof input === 'string' ? input : utf8Text(input)
  if (typeof input === 'string' && Buffer.byteLength(input) > maxBytes) {
    throw new AgentMeshError('TOO_LARGE', `JSON text exceeds ${maxBytes} bytes`)
  }
  // Bytes are UTF-8 and cannot hold one; a string can, also outside its literals.
  if (typeof input === 'string' && !input.isWellFormed()) throw new AgentMeshError('JSON_SURROGATE')
  scan(text)
  try {
    return JSON.parse(text) as JsonValue
  } catch (cause) {
    throw new AgentMeshError('JSON_SYNTAX', undefined, { cause })
  }
}

/** Like `parseJson`, for input that must be an object. @throws MALFORMED for any other JSON value. */
export function parseJsonObject(input: Uint8Array | string, maxBytes: number): JsonObject {
  const value = parseJson(input, maxBytes)
  if (value === null || typeof value !== 'object' || Array.isArray(value)) {
    throw new AgentMeshError('MALFORMED', 'Not a JSON object')
  }
  return value
}

/** Walks the tokens once; leaves every question of grammar to JSON.parse. */
function scan(text: string): void {
  const open: (Set<string> | null)[] = []
  let index = 0
  while (index < text.length) {
    const unit = text.charCodeAt(index)
    if (unit === QUOTE) {
      const end = stringEnd(text, index)
      const keys = open.at(-1)
      const value = stringValue(text, index, end)
      if (keys && nextToken(text, end) === ':') {
        if (value === '__proto__') throw new AgentMeshError('JSON_FORBIDDEN_KEY')
        if (keys.has(value))
          throw new AgentMeshError(
            'JSON_DUPLICATE_KEY',
            `Duplicate key ${JSON.stringify(value.slice(0, 40))}`,
          )
        keys.add(value)
      }
      index = end
    } else if (unit === 0x7b || unit === 0x5b) {
      open.push(unit === 0x7b ? new Set() : null)
      if (open.length > MAX_JSON_DEPTH) throw new AgentMeshError('JSON_DEPTH')
      index++
    } else if (unit === 0x7d || unit === 0x5d) {
      open.pop()
      index++
    } else if (unit === 0x2d || (unit >= 0x30 && unit <= 0x39)) {
      const end = numberEnd(text, index)
      checkNumber(text.slice(index, end))
      index = end
    } else {
      index++
    }
  }
}

/** Index after the closing quote of the string that starts at `start`. */
function stringEnd(text: string, start: number): number {
  for (let index = start + 1; index < text.length; index++) {
    const unit = text.charCodeAt(index)
    if (unit === BACKSLASH) index++
    else if (unit === QUOTE) return index + 1
  }
  throw new AgentMeshError('JSON_SYNTAX', 'Unterminated string')
}

function stringValue(text: string, start: number, end: number): string {
  const literal = text.slice(start, end)
  if (!literal.includes('\\')) return literal.slice(1, -1)
  let value: string
  try {
    value = JSON.parse(literal) as string
  } catch (cause) {
    throw new AgentMeshError('JSON_SYNTAX', undefined, { cause })
  }
  if (!value.isWellFormed()) throw new AgentMeshError('JSON_SURROGATE')
  return value
}

function nextToken(text: string, index: number): string | undefined {
  while (index < text.length && ' \t\n\r'.includes(text[index]!)) index++
  return text[index]
}

function numberEnd(text: string, start: number): number {
  let index = start
  while (index < text.length && '0123456789+-.eE'.includes(text[index]!)) index++
  return index
}

/**
 * A number is carried when its magnitude is at most 2^53 - 1 and the nearest double is exactly what was written; minus
 * zero has no canonical form of its own, so it is refused. A token is exact when the double's shortest spelling has the same decimal digits and
 * exponent.
 */
function checkNumber(token: string): void {
  if (token.length <= MAX_EXACT_INTEGER_DIGITS && /^(0|-?[1-9]\d*)$/.test(token)) return
  if (!NUMBER.test(token)) throw new AgentMeshError('JSON_SYNTAX', 'Not a number')
  const value = token.length <= MAX_NUMBER_LENGTH ? Number(token) : Number.NaN
  const exact =
    Math.abs(value) <= Number.MAX_SAFE_INTEGER &&
    !Object.is(value, -0) &&
    decimalForm(token) === decimalForm(String(value))
  if (!exact)
    throw new AgentMeshError('JSON_NUMBER', `Number ${token.slice(0, 40)} cannot be carried exactly`)
}

/** `digits|exponent` with no leading or trailing zeros in digits; equal exactly when the decimal values are. */
function decimalForm(token: string): string {
  const [, sign, whole, fraction = '', exponent = '0'] = NUMBER.exec(token)!
  const digits = (whole! + fraction).replace(/^0+/, '')
  const trimmed = digits.replace(/0+$/, '')
  if (trimmed === '') return '0'
  return `${sign}${trimmed}|${Number(exponent) - fraction.length + digits.length - trimmed.length}`
}

/** RFC 8785 bytes of a JSON value: what every signature over JSON covers. */
export function canonicalBytes(value: unknown): Uint8Array {
  return utf8Bytes(canonicalText(value))
}

/** RFC 8785 text of a JSON value. @throws MALFORMED for what JSON cannot express. */
export function canonicalText(value: unknown): string {
  let text: string | undefined
  try {
    text = canonicalize(value)
  } catch (cause) {
    throw new AgentMeshError('MALFORMED', 'Not a JSON value', { cause })
  }
  if (text === undefined) throw new AgentMeshError('MALFORMED', 'Not a JSON value')
  return text
}

/** The bytes a JSON record's `signature` covers: everything else in it, fields we do not know included. */
export function unsignedBytes(record: object, alsoUnsigned: readonly string[] = []): Uint8Array {
  const entries = Object.entries(record).filter(([key]) => key !== 'signature' && !alsoUnsigned.includes(key))
  return canonicalBytes(Object.fromEntries(entries))
}

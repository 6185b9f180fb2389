/**
 * Reads a policy file a person wrote, and says on which line and in which field it is wrong (DESIGN §9).
 *
 * JSON.parse tells no position that could be relied on, so a small reader walks the text, notes the line of every field and
 * leaves each number and string to the strict JSON reader. An unknown field is a mistake: a misspelt `blocklist` that is
 * silently ignored lets in whom the owner shut out.
 */
import {
  AgentMeshError,
  MAX_JSON_DEPTH,
  parseJson,
  validate,
  type JsonObject,
  type JsonValue,
} from '../wire/index.ts'
import { defaultPolicy, Policy } from './policy.ts'

export const MAX_POLICY_BYTES = 1024 * 1024

function policyError(line: number, field: string, why: string, cause?: unknown): AgentMeshError {
  const where = field === '' ? `line ${line}` : `line ${line}, ${field}`
  return new AgentMeshError('POLICY_INVALID', `${where}: ${why}`, { operation: 'read policy', cause })
}

/**
 * @param text the file; what it leaves out has its default
 * @throws POLICY_INVALID whose message begins with `line N, field:`
 */
export function parsePolicy(text: string): Policy {
  if (Buffer.byteLength(text) > MAX_POLICY_BYTES) throw policyError(1, '', 'the file exceeds 1 MiB')
  const { value, lines } = readWithLines(text)
  if (!isObject(value)) throw policyError(1, '', 'a policy is a JSON object')
  const lineOf = (field: string) => lines.get(field) ?? lines.get(field.replace(/\.[^.]*$/, '')) ?? 1

  const standardPolicy = defaultPolicy()
  for (const [key, given] of Object.entries(value)) {
    if (!Object.hasOwn(standardPolicy, key)) throw policyError(lineOf(key), key, 'is not a field of a policy')
    const standard: unknown = standardPolicy[key as keyof Policy]
    if (!isObject(standard)) continue
    if (!isObject(given)) throw policyError(lineOf(key), key, 'must be object')
    for (const inner of Object.keys(given)) {
      const field = `${key}.${inner}`
      if (!Object.hasOwn(standard, inner)) {
        throw policyError(lineOf(field), field, 'is not a field of a policy')
      }
    }
  }
  const policy = {
    ...standardPolicy,
    ...value,
    rate_limit: { ...standardPolicy.rate_limit, ...(value['rate_limit'] as JsonObject | undefined) },
    attachments: { ...standardPolicy.attachments, ...(value['attachments'] as JsonObject | undefined) },
    notify_owner: { ...standardPolicy.notify_owner, ...(value['notify_owner'] as JsonObject | undefined) },
  }
  try {
    return validate(Policy, policy, 'read policy')
  } catch (cause) {
    const message = cause instanceof AgentMeshError ? cause.message : ''
    const [field = '', ...why] = message.split(' ')
    throw policyError(lineOf(field), field, why.join(' '), cause)
  }
}

function isObject(value: unknown): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/** One pass of RFC 8259's grammar that notes the line of each field, by its path with dots. */
function readWithLines(text: string): {
  readonly value: JsonValue
  readonly lines: ReadonlyMap<string, number>
} {
  const lines = new Map<string, number>()
  let index = 0
  let line = 1

  function skipSpace(): void {
    for (; index < text.length && ' \t\r\n'.includes(text.charAt(index)); index++) {
      if (text.charAt(index) === '\n') line++
    }
  }

  function fail(field: string, expected: string): never {
    const found = index < text.length ? JSON.stringify(text.charAt(index)) : 'the end of the file'
    throw policyError(line, field, `expected ${expected}, found ${found}`)
  }

  function take(token: string, field: string): void {
    skipSpace()
    if (!text.startsWith(token, index)) fail(field, JSON.stringify(token))
    index += token.length
  }

  function at(token: string): boolean {
    skipSpace()
    return text.startsWith(token, index)
  }

  /** A string, a number or a word: found here, judged by the strict reader. */
  function scalar(field: string, pattern: RegExp, expected: string): JsonValue {
    skipSpace()
    pattern.lastIndex = index
    const token = pattern.exec(text)?.[0]
    if (token === undefined) fail(field, expected)
    try {
      const value = parseJson(token, MAX_POLICY_BYTES)
      index += token.length
      return value
    } catch (cause) {
      throw policyError(line, field, cause instanceof AgentMeshError ? cause.message : 'not JSON', cause)
    }
  }

  function key(parent: string): string {
    const name = scalar(parent, /"(?:[^"\\\n]|\\.)*"/y, 'a field name in double quotes')
    return typeof name === 'string' ? name : fail(parent, 'a field name')
  }

  function object(field: string, depth: number): JsonObject {
    const value: JsonObject = {}
    take('{', field)
    if (at('}')) take('}', field)
    else {
      do {
        if (at(',')) take(',', field)
        const name = key(field)
        const path = field === '' ? name : `${field}.${name}`
        if (name === '__proto__') throw policyError(line, path, 'the name is not allowed')
        if (lines.has(path)) throw policyError(line, path, `stands on line ${lines.get(path)} already`)
        lines.set(path, line)
        take(':', path)
        value[name] = any(path, depth + 1)
      } while (at(','))
      take('}', field)
    }
    return value
  }

  function array(field: string, depth: number): JsonValue[] {
    const value: JsonValue[] = []
    take('[', field)
    if (at(']')) take(']', field)
    else {
      do {
        if (at(',')) take(',', field)
        skipSpace()
        const path = `${field}.${value.length}`
        lines.set(path, line)
        value.push(any(path, depth + 1))
      } while (at(','))
      take(']', field)
    }
    return value
  }

  function any(field: string, depth: number): JsonValue {
    if (depth > MAX_JSON_DEPTH) throw policyError(line, field, 'nested too deep')
    if (at('{')) return object(field, depth)
    if (at('[')) return array(field, depth)
    return scalar(field, /"(?:[^"\\\n]|\\.)*"|-?[0-9][0-9.eE+-]*|true|false|null/y, 'a value')
  }

  const value = any('', 1)
  skipSpace()
  if (index < text.length) fail('', 'the end of the file')
  return { value, lines }
}

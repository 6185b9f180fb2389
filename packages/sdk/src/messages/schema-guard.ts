/**
 * What a schema must be before an owner can install it. Compiling turns a schema into code that runs on whatever peers
 * send, so a schema is taken only when its work can be bounded from its text:
 *
 *     size        at most 64 KiB, read by the strict JSON reader (so nested at most 32 deep)
 *     references  within the document (`#` or `#/...`), without a cycle; one `$id`, the schema's own name
 *     expansion   at most 2,000 subschemas once references are written out, each of which is visited once a value at most
 *     patterns    see `patternProblem`; also as names of `patternProperties`
 *     uniqueItems only beside `maxItems` of at most 1,000, since it compares each item with each
 *
 * Keywords and formats we do not know are refused by the compiler: a schema that says what it cannot check is a trap.
 */
import { AgentMeshError, type JsonObject, type JsonValue } from '../wire/index.ts'

export const MAX_SCHEMA_BYTES = 64 * 1024
const MAX_SUBSCHEMAS = 2000
const MAX_UNIQUE_ITEMS = 1000
const MAX_PATTERN_LENGTH = 256
/** Ways a pattern can match, times the characters it can match again and again. */
const MAX_PATTERN_WORK = 100_000

/** Keywords that hold data, where `$ref` or `pattern` is a name like any other. */
const DATA_KEYWORDS: ReadonlySet<string> = new Set(['const', 'enum', 'default', 'examples'])
/** Keywords that hold schemas (or lists of names) by names the author chose. */
const NAMED_KEYWORDS: ReadonlySet<string> = new Set([
  '$defs',
  'definitions',
  'properties',
  'patternProperties',
  'dependencies',
])

/** @throws SCHEMA_INVALID saying what is wrong */
export function guardSchema(document: JsonObject): void {
  countSubschemas(document, { document, open: new Set(), counts: new Map() }, true)
}

function refuse(problem: string): never {
  throw new AgentMeshError('SCHEMA_INVALID', problem, { operation: 'install a schema' })
}

function isObject(value: JsonValue | undefined): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

interface Walk {
  readonly document: JsonObject
  /** The schemas being counted, from the root down: meeting one again is a cycle. */
  readonly open: Set<JsonObject>
  readonly counts: Map<JsonObject, number>
}

/** How many schemas this one is when references are written out. */
function countSubschemas(schema: JsonObject, walk: Walk, isRoot = false): number {
  const known = walk.counts.get(schema)
  if (known !== undefined) return known
  if (walk.open.has(schema)) refuse('A $ref leads back to the schema it stands in')
  walk.open.add(schema)
  checkKeywords(schema, isRoot)
  let count = 1
  for (const part of partsOf(schema, walk.document)) {
    count += countSubschemas(part, walk)
    if (count > MAX_SUBSCHEMAS) refuse(`It comes to more than ${MAX_SUBSCHEMAS} subschemas`)
  }
  walk.open.delete(schema)
  walk.counts.set(schema, count)
  return count
}

function* partsOf(schema: JsonObject, document: JsonObject): Generator<JsonObject> {
  for (const [keyword, value] of Object.entries(schema)) {
    if (keyword === '$ref') yield resolve(value, document)
    else if (DATA_KEYWORDS.has(keyword)) continue
    else if (NAMED_KEYWORDS.has(keyword)) {
      for (const part of isObject(value) ? Object.values(value) : []) if (isObject(part)) yield part
    } else if (Array.isArray(value)) {
      for (const part of value) if (isObject(part)) yield part
    } else if (isObject(value)) yield value
  }
}

/** RFC 6901 from the root of the document. Percent signs are refused: readers of URIs and of pointers differ on them. */
function resolve(reference: JsonValue | undefined, document: JsonObject): JsonObject {
  if (typeof reference !== 'string' || !/^#(\/[^%]*)?$/.test(reference)) {
    refuse('A $ref must point into the schema itself, such as #/definitions/name')
  }
  let found: JsonValue | undefined = document
  for (const part of reference.split('/').slice(1)) {
    const name = part.replaceAll('~1', '/').replaceAll('~0', '~')
    if (isObject(found) && Object.hasOwn(found, name)) found = found[name]
    else if (Array.isArray(found)) found = found[Number(name)]
    else found = undefined
  }
  if (!isObject(found)) refuse(`The $ref ${reference} points to nothing`)
  return found
}

function checkKeywords(schema: JsonObject, isRoot: boolean): void {
  if ('$id' in schema && !isRoot) refuse('A part of a schema may not have an $id of its own')
  if ('$schema' in schema && !isRoot) refuse('A part of a schema may not have a $schema of its own')
  const { pattern, patternProperties, uniqueItems, maxItems } = schema
  const names = isObject(patternProperties) ? Object.keys(patternProperties) : []
  for (const text of typeof pattern === 'string' ? [pattern, ...names] : names) {
    const problem = patternProblem(text)
    if (problem !== undefined) refuse(`The pattern ${text.slice(0, 80)} ${problem}`)
  }
  if (uniqueItems === true && !(typeof maxItems === 'number' && maxItems <= MAX_UNIQUE_ITEMS)) {
    refuse(`uniqueItems needs maxItems of at most ${MAX_UNIQUE_ITEMS} beside it`)
  }
}

/** One step of a pattern: an escape, a class, an opening or closing bracket, any other character; then its quantifier. */
const PATTERN_STEP =
  /(\\u[0-9A-Fa-f]{4}|\\[dDwWsStnrfv\\^$.*+?()[\]{}|/-]|\[(?:\\.|[^\]\\])+\]|\((?:\?:)?|[^\\[\](){}*+?])([*+?]|\{\d{1,4}(?:,\d{0,4})?\})?/uy
const CLOSING_STEP = /\)([*+?]|\{\d{1,4}(?:,\d{0,4})?\})?/uy

const CANNOT_BOUND = 'uses what cannot be bounded: a look-around, a back-reference, or another construct'

/**
 * Why a pattern might take a matcher that backtracks too long, or undefined. Taken are patterns that begin with `^`, hold
 * one unbounded repetition at most, repeat no group (but may leave it out), look neither ahead nor behind nor back, and
 * whose bounded repetitions and alternatives multiply to few ways.
 */
export function patternProblem(pattern: string): string | undefined {
  if (pattern.length > MAX_PATTERN_LENGTH) return `has more than ${MAX_PATTERN_LENGTH} characters`
  if (!pattern.startsWith('^')) return 'must begin with ^'
  let [ways, longest, unbounded, depth, at] = [1, 1, 0, 0, 1]
  while (at < pattern.length) {
    const isClosing = pattern[at] === ')'
    const step = isClosing ? CLOSING_STEP : PATTERN_STEP
    step.lastIndex = at
    const found = step.exec(pattern)
    if (!found) return CANNOT_BOUND
    at = step.lastIndex
    const token = isClosing ? ')' : (found[1] ?? '')
    const quantifier = isClosing ? found[1] : found[2]
    if (token.startsWith('(')) depth++
    if (isClosing) depth--
    if (depth < 0) return 'closes a group that is not open'
    if (token === '|') {
      if (depth === 0) return 'has alternatives outside a group, which ^ does not cover'
      ways += ways
    }
    if (quantifier === undefined) continue
    if (token.startsWith('(') || token === '|' || token === '^') return CANNOT_BOUND
    const [least, most] = boundsOf(quantifier)
    if (isClosing && most > 1) return 'repeats a group'
    if (most === Infinity) unbounded++
    else {
      ways *= most - least + 1
      longest += most
    }
  }
  if (depth > 0) return 'does not close its groups'
  if (unbounded > 1) return 'has more than one repetition without an upper bound'
  return ways * longest > MAX_PATTERN_WORK ? 'can match in too many ways' : undefined
}

function boundsOf(quantifier: string): [number, number] {
  if (quantifier === '*') return [0, Infinity]
  if (quantifier === '+') return [1, Infinity]
  if (quantifier === '?') return [0, 1]
  const [least = '', most] = quantifier.slice(1, -1).split(',')
  return [Number(least), most === undefined ? Number(least) : most === '' ? Infinity : Number(most)]
}

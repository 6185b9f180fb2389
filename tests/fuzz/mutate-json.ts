/**
 * Changes to JSON that keep it JSON, mostly, but not what its reader hopes for. The text is held as a tree that can say what
 * JavaScript's objects cannot: a key twice, a number no double holds, an escape spelled another way.
 */
import type { Random } from './random.ts'

interface ObjectNode {
  readonly kind: 'object'
  readonly fields: readonly (readonly [key: string, value: Node])[]
}
interface ArrayNode {
  readonly kind: 'array'
  readonly items: readonly Node[]
}
/** Keys and literals are kept as they are written, quotes included. */
interface TextNode {
  readonly kind: 'text'
  readonly text: string
}
export type Node = ObjectNode | ArrayNode | TextNode

const literal = (text: string): TextNode => ({ kind: 'text', text })

const NUMBERS = [
  '-0', '0.0', '-1', '1e400', '1E2', '1e-7', '0.1', '0.30000000000000004', '1.5', '1.0', '2', '1e15', '9007199254740991',
  '9007199254740992', '9007199254740993', '-9007199254740993', '4294967295', '4294967296', '2147483648', '18446744073709551616',
  '00', '01', '1.', '.5', '+1', '0x10', 'NaN', 'Infinity', '5e-324', '1.7976931348623157e308', '0.1000000000000000055511151',
  '123456789012345678901234567890', '1e0000000000000000001', '0e0', '-1e-999',
] // prettier-ignore
const STRINGS = [
  '', '\\u0000', '\\ud800', '\\udc00\\ud800', '\\ud83d\\ude00', '\\u202e', '\u202e', '\u200b', '\ufeff', 'é', 'e\u0301', '𝟙',
  '__proto__', 'constructor', 'toString', '*', '../../etc/passwd', '\\"', '\\\\', '\\n', '\\/', '\n', '\\x', '\t', 'A', '=', '==',
  '2026-02-30T12:00:00Z', '2026-02-01T12:00:00.000Z', '0000-01-01T00:00:00Z', '9999-12-31T23:59:59.999Z', '2016-12-31T23:59:60Z',
  'agentmesh/0.2', 'agentmesh/0.1', 'agentmesh/999.999', 'ed25519:', 'x25519:', 'AAAA', 'AAA=', '//8=', 'x-a/b', 'x-a/b/c',
] // prettier-ignore
const KEYS = ['__proto__', 'constructor', 'prototype', 'toString', 'hasOwnProperty', 'signature', 'type', 'length', '$bytes', '$$bytes', '', '0', '\\u005f_proto__', 'not\\u0000known'] // prettier-ignore
const CHARACTERS = Array.from('AZaz09+/=_-.:!')
const WORDS = [
  'null',
  'true',
  'false',
  '{}',
  '[]',
  '""',
  'undefined',
  'nul',
  '[[]]',
  '{"a":1}',
  '[null]',
  '{"":0}',
]

/** @throws SyntaxError for what is no JSON at all; such a seed is changed as bytes only. */
export function parseTree(text: string): Node {
  return treeOf(JSON.parse(text))
}

function treeOf(value: unknown): Node {
  if (Array.isArray(value)) return { kind: 'array', items: value.map(treeOf) }
  if (typeof value === 'object' && value !== null) {
    return {
      kind: 'object',
      fields: Object.entries(value).map(([key, field]) => [JSON.stringify(key), treeOf(field)] as const),
    }
  }
  return literal(JSON.stringify(value))
}

export function printTree(node: Node): string {
  switch (node.kind) {
    case 'text':
      return node.text
    case 'array':
      return `[${node.items.map(printTree).join(',')}]`
    case 'object':
      return `{${node.fields.map(([key, value]) => `${key}:${printTree(value)}`).join(',')}}`
  }
}

/** Whether the text of a tree has more characters than this. A list repeated in a list soon has more than memory holds. */
export function isLongerThan(tree: Node, limit: number): boolean {
  const rest = [tree]
  let length = 0
  for (let node = rest.pop(); node !== undefined && length <= limit; node = rest.pop()) {
    if (node.kind === 'text') length += node.text.length
    else if (node.kind === 'array') {
      length += node.items.length + 1
      for (const item of node.items) rest.push(item)
    } else {
      for (const [key, value] of node.fields) {
        length += key.length + 2
        rest.push(value)
      }
    }
  }
  return length > limit
}

function anyLiteral(random: Random): Node {
  const choice = random.below(3)
  if (choice === 0) return literal(random.pick(NUMBERS))
  return literal(choice === 1 ? `"${random.pick(STRINGS)}"` : random.pick(WORDS))
}

function nested(node: Node, random: Random): Node {
  // Around the limit of 32 mostly; sometimes so deep that recursion of any kind would end in a broken stack.
  const depth = random.oneIn(20) ? 5_000 + random.below(20_000) : 1 + random.below(40)
  const [open, close] = random.oneIn(2) ? ['[', ']'] : ['{"a":', '}']
  return literal(open.repeat(depth) + printTree(node) + close.repeat(depth))
}

/** The characters of a string changed, its quotes left. */
function editString(text: string, random: Random): string {
  const inner = text.slice(1, -1)
  const at = random.below(inner.length + 1)
  switch (random.below(8)) {
    case 0:
      return `"${inner.slice(0, at)}${random.pick(STRINGS)}${inner.slice(at)}"`
    case 1:
      return `"${inner.slice(0, at)}"`
    case 2:
      return `"${inner.slice(0, at)}${inner.slice(at + 1)}"`
    case 3:
      return `"${inner}${inner}"`
    case 4:
      return `"${inner.slice(0, at)}${random.pick(CHARACTERS)}${inner.slice(at + 1)}"`
    case 5:
      return `"${random.oneIn(2) ? inner.toUpperCase() : inner.toLowerCase()}"`
    case 6:
      // The same character under its other spelling: equal after parsing, not before.
      return `"${inner.slice(0, at)}${escaped(inner.charAt(at))}${inner.slice(at + 1)}"`
    default:
      return `"${random.pick(['a', '€', '𝟙', '\\u0000', ' ']).repeat(random.pick([33, 65, 129, 257, 1025, 5000]))}"`
  }
}

function escaped(character: string): string {
  return character === '' ? '' : `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`
}

function editNumber(text: string, random: Random): string {
  const value = Number(text)
  if (!Number.isFinite(value) || random.oneIn(2)) return random.pick(NUMBERS)
  return String(random.pick([value + 1, value - 1, -value, value * 1000, value / 3, value + 0.5]))
}

function changed(node: Node, random: Random, other: Node): Node {
  if (random.oneIn(8)) return random.oneIn(3) ? nested(node, random) : anyLiteral(random)
  if (random.oneIn(16)) return somewhere(other, random)
  switch (node.kind) {
    case 'text':
      if (node.text.startsWith('"')) return literal(editString(node.text, random))
      return literal(/^[-0-9]/.test(node.text) ? editNumber(node.text, random) : random.pick(WORDS))
    case 'array':
      return changedArray(node, random, other)
    case 'object':
      return changedObject(node, random, other)
  }
}

function changedArray({ items }: ArrayNode, random: Random, other: Node): Node {
  const at = random.below(items.length)
  const item = items[at]
  switch (item === undefined ? 3 : random.below(4)) {
    case 0:
      return { kind: 'array', items: items.toSpliced(at, 1) }
    case 1:
      return { kind: 'array', items: items.toSpliced(at, 0, item!) }
    case 2: {
      const times = random.pick([2, 17, 33, 65, 101, 257, 1000])
      return { kind: 'array', items: [...items, ...Array.from({ length: times }, () => item!)] }
    }
    default:
      return {
        kind: 'array',
        items: [...items, random.oneIn(2) ? anyLiteral(random) : somewhere(other, random)],
      }
  }
}

function changedObject({ fields }: ObjectNode, random: Random, other: Node): Node {
  const at = random.below(fields.length)
  const field = fields[at]
  if (field === undefined) return { kind: 'object', fields: [[`"${random.pick(KEYS)}"`, anyLiteral(random)]] }
  const [key, value] = field
  const elsewhere = random.pick(fields)
  switch (random.below(8)) {
    case 0:
    case 1:
      return { kind: 'object', fields: fields.toSpliced(at, 1) }
    case 2:
      // A key twice, with the same value or another, in the same spelling or another.
      return {
        kind: 'object',
        fields: [
          ...fields,
          [
            random.oneIn(3) ? key.replace(/[a-z]/, escaped) : key,
            random.oneIn(2) ? value : anyLiteral(random),
          ],
        ],
      }
    case 3:
      return { kind: 'object', fields: fields.with(at, [`"${random.pick(KEYS)}"`, value]) }
    case 4:
      return { kind: 'object', fields: [...fields, [`"${random.pick(KEYS)}"`, anyLiteral(random)]] }
    case 5:
      return { kind: 'object', fields: fields.with(at, [key, elsewhere[1]]) }
    case 6:
      return { kind: 'object', fields: [...fields.slice(at), ...fields.slice(0, at)] }
    default:
      return { kind: 'object', fields: fields.with(at, [key, somewhere(other, random)]) }
  }
}

/** Any node of the tree. */
function somewhere(node: Node, random: Random): Node {
  if (random.oneIn(4)) return node
  if (node.kind === 'array' && node.items.length > 0) return somewhere(random.pick(node.items), random)
  if (node.kind === 'object' && node.fields.length > 0) return somewhere(random.pick(node.fields)[1], random)
  return node
}

/** The tree with one node of it changed; `other` is another seed to take pieces from. */
export function mutateTree(node: Node, random: Random, other: Node): Node {
  const here = random.oneIn(5)
  if (!here && node.kind === 'array' && node.items.length > 0) {
    const at = random.below(node.items.length)
    return { kind: 'array', items: node.items.with(at, mutateTree(node.items[at]!, random, other)) }
  }
  if (!here && node.kind === 'object' && node.fields.length > 0) {
    const at = random.below(node.fields.length)
    const [key, value] = node.fields[at]!
    return { kind: 'object', fields: node.fields.with(at, [key, mutateTree(value, random, other)]) }
  }
  return changed(node, random, other)
}

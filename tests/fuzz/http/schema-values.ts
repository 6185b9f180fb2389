/** Values that a schema of an OpenAPI document takes, or nearly: the start from which requests are changed. */
import type { Random } from '../random.ts'

export interface Schema {
  readonly $ref?: string
  readonly type?: string
  readonly const?: unknown
  readonly enum?: readonly unknown[]
  readonly anyOf?: readonly Schema[]
  readonly oneOf?: readonly Schema[]
  readonly properties?: Readonly<Record<string, Schema>>
  readonly required?: readonly string[]
  readonly items?: Schema
  readonly minItems?: number
  readonly pattern?: string
  readonly minLength?: number
  readonly minimum?: number
  readonly maximum?: number
}

export interface Values {
  readonly schemas: Readonly<Record<string, Schema>>
  /** Texts with a meaning to the server; one is taken where its pattern fits. */
  readonly words: readonly string[]
}

const MAX_DEPTH = 12

export function valueOf(schema: Schema, values: Values, random: Random, depth = 0): unknown {
  if (depth > MAX_DEPTH) return null
  const inner = (part: Schema) => valueOf(part, values, random, depth + 1)
  if (schema.$ref !== undefined) return inner(values.schemas[schema.$ref.split('/').at(-1) ?? ''] ?? {})
  if ('const' in schema) return schema.const
  if (schema.enum !== undefined) return random.pick(schema.enum)
  const choice = schema.anyOf ?? schema.oneOf
  if (choice !== undefined) return inner(random.pick(choice))
  switch (schema.type) {
    case 'object': {
      const fields = Object.entries(schema.properties ?? {}).filter(
        ([name]) => schema.required?.includes(name) === true || random.oneIn(2),
      )
      return Object.fromEntries(fields.map(([name, field]) => [name, inner(field)]))
    }
    case 'array':
      return Array.from({ length: (schema.minItems ?? 0) + random.below(3) }, () => inner(schema.items ?? {}))
    case 'integer':
    case 'number': {
      const least = schema.minimum ?? 0
      const most = schema.maximum ?? 1_000
      return random.pick([least, most, least + (most - least) / 2, Math.floor((least + most) / 2)])
    }
    case 'boolean':
      return random.oneIn(2)
    case 'null':
      return null
    default:
      return textFor(schema, values.words, random)
  }
}

function textFor({ pattern, minLength = 0 }: Schema, words: readonly string[], random: Random): string {
  const hex = Buffer.from(random.bytes(random.pick([16, 20, 32]))).toString('hex')
  const base64 = Buffer.from(random.bytes(random.pick([16, 32, 64, 300]))).toString('base64')
  const candidates = [...words, hex, base64, String(random.below(1_000))]
  const expression = pattern === undefined ? undefined : new RegExp(pattern)
  const fitting = candidates.filter(
    (text) => text.length >= minLength && (expression === undefined || expression.test(text)),
  )
  return fitting.length === 0 ? 'x'.repeat(Math.max(1, minLength)) : random.pick(fitting)
}

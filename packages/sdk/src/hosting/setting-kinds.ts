/** The kinds of values that limits are made of, each with its default and what it holds. */
import { Type } from '../wire/index.ts'
import type { Static, TObject } from 'typebox'

/** What timers take: 2^31 - 1 milliseconds. */
const MAX_TIMER = 2_147_483_647

export function Count(fallback: number, description: string, minimum = 1) {
  return Type.Integer({ default: fallback, minimum, maximum: Number.MAX_SAFE_INTEGER, description })
}

export function Bytes(fallback: number, description: string, maximum = Number.MAX_SAFE_INTEGER) {
  return Type.Integer({ default: fallback, minimum: 1, maximum, description: `${description} (bytes)` })
}

export function Milliseconds(fallback: number, description: string) {
  return Type.Integer({
    default: fallback,
    minimum: 1,
    maximum: MAX_TIMER,
    description: `${description} (milliseconds)`,
  })
}

export function Seconds(fallback: number, description: string, minimum = 0, maximum = MAX_TIMER) {
  return Type.Integer({ default: fallback, minimum, maximum, description: `${description} (seconds)` })
}

/** A token bucket. */
export function RateLimit(perSecond: number, burst: number, description: string) {
  return Type.Object(
    {
      perSecond: Type.Number({ default: perSecond, exclusiveMinimum: 0, description: 'a second' }),
      burst: Type.Number({ default: burst, minimum: 1, description: 'at once' }),
    },
    { description },
  )
}

/** The values of a schema all of whose leaves have a default. */
export function defaultsOf<Schema extends TObject>(schema: Schema): Static<Schema> {
  type Node = { readonly default?: unknown; readonly properties?: Readonly<Record<string, Node>> }
  const values = (node: Node): unknown =>
    node.properties === undefined
      ? node.default
      : Object.fromEntries(Object.entries(node.properties).map(([name, child]) => [name, values(child)]))
  return values(schema) as Static<Schema>
}

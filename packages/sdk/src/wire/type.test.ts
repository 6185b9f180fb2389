import { Type as TypeBox } from 'typebox'
import { describe, expect, it } from 'vitest'
import { Embedded } from './schema.ts'
import { Type } from './type.ts'

type Maker = keyof typeof Type

const TEXT = TypeBox.String({ maxLength: 3 })

/** What each maker is called with; options may follow. */
const CALLS: Record<Maker, readonly unknown[]> = {
  Array: [TEXT],
  Boolean: [],
  Enum: [['a', 'b']],
  Integer: [],
  Literal: ['a'],
  Never: [],
  Null: [],
  Number: [],
  Object: [{ a: TEXT, b: TypeBox.Optional(TEXT), c: TypeBox.Null() }],
  Optional: [TEXT],
  Record: [TypeBox.String(), TypeBox.Unknown()],
  String: [],
  Union: [[TEXT, TypeBox.Null()]],
  Unknown: [],
  Unsafe: [TEXT],
}
const OPTIONS = { $id: 'it', description: 'what it is' }
const makers = Object.entries(CALLS) as [Maker, readonly unknown[]][]

/** As it is published: the order of the keywords counts. */
function made(by: object, maker: Maker, args: readonly unknown[]): string {
  return JSON.stringify((by as Record<Maker, (...args: readonly unknown[]) => object>)[maker](...args))
}

describe('the makers of schemas', () => {
  it.each(makers)('%s writes the schema that TypeBox does, with options and without', (maker, args) => {
    expect(made(Type, maker, args)).toBe(made(TypeBox, maker, args))
    expect(made(Type, maker, [...args, OPTIONS])).toBe(made(TypeBox, maker, [...args, OPTIONS]))
  })

  it('a literal names the type of its value', () => {
    for (const value of ['a', 1.5, true])
      expect(Type.Literal(value)).toEqual({ type: typeof value, const: value })
  })

  it('an object requires what is not optional, and says nothing when all is', () => {
    const all = Type.Object({ a: Type.Optional(Type.String()), b: Type.Optional(Type.Null()) })
    expect(all).not.toHaveProperty('required')
    expect(Type.Object({ a: Type.Optional(Type.String()), b: Type.Null() }).required).toEqual(['b'])
  })

  it('a part that was optional elsewhere is required where it is embedded', () => {
    const part = Type.Optional(Type.String({ $id: 'part' }))
    expect(Type.Object({ part: Embedded(part) })).toEqual({
      type: 'object',
      required: ['part'],
      properties: { part: { type: 'string' } },
    })
  })

  it('leaves the schema it makes optional as it was', () => {
    const text = Type.String()
    Type.Optional(text)
    expect(Type.Object({ text }).required).toEqual(['text'])
  })
})

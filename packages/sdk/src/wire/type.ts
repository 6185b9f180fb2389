/**
 * The makers of TypeBox that schemas here are written with, each giving the same JSON Schema. The types are TypeBox's own;
 * its code is not loaded, because it comes as a whole: 370 modules, more than half of what a command would read at its start.
 */
import type { TSchema, Type as TypeBox } from 'typebox'

type Fields = Readonly<Record<string, unknown>>

type Makers = Pick<
  typeof TypeBox,
  | 'Array'
  | 'Boolean'
  | 'Enum'
  | 'Integer'
  | 'Literal'
  | 'Never'
  | 'Null'
  | 'Number'
  | 'Object'
  | 'Optional'
  | 'Record'
  | 'String'
  | 'Union'
  | 'Unknown'
  | 'Unsafe'
>

const OPTIONAL = '~optional'

const makers = {
  Array: (items: TSchema, options?: Fields) => ({ type: 'array', items, ...options }),
  Boolean: (options?: Fields) => ({ type: 'boolean', ...options }),
  Enum: (values: readonly (string | number)[], options?: Fields) => ({ enum: values, ...options }),
  Integer: (options?: Fields) => ({ type: 'integer', ...options }),
  Literal: (value: string | number | boolean, options?: Fields) => ({
    type: typeof value,
    const: value,
    ...options,
  }),
  Never: (options?: Fields) => ({ not: {}, ...options }),
  Null: (options?: Fields) => ({ type: 'null', ...options }),
  Number: (options?: Fields) => ({ type: 'number', ...options }),
  Object: (properties: Readonly<Record<string, TSchema>>, options?: Fields) => {
    const required = Object.keys(properties).filter((name) => !(OPTIONAL in properties[name]!))
    return { type: 'object', ...(required.length > 0 && { required }), properties, ...options }
  },
  // Not enumerable: no keyword of JSON Schema, so neither published nor copied.
  Optional: (schema: TSchema) => Object.defineProperty({ ...schema }, OPTIONAL, { value: true }),
  Record: (_key: TSchema, value: TSchema, options?: Fields) => ({
    type: 'object',
    patternProperties: { '^.*$': value },
    ...options,
  }),
  String: (options?: Fields) => ({ type: 'string', ...options }),
  Union: (anyOf: readonly TSchema[], options?: Fields) => ({ anyOf, ...options }),
  Unknown: (options?: Fields) => ({ ...options }),
  Unsafe: (schema: TSchema) => schema,
}

export const Type = makers as unknown as Makers

import { Ajv } from 'ajv'
import type { TSchema } from 'typebox'
import { describe, expect, it } from 'vitest'
import { CategoryText, TAXONOMY } from '../capability.ts'
import { SchemaName } from '../envelope.ts'
import { validate } from '../schema.ts'
import { isCalendarDate, isDateTime } from './formats.ts'
import {
  schemaDocument,
  SCHEMA_FORMATS,
  splitSchemaName,
  standardSchema,
  STANDARD_SCHEMAS,
  type StandardSchema,
  type StandardSchemaName,
} from './index.ts'

/** The list of specification §6.4. */
const SPECIFIED = [
  'agentmesh/travel/flight-search/v1',
  'agentmesh/travel/hotel-search/v1',
  'agentmesh/commerce/product-search/v1',
  'agentmesh/commerce/order/v1',
  'agentmesh/finance/payment/v1',
  'agentmesh/productivity/calendar-query/v1',
  'agentmesh/marketplace/skill-bid/v1',
  'agentmesh/marketplace/task-delegation/v1',
]

const entries = Object.entries(STANDARD_SCHEMAS) as [StandardSchemaName, StandardSchema][]
const ajv = new Ajv({ strict: true, allErrors: true })
for (const [name, check] of Object.entries(SCHEMA_FORMATS))
  ajv.addFormat(name, { type: 'string', validate: check })

type Keywords = Record<string, unknown>

/** Every schema within one, each with its path. */
function* parts(schema: Keywords, path = ''): Generator<[string, Keywords]> {
  yield [path, schema]
  for (const keyword of ['properties', 'patternProperties']) {
    for (const [name, part] of Object.entries((schema[keyword] ?? {}) as Record<string, Keywords>))
      yield* parts(part, `${path}.${name}`)
  }
  if (schema['items'] !== undefined) yield* parts(schema['items'] as Keywords, `${path}[]`)
  for (const part of (schema['anyOf'] ?? []) as Keywords[]) yield* parts(part, path)
}

it('has all that the specification lists, as requests, and an answer to each', () => {
  const requests = entries.filter(([, { kind }]) => kind === 'request').map(([name]) => name)
  expect(requests).toEqual(SPECIFIED)
  for (const name of requests) {
    expect(entries.filter(([, entry]) => entry.kind === 'response' && entry.answers === name)).not.toEqual([])
  }
  for (const [, entry] of entries) {
    if (entry.kind === 'response') expect(requests).toContain(entry.answers)
  }
})

it('knows its own names and no inherited one', () => {
  expect(standardSchema('agentmesh/commerce/order/v1')?.kind).toBe('request')
  for (const name of ['agentmesh/commerce/order/v2', 'constructor', '__proto__', '']) {
    expect(standardSchema(name)).toBeUndefined()
  }
})

it('leads from one intent to one schema', () => {
  const seen = new Set<string>()
  for (const [name, entry] of entries) {
    if (entry.kind !== 'request') continue
    const { category, subcategories, actions } = entry.intent
    expect(name.split('/')[1]).toBe(validate(CategoryText, category))
    for (const subcategory of subcategories) {
      expect(TAXONOMY[category as keyof typeof TAXONOMY]).toContain(subcategory)
      for (const action of actions) {
        expect(seen).not.toContain(`${category}/${subcategory} ${action}`)
        seen.add(`${category}/${subcategory} ${action}`)
      }
    }
  }
})

describe.each(entries.map(([name, entry]) => ({ name, ...entry })))('$name', ({ name, schema }) => {
  const { title, description, examples } = schema as TSchema & Record<string, unknown>

  it('has its name as $id, a title, a description and an example that fits', () => {
    expect(validate(SchemaName, (schema as { $id?: string }).$id)).toBe(name)
    expect(String(title).length).toBeGreaterThan(3)
    expect(String(description).length).toBeGreaterThan(10)
    const check = ajv.compile(schema)
    expect((examples as unknown[]).length).toBeGreaterThan(0)
    for (const example of examples as unknown[]) {
      check(example)
      expect(check.errors).toBeNull()
    }
  })

  it('refuses its example without any of the required fields', () => {
    const example = (examples as unknown[])[0] as Keywords | Keywords[]
    const item = Array.isArray(example) ? example[0]! : example
    const required = (Array.isArray(example) ? (schema as Keywords)['items'] : schema) as Keywords
    expect((required['required'] as string[]).length).toBeGreaterThan(0)
    for (const field of required['required'] as string[]) {
      const { [field]: _, ...rest } = item
      expect(ajv.validate(schema, Array.isArray(example) ? [rest] : rest)).toBe(false)
    }
  })

  it('lets fields pass that it does not know', () => {
    const example = (examples as unknown[])[0] as Keywords | Keywords[]
    const extended = Array.isArray(example)
      ? example.map((item) => ({ ...item, x_loyalty: 'gold' }))
      : { ...example, x_loyalty: 'gold' }
    expect(ajv.validate(schema, extended)).toBe(true)
  })

  it('bounds every number, text and list', () => {
    for (const [path, part] of parts(schema as Keywords)) {
      const has = (...keywords: string[]) => keywords.some((keyword) => keyword in part)
      const bounded = {
        string: has('maxLength') || /^\^.*\$$/.test(String(part['pattern'])) || has('enum'),
        number: has('minimum', 'exclusiveMinimum') && has('maximum'),
        integer: has('minimum') && has('maximum'),
        array: has('maxItems'),
        object: has('properties', 'maxProperties'),
      }[String(part['type'])]
      expect([path, bounded ?? true]).toEqual([path, true])
    }
  })

  it('stands alone as a document', () => {
    const document = schemaDocument(name)
    expect(document).toMatchObject({ $schema: 'http://json-schema.org/draft-07/schema#', $id: name })
    expect(JSON.stringify(document)).not.toContain('$ref')
  })
})

describe('what a field takes', () => {
  const fits = (name: StandardSchemaName, change: Keywords): boolean => {
    const { schema } = STANDARD_SCHEMAS[name]
    const example = (schema as { examples?: unknown[] }).examples![0] as Keywords | Keywords[]
    return ajv.validate(
      schema,
      Array.isArray(example) ? [{ ...example[0], ...change }] : { ...example, ...change },
    )
  }
  it.each<[StandardSchemaName, Keywords, boolean]>([
    ['agentmesh/travel/flight-search/v1', { origin: 'tlv' }, false],
    ['agentmesh/travel/flight-search/v1', { date: '2026-02-30' }, false],
    ['agentmesh/travel/flight-search/v1', { date: '2028-02-29' }, true],
    ['agentmesh/travel/flight-search/v1', { passengers: 0 }, false],
    ['agentmesh/travel/flight-search/v1', { passengers: 1.5 }, false],
    ['agentmesh/travel/flight-search/v1', { class: 'Economy' }, false],
    ['agentmesh/travel/flight-results/v1', { departure: '2026-02-08T06:30:00+02:00' }, true],
    ['agentmesh/travel/flight-results/v1', { departure: '2026-02-08T06:30:00' }, false],
    ['agentmesh/travel/flight-results/v1', { price: '320' }, false],
    ['agentmesh/travel/flight-results/v1', { price: -1 }, false],
    ['agentmesh/travel/flight-results/v1', { currency: 'usd' }, true],
    ['agentmesh/travel/flight-results/v1', { currency: 'US$' }, false],
    ['agentmesh/travel/flight-results/v1', { booking_url: 'javascript:alert(1)' }, false],
    ['agentmesh/travel/hotel-search/v1', { adults: 0 }, false],
    ['agentmesh/travel/hotel-search/v1', { children_ages: [3, 18] }, false],
    ['agentmesh/travel/hotel-search/v1', { near: { latitude: 52.5, longitude: 13.4, radius_km: 2 } }, true],
    ['agentmesh/travel/hotel-search/v1', { near: { latitude: 91, longitude: 0 } }, false],
    ['agentmesh/travel/hotel-results/v1', { price: 1e13 }, false],
    ['agentmesh/commerce/product-search/v1', { attributes: { color: 'red', size: 42 } }, true],
    ['agentmesh/commerce/product-search/v1', { attributes: { nested: {} } }, false],
    ['agentmesh/commerce/order/v1', { items: [] }, false],
    ['agentmesh/commerce/order/v1', { items: [{ product_id: 'a', quantity: 0 }] }, false],
    ['agentmesh/commerce/order-confirmation/v1', { status: 'done' }, false],
    ['agentmesh/finance/payment/v1', { amount: 0 }, false],
    ['agentmesh/finance/payment/v1', { amount: 0.01 }, true],
    ['agentmesh/finance/payment/v1', { payee: {} }, false],
    ['agentmesh/finance/payment/v1', { payee: { amid: 'nobody' } }, false],
    [
      'agentmesh/finance/payment-receipt/v1',
      { status: 'action_required', action_url: 'http://a.example' },
      false,
    ],
    ['agentmesh/productivity/calendar-query/v1', { time_zone: 'America/Argentina/Ushuaia' }, true],
    ['agentmesh/productivity/calendar-query/v1', { time_zone: '../etc' }, false],
    ['agentmesh/productivity/calendar-query/v1', { working_hours: { from: '24:00', to: '25:00' } }, false],
    ['agentmesh/productivity/calendar-results/v1', { kind: 'maybe' }, false],
    ['agentmesh/marketplace/skill-bid/v1', { side: 'swap' }, false],
    ['agentmesh/marketplace/skill-bid-response/v1', { counter: { amount: 1 } }, false],
    ['agentmesh/marketplace/task-delegation/v1', { title: '' }, false],
    ['agentmesh/marketplace/task-result/v1', { progress: 1.1 }, false],
  ])('%s with %j: %s', (name, change, expected) => {
    expect(fits(name, change)).toBe(expected)
  })
})

describe('formats', () => {
  it.each([
    ['2026-02-08', true],
    ['2026-13-01', false],
    ['2026-02-29', false],
    ['2026-2-8', false],
    ['2026-02-08T00:00:00Z', false],
  ])('date %s: %s', (text, expected) => expect(isCalendarDate(text)).toBe(expected))

  it.each([
    ['2026-02-08T06:30:00Z', true],
    ['2026-02-08T06:30:00.123456789+14:00', true],
    ['2026-02-08T24:00:00Z', false],
    ['2026-02-08T23:59:60Z', false],
    ['2026-02-30T06:30:00Z', false],
    ['2026-02-08T06:30:00+24:00', false],
    ['2026-02-08 06:30:00Z', false],
    ['2026-02-08T06:30Z', false],
  ])('date-time %s: %s', (text, expected) => expect(isDateTime(text)).toBe(expected))
})

it.each([
  ['agentmesh/travel/flight-search/v1', 'agentmesh/travel/flight-search', 1],
  ['x-acme/v2/parts/v10', 'x-acme/v2/parts', 10],
])('splits %s', (name, base, version) => {
  expect(splitSchemaName(name)).toEqual({ base, version })
})

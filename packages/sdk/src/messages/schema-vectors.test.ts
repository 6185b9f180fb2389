/** Plays `test-vectors/messages/`: answers to negotiations, and values of standard schemas. */
import { readdirSync, readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import {
  CapabilityNegotiationPayload,
  CapabilityNegotiationResponsePayload,
  CapabilityOffer,
  parseJsonObject,
  STANDARD_SCHEMAS,
  standardSchema,
  validate,
} from '../wire/index.ts'
import { negotiate } from './negotiation.ts'
import { SchemaBook } from './schema-check.ts'

interface SchemaVectors {
  schema: string
  cases: { description: string; value: unknown; problems: string[] }[]
}
interface NegotiationVectors {
  cases: { description: string; own: unknown; need: unknown; answer: unknown }[]
}

const folder = new URL('../../../../test-vectors/messages/', import.meta.url)
const load = (name: string) => parseJsonObject(readFileSync(new URL(name, folder)), 1_000_000)
const schemaFiles = readdirSync(folder)
  .filter((name) => name.startsWith('schema-'))
  .map((name) => load(name) as unknown as SchemaVectors)
const negotiation = load('negotiation.json') as unknown as NegotiationVectors

describe('test-vectors/messages: negotiation', () => {
  it.each(negotiation.cases)('$description', ({ own, need, answer }) => {
    const found = negotiate(validate(CapabilityOffer, own), validate(CapabilityNegotiationPayload, need))
    expect(found).toEqual(validate(CapabilityNegotiationResponsePayload, answer))
  })
})

describe.each(schemaFiles)('test-vectors/messages: $schema', ({ schema, cases }) => {
  const book = new SchemaBook()

  it.each(cases)('$description', ({ value, problems }) => {
    const check =
      standardSchema(schema)?.kind === 'request'
        ? book.checkParameters(schema, value, 'strict')
        : book.checkResults(schema, value, 'strict')
    expect(check.problems.map(({ path }) => path).toSorted()).toEqual(problems.toSorted())
    expect(check).toMatchObject({ ok: problems.length === 0, schema })
    expect(check.outcome).toBe(problems.length === 0 ? 'fits' : 'does_not_fit')
  })

  it('has values that fit and values that do not', () => {
    expect(cases.filter(({ problems }) => problems.length === 0).length).toBeGreaterThan(0)
    expect(cases.filter(({ problems }) => problems.length > 0).length).toBeGreaterThan(1)
  })
})

it('has a file for every standard schema', () => {
  expect(schemaFiles.map(({ schema }) => schema).toSorted()).toEqual(Object.keys(STANDARD_SCHEMAS).toSorted())
})

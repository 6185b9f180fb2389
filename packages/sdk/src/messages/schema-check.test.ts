import { describe, expect, it } from 'vitest'
import { AgentMeshError, MAX_JSON_DEPTH, PAYLOADS, validate, type RequestPayload } from '../wire/index.ts'
import { mismatchError, requestSchemaOf, SchemaBook } from './schema-check.ts'
import { outcome } from '../wire/test-support.ts'

const SEARCH = 'agentmesh/travel/flight-search/v1'
const RESULTS = 'agentmesh/travel/flight-results/v1'
const flight = { origin: 'TLV', destination: 'BER', date: '2026-02-08' }
const found = {
  flight: 'LH1234',
  departure: '2026-02-08T06:30:00Z',
  arrival: '2026-02-08T10:15:00Z',
  price: 320,
  currency: 'USD',
  stops: 0,
}

function request(intent: RequestPayload['intent'], parameters: object, schema?: string): RequestPayload {
  return validate(PAYLOADS.request, {
    intent,
    parameters,
    ...(schema === undefined ? {} : { response_format: { type: 'structured', schema } }),
  })
}

describe('requestSchemaOf', () => {
  it.each<[RequestPayload['intent'], string | undefined, string | undefined]>([
    [{ category: 'travel', subcategory: 'flights', action: 'search' }, undefined, SEARCH],
    [{ category: 'travel', subcategory: 'flights', action: 'book' }, undefined, undefined],
    [{ category: 'travel', subcategory: 'flights', action: 'book' }, RESULTS, undefined],
    [{ category: 'travel', subcategory: 'cars', action: 'search' }, RESULTS, undefined],
    [
      { category: 'commerce', subcategory: 'price_comparison', action: 'compare' },
      undefined,
      'agentmesh/commerce/product-search/v1',
    ],
    [{ category: 'travel', action: 'search' }, undefined, undefined],
    [{ category: 'travel', action: 'search' }, RESULTS, SEARCH],
    [{ category: 'travel', subcategory: 'flights' }, RESULTS, SEARCH],
    [{ category: 'travel', action: 'cancel' }, RESULTS, undefined],
    [{ category: 'commerce' }, RESULTS, undefined],
    [{ category: 'travel' }, SEARCH, undefined],
    [{ category: 'travel' }, 'x-acme/flights/v1', undefined],
    [{ category: 'x-acme/travel', subcategory: 'flights', action: 'search' }, RESULTS, undefined],
  ])('%j asking for %s: %s', (intent, asked, expected) => {
    expect(requestSchemaOf(request(intent, {}, asked))).toBe(expected)
  })
})

describe('SchemaBook', () => {
  const book = new SchemaBook()
  const intent = { category: 'travel', subcategory: 'flights', action: 'search' }

  it('takes the specification’s own request and response', () => {
    const asked = request(
      { category: 'travel', action: 'search' },
      {
        ...flight,
        passengers: 1,
        class: 'economy',
        preferences: { max_stops: 1, time_preference: 'morning' },
      },
      RESULTS,
    )
    expect(book.checkRequest(asked, 'strict')).toEqual({
      ok: true,
      outcome: 'fits',
      schema: SEARCH,
      problems: [],
    })
    const answer = { status: 'success' as const, results: [found], result_count: 3, schema: RESULTS }
    expect(book.checkResponse(answer, 'strict', asked)).toMatchObject({ ok: true, outcome: 'fits' })
  })

  it('says of each field what is wrong, and never what it held', () => {
    const wrong = {
      origin: 'Tel Aviv',
      date: 'tomorrow-secret',
      class: 'best',
      preferences: { max_stops: -1 },
    }
    const check = book.checkRequest(request(intent, wrong), 'strict')
    expect(check.ok).toBe(false)
    expect(new Map(check.problems.map(({ path, problem }) => [path, problem]))).toEqual(
      new Map([
        ['destination', 'is missing'],
        ['origin', 'must match pattern "^[A-Z]{3}$"'],
        ['date', expect.any(String)],
        ['class', 'must be one of economy, premium_economy, business, first'],
        ['preferences.max_stops', 'must be >= 0'],
      ]),
    )
    const error = validate(PAYLOADS.error, mismatchError(check))
    expect(error.code).toBe('SCHEMA_MISMATCH')
    expect(error.message).toContain('destination is missing')
    expect(error.message).not.toContain('secret')
  })

  it('lets pass in mode warn what it refuses in strict, with the same problems', () => {
    const asked = request(intent, {})
    const [strict, warn] = [book.checkRequest(asked, 'strict'), book.checkRequest(asked, 'warn')]
    expect([strict.ok, warn.ok]).toEqual([false, true])
    expect(warn).toEqual({ ...strict, ok: true })
    expect(warn.problems.length).toBeGreaterThan(2)
  })

  it('looks at nothing in mode off', () => {
    expect(book.checkRequest(request(intent, {}), 'off')).toMatchObject({ ok: true, outcome: 'not_checked' })
    const other = { status: 'success' as const, results: 1, schema: 'x-acme/a/v1' }
    expect(book.checkResponse(other, 'off', request(intent, {}, RESULTS))).toMatchObject({ ok: true })
  })

  it.each([
    'agentmesh/travel/flight-search/v2',
    'agentmesh/travel/boats/v1',
    'x-acme/parts/v1',
    'constructor',
  ])('does not check %s, which it does not know', (name) => {
    expect(book.checkParameters(name, { anything: 1 }, 'strict')).toEqual({
      ok: true,
      outcome: 'not_checked',
      schema: name,
      problems: [],
    })
  })

  it('checks results by what the response names, else by what was asked for', () => {
    const asked = request(intent, flight, RESULTS)
    const broken = { status: 'success' as const, results: [{ flight: 'LH1234' }] }
    expect(book.checkResponse({ ...broken, schema: RESULTS }, 'strict').ok).toBe(false)
    expect(book.checkResponse(broken, 'strict', asked).ok).toBe(false)
    expect(book.checkResponse(broken, 'strict')).toMatchObject({ ok: true, outcome: 'not_checked' })
    expect(book.checkResponse({ ...broken, status: 'partial' }, 'strict', asked).ok).toBe(false)
    expect(book.checkResponse({ ...broken, status: 'failure' }, 'strict', asked).ok).toBe(true)
  })

  it('does not let an answer escape by naming another schema than was asked for', () => {
    const asked = request(intent, flight, RESULTS)
    for (const schema of ['x-acme/anything/v1', 'agentmesh/travel/flight-results/v2', SEARCH]) {
      const check = book.checkResponse({ status: 'success', results: [], schema }, 'strict', asked)
      expect(check).toMatchObject({ ok: false, problems: [{ path: 'schema' }] })
    }
  })

  it('tells parameters from results', () => {
    expect(book.checkResults(SEARCH, flight, 'strict')).toMatchObject({
      ok: false,
      problems: [{ path: 'schema' }],
    })
    expect(book.checkParameters(RESULTS, [], 'strict')).toMatchObject({
      ok: false,
      problems: [{ path: 'schema' }],
    })
    expect(book.checkParameters(SEARCH, flight, 'strict').ok).toBe(true)
    expect(book.checkResults(RESULTS, [], 'strict').ok).toBe(true)
  })

  it('tells few problems of a value with many, and one of a large one', () => {
    const small = book.checkResults(
      RESULTS,
      Array.from({ length: 60 }, () => ({})),
      'strict',
    )
    expect(small.problems).toHaveLength(20)
    const large = book.checkResults(
      RESULTS,
      Array.from({ length: 5000 }, () => ({})),
      'strict',
    )
    expect(large.problems).toEqual([{ path: '', problem: 'must NOT have more than 100 items' }])
  })

  it.each([null, 5, 'text', [], [null], { origin: null }, { __proto__: flight }])('refuses %j', (value) => {
    expect(book.checkParameters(SEARCH, value, 'strict').ok).toBe(false)
  })

  it('writes no message longer than an ERROR carries', () => {
    const attributes = Object.fromEntries(
      Array.from({ length: 30 }, (_, n) => [`${n}${'n'.repeat(200)}`, {}]),
    )
    const name = 'agentmesh/commerce/product-search/v1'
    const check = book.checkParameters(name, { query: 'a', attributes }, 'strict')
    expect(check.problems.length).toBeGreaterThan(5)
    expect(validate(PAYLOADS.error, mismatchError(check)).message).toHaveLength(1024)
  })
})

it('cuts a name a peer chose without breaking its characters', () => {
  const attributes = { ['😀'.repeat(300)]: {} }
  const check = new SchemaBook().checkParameters(
    'agentmesh/commerce/product-search/v1',
    { query: 'a', attributes },
    'strict',
  )
  const path = check.problems[0]!.path
  expect(Array.from(path)).toHaveLength(256)
  expect(path.isWellFormed()).toBe(true)
})

it.each([undefined, null])('refuses results that are %s', (results) => {
  expect(new SchemaBook().checkResponse({ status: 'success', results, schema: RESULTS }, 'strict').ok).toBe(
    false,
  )
})

describe('an installed schema', () => {
  const bolt = {
    $schema: 'http://json-schema.org/draft-07/schema#',
    $id: 'x-acme/parts/v1',
    title: 'Bolt',
    type: 'object',
    required: ['thread'],
    properties: {
      thread: { $ref: '#/definitions/thread' },
      made: { type: 'string', format: 'date' },
    },
    definitions: { thread: { type: 'string', pattern: '^M[0-9]{1,2}(x[0-9]{1,3})?$' } },
  }

  it('is checked like a standard one, for parameters and results', () => {
    const book = new SchemaBook()
    expect(book.install(JSON.stringify(bolt))).toEqual({ name: 'x-acme/parts/v1', title: 'Bolt' })
    expect(book.checkResults('x-acme/parts/v1', { thread: 'M8x40' }, 'strict').outcome).toBe('fits')
    expect(
      book.checkParameters('x-acme/parts/v1', { thread: 'W8', made: '2026-02-30' }, 'strict').problems,
    ).toEqual([
      { path: 'thread', problem: expect.stringContaining('pattern') as string },
      { path: 'made', problem: 'must match format "date"' },
    ])
    expect(book.installed()).toEqual([{ name: 'x-acme/parts/v1', title: 'Bolt' }])
    expect(new SchemaBook().checkResults('x-acme/parts/v1', {}, 'strict').outcome).toBe('not_checked')
  })

  it('is replaced by another of its name', () => {
    const book = new SchemaBook()
    book.install(JSON.stringify(bolt))
    book.install(JSON.stringify({ $id: 'x-acme/parts/v1', type: 'string', maxLength: 3 }))
    expect(book.checkResults('x-acme/parts/v1', 'abc', 'strict').outcome).toBe('fits')
    expect(book.installed()).toHaveLength(1)
  })

  it('may be a version of a standard schema that is not built in', () => {
    const book = new SchemaBook()
    book.install(JSON.stringify({ $id: 'agentmesh/travel/flight-results/v2', type: 'array' }))
    expect(book.checkResults('agentmesh/travel/flight-results/v2', {}, 'strict').ok).toBe(false)
  })

  it('leaves a book as it was when it is refused', () => {
    const book = new SchemaBook()
    book.install(JSON.stringify(bolt))
    expect(outcome(() => book.install(JSON.stringify({ ...bolt, type: 'objekt' })))).toBe('SCHEMA_INVALID')
    expect(book.checkResults('x-acme/parts/v1', { thread: 'M8' }, 'strict').outcome).toBe('fits')
  })

  const nested = `${'{"not":'.repeat(MAX_JSON_DEPTH)}{}${'}'.repeat(MAX_JSON_DEPTH)}`
  const definitions = Object.fromEntries(
    Array.from({ length: 30 }, (_, n) => [
      `d${n}`,
      { allOf: [{ $ref: `#/definitions/d${n + 1}` }, { $ref: `#/definitions/d${n + 1}` }] },
    ]),
  )
  it.each<[string, object | string]>([
    ['what is not JSON', '{'],
    ['what is no object', '[]'],
    ['duplicate keys', '{"$id":"x-acme/a/v1","$id":"x-acme/b/v1"}'],
    ['nesting without end', nested],
    ['more than 64 KiB', { $id: 'x-acme/a/v1', description: 'a'.repeat(65_536) }],
    ['no name', { type: 'string' }],
    ['a name that is a path', { $id: 'x-acme/../a/v1' }],
    ['the name of a standard schema', { $id: SEARCH, type: 'object' }],
    ['another draft', { $schema: 'https://json-schema.org/draft/2020-12/schema', $id: 'x-acme/a/v1' }],
    ['a schema by the meta-schema none', { $id: 'x-acme/a/v1', required: 'a' }],
    ['a keyword nobody knows', { $id: 'x-acme/a/v1', minimun: 3 }],
    ['a format nobody knows', { $id: 'x-acme/a/v1', type: 'string', format: 'regex' }],
    ['a remote reference', { $id: 'x-acme/a/v1', $ref: 'https://evil.example/schema' }],
    [
      'a reference to a built-in document',
      { $id: 'x-acme/a/v1', $ref: 'http://json-schema.org/draft-07/schema#' },
    ],
    ['a reference to a standard schema', { $id: 'x-acme/a/v1', $ref: SEARCH }],
    ['a reference to nothing', { $id: 'x-acme/a/v1', $ref: '#/definitions/none' }],
    ['a reference to itself', { $id: 'x-acme/a/v1', $ref: '#' }],
    [
      'a reference with a percent sign',
      { $id: 'x-acme/a/v1', $ref: '#/definitions/%61', definitions: { '%61': {}, a: { $ref: '#' } } },
    ],
    ['a cycle', { $id: 'x-acme/a/v1', properties: { next: { $ref: '#' } } }],
    [
      'references that double',
      { $id: 'x-acme/a/v1', $ref: '#/definitions/d0', definitions: { ...definitions, d30: {} } },
    ],
    ['an $id inside', { $id: 'x-acme/a/v1', properties: { a: { $id: 'x-acme/b/v1' } } }],
    ['a pattern that backtracks', { $id: 'x-acme/a/v1', type: 'string', pattern: '^(a+)+$' }],
    [
      'such a pattern behind a reference',
      { $id: 'x-acme/a/v1', $ref: '#/examples/0', examples: [{ type: 'string', pattern: '(a|a)*' }] },
    ],
    [
      'such a name of patternProperties',
      { $id: 'x-acme/a/v1', type: 'object', patternProperties: { '(a+)+$': {} } },
    ],
    ['uniqueItems without a bound', { $id: 'x-acme/a/v1', type: 'array', uniqueItems: true }],
  ])('is refused with %s', (_, schema) => {
    const book = new SchemaBook()
    const text = typeof schema === 'string' ? schema : JSON.stringify(schema)
    expect(outcome(() => book.install(text))).toBe('SCHEMA_INVALID')
    expect(book.installed()).toEqual([])
  })

  it('says in the error what was being done', () => {
    const call = () => new SchemaBook().install('{"$id":"x-acme/a/v1","type":"objekt"}')
    expect(call).toThrow(AgentMeshError)
    expect(call).toThrow(expect.objectContaining({ operation: 'install a schema' }))
  })
})

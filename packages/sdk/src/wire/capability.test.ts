import { describe, expect, it } from 'vitest'
import {
  Capability,
  formatIntent,
  Intent,
  parseIntent,
  TAXONOMY,
  tierName,
  tierRank,
  TIERS,
} from './capability.ts'
import type { ErrorCode } from './errors.ts'
import { validate } from './schema.ts'

const refused = (code: ErrorCode) => expect.objectContaining({ name: 'AgentMeshError', code })

describe('tiers', () => {
  it('rank anonymous below verified below organization, whatever their numbers', () => {
    expect([2, 1, 1.5].map((number) => tierRank(number as 1 | 1.5 | 2))).toEqual([0, 1, 2])
    expect([2, 1, 1.5].map((number) => tierName(number as 1 | 1.5 | 2))).toEqual([
      'anonymous',
      'verified',
      'organization',
    ])
    for (const [name, tier] of Object.entries(TIERS)) expect(tierName(tier.number)).toBe(name)
  })
})

describe('capability', () => {
  it('takes the sample of the specification and every standard category', () => {
    const sample = {
      category: 'travel',
      subcategory: 'flights',
      actions: ['search', 'book', 'cancel', 'status'],
      pricing: { model: 'per_request', currency: 'usd', amount: 0.01 },
      response_time_ms: 2000,
      availability: '24/7',
    }
    expect(validate(Capability, sample)).toBe(sample)
    for (const [category, subcategories] of Object.entries(TAXONOMY)) {
      for (const subcategory of subcategories) validate(Capability, { category, subcategory })
    }
    validate(Capability, { category: 'x-acme/parts' })
  })

  it.each([
    ['an unknown category', { category: 'gardening' }],
    ['an extension without a namespace', { category: 'x-/parts' }],
    ['an extension that is a path', { category: 'x-../parts' }],
    ['an inherited name', { category: 'constructor' }],
    ['an upper-case subcategory', { category: 'travel', subcategory: 'Flights' }],
    ['a repeated action', { category: 'travel', actions: ['book', 'book'] }],
    ['a negative price', { category: 'travel', pricing: { model: 'per_request', amount: -1 } }],
    ['an unknown pricing model', { category: 'travel', pricing: { model: 'bribe' } }],
  ])('refuses %s', (_, value) => {
    expect(() => validate(Capability, value)).toThrow(refused('MALFORMED'))
  })
})

describe('intent', () => {
  it.each([
    ['travel', { category: 'travel' }],
    ['travel/flights', { category: 'travel', subcategory: 'flights' }],
    ['x-acme/parts', { category: 'x-acme/parts' }],
    ['x-acme/parts/bolts', { category: 'x-acme/parts', subcategory: 'bolts' }],
  ])('reads and writes %s', (text, intent) => {
    expect(parseIntent(text)).toEqual(intent)
    expect(formatIntent(intent)).toBe(text)
    validate(Intent, intent)
  })

  it.each(['', 'travel/flights/more', '../etc', 'x-acme', 'travel/Flights', 'TRAVEL'])(
    'reads %j into something its schema refuses',
    (text) => {
      expect(() => validate(Intent, parseIntent(text))).toThrow(refused('MALFORMED'))
    },
  )
})

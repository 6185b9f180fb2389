import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import {
  CapabilityNegotiationPayload,
  CapabilityNegotiationResponsePayload,
  CapabilityOffer,
  parseAmid,
  validate,
} from '../wire/index.ts'
import { agreeOnLanguage, agreeOnSchema, negotiate } from './negotiation.ts'

const PAY_BOT = {
  amid: parseAmid('32hYegm9CwQeQ31d593RoCrqrkCZ'),
  display_name: 'PayBot',
  reason: 'I can search and book, but payment goes through PayBot',
}

describe('negotiate', () => {
  it('answers as in the specification', () => {
    const own = {
      capabilities: ['booking', 'flight_search'],
      schemas: ['agentmesh/travel/v1'],
      languages: ['en'],
      payment_methods: ['stripe'],
      alternatives: { payment_processing: PAY_BOT },
    }
    const need = {
      i_need: ['flight_search', 'booking', 'payment_processing'],
      i_offer: ['natural_language_query', 'structured_parameters', 'budget_constraints'],
      preferred_schemas: ['agentmesh/travel/v1'],
      languages: ['en', 'he'],
      payment_methods: ['agentmesh_credits', 'stripe'],
    }
    expect(negotiate(own, need)).toEqual({
      matched: ['flight_search', 'booking'],
      unavailable: ['payment_processing'],
      suggested_alternative: { payment_processing: PAY_BOT },
      agreed_schema: 'agentmesh/travel/v1',
      agreed_language: 'en',
      agreed_payment_method: 'stripe',
    })
  })

  it('leaves out what nothing fits for', () => {
    const need = {
      i_need: ['a'],
      languages: ['he'],
      preferred_schemas: ['x-acme/a/v1'],
      payment_methods: ['b'],
    }
    expect(negotiate({ languages: ['en'] }, need)).toEqual({ matched: [], unavailable: ['a'] })
  })

  it('suggests nobody for what it can do itself, and nobody for a name objects inherit', () => {
    const own = { capabilities: ['pay'], alternatives: { pay: PAY_BOT } }
    expect(negotiate(own, { i_need: ['pay', 'constructor', 'valueOf'.toLowerCase()] })).toEqual({
      matched: ['pay'],
      unavailable: ['constructor', 'valueof'],
    })
  })

  it('takes the payer’s order of payment methods', () => {
    const answer = negotiate(
      { payment_methods: ['a', 'b', 'c'] },
      { i_need: [], payment_methods: ['x', 'c', 'a'] },
    )
    expect(answer.agreed_payment_method).toBe('c')
  })

  it('answers every offer and need with a valid payload that accounts for each need once', () => {
    const names = fc.uniqueArray(fc.constantFrom('a', 'b', 'c', 'd', 'constructor'))
    const schemas = fc.uniqueArray(
      fc.constantFrom(
        'agentmesh/a/v1',
        'agentmesh/a/b/v1',
        'agentmesh/a/b/v10',
        'agentmesh/a/b/v9',
        'x-a/b/v1',
      ),
    )
    const languages = fc.uniqueArray(fc.constantFrom('*', 'en', 'en-GB', 'EN-us', 'he', 'zh-Hant-TW'))
    const offers = fc.record(
      {
        capabilities: names,
        schemas,
        languages,
        payment_methods: names,
        alternatives: fc.dictionary(fc.constantFrom('a', 'b'), fc.constant(PAY_BOT)),
      },
      { requiredKeys: [] },
    )
    const needs = fc.record(
      { i_need: names, preferred_schemas: schemas, languages, payment_methods: names },
      { requiredKeys: ['i_need'] },
    )
    fc.assert(
      fc.property(offers, needs, (offer, need) => {
        const own = validate(CapabilityOffer, offer)
        const answer = negotiate(own, validate(CapabilityNegotiationPayload, need))
        validate(CapabilityNegotiationResponsePayload, answer)
        expect([...answer.matched, ...answer.unavailable].toSorted()).toEqual(need.i_need.toSorted())
        expect(answer.agreed_language).not.toBe('*')
      }),
      { numRuns: 500 },
    )
  })
})

describe('agreeOnSchema', () => {
  const S = 'agentmesh/travel/flight-search'
  const H = 'agentmesh/travel/hotel-search'
  it.each<[string, string[], string[], string | undefined]>([
    ['the same name', [`${S}/v1`], [`${S}/v1`], `${S}/v1`],
    ['nothing in common', [`${S}/v1`], [`${H}/v1`], undefined],
    ['no wish', [`${S}/v1`], [], undefined],
    ['another version only', [`${S}/v1`], [`${S}/v2`], undefined],
    ['the highest version, by number', [`${S}/v9`, `${S}/v10`], [`${S}/v9`, `${S}/v10`], `${S}/v10`],
    ['the highest version both have', [`${S}/v2`, `${S}/v9`], [`${S}/v10`, `${S}/v9`, `${S}/v2`], `${S}/v9`],
    ['the peer’s order of names before versions', [`${S}/v1`, `${H}/v7`], [`${S}/v1`, `${H}/v7`], `${S}/v1`],
    ['the peer’s order over ours', [`${S}/v1`, `${H}/v1`], [`${H}/v1`, `${S}/v1`], `${H}/v1`],
    ['a family both name', ['agentmesh/travel/v1'], ['agentmesh/travel/v1'], 'agentmesh/travel/v1'],
    ['one of the family they want', [`${H}/v1`, `${S}/v1`], ['agentmesh/travel/v1'], `${H}/v1`],
    ['what they want of our family', ['agentmesh/travel/v1'], [`${S}/v1`], `${S}/v1`],
    ['a family of another version', ['agentmesh/travel/v1'], [`${S}/v2`], undefined],
    [
      'a family and its member: the family',
      [`${S}/v1`, 'agentmesh/travel/v1'],
      ['agentmesh/travel/v1'],
      'agentmesh/travel/v1',
    ],
    [
      'a name that only begins like a family',
      ['agentmesh/travels/flights/v1'],
      ['agentmesh/travel/v1'],
      undefined,
    ],
    ['a custom family', ['x-acme/parts/bolts/v3'], ['x-acme/parts/v3'], 'x-acme/parts/bolts/v3'],
    ['a custom name under a standard one', ['x-acme/travel/v1'], ['agentmesh/travel/v1'], undefined],
  ])('%s', (_, own, wanted, agreed) => {
    expect(agreeOnSchema(own, wanted)).toBe(agreed)
  })
})

describe('agreeOnLanguage', () => {
  it.each<[string, string[], string[], string | undefined]>([
    ['the same tag', ['en'], ['en'], 'en'],
    ['in either case, as we spell it', ['pt-BR'], ['PT-br'], 'pt-BR'],
    ['a range and what it covers', ['en-GB'], ['en'], 'en-GB'],
    ['our range and what it covers', ['en'], ['en-GB'], 'en-GB'],
    ['two regions of a language', ['en-GB'], ['en-US'], undefined],
    ['a tag that only begins like a range', ['eng'], ['en'], undefined],
    ['script and region behind it', ['zh-Hant-TW'], ['zh-Hant'], 'zh-Hant-TW'],
    ['a subtag left out in the middle', ['zh-Hant-TW'], ['zh-TW'], undefined],
    ['the peer’s order', ['he', 'en'], ['en', 'he'], 'en'],
    ['the peer’s second, when the first is not ours', ['he'], ['en', 'he'], 'he'],
    ['our order within a range', ['de-CH', 'de-AT'], ['de'], 'de-CH'],
    ['a peer that speaks anything', ['fr', 'en'], ['*'], 'fr'],
    ['we speak anything', ['*'], ['ja', 'en'], 'ja'],
    ['both speak anything, and one names a language', ['*', 'fr'], ['*'], 'fr'],
    ['both speak anything', ['*'], ['*'], undefined],
    ['nothing named', ['en'], [], undefined],
  ])('%s', (_, own, wanted, agreed) => {
    expect(agreeOnLanguage(own, wanted)).toBe(agreed)
  })
})

import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { canonicalText, parseJsonObject, type JsonObject } from './json.ts'
import { Envelope, envelopeBytes, parseEnvelope, PAYLOADS, type EnvelopeType } from './envelope.ts'
import { isAgentMeshError, type ErrorCode } from './errors.ts'
import { validate } from './schema.ts'

const refused = (code: ErrorCode) => expect.objectContaining({ name: 'AgentMeshError', code })

const payloads: Record<EnvelopeType, JsonObject> = {
  request: { intent: { category: 'travel' }, parameters: {} },
  response: { status: 'success', results: [] },
  status: { status: 'processing', progress: 0.6 },
  error: { code: 'CAPABILITY_UNAVAILABLE', message: 'later' },
  close: { reason: 'completed' },
  receipt: { received: 3, read: [[1, 2]], at: '2026-02-01T12:00:02Z' },
  capability_negotiation: { i_need: ['flight_search'], languages: ['en', 'pt-BR'] },
  capability_negotiation_response: { matched: [], unavailable: ['flight_search'] },
}

function envelope(type: EnvelopeType, payload: JsonObject = payloads[type]): JsonObject {
  return {
    session_id: '0b9a3c1e-5d2f-4a6b-8c7d-9e0f1a2b3c4d',
    id: '5f1d2c3b-4a59-4687-9abc-def012345678',
    sequence: 1,
    from: '1'.repeat(20),
    to: '3mWDuxZEz3wzZMC2ePGTMkPbPRC6',
    type,
    timestamp: '2026-02-01T12:00:02Z',
    payload,
    ...(type === 'close' ? { receipts: payloads.receipt } : {}),
    signature: Buffer.alloc(64).toString('base64'),
  }
}

describe('parseEnvelope', () => {
  it.each(Object.keys(PAYLOADS) as EnvelopeType[])('takes a %s and keeps unknown fields', (type) => {
    const raw = { ...envelope(type, { ...payloads[type], x_note: [1] }), x_extra: 'kept' }
    expect(parseEnvelope(raw)).toBe(raw)
  })

  it('checks a payload against its own type, not against any', () => {
    for (const type of Object.keys(PAYLOADS) as EnvelopeType[]) {
      for (const other of Object.keys(PAYLOADS) as EnvelopeType[]) {
        if (other === type) continue
        expect(() => parseEnvelope(envelope(type, payloads[other]))).toThrow(refused('MALFORMED'))
      }
    }
  })

  it.each(['constructor', '__proto__', 'toString', 'knock', '', 'REQUEST'])('refuses the type %j', (type) => {
    expect(() => parseEnvelope({ ...envelope('request'), type })).toThrow(refused('UNSUPPORTED_TYPE'))
  })

  it.each(['session_id', 'id', 'sequence', 'from', 'to', 'type', 'timestamp', 'payload', 'signature'])(
    'refuses an envelope without %s, or with null for it',
    (field) => {
      const { [field]: _, ...rest } = envelope('request')
      expect(() => parseEnvelope(rest)).toThrow(refused('MALFORMED'))
      expect(() => parseEnvelope({ ...rest, [field]: null })).toThrow(refused('MALFORMED'))
    },
  )

  it.each([
    ['capability_negotiation', { i_need: ['flight search'] }],
    ['capability_negotiation', { i_need: ['a', 'a'] }],
    ['capability_negotiation', { i_need: Array.from({ length: 65 }, (_, n) => `n${n}`) }],
    ['capability_negotiation', { i_need: [], languages: ['english language'] }],
    ['capability_negotiation', { i_need: [], languages: ['en-*'] }],
    ['capability_negotiation', { i_need: [], preferred_schemas: ['agentmesh/travel/v01'] }],
    ['capability_negotiation', { i_need: [], preferred_schemas: ['travel/v1'] }],
    ['capability_negotiation', { i_need: [], payment_methods: ['Stripe'] }],
    ['capability_negotiation_response', { matched: [] }],
    ['capability_negotiation_response', { matched: [], unavailable: [], agreed_schema: null }],
    [
      'capability_negotiation_response',
      { matched: [], unavailable: ['pay'], suggested_alternative: { pay: { amid: '../x' } } },
    ],
  ] as const)('refuses %s %j', (type, payload) => {
    expect(() => parseEnvelope(envelope(type, payload as unknown as JsonObject))).toThrow(
      refused('MALFORMED'),
    )
  })

  it('throws only its own errors for any object', () => {
    const fields = Object.keys(envelope('request'))
    fc.assert(
      fc.property(
        fc.constantFrom(...(Object.keys(PAYLOADS) as EnvelopeType[])),
        fc.constantFrom(...fields),
        fc.jsonValue(),
        (type, field, value) => {
          const raw = { ...envelope(type), [field]: value } as JsonObject
          try {
            validate(Envelope, parseEnvelope(raw))
          } catch (error) {
            if (!isAgentMeshError(error)) throw error
          }
        },
      ),
      { numRuns: 1000 },
    )
  })
})

it('measures an envelope by its canonical bytes, however it was spelled', () => {
  const raw = parseJsonObject(JSON.stringify(envelope('request'), undefined, 8), 10_000)
  expect(envelopeBytes(parseEnvelope(raw))).toHaveLength(canonicalText(envelope('request')).length)
})

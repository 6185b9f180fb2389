import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { isAgentMeshError } from '../wire/index.ts'
import { defaultPolicy } from './policy.ts'
import { parsePolicy } from './policy-text.ts'
import { TestAgent } from './test-support.ts'

const amid = new TestAgent('alice').identity.amid

function mistake(text: string): string {
  try {
    parsePolicy(text)
  } catch (error) {
    if (isAgentMeshError(error, 'POLICY_INVALID')) return error.message
    throw error
  }
  return 'ok'
}

describe('parsePolicy', () => {
  it('reads the specification’s example', () => {
    const example = {
      accept_tiers: [1, 1.5],
      min_reputation: 0.5,
      accepted_intents: ['travel', 'commerce', 'productivity'],
      rejected_intents: ['marketplace'],
      blocklist: [amid],
      allowlist: [],
      strict_mode: false,
      max_concurrent_sessions: 10,
      rate_limit: { knocks_per_minute: 30, messages_per_minute: 100 },
      store_transcripts: true,
      auto_reject_when_offline: false,
      notify_owner: {
        on_knock_from_unknown: false,
        on_high_value_transaction: true,
        on_error: true,
        threshold_usd: 50,
      },
    }
    expect(parsePolicy(JSON.stringify(example, null, 2))).toEqual({
      ...example,
      unknown_revocation: 'anonymous',
      attachments: defaultPolicy().attachments,
    })
  })

  it('reads back what it is given as the default', () => {
    expect(parsePolicy(JSON.stringify(defaultPolicy()))).toEqual(defaultPolicy())
  })

  it('gives fields left out their defaults, inside objects too', () => {
    const policy = parsePolicy('{ "strict_mode": true, "rate_limit": { "knocks_per_minute": 5 } }')
    expect(policy).toEqual({
      ...defaultPolicy(),
      strict_mode: true,
      rate_limit: { knocks_per_minute: 5, messages_per_minute: 100 },
    })
  })

  it.each([
    ['a wrong type', '{\n  "strict_mode": "yes"\n}', /^line 2, strict_mode: must be boolean/],
    ['a number out of range', '{\n\n  "min_reputation": 1.5\n}', /^line 3, min_reputation: must be <= 1/],
    [
      'a misspelt field',
      '{\n  "strict_mode": true,\n  "blocklst": []\n}',
      /^line 3, blocklst: is not a field/,
    ],
    [
      'a misspelt inner field',
      '{\n  "rate_limit": {\n    "knocks": 1\n  }\n}',
      /^line 3, rate_limit\.knocks: is not a field/,
    ],
    ['a field of the wrong shape', '{\n  "rate_limit": 30\n}', /^line 2, rate_limit: must be object/],
    [
      'an inner field of the wrong type',
      '{\n  "notify_owner": {\n    "on_error": 1\n  }\n}',
      /^line 3, notify_owner\.on_error: must be boolean/,
    ],
    [
      'an unknown category',
      '{\n  "accepted_intents": [\n    "travel",\n    "travle"\n  ]\n}',
      /^line 4, accepted_intents\.1: must match/,
    ],
    [
      'an AMID that is none',
      `{\n  "blocklist": [\n    "${amid}",\n    "0OIl"\n  ]\n}`,
      /^line 4, blocklist\.1: must match/,
    ],
    ['an unknown tier', '{\n  "accept_tiers": [\n    3\n  ]\n}', /^line 3, accept_tiers\.0: must be/],
    ['a missing comma', '{\n  "strict_mode": true\n  "min_reputation": 0\n}', /^line 3: expected "}", found/],
    ['a comma too many', '{\n  "blocklist": [],\n}', /^line 3: expected a field name/],
    ['a missing value', '{\n  "strict_mode":\n}', /^line 3, strict_mode: expected a value/],
    ['a comment', '{\n  // mine\n}', /^line 2: expected a field name/],
    [
      'a field that stands twice',
      '{\n  "strict_mode": true,\n  "strict_mode": false\n}',
      /^line 3, strict_mode: stands on line 2 already/,
    ],
    [
      'a number that is not exact',
      '{\n  "min_reputation": 0.10000000000000000001\n}',
      /^line 2, min_reputation: Number/,
    ],
    ['__proto__', '{\n  "__proto__": {}\n}', /^line 2, __proto__: the name is not allowed/],
    ['text after the end', '{}\n{}', /^line 2: expected the end of the file/],
    ['an unfinished file', '{\n  "blocklist": [', /^line 2, blocklist\.0: expected a value, found the end/],
    ['something else than an object', '[]', /^line 1: a policy is a JSON object/],
    ['an empty file', '', /^line 1: expected a value, found the end/],
    ['deep nesting', `{"blocklist": ${'['.repeat(100_000)}`, /^line 1, .*nested too deep/],
    ['a file too large', `{"blocklist": "${'x'.repeat(1024 * 1024)}"}`, /^line 1: the file exceeds/],
  ])('names line and field of %s', (_name, text, message) => {
    expect(mistake(text)).toMatch(message)
  })

  it('throws nothing but POLICY_INVALID, whatever it is given', () => {
    fc.assert(
      fc.property(fc.oneof(fc.string(), fc.json()), (text) => {
        expect(mistake(text)).toMatch(/^(ok$|line \d+)/)
      }),
    )
  })

  it('takes exactly the JSON that JSON.parse takes', () => {
    fc.assert(
      fc.property(fc.json({ maxDepth: 3 }), fc.nat(), (text, cut) => {
        const damaged = text.slice(0, cut % (text.length + 1)) + text.slice((cut % (text.length + 1)) + 1)
        let isJson = true
        try {
          JSON.parse(damaged)
        } catch {
          isJson = false
        }
        // A syntax error is an `expected`; what is JSON is refused for what it says, if at all.
        if (!isJson) expect(mistake(damaged)).not.toBe('ok')
        else expect(mistake(damaged)).not.toMatch(/expected .* found/)
      }),
    )
  })
})

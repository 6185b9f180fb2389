import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { utf8Bytes } from './bytes.ts'
import type { ErrorCode } from './errors.ts'
import { canonicalBytes, canonicalText, parseJson, parseJsonObject, unsignedBytes } from './json.ts'
import { outcome } from './test-support.ts'

const LIMIT = 1_000_000
const read = (text: string) => parseJson(text, LIMIT)
const refused = (code: ErrorCode) => expect.objectContaining({ name: 'AgentMeshError', code })

describe('parseJson', () => {
  it.each([
    ['a second key', '{"a":1,"a":2}'],
    ['a second key spelled with an escape', '{"a":1,"\\u0061":2}'],
    ['a second key far away and nested', '{"x":[{"k":1,"y":{"k":2},"k":3}]}'],
    ['a second empty key', '{"":1,"":2}'],
    ['a second key before white space and colon', '{"a":1,"a" \n\t\r :2}'],
  ])('refuses %s', (_, text) => {
    expect(() => read(text)).toThrow(refused('JSON_DUPLICATE_KEY'))
  })

  it('takes the same key in different objects, and a repeated string that is no key', () => {
    expect(read('[{"a":"a"},{"a":["a","a"]}]')).toEqual([{ a: 'a' }, { a: ['a', 'a'] }])
  })

  it.each(['{"__proto__":1}', '{"\\u005f_proto__":{"x":1}}', '[{"a":{"__proto__":null}}]'])(
    'refuses the key __proto__ in %s',
    (text) => {
      expect(() => read(text)).toThrow(refused('JSON_FORBIDDEN_KEY'))
    },
  )

  it('takes __proto__ as a value and other inherited names as keys', () => {
    const value = parseJsonObject('{"constructor":"__proto__","toString":1,"hasOwnProperty":2}', LIMIT)
    expect(Object.keys(value)).toEqual(['constructor', 'toString', 'hasOwnProperty'])
    expect(value['constructor']).toBe('__proto__')
  })

  it('takes 32 levels and refuses 33, mixed or not', () => {
    expect(read('['.repeat(32) + ']'.repeat(32))).toBeInstanceOf(Array)
    expect(() => read('['.repeat(33) + ']'.repeat(33))).toThrow(refused('JSON_DEPTH'))
    expect(read('{"a":['.repeat(16) + ']}'.repeat(16))).toBeInstanceOf(Object)
    expect(() => read('{"a":['.repeat(16) + '[]' + ']}'.repeat(16))).toThrow(refused('JSON_DEPTH'))
    expect(read(`[${'[],'.repeat(1000)}[]]`)).toHaveLength(1001)
  })

  it('refuses a depth of 100,000 without unwinding the stack', () => {
    expect(() => read('['.repeat(100_000))).toThrow(refused('JSON_DEPTH'))
    expect(() => read('{"a":'.repeat(100_000))).toThrow(refused('JSON_DEPTH'))
  })

  it('does not count brackets inside strings', () => {
    expect(read(`["${'[{'.repeat(50)}"]`)).toEqual(['[{'.repeat(50)])
  })

  it.each([
    ['2^53 + 1', '9007199254740993'],
    ['2^53', '9007199254740992'],
    ['-2^53', '-9007199254740992'],
    ['twenty digits', '12345678901234567890'],
    ['an infinity', '1e400'],
    ['a double above 2^53', '1e300'],
    ['an underflow', '1e-400'],
    ['minus zero', '-0'],
    ['minus zero with a fraction', '-0.0'],
    ['minus zero with an exponent', '-0e5'],
    ['more digits than a double has', '0.10000000000000001'],
    ['pi to thirty digits', '3.14159265358979323846264338327'],
    ['a huge exponent', '1e99999999999999999999'],
    ['more than 64 characters', `1.${'0'.repeat(70)}`],
  ])('refuses %s', (_, token) => {
    expect(() => read(`{"n":${token}}`)).toThrow(refused('JSON_NUMBER'))
    expect(() => read(token)).toThrow(refused('JSON_NUMBER'))
  })

  it.each([
    ['0', 0],
    ['0.1', 0.1],
    ['320.00', 320],
    ['1.0', 1],
    ['0.0', 0],
    ['0e9', 0],
    ['1E2', 100],
    ['12e-1', 1.2],
    ['9007199254740991', Number.MAX_SAFE_INTEGER],
    ['-9007199254740991', Number.MIN_SAFE_INTEGER],
    ['5e-324', 5e-324],
    ['123456789.12345679', 123456789.12345679],
  ])('takes %s', (token, value) => {
    expect(read(token)).toBe(value)
    expect(read(`[${token}]`)).toEqual([value])
  })

  it.each([
    '01',
    '1.',
    '.5',
    '+1',
    '1e',
    '1e+',
    '0x10',
    '1-2',
    '--1',
    '-',
    'NaN',
    'Infinity',
    '1_000',
    '1.2.3',
  ])('calls %s a syntax error', (token) => {
    expect(() => read(`[${token}]`)).toThrow(refused('JSON_SYNTAX'))
  })

  it.each([
    ['an escaped high surrogate', '"\\ud800"'],
    ['an escaped low surrogate', '"\\udc00"'],
    ['escapes in the wrong order', '"\\udc00\\ud800"'],
    ['an escaped one in a key', '{"\\ud834x":1}'],
    ['a raw one', '"\ud800"'],
    ['a raw one completed by an escape', '"\ud834\\udd1e"'],
    ['a raw one outside strings', '[1,\udc00]'],
  ])('refuses a lone surrogate: %s', (_, text) => {
    expect(() => read(text)).toThrow(refused('JSON_SURROGATE'))
  })

  it('takes surrogate pairs, escaped and raw', () => {
    expect(read('"\\ud834\\udd1e"')).toBe('\u{1d11e}')
    expect(read('"\u{1d11e}"')).toBe('\u{1d11e}')
  })

  it('refuses a byte order mark, in text and in bytes', () => {
    expect(() => read('\ufeff{}')).toThrow(refused('JSON_SYNTAX'))
    expect(() => parseJson(Uint8Array.of(0xef, 0xbb, 0xbf, 0x7b, 0x7d), LIMIT)).toThrow(
      refused('JSON_SYNTAX'),
    )
  })

  it.each([
    ['a stray continuation byte', [0x22, 0x80, 0x22]],
    ['an overlong slash', [0x22, 0xc0, 0xaf, 0x22]],
    ['an encoded surrogate', [0x22, 0xed, 0xa0, 0x80, 0x22]],
    ['a cut sequence', [0x22, 0xe2, 0x82, 0x22]],
    ['UTF-16', [0xff, 0xfe, 0x7b, 0x00]],
  ])('refuses bytes that are not UTF-8: %s', (_, bytes) => {
    expect(() => parseJson(Uint8Array.from(bytes), LIMIT)).toThrow(refused('MALFORMED'))
  })

  it.each([
    '',
    ' ',
    '{',
    '[1,]',
    '{"a":1,}',
    "{'a':1}",
    '{"a"}',
    '"a',
    '"\\x"',
    '"\t"',
    '[1] 2',
    '}',
    'tru',
    '//x\n1',
  ])('refuses %j as syntax', (text) => {
    expect(() => read(text)).toThrow(refused('JSON_SYNTAX'))
  })

  it('measures the limit in UTF-8 bytes, before reading', () => {
    expect(parseJson('"€"', 5)).toBe('€')
    expect(parseJson(utf8Bytes('"€"'), 5)).toBe('€')
    expect(() => parseJson('"€"', 4)).toThrow(refused('TOO_LARGE'))
    expect(() => parseJson(utf8Bytes('"€"'), 4)).toThrow(refused('TOO_LARGE'))
    expect(() => parseJson('['.repeat(1000), 999)).toThrow(refused('TOO_LARGE'))
  })

  it('does not repeat a long hostile key in its message', () => {
    const key = 'k'.repeat(10_000)
    expect(() => read(`{"${key}":1,"${key}":2}`)).toThrow(
      expect.objectContaining({ message: expect.not.stringContaining('k'.repeat(41)) }),
    )
  })

  it('reads the values JSON.parse reads', () => {
    const exact = fc
      .jsonValue({ maxDepth: 8 })
      .filter((value) => !JSON.stringify(value).includes('__proto__'))
    fc.assert(
      fc.property(exact, (value) => {
        const text = JSON.stringify(value)
        const beyond = numbersIn(JSON.parse(text)).some((n) => Math.abs(n) > Number.MAX_SAFE_INTEGER)
        if (beyond) expect(() => read(text)).toThrow(refused('JSON_NUMBER'))
        else expect(read(text)).toEqual(JSON.parse(text))
      }),
      { numRuns: 500 },
    )
  })

  it('accepts nothing that JSON.parse refuses, and throws only its own errors, for any string', () => {
    const parts = '{ } [ ] : , " \\ "a" "\\u0061" 1 -0 1e5 true null \\ud800 __proto__ . e "":'.split(' ')
    const soup = fc
      .array(fc.constantFrom(...parts, ' ', '\ud800', '\u0000'), { maxLength: 40 })
      .map((chosen) => chosen.join(''))
    fc.assert(
      fc.property(fc.oneof(soup, fc.string({ unit: 'binary' }), fc.json()), (text) => {
        if (outcome(() => read(text)) === 'ok') expect(() => JSON.parse(text)).not.toThrow()
      }),
      { numRuns: 3000 },
    )
  })

  it('throws only its own errors for any bytes', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
        outcome(() => parseJson(bytes, LIMIT))
      }),
      { numRuns: 2000 },
    )
  })

  it.each([
    ['white space after every string', (n: number) => `{${'"a"'.padEnd(n, ' ')}`],
    ['many short keys', (n: number) => `{${keys(n / 8).join(':1,')}:1}`],
    ['escaped quotes without an end', (n: number) => `"${'\\"'.repeat(n / 2)}`],
    ['a run of digits', (n: number) => '1'.repeat(n)],
    ['a run of signs', (n: number) => '-'.repeat(n)],
    ['strings one after another', (n: number) => '"a" '.repeat(n / 4)],
    ['open objects with a long key each', (n: number) => `{"${'k'.repeat(n / 32)}":`.repeat(31)],
  ])('takes time in proportion to the input for %s', (_, make) => {
    const [small, large] = [make(40_000), make(640_000)]
    const cost = (text: string) =>
      Math.min(
        ...Array.from({ length: 5 }, () => {
          // Processor time: on a busy machine the clock says little.
          const start = process.cpuUsage()
          for (let run = 0; run < 4; run++) outcome(() => read(text))
          return Math.max(1, process.cpuUsage(start).user)
        }),
      )
    cost(small)
    // 16 times the input; a quadratic reader would need 256 times the time, in every one of the attempts.
    const ratios = []
    while (ratios.length < 5 && !(Math.min(...ratios) < 100)) ratios.push(cost(large) / cost(small))
    expect(Math.min(...ratios)).toBeLessThan(100)
  })
})

function keys(count: number): string[] {
  return Array.from({ length: count }, (_, index) => `"${index.toString(36)}"`)
}

function numbersIn(value: unknown): number[] {
  if (typeof value === 'number') return [value]
  return value !== null && typeof value === 'object' ? Object.values(value).flatMap(numbersIn) : []
}

describe('parseJsonObject', () => {
  it.each(['[]', 'null', '1', '"{}"', 'true'])('refuses %s', (text) => {
    expect(() => parseJsonObject(text, LIMIT)).toThrow(refused('MALFORMED'))
  })
})

describe('canonicalText', () => {
  it('writes the sample of RFC 8785 §3.2.2', () => {
    const value = {
      // As a text: the literal has more digits than its double.
      numbers: [Number('333333333.33333329'), 1e30, 4.5, 2e-3, 0.000000000000000000000000001],
      string: '\u20ac$\u000F\u000aA\'\u0042\u0022\u005c\\"\u002f',
      literals: [null, true, false],
    }
    expect(canonicalText(value)).toBe(
      '{"literals":[null,true,false],"numbers":[333333333.3333333,1e+30,4.5,0.002,1e-27],' +
        '"string":"€$\\u000f\\nA\'B\\"\\\\\\\\\\"/"}',
    )
  })

  it('sorts the keys of RFC 8785 §3.2.3 by UTF-16 code units', () => {
    const value = { '\u20ac': 1, '\r': 2, '\ufb33': 3, '1': 4, '\u{1f600}': 5, '\u0080': 6, '\u00f6': 7 }
    expect(canonicalText(value)).toBe(
      '{"\\r":2,"1":4,"\u0080":6,"\u00f6":7,"\u20ac":1,"\u{1f600}":5,"\ufb33":3}',
    )
  })

  it.each([
    ['0000000000000000', '0'],
    ['8000000000000000', '0'],
    ['0000000000000001', '5e-324'],
    ['8000000000000001', '-5e-324'],
    ['7fefffffffffffff', '1.7976931348623157e+308'],
    ['ffefffffffffffff', '-1.7976931348623157e+308'],
    ['4340000000000000', '9007199254740992'],
    ['c340000000000000', '-9007199254740992'],
    ['4430000000000000', '295147905179352830000'],
    ['44b52d02c7e14af5', '9.999999999999997e+22'],
    ['44b52d02c7e14af6', '1e+23'],
    ['44b52d02c7e14af7', '1.0000000000000001e+23'],
    ['444b1ae4d6e2ef4e', '999999999999999700000'],
    ['444b1ae4d6e2ef4f', '999999999999999900000'],
    ['444b1ae4d6e2ef50', '1e+21'],
    ['3eb0c6f7a0b5ed8c', '9.999999999999997e-7'],
    ['3eb0c6f7a0b5ed8d', '0.000001'],
    ['41b3de4355555553', '333333333.3333332'],
    ['41b3de4355555555', '333333333.3333333'],
    ['41b3de4355555557', '333333333.33333343'],
    ['becbf647612f3696', '-0.0000033333333333333333'],
    ['43143ff3c1cb0959', '1424953923781206.2'],
  ])('writes the double %s of RFC 8785 appendix B as %s', (bits, text) => {
    expect(canonicalText(Buffer.from(bits, 'hex').readDoubleBE())).toBe(text)
  })

  it('does not depend on the order of keys, and its bytes are UTF-8', () => {
    expect(canonicalText({ b: { d: 1, c: [2] }, a: 'é' })).toBe(
      canonicalText({ a: 'é', b: { c: [2], d: 1 } }),
    )
    expect(canonicalBytes({ a: 'é' })).toEqual(utf8Bytes('{"a":"é"}'))
  })

  it.each([
    ['NaN', Number.NaN],
    ['an infinity', { a: Number.POSITIVE_INFINITY }],
    ['a bigint', { a: 1n }],
    ['a lone surrogate', ['\ud800']],
    ['a lone surrogate in a key', { '\udc00': 1 }],
    ['nothing', undefined],
    ['a cycle', cycle()],
  ])('refuses %s', (_, value) => {
    expect(() => canonicalText(value)).toThrow(refused('MALFORMED'))
  })

  it('gives what the strict reader reads back, and the same text again', () => {
    fc.assert(
      fc.property(fc.jsonValue({ maxDepth: 6 }), (value) => {
        const text = canonicalText(value)
        if (outcome(() => read(text)) === 'ok') expect(canonicalText(read(text))).toBe(text)
      }),
    )
  })
})

function cycle(): object {
  const value: Record<string, unknown> = {}
  value['self'] = value
  return value
}

describe('unsignedBytes', () => {
  it('leaves out the signature and the named fields at the top only, and keeps unknown ones', () => {
    const record = { z: 1, signature: 'x', tier: 2, nested: { signature: 'kept', tier: 3 }, unknown: [1] }
    expect(unsignedBytes(record, ['tier'])).toEqual(
      utf8Bytes('{"nested":{"signature":"kept","tier":3},"unknown":[1],"z":1}'),
    )
    expect(unsignedBytes(record)).toEqual(canonicalBytes({ ...record, signature: undefined }))
  })
})

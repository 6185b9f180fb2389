import { describe, expect, it } from 'vitest'
import { patternProblem } from './schema-guard.ts'

describe('patternProblem', () => {
  it.each([
    '^[A-Z]{3}$',
    '^[a-z0-9][a-z0-9_-]{0,63}$',
    '^\\d{4}-\\d{2}-\\d{2}(T\\d{2}:\\d{2})?$',
    '^(red|green|blue)$',
    '^(?:x-)?[^/\\]]+$',
    '^\\+?[0-9 ()./-]{3,32}$',
    '^[0-9a-f]{8}-[0-9a-f]{4}$',
    '^é.*',
    '^\\u0041$',
    '^$',
  ])('takes %s', (pattern) => {
    expect(patternProblem(pattern)).toBeUndefined()
    expect(() => new RegExp(pattern, 'u')).not.toThrow()
  })

  it.each([
    ['[A-Z]{3}$', 'begin with ^'],
    ['^(a+)+$', 'repeats a group'],
    ['^(a|a)*$', 'repeats a group'],
    ['^(a|a){2,30}$', 'repeats a group'],
    ['^((a?)?)?(b{0,9}){3}$', 'repeats a group'],
    ['^a*a*$', 'more than one'],
    ['^a+b{2,}$', 'more than one'],
    ['^(?=a)a$', 'cannot be bounded'],
    ['^(?!a)b$', 'cannot be bounded'],
    ['^(?<=a)b$', 'cannot be bounded'],
    ['^(?<n>a)\\k<n>$', 'cannot be bounded'],
    ['^(a)\\1$', 'cannot be bounded'],
    ['^a+?$', 'cannot be bounded'],
    ['^a|.*b$', 'outside a group'],
    ['^[a-z]{0,63}[a-z]{0,63}[a-z]{0,63}$', 'too many ways'],
    [`^${'a?'.repeat(30)}$`, 'too many ways'],
    [`^${'(a|a)'.repeat(20)}$`, 'too many ways'],
    ['^(a', 'close its groups'],
    ['^a)', 'not open'],
    ['^[a', 'cannot be bounded'],
    [`^${'a'.repeat(256)}`, 'characters'],
  ])('refuses %s', (pattern, problem) => {
    expect(patternProblem(pattern)).toContain(problem)
  })
})

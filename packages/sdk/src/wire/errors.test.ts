import { expect, it } from 'vitest'
import { AgentMeshError, ERROR_CODES, isAgentMeshError, isErrorCode } from './errors.ts'

it('has well-formed codes and a distinct summary for each', () => {
  const summaries = Object.values(ERROR_CODES).map((info) => info.summary)
  for (const code of Object.keys(ERROR_CODES)) expect(code).toMatch(/^[A-Z][A-Z0-9_]{0,63}$/)
  expect(new Set(summaries).size).toBe(summaries.length)
  for (const summary of summaries) expect(summary).not.toMatch(/^$|\.$|\n/)
})

it('knows its codes and no inherited name', () => {
  expect(isErrorCode('MALFORMED')).toBe(true)
  for (const text of ['toString', 'constructor', '__proto__', '', 'malformed'])
    expect(isErrorCode(text)).toBe(false)
})

it('carries code, operation and cause', () => {
  const cause = new Error('inner')
  const error = new AgentMeshError('TOO_LARGE', undefined, { operation: 'read', cause, retryAfterSeconds: 3 })
  expect(error).toMatchObject({ code: 'TOO_LARGE', operation: 'read', cause, retryAfterSeconds: 3 })
  expect(error.message).toBe(ERROR_CODES.TOO_LARGE.summary)
  expect(new AgentMeshError('MALFORMED', 'field x')).toMatchObject({
    message: 'field x',
    operation: undefined,
  })
  expect('cause' in new AgentMeshError('MALFORMED')).toBe(false)
})

it('is told apart from other errors, and by code', () => {
  expect(isAgentMeshError(new AgentMeshError('MALFORMED'))).toBe(true)
  expect(isAgentMeshError(new AgentMeshError('MALFORMED'), 'TOO_LARGE')).toBe(false)
  expect(isAgentMeshError(Object.assign(new Error(), { code: 'MALFORMED' }))).toBe(false)
  expect(isAgentMeshError(null)).toBe(false)
})

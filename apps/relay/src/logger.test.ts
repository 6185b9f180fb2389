import { expect, test } from 'vitest'
import { silentLogger, sparingLogger } from './logger.ts'

test('errors of one text are said once in a while, with how many were not', () => {
  let now = 0
  const lines: unknown[] = []
  const error = (fields: object, message: string) => void lines.push([message, fields])
  const logger = sparingLogger({ ...silentLogger, error }, () => now)
  for (now = 0; now < 9_000; now += 3) logger.error({ n: now }, 'message not stored')
  logger.error({}, 'mailbox not read')
  expect(lines).toEqual([
    ['message not stored', { n: 0 }],
    ['mailbox not read', {}],
  ])
  now = 10_000
  logger.error({ n: now }, 'message not stored')
  now = 30_000
  logger.error({ n: now }, 'message not stored')
  expect(lines.slice(2)).toEqual([
    ['message not stored', { n: 10_000, unsaid: 2_999 }],
    ['message not stored', { n: 30_000 }],
  ])
})

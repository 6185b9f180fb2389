import { EventEmitter } from 'node:events'
import { expect, test } from 'vitest'
import type { AuditEvent } from '../../observability/index.ts'
import { AgentMeshError } from '../../wire/index.ts'
import type { AgentEvents } from '../core.ts'
import type { Notice } from '../types.ts'
import { tellRefusals } from './refused-answers.ts'

const error = new AgentMeshError('REGISTRY_ANSWER_INVALID', 'The record is not signed by its agent', {
  operation: 'look up an agent',
})

test('an answer that does not hold is in the log and told to the owner, a flood of them a few times a minute', () => {
  let now = 1_800_000_000_000
  const lines: AuditEvent[] = []
  const notices: Notice[] = []
  const events = new EventEmitter<AgentEvents>()
  events.on('notice', (notice) => notices.push(notice))
  const refused = tellRefusals({ audit: { append: (line) => lines.push(line) }, events, now: () => now })
  for (let round = 0; round < 1000; round++) refused('https://one.example', error)
  expect(lines).toHaveLength(5)
  expect(lines[0]).toMatchObject({
    event: 'registry_refused',
    registry: 'https://one.example',
    code: 'REGISTRY_ANSWER_INVALID',
    operation: 'look up an agent',
  })
  expect(notices).toHaveLength(5)
  expect(notices[0]).toMatchObject({
    about: 'registry',
    text: expect.stringContaining('not signed by its agent'),
  })
  // Another registry has its own.
  refused('https://two.example', error)
  expect(lines.at(-1)).toMatchObject({ registry: 'https://two.example' })
  now += 60_000
  refused('https://one.example', error)
  expect(lines).toHaveLength(7)
})

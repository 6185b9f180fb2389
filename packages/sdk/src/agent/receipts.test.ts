import { expect, test } from 'vitest'
import type { ReceiptPayload, SessionId } from '../wire/index.ts'
import type { Core } from './core.ts'
import { Receipts } from './receipts.ts'
import type { SessionRow } from './tables.ts'

const SESSION = '0f9619ff-8b86-4011-b42d-00cf4fc964ff' as SessionId

function owing(deliverNext: number): { receipts: Receipts; sent: ReceiptPayload[] } {
  const sent: ReceiptPayload[] = []
  const row = { session: { id: SESSION }, deliverNext } as SessionRow
  const tables = { sessions: { get: () => row } }
  const store = { tables, commit: async (work: () => unknown) => work() }
  const core = { now: () => 0, store } as unknown as Core
  return { receipts: new Receipts(core, (_session, payload) => sent.push(payload)), sent }
}

test('an envelope whose commit was undone is not confirmed, and what was owed before still is', () => {
  const { receipts, sent } = owing(3)
  receipts.read(SESSION, 1)
  const undone = (): void =>
    receipts.attempt(() => {
      receipts.sendOwed(SESSION, [])
      receipts.read(SESSION, 2)
      throw new Error('the row could not be written')
    })
  expect(undone).toThrow('the row could not be written')
  sent.length = 0
  receipts.sendOwed(SESSION, [])
  expect(sent).toMatchObject([{ received: 2, read: [[1, 1]] }])
})

test('an application that reads ahead of what has had its turn confirms no more than that', () => {
  const { receipts, sent } = owing(3)
  for (const sequence of [1, 2, 5]) receipts.read(SESSION, sequence)
  receipts.sendOwed(SESSION, [])
  expect(sent).toMatchObject([{ received: 2, read: [[1, 2]] }])
})

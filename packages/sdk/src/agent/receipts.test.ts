import { expect, test } from 'vitest'
import type { MessageId, ReceiptPayload, SessionId } from '../wire/index.ts'
import type { Core } from './core.ts'
import { Receipts } from './receipts.ts'

const SESSION = '0f9619ff-8b86-4011-b42d-00cf4fc964ff' as SessionId
const [FIRST, SECOND] = ['1', '2'].map((digit) => `6f9619ff-8b86-4011-b42d-00cf4fc964f${digit}` as MessageId)

test('a message whose commit was undone is not confirmed, and what was owed before still is', () => {
  const sent: ReceiptPayload[] = []
  const core = { now: () => 0, store: { commit: async (work: () => unknown) => work() } } as unknown as Core
  const receipts = new Receipts(core, (_session, payload) => sent.push(payload))
  receipts.owe(SESSION, FIRST as MessageId, 'received')
  const undone = (): void =>
    receipts.attempt(() => {
      receipts.sendOwed(SESSION, [])
      receipts.owe(SESSION, SECOND as MessageId, 'received')
      throw new Error('the row could not be written')
    })
  expect(undone).toThrow('the row could not be written')
  sent.length = 0
  receipts.sendOwed(SESSION, [])
  expect(sent.flatMap(({ receipts: owed }) => owed.map(({ message_id }) => message_id))).toEqual([FIRST])
})

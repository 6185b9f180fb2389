import { expect, test } from 'vitest'
import { systemRandom } from '@agentmesh/sdk/crypto/signing'
import { amidFromBytes, newMessageId, type Amid } from '@agentmesh/sdk/wire'
import { Deposits } from './deposits.ts'
import { DEFAULT_LIMITS } from './limits.ts'
import type { MailboxMessage } from './mailbox.ts'

const HOME = '203.0.113.1'
const amid = (n: number): Amid => amidFromBytes(new Uint8Array(20).fill(n))

/** Always of another sender. */
let senders = 100
function message(to: Amid, size = 0): MailboxMessage {
  const from = amid(senders++ % 250)
  const id = newMessageId(systemRandom)
  return { to, from, id, type: 'message', timestamp: 0, payload: new Uint8Array(size) }
}

const limits = {
  ...DEFAULT_LIMITS,
  senderMessages: 2,
  mailboxMessagesPerIp: 6,
  mailboxBytesPerIp: 1000,
  storeMessagesPerIp: 10,
  storeBytesPerIp: 1500,
}

function deposits(relays = 1): Deposits {
  return new Deposits(limits, () => relays)
}

/** How many of so many the address may make. */
function made(all: Deposits, address: string, to: Amid, count: number, size = 0): number {
  const outcomes = Array.from({ length: count }, () => all.make(address, message(to, size), 0))
  return outcomes.filter((outcome) => outcome === 'new').length
}

test('an address has a share of a mailbox, whoever sends, and leaves the rest to others', () => {
  const all = deposits()
  expect(made(all, HOME, amid(1), 20)).toBe(6)
  expect(made(all, '203.0.113.2', amid(1), 20)).toBe(6)
  expect(made(all, HOME, amid(2), 20)).toBe(4)
  expect(made(all, HOME, amid(3), 20)).toBe(0)
})

test('bytes count like messages', () => {
  const all = deposits()
  expect(made(all, HOME, amid(1), 6, 300)).toBe(3)
  expect(made(all, HOME, amid(2), 6, 300)).toBe(2)
})

test('a message sent again takes no second place, also where there is none left', () => {
  const all = deposits()
  const first = message(amid(1))
  expect(all.make(HOME, first, 0)).toBe('new')
  expect(made(all, HOME, amid(1), 9)).toBe(5)
  expect(all.make(HOME, first, 0)).toBe('known')
  // The id alone does not make it the same message.
  expect(all.make(HOME, { ...first, from: amid(99) }, 0)).toBe('full')
})

test('what was not stored, was fetched, or has expired makes room again', () => {
  const all = deposits()
  const refused = message(amid(1), 100)
  expect(all.make(HOME, refused, 0)).toBe('new')
  all.withdraw({ ...refused, size: 100 })
  all.withdraw({ ...refused, size: 100 })
  expect(made(all, HOME, amid(1), 9)).toBe(6)
  expect(made(all, HOME, amid(2), 9)).toBe(4)
  all.emptied(amid(1))
  expect(made(all, HOME, amid(2), 9)).toBe(2)
  expect(made(all, HOME, amid(3), 9)).toBe(4)
  all.sweep(limits.mailboxTtlMs + 1)
  expect(all.size).toBe(0)
  expect(made(all, HOME, amid(1), 9)).toBe(6)
})

test('relays of one service divide the share, but not below that of one sender', () => {
  expect(made(deposits(2), HOME, amid(1), 9)).toBe(3)
  expect(made(deposits(50), HOME, amid(1), 9)).toBe(2)
})

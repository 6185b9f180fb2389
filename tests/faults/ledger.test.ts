/** The judge of the kill run: it must see each thing that may not happen, else a green run says nothing. */
import { newMessageId, newSessionId } from '@agentmesh/sdk/wire'
import { beforeEach, expect, test } from 'vitest'
import { Ledger } from './ledger.ts'

const random = (length: number) => crypto.getRandomValues(new Uint8Array(length))
const session_id = newSessionId(random)
let ledger: Ledger
let first: { id: ReturnType<typeof newMessageId>; n: number; session_id: typeof session_id }
let second: typeof first

beforeEach(() => {
  ledger = new Ledger()
  first = { id: newMessageId(random), n: 1, session_id }
  second = { id: newMessageId(random), n: 2, session_id }
  for (const { id, n } of [first, second]) {
    ledger.planned('alice', id, n)
    ledger.sent(id)
  }
})

function finish(...requests: (typeof first)[]): void {
  for (const { id, n } of requests) {
    ledger.accepted(id)
    ledger.answered(id, n)
  }
}

test('has nothing to say of requests handed over in order and answered once', () => {
  ledger.handed('bob 1', first)
  ledger.handed('bob 1', second)
  finish(first, second)
  expect(ledger.problems()).toEqual([])
  expect(ledger.totals()).toEqual({ requests: 2, handedAgain: 0, sessions: 1 })
})

test('lets a request come again in the next life when its answer was not accepted', () => {
  ledger.handed('bob 1', first)
  ledger.handed('bob 1', second)
  ledger.handed('bob 2', first)
  ledger.handed('bob 2', second)
  finish(first, second)
  expect(ledger.problems()).toEqual([])
  expect(ledger.totals().handedAgain).toBe(2)
})

test('lets a request whose send() never resolved be lost, but not be processed twice', () => {
  const cut = { id: newMessageId(random), n: 3, session_id }
  ledger.planned('alice', cut.id, cut.n)
  ledger.handed('bob 1', first)
  ledger.handed('bob 1', second)
  finish(first, second)
  expect(ledger.problems()).toEqual([])
  ledger.handed('bob 1', cut)
  finish(cut, cut)
  expect(ledger.problems()).toEqual(['request 3 of alice was processed twice'])
})

test.each<[string, () => void, RegExp]>([
  ['a request that never came', () => finish(first), /request 2 of alice was never handed over/],
  ['an answer that never came', () => ledger.accepted(second.id), /request 2 of alice has the answers \[\]/],
  ['two answers', () => (finish(second), ledger.answered(second.id, 2)), /has the answers \[2,2\]/],
  ["another request's answer", () => ledger.answered(second.id, 1), /has the answers \[1\]/],
  [
    'a number handed over late',
    () => (ledger.handed('bob 1', second), ledger.handed('bob 1', first)),
    /handed after 2/,
  ],
  [
    'the same number twice in a life',
    () => (ledger.handed('b 1', first), ledger.handed('b 1', first)),
    /handed after 1/,
  ],
  ['work done twice', () => (finish(first), ledger.handed('bob 2', first)), /handed again after its answer/],
  ['a request nobody sent', () => ledger.handed('b', { ...first, id: newMessageId(random) }), /nobody sent/],
  ['a number that was changed', () => ledger.handed('bob 1', { ...first, n: 2 }), /nobody sent/],
])('sees %s', (_, happen, problem) => {
  happen()
  expect(ledger.problems().join('\n')).toMatch(problem)
})

/** What an agent that we knock at answers with. */
import { once } from 'node:events'
import type { Agent, SessionId } from '@agentmesh/sdk'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { HostileResponder } from '../support/hostile-responder.ts'
import { FLIGHTS, TestNetwork } from '../support/network.ts'

let network: TestNetwork
let alice: Agent
let bob: Agent

beforeEach(async () => {
  network = await TestNetwork.start()
  alice = await network.agent('alice')
  bob = await network.agent('bob')
})
afterEach(() => network.close())

test('an ACCEPT under the id of our session with somebody else gets nothing of that session', async () => {
  let finish = (): void => {}
  const working = new Promise<void>((asked) => {
    alice.on('request', async () => {
      asked()
      await new Promise<void>((done) => (finish = done))
      return { results: 'for bob alone' }
    })
  })
  const talk = { sessionType: 'conversation' } as const
  const question = await bob.send(alice.amid, { intent: FLIGHTS, parameters: {} }, talk)
  await working
  const { session_id } = alice.sessions()[0]!

  // Every relay sees the id of a session.
  const mallory = await HostileResponder.open(network, (accept) => ({ ...accept, session_id }))
  const refused = once(alice.events, 'refused')
  const sent = await alice.send(
    mallory.amid,
    { intent: FLIGHTS, parameters: { secret: 'for mallory' } },
    talk,
  )
  expect(await refused).toMatchObject([{ from: mallory.amid, code: 'ANSWER_MISMATCH' }])
  expect(alice.sessions()).toMatchObject([{ session_id, peer: bob.amid, state: 'open' }])

  finish()
  expect(await question.answer({ timeoutSeconds: 30 })).toMatchObject({
    payload: { results: 'for bob alone' },
  })
  expect(mallory.packets.map(({ type }) => type)).toEqual(['knock'])
  expect(alice.session(session_id).messages.every(({ session_id: of }) => of === session_id)).toBe(true)
  expect(bob.sessions()).toMatchObject([{ session_id, peer: alice.amid, state: 'open' }])
  await expect(sent.answer({ timeoutSeconds: 0.1 })).rejects.toMatchObject({ code: 'WAIT_TIMEOUT' })
  await mallory.close()
})

test('an ACCEPT under an id of its own choice opens no session', async () => {
  const chosen = '00000000-0000-4000-8000-000000000000' as SessionId
  const mallory = await HostileResponder.open(network, (accept) => ({ ...accept, session_id: chosen }))
  const refused = once(alice.events, 'refused')
  await alice.send(mallory.amid, { intent: FLIGHTS, parameters: {} })
  expect(await refused).toMatchObject([{ from: mallory.amid, code: 'ANSWER_MISMATCH' }])
  expect(alice.sessions()).toEqual([])
  await mallory.close()
})

test('the same agent, when it answers as it should, is talked to', async () => {
  const honest = await HostileResponder.open(network, (accept) => accept)
  const opened = once(alice.events, 'session')
  await alice.send(honest.amid, { intent: FLIGHTS, parameters: {} })
  await opened
  expect(alice.sessions()).toMatchObject([{ peer: honest.amid, state: 'open' }])
  await honest.close()
})

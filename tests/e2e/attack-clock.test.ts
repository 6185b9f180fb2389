/** A clock that jumps ahead and back, as of a machine that slept, a wrong time server or a dead battery. */
import { newMessageId, type Agent } from '@agentmesh/sdk'
import { systemRandom } from '@agentmesh/sdk/crypto/signing'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { HostilePeer } from '../support/hostile-peer.ts'
import { FLIGHTS, TestNetwork } from '../support/network.ts'

const DAY = 86_400_000

let network: TestNetwork
let bob: Agent
let mallory: HostilePeer
let skew: number
let handled: number

const ask = (n: unknown) => ({ intent: FLIGHTS, parameters: { n } })

async function openBob(): Promise<void> {
  bob = await network.agent('bob', {}, { now: () => Date.now() + skew })
  bob.on('request', () => ({ results: ++handled }))
}

beforeEach(async () => {
  skew = 0
  handled = 0
  network = await TestNetwork.start()
  await openBob()
  mallory = await HostilePeer.open(network)
})
afterEach(async () => {
  await mallory.close()
  await network.close()
})

/** Everything that is looked at now and then was looked at: the last turn is waited for. */
async function jump(by: number): Promise<void> {
  skew = by
  await expect
    .poll(() => bob.sessions().every(({ state }) => state === 'closed'), { timeout: 20_000 })
    .toBe(true)
  await bob.close()
}

const answers = (): unknown[] =>
  mallory.envelopes.filter(({ type }) => type === 'response').map(({ payload }) => payload)

test.each([5, 40])('a clock %i days ahead and back forgets no answer', async (days) => {
  const id = newMessageId(systemRandom)
  await mallory.knock(bob.amid)
  await mallory.say('request', ask(1), { id })
  await mallory.until(() => answers().length === 1)
  const [transcript] = bob.sessions()
  await jump(days * DAY)
  skew = 0
  await openBob()
  expect(bob.sessions().map(({ session_id }) => session_id)).toContain(transcript!.session_id)
  await mallory.knock(bob.amid)
  await mallory.say('request', ask(1), { id })
  await mallory.until(() => answers().length === 2)
  expect(answers()).toMatchObject([{ results: 1 }, { results: 1 }])
  expect(handled).toBe(1)
})

test('a request that was read, and whose answer broke the session by a wrong clock, gets that answer on another', async () => {
  const alice = await network.agent('alice')
  await (await alice.send(bob.amid, ask(0))).answer()
  const sent = await alice.send(bob.amid, ask(1))
  bob.on('request', async () => {
    // The receipts go out before the answer, under the right clock.
    for await (const { stage } of sent.progress()) if (stage === 'read') break
    skew = 2 * 3_600_000
    return { results: ++handled }
  })
  await expect.poll(() => handled, { timeout: 20_000 }).toBe(2)
  await expect
    .poll(() => bob.sessions().some(({ state }) => state === 'closed'), { timeout: 20_000 })
    .toBe(true)
  skew = 0
  bob.on('request', () => ({ results: ++handled }))
  const next = await alice.send(bob.amid, ask(2))
  expect(await sent.answer()).toMatchObject({ payload: { results: 2 } })
  expect(await next.answer()).toMatchObject({ payload: { results: 3 } })
})

/** What somebody who was not let in tries against a real agent, through a real relay. */
import { once } from 'node:events'
import type { Agent } from '@agentmesh/sdk'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { HostilePeer } from '../support/hostile-peer.ts'
import { FLIGHTS, TestNetwork } from '../support/network.ts'

let network: TestNetwork
let bob: Agent
let mallory: HostilePeer

beforeEach(async () => {
  network = await TestNetwork.start()
  bob = await network.agent('bob')
  bob.on('request', ({ payload }) => ({ results: payload.parameters['n'] }))
  mallory = await HostilePeer.open(network)
})
afterEach(async () => {
  await mallory.close()
  await network.close()
})

test('a packet too short for a session id is acknowledged, and does not come again for ever', async () => {
  // `delivered` is said when the receiver acknowledged it: without that its whole inbox stands still behind it.
  for (const payload of [new Uint8Array(1), new Uint8Array(16)]) {
    for (const type of ['message', 'close'] as const) {
      expect(await mallory.send(bob.amid, type, payload)).toMatchObject({ status: 'delivered' })
    }
  }
})

test('a KNOCK repeated a hundred times makes no hundred answers', async () => {
  await mallory.knock(bob.amid)
  const before = mallory.packets.length
  let sent = 0
  for (let round = 0; round < 100; round++) {
    const result = await mallory.send(bob.amid, 'knock', mallory.knockPacket)
    if (result.status === 'delivered') sent++
  }
  expect(sent).toBe(100)
  await mallory.say('request', { intent: FLIGHTS, parameters: { n: 1 } })
  await mallory.until(() => mallory.envelopes.some(({ type }) => type === 'response'))
  expect(mallory.packets.slice(before).filter(({ type }) => type === 'accept').length).toBeLessThan(40)
})

test('a RESET about a session of others ends nothing', async () => {
  const alice = await network.agent('alice')
  const sent = await alice.send(bob.amid, { intent: FLIGHTS, parameters: { n: 1 } })
  await sent.answer()
  const refused = once(bob.events, 'refused')
  await mallory.send(bob.amid, 'reset', new TextEncoder().encode('{"type":"reset"}'))
  await refused
  expect(bob.sessions()).toMatchObject([{ state: 'open' }])
})

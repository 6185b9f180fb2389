/** What floods of valid and worthless packets cost an agent, and whom else they cost something. */
import { join } from 'node:path'
import { readAuditLog, type Agent } from '@agentmesh/sdk'
import { systemRandom } from '@agentmesh/sdk/crypto/signing'
import { encodeSessionPacket, newSessionId } from '@agentmesh/sdk/wire'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { HostilePeer } from '../support/hostile-peer.ts'
import { FLIGHTS, TestNetwork } from '../support/network.ts'

let network: TestNetwork
let bob: Agent
let peers: HostilePeer[]

const ask = (n: unknown) => ({ intent: FLIGHTS, parameters: { n } })

async function hostile(registered = true): Promise<HostilePeer> {
  const peer = await HostilePeer.open(network, registered)
  peers.push(peer)
  return peer
}

beforeEach(async () => {
  network = await TestNetwork.start()
  peers = []
  bob = await network.agent('bob')
  bob.on('request', ({ payload }) => ({ results: payload.parameters['n'] }))
})
afterEach(async () => {
  await Promise.all(peers.map((peer) => peer.close()))
  await network.close()
})

/** Packets that came, by the relay's type. */
const came = (peer: HostilePeer, type: string): number =>
  peer.packets.filter((packet) => packet.type === type).length

/** A packet of a session that nobody has: worth one RESET. */
function lost(): Uint8Array {
  const ratchetMessage = crypto.getRandomValues(new Uint8Array(200))
  return encodeSessionPacket({ sessionId: newSessionId(systemRandom), ratchetMessage })
}

test('ten strangers who provoke RESETs without end do not use up that of a peer which needs one', async () => {
  const attackers = await Promise.all(Array.from({ length: 12 }, () => hostile(false)))
  for (let round = 0; round < 12; round++) {
    await Promise.all(attackers.map((peer) => peer.send(bob.amid, 'message', lost())))
  }
  // Nobody of them gets more than a few, all together no more than the shares for strangers.
  const resets = attackers.map((peer) => came(peer, 'reset'))
  expect(Math.max(...resets)).toBeLessThan(8)
  expect(resets.reduce((sum, count) => sum + count, 0)).toBeLessThan(60)
  const honest = await hostile(false)
  await honest.send(bob.amid, 'message', lost())
  await honest.until(() => came(honest, 'reset') > 0)
  expect(came(honest, 'reset')).toBe(1)
})

test('a peer of a session gets its RESET while strangers provoke them', async () => {
  const honest = await hostile()
  await honest.knock(bob.amid)
  const attackers = await Promise.all(Array.from({ length: 70 }, () => hostile(false)))
  for (let round = 0; round < 2; round++) {
    await Promise.all(attackers.map((peer) => peer.send(bob.amid, 'message', lost())))
  }
  await honest.send(bob.amid, 'message', lost())
  await honest.until(() => came(honest, 'reset') > 0)
  expect(came(honest, 'reset')).toBe(1)
})
test('one accepted packet said a thousand times costs a handful of receipts, and they still come', async () => {
  const mallory = await hostile()
  await mallory.knock(bob.amid)
  const packet = mallory.make('status', { status: 'waiting' })
  await mallory.send(bob.amid, 'message', packet)
  const receipts = (): number => mallory.envelopes.filter(({ type }) => type === 'receipt').length
  await mallory.until(() => receipts() === 1)
  const began = Date.now()
  for (let round = 0; round < 1000 || Date.now() < began + 2_500; round++) {
    await mallory.send(bob.amid, 'message', packet)
  }
  await mallory.until(() => receipts() > 1)
  const seconds = (Date.now() - began) / 1000
  expect(receipts()).toBeLessThan(3 + seconds)
})

test('a flood of receipts that confirm nothing ends the session', async () => {
  const mallory = await hostile()
  await mallory.knock(bob.amid)
  for (let said = 0; said < 400 && bob.sessions()[0]!.state === 'open'; said++) {
    await mallory.say('receipt', mallory.receipts())
  }
  expect(bob.sessions()).toMatchObject([{ state: 'closed', close_reason: 'limit' }])
  // And nothing is read on the closed one either: each of them is one more of a count, and no line of the log.
  const refused: string[] = []
  bob.events.on('refused', ({ code }) => void refused.push(code))
  for (let said = 0; said < 20; said++) await mallory.say('receipt', mallory.receipts())
  expect(refused.filter((code) => code === 'RATE_LIMITED').length).toBeGreaterThan(15)
})

test('requests that take for ever do not keep those of others from the application', async () => {
  const mallory = await hostile()
  const alice = await network.agent('alice')
  let release = (): void => {}
  const held = new Promise<void>((resolve) => (release = resolve))
  bob.on('request', async ({ from, payload }) => {
    if (from === mallory.amid) await held
    return { results: payload.parameters['n'] }
  })
  await mallory.knock(bob.amid)
  for (let n = 0; n < 60; n++) await mallory.say('request', ask(n))
  const sent = await alice.send(bob.amid, ask('alice'))
  expect(await sent.answer({ timeoutSeconds: 20 })).toMatchObject({ payload: { results: 'alice' } })
  release()
  const responses = (): number => mallory.envelopes.filter(({ type }) => type === 'response').length
  await mallory.until(() => responses() === 60)
})
test('hundreds of KNOCKs turned away are a few lines and a count, and push no decision out', async () => {
  const mallory = await hostile()
  await mallory.knock(bob.amid)
  const others = await Promise.all(Array.from({ length: 3 }, () => hostile(false)))
  const delivered = new Map<string, number>()
  for (let round = 0; round < 150; round++) {
    const knock = Uint8Array.from(mallory.knockPacket)
    crypto.getRandomValues(knock.subarray(knock.length - 100))
    for (const peer of others) {
      const { status } = await peer.send(bob.amid, 'knock', knock)
      if (status === 'delivered') delivered.set(peer.amid, (delivered.get(peer.amid) ?? 0) + 1)
    }
  }
  expect(bob.decisions().length).toBeLessThan(40)
  expect(bob.decisions({ from: mallory.amid })).toHaveLength(1)
  await bob.close()
  const lines = [...readAuditLog(join(bob.home, 'logs'))].filter(({ event }) => event === 'knock_received')
  expect(lines.length).toBeLessThan(60)
  for (const { amid } of others) {
    const own = lines.filter(({ from }) => from === amid)
    const knocks = own.reduce((sum, { count }) => sum + (typeof count === 'number' ? count : 1), 0)
    expect(knocks).toBeGreaterThan(100)
    expect(knocks).toBe(delivered.get(amid))
  }
})

/** KNOCKs nobody can open: what becomes of an honest sender's, and what a stranger gets for a thousand of them. */
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Agent } from '@agentmesh/sdk'
import { Home, openIdentity } from '@agentmesh/sdk/identity'
import {
  decodeKnockPacket,
  encodeKnockHeader,
  encodeKnockPacket,
  toBase64,
  type AgentRecord,
  type KnockHeader,
} from '@agentmesh/sdk/wire'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { StateStore } from '../../packages/sdk/src/agent/store/index.ts'
import { TABLES } from '../../packages/sdk/src/agent/tables.ts'
import { createReset, knockHash, readReset } from '../../packages/sdk/src/session/index.ts'
import { systemRandom } from '@agentmesh/sdk/crypto/signing'
import { HostilePeer } from '../support/hostile-peer.ts'
import { HostileRelay } from '../support/hostile-relay.ts'
import { FLIGHTS, stagesOf, TestNetwork } from '../support/network.ts'

let network: TestNetwork

const ask = (n: unknown) => ({ intent: FLIGHTS, parameters: { n } })

beforeEach(async () => {
  network = await TestNetwork.start()
})
afterEach(() => network.close())

/** Deletes the exchange keys of a closed agent, as a damaged row would be dropped. */
async function loseExchangeKeys(agent: Agent): Promise<void> {
  const home = Home.open(agent.home)
  const { storageKey } = openIdentity(home)
  const store = StateStore.open(join(agent.home, 'state.db'), storageKey, {
    tables: TABLES,
    random: systemRandom,
  })
  const lost = await store.commit(({ keys }) => {
    const rows = keys.list({ a: 'ik' })
    for (const { key } of rows) keys.delete(key)
    return rows.length
  })
  store.close()
  expect(lost).toBeGreaterThan(0)
}

test('a KNOCK that waited for a receiver which lost its exchange key is made anew, and answered', async () => {
  const alice = await network.agent('alice')
  let bob = await network.agent('bob')
  await bob.close()
  const sent = await alice.send(bob.amid, ask(1))
  await expect.poll(async () => alice.status().outbox.queued).toBe(1)
  for await (const { stage } of sent.progress()) if (stage === 'stored') break
  await loseExchangeKeys(bob)
  bob = await network.agent('bob')
  bob.on('request', ({ payload }) => ({ results: payload.parameters['n'] }))
  expect(await sent.answer({ timeoutSeconds: 20 })).toMatchObject({ payload: { results: 1 } })
})

test('a peer that can open none of our KNOCKs: the message fails with a clear error, not after days', async () => {
  const relay = await HostileRelay.start()
  const bob = await network.agent('bob', { relays: [relay.url] })
  const { signing, amid } = openIdentity(Home.open(bob.home))
  const alice = await network.agent('alice', { relays: [relay.url] })
  const knocks = new Set<string>()
  relay.mischief = (message) => {
    if (message.type !== 'knock') return [message]
    const hash = toBase64(knockHash(message.payload))
    knocks.add(hash)
    const notice = { to: alice.amid, about: { knock_hash: hash }, packet: message.payload } as const
    const payload = createReset({ signing, amid }, { ...notice, reason: 'undecryptable' }, Date.now())
    return [{ from: bob.amid, to: alice.amid, type: 'reset', payload }]
  }
  const sent = await alice.send(bob.amid, ask(1))
  await expect(sent.answer({ timeoutSeconds: 45 })).rejects.toMatchObject({ code: 'KNOCK_UNANSWERED' })
  // Each under keys fetched anew; the last attempts well apart.
  expect(knocks.size).toBeGreaterThan(2)
  expect(knocks.size).toBeLessThan(10)
  expect((await stagesOf(sent)).at(-1)?.message).toContain('could not open')
  await relay.close()
})

test('a stranger whose KNOCKs do not open gets a few RESETs, each smaller than what it sent', async () => {
  const bob = await network.agent('bob')
  const mallory = await HostilePeer.open(network)
  await mallory.knock(bob.amid)
  const before = mallory.packets.length
  let size = Infinity
  for (let round = 0; round < 100; round++) {
    const packet = Uint8Array.from(mallory.knockPacket)
    // Header and prekeys are those of a KNOCK that has not been seen; what is sealed is not.
    crypto.getRandomValues(packet.subarray(packet.length - 200))
    size = packet.length
    await mallory.send(bob.amid, 'knock', packet)
  }
  await mallory.say('request', ask(1))
  const resets = mallory.packets.slice(before).filter(({ type }) => type === 'reset')
  expect(resets.length).toBeLessThan(8)
  for (const { payload } of resets) expect(payload.length).toBeLessThan(size)
  await mallory.close()
})

/** What the registry gives of an agent's keys. */
async function published(agent: Agent): Promise<object> {
  const answer = await fetch(`${network.registry.url}/v1/registry/lookup?amid=${agent.amid}`)
  const { sequence, public_keys } = (await answer.json()) as AgentRecord
  return { sequence, public_keys }
}

function rotations(agent: Agent): object {
  const { signed_prekey_rotates_at, exchange_key_rotates_at } = agent.status().prekeys
  return { signed_prekey_rotates_at, exchange_key_rotates_at }
}

test('KNOCKs that name prekeys which were never given out change no key, and honest peers go on with theirs', async () => {
  const bob = await network.agent('bob')
  bob.on('request', ({ payload }) => ({ results: payload.parameters['n'] }))
  const alice = await network.agent('alice')
  await (await alice.send(bob.amid, ask(1), { sessionType: 'conversation' })).answer()
  const before = { ...(await published(bob)), ...rotations(bob) }
  const mallory = await HostilePeer.open(network)
  await mallory.knock(bob.amid)
  const { header, sealedKnock } = decodeKnockPacket(mallory.knockPacket)
  const ids: Partial<KnockHeader>[] = [
    { signedPrekeyId: 0x7fff_ffff },
    { signedPrekeyId: header.signedPrekeyId + 1 },
    { oneTimePrekeyId: header.oneTimePrekeyId! + 1000 },
    { kemPrekeyId: header.kemPrekeyId + 1000 },
    { kemPrekeyId: 0xffff_ffff, kemKind: 'last-resort' },
  ]
  for (const changed of ids) {
    const packet = encodeKnockPacket(encodeKnockHeader({ ...header, ...changed }), sealedKnock)
    await mallory.send(bob.amid, 'knock', packet)
  }
  // Behind them, so that they were all looked at.
  await mallory.say('request', ask(2))
  expect({ ...(await published(bob)), ...rotations(bob) }).toEqual(before)
  await (await alice.send(bob.amid, ask(3), { sessionType: 'conversation' })).answer()
  // One KNOCK for both messages: the session was not passed over.
  expect(alice.sessions()).toHaveLength(1)
  await mallory.close()
})

test('a KNOCK that was let in uses its one-time keys up: another one made with them opens nothing', async () => {
  const bob = await network.agent('bob')
  const mallory = await HostilePeer.open(network)
  await mallory.knock(bob.amid)
  const { header, sealedKnock } = decodeKnockPacket(mallory.knockPacket)
  // Another ephemeral key, so that it is no KNOCK that was seen.
  const changed = { ...header, ephemeralKey: crypto.getRandomValues(new Uint8Array(32)) }
  const before = mallory.packets.length
  await mallory.send(bob.amid, 'knock', encodeKnockPacket(encodeKnockHeader(changed), sealedKnock))
  await mallory.until(() => mallory.packets.length > before)
  expect(readReset(mallory.packets.at(-1)!.payload).reason).toBe('prekey_unknown')
  await mallory.close()
})

/** The nonce of every KNOCK made with it is the same; each of its keys is its own. */
function oneNonce(): (length: number) => Uint8Array {
  let before = 0
  return (length) => {
    // It is drawn after the 64 bytes of a KEM seed.
    const isNonce = before === 64 && length === 32
    before = length
    return isNonce ? new Uint8Array(32).fill(7) : systemRandom(length)
  }
}

/** Lines of the audit log about KNOCKs of one sender; the agent must be closed. */
function knocksInLog({ home }: Agent, from: string): string[] {
  const folder = join(home, 'logs')
  const lines = readdirSync(folder).flatMap((file) => readFileSync(join(folder, file), 'utf8').split('\n'))
  return lines.filter((line) => line.includes('"knock_received"') && line.includes(from))
}

test('one nonce under two headers is decided once, logged once and answered once', async () => {
  const bob = await network.agent('bob')
  const mallory = await HostilePeer.open(network)
  const draw = oneNonce()
  await mallory.makeKnock(bob.amid, 'stream', FLIGHTS, draw)
  const second = mallory.knockPacket
  await mallory.makeKnock(bob.amid, 'stream', FLIGHTS, draw)
  const first = mallory.knockPacket
  expect(second).not.toEqual(first)
  expect(await mallory.send(bob.amid, 'knock', first)).toMatchObject({ status: 'delivered' })
  await mallory.until(() => mallory.session !== undefined)
  expect(await mallory.send(bob.amid, 'knock', second)).toMatchObject({ status: 'delivered' })
  // An answer would have left before this one's.
  await mallory.send(bob.amid, 'knock', first)
  await mallory.until(() => mallory.packets.filter(({ type }) => type === 'accept').length >= 2)
  const answers = mallory.packets.filter(({ type }) => type === 'accept' || type === 'reject')
  expect(answers.map(({ payload }) => toBase64(payload))).toEqual([
    toBase64(answers[0]!.payload),
    toBase64(answers[0]!.payload),
  ])
  expect(bob.decisions({ from: mallory.amid })).toHaveLength(1)
  expect(bob.sessions()).toHaveLength(1)
  await bob.close()
  expect(knocksInLog(bob, mallory.amid)).toHaveLength(1)
  await mallory.close()
})

test('a copy of a KNOCK that somebody else sends gets not its answer, and takes not its place', async () => {
  const bob = await network.agent('bob')
  const mallory = await HostilePeer.open(network)
  const eve = await HostilePeer.open(network)
  await eve.makeKnock(bob.amid)
  // Before it came, and after it was answered.
  await mallory.send(bob.amid, 'knock', eve.knockPacket)
  expect(bob.decisions({ from: eve.amid })).toEqual([])
  await eve.send(bob.amid, 'knock', eve.knockPacket)
  await eve.until(() => eve.session !== undefined)
  await mallory.send(bob.amid, 'knock', eve.knockPacket)
  expect(bob.decisions({ from: eve.amid })).toMatchObject([{ from: eve.amid, accepted: true }])
  for (const decision of bob.decisions({ from: mallory.amid })) expect(decision.accepted).toBe(false)
  expect(bob.sessions()).toMatchObject([{ peer: eve.amid }])
  expect(mallory.packets.filter(({ type }) => type === 'accept' || type === 'reject')).toEqual([])
  await bob.close()
  expect(knocksInLog(bob, eve.amid)).toHaveLength(1)
  await eve.close()
  await mallory.close()
})

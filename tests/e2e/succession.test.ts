/** An owner whose key is gone goes on as another agent: the command, the registry, peers that are told, and liars. */
import { join } from 'node:path'
import {
  type Agent,
  AgentClient,
  defaultPolicy,
  readAuditLog,
  type Amid,
  type Succession,
} from '@agentmesh/sdk'
import { systemRandom } from '@agentmesh/sdk/crypto/signing'
import {
  Home,
  openIdentity,
  newRecoveryWords,
  recoveryKeyPair,
  signSuccession,
} from '@agentmesh/sdk/identity'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { HttpRegistryClient } from '../../packages/sdk/src/discovery/index.ts'
import { CertifiedNetwork } from '../support/certified-network.ts'
import type { CertifiedRegistry } from '../support/certified-registry.ts'
import { FLIGHTS } from '../support/network.ts'
import { startDaemon } from '../support/processes.ts'
import { errorCode, run } from './cli-harness.ts'

const QUESTION = { intent: FLIGHTS, parameters: {} }
let network: CertifiedNetwork
let registry: CertifiedRegistry

beforeAll(async () => {
  network = await CertifiedNetwork.start()
  registry = network.registry
})
afterAll(() => network.close())

const agent = (name: string) => network.agent(name)

/** Brings a statement to the registry as the new agent. */
async function bring(by: Agent, words: string, old: Amid): Promise<Succession> {
  const identity = openIdentity(Home.open(by.home))
  const statement = signSuccession(recoveryKeyPair(words), old, by.amid, Date.now())
  const client = new HttpRegistryClient(registry.registry.url, identity, {
    now: Date.now,
    random: systemRandom,
  })
  await client.succession(statement)
  client.close()
  return statement
}

const events = (home: string, event: string) =>
  [...readAuditLog(join(home, 'logs'))].filter((line) => line.event === event)

async function accepted(from: Agent, to: Amid): Promise<boolean> {
  const sent = await from.send(to, QUESTION)
  for await (const { stage } of sent.progress()) {
    if (stage === 'accepted') return true
  }
  return false
}

test('the owner goes on as a new agent by the recovery words; a peer is told and decides by hand', async () => {
  const home = network.home('bob')
  const daemon = startDaemon(home, network.config('bob'))
  network.closeFirst(() => daemon.end())
  const { amid: bob } = await daemon.ready<{ amid: Amid }>()
  await daemon.line((line) => line['online'] === true)
  const client = new AgentClient(home)
  const alice = await agent('alice')
  await registry.verify(alice, 'Alice A.')
  await client.setPolicy({ ...defaultPolicy(), strict_mode: true, allowlist: [alice.amid] })
  // Bob's agent sees the recovery key while alice still has hers.
  expect(await accepted(alice, bob)).toBe(true)
  await client.refreshTrust()
  const words = alice.recoveryWords ?? ''
  await alice.close()

  const heir = await agent('heir')
  const succeed = (typed: string) => run(['succession', alice.amid, '--home', heir.home, '--json'], {}, typed)
  expect(errorCode(await succeed(newRecoveryWords(systemRandom)))).toBe('INVALID_SIGNATURE')
  const taken = await succeed(words)
  expect(JSON.parse(taken.stdout)).toMatchObject({ old_amid: alice.amid, new_amid: heir.amid, revoked: 1 })
  await heir.trust.refresh()
  expect(heir.status().trust).toMatchObject({ tier: 'verified', display_name: 'Alice A.' })

  // A new AMID is a stranger to bob's policy, and its KNOCK is what tells bob whose successor it says to be.
  expect(await accepted(heir, bob)).toBe(false)
  const told = await daemon.line((line) => line['about'] === 'succession')
  expect(told['text']).toContain(`agentmesh trust accept-successor ${alice.amid} ${heir.amid}`)
  const shown = { old_amid: alice.amid, new_amid: heir.amid }
  expect((await client.status()).successors).toMatchObject([{ ...shown, state: 'offered' }])
  expect((await client.policy()).allowlist).toEqual([alice.amid])
  expect(events(home, 'succession_shown')).toMatchObject([{ ...shown, result: 'offered' }])

  await expect(client.acceptSuccessor(heir.amid, alice.amid)).rejects.toMatchObject({
    code: 'SUCCESSION_UNKNOWN',
  })
  const by = ['trust', 'accept-successor', alice.amid, heir.amid, '--home', home, '--json']
  expect((await run(by)).code).toBe(0)
  expect(await client.policy()).toMatchObject({ allowlist: [heir.amid], blocklist: [alice.amid] })
  const open = (await client.sessions()).filter(({ state }) => state === 'open')
  expect(open).toEqual([])
  expect(events(home, 'succession_accepted')).toMatchObject([{ ...shown, by: 'cli' }])
  expect((await client.status()).successors).toEqual([])
  await expect(client.send(alice.amid, QUESTION)).rejects.toMatchObject({ code: 'AMID_SUCCEEDED' })
  expect(await accepted(heir, bob)).toBe(true)
  // Asked again, the same statement is no news.
  await client.refreshTrust()
  expect(events(home, 'succession_shown')).toHaveLength(1)
})

test('liars: another recovery key, a second successor, a stranger who names nobody we know', async () => {
  const [carol, dave, heir, thief] = [
    await agent('carol'),
    await agent('dave'),
    await agent('dora'),
    await agent('thief'),
  ]
  carol.on('request', () => ({ results: {} }))
  carol.allow(dave.amid)
  await carol.trust.refresh()
  // Who names itself the successor of somebody carol never met is a stranger like any other.
  const nobody = await agent('nobody')
  await bring(thief, nobody.recoveryWords ?? '', nobody.amid)
  await accepted(thief, carol.amid)
  await carol.trust.refresh()
  expect(carol.successions.list()).toEqual([])

  // A registry that lies, or that a thief got hold of: the statement it shows is by a key of the thief's.
  const forged = signSuccession(
    recoveryKeyPair(newRecoveryWords(systemRandom)),
    dave.amid,
    thief.amid,
    Date.now(),
  )
  await registry.plantSuccession(forged)
  await carol.trust.refresh()
  await carol.trust.refresh()
  expect(carol.successions.list()).toEqual([])
  expect(events(carol.home, 'succession_shown')).toMatchObject([{ new_amid: thief.amid, result: 'refused' }])
  await expect(carol.successions.accept(dave.amid, thief.amid)).rejects.toMatchObject({
    code: 'SUCCESSION_UNKNOWN',
  })

  // The owner names two, at two registries: carol hears of both, and takes one.
  await registry.plantSuccession(
    signSuccession(recoveryKeyPair(dave.recoveryWords ?? ''), dave.amid, heir.amid, Date.now()),
  )
  await carol.trust.refresh()
  const words = dave.recoveryWords ?? ''
  await registry.plantSuccession(signSuccession(recoveryKeyPair(words), dave.amid, thief.amid, Date.now()))
  await carol.trust.refresh()
  expect(carol.successions.list().map(({ new_amid }) => new_amid)).toEqual([heir.amid, thief.amid])
  expect(carol.status().notices.at(-1)?.text).toContain('second successor')
  expect(carol.policy().allowlist).toEqual([dave.amid])
  await carol.successions.accept(dave.amid, heir.amid)
  await expect(carol.successions.accept(dave.amid, thief.amid)).rejects.toMatchObject({
    code: 'SUCCESSION_REFUSED',
  })
  expect(carol.policy().allowlist).toEqual([heir.amid])

  // A successor of the successor is accepted by itself, and nobody comes back.
  const third = await agent('third')
  await carol.trust.refresh()
  await bring(third, heir.recoveryWords ?? '', heir.amid)
  await carol.trust.refresh()
  expect(carol.policy().allowlist).toEqual([heir.amid])
  await carol.successions.accept(heir.amid, third.amid)
  expect(carol.policy().allowlist).toEqual([third.amid])
  await registry.plantSuccession(
    signSuccession(recoveryKeyPair(third.recoveryWords ?? ''), third.amid, dave.amid, Date.now()),
  )
  await carol.trust.refresh()
  await expect(carol.successions.accept(third.amid, dave.amid)).rejects.toMatchObject({
    code: 'SUCCESSION_REFUSED',
  })
})

/** What a running daemon does when time passes and registries fail: renewal, stale revocation lists, a log with two stories. */
import { copyFileSync, existsSync, renameSync, rmSync, symlinkSync } from 'node:fs'
import { join } from 'node:path'
import { type Agent, AgentClient, defaultPolicy, readAuditLog, type Amid, type Policy } from '@agentmesh/sdk'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { CertifiedNetwork, knock as knockOn, refreshed } from '../support/certified-network.ts'
import type { CertifiedRegistry } from '../support/certified-registry.ts'
import { startDaemon, type Program } from '../support/processes.ts'

const HOUR = 3_600_000
const DAY = 24 * HOUR
let network: CertifiedNetwork
let offset: number
let registry: CertifiedRegistry
let daemon: Program
let home: string
let client: AgentClient
let bob: Amid
const clock = (): number => Date.now() + offset

const clockFile = () => network.home('clock')

/** Everybody's clock. */
function setClock(milliseconds: number): void {
  offset = milliseconds
  symlinkSync(String(milliseconds), `${clockFile()}.next`)
  renameSync(`${clockFile()}.next`, clockFile())
}

beforeEach(async () => {
  offset = 0
  // Revocation lists can be used up, and then are not to be had.
  network = await CertifiedNetwork.start(clock, { listsPerIp: { perSecond: 1e-9, burst: 60 } })
  registry = network.registry
  setClock(0)
  home = network.home('bob')
  client = new AgentClient(home)
  bob = await startBob()
})
afterEach(async () => {
  await daemon.end()
  await network.close()
})

async function startBob(): Promise<Amid> {
  daemon = startDaemon(home, network.config('bob'), { clockFile: clockFile() })
  const { amid } = await daemon.ready<{ amid: Amid }>()
  await daemon.line((line) => line['online'] === true)
  return amid
}

/** What bob's daemon found of a KNOCK's certificates. */
const knock = (from: Agent) => knockOn(from, bob, () => client.decisions(from.amid))

/** With what SQLite has not written into the file itself. */
function copyDatabase(from: string, to: string): void {
  for (const part of ['', '-wal', '-shm']) {
    rmSync(to + part, { force: true })
    if (existsSync(from + part)) copyFileSync(from + part, to + part)
  }
}

const audited = (event: string) =>
  [...readAuditLog(join(home, 'logs'))].filter((line) => line.event === event)
const setPolicy = (changes: Partial<Policy>) => client.setPolicy({ ...defaultPolicy(), ...changes })

test('a daemon renews its certificate when a third of its life is left, and not before', async () => {
  await registry.verifyAmid(bob, 'Bob')
  await client.refreshTrust()
  const first = (await client.status()).trust.certificate_expires_at ?? ''
  setClock(19 * DAY)
  await client.refreshTrust()
  expect((await client.status()).trust.certificate_expires_at).toBe(first)
  setClock(21 * DAY)
  await client.refreshTrust()
  const { trust } = await client.status()
  expect(trust).toMatchObject({ tier: 'verified', display_name: 'Bob' })
  const gained = Date.parse(trust.certificate_expires_at ?? '') - Date.parse(first)
  expect(Math.round(gained / DAY)).toBe(21)
  expect(audited('certificate_renewed')).toHaveLength(2)
})

test('with a stale revocation list a daemon does what its owner chose', async () => {
  const alice = await network.agent('alice')
  await registry.verify(alice, 'Alice')
  // A slow machine may not have fetched its lists within the time that a KNOCK waits for them.
  await client.refreshTrust()
  expect(await knock(alice)).toMatchObject({ tier: 'verified', revocation: 'good' })
  const list = `${registry.registry.url}/v1/registry/crl/${'0'.repeat(40)}`
  while ((await fetch(list)).status !== 429);
  setClock(26 * HOUR)
  expect(await knock(alice)).toMatchObject({ tier: 'anonymous', chain: 'valid', revocation: 'unknown' })
  await setPolicy({ unknown_revocation: 'accept' })
  expect(await knock(alice)).toMatchObject({ tier: 'verified', chain: 'valid', revocation: 'unknown' })
  await setPolicy({ unknown_revocation: 'anonymous', accept_tiers: [1, 1.5] })
  await knock(alice)
  expect((await client.decisions(alice.amid))[0]).toMatchObject({
    accepted: false,
    reason: 'insufficient_trust',
  })
})

test('a registry whose log tells two stories counts for nothing until the owner adds it again', async () => {
  const [alice, mallory] = [await network.agent('alice'), await network.agent('mallory')]
  await registry.restart((data) => copyDatabase(data, `${data}.old`))
  await registry.verifyAmid(alice.amid, 'Alice')
  await expect.poll(() => refreshed(() => alice.trust.refresh()), { timeout: 10_000 }).toBe(true)
  await expect.poll(() => refreshed(() => client.refreshTrust()), { timeout: 10_000 }).toBe(true)
  await setPolicy({ accept_tiers: [1, 1.5] })
  expect(await knock(alice)).toMatchObject({ tier: 'verified', chain: 'valid', revocation: 'good' })
  const open = async () => (await client.sessions()).filter(({ state }) => state === 'open').length
  expect(await open()).toBe(1)

  // The other story: what was certified for alice was not, and somebody else was.
  await registry.restart((data) => copyDatabase(`${data}.old`, data))
  for (const name of ['M', 'N']) await registry.verifyAmid(mallory.amid, name, 'M')
  const inconsistent = async () => {
    await refreshed(() => client.refreshTrust())
    return (await client.status()).trust.inconsistent
  }
  await expect.poll(inconsistent, { timeout: 10_000 }).toEqual(['home'])
  expect((await client.status()).trust).toMatchObject({ registries: ['home'], inconsistent: ['home'] })
  expect(audited('registry_inconsistent')).toMatchObject([
    { registry: 'home', fingerprint: registry.fingerprint },
  ])
  const told = await daemon.line((line) => line['about'] === 'trust')
  expect(told['text']).toContain('counts for nothing here, until you remove it and add it again')
  // What rested on its word is over, and nothing new does.
  await expect.poll(open, { timeout: 10_000 }).toBe(0)
  expect(await knock(alice)).toMatchObject({ tier: 'anonymous', chain: 'log_inconsistent', registry: 'home' })
  expect((await client.decisions(alice.amid))[0]).toMatchObject({
    accepted: false,
    reason: 'insufficient_trust',
  })

  // It does not come back by itself: neither by a restart, nor when the owner removes it.
  await daemon.end()
  await startBob()
  expect((await client.status()).trust).toMatchObject({ inconsistent: ['home'] })
  await client.distrustRegistry('home')
  await client.refreshTrust()
  expect(await client.trustedRegistries()).toEqual([])
  expect(await knock(alice)).toMatchObject({ tier: 'anonymous', chain: 'unknown_root' })
  await client.trustRegistry(registry.registry.url, registry.fingerprint)
  await client.refreshTrust()
  expect(await client.trustedRegistries()).toMatchObject([{ name: 'home', by: 'owner' }])
  expect(await knock(alice)).toMatchObject({ tier: 'verified' })
})

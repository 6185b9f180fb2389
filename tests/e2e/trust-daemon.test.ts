/** What a running daemon does when time passes and registries fail: renewal, stale revocation lists, a log with two stories. */
import { copyFileSync, existsSync, mkdtempSync, renameSync, rmSync, symlinkSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { startRelay, type RunningRelay } from '@agentmesh/relay'
import {
  Agent,
  AgentClient,
  defaultPolicy,
  readAuditLog,
  type Amid,
  type JsonValue,
  type Policy,
} from '@agentmesh/sdk'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { CertifiedRegistry } from '../support/certified-registry.ts'
import { FLIGHTS } from '../support/network.ts'
import { startDaemon, type Program } from '../support/processes.ts'

const HOUR = 3_600_000
const DAY = 24 * HOUR
let folder: string
let clockFile: string
let offset: number
let relay: RunningRelay
let registry: CertifiedRegistry
let daemon: Program
let home: string
let client: AgentClient
let bob: Amid
const closing: (() => Promise<unknown>)[] = []
const clock = (): number => Date.now() + offset

/** Everybody's clock. */
function setClock(milliseconds: number): void {
  offset = milliseconds
  symlinkSync(String(milliseconds), `${clockFile}.next`)
  renameSync(`${clockFile}.next`, clockFile)
}

beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), 'agentmesh-trust-daemon-'))
  clockFile = join(folder, 'clock')
  setClock(0)
  relay = await startRelay({ dataPath: join(folder, 'relay.db'), now: clock })
  // Revocation lists can be used up, and then are not to be had.
  const limits = { listsPerIp: { perSecond: 1e-9, burst: 60 } }
  registry = await CertifiedRegistry.start(folder, 'home', clock, limits)
  home = join(folder, 'bob')
  daemon = startDaemon(home, config('bob'), { clockFile })
  bob = (await daemon.ready<{ amid: Amid }>()).amid
  await daemon.line((line) => line['online'] === true)
  client = new AgentClient(home)
})
afterEach(async () => {
  for (const close of closing.splice(0).toReversed()) await close()
  await daemon.end()
  await registry.close()
  await relay.close()
  rmSync(folder, { recursive: true, force: true })
})

const config = (name: string) => ({
  relays: [relay.url],
  registry: registry.registry.url,
  display_name: name,
})

async function agent(name: string): Promise<Agent> {
  const opened = await Agent.open({ home: join(folder, name), config: config(name), now: clock })
  closing.push(() => opened.close())
  await opened.ready()
  return opened
}

/** What bob's daemon found of a KNOCK's certificates. */
async function knock(from: Agent): Promise<Record<string, JsonValue>> {
  for (const { session_id, state } of from.sessions())
    if (state === 'open') await from.killSession(session_id)
  const sent = await from.send(bob, { intent: FLIGHTS, parameters: {} })
  for await (const { stage } of sent.progress()) if (stage === 'accepted' || stage === 'rejected') break
  const [decision] = await client.decisions(from.amid)
  return { ...decision?.trace.find(({ rule }) => rule === 'certificate')?.inputs }
}

/** With what SQLite has not written into the file itself. */
function copyDatabase(from: string, to: string): void {
  for (const part of ['', '-wal', '-shm']) {
    rmSync(to + part, { force: true })
    if (existsSync(from + part)) copyFileSync(from + part, to + part)
  }
}

/** False while connections to a registry that was restarted are found broken. */
async function refreshed(refresh: () => Promise<void>): Promise<boolean> {
  try {
    await refresh()
    return true
  } catch {
    return false
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
  const alice = await agent('alice')
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
  const [alice, mallory] = [await agent('alice'), await agent('mallory')]
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
  daemon = startDaemon(home, config('bob'), { clockFile })
  await daemon.line((line) => line['online'] === true)
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

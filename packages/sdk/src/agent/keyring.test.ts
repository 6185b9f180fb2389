/** The keyring against a registry of its own, which a stranger drains. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import type { RegistryClient } from '../discovery/index.ts'
import { readAuditLog } from '../observability/index.ts'
import type { PrekeyUpload } from '../wire/index.ts'
import type { Core } from './core.ts'
import { Keyring } from './keyring.ts'
import { openCore, type OpenedCore } from './open-core.ts'
import { Registries } from './trust/registries.ts'
import type { Notice } from './types.ts'

let folder: string
let opened: OpenedCore
let core: Core
let now: number
let notices: Notice[]
/** Keys of each kind that lie at the registry, newest 100. */
let stored: { opk: number[]; kem: number[] }

const counts = () => ({
  one_time_prekeys: stored.opk.length,
  one_time_kem_prekeys: stored.kem.length,
  ...(stored.opk.length === 0 ? {} : { highest_one_time_prekey_id: Math.max(...stored.opk) }),
  ...(stored.kem.length === 0 ? {} : { highest_one_time_kem_prekey_id: Math.max(...stored.kem) }),
})

beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), 'agentmesh-keyring-'))
  now = Date.parse('2026-02-01T12:00:00Z')
  opened = await openCore({ home: join(folder, 'home'), now: () => now })
  stored = { opk: [], kem: [] }
  const registry = {
    prekeyCounts: async () => counts(),
    uploadPrekeys: async (upload: PrekeyUpload) => {
      stored.opk = [...stored.opk, ...upload.one_time_prekeys.map(({ id }) => id)].slice(-100)
      stored.kem = [...stored.kem, ...upload.one_time_kem_prekeys.map(({ id }) => id)].slice(-100)
      return counts()
    },
  } as unknown as RegistryClient
  core = {
    ...opened.core,
    registries: new Registries(
      'http://registry.example',
      () => registry,
      () => [],
    ),
  }
  notices = []
  core.events.on('notice', (notice) => notices.push(notice))
})
afterEach(async () => {
  await core.audit.close()
  opened.release()
  rmSync(folder, { recursive: true })
})

/** So many bundles are fetched, and after ten minutes the agent looks. */
async function fetched(keyring: Keyring, bundles: number): Promise<void> {
  stored.opk.splice(0, bundles)
  stored.kem.splice(0, bundles)
  now += 10 * 60_000
  await keyring.replenish()
}

async function published(): Promise<Keyring> {
  const keyring = new Keyring(core)
  await keyring.rotate()
  await keyring.publish()
  expect(stored.opk).toHaveLength(100)
  return keyring
}

async function drains(): Promise<unknown[]> {
  await core.audit.flush()
  return [...readAuditLog(join(core.home.path, 'logs'))].filter(({ event }) => event === 'prekeys_drained')
}

test('prekeys that are fetched and never used are told to the owner, once, and filled up', async () => {
  const keyring = await published()
  await fetched(keyring, 90)
  expect(notices).toMatchObject([{ about: 'prekeys', text: expect.stringMatching(/^90 one-time prekeys/) }])
  expect(await drains()).toMatchObject([{ taken: 90, seconds: 600 }])
  expect(stored.opk).toHaveLength(100)
  await fetched(keyring, 3)
  expect(notices).toHaveLength(1)
})

test('a few fetches, and one big upload, are no drain', async () => {
  const keyring = await published()
  await fetched(keyring, 40)
  await keyring.rotate(true)
  await keyring.publish()
  await fetched(keyring, 40)
  expect(notices).toEqual([])
  expect(await drains()).toEqual([])
})

test('a drain that goes on for hours does not fill the disk', async () => {
  const keyring = await published()
  for (let round = 0; round < 11; round++) await fetched(keyring, 100)
  const { keys } = core.store.tables
  expect(keys.count({ a: 'opk' })).toBe(1000)
  expect(keys.count({ a: 'pq-one' })).toBe(1000)
  // The newest ones, which lie at the registry, are among those kept.
  for (const id of stored.opk) expect(keys.get(`opk:${id}`)).toBeDefined()
  expect(notices).toHaveLength(11)
})

test('keys made while the clock stood ahead are made anew when it is back, once', async () => {
  const keyring = await published()
  const before = keyring.currentExchangeKey().record
  now += 8 * 86_400_000
  expect(await keyring.rotate()).toBe(true)
  await keyring.publish()
  expect(keyring.currentExchangeKey().record.sequence).toBeGreaterThan(before.sequence)
  const ahead = keyring.currentExchangeKey().record
  const lying = [...stored.opk]
  now -= 8 * 86_400_000
  expect(await keyring.rotate()).toBe(true)
  const { record } = keyring.currentExchangeKey()
  expect(Date.parse(record.created_at)).toBe(now)
  expect(record.sequence).toBeGreaterThan(ahead.sequence)
  await keyring.publish()
  // Nobody takes a one-time key before its date.
  expect(stored.opk.filter((id) => lying.includes(id))).toEqual([])
  expect(await keyring.rotate()).toBe(false)
  // And a week later the next are due, not a week after the clock that was wrong.
  expect(Date.parse(record.created_at) + 7 * 86_400_000).toBe(keyring.status().exchangeKeyRotatesAt)
})

test('a machine that slept for two weeks rotates and fills up at the next look', async () => {
  const keyring = await published()
  const before = keyring.currentExchangeKey().record
  stored = { opk: [], kem: [] }
  now += 14 * 86_400_000
  expect(await keyring.rotate()).toBe(true)
  expect(keyring.currentExchangeKey().record.id).not.toBe(before.id)
  await keyring.replenish()
  expect(stored.opk).toHaveLength(100)
  expect(keyring.status()).toMatchObject({ oneTimeLeft: 100, oneTimeKemLeft: 100 })
})

test('no more than three exchange keys open KNOCKs, however often they are made anew, and those are the newest', async () => {
  const keyring = await published()
  for (let round = 0; round < 20; round++) {
    now += 600_000
    await keyring.rotate(true)
  }
  const rows = core.store.tables.keys.list({ a: 'ik' }).map(({ value }) => value.record.sequence)
  expect(rows).toHaveLength(3)
  expect(Math.max(...rows)).toBe(keyring.currentExchangeKey().record.sequence)
  expect(Math.min(...rows)).toBeGreaterThan(keyring.currentExchangeKey().record.sequence - 1300)
})

test('a registry that says it has keys of the far future is refused, and takes no id from those to come', async () => {
  const keyring = await published()
  stored.opk = [0xffff_ffff - 100]
  keyring.forgetCounts()
  await expect(keyring.publish()).rejects.toMatchObject({ code: 'REGISTRY_ANSWER_INVALID' })
  stored = { opk: [], kem: [] }
  const honest = new Keyring(core)
  await honest.publish()
  expect(stored.opk).toHaveLength(100)
})

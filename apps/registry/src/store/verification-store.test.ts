import { ed25519KeyPair, sha256 } from '@agentmesh/sdk/crypto/signing'
import { amidFromPublicKey } from '@agentmesh/sdk/identity'
import { isAgentMeshError, utf8Bytes, type Amid } from '@agentmesh/sdk/wire'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { onBothEngines } from './test-support-engines.ts'
import type { Store } from './store.ts'
import type { BrowserAttempt, DeviceAttempt } from './verification-store.ts'

const NOW = 1_800_000_000_000
const MINUTE = 60_000
const LIFE = 10 * MINUTE
const amidOf = (name: string): Amid => amidFromPublicKey(ed25519KeyPair(sha256(utf8Bytes(name))).publicKey)
const ALICE = amidOf('alice')
const BOB = amidOf('bob')

const browser = (id: string, fields: Partial<BrowserAttempt> = {}): BrowserAttempt => ({
  id,
  amid: ALICE,
  provider: 'google',
  expiresAt: NOW + LIFE,
  state: `state-${id}`,
  details: { nonce: `nonce-${id}`, redirectUri: 'http://127.0.0.1:5000/callback', codeChallenge: 'c' },
  ...fields,
})
const device = (id: string): DeviceAttempt => ({
  id,
  amid: ALICE,
  provider: 'github',
  expiresAt: NOW + LIFE,
  details: { deviceCode: `device-${id}` },
  intervalSeconds: 5,
})
const email = (id: string, amid = ALICE, expiresAt = NOW + LIFE) => ({
  id,
  amid,
  provider: 'email',
  expiresAt,
})
const bounds = { perAgent: 3, now: NOW }
const sent = (id: string, now = NOW) => ({ id, address: 'hash', code: `code-${id}`, perAddress: 2, now })

/** What every store must do; `reopen` gives a second one on the same database. */
function contract(title: string, open: () => Promise<Store>, reopen: () => Promise<Store>): void {
  describe(title, () => {
    let store: Store
    beforeEach(async () => {
      store = await open()
      for (const amid of [ALICE, BOB]) {
        await store.putAgent(
          {
            amid,
            record: '{}',
            sequence: 1,
            exchangeKey: 'x',
            exchangeSequence: 1,
            recoveryKey: undefined,
            presence: undefined,
            capabilities: [],
          },
          { create: true, maxAgents: 10 },
          NOW,
        )
      }
    })
    afterEach(async () => {
      await store.close()
    })

    it('gives an attempt once, to the agent that started it, in time, through any registry', async () => {
      const other = await reopen()
      await store.verification.addBrowser(browser('a'), bounds)
      expect(await other.verification.takeBrowser('a', BOB, NOW)).toBeUndefined()
      expect(await other.verification.takeBrowser('b', ALICE, NOW)).toBeUndefined()
      expect(await other.verification.takeBrowser('a', ALICE, NOW + LIFE)).toBeUndefined()
      expect(await other.verification.redirectOf('state-a', NOW)).toBe('http://127.0.0.1:5000/callback')
      expect(await other.verification.redirectOf('state-a', NOW + LIFE)).toBeUndefined()
      const takes = await Promise.all(
        [store, other, store, other].map(({ verification }) => verification.takeBrowser('a', ALICE, NOW)),
      )
      await other.close()
      expect(takes.filter((taken) => taken !== undefined)).toEqual([
        { provider: 'google', state: 'state-a', details: browser('a').details },
      ])
      expect(await store.verification.redirectOf('state-a', NOW)).toBeUndefined()
    })

    it('starts nothing for an agent that is not registered', async () => {
      const failure = await store.verification
        .addBrowser(browser('a', { amid: amidOf('nobody') }), bounds)
        .catch((error: unknown) => error)
      expect(isAgentMeshError(failure, 'NOT_REGISTERED')).toBe(true)
    })

    it('lets the oldest attempts of an agent give way, and none of another', async () => {
      await store.verification.addBrowser(browser('bob', { amid: BOB }), bounds)
      for (const index of [1, 2, 3, 4, 5]) {
        await store.verification.addBrowser(browser(`a${index}`, { expiresAt: NOW + index }), bounds)
      }
      const left = await Promise.all(
        [1, 2, 3, 4, 5].map((index) => store.verification.takeBrowser(`a${index}`, ALICE, NOW)),
      )
      expect(left.map((taken) => taken !== undefined)).toEqual([false, false, true, true, true])
      expect(await store.verification.takeBrowser('bob', BOB, NOW)).toBeDefined()
    })

    it('never takes one way for another', async () => {
      await store.verification.addDevice(device('d'), bounds)
      await store.verification.addEmail(email('e'), bounds)
      expect(await store.verification.takeBrowser('d', ALICE, NOW)).toBeUndefined()
      expect(await store.verification.claimDevice('e', ALICE, NOW + MINUTE)).toBeUndefined()
      expect(await store.verification.tryCode('d', ALICE, 5, NOW)).toBeUndefined()
      expect(await store.verification.sendCode(sent('d'))).toBe(false)
    })

    it('lets a provider be asked once an interval, whoever asks', async () => {
      const other = await reopen()
      await store.verification.addDevice(device('d'), bounds)
      const early = { intervalSeconds: 5 }
      expect(await store.verification.claimDevice('d', ALICE, NOW)).toEqual(early)
      expect(await store.verification.claimDevice('d', BOB, NOW + 5_000)).toBeUndefined()
      const claims = await Promise.all(
        [store, other, store, other].map(({ verification }) =>
          verification.claimDevice('d', ALICE, NOW + 5_000),
        ),
      )
      await other.close()
      expect(claims.filter((claim) => claim?.details === undefined)).toEqual([early, early, early])
      expect(claims.find((claim) => claim?.details !== undefined)).toEqual({
        provider: 'github',
        intervalSeconds: 5,
        details: { deviceCode: 'device-d' },
      })
      await store.verification.slowDevice('d', 10, NOW + 5_000)
      expect(await store.verification.claimDevice('d', ALICE, NOW + 14_999)).toEqual({ intervalSeconds: 10 })
      expect(await store.verification.claimDevice('d', ALICE, NOW + 15_000)).toMatchObject({
        details: { deviceCode: 'device-d' },
      })
      expect(await store.verification.end('d', BOB, NOW)).toBe(false)
      expect(await store.verification.end('d', ALICE, NOW + LIFE)).toBe(false)
      expect(await store.verification.end('d', ALICE, NOW)).toBe(true)
      expect(await store.verification.end('d', ALICE, NOW)).toBe(false)
    })

    it('gives a code as many tries as are allowed, and never more', async () => {
      const other = await reopen()
      await store.verification.addEmail(email('e'), bounds)
      expect(await store.verification.sendCode(sent('e'))).toBe(true)
      expect(await store.verification.tryCode('e', BOB, 5, NOW)).toBeUndefined()
      expect(await store.verification.tryCode('e', ALICE, 5, NOW + LIFE)).toBeUndefined()
      const tries = await Promise.all(
        Array.from({ length: 12 }, (_, index) =>
          (index % 2 === 0 ? store : other).verification.tryCode('e', ALICE, 5, NOW),
        ),
      )
      await other.close()
      const given = tries.filter((entry) => entry !== undefined)
      expect(given).toEqual(
        Array.from({ length: 5 }, () => ({ provider: 'email', code: 'code-e', address: 'hash' })),
      )
    })

    it('sends an address so many mails and no more, until their time is over', async () => {
      const other = await reopen()
      const names = ['e1', 'e2', 'e3', 'e4']
      for (const [index, name] of names.entries()) {
        await store.verification.addEmail(email(name, index % 2 === 0 ? ALICE : BOB), bounds)
      }
      const allowed = await Promise.all(
        names.map((name, index) => (index % 2 === 0 ? store : other).verification.sendCode(sent(name))),
      )
      await other.close()
      expect(allowed.filter(Boolean)).toHaveLength(2)
      const silent = names[allowed.indexOf(false)]!
      const owner = names.indexOf(silent) % 2 === 0 ? ALICE : BOB
      expect(await store.verification.tryCode(silent, owner, 5, NOW)).toEqual({
        provider: 'email',
        code: undefined,
        address: undefined,
      })
      // New attempts push out neither the mails that were sent nor their count.
      for (const index of [1, 2, 3, 4, 5, 6]) await store.verification.addEmail(email(`n${index}`), bounds)
      expect(await store.verification.sendCode(sent('n6'))).toBe(false)
      await store.verification.addEmail(email('late', ALICE, NOW + 2 * LIFE), bounds)
      expect(await store.verification.sendCode(sent('late', NOW + LIFE))).toBe(true)
    })

    it('forgets what is past its time, and what an agent that leaves had begun', async () => {
      await store.verification.addBrowser(browser('a'), bounds)
      await store.verification.addBrowser(browser('b', { expiresAt: NOW + 1 }), bounds)
      await store.verification.purge(NOW + 1)
      // As the clock of the first read still has it.
      expect(await store.verification.takeBrowser('b', ALICE, NOW)).toBeUndefined()
      await store.deleteAgent(ALICE)
      expect(await store.verification.redirectOf('state-a', NOW)).toBeUndefined()
    })
  })
}

onBothEngines((engine, open, again) => contract(`${engine} verification store`, open, again))

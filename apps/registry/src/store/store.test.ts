import { tmpdir } from 'node:os'
import { ed25519KeyPair, sha256 } from '@agentmesh/sdk/crypto/signing'
import { amidFromPublicKey } from '@agentmesh/sdk/identity'
import {
  AgentMeshError,
  isAgentMeshError,
  tierRank,
  utf8Bytes,
  type Amid,
  type TierNumber,
} from '@agentmesh/sdk/wire'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { freePort } from '../test-support-postgres.ts'
import { placeOffers } from './offers.ts'
import { openPostgresStore, openSqliteStore } from './sql-store.ts'
import type { AgentInput } from './agent-input.ts'
import type { KeyInput, PrekeyInput, SearchInput, Store } from './store.ts'
import { onBothEngines } from './test-support-engines.ts'

const NOW = 1_800_000_000_000
const DAY = 86_400_000

const amidOf = (name: string): Amid => amidFromPublicKey(ed25519KeyPair(sha256(utf8Bytes(name))).publicKey)

function agent(name: string, fields: Partial<AgentInput> = {}): AgentInput {
  const sequence = fields.sequence ?? 1
  return {
    amid: amidOf(name),
    record: `{"sequence":${sequence}}`,
    sequence,
    exchangeKey: `x25519:${name}`,
    exchangeSequence: 1,
    recoveryKey: undefined,
    presence: undefined,
    capabilities: [{ category: 'travel', subcategory: 'flights', action: '' }],
    ...fields,
  }
}

const key = (kind: KeyInput['kind'], id: number, sequence = 1, expiresAt = NOW + DAY): KeyInput => ({
  kind,
  id,
  sequence,
  expiresAt,
  record: JSON.stringify({ kind, id, sequence }),
})

const prekeys = (sequence: number, ids: readonly number[], expiresAt = NOW + DAY): PrekeyInput => ({
  signed: key('spk', sequence, sequence),
  lastResort: key('pq-last', sequence, sequence),
  oneTime: ids.flatMap((id) => [key('opk', id, 1, expiresAt), key('pq-one', id, 1, expiresAt)]),
})

/** What is held of each kind of one-time prekey, and the highest id that was uploaded. */
const counts = (held: number, highestId: number) => ({
  one_time_prekeys: held,
  one_time_kem_prekeys: held,
  highest_one_time_prekey_id: highestId,
  highest_one_time_kem_prekey_id: highestId,
})

const travel: SearchInput = {
  category: 'travel',
  subcategory: undefined,
  action: undefined,
  minTierRank: 0,
  onlineOnly: false,
  seenSince: NOW - 30 * DAY,
  onlineSince: NOW - 600_000,
  after: undefined,
  limit: 100,
}

/** Nobody is forgotten then. */
const purgeAt = (now: number) => ({ now, lapsedBefore: 0, dormantBefore: 0, forgetBefore: 0 })

const rule = { create: true, maxAgents: 1000 }
const ids = (from: number, to: number) => Array.from({ length: to - from + 1 }, (_, index) => from + index)

/** What every store must do; `open` gives a store on a fresh database, `reopen` another one on the same. */
function storeContract(name: string, open: () => Promise<Store>, reopen: () => Promise<Store>): void {
  describe(name, () => {
    let store: Store
    /** As those who verify and rate do. */
    const place = (who: string, { tier, reputation }: { tier?: TierNumber; reputation?: number }) =>
      store.transaction('place', async (tx) => {
        await tx
          .updateTable('agents')
          .set({
            ...(tier === undefined ? {} : { tier, tier_rank: tierRank(tier) }),
            ...(reputation === undefined ? {} : { reputation }),
          })
          .where('amid', '=', amidOf(who))
          .execute()
        await placeOffers(tx, [amidOf(who)])
      })
    beforeEach(async () => {
      store = await open()
    })
    afterEach(async () => {
      await store.close()
    })

    it('keeps agents, nonces and prekeys over a restart, migrating once', async () => {
      await store.putAgent(agent('a', { presence: 'away' }), rule, NOW)
      await store.putPrekeys(amidOf('a'), prekeys(1, [1, 2]), 100)
      await store.admit({ amid: amidOf('a'), nonce: 'n', expiresAt: NOW + 1, now: NOW + 5 })
      const again = await reopen()
      try {
        expect(await again.getAgent(amidOf('a'))).toEqual({
          amid: amidOf('a'),
          record: '{"sequence":1}',
          tier: 2,
          reputation: 0.5,
          verifiedName: null,
          organization: null,
          presence: 'away',
          lastSeen: NOW + 5,
          registeredAt: NOW,
        })
        expect(await again.countPrekeys(amidOf('a'), NOW)).toEqual(counts(2, 2))
        expect(await again.admit({ amid: amidOf('a'), nonce: 'n', expiresAt: NOW + 1, now: NOW })).toBe(false)
      } finally {
        await again.close()
      }
    })

    it('takes an agent once, a newer record always, an older one never', async () => {
      const put = (fields: Partial<AgentInput>) => store.putAgent(agent('a', fields), rule, NOW)
      expect(await put({ sequence: 5 })).toBe('created')
      expect(await put({ sequence: 5 })).toBe('unchanged')
      expect(await put({ sequence: 5, record: '{"other":1}' })).toBe('sequence-replayed')
      expect(await put({ sequence: 4 })).toBe('sequence-replayed')
      expect(await put({ sequence: 6, presence: 'online' })).toBe('updated')
      expect(await put({ sequence: 7 })).toBe('updated')
      expect(await store.getAgent(amidOf('a'))).toMatchObject({
        record: '{"sequence":7}',
        presence: 'online',
      })
    })

    it('keeps tier, reputation and the recovery key named first when a newer record comes', async () => {
      await store.putAgent(agent('a', { recoveryKey: 'ed25519:first' }), rule, NOW)
      await place('a', { tier: 1.5, reputation: 0.9 })
      expect(await store.putAgent(agent('a', { sequence: 2, recoveryKey: 'ed25519:thief' }), rule, NOW)).toBe(
        'updated',
      )
      expect(await store.getAgent(amidOf('a'))).toMatchObject({ tier: 1.5, reputation: 0.9 })
      const first = await store.transaction('read', (tx) => store.certificates.recoveryKey(tx, amidOf('a')))
      expect(first).toBe('ed25519:first')
    })

    it('keeps the recovery key of an agent that deregistered, for as long as agents are remembered', async () => {
      const named = () => store.transaction('read', (tx) => store.certificates.recoveryKey(tx, amidOf('a')))
      await store.putAgent(agent('a', { recoveryKey: 'ed25519:first' }), rule, NOW)
      await store.deleteAgent(amidOf('a'))
      await store.putAgent(agent('a', { sequence: 2, recoveryKey: 'ed25519:thief' }), rule, NOW + 1)
      expect(await named()).toBe('ed25519:first')
      await store.purge({ ...purgeAt(NOW), forgetBefore: NOW + 2, dormantBefore: NOW })
      expect(await named()).toBe('ed25519:first')
      await store.deleteAgent(amidOf('a'))
      await store.purge({ ...purgeAt(NOW), forgetBefore: NOW + 1 })
      expect(await named()).toBe('ed25519:first')
      await store.purge({ ...purgeAt(NOW), forgetBefore: NOW + 2 })
      expect(await named()).toBeUndefined()
    })

    it('undoes a transaction that throws, and passes errors of ours as they are', async () => {
      await store.putAgent(agent('a'), rule, NOW)
      const failing = store.transaction('change', async (tx) => {
        await tx.updateTable('agents').set({ reputation: 1 }).execute()
        throw new AgentMeshError('NOT_OWNER')
      })
      await expect(failing).rejects.toMatchObject({ code: 'NOT_OWNER' })
      expect((await store.getAgent(amidOf('a')))?.reputation).toBe(0.5)
    })

    it('refuses an exchange key that goes back or is swapped under the same sequence', async () => {
      const put = (fields: Partial<AgentInput>) => store.putAgent(agent('a', fields), rule, NOW)
      await put({ sequence: 1, exchangeSequence: 3 })
      expect(await put({ sequence: 2, exchangeSequence: 2 })).toBe('sequence-replayed')
      expect(await put({ sequence: 2, exchangeSequence: 3, exchangeKey: 'x25519:other' })).toBe(
        'sequence-replayed',
      )
      expect(await put({ sequence: 2, exchangeSequence: 4, exchangeKey: 'x25519:other' })).toBe('updated')
    })

    it('creates one agent when many requests race, and only the highest sequence stands', async () => {
      const outcomes = await Promise.all(
        ids(1, 12).map((sequence) => store.putAgent(agent('a', { sequence }), rule, NOW)),
      )
      expect(outcomes.filter((outcome) => outcome === 'created')).toHaveLength(1)
      expect((await store.getAgent(amidOf('a')))?.record).toBe('{"sequence":12}')
    })

    it('does not create on update, nor beyond the limit', async () => {
      expect(await store.putAgent(agent('a'), { create: false, maxAgents: 10 }, NOW)).toBe('not-found')
      await store.putAgent(agent('a'), rule, NOW)
      expect(await store.putAgent(agent('b'), { create: true, maxAgents: 1 }, NOW)).toBe('full')
      expect(await store.putAgent(agent('a', { sequence: 2 }), { create: true, maxAgents: 1 }, NOW)).toBe(
        'updated',
      )
      expect(await store.countAgents()).toBe(1)
    })

    it('forgets an agent with all that belongs to it', async () => {
      await store.putAgent(agent('a'), rule, NOW)
      await store.putPrekeys(amidOf('a'), prekeys(1, [1]), 100)
      expect(await store.deleteAgent(amidOf('a'))).toBe(true)
      expect(await store.deleteAgent(amidOf('a'))).toBe(false)
      expect(await store.search(travel)).toEqual([])
      expect(await store.countPrekeys(amidOf('a'), NOW)).toEqual(counts(0, 0))
      expect(await store.setPresence(amidOf('a'), 'online')).toBe(false)
    })

    it('knows a nonce once, also when the same request arrives many times at once', async () => {
      const visit = { amid: amidOf('a'), nonce: 'same', expiresAt: NOW + 1000, now: NOW }
      const admitted = await Promise.all(ids(1, 10).map(() => store.admit(visit)))
      expect(admitted.filter(Boolean)).toHaveLength(1)
      await store.purge(purgeAt(NOW + 1001))
      expect(await store.admit(visit)).toBe(true)
    })

    it('finds agents by category, subcategory and action of one and the same capability', async () => {
      const offer = (subcategory: string, action: string) => ({ category: 'travel', subcategory, action })
      await store.putAgent(
        agent('a', { capabilities: [offer('flights', ''), offer('flights', 'book'), offer('hotels', '')] }),
        rule,
        NOW,
      )
      await store.putAgent(agent('b', { capabilities: [offer('', ''), offer('', 'book')] }), rule, NOW)
      const find = async (fields: Partial<SearchInput>) =>
        (await store.search({ ...travel, ...fields })).map((found) => found.amid).toSorted()
      expect(await find({})).toEqual([amidOf('a'), amidOf('b')].toSorted())
      expect(await find({ action: 'book' })).toEqual([amidOf('a'), amidOf('b')].toSorted())
      expect(await find({ subcategory: 'flights', action: 'book' })).toEqual([amidOf('a')])
      expect(await find({ subcategory: 'hotels', action: 'book' })).toEqual([])
      expect(await find({ category: 'finance' })).toEqual([])
    })

    it('finds by tier rank, presence and last sign of life', async () => {
      await store.putAgent(agent('anonymous', { presence: 'online' }), rule, NOW)
      await store.putAgent(agent('organization'), rule, NOW)
      await store.putAgent(agent('verified', { presence: 'dnd' }), rule, NOW - 700_000)
      await store.putAgent(agent('gone', { presence: 'online' }), rule, NOW - 31 * DAY)
      await place('organization', { tier: 1.5 })
      await place('verified', { tier: 1 })
      await place('gone', { tier: 1 })
      const find = async (fields: Partial<SearchInput>) =>
        (await store.search({ ...travel, ...fields })).map((found) => found.amid).toSorted()
      const names = (...list: string[]) => list.map(amidOf).toSorted()
      expect(await find({})).toEqual(names('anonymous', 'organization', 'verified'))
      expect(await find({ minTierRank: 1 })).toEqual(names('organization', 'verified'))
      expect(await find({ minTierRank: 2 })).toEqual(names('organization'))
      expect(await find({ onlineOnly: true })).toEqual(names('anonymous'))
      expect(await find({ onlineOnly: true, onlineSince: NOW - 700_000 })).toEqual(
        names('anonymous', 'verified'),
      )
    })

    it('pages in the order online, reputation, AMID, each agent once, while others come and go', async () => {
      for (const index of ids(1, 23)) {
        await store.putAgent(
          agent(`p${index}`, { presence: index % 2 === 0 ? 'online' : 'offline' }),
          rule,
          NOW,
        )
        await place(`p${index}`, { reputation: [0.1, 0.5, 0.7][index % 3]! })
      }
      const all = await store.search(travel)
      const order = (found: (typeof all)[number]) => [found.presence === 'online' ? 0 : 1, -found.reputation]
      for (const [index, found] of all.entries()) {
        const before = all[index - 1]
        if (before === undefined) continue
        const [a, b] = [order(before), order(found)]
        expect(
          a[0]! < b[0]! || (a[0] === b[0] && (a[1]! < b[1]! || (a[1] === b[1] && before.amid < found.amid))),
        ).toBe(true)
      }
      const seen: Amid[] = []
      let page = await store.search({ ...travel, limit: 5 })
      while (page.length > 0) {
        seen.push(...page.map((found) => found.amid))
        const last = page.at(-1)!
        await store.putAgent(agent(`new${seen.length}`, { presence: 'online' }), rule, NOW)
        await place(`new${seen.length}`, { reputation: 1 })
        if (seen.length === 10) await store.deleteAgent(seen[3]!)
        page = await store.search({
          ...travel,
          limit: 5,
          after: { online: last.presence === 'online', reputation: last.reputation, amid: last.amid },
        })
      }
      expect(seen).toEqual(all.map((found) => found.amid))
    })

    it('hands out each one-time prekey exactly once under concurrent requests, then the last resort', async () => {
      await store.putAgent(agent('a'), rule, NOW)
      await store.putPrekeys(amidOf('a'), prekeys(1, ids(1, 30)), 100)
      const bundles = await Promise.all(ids(1, 40).map(() => store.takeBundle(amidOf('a'), true, NOW)))
      const curve = bundles.flatMap((bundle) => bundle?.oneTimePrekey ?? [])
      const kem = bundles.flatMap((bundle) => bundle?.kemPrekey ?? [])
      expect(curve).toHaveLength(30)
      expect(new Set(curve).size).toBe(30)
      expect(kem).toHaveLength(40)
      const lastResort = key('pq-last', 1).record
      expect(kem.filter((record) => record === lastResort)).toHaveLength(10)
      expect(new Set(kem).size).toBe(31)
    })

    it('takes no one-time key when asked not to, and none for an agent without a signed prekey in date', async () => {
      await store.putAgent(agent('a'), rule, NOW)
      expect(await store.takeBundle(amidOf('a'), true, NOW)).toBeUndefined()
      await store.putPrekeys(amidOf('a'), prekeys(1, [1], NOW + 9 * DAY), 100)
      expect(await store.takeBundle(amidOf('a'), true, NOW + 2 * DAY)).toBeUndefined()
      expect(await store.takeBundle(amidOf('a'), false, NOW)).toEqual({
        record: '{"sequence":1}',
        signedPrekey: key('spk', 1).record,
        oneTimePrekey: undefined,
        kemPrekey: key('pq-last', 1).record,
      })
      expect(await store.countPrekeys(amidOf('a'), NOW)).toEqual(counts(1, 1))
    })

    it('never hands out an expired one-time prekey, and purges it', async () => {
      await store.putAgent(agent('a'), rule, NOW)
      await store.putPrekeys(amidOf('a'), prekeys(1, [1], NOW + 10), 100)
      const bundle = await store.takeBundle(amidOf('a'), true, NOW + 10)
      expect(bundle).toMatchObject({ oneTimePrekey: undefined, kemPrekey: key('pq-last', 1).record })
      await store.purge(purgeAt(NOW + 10))
      expect(await store.countPrekeys(amidOf('a'), 0)).toMatchObject({ one_time_prekeys: 0 })
    })

    it('revives no key that was given out when an upload is repeated', async () => {
      await store.putAgent(agent('a'), rule, NOW)
      await store.putPrekeys(amidOf('a'), prekeys(1, [1, 2, 3]), 100)
      const first = await store.takeBundle(amidOf('a'), true, NOW)
      expect(await store.putPrekeys(amidOf('a'), prekeys(1, [1, 2, 3]), 100)).toEqual({
        outcome: 'stored',
        counts: counts(2, 3),
      })
      const second = await store.takeBundle(amidOf('a'), true, NOW)
      expect(second?.oneTimePrekey).not.toBe(first?.oneTimePrekey)
    })

    it('keeps the newest one-time prekeys within the cap', async () => {
      await store.putAgent(agent('a'), rule, NOW)
      await store.putPrekeys(amidOf('a'), prekeys(1, ids(1, 100)), 100)
      expect(await store.putPrekeys(amidOf('a'), prekeys(2, ids(101, 130)), 100)).toEqual({
        outcome: 'stored',
        counts: counts(100, 130),
      })
      expect((await store.takeBundle(amidOf('a'), true, NOW))?.oneTimePrekey).toBe(key('opk', 31).record)
    })

    it('refuses an older signed prekey and then stores nothing of the upload', async () => {
      await store.putAgent(agent('a'), rule, NOW)
      await store.putPrekeys(amidOf('a'), prekeys(5, [1]), 100)
      expect(await store.putPrekeys(amidOf('a'), prekeys(4, [2]), 100)).toEqual({
        outcome: 'sequence-replayed',
      })
      const mixed = { ...prekeys(6, [2]), lastResort: key('pq-last', 1, 1) }
      expect(await store.putPrekeys(amidOf('a'), mixed, 100)).toEqual({ outcome: 'sequence-replayed' })
      const bundle = await store.takeBundle(amidOf('a'), true, NOW)
      expect(bundle?.signedPrekey).toBe(key('spk', 5, 5).record)
      expect(await store.countPrekeys(amidOf('a'), NOW)).toMatchObject({ one_time_prekeys: 0 })
    })

    it('stores no prekeys for an agent that is not registered', async () => {
      expect(await store.putPrekeys(amidOf('nobody'), prekeys(1, [1]), 100)).toEqual({
        outcome: 'not-found',
      })
    })

    it('purges agents that were not seen for long', async () => {
      await store.putAgent(agent('old'), rule, NOW - 10 * DAY)
      await store.putAgent(agent('new'), rule, NOW)
      await store.purge({ ...purgeAt(NOW), dormantBefore: NOW - 4 * DAY, forgetBefore: NOW - 5 * DAY })
      expect(await store.getAgent(amidOf('old'))).toBeUndefined()
      expect(await store.countAgents()).toBe(1)
    })
  })
}

onBothEngines(
  (engine, open, again) => storeContract(`${engine} store`, open, again),
  (server) => {
    it('reports a server that is not there as STORE_FAILED', async () => {
      const nowhere = `postgres://postgres:postgres@127.0.0.1:${await freePort()}/none`
      const failure = await openPostgresStore(nowhere, () => undefined).catch((error: unknown) => error)
      expect(isAgentMeshError(failure, 'STORE_FAILED')).toBe(true)
    })

    it('lets several processes start and migrate at once', async () => {
      const url = await server().create()
      const connect = () => openPostgresStore(url, () => undefined)
      const stores = await Promise.all([connect(), connect(), connect()])
      expect(await stores[2].countAgents()).toBe(0)
      await Promise.all(stores.map((store) => store.close()))
    })
  },
)

it('reports a file that is no database as STORE_FAILED', async () => {
  const failure = await openSqliteStore(tmpdir()).catch((error: unknown) => error)
  expect(isAgentMeshError(failure, 'STORE_FAILED')).toBe(true)
})

import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { signStateCounter, verifyBundle } from '@agentmesh/sdk/identity'
import type { RegistryLimits } from './limits.ts'
import { startRegistry, type RunningRegistry } from './server.ts'
import { call, DAY, NOW, TestAgent, type Reply } from './test-support.ts'

let registry: RunningRegistry
let now: number
let alice: TestAgent
let bob: TestAgent
let mallory: TestAgent

async function open(limits: Partial<RegistryLimits>): Promise<void> {
  registry = await startRegistry({
    dataPath: ':memory:',
    now: () => now,
    limits: { reservedOneTimePrekeys: 0, ...limits },
  })
  ;[alice, bob, mallory] = ['alice', 'bob', 'mallory'].map(
    (name) => new TestAgent(name, registry.url, () => now),
  ) as [TestAgent, TestAgent, TestAgent]
  for (const agent of [alice, bob, mallory]) await agent.register()
}

beforeEach(async () => {
  now = NOW
  await open({})
})
afterEach(async () => {
  await registry.close()
})

/** What the registry says it holds of each kind of one-time prekey, and the highest id it ever took. */
const held = (count: number, highestId: number) => ({
  one_time_prekeys: count,
  one_time_kem_prekeys: count,
  highest_one_time_prekey_id: highestId,
  highest_one_time_kem_prekey_id: highestId,
})
const counts = (agent: TestAgent) => agent.send({ method: 'GET', path: '/v1/registry/prekeys' })
const refusal = ({ status, body }: Reply) => [status, body.code]

describe('prekey upload', () => {
  it('stores a full upload of 202 keys and counts what is left', async () => {
    const stored = await bob.putPrekeys(bob.upload(1, 100))
    expect([stored.status, stored.body]).toEqual([200, held(100, 100)])
    await alice.fetchBundle(bob)
    expect((await counts(bob)).body).toEqual(held(99, 100))
  })

  it('refuses any key that its owner did not sign, and then stores nothing', async () => {
    const good = bob.upload(1, 3)
    const foreign = mallory.upload(1, 3)
    const flipped = (key: (typeof good)['signed_prekey']) => ({ ...key, id: key.id + 50 })
    const uploads: [object, string][] = [
      [{ ...good, signed_prekey: foreign.signed_prekey }, 'AMID_MISMATCH'],
      [{ ...good, signed_prekey: { ...foreign.signed_prekey, amid: bob.amid } }, 'INVALID_SIGNATURE'],
      [{ ...good, last_resort_kem_prekey: flipped(good.last_resort_kem_prekey) }, 'INVALID_SIGNATURE'],
      [
        {
          ...good,
          one_time_prekeys: [...good.one_time_prekeys.slice(0, 2), flipped(good.one_time_prekeys[2]!)],
        },
        'INVALID_SIGNATURE',
      ],
      [{ ...good, one_time_kem_prekeys: foreign.one_time_kem_prekeys }, 'AMID_MISMATCH'],
      [{ ...good, one_time_prekeys: [good.signed_prekey] }, 'MALFORMED'],
      [{ ...good, last_resort_kem_prekey: good.one_time_kem_prekeys[0] }, 'MALFORMED'],
      [{ ...good, one_time_prekeys: [good.one_time_prekeys[0], good.one_time_prekeys[0]] }, 'MALFORMED'],
    ]
    for (const [upload, code] of uploads) {
      expect((await bob.putPrekeys(upload)).body.code).toBe(code)
    }
    expect((await counts(bob)).body).toEqual(held(0, 0))
    expect(refusal(await alice.fetchBundle(bob))).toEqual([404, 'PREKEYS_MISSING'])
  })

  it('keeps the highest state counter and gives it back to its owner alone', async () => {
    const upload = bob.upload(1, 1)
    for (const counter of [7, 9, 8]) {
      const state_counter = signStateCounter(bob.identity, counter)
      expect((await bob.putPrekeys({ ...upload, state_counter })).status).toBe(200)
    }
    const kept = signStateCounter(bob.identity, 9)
    expect((await counts(bob)).body).toMatchObject({ state_counter: kept })
    await bob.putPrekeys(upload)
    expect((await counts(bob)).body).toMatchObject({ state_counter: kept })
    expect((await counts(alice)).body).not.toHaveProperty('state_counter')
    expect(JSON.stringify((await alice.fetchBundle(bob)).body)).not.toContain('state_counter')
  })

  it('refuses a state counter that its owner did not sign, or signed for another number', async () => {
    const foreign = signStateCounter(mallory.identity, 9)
    const changed = { ...signStateCounter(bob.identity, 9), counter: 10 }
    for (const state_counter of [foreign, changed]) {
      const refused = await bob.putPrekeys({ ...bob.upload(1, 1), state_counter })
      expect(refusal(refused)).toEqual([401, 'INVALID_SIGNATURE'])
    }
    expect((await counts(bob)).body).toEqual(held(0, 0))
  })

  it('refuses more than 100 keys of a kind in one upload', async () => {
    const upload = bob.upload(1, 100)
    const extra = bob.upload(101, 1).one_time_prekeys
    const refused = await bob.putPrekeys({
      ...upload,
      one_time_kem_prekeys: [],
      one_time_prekeys: [...upload.one_time_prekeys, ...extra],
    })
    expect(refusal(refused)).toEqual([400, 'MALFORMED'])
  })

  it('refuses a signed prekey that goes back and one that has expired', async () => {
    await bob.putPrekeys(bob.upload(1, 1, 2))
    expect(refusal(await bob.putPrekeys(bob.upload(10, 1, 1)))).toEqual([409, 'SEQUENCE_REPLAYED'])
    const old = bob.upload(20, 1, 3)
    now += 31 * DAY
    expect(refusal(await bob.putPrekeys(old))).toEqual([400, 'KEY_EXPIRED'])
  })

  it('takes no prekeys from a stranger and none without a signature', async () => {
    const stranger = new TestAgent('stranger', registry.url, () => now)
    expect(refusal(await stranger.putPrekeys(stranger.upload(1, 1)))).toEqual([403, 'NOT_REGISTERED'])
    expect(refusal(await counts(stranger))).toEqual([403, 'NOT_REGISTERED'])
    expect((await call(`${registry.url}/v1/registry/prekeys`)).status).toBe(401)
  })

  it('limits how often an agent uploads', async () => {
    await registry.close()
    await open({ uploadsPerAgent: { perSecond: 0.1, burst: 2 } })
    const statuses: number[] = []
    for (const start of [1, 2, 3]) statuses.push((await bob.putPrekeys(bob.upload(start, 1, start))).status)
    expect(statuses).toEqual([200, 200, 429])
  })
})

describe('prekey fetch', () => {
  it('gives bundles that verify, each with its own one-time keys, then the last resort', async () => {
    await bob.putPrekeys(bob.upload(1, 2))
    const bundles = []
    for (let index = 0; index < 3; index++) {
      bundles.push(verifyBundle((await alice.fetchBundle(bob)).body, bob.amid, now))
    }
    expect(bundles.map((bundle) => bundle.oneTimePrekey?.id)).toEqual([1, 2, undefined])
    expect(bundles.map((bundle) => bundle.kemPrekey.kind)).toEqual(['one-time', 'one-time', 'last-resort'])
  })

  it('gives no one-time key twice to requests that race', async () => {
    await bob.putPrekeys(bob.upload(1, 12))
    const replies = await Promise.all(
      [alice, mallory].flatMap((agent) => Array.from({ length: 8 }, () => agent.fetchBundle(bob))),
    )
    const ids = replies.map(({ body }) => verifyBundle(body, bob.amid, now).oneTimePrekey?.id)
    const given = ids.filter((id) => id !== undefined)
    expect(given.toSorted((a, b) => a - b)).toEqual(Array.from({ length: 12 }, (_, index) => index + 1))
    const kem = new Set(replies.map(({ body }) => body.kem_prekey.key))
    expect(kem.size).toBe(13)
  })

  it('gives an agent that is not registered here no one-time key: it costs nothing to make another', async () => {
    const stranger = new TestAgent('stranger', registry.url, () => now)
    await bob.putPrekeys(bob.upload(1, 1))
    const bundle = verifyBundle((await stranger.fetchBundle(bob)).body, bob.amid, now)
    expect(bundle.oneTimePrekey).toBeUndefined()
    expect(bundle.kemPrekey.kind).toBe('last-resort')
    expect((await counts(bob)).body).toMatchObject({ one_time_prekeys: 1, one_time_kem_prekeys: 1 })
  })

  it('says when an agent or its keys are missing', async () => {
    const stranger = new TestAgent('stranger', registry.url, () => now)
    await bob.putPrekeys(bob.upload(1, 1))
    expect(refusal(await alice.fetchBundle(stranger))).toEqual([404, 'AGENT_NOT_FOUND'])
    expect(refusal(await alice.fetchBundle(mallory))).toEqual([404, 'PREKEYS_MISSING'])
    expect((await counts(bob)).body.one_time_prekeys).toBe(1)
  })

  it('spends no one-time key on an agent whose exchange key has expired', async () => {
    await bob.putPrekeys(bob.upload(1, 1))
    now += 11 * DAY
    await bob.putPrekeys(bob.upload(1, 0, 2))
    expect(refusal(await alice.fetchBundle(bob))).toEqual([404, 'PREKEYS_MISSING'])
    await bob.register({ sequence: 2, exchange_key: bob.exchangeKey(2) })
    expect((await alice.fetchBundle(bob)).body.one_time_prekey.id).toBe(1)
  })

  it('refuses a fetcher that asks too often', async () => {
    await registry.close()
    await open({ fetchesPerAgent: { perSecond: 0.5, burst: 2 } })
    await bob.putPrekeys(bob.upload(1, 5))
    const replies = [
      await mallory.fetchBundle(bob),
      await mallory.fetchBundle(bob),
      await mallory.fetchBundle(bob),
    ]
    expect(replies.map(({ status }) => status)).toEqual([200, 200, 429])
    expect(replies[2]?.body).toMatchObject({ code: 'RATE_LIMITED', retry_after_seconds: 2 })
    expect((await alice.fetchBundle(bob)).status).toBe(200)
  })

  it('lets nobody drain an agent: one fetcher gets few one-time keys, all together not more than the target’s rate', async () => {
    await registry.close()
    await open({
      oneTimePerPair: { perSecond: 0.001, burst: 2 },
      oneTimePerTarget: { perSecond: 0.001, burst: 3 },
    })
    await bob.putPrekeys(bob.upload(1, 50))
    const take = async (agent: TestAgent) =>
      verifyBundle((await agent.fetchBundle(bob)).body, bob.amid, now).oneTimePrekey?.id
    now += 7 * DAY
    expect([await take(mallory), await take(mallory), await take(mallory), await take(mallory)]).toEqual([
      1,
      2,
      undefined,
      undefined,
    ])
    expect([await take(alice), await take(alice)]).toEqual([3, undefined])
    expect((await counts(bob)).body).toEqual(held(47, 50))
  })

  it('keeps the last one-time keys from callers who are new here, however many they are', async () => {
    await registry.close()
    await open({ reservedOneTimePrekeys: 15 })
    await bob.putPrekeys(bob.upload(1, 20))
    const take = async (agent: TestAgent) => {
      const bundle = verifyBundle((await agent.fetchBundle(bob)).body, bob.amid, now)
      return [bundle.oneTimePrekey?.id, bundle.kemPrekey.kind]
    }
    const fresh = Array.from({ length: 8 }, (_, n) => new TestAgent(`fresh ${n}`, registry.url, () => now))
    for (const agent of fresh) await agent.register()
    const taken = []
    for (const agent of fresh) taken.push(await take(agent))
    expect(taken.map(([id]) => id)).toEqual([1, 2, 3, 4, 5, undefined, undefined, undefined])
    expect(taken.at(-1)).toEqual([undefined, 'last-resort'])
    now += 7 * DAY
    await bob.register()
    await bob.putPrekeys(bob.upload(21, 1, 2))
    const newcomer = new TestAgent('newcomer', registry.url, () => now)
    await newcomer.register()
    expect(await take(newcomer)).toEqual([6, 'one-time'])
    expect(await take(newcomer)).toEqual([undefined, 'last-resort'])
    // Known for a week: it has standing.
    expect(await take(alice)).toEqual([7, 'one-time'])
  })

  it('gives an address without standing one share of an agent’s one-time keys, whoever asks from there', async () => {
    await registry.close()
    await open({ oneTimePerPair: { perSecond: 0.001, burst: 2 } })
    await bob.putPrekeys(bob.upload(1, 10))
    await mallory.putPrekeys(mallory.upload(1, 10))
    const take = async (agent: TestAgent, target: TestAgent) =>
      verifyBundle((await agent.fetchBundle(target)).body, target.amid, now).oneTimePrekey?.id
    expect([await take(alice, bob), await take(mallory, bob)]).toEqual([1, 2])
    const other = new TestAgent('other', registry.url, () => now)
    await other.register()
    expect([await take(other, bob), await take(other, mallory)]).toEqual([undefined, 1])
    // Who has standing has a share of its own.
    now += 7 * DAY
    expect([await take(alice, bob), await take(mallory, bob)]).toEqual([3, 4])
  })
})

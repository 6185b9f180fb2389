import { ed25519KeyPair, sha256 } from '@agentmesh/sdk/crypto/signing'
import { amidFromPublicKey } from '@agentmesh/sdk/identity'
import { isAgentMeshError, utf8Bytes, type Amid, type TierNumber } from '@agentmesh/sdk/wire'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { boundOfWeight } from '../reputation/bounds.ts'
import {
  MAX_ANONYMOUS_VOICES,
  MAX_NAMED_VOICES,
  MAX_SUPPORTERS,
  UNSUPPORTED_CAP,
} from '../reputation/constants.ts'
import { evaluateDue } from '../reputation/evaluation.ts'
import { gain } from '../reputation/evidence.ts'
import { storedPeople } from '../reputation/people.ts'
import { startingScore } from '../reputation/score.ts'
import type { RatedSession, Side } from './reputation-store.ts'
import { onBothEngines } from './test-support-engines.ts'
import type { Store } from './store.ts'

const NOW = 1_800_000_000_000
const DAY = 86_400_000
const amidOf = (name: string): Amid => amidFromPublicKey(ed25519KeyPair(sha256(utf8Bytes(name))).publicKey)
const person = (name: string, tier: TierNumber = 1): Side => ({
  amid: amidOf(name),
  voice: `human:${name}`,
  tier,
})

let sessions = 0
const session = (rater: Side, ratee: Side, fields: Partial<RatedSession> = {}): RatedSession => ({
  isRaterHere: true,
  sessionId: `session-${++sessions}`,
  statement: `statement-${sessions}`,
  rater,
  ratee,
  finished: true,
  completed: true,
  rating: 1,
  tags: ['fast'],
  now: NOW,
  dueAt: NOW,
  ...fields,
})

/** What every engine must do; `open` gives a store on a fresh database, `reopen` another one on the same. */
function contract(name: string, open: () => Promise<Store>, reopen: () => Promise<Store>): void {
  describe(name, () => {
    let store: Store
    beforeEach(async () => {
      store = await open()
    })
    afterEach(() => store.close())

    const record = (rated: RatedSession, on = store) =>
      on.transaction('record', (tx) => on.reputation.record(tx, rated))
    /** Two writers of one SQLite file in one process would wait for each other: there one connection must do. */
    const another = () => (name === 'SQLite' ? Promise.resolve(store) : reopen())
    const voices = (of: Side) => store.reputation.voices(of.amid, of.voice, NOW - 360 * DAY)
    const register = (amid: Amid) =>
      store.putAgent(
        {
          amid,
          record: '{}',
          sequence: 1,
          exchangeKey: amid,
          exchangeSequence: 1,
          recoveryKey: undefined,
          presence: undefined,
          capabilities: [],
        },
        { create: true, maxAgents: 1e6 },
        NOW,
      )
    const [a, b, c] = [person('a'), person('b'), person('c')]

    it('counts a session for both sides and a rating for one', async () => {
      await record(session(a, b, { rating: 0.5 }))
      const units = gain(NOW)
      expect(await voices(b)).toEqual([
        expect.objectContaining({
          voice: a.voice,
          finished: units,
          completed: units,
          ratings: units,
          ratingSum: units / 2,
        }),
      ])
      expect(await voices(a)).toEqual([
        expect.objectContaining({
          voice: b.voice,
          finished: units,
          completed: units,
          ratings: 0,
          ratingSum: 0,
        }),
      ])
      expect((await store.reputation.score(a.amid))?.sessions).toBe(1)
      expect((await store.reputation.score(b.amid))?.sessions).toBe(1)
    })

    it('counts the other side’s rating of the same session without counting the session again', async () => {
      const first = session(a, b)
      await record(first)
      await record({ ...first, rater: b, ratee: a, rating: 0 })
      expect((await store.reputation.score(a.amid))?.sessions).toBe(1)
      expect((await voices(a))[0]).toMatchObject({ finished: gain(NOW), ratings: gain(NOW), ratingSum: 0 })
    })

    it('refuses a rating twice and another statement of the same session, and changes nothing then', async () => {
      const first = session(a, b)
      await record(first)
      const before = await voices(b)
      await expect(record({ ...first, rating: 0 })).rejects.toSatisfy((error) =>
        isAgentMeshError(error, 'FEEDBACK_REPEATED'),
      )
      await expect(record({ ...first, rater: b, ratee: a, statement: 'another' })).rejects.toSatisfy(
        (error) => isAgentMeshError(error, 'CLOSING_CONFLICT'),
      )
      expect(await voices(b)).toEqual(before)
    })

    it('takes concurrent feedback of both sides, and of many sessions, without losing any', async () => {
      const shared = Array.from({ length: 20 }, () => session(a, b))
      await Promise.all(shared.flatMap((one) => [record(one), record({ ...one, rater: b, ratee: a })]))
      expect((await store.reputation.score(a.amid))?.sessions).toBe(20)
      expect((await voices(a))[0]?.ratings).toBeCloseTo(20 * gain(NOW), 3)
      expect((await voices(b))[0]?.finished).toBeCloseTo(20 * gain(NOW), 3)
    })

    it('lets only one of several instances count one rating', async () => {
      const other = await another()
      const one = session(a, b)
      const outcomes = await Promise.allSettled([
        record(one),
        record(one, other),
        record(one),
        record(one, other),
      ])
      expect(outcomes.filter(({ status }) => status === 'fulfilled')).toHaveLength(1)
      if (other !== store) await other.close()
    })

    it('names as supporters only those who are no neighbours of the agent', async () => {
      const [outside, inside, rated, unknown] = [person('out'), person('in'), person('rated'), person('x', 2)]
      await record(session(a, b))
      for (const supporter of [outside, inside, rated]) await record(session(supporter, a, { rating: 0.75 }))
      await record(session({ ...unknown, voice: `agent:${unknown.amid}` }, a))
      await record(session(inside, b))
      await record(session(b, rated))
      await record(session(outside, c))
      const [voice] = (await voices(b)).filter((one) => one.voice === a.voice)
      expect(voice?.supporters).toEqual([
        { ratings: gain(NOW), ratingSum: 0.75 * gain(NOW), rated: 2, updatedAt: NOW },
      ])
    })

    it('reads a bounded part of however much was said, newest first', async () => {
      const target = person('target')
      await store.transaction('fill', async (tx) => {
        const rows = Array.from({ length: 3_000 }, (_, index) => ({
          ratee: target.amid,
          ratee_voice: target.voice,
          voice: `v${index}`,
          tier: (index % 2 === 0 ? 1 : 2) as TierNumber,
          anonymous: index % 2,
          finished: 1,
          completed: 1,
          ratings: 1,
          rating_sum: 1,
          updated_at: NOW + index,
        }))
        const support = Array.from({ length: 100 }, (_, index) => ({
          ...rows[0]!,
          ratee: amidOf('popular'),
          ratee_voice: 'v2998',
          voice: `s${index}`,
          anonymous: 0,
        }))
        const all = [...rows, ...support]
        for (let start = 0; start < all.length; start += 100) {
          await tx
            .insertInto('reputation_voices')
            .values(all.slice(start, start + 100))
            .execute()
        }
      })
      const read = await voices(target)
      expect(read.filter(({ tier }) => tier === 1)).toHaveLength(MAX_NAMED_VOICES)
      expect(read.filter(({ tier }) => tier === 2)).toHaveLength(MAX_ANONYMOUS_VOICES)
      expect(read[0]).toMatchObject({ voice: 'v2998' })
      expect(read[0]?.supporters).toHaveLength(MAX_SUPPORTERS)
    })

    it('gives a due score to one instance', async () => {
      await record(session(a, b))
      const other = await another()
      const due = await store.reputation.due(NOW, 10)
      expect(due.map(({ amid }) => amid).toSorted()).toEqual([a.amid, b.amid].toSorted())
      const claims = await Promise.all(
        [store, other].map((on) => on.transaction('claim', (tx) => on.reputation.claim(tx, due, NOW + DAY))),
      )
      expect(claims.flat().toSorted()).toEqual([a.amid, b.amid].toSorted())
      expect(await store.reputation.due(NOW, 10)).toEqual([])
      if (other !== store) await other.close()
    })

    it('evaluates ten thousand feedbacks about one agent once, in bounded work', async () => {
      await register(a.amid)
      await register(b.amid)
      for (let index = 0; index < 10; index++) {
        await store.transaction('flood', async (tx) => {
          for (let one = 0; one < (name === 'SQLite' ? 1_000 : 50); one++) {
            await store.reputation.record(tx, session({ ...a, voice: `v${one % 300}` }, b))
          }
        })
      }
      const deps = { store, people: storedPeople(store) }
      expect(await evaluateDue(deps, NOW, 1)).toBe(2)
      expect(await evaluateDue(deps, NOW, 1)).toBe(0)
      const score = await store.reputation.score(b.amid)
      expect(score?.sessions).toBe(name === 'SQLite' ? 10_000 : 500)
      expect(score?.published).toBeGreaterThan(startingScore(2))
      expect(score?.published).toBeLessThanOrEqual(startingScore(2) + boundOfWeight(UNSUPPORTED_CAP))
    })

    it('writes no score over one that changed since it was read', async () => {
      await record(session(a, b))
      const before = (await store.reputation.score(b.amid))!
      const change = { before, after: { ...before, published: 0.7 }, terms: before.terms, dueAt: null }
      const write = () =>
        store.transaction('write', (tx) => store.reputation.write(tx, change, undefined, NOW + 1))
      expect(await write()).toBe(true)
      expect(await write()).toBe(false)
      expect(await store.reputation.score(b.amid)).toMatchObject({ published: 0.7, changedAt: NOW + 1 })
    })

    it('strikes out what was said since a time, and nothing else', async () => {
      await record(session(a, b, { now: NOW - DAY }))
      await record(session(a, b))
      await record(session(c, b, { rating: 0 }))
      const struck = await store.transaction('strike', (tx) => store.reputation.strike(tx, b.amid, NOW))
      expect(struck).toBe(2)
      const left = await voices(b)
      const ofA = left.find(({ voice }) => voice === a.voice)
      expect(ofA?.ratings).toBeCloseTo(gain(NOW - DAY), 6)
      expect(ofA?.finished).toBeCloseTo(gain(NOW - DAY), 6)
      expect(left.find(({ voice }) => voice === c.voice)).toMatchObject({
        ratings: 0,
        ratingSum: 0,
        finished: 0,
      })
      expect(await store.transaction('strike', (tx) => store.reputation.strike(tx, b.amid, NOW))).toBe(0)
    })

    it('forgets old evidence and whom it counted', async () => {
      await record(session(a, b, { now: NOW - 400 * DAY }))
      await record(session(a, c))
      await store.transaction('purge', (tx) => store.reputation.purge(tx, NOW - 360 * DAY))
      expect(await voices(b)).toEqual([])
      expect(await voices(c)).toHaveLength(1)
      // Of the two that `a` rated one is left: what it gives to a third is half of its support.
      const d = person('d')
      await record(session(a, d))
      await record(session(d, b))
      const ofD = (await voices(b)).find(({ voice }) => voice === d.voice)
      expect(ofD?.supporters[0]?.rated).toBe(2)
    })

    it('bans, finds banned ones, sweeps their records, and lifts bans', async () => {
      await register(a.amid)
      await register(b.amid)
      const ban = { subject: `agent:${a.amid}`, reason: 'x', at: NOW, by: 'root' }
      await store.transaction('ban', (tx) => store.admin.ban(tx, ban))
      expect(await store.admin.isBanned(['human:h', `agent:${a.amid}`])).toBe(true)
      expect(await store.admin.isBanned([`agent:${b.amid}`])).toBe(false)
      await store.transaction('sweep', (tx) => store.admin.sweep(tx))
      expect(await store.getAgent(a.amid)).toBeUndefined()
      expect(await store.getAgent(b.amid)).toBeDefined()
      expect(await store.admin.bans('', 10)).toEqual([ban])
      expect(await store.transaction('unban', (tx) => store.admin.unban(tx, ban.subject))).toBe(true)
      expect(await store.transaction('unban', (tx) => store.admin.unban(tx, ban.subject))).toBe(false)
    })
  })
}

onBothEngines(contract)

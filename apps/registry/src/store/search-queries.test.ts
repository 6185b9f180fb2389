/** Search against a model that looks at every agent, over random histories of what changes an agent, on both databases. */
import fc from 'fast-check'
import { ed25519KeyPair, sha256 } from '@agentmesh/sdk/crypto/signing'
import { amidFromPublicKey } from '@agentmesh/sdk/identity'
import { tierRank, utf8Bytes, type Amid, type PresenceState, type TierNumber } from '@agentmesh/sdk/wire'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { startingTerms } from '../reputation/score.ts'
import { startPostgres, type TestPostgres } from '../test-support-postgres.ts'
import { openPostgresStore, openSqliteStore } from './sql-store.ts'
import type { CapabilityRow } from './agent-input.ts'
import type { SearchInput, SearchPosition, Store, StoredAgent } from './store.ts'

const START = 1_800_000_000_000
const MINUTE = 60_000
const DAY = 86_400_000
const ONLINE_MS = 10 * MINUTE
const FOUND_MS = 30 * DAY
const CURSOR_MS = 60 * MINUTE

const AMIDS: readonly Amid[] = Array.from({ length: 12 }, (_, index) =>
  amidFromPublicKey(ed25519KeyPair(sha256(utf8Bytes(`agent ${index}`))).publicKey),
)
const OFFERS: readonly CapabilityRow[] = ['', 'flights', 'hotels'].flatMap((subcategory) =>
  ['', 'book'].map((action) => ({ category: 'travel', subcategory, action })),
)

const who = fc.nat(AMIDS.length - 1)
const presence = fc.constantFrom<PresenceState>('online', 'away', 'offline')
const offers = fc.subarray([...OFFERS, { category: 'finance', subcategory: '', action: '' }], {
  minLength: 1,
})
const step = fc.oneof(
  {
    weight: 4,
    arbitrary: fc.record({ do: fc.constant('put' as const), who, offers, presence: fc.option(presence) }),
  },
  { weight: 3, arbitrary: fc.record({ do: fc.constant('presence' as const), who, presence }) },
  { weight: 3, arbitrary: fc.record({ do: fc.constant('seen' as const), who }) },
  {
    weight: 3,
    arbitrary: fc.record({
      do: fc.constant('tier' as const),
      who,
      tier: fc.constantFrom<TierNumber>(1, 1.5, 2),
    }),
  },
  {
    weight: 3,
    arbitrary: fc.record({
      do: fc.constant('score' as const),
      who,
      score: fc.constantFrom(0, 0.1 + 0.2, 0.5, 0.6, 0.9),
    }),
  },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('delete' as const), who }) },
  {
    weight: 2,
    arbitrary: fc.record({
      do: fc.constant('wait' as const),
      ms: fc.constantFrom(MINUTE, ONLINE_MS + 1, CURSOR_MS + ONLINE_MS + 1, FOUND_MS - MINUTE, FOUND_MS + 1),
    }),
  },
  { weight: 2, arbitrary: fc.constant({ do: 'purge' as const }) },
)
type Step = typeof step extends fc.Arbitrary<infer Value> ? Value : never

const query = fc.record({
  subcategory: fc.constantFrom(undefined, 'flights', 'hotels'),
  action: fc.constantFrom(undefined, 'book'),
  minTierRank: fc.nat(2),
  onlineOnly: fc.boolean(),
  limit: fc.integer({ min: 1, max: 5 }),
})

/** A store with a clock, and what each agent offers. */
class World {
  readonly store: Store
  now = START
  #sequence = 0
  readonly #offers = new Map<Amid, readonly CapabilityRow[]>()

  constructor(store: Store) {
    this.store = store
  }

  async take(change: Step): Promise<void> {
    const { store, now } = this
    const amid = 'who' in change ? AMIDS[change.who]! : AMIDS[0]!
    switch (change.do) {
      case 'put': {
        const agent = {
          amid,
          record: `{"sequence":${++this.#sequence}}`,
          sequence: this.#sequence,
          exchangeKey: 'x25519:key',
          exchangeSequence: 1,
          recoveryKey: undefined,
          presence: change.presence ?? undefined,
          capabilities: change.offers,
        }
        await store.putAgent(agent, { create: true, maxAgents: 1000 }, now)
        this.#offers.set(amid, change.offers)
        break
      }
      case 'presence':
        await this.#visit(amid)
        await store.setPresence(amid, change.presence)
        break
      case 'seen':
        await this.#visit(amid)
        break
      case 'tier':
        await store.transaction('verify', (tx) =>
          store.certificates.setStanding(tx, amid, {
            tier: change.tier,
            verifiedName: null,
            organization: null,
          }),
        )
        break
      case 'score':
        await this.#score(amid, change.score)
        break
      case 'delete':
        await store.deleteAgent(amid)
        break
      case 'wait':
        this.now += change.ms
        break
      case 'purge':
        await store.purge({
          now,
          lapsedBefore: now - ONLINE_MS - CURSOR_MS,
          dormantBefore: now - FOUND_MS - CURSOR_MS,
          forgetBefore: now - 180 * DAY,
        })
    }
  }

  /** As a signed request is admitted. */
  async #visit(amid: Amid): Promise<void> {
    const nonce = `nonce ${++this.#sequence}`
    await this.store.admit({ amid, nonce, expiresAt: this.now + 1, now: this.now })
  }

  /** As an evaluation publishes one. */
  async #score(amid: Amid, published: number): Promise<void> {
    const { store, now } = this
    const agent = await store.getAgent(amid)
    if (agent === undefined) return
    await store.transaction('touch', (tx) => store.reputation.touch(tx, { amid, tier: agent.tier }, now))
    const before = await store.reputation.score(amid)
    if (before === undefined) throw new Error('touched, yet without a score')
    const change = {
      before,
      after: { ...before, published },
      terms: startingTerms(agent.tier),
      dueAt: null,
    }
    await store.transaction('score', (tx) => store.reputation.write(tx, change, undefined, now))
  }

  /** The whole answer, from every agent's row. */
  async expected(input: SearchInput): Promise<Amid[]> {
    const agents = (await Promise.all(AMIDS.map((amid) => this.store.getAgent(amid)))).flatMap(
      (agent) => agent ?? [],
    )
    return agents
      .filter(
        (agent) =>
          tierRank(agent.tier) >= input.minTierRank &&
          agent.lastSeen >= input.seenSince &&
          (!input.onlineOnly || isOnline(agent, input)) &&
          this.#offers
            .get(agent.amid)
            ?.some(
              ({ category, subcategory, action }) =>
                category === input.category &&
                (input.subcategory === undefined || subcategory === input.subcategory) &&
                action === (input.action ?? ''),
            ),
      )
      .toSorted(
        (a, b) =>
          Number(isOnline(b, input)) - Number(isOnline(a, input)) ||
          b.reputation - a.reputation ||
          (a.amid < b.amid ? -1 : 1),
      )
      .map(({ amid }) => amid)
  }

  async pages(input: SearchInput, between: () => Promise<void> = () => Promise.resolve()): Promise<Amid[]> {
    const found: Amid[] = []
    let after: SearchPosition | undefined
    for (;;) {
      const page = await this.store.search({ ...input, after })
      found.push(...page.map(({ amid }) => amid))
      const last = page.at(-1)
      if (last === undefined || page.length < input.limit) return found
      after = { online: isOnline(last, input), reputation: last.reputation, amid: last.amid }
      await between()
    }
  }
}

function isOnline(agent: StoredAgent, { onlineSince }: SearchInput): boolean {
  return agent.presence !== 'offline' && agent.lastSeen >= onlineSince
}

function at(asOf: number, fields: Partial<SearchInput>): SearchInput {
  return {
    category: 'travel',
    subcategory: undefined,
    action: undefined,
    minTierRank: 0,
    onlineOnly: false,
    seenSince: asOf - FOUND_MS,
    onlineSince: asOf - ONLINE_MS,
    after: undefined,
    limit: 5,
    ...fields,
  }
}

function searchContract(name: string, open: () => Promise<Store>, runs: number): void {
  describe(name, () => {
    async function inWorld(use: (world: World) => Promise<void>): Promise<void> {
      const store = await open()
      try {
        await use(new World(store))
      } finally {
        await store.close()
      }
    }

    it(
      'finds what a look at every agent finds, in its order, page by page',
      { timeout: 120_000 },
      async () => {
        await inWorld(async (world) => {
          const history = fc.record({
            steps: fc.array(step, { minLength: 1, maxLength: 25 }),
            queries: fc.array(query, { minLength: 4, maxLength: 4 }),
            // A search that goes on does so at the time it began.
            age: fc.constantFrom(0, 0, MINUTE, CURSOR_MS),
          })
          let found = 0
          await fc.assert(
            fc.asyncProperty(history, async ({ steps, queries, age }) => {
              for (const change of steps) await world.take(change)
              for (const fields of queries) {
                const input = at(world.now - age, fields)
                const pages = await world.pages(input)
                expect(pages).toEqual(await world.expected(input))
                found += pages.length
              }
            }),
            { seed: 20, numRuns: runs, endOnFailure: true },
          )
          expect(found).toBeGreaterThan(runs)
        })
      },
    )

    it('gives every agent that stays as it is once, while scores of others change between pages', async () => {
      await inWorld(async (world) => {
        for (const [index] of AMIDS.entries()) {
          await world.take({
            do: 'put',
            who: index,
            offers: [OFFERS[0]!],
            presence: index % 2 ? 'online' : null,
          })
          await world.take({ do: 'score', who: index, score: (index % 3) / 4 })
        }
        const movers = [1, 4, 7]
        let turn = 0
        const found = await world.pages(at(world.now, { limit: 2 }), async () => {
          turn++
          for (const mover of movers) await world.take({ do: 'score', who: mover, score: turn % 2 ? 1 : 0 })
          world.now += MINUTE
          await world.take({ do: 'purge' })
        })
        const moved = movers.map((mover) => AMIDS[mover]!)
        const still = AMIDS.filter((amid) => !moved.includes(amid))
        expect(found.filter((amid) => still.includes(amid)).toSorted()).toEqual(still.toSorted())
      })
    })
  })
}

searchContract('search on SQLite', () => openSqliteStore(':memory:'), 150)

describe('with a PostgreSQL server', () => {
  let server: TestPostgres
  beforeAll(async () => {
    server = await startPostgres()
  })
  afterAll(async () => {
    await server.stop()
  })
  searchContract(
    'search on PostgreSQL',
    async () => openPostgresStore(await server.create(), () => undefined),
    25,
  )
})

/**
 * Attacks on reputation among honest agents, run on the real store and evaluation. Each returns the most it moved a score and
 * the bound that `spec/reputation.md` states; `bench/reputation.mjs` prints them and a test holds one against the other.
 * Nothing is random: the same numbers come out every time.
 */
import { ed25519KeyPair, sha256, systemRandom } from '@agentmesh/sdk/crypto/signing'
import { amidFromPublicKey } from '@agentmesh/sdk/identity'
import { newMessageId, utf8Bytes, type Amid, type TierNumber } from '@agentmesh/sdk/wire'
import { openSqliteStore } from '../store/sql-store.ts'
import type { Store } from '../store/store.ts'
import {
  CHEAT_LAG_MS,
  CHEAT_VICTIMS,
  cliqueBound,
  coalitionBound,
  HUMAN_BOUND,
  ORGANIZATION_BOUND,
  SWARM_BOUND,
  whitewashBound,
} from './bounds.ts'
import { evaluate, evaluateDue } from './evaluation.ts'
import { storedPeople, voiceOf, type People } from './people.ts'
import { startingScore } from './score.ts'

const HOUR = 3_600_000
const DAY = 24 * HOUR
const START = Date.UTC(2026, 0, 1)
/** Honest people, and how many others each of them deals with. */
const HONEST = 24
const DEALINGS = 4
const HONEST_RATING = 0.9

export interface Outcome {
  readonly attack: string
  /** By how much a score moved, or what `unit` says. */
  readonly most: number
  readonly bound: number
  readonly unit: 'score' | 'hours' | 'victims'
}

class World {
  readonly store: Store
  readonly people: People
  now = START
  #sessions = 0

  constructor(store: Store) {
    this.store = store
    this.people = storedPeople(store)
  }

  async agent(
    name: string,
    tier: TierNumber,
    who: { human?: string; organization?: string } = {},
  ): Promise<Amid> {
    const amid = amidFromPublicKey(ed25519KeyPair(sha256(utf8Bytes(name))).publicKey)
    const input = {
      amid,
      record: JSON.stringify({ name }),
      sequence: this.now,
      exchangeKey: name,
      exchangeSequence: this.now,
      recoveryKey: undefined,
      presence: undefined,
      capabilities: [],
    }
    await this.store.putAgent(input, { create: true, maxAgents: 1e6 }, this.now)
    if (tier === 2) return amid
    const { human, organization } = who
    await this.store.transaction('stand', async (tx) => {
      if (human !== undefined) {
        await this.store.certificates.addAgentOfHuman(tx, {
          amid,
          human,
          display_name: null,
          verified_at: this.now,
        })
      }
      const standing = { tier, verifiedName: null, organization: organization ?? null }
      await this.store.certificates.setStanding(tx, amid, standing)
    })
    return amid
  }

  /** People or anonymous agents, one agent each. */
  async crowd(name: string, count: number, tier: TierNumber): Promise<Amid[]> {
    const agents: Amid[] = []
    for (let index = 0; index < count; index++) {
      const who =
        tier === 1 ? { human: `${name} ${index}` } : tier === 1.5 ? { organization: `${name} ${index}` } : {}
      agents.push(await this.agent(`${name} ${index}`, tier, who))
    }
    return agents
  }

  async rate(rater: Amid, ratee: Amid, rating: number, times = 1): Promise<void> {
    const sides = { rater: await this.#side(rater), ratee: await this.#side(ratee) }
    for (let time = 0; time < times; time++) {
      this.#sessions++
      await this.store.transaction('rate', (tx) =>
        this.store.reputation.record(tx, {
          isRaterHere: true,
          sessionId: newMessageId(systemRandom),
          statement: String(this.#sessions),
          ...sides,
          finished: true,
          completed: rating >= 0.5,
          rating,
          tags: [],
          now: this.now,
          dueAt: this.now,
        }),
      )
    }
  }

  async #side(amid: Amid) {
    const standing = await this.people.standingOf(amid)
    return { amid, voice: voiceOf(amid, standing), tier: standing.tier }
  }

  /** What the formula says now, published or not. */
  async computed(amid: Amid): Promise<number> {
    const evaluated = await evaluate(this, amid, this.now)
    return evaluated?.score ?? (await this.published(amid))
  }

  async published(amid: Amid): Promise<number> {
    return (await this.store.getAgent(amid))?.reputation ?? Number.NaN
  }

  evaluate(): Promise<number> {
    return evaluateDue(this, this.now, 1e6)
  }
}

/** The agent at a place in a circle of them. */
function pick(agents: readonly Amid[], place: number): Amid {
  const agent = agents[place % agents.length]
  if (agent === undefined) throw new Error('Nobody is in the circle')
  return agent
}

/** A world in which honest people have dealt with each other for 40 days. */
async function honestWorld(): Promise<{ world: World; honest: Amid[] }> {
  const world = new World(await openSqliteStore(':memory:'))
  const honest = await world.crowd('honest', HONEST, 1)
  for (let step = 1; step <= DEALINGS; step++) {
    world.now += 10 * DAY
    for (const [index, rater] of honest.entries()) {
      await world.rate(rater, pick(honest, index + step * step), HONEST_RATING)
    }
    await world.evaluate()
  }
  return { world, honest }
}

async function inWorld<T>(run: (world: World, honest: Amid[]) => Promise<T>): Promise<T> {
  const { world, honest } = await honestWorld()
  try {
    return await run(world, honest)
  } finally {
    await world.store.close()
  }
}

/** How far `attack` moves the agent's computed score. */
async function moved(world: World, target: Amid, attack: () => Promise<void>): Promise<number> {
  const before = await world.computed(target)
  await attack()
  return Math.abs((await world.computed(target)) - before)
}

export function cliqueRaisesItself(n: number): Promise<Outcome> {
  return inWorld(async (world) => {
    const clique = await world.crowd('clique', n, 1)
    world.now += 365 * DAY
    const most = await moved(world, pick(clique, 0), async () => {
      for (const rater of clique) {
        for (const ratee of clique) if (rater !== ratee) await world.rate(rater, ratee, 1)
      }
    })
    return {
      attack: `a clique of ${n} verified people raises itself`,
      most,
      bound: cliqueBound(n, 0),
      unit: 'score',
    }
  })
}

export function cliqueSlanders(n: number): Promise<Outcome> {
  return inWorld(async (world, honest) => {
    const clique = await world.crowd('clique', n, 1)
    const most = await moved(world, pick(honest, 0), async () => {
      for (const [index, rater] of clique.entries()) {
        await world.rate(rater, pick(clique, index + 1), 1, 3)
        await world.rate(rater, pick(honest, 0), 0, 3)
      }
    })
    const bound = cliqueBound(n, HONEST)
    return { attack: `a clique of ${n} verified people slanders one`, most, bound, unit: 'score' }
  })
}

export function swarm(n: number, rating: 0 | 1): Promise<Outcome> {
  return inWorld(async (world, honest) => {
    const agents = await world.crowd('sybil', n, 2)
    const newcomer = await world.agent('newcomer', 2)
    const target = rating === 1 ? newcomer : pick(honest, 0)
    const most = await moved(world, target, async () => {
      for (const sybil of agents) await world.rate(sybil, target, rating, 3)
    })
    const what = rating === 1 ? 'raises a new one' : 'slanders an honest person'
    return { attack: `a swarm of ${n} anonymous agents ${what}`, most, bound: SWARM_BOUND, unit: 'score' }
  })
}

export function oneVoice(agents: number, kind: 'human' | 'organization'): Promise<Outcome> {
  return inWorld(async (world, honest) => {
    const tier = kind === 'human' ? 1 : 1.5
    const raters: Amid[] = []
    for (let index = 0; index < agents; index++)
      raters.push(await world.agent(`voice ${index}`, tier, { [kind]: 'one' }))
    // Honest people know this one: its support is full.
    for (const person of honest.slice(1, 6)) await world.rate(person, pick(raters, 0), 1, 3)
    const target = await world.agent('newcomer', 1, { human: 'newcomer' })
    const most = await moved(world, target, async () => {
      for (const rater of raters) await world.rate(rater, target, 0, 20)
    })
    const bound = kind === 'human' ? HUMAN_BOUND : ORGANIZATION_BOUND
    return { attack: `${agents} agents of one ${kind} slander one`, most, bound, unit: 'score' }
  })
}

/** m of the coalition stand apart from the target and vouch for those who rate it. */
export function coalition(n: number, m: number): Promise<Outcome> {
  return inWorld(async (world) => {
    const raters = await world.crowd('front', n, 1)
    const supporters = await world.crowd('back', m, 1)
    const target = await world.agent('newcomer', 1, { human: 'newcomer' })
    world.now += 365 * DAY
    const most = await moved(world, target, async () => {
      for (const supporter of supporters) for (const rater of raters) await world.rate(supporter, rater, 1)
      for (const rater of raters) await world.rate(rater, target, 1, 20)
    })
    const bound = coalitionBound(n, m, 0)
    return { attack: `${n} verified people with ${m} more behind them raise one`, most, bound, unit: 'score' }
  })
}

/** Builds a name for half a year, then robs every honest person it meets, two a day. */
export function slowBuilder(): Promise<Outcome[]> {
  return inWorld(async (world, honest) => {
    const builder = await world.agent('builder', 1, { human: 'builder' })
    for (let week = 0; week < 26; week++) {
      world.now += 7 * DAY
      // Honest people go on dealing with each other, else nobody stands for anybody.
      for (const [index, rater] of honest.entries()) {
        if (index % 4 === week % 4)
          await world.rate(rater, pick(honest, index + 1 + (week % 9)), HONEST_RATING)
      }
      await world.rate(pick(honest, week), builder, 1)
      await world.evaluate()
    }
    let victims = 0
    let lag = 0
    let fellAt: number | undefined
    while (victims < 2 * CHEAT_VICTIMS && (await world.published(builder)) >= startingScore(1)) {
      world.now += DAY / 2
      await world.rate(pick(honest, victims), builder, 0)
      victims++
      await world.evaluate()
      const hidden = (await world.published(builder)) > (await world.computed(builder))
      if (!hidden) fellAt = undefined
      else lag = Math.max(lag, world.now - (fellAt ??= world.now))
    }
    return [
      {
        attack: 'a slow builder who cheats: how long the published score hides it',
        most: lag / HOUR,
        bound: CHEAT_LAG_MS / HOUR,
        unit: 'hours',
      },
      {
        attack: 'a slow builder who cheats: victims until he is below where he began',
        most: victims,
        bound: CHEAT_VICTIMS,
        unit: 'victims',
      },
    ]
  })
}

export function whitewash(): Promise<Outcome[]> {
  return inWorld(async (world, honest) => {
    const crook = await world.agent('crook', 2)
    for (const victim of honest) await world.rate(victim, crook, 0)
    for (let day = 0; day < 5; day++) {
      await world.evaluate()
      world.now += DAY
    }
    const before = await world.published(crook)
    await world.store.deleteAgent(crook)
    await world.agent('crook', 2)
    const same = (await world.published(crook)) - before
    const other = (await world.published(await world.agent('crook again', 2))) - before
    const bound = whitewashBound(before)
    return [
      { attack: 'registering again under the same AMID', most: same, bound: 0, unit: 'score' },
      { attack: 'registering again under a new AMID', most: other, bound, unit: 'score' },
    ]
  })
}

/** What honest people have after 40 days: for comparison. */
export function honestScores(): Promise<{ lowest: number; highest: number }> {
  return inWorld(async (world, honest) => {
    const scores: number[] = []
    for (const person of honest) scores.push(await world.published(person))
    return { lowest: Math.min(...scores), highest: Math.max(...scores) }
  })
}

/**
 * What the registry keeps of reputation. Recording is O(1) in what is stored; reading an agent's evidence is bounded by the
 * constants of `reputation/constants.ts`, whoever wrote how much.
 *
 * Rows that two sides share are written in the order of their keys, so that two feedbacks never wait for each other.
 */
import { sql, type Kysely, type Transaction } from 'kysely'
import {
  AgentMeshError,
  tierRank,
  type Amid,
  type ReputationTerms,
  type TierNumber,
} from '@agentmesh/sdk/wire'
import { gain, type VoiceEvidence } from '../reputation/evidence.ts'
import type { HoldReason, ScoreState } from '../reputation/review.ts'
import { startingScore, startingTerms } from '../reputation/score.ts'
import { guarded } from './guard.ts'
import { placeOffers } from './offers.ts'
import { readVoices } from './reputation-graph.ts'
import type { Tables } from './tables.ts'

const PURGE_ROWS = 1_000

/** One side of a session as it counts. */
export interface Side {
  readonly amid: Amid
  readonly voice: string
  readonly tier: TierNumber
}

export interface RatedSession {
  /** Registered here; else it is of another registry, and has no score of ours. */
  readonly isRaterHere: boolean
  readonly sessionId: string
  /** SHA-256 of the closing statement, base64. */
  readonly statement: string
  readonly ratee: Side
  readonly rater: Side
  /** Whether it ended in a way that says something of completion, and well. */
  readonly finished: boolean
  readonly completed: boolean
  readonly rating: number
  readonly tags: readonly string[]
  readonly now: number
  /** When both scores are to be evaluated at the latest. */
  readonly dueAt: number
}

export interface StoredScore extends ScoreState {
  readonly amid: Amid
  readonly terms: ReputationTerms
  readonly sessions: number
  readonly changedAt: number
}

export interface DueScore {
  readonly amid: Amid
  readonly dueAt: number
}

/** What a score becomes; written only if nobody changed it since it was read. */
export interface ScoreChange {
  readonly before: StoredScore
  readonly after: ScoreState
  readonly terms: ReputationTerms
  readonly dueAt: number | null
}

export interface ExportedEvidence {
  readonly ratee: Amid
  readonly rater: Amid
  readonly session_id: string
  readonly voice: string
  readonly finished: number
  readonly completed: number
  readonly rating: number | null
  readonly tags: string
  readonly received_at: number
  readonly struck: number
}

export class ReputationStore {
  readonly #db: Kysely<Tables>

  constructor(db: Kysely<Tables>) {
    this.#db = db
  }

  /**
   * Counts a session that both sides closed, once, and one side's rating of the other, once.
   *
   * @throws CLOSING_CONFLICT, FEEDBACK_REPEATED
   */
  async record(tx: Transaction<Tables>, session: RatedSession): Promise<void> {
    const { ratee, rater, now } = session
    const units = gain(now)
    const directions = [
      { of: ratee, by: rater },
      { of: rater, by: ratee },
    ].toSorted((a, b) => (a.of.amid < b.of.amid ? -1 : 1))
    const inserted = await tx
      .insertInto('reputation_evidence')
      .values(
        directions.map(({ of, by }) => ({
          ratee: of.amid,
          rater: by.amid,
          session_id: session.sessionId,
          statement: session.statement,
          voice: by.voice,
          finished: Number(session.finished),
          completed: Number(session.completed),
          gain: units,
          rating: null,
          rating_gain: 0,
          tags: '',
          received_at: now,
          struck: 0,
        })),
      )
      .onConflict((conflict) => conflict.columns(['ratee', 'rater', 'session_id']).doNothing())
      .executeTakeFirstOrThrow()
    const isNew = inserted.numInsertedOrUpdatedRows === 2n
    const rated = await tx
      .updateTable('reputation_evidence')
      .set({ rating: session.rating, rating_gain: units, tags: session.tags.join(' '), received_at: now })
      .where('ratee', '=', ratee.amid)
      .where('rater', '=', rater.amid)
      .where('session_id', '=', session.sessionId)
      .where('statement', '=', session.statement)
      .where('rating', 'is', null)
      .executeTakeFirstOrThrow()
    if (rated.numUpdatedRows !== 1n) {
      const stored = await tx
        .selectFrom('reputation_evidence')
        .select('statement')
        .where('ratee', '=', ratee.amid)
        .where('rater', '=', rater.amid)
        .where('session_id', '=', session.sessionId)
        .executeTakeFirst()
      throw new AgentMeshError(
        stored?.statement === session.statement ? 'FEEDBACK_REPEATED' : 'CLOSING_CONFLICT',
      )
    }

    for (const { of, by } of directions) {
      const rates = by === rater
      if (!isNew && !rates) continue
      const finished = isNew && session.finished ? units : 0
      const voice = await tx
        .insertInto('reputation_voices')
        .values({
          ratee: of.amid,
          ratee_voice: of.voice,
          voice: by.voice,
          tier: by.tier,
          anonymous: Number(tierRank(by.tier) === 0),
          finished,
          completed: session.completed ? finished : 0,
          ratings: rates ? units : 0,
          rating_sum: rates ? units * session.rating : 0,
          updated_at: now,
        })
        .onConflict((conflict) =>
          conflict.columns(['ratee', 'voice']).doUpdateSet((eb) => ({
            ratee_voice: eb.ref('excluded.ratee_voice'),
            tier: eb.ref('excluded.tier'),
            anonymous: eb.ref('excluded.anonymous'),
            finished: sql<number>`reputation_voices.finished + excluded.finished`,
            completed: sql<number>`reputation_voices.completed + excluded.completed`,
            ratings: sql<number>`reputation_voices.ratings + excluded.ratings`,
            rating_sum: sql<number>`reputation_voices.rating_sum + excluded.rating_sum`,
            updated_at: eb.ref('excluded.updated_at'),
          })),
        )
        .returning('ratings')
        .executeTakeFirstOrThrow()
      // Nothing was there before what was just added: another one whom this voice has rated.
      if (rates && voice.ratings === units) await countRated(tx, by.voice)
    }
    for (const { of } of directions) {
      if (of !== rater || session.isRaterHere) await touchScore(tx, of, isNew, now, session.dueAt)
    }
  }

  /** Calls for an evaluation, for a change of tier above all. */
  async touch(tx: Transaction<Tables>, side: Pick<Side, 'amid' | 'tier'>, now: number): Promise<void> {
    await touchScore(tx, side, false, now, now)
  }

  /** An agent's voices, newest first, with the supporters of each that stand outside its neighbourhood. */
  voices(amid: Amid, voice: string, since: number): Promise<VoiceEvidence[]> {
    return guarded('read evidence', () => readVoices(this.#db, amid, voice, since))
  }

  score(amid: Amid): Promise<StoredScore | undefined> {
    return guarded('read score', async () => {
      const row = await this.#db
        .selectFrom('reputation_scores')
        .selectAll()
        .where('amid', '=', amid)
        .executeTakeFirst()
      return row === undefined ? undefined : storedScore(row)
    })
  }

  due(now: number, limit: number): Promise<DueScore[]> {
    return guarded('read due scores', async () => {
      const rows = await this.#db
        .selectFrom('reputation_scores')
        .select(['amid', 'due_at'])
        .where('due_at', '<=', now)
        .orderBy('due_at')
        .limit(limit)
        .execute()
      return rows.map((row) => ({ amid: row.amid, dueAt: row.due_at ?? now }))
    })
  }

  /** Takes due scores for one instance until `until`; those that another took first are left out. */
  async claim(tx: Transaction<Tables>, due: readonly DueScore[], until: number): Promise<Amid[]> {
    const claimed: Amid[] = []
    for (const { amid, dueAt } of due.toSorted((a, b) => (a.amid < b.amid ? -1 : 1))) {
      const { numUpdatedRows } = await tx
        .updateTable('reputation_scores')
        .set({ due_at: until })
        .where('amid', '=', amid)
        .where('due_at', '=', dueAt)
        .executeTakeFirstOrThrow()
      if (numUpdatedRows === 1n) claimed.push(amid)
    }
    return claimed
  }

  /**
   * Writes a score, and publishes it in the agent's row that search and lookup read. False when it changed meanwhile.
   *
   * @param lease the `due_at` it was claimed with; feedback that came since keeps its own
   */
  async write(
    tx: Transaction<Tables>,
    { before, after, terms, dueAt }: ScoreChange,
    lease: number | undefined,
    now: number,
  ): Promise<boolean> {
    // In the order of those who change an agent's tier: its row, then its score.
    await tx
      .updateTable('agents')
      .set((eb) => ({ reputation: eb.ref('reputation') }))
      .where('amid', '=', before.amid)
      .execute()
    const { numUpdatedRows } = await tx
      .updateTable('reputation_scores')
      .set({
        published: after.published,
        tier: after.tier,
        terms: JSON.stringify(terms),
        anchor: after.anchor,
        anchor_at: after.anchorAt,
        held_proposed: after.hold?.proposed ?? null,
        held_reasons: after.hold?.reasons.join(' ') ?? '',
        held_since: after.hold?.since ?? null,
        held_until: after.hold?.until ?? null,
        ...(after.published === before.published ? {} : { changed_at: now }),
        due_at:
          lease === undefined
            ? dueAt
            : sql<number>`case when due_at = ${lease} then ${dueAt} else due_at end`,
      })
      .where('amid', '=', before.amid)
      .where('published', '=', before.published)
      .where('anchor_at', '=', before.anchorAt)
      .executeTakeFirstOrThrow()
    if (numUpdatedRows !== 1n) return false
    await tx
      .updateTable('agents')
      .set({ reputation: after.published })
      .where('amid', '=', before.amid)
      .where('reputation', '<>', after.published)
      .execute()
    await placeOffers(tx, [before.amid])
    return true
  }

  /** Scores whose change waits for review, longest first. */
  held(
    after: { readonly since: number; readonly amid: string } | undefined,
    limit: number,
  ): Promise<StoredScore[]> {
    return guarded('read review queue', async () => {
      let query = this.#db.selectFrom('reputation_scores').selectAll().where('held_since', 'is not', null)
      if (after !== undefined) {
        query = query.where((eb) =>
          eb.or([
            eb('held_since', '>', after.since),
            eb.and([eb('held_since', '=', after.since), eb('amid', '>', after.amid as Amid)]),
          ]),
        )
      }
      const rows = await query.orderBy('held_since').orderBy('amid').limit(limit).execute()
      return rows.map(storedScore)
    })
  }

  /** Takes what was said of an agent since a time out of its evidence. @returns of how many sessions */
  async strike(tx: Transaction<Tables>, amid: Amid, since: number): Promise<number> {
    const rows = await tx
      .updateTable('reputation_evidence')
      .set({ struck: 1 })
      .where('ratee', '=', amid)
      .where('received_at', '>=', since)
      .where('struck', '=', 0)
      .returning(['voice', 'finished', 'completed', 'gain', 'rating', 'rating_gain'])
      .execute()
    const sums = new Map<
      string,
      { finished: number; completed: number; ratings: number; ratingSum: number }
    >()
    for (const row of rows) {
      const sum = sums.get(row.voice) ?? { finished: 0, completed: 0, ratings: 0, ratingSum: 0 }
      sum.finished += row.finished * row.gain
      sum.completed += row.completed * row.gain
      sum.ratings += row.rating_gain
      sum.ratingSum += row.rating_gain * (row.rating ?? 0)
      sums.set(row.voice, sum)
    }
    const less = (column: string, by: number) =>
      // What is left of rounding is nothing.
      sql<number>`case when ${sql.ref(column)} - ${by} < ${gain(since) * 1e-9} then 0 else ${sql.ref(column)} - ${by} end`
    for (const [voice, sum] of [...sums].toSorted(([a], [b]) => (a < b ? -1 : 1))) {
      await tx
        .updateTable('reputation_voices')
        .set({
          finished: less('finished', sum.finished),
          completed: less('completed', sum.completed),
          ratings: less('ratings', sum.ratings),
          rating_sum: less('rating_sum', sum.ratingSum),
        })
        .where('ratee', '=', amid)
        .where('voice', '=', voice)
        .execute()
    }
    return rows.length
  }

  /** What was received after a place, oldest first: for export. */
  evidence(after: { readonly at: number; readonly key: string }, limit: number): Promise<ExportedEvidence[]> {
    return guarded('export evidence', async () => {
      const key = sql<string>`ratee || ' ' || rater || ' ' || session_id`
      return this.#db
        .selectFrom('reputation_evidence')
        .select([
          'ratee',
          'rater',
          'session_id',
          'voice',
          'finished',
          'completed',
          'rating',
          'tags',
          'received_at',
          'struck',
        ])
        .where((eb) =>
          eb.or([
            eb('received_at', '>', after.at),
            eb.and([eb('received_at', '=', after.at), eb(key, '>', after.key)]),
          ]),
        )
        .orderBy('received_at')
        .orderBy(key)
        .limit(limit)
        .execute()
    })
  }

  /** Forgets evidence older than `before`, a bounded part of it at a time. */
  async purge(tx: Transaction<Tables>, before: number): Promise<void> {
    await sql`delete from reputation_evidence where (ratee, rater, session_id) in (
      select ratee, rater, session_id from reputation_evidence where received_at < ${before} limit ${sql.lit(PURGE_ROWS)})`.execute(
      tx,
    )
    const { rows } = await sql<{ voice: string; ratings: number }>`
      delete from reputation_voices where (ratee, voice) in (
        select ratee, voice from reputation_voices where updated_at < ${before} limit ${sql.lit(PURGE_ROWS)})
      returning voice, ratings`.execute(tx)
    for (const { voice } of rows
      .filter((row) => row.ratings > 0)
      .toSorted((a, b) => (a.voice < b.voice ? -1 : 1))) {
      await tx
        .updateTable('reputation_raters')
        .set((eb) => ({ rated: eb('rated', '-', 1) }))
        .where('voice', '=', voice)
        .execute()
    }
    await tx.deleteFrom('reputation_raters').where('rated', '<=', 0).execute()
  }
}

async function countRated(tx: Transaction<Tables>, voice: string): Promise<void> {
  await tx
    .insertInto('reputation_raters')
    .values({ voice, rated: 1 })
    .onConflict((conflict) =>
      conflict.column('voice').doUpdateSet({ rated: sql<number>`reputation_raters.rated + 1` }),
    )
    .execute()
}

async function touchScore(
  tx: Transaction<Tables>,
  { amid, tier }: Pick<Side, 'amid' | 'tier'>,
  counts: boolean,
  now: number,
  dueAt: number,
): Promise<void> {
  const start = startingScore(tier)
  await tx
    .insertInto('reputation_scores')
    .values({
      amid,
      published: start,
      tier,
      terms: JSON.stringify(startingTerms(tier)),
      sessions: Number(counts),
      changed_at: now,
      anchor: start,
      anchor_at: now,
      due_at: dueAt,
      held_proposed: null,
      held_reasons: '',
      held_since: null,
      held_until: null,
    })
    .onConflict((conflict) =>
      conflict.column('amid').doUpdateSet({
        sessions: sql<number>`reputation_scores.sessions + excluded.sessions`,
        due_at: sql<number>`case when reputation_scores.due_at < excluded.due_at then reputation_scores.due_at else excluded.due_at end`,
      }),
    )
    .execute()
}

function storedScore(row: Tables['reputation_scores']): StoredScore {
  return {
    amid: row.amid,
    published: row.published,
    tier: row.tier,
    terms: JSON.parse(row.terms) as ReputationTerms,
    sessions: row.sessions,
    changedAt: row.changed_at,
    anchor: row.anchor,
    anchorAt: row.anchor_at,
    hold:
      row.held_since === null || row.held_until === null || row.held_proposed === null
        ? undefined
        : {
            proposed: row.held_proposed,
            reasons: row.held_reasons.split(' ') as HoldReason[],
            since: row.held_since,
            until: row.held_until,
          },
  }
}

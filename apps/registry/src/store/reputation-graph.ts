/**
 * The graph of who rated whom, as one agent's evaluation reads it: its voices, their supporters, and which of those are
 * neighbours of the agent. However many rows there are, the reads are bounded.
 */
import { sql, type Kysely } from 'kysely'
import type { Amid } from '@agentmesh/sdk/wire'
import { MAX_ANONYMOUS_VOICES, MAX_NAMED_VOICES, MAX_SUPPORTERS } from '../reputation/constants.ts'
import type { Supporter, VoiceEvidence } from '../reputation/evidence.ts'
import type { Tables } from './tables.ts'

/** Terms of one UNION, and parameters of one IN. */
const CHUNK = 64

/** @param own the agent's own voice. @param since what was said before is forgotten */
export async function readVoices(
  db: Kysely<Tables>,
  amid: Amid,
  own: string,
  since: number,
): Promise<VoiceEvidence[]> {
  const newest = (anonymous: number, limit: number) =>
    db
      .selectFrom('reputation_voices')
      .select(['voice', 'tier', 'finished', 'completed', 'ratings', 'rating_sum', 'updated_at'])
      .where('ratee', '=', amid)
      .where('anonymous', '=', anonymous)
      .where('updated_at', '>', since)
      .orderBy('updated_at', 'desc')
      .orderBy('voice')
      .limit(limit)
      .execute()
  const named = await newest(0, MAX_NAMED_VOICES)
  const anonymous = await newest(1, MAX_ANONYMOUS_VOICES)
  const supporters = await supportersOf(
    db,
    own,
    named.map((row) => row.voice),
    since,
  )
  return [...named, ...anonymous].map((row) => ({
    voice: row.voice,
    tier: row.tier,
    finished: row.finished,
    completed: row.completed,
    ratings: row.ratings,
    ratingSum: row.rating_sum,
    updatedAt: row.updated_at,
    supporters: supporters.get(row.voice) ?? [],
  }))
}

async function supportersOf(
  db: Kysely<Tables>,
  own: string,
  voices: readonly string[],
  since: number,
): Promise<Map<string, Supporter[]>> {
  interface Row {
    supported: string
    voice: string
    ratings: number
    rating_sum: number
    updated_at: number
  }
  const rows: Row[] = []
  for (const chunk of chunksOf(voices)) {
    const parts = chunk.map(
      (supported) => sql`select * from (
          select ratee_voice as supported, voice, ratings, rating_sum, updated_at from reputation_voices
          where ratee_voice = ${supported} and anonymous = 0 and ratings > 0 and updated_at > ${since}
            and voice <> ${own} and voice <> ${supported}
          order by updated_at desc, voice limit ${sql.lit(MAX_SUPPORTERS)}) as part`,
    )
    rows.push(...(await sql<Row>`${sql.join(parts, sql` union all `)}`.execute(db)).rows)
  }
  const neighbours = new Set<string>()
  const rated = new Map<string, number>()
  for (const chunk of chunksOf([...new Set(rows.map((row) => row.voice))])) {
    const known = await db
      .selectFrom('reputation_voices')
      .select('voice as neighbour')
      .where('ratee_voice', '=', own)
      .where('voice', 'in', chunk)
      .unionAll((eb) =>
        eb
          .selectFrom('reputation_voices')
          .select('ratee_voice as neighbour')
          .where('voice', '=', own)
          .where('ratee_voice', 'in', chunk),
      )
      .execute()
    for (const { neighbour } of known) neighbours.add(neighbour)
    const counts = await db.selectFrom('reputation_raters').selectAll().where('voice', 'in', chunk).execute()
    for (const row of counts) rated.set(row.voice, row.rated)
  }
  const found = new Map<string, Supporter[]>()
  for (const row of rows) {
    if (neighbours.has(row.voice)) continue
    const list = found.get(row.supported) ?? []
    list.push({
      ratings: row.ratings,
      ratingSum: row.rating_sum,
      rated: rated.get(row.voice) ?? 0,
      updatedAt: row.updated_at,
    })
    found.set(row.supported, list)
  }
  return found
}

function chunksOf(list: readonly string[]): string[][] {
  const chunks: string[][] = []
  for (let start = 0; start < list.length; start += CHUNK) chunks.push(list.slice(start, start + CHUNK))
  return chunks
}

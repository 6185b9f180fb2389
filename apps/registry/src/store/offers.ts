/**
 * Keeps the rows that search reads (search-tables.ts) beside the agents they belong to. Whoever changes an agent's tier,
 * reputation or presence calls `placeOffers` in the same transaction, after its row, so that two changes to one agent
 * wait for each other there.
 */
import { sql, type Kysely, type Transaction } from 'kysely'
import type { Amid, PresenceState } from '@agentmesh/sdk/wire'
import type { Reach } from './search-tables.ts'
import type { AgentInput, PurgeTimes } from './agent-input.ts'
import type { Tables } from './tables.ts'

/** Rows in one statement: SQLite takes a limited number of parameters, and others wait meanwhile. */
const INSERT_ROWS = 100
const LOWER_ROWS = 500

/** Of an agent that was seen just now. */
export function reachOf(presence: PresenceState): Reach {
  return presence === 'offline' ? 1 : 2
}

/** The columns of `agents` for an agent seen just now that says where it is, or stays where it was. */
export function sayPresence(presence: PresenceState | undefined) {
  return presence === undefined
    ? { reach: sql<Reach>`case when presence = 'offline' then 1 else 2 end` }
    : { presence, reach: reachOf(presence) }
}

/** Makes the offers of these agents say what their rows say. */
export async function placeOffers(tx: Transaction<Tables>, amids: readonly Amid[]): Promise<void> {
  await sql`
    update offers set (reach, tier_rank, reputation) = (
      select agents.reach, agents.tier_rank, agents.reputation from agents where agents.amid = offers.amid
    ) where amid in (${sql.join(amids)})`.execute(tx)
}

export async function replaceOffers(
  tx: Transaction<Tables>,
  { amid, capabilities }: Pick<AgentInput, 'amid' | 'capabilities'>,
): Promise<void> {
  await tx.deleteFrom('offers').where('amid', '=', amid).execute()
  const { reach, tier_rank, reputation } = await tx
    .selectFrom('agents')
    .select(['reach', 'tier_rank', 'reputation'])
    .where('amid', '=', amid)
    .executeTakeFirstOrThrow()
  // Whoever asks for a category finds what is in any part of it.
  const rows = capabilities.flatMap((capability) =>
    [capability, { ...capability, subcategory: '' }].map(({ category, subcategory, action }) => ({
      amid,
      category,
      subcategory,
      action,
      reach,
      tier_rank,
      reputation,
    })),
  )
  for (let start = 0; start < rows.length; start += INSERT_ROWS) {
    await tx
      .insertInto('offers')
      .values(rows.slice(start, start + INSERT_ROWS))
      .onConflict((conflict) => conflict.doNothing())
      .execute()
  }
}

/** A sign of life: the agent is found again, and online if that is what it said last. */
export async function noteSeen(tx: Transaction<Tables>, amid: Amid, now: number): Promise<void> {
  const seen = await tx
    .updateTable('agents')
    .set({ last_seen: now })
    .where('amid', '=', amid)
    .where('last_seen', '<', now)
    .returning(['presence', 'reach'])
    .executeTakeFirst()
  if (seen === undefined || seen.reach === reachOf(seen.presence)) return
  await tx
    .updateTable('agents')
    .set({ reach: reachOf(seen.presence) })
    .where('amid', '=', amid)
    .execute()
  await placeOffers(tx, [amid])
}

/** Agents that were not seen for so long leave the ranges in which searches would only pass them over. */
export async function lowerReach(
  db: Kysely<Tables>,
  { lapsedBefore, dormantBefore }: Pick<PurgeTimes, 'lapsedBefore' | 'dormantBefore'>,
): Promise<void> {
  await lower(db, 2, 1, lapsedBefore)
  await lower(db, 1, 0, dormantBefore)
}

async function lower(db: Kysely<Tables>, from: Reach, to: Reach, before: number): Promise<void> {
  for (;;) {
    const lowered = await db.transaction().execute(async (tx) => {
      const agents = await tx
        .updateTable('agents')
        .set({ reach: to })
        .where('amid', 'in', (eb) =>
          eb
            .selectFrom('agents')
            .select('amid')
            .where('reach', '=', from)
            .where('last_seen', '<', before)
            .orderBy('last_seen')
            .limit(LOWER_ROWS),
        )
        // Again, for those that came back meanwhile.
        .where('reach', '=', from)
        .where('last_seen', '<', before)
        .returning('amid')
        .execute()
      const amids = agents.map(({ amid }) => amid)
      if (amids.length > 0) await placeOffers(tx, amids)
      return amids.length
    })
    if (lowered === 0) return
  }
}

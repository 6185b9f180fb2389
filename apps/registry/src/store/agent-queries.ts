/** The agent tables: putting a record under its rules, and the search over capabilities. */
import { sql, type Kysely, type Transaction } from 'kysely'
import { TIERS } from '@agentmesh/sdk/wire'
import type { AgentInput, PutOutcome, PutRule, SearchInput, StoredAgent } from './store.ts'
import type { Tables } from './tables.ts'

/** Rows in one INSERT: SQLite takes a limited number of parameters. */
const INSERT_ROWS = 100
const ANONYMOUS_REPUTATION = 0.5

export const AGENT_COLUMNS = [
  'amid',
  'record',
  'tier',
  'reputation',
  'presence',
  'verified_name as verifiedName',
  'organization',
  'last_seen as lastSeen',
  'registered_at as registeredAt',
] as const

export async function putAgent(
  tx: Transaction<Tables>,
  agent: AgentInput,
  rule: PutRule,
  now: number,
): Promise<PutOutcome> {
  const columns = {
    record: agent.record,
    sequence: agent.sequence,
    exchange_key: agent.exchangeKey,
    exchange_sequence: agent.exchangeSequence,
  }
  const updated = await tx
    .updateTable('agents')
    .set({
      ...columns,
      last_seen: now,
      recovery_key: sql<string | null>`coalesce(recovery_key, ${agent.recoveryKey ?? null})`,
      ...(agent.presence === undefined ? {} : { presence: agent.presence }),
    })
    .where('amid', '=', agent.amid)
    .where('sequence', '<', agent.sequence)
    .where((eb) =>
      eb.or([
        eb('exchange_sequence', '<', agent.exchangeSequence),
        eb.and([
          eb('exchange_sequence', '=', agent.exchangeSequence),
          eb('exchange_key', '=', agent.exchangeKey),
        ]),
      ]),
    )
    .executeTakeFirstOrThrow()
  if (updated.numUpdatedRows === 1n) {
    await putCapabilities(tx, agent)
    return 'updated'
  }

  const stored = await tx
    .selectFrom('agents')
    .select('record')
    .where('amid', '=', agent.amid)
    .executeTakeFirst()
  if (stored !== undefined) {
    if (stored.record !== agent.record) return 'sequence-replayed'
    if (agent.presence !== undefined) {
      await tx
        .updateTable('agents')
        .set({ presence: agent.presence })
        .where('amid', '=', agent.amid)
        .execute()
    }
    return 'unchanged'
  }
  if (!rule.create) return 'not-found'
  if ((await countAgents(tx)) >= rule.maxAgents) return 'full'
  const known = await comeBack(tx, agent.amid, now)
  const inserted = await tx
    .insertInto('agents')
    .values({
      amid: agent.amid,
      ...columns,
      // Until the registry verifies more (specification §8.3).
      tier: TIERS.anonymous.number,
      tier_rank: TIERS.anonymous.rank,
      reputation: Math.min(known ?? ANONYMOUS_REPUTATION, ANONYMOUS_REPUTATION),
      verified_name: null,
      organization: null,
      recovery_key: agent.recoveryKey ?? null,
      presence: agent.presence ?? 'offline',
      last_seen: now,
      registered_at: now,
    })
    .onConflict((conflict) => conflict.column('amid').doNothing())
    .executeTakeFirstOrThrow()
  // Another request of the same agent came first: its record stands, and this one is judged against it.
  if (inserted.numInsertedOrUpdatedRows !== 1n) return putAgent(tx, agent, rule, now)
  await putCapabilities(tx, agent)
  return 'created'
}

/** An agent that comes back is no better than it was, and is evaluated anew. @returns the score it had */
async function comeBack(
  tx: Transaction<Tables>,
  amid: AgentInput['amid'],
  now: number,
): Promise<number | undefined> {
  const row = await tx
    .updateTable('reputation_scores')
    .set({ due_at: now })
    .where('amid', '=', amid)
    .returning('published')
    .executeTakeFirst()
  return row?.published
}

async function putCapabilities(tx: Transaction<Tables>, agent: AgentInput): Promise<void> {
  await tx.deleteFrom('capabilities').where('amid', '=', agent.amid).execute()
  const rows = agent.capabilities.map((capability) => ({ amid: agent.amid, ...capability }))
  for (let start = 0; start < rows.length; start += INSERT_ROWS) {
    await tx
      .insertInto('capabilities')
      .values(rows.slice(start, start + INSERT_ROWS))
      .onConflict((conflict) => conflict.doNothing())
      .execute()
  }
}

export async function countAgents(db: Kysely<Tables>): Promise<number> {
  const row = await db
    .selectFrom('agents')
    .select((eb) => eb.fn.countAll<number>().as('count'))
    .executeTakeFirstOrThrow()
  return row.count
}

export async function searchAgents(db: Kysely<Tables>, input: SearchInput): Promise<StoredAgent[]> {
  const online = sql<number>`case when presence <> 'offline' and last_seen >= ${input.onlineSince} then 1 else 0 end`
  let offers = db.selectFrom('capabilities').select('amid').where('category', '=', input.category)
  if (input.subcategory !== undefined) offers = offers.where('subcategory', '=', input.subcategory)
  offers = offers.where('action', '=', input.action ?? '')

  let query = db
    .selectFrom('agents')
    .select(AGENT_COLUMNS)
    .where('amid', 'in', offers)
    .where('tier_rank', '>=', input.minTierRank)
    .where('last_seen', '>=', input.seenSince)
  if (input.onlineOnly) query = query.where(online, '=', 1)
  const { after } = input
  if (after !== undefined) {
    const rank = after.online ? 1 : 0
    query = query.where((eb) =>
      eb.or([
        eb(online, '<', rank),
        eb.and([
          eb(online, '=', rank),
          eb.or([
            eb('reputation', '<', after.reputation),
            eb.and([eb('reputation', '=', after.reputation), eb('amid', '>', after.amid)]),
          ]),
        ]),
      ]),
    )
  }
  return query
    .orderBy(online, 'desc')
    .orderBy('reputation', 'desc')
    .orderBy('amid', 'asc')
    .limit(input.limit)
    .execute()
}

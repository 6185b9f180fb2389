/** The agent tables: putting a record under its rules. */
import type { Kysely, Transaction } from 'kysely'
import { TIERS } from '@agentmesh/sdk/wire'
import { placeOffers, reachOf, replaceOffers, sayPresence } from './offers.ts'
import type { AgentInput } from './agent-input.ts'
import type { PutOutcome, PutRule } from './store.ts'
import type { Tables } from './tables.ts'

const ANONYMOUS_REPUTATION = 0.5

export const AGENT_COLUMNS = [
  'agents.amid',
  'agents.record',
  'agents.tier',
  'agents.reputation',
  'agents.presence',
  'agents.verified_name as verifiedName',
  'agents.organization',
  'agents.last_seen as lastSeen',
  'agents.registered_at as registeredAt',
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
      ...sayPresence(agent.presence),
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
    await nameRecoveryKey(tx, agent, now)
    await replaceOffers(tx, agent)
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
      await tx.updateTable('agents').set(sayPresence(agent.presence)).where('amid', '=', agent.amid).execute()
      await placeOffers(tx, [agent.amid])
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
      presence: agent.presence ?? 'offline',
      reach: reachOf(agent.presence ?? 'offline'),
      last_seen: now,
      registered_at: now,
    })
    .onConflict((conflict) => conflict.column('amid').doNothing())
    .executeTakeFirstOrThrow()
  // Another request of the same agent came first: its record stands, and this one is judged against it.
  if (inserted.numInsertedOrUpdatedRows !== 1n) return putAgent(tx, agent, rule, now)
  await nameRecoveryKey(tx, agent, now)
  await replaceOffers(tx, agent)
  return 'created'
}

/** The first one counts, also that of an agent that was here before. */
async function nameRecoveryKey(
  tx: Transaction<Tables>,
  { amid, recoveryKey }: AgentInput,
  now: number,
): Promise<void> {
  if (recoveryKey === undefined) return
  await tx
    .insertInto('recovery_keys')
    .values({ amid, recovery_key: recoveryKey, seen_at: now })
    .onConflict((conflict) => conflict.column('amid').doUpdateSet({ seen_at: now }))
    .execute()
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

export async function countAgents(db: Kysely<Tables>): Promise<number> {
  const row = await db
    .selectFrom('agents')
    .select((eb) => eb.fn.countAll<number>().as('count'))
    .executeTakeFirstOrThrow()
  return row.count
}

/**
 * Search as ranges of `offers_search`. A page in the order online, reputation, AMID is merged from
 *
 *     online:   reach 2, of every tier asked for
 *     offline:  reach 1, of every tier asked for, and those of reach 2 that went silent a short time ago
 *
 * and a range that begins at a cursor is two: the rest of that reputation, and everything below it. Each range gives no
 * more than a page. What it passes over was not seen for long, and leaves the range at the next purge.
 */
import type { Kysely } from 'kysely'
import { TIERS } from '@agentmesh/sdk/wire'
import { AGENT_COLUMNS } from './agent-queries.ts'
import type { Reach } from './search-tables.ts'
import type { SearchInput, SearchPosition, StoredAgent } from './store.ts'
import type { Tables } from './tables.ts'

const RANKS = Object.values(TIERS).map(({ rank }) => rank)

type Range = ReturnType<typeof range>

export async function searchAgents(db: Kysely<Tables>, input: SearchInput): Promise<StoredAgent[]> {
  const { after, limit, onlineOnly } = input
  const online =
    after?.online === false
      ? []
      : await merge(
          db,
          ranges(db, input, 2, after).map((part) =>
            part.where('agents.presence', '<>', 'offline').where('agents.last_seen', '>=', input.onlineSince),
          ),
          limit,
        )
  if (onlineOnly || online.length === limit) return online
  const from = after?.online === false ? after : undefined
  const offline = [...ranges(db, input, 1, from), silent(db, input, from)]
  return [...online, ...(await merge(db, offline, limit - online.length))]
}

/** The ranges of one reach behind a place, or all of it. */
function ranges(
  db: Kysely<Tables>,
  input: SearchInput,
  reach: Reach,
  after: SearchPosition | undefined,
): Range[] {
  return RANKS.filter((rank) => rank >= input.minTierRank).flatMap((rank) => {
    const all = range(db, input).where('offers.reach', '=', reach).where('offers.tier_rank', '=', rank)
    if (after === undefined) return [all]
    const { reputation, amid } = after
    return [
      all.where('offers.reputation', '=', reputation).where('offers.amid', '>', amid),
      all.where('offers.reputation', '<', reputation),
    ]
  })
}

/** A cross join is one that SQLite takes in the order written. */
function range(db: Kysely<Tables>, input: SearchInput) {
  return db
    .selectFrom('offers')
    .crossJoin('agents')
    .select(AGENT_COLUMNS)
    .whereRef('agents.amid', '=', 'offers.amid')
    .where('offers.category', '=', input.category)
    .where('offers.subcategory', '=', input.subcategory ?? '')
    .where('offers.action', '=', input.action ?? '')
    .where('agents.last_seen', '>=', input.seenSince)
    .orderBy('offers.reputation', 'desc')
    .orderBy('offers.amid')
    .limit(input.limit)
}

/** Found by when they were last seen: they are as many as stopped without a word within the life of a cursor. */
function silent(db: Kysely<Tables>, input: SearchInput, after: SearchPosition | undefined): Range {
  const all = db
    .selectFrom('agents')
    .crossJoin('offers')
    .select(AGENT_COLUMNS)
    .where('agents.reach', '=', 2)
    .where('agents.last_seen', '<', input.onlineSince)
    .where('agents.last_seen', '>=', input.seenSince)
    .where('agents.tier_rank', '>=', input.minTierRank)
    .whereRef('offers.amid', '=', 'agents.amid')
    .where('offers.category', '=', input.category)
    .where('offers.subcategory', '=', input.subcategory ?? '')
    .where('offers.action', '=', input.action ?? '')
    .orderBy('offers.reputation', 'desc')
    .orderBy('offers.amid')
    .limit(input.limit)
  if (after === undefined) return all
  const { reputation, amid } = after
  return all.where((eb) =>
    eb.or([
      eb('offers.reputation', '<', reputation),
      eb.and([eb('offers.reputation', '=', reputation), eb('offers.amid', '>', amid)]),
    ]),
  )
}

async function merge(db: Kysely<Tables>, parts: readonly Range[], limit: number): Promise<StoredAgent[]> {
  const [first, ...rest] = parts.map((part) => db.selectFrom(part.as('part')).selectAll())
  if (first === undefined) return []
  return rest
    .reduce((all, part) => all.unionAll(part), first)
    .orderBy('reputation', 'desc')
    .orderBy('amid')
    .limit(limit)
    .execute()
}

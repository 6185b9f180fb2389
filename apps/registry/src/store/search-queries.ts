/**
 * Search as ranges of `offers_search`, in one statement. A page in the order online, reputation, AMID is merged from
 *
 *     online:   reach 2, of every tier asked for
 *     offline:  reach 1, of every tier asked for, and those of reach 2 that went silent a short time ago;
 *               not looked at when the page is full without them
 *
 * and a range that begins at a cursor is two: the rest of that reputation, and everything below it. Each range gives no
 * more than a page. What it passes over was not seen for long, and leaves the range at the next purge.
 *
 * The text depends on a few choices only, so that a database plans each once and not with every search.
 */
import { TIERS } from '@agentmesh/sdk/wire'
import type { Reach } from './search-tables.ts'
import type { SearchInput, StoredAgent } from './store.ts'

const RANKS = Object.values(TIERS).map(({ rank }) => rank)
/** Pages are read in one of these sizes, and the store's caller gets what it asked for. */
const PAGE_SIZES = [21, 101] as const

/** Runs a text whose parameters are `$1`, `$2`, ... */
export type ReadStatement = (
  text: string,
  parameters: readonly (string | number)[],
) => Promise<readonly StoredAgent[]>

const COLUMNS = `agents.amid as amid, agents.record as record, agents.tier as tier, agents.reputation as reputation,
  agents.presence as presence, agents.verified_name as "verifiedName", agents.organization as organization,
  agents.last_seen as "lastSeen", agents.registered_at as "registeredAt"`

/** What decides the text. */
interface Shape {
  readonly minTierRank: number
  readonly parts: 'online' | 'offline' | 'both'
  /** In which part the cursor stands. */
  readonly after: 'online' | 'offline' | undefined
  readonly size: number
}

const texts = new Map<string, string>()

export async function searchAgents(read: ReadStatement, input: SearchInput): Promise<StoredAgent[]> {
  const { after, limit, onlineOnly, minTierRank } = input
  if (onlineOnly && after?.online === false) return []
  const shape: Shape = {
    minTierRank,
    parts: onlineOnly ? 'online' : after?.online === false ? 'offline' : 'both',
    after: after === undefined ? undefined : after.online ? 'online' : 'offline',
    size: PAGE_SIZES.find((size) => size >= limit) ?? limit,
  }
  const key = Object.values(shape).join(' ')
  let text = texts.get(key)
  if (text === undefined) texts.set(key, (text = searchText(shape)))
  const { category, subcategory = '', action = '', seenSince, onlineSince } = input
  const parameters = [category, subcategory, action, seenSince, onlineSince]
  const found = await read(
    text,
    after === undefined ? parameters : [...parameters, after.reputation, after.amid],
  )
  return found.slice(0, limit)
}

function searchText({ minTierRank, parts, after, size }: Shape): string {
  const ranks = RANKS.filter((rank) => rank >= minTierRank)
  const online = ranks.flatMap((rank) =>
    boundsOf(after === 'online').map((bound) =>
      range(2, rank, `${bound} and agents.presence <> 'offline' and agents.last_seen >= $5`, size),
    ),
  )
  if (parts === 'online') return merged(online, size)
  const offline = [
    ...ranks.flatMap((rank) => boundsOf(after === 'offline').map((bound) => range(1, rank, bound, size))),
    silent(minTierRank, after === 'offline' ? `(${boundsOf(true).join(' or ')})` : 'true', size),
  ]
  if (parts === 'offline') return merged(offline, size)
  // A limit of none is seen before anything below it is begun, in both databases.
  return `with online as materialized (${merged(online, size)})
select * from (
  select 1 as online, online.* from online union all select 0 as online, offline.* from (
    ${merged(offline, `(select ${size} - count(*) from online)`)}
  ) as offline
) as found order by online desc, reputation desc, amid limit ${size}`
}

/** Where a range begins: at its top, or behind the reputation and AMID of a cursor. */
function boundsOf(isCursor: boolean): string[] {
  return isCursor ? ['offers.reputation = $6 and offers.amid > $7', 'offers.reputation < $6'] : ['true']
}

/** A cross join is one that SQLite takes in the order written. */
function range(reach: Reach, rank: number, condition: string, size: number): string {
  return `select ${COLUMNS} from offers cross join agents
    where agents.amid = offers.amid and ${OFFERED}
      and offers.reach = ${reach} and offers.tier_rank = ${rank} and agents.last_seen >= $4 and ${condition}
    order by offers.reputation desc, offers.amid limit ${size}`
}

const OFFERED = 'offers.category = $1 and offers.subcategory = $2 and offers.action = $3'

/** Found by when they were last seen: they are as many as stopped without a word within the life of a cursor. */
function silent(minTierRank: number, condition: string, size: number): string {
  return `select ${COLUMNS} from agents cross join offers
    where offers.amid = agents.amid and ${OFFERED}
      and agents.reach = 2 and agents.last_seen < $5 and agents.last_seen >= $4
      and agents.tier_rank >= ${minTierRank} and ${condition}
    order by offers.reputation desc, offers.amid limit ${size}`
}

function merged(ranges: readonly string[], size: number | string): string {
  const parts = ranges.map((part, index) => `select * from (${part}) as part${index}`)
  return `${parts.join('\nunion all ')}\norder by reputation desc, amid limit ${size}`
}

/**
 * Search by capability (specification §3.1, §3.2).
 *
 * Results come in one order: online first, then reputation falling, then AMID. A cursor is the last place on a page and
 * the time of the first one, so that passing time moves nobody between pages: every agent that stays as it is comes
 * exactly once. It is readable and unsigned, since a made-up one can only ask for a page that exists anyway.
 *
 *     cursor = base64url(RFC 8785 [as of, online 0 | 1, reputation, amid])
 */
import type { FastifyInstance } from 'fastify'
import {
  AgentMeshError,
  canonicalBytes,
  CategoryText,
  fromBase64Url,
  NameText,
  parseAmid,
  parseIntent,
  parseJson,
  SearchAnswer,
  TAXONOMY,
  TIERS,
  tierRank,
  toBase64Url,
  validate,
  type TierName,
  type TierNumber,
  Type,
} from '@agentmesh/sdk/wire'
import type { Static } from 'typebox'
import { agentText, effectivePresence } from './agents.ts'
import type { Context } from './context.ts'
import { addRoute } from './route.ts'
import type { SearchInput, SearchPosition, StoredAgent } from './store/store.ts'

const DEFAULT_PAGE_AGENTS = 20
const MAX_CURSOR_LENGTH = 256

const SearchQuery = Type.Object(
  {
    capability: Type.String({ maxLength: 200, description: 'category or category/subcategory' }),
    subcategory: Type.Optional(NameText),
    action: Type.Optional(NameText),
    tier_min: Type.Optional(Type.Enum(['1', '1.5', '2', 'anonymous', 'verified', 'organization'])),
    online: Type.Optional(Type.Enum(['true', 'false'])),
    limit: Type.Optional(Type.String({ pattern: '^[1-9][0-9]{0,2}$', description: '1 to 100' })),
    cursor: Type.Optional(Type.String({ maxLength: MAX_CURSOR_LENGTH })),
  },
  { additionalProperties: false },
)
type SearchQuery = Static<typeof SearchQuery>

interface Cursor {
  readonly asOf: number
  readonly position: SearchPosition
}

export function encodeCursor({ asOf, position }: Cursor): string {
  const { online, reputation, amid } = position
  return toBase64Url(canonicalBytes([asOf, online ? 1 : 0, reputation, amid]))
}

/** @throws MALFORMED for anything that `encodeCursor` did not make, or made too long ago */
export function decodeCursor(text: string, now: number, maxAgeMs: number): Cursor {
  try {
    const value = parseJson(fromBase64Url(text), MAX_CURSOR_LENGTH)
    if (!Array.isArray(value) || value.length !== 4) throw new AgentMeshError('MALFORMED')
    const [asOf, online, reputation, amid] = value
    if (
      !Number.isInteger(asOf) ||
      (online !== 0 && online !== 1) ||
      typeof reputation !== 'number' ||
      typeof amid !== 'string'
    ) {
      throw new AgentMeshError('MALFORMED')
    }
    const time = asOf as number
    if (time > now || time < now - maxAgeMs) throw new AgentMeshError('MALFORMED')
    return { asOf: time, position: { online: online === 1, reputation, amid: parseAmid(amid) } }
  } catch (cause) {
    throw new AgentMeshError('MALFORMED', 'The cursor is not valid, or too old: begin the search again', {
      cause,
    })
  }
}

/** @throws MALFORMED when the capability is in no known category or two subcategories are named */
function wanted(query: SearchQuery): Pick<SearchInput, 'category' | 'subcategory' | 'action'> {
  const { category, subcategory } = parseIntent(query.capability)
  try {
    validate(CategoryText, category)
    if (subcategory !== undefined) validate(NameText, subcategory)
  } catch (cause) {
    const known = Object.keys(TAXONOMY).join(', ')
    throw new AgentMeshError(
      'MALFORMED',
      `capability is category[/subcategory], with a category of: ${known}, x-<namespace>/<category>`,
      { cause },
    )
  }
  if (subcategory !== undefined && query.subcategory !== undefined && subcategory !== query.subcategory) {
    throw new AgentMeshError('MALFORMED', 'capability and subcategory name two different subcategories')
  }
  return { category, subcategory: subcategory ?? query.subcategory, action: query.action }
}

function minTierRank(text: string | undefined): number {
  if (text === undefined) return 0
  if (Object.hasOwn(TIERS, text)) return TIERS[text as TierName].rank
  return tierRank(Number(text) as TierNumber)
}

/** The records that fit a page, as JSON, and the place of the last one when there may be more. */
function fillPage(
  found: readonly StoredAgent[],
  limit: number,
  maxBytes: number,
  onlineSince: number,
): { agents: string[]; last: SearchPosition | undefined } {
  const agents: string[] = []
  let bytes = 0
  for (const agent of found.slice(0, limit)) {
    bytes += agent.record.length
    // A page holds at least one agent, else it would never end.
    if (bytes > maxBytes && agents.length > 0) break
    agents.push(agentText(agent, onlineSince))
  }
  const end = found[agents.length - 1]
  if (end === undefined || agents.length === found.length) return { agents, last: undefined }
  const online = effectivePresence(end, onlineSince) !== 'offline'
  return { agents, last: { online, reputation: end.reputation, amid: end.amid } }
}

export function addSearchRoute(app: FastifyInstance, context: Context): void {
  const { limits, store } = context
  addRoute(app, context, {
    method: 'GET',
    url: '/v1/registry/search',
    tag: 'agents',
    summary: 'Find agents by what they offer',
    signed: false,
    query: SearchQuery,
    perIp: 'searchesPerIp',
    answers: { 200: SearchAnswer },
    handle: async ({ query }) => {
      const limit = Number(query.limit ?? DEFAULT_PAGE_AGENTS)
      if (limit > limits.maxPageAgents) {
        throw new AgentMeshError('MALFORMED', `limit is at most ${limits.maxPageAgents}`)
      }
      const now = context.now()
      const cursor =
        query.cursor === undefined ? undefined : decodeCursor(query.cursor, now, limits.cursorSeconds * 1000)
      const asOf = cursor?.asOf ?? now
      const onlineSince = asOf - limits.presenceSeconds * 1000
      const found = await store.search({
        ...wanted(query),
        minTierRank: minTierRank(query.tier_min),
        onlineOnly: query.online === 'true',
        seenSince: asOf - limits.searchableSeconds * 1000,
        onlineSince,
        after: cursor?.position,
        // One more than asked for tells whether there is another page.
        limit: limit + 1,
      })
      const { agents, last } = fillPage(found, limit, limits.maxPageBytes, onlineSince)
      const next = last === undefined ? null : encodeCursor({ asOf, position: last })
      return { status: 200, text: `{"agents":[${agents.join(',')}],"next_cursor":${JSON.stringify(next)}}` }
    },
  })
}

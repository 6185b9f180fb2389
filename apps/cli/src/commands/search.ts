/** `agentmesh search`: agents by what they can do, with every answer's signature checked by the SDK. */
import type { AgentRecord, TierName } from '@agentmesh/sdk'
import { TIERS, tierName } from '@agentmesh/sdk/wire'
import { UsageError } from '../exit-codes.ts'
import { show, table, type Context } from '../output.ts'
import { intentFrom } from './send.ts'
import { clientOf } from './shared.ts'

export interface SearchOptions {
  action?: string
  tierMin?: string
  online?: boolean
  limit?: number
  cursor?: string
}

export async function search(context: Context, capability: string, options: SearchOptions): Promise<void> {
  intentFrom(capability, options.action)
  const { action, tierMin, online, limit, cursor } = options
  const answer = await clientOf(context).search({
    capability,
    ...(action === undefined ? {} : { action }),
    ...(tierMin === undefined ? {} : { tier_min: tierFrom(tierMin) }),
    ...(online === true ? { online: true } : {}),
    ...(limit === undefined ? {} : { limit }),
    ...(cursor === undefined ? {} : { cursor }),
  })
  show(context, answer, ({ agents, next_cursor }) => {
    if (agents.length === 0) return 'No agent with this capability is registered.'
    const more = next_cursor === null ? [] : ['', `More: --cursor ${next_cursor}`]
    return [
      table(['AMID', 'name', 'tier', 'reputation', 'presence', 'can do'], agents.map(row)),
      ...more,
    ].join('\n')
  })
}

function tierFrom(text: string): TierName {
  if (!Object.hasOwn(TIERS, text))
    throw new UsageError(`--tier-min is one of ${Object.keys(TIERS).join(', ')}`)
  return text as TierName
}

function row(agent: AgentRecord): string[] {
  const capabilities = agent.capabilities.map((capability) =>
    typeof capability === 'string'
      ? capability
      : [capability.category, ...(capability.subcategory === undefined ? [] : [capability.subcategory])].join(
          '/',
        ),
  )
  return [
    agent.amid,
    agent.display_name ?? '-',
    tierName(agent.tier),
    agent.reputation_score.toFixed(2),
    agent.presence,
    capabilities.join(', '),
  ]
}

/** Capabilities, intents and trust tiers (specification §2.2, §3.2, §5.2). */
import type { Static } from 'typebox'
import { Type } from './type.ts'
import { PeerText } from './schema.ts'

/** The standard taxonomy: category -> subcategories (specification §3.2). Extended by `x-<namespace>/<category>`. */
export const TAXONOMY = {
  travel: ['flights', 'hotels', 'cars', 'itineraries'],
  commerce: ['shopping', 'price_comparison', 'ordering'],
  finance: ['payments', 'transfers', 'market_data'],
  productivity: ['calendar', 'email', 'documents', 'scheduling'],
  creative: ['image_generation', 'writing', 'music', 'video'],
  research: ['web_search', 'data_analysis', 'summarization'],
  development: ['code_generation', 'debugging', 'deployment'],
  communication: ['messaging_relay', 'translation', 'transcription'],
  marketplace: ['skill_trading', 'task_bidding', 'resource_sharing'],
} as const satisfies Record<string, readonly string[]>

const NAME = '[a-z0-9][a-z0-9_-]{0,63}'
export const CategoryText = Type.String({
  pattern: `^(${Object.keys(TAXONOMY).join('|')}|x-${NAME}/${NAME})$`,
  description: 'A standard category, or x-<namespace>/<category>',
})
export const NameText = Type.String({
  pattern: `^${NAME}$`,
  description: 'Lower-case letters, digits, _ and -; at most 64',
})

/** Trust tiers in the specification's numbers. Never compare them: see `tierRank`. */
export const TierNumber = Type.Union([Type.Literal(1), Type.Literal(1.5), Type.Literal(2)], {
  description: 'Trust tier: 2 anonymous, 1 verified, 1.5 organization; names, not an order',
})
export type TierNumber = Static<typeof TierNumber>
export type TierName = 'anonymous' | 'verified' | 'organization'

export const TIERS: Readonly<Record<TierName, { number: TierNumber; rank: number }>> = {
  anonymous: { number: 2, rank: 0 },
  verified: { number: 1, rank: 1 },
  organization: { number: 1.5, rank: 2 },
}

export function tierName(number: TierNumber): TierName {
  return number === 2 ? 'anonymous' : number === 1 ? 'verified' : 'organization'
}

/** Orders tiers by trust: 0 anonymous, 1 verified, 2 organization (DESIGN §4). */
export function tierRank(number: TierNumber): number {
  return TIERS[tierName(number)].rank
}

export const Capability = Type.Object(
  {
    category: CategoryText,
    subcategory: Type.Optional(NameText),
    actions: Type.Optional(Type.Array(NameText, { maxItems: 32, uniqueItems: true })),
    pricing: Type.Optional(
      Type.Object({
        model: Type.Enum(['free', 'per_request', 'per_message', 'per_minute', 'subscription', 'negotiable']),
        currency: Type.Optional(Type.String({ pattern: '^[A-Za-z]{3,10}$' })),
        amount: Type.Optional(Type.Number({ minimum: 0 })),
      }),
    ),
    response_time_ms: Type.Optional(Type.Integer({ minimum: 0, maximum: 86_400_000 })),
    availability: Type.Optional(PeerText(64, 'Free text such as 24/7')),
  },
  { description: 'What an agent offers (specification §3.2)' },
)
export type Capability = Static<typeof Capability>

export const Urgency = Type.Enum(['low', 'normal', 'high', 'critical'], { description: 'normal when absent' })

export const Intent = Type.Object(
  {
    category: CategoryText,
    subcategory: Type.Optional(NameText),
    action: Type.Optional(NameText),
    urgency: Type.Optional(Urgency),
  },
  { description: 'What a conversation is about (specification §5.2)' },
)
export type Intent = Static<typeof Intent>

/** `category/subcategory`, or `category` alone: how intents are written on the command line and in logs. */
export function formatIntent(intent: Pick<Intent, 'category' | 'subcategory'>): string {
  return intent.subcategory === undefined ? intent.category : `${intent.category}/${intent.subcategory}`
}

/** Reads `category[/subcategory]`; an extension category keeps its own slash (`x-acme/parts/bolts`). */
export function parseIntent(text: string): { category: string; subcategory?: string } {
  const parts = text.split('/')
  const categoryParts = text.startsWith('x-') ? 2 : 1
  const category = parts.slice(0, categoryParts).join('/')
  const subcategory = parts.slice(categoryParts).join('/')
  return subcategory === '' ? { category } : { category, subcategory }
}

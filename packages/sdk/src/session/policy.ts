/**
 * The owner's policy (specification §7.3): who may knock, about what, how much. Data only; `decision.ts` applies it,
 * `policy-text.ts` reads it from a file.
 *
 * Pause and the other circuit breakers are the agent's state, not policy: an owner who resumes has the same policy.
 */
import type { Static } from 'typebox'
import {
  AmidText,
  CategoryText,
  MAX_ATTACHMENT_BYTES,
  NameText,
  parseIntent,
  TierNumber,
  type Intent,
  Type,
} from '../wire/index.ts'

/** `*`, `category` or `category/subcategory`. */
export const IntentPattern = Type.String({
  pattern: `^(\\*|${patternOf(CategoryText)}(/${patternOf(NameText)})?)$`,
  description: 'A category, a category/subcategory, or * for any',
})

/** The schema's pattern without its anchors, to stand in a larger one. */
function patternOf(schema: object): string {
  const pattern: unknown = 'pattern' in schema ? schema.pattern : undefined
  if (typeof pattern !== 'string') throw new TypeError('The schema has no pattern')
  return pattern.slice(1, -1)
}

export const Policy = Type.Object(
  {
    accept_tiers: Type.Array(TierNumber, { description: 'Verified tiers let in: 1, 1.5, 2' }),
    min_reputation: Type.Number({ minimum: 0, maximum: 1 }),
    unknown_revocation: Type.Enum(['anonymous', 'accept'], {
      description: 'What a certificate counts for whose revocation cannot be looked up',
    }),
    accepted_intents: Type.Array(IntentPattern),
    rejected_intents: Type.Array(IntentPattern, { description: 'Looked at before accepted_intents' }),
    blocklist: Type.Array(AmidText),
    allowlist: Type.Array(AmidText),
    strict_mode: Type.Boolean({ description: 'Only the allowlist may knock' }),
    max_concurrent_sessions: Type.Integer({ minimum: 0, maximum: 100_000 }),
    rate_limit: Type.Object(
      {
        knocks_per_minute: Type.Integer({ minimum: 1, maximum: 1_000_000, description: 'A sender' }),
        messages_per_minute: Type.Integer({ minimum: 1, maximum: 1_000_000, description: 'A peer' }),
      },
      { additionalProperties: false },
    ),
    attachments: Type.Object(
      {
        max_bytes: Type.Integer({ minimum: 0, maximum: MAX_ATTACHMENT_BYTES, description: 'Of one file' }),
        max_bytes_per_peer: Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER }),
        max_bytes_in_all: Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER }),
        keep: Type.Boolean({ description: 'Files stay after their session, until the peer is forgotten' }),
      },
      { additionalProperties: false, description: 'What files of peers may take on this disk' },
    ),
    store_transcripts: Type.Boolean(),
    auto_reject_when_offline: Type.Boolean({
      description: 'Turn away KNOCKs that came to the mailbox while the agent was offline',
    }),
    notify_owner: Type.Object(
      {
        on_knock_from_unknown: Type.Boolean(),
        on_high_value_transaction: Type.Boolean(),
        on_error: Type.Boolean(),
        threshold_usd: Type.Number({ minimum: 0 }),
      },
      { additionalProperties: false },
    ),
  },
  {
    $id: 'agentmesh/policy',
    description: 'policy.json; a field left out has its default, an unknown field is a mistake',
    additionalProperties: false,
  },
)
export type Policy = Static<typeof Policy>

const MIB = 1024 * 1024

/** Everybody may knock about anything, at the specification's rates: an agent is there to be reached. */
export function defaultPolicy(): Policy {
  return {
    accept_tiers: [1, 1.5, 2],
    min_reputation: 0,
    unknown_revocation: 'anonymous',
    accepted_intents: ['*'],
    rejected_intents: [],
    blocklist: [],
    allowlist: [],
    strict_mode: false,
    max_concurrent_sessions: 10,
    rate_limit: { knocks_per_minute: 30, messages_per_minute: 100 },
    attachments: {
      max_bytes: 64 * MIB,
      max_bytes_per_peer: 256 * MIB,
      max_bytes_in_all: 2048 * MIB,
      keep: false,
    },
    store_transcripts: true,
    auto_reject_when_offline: false,
    notify_owner: {
      on_knock_from_unknown: false,
      on_high_value_transaction: true,
      on_error: true,
      threshold_usd: 50,
    },
  }
}

/** The first entry that covers the intent: `*` covers all, a category all its subcategories. */
export function matchingIntent(patterns: readonly string[], intent: Intent): string | undefined {
  return patterns.find((pattern) => {
    if (pattern === '*') return true
    const { category, subcategory } = parseIntent(pattern)
    return category === intent.category && (subcategory === undefined || subcategory === intent.subcategory)
  })
}

/** What is known of a peer, other than from the peer: made by `standing.ts`, looked at by `rules.ts`. */
import type { PathFailureCode } from '../identity/index.ts'
import type { TierNumber } from '../wire/index.ts'

/** Why a chain or a claim does not hold: a failure of path validation, or one of these. */
export type FalseClaim = PathFailureCode | 'no_chain' | 'not_in_log' | 'other_tier' | 'other_organization'

export interface VerifiedStanding {
  readonly tier: TierNumber
  readonly reputation: number
  /** As certified; escape before showing. Absent for an agent that is anonymous, whatever it calls itself. */
  readonly displayName?: string
  readonly organization?: string
  /** What the organisation lets it be. */
  readonly role?: string
  /** Name of the registry whose root the tier stands under. */
  readonly root?: string
}

/** An agent without certificate and credential. */
export const ANONYMOUS_STANDING: VerifiedStanding = { tier: 2, reputation: 0.5 }

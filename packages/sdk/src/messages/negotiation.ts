/**
 * Capability negotiation (specification §6.3, spec/schemas.md): one side says what it needs and prefers, the other answers
 * with what fits. Pure: the answer follows from the owner's offer and the peer's message alone.
 *
 *     schema     the peer's order of names; of one name the highest version both have; a family (`agentmesh/travel/v1`)
 *                fits every schema below it of its version, and the narrower name is what is agreed
 *     language   RFC 4647 basic filtering, each list the ranges for the other; the narrower tag is what is agreed
 *     payment    the first of the peer's methods that is ours too
 */
import {
  splitSchemaName,
  type AlternativeAgent,
  type CapabilityNegotiationPayload,
  type CapabilityNegotiationResponsePayload,
  type CapabilityOffer,
} from '../wire/index.ts'

/** What we can do of what a peer needs. Fields nothing fits for are left out of the answer. */
export function negotiate(
  own: CapabilityOffer,
  need: CapabilityNegotiationPayload,
): CapabilityNegotiationResponsePayload {
  const capabilities = new Set(own.capabilities)
  const matched = need.i_need.filter((name) => capabilities.has(name))
  const unavailable = need.i_need.filter((name) => !capabilities.has(name))
  const alternatives = suggestions(own, unavailable)
  const schema = agreeOnSchema(own.schemas ?? [], need.preferred_schemas ?? [])
  const language = agreeOnLanguage(own.languages ?? [], need.languages ?? [])
  const methods = new Set(own.payment_methods)
  const method = (need.payment_methods ?? []).find((name) => methods.has(name))
  return {
    matched,
    unavailable,
    ...(alternatives.length === 0 ? {} : { suggested_alternative: Object.fromEntries(alternatives) }),
    ...(schema === undefined ? {} : { agreed_schema: schema }),
    ...(language === undefined ? {} : { agreed_language: language }),
    ...(method === undefined ? {} : { agreed_payment_method: method }),
  }
}

function suggestions(own: CapabilityOffer, names: readonly string[]): [string, AlternativeAgent][] {
  const known = new Map(Object.entries(own.alternatives ?? {}))
  return names.flatMap((name) => {
    const alternative = known.get(name)
    return alternative === undefined ? [] : [[name, alternative]]
  })
}

/** A pair of names that fit each other, and what they come to. */
interface Fit {
  readonly agreed: string
  readonly version: number
  /** Of the wanted name, without its version: when it was first named. */
  readonly wish: number
  readonly isExact: boolean
}

/** The schema or family both sides speak, as said above; ties go to what we named first. */
export function agreeOnSchema(own: readonly string[], wanted: readonly string[]): string | undefined {
  const bases = wanted.map((name) => splitSchemaName(name).base)
  const fits = wanted.flatMap((theirs) => own.flatMap((ours) => fitOf(theirs, ours, bases)))
  const best = fits.toSorted(
    (a, b) => a.wish - b.wish || b.version - a.version || Number(b.isExact) - Number(a.isExact),
  )
  return best[0]?.agreed
}

function fitOf(theirs: string, ours: string, bases: readonly string[]): Fit[] {
  const want = splitSchemaName(theirs)
  const have = splitSchemaName(ours)
  if (want.version !== have.version) return []
  const fit = { version: want.version, wish: bases.indexOf(want.base), isExact: want.base === have.base }
  if (fit.isExact || have.base.startsWith(`${want.base}/`)) return [{ ...fit, agreed: ours }]
  return want.base.startsWith(`${have.base}/`) ? [{ ...fit, agreed: theirs }] : []
}

/** The language both sides speak, by the order of `wanted`, then of `own`. */
export function agreeOnLanguage(own: readonly string[], wanted: readonly string[]): string | undefined {
  for (const theirs of wanted) {
    for (const ours of own) {
      const agreed = matchesRange(theirs, ours) ? ours : matchesRange(ours, theirs) ? theirs : '*'
      // Two sides that speak anything have not named a language.
      if (agreed !== '*') return agreed
    }
  }
  return undefined
}

/** RFC 4647 section 3.3.1: a range matches a tag that is equal, or longer behind a hyphen; in either case. */
function matchesRange(range: string, tag: string): boolean {
  if (range === '*') return true
  const [prefix, text] = [range.toLowerCase(), tag.toLowerCase()]
  return text === prefix || text.startsWith(`${prefix}-`)
}

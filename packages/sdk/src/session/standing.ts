/**
 * What a KNOCK's sender can show for itself: certificate chain, its proof of being in the registry's log, and reputation
 * credential (DESIGN §8, spec/knock.md 7). Pure: the agent fetches revocation lists before it asks (`issuersToCheck`).
 *
 *     nothing shown, nothing claimed         anonymous
 *     a tier or organisation claimed alone   a lie
 *     chain under a root we do not trust     anonymous: nothing is known of it, good or bad
 *     chain under one whose log is broken    anonymous: the registry lied, perhaps not the sender
 *     chain under a root we trust            verified, or a lie (expired, revoked, another agent's, not in the log, ...)
 *     revocation or log head out of date     anonymous, or as the owner chose for revocation
 *
 * Whatever is wrong with a credential, it only does not count: the tier's starting reputation does.
 */
import {
  certificateFromText,
  validatePath,
  verifyCertificateProof,
  verifyReputationCredential,
  type ChainCache,
  type Crl,
  type PathVerdict,
  type TrustedRegistry,
} from '../identity/index.ts'
import {
  fromBase64,
  isAgentMeshError,
  type Amid,
  type JsonValue,
  type Knock,
  type TierNumber,
} from '../wire/index.ts'
import { ANONYMOUS_STANDING, type FalseClaim, type VerifiedStanding } from './verified-standing.ts'

/** Reputation of an agent of which nothing is known but its tier (specification §8.3). */
export const STARTING_REPUTATION: Readonly<Record<TierNumber, number>> = { 2: 0.5, 1: 0.6, 1.5: 0.7 }

export interface TrustContext {
  /** Those whose roots the owner trusts. */
  readonly registries: readonly TrustedRegistry[]
  /** Those whose log contradicted itself: what they certify counts for nothing, and is no lie of who shows it. */
  readonly inconsistent?: readonly TrustedRegistry[]
  /** The newest list we hold of an issuer. */
  readonly crlOf: (keyId: string) => Crl | undefined
  /** The policy's `unknown_revocation`. */
  readonly unknownRevocation: 'anonymous' | 'accept'
  readonly cache?: ChainCache
}

/** Of an owner who trusts no registry. */
export const NO_TRUST: TrustContext = {
  registries: [],
  crlOf: () => undefined,
  unknownRevocation: 'anonymous',
}

/** Whose chain it is to be: the KNOCK's sender, and EK_A of its header; of an ACCEPT, which its sender signed, the sender. */
export interface ChainSubject {
  readonly from: Amid
  readonly ephemeralKey?: Uint8Array
}

export interface CheckedStanding {
  readonly standing: VerifiedStanding
  /** The KNOCK is to be refused for it, as `unverified_claim`. */
  readonly falseClaim?: FalseClaim
  /** For the owner's trace. Text in it may come from the peer: escape before showing. */
  readonly findings: Readonly<Record<string, JsonValue>>
}

/** A KNOCK, or an ACCEPT, which claims nothing beside what it shows. */
export type Shown = Pick<Knock, 'certificate_chain' | 'certificate_proof' | 'reputation_credential'> & {
  readonly from?: Pick<Knock['from'], 'tier' | 'organization'>
}

/** @param now milliseconds since the epoch. Never throws for what stands in the KNOCK. */
export function verifyStanding(
  knock: Shown,
  subject: ChainSubject,
  trust: TrustContext,
  now: number,
): CheckedStanding {
  const chain = verifyChain(knock, subject, trust, now)
  const credential = verifyCredential(knock, subject.from, trust, now)
  const { tier } = chain.standing
  return {
    ...chain,
    standing: { ...chain.standing, reputation: credential.score ?? STARTING_REPUTATION[tier] },
    findings: { ...chain.findings, ...credential.findings },
  }
}

const NO_CLAIM: NonNullable<Shown['from']> = { tier: 2 }

/** A lie found out about leaves its teller anonymous in everything else that is shown of it. */
function lie(falseClaim: FalseClaim, findings: CheckedStanding['findings']): CheckedStanding {
  return { standing: ANONYMOUS_STANDING, falseClaim, findings }
}

function verifyChain(knock: Shown, subject: ChainSubject, trust: TrustContext, now: number): CheckedStanding {
  const { from = NO_CLAIM, certificate_chain: texts } = knock
  if (texts === undefined) {
    const claimsNothing = from.tier === 2 && (from.organization ?? '') === ''
    const findings = { chain: 'none' }
    return claimsNothing ? { standing: ANONYMOUS_STANDING, findings } : lie('no_chain', findings)
  }
  let registry: TrustedRegistry | undefined
  let broken: TrustedRegistry | undefined
  let chain: Uint8Array[]
  try {
    registry = registryOf(texts, trust.registries)
    broken = registryOf(texts, trust.inconsistent ?? [])
    chain = texts.map(fromBase64)
  } catch (error) {
    if (isAgentMeshError(error)) return lie('malformed', { chain: 'malformed' })
    throw error
  }
  if (broken !== undefined) {
    const findings = { chain: 'log_inconsistent', registry: broken.name }
    return { standing: ANONYMOUS_STANDING, findings }
  }
  if (registry === undefined) return { standing: ANONYMOUS_STANDING, findings: { chain: 'unknown_root' } }

  const verdict = validatePath(chain, registry, {
    now,
    amid: subject.from,
    ...(subject.ephemeralKey === undefined ? {} : { sessionKey: subject.ephemeralKey }),
    crlOf: trust.crlOf,
    cache: trust.cache,
  })
  const findings = { chain: 'valid', registry: registry.name, revocation: verdict.revocation }
  if (!verdict.valid || verdict.agent === undefined) {
    const { code = 'malformed', step = '', depth = 0 } = verdict.failure ?? {}
    const found = { ...findings, chain: code, step, depth }
    // That our own copy of the registry's certificates is out of date is no lie of the sender's.
    const isOurs = depth >= chain.length && (code === 'expired' || code === 'not_yet_valid')
    return isOurs ? { standing: ANONYMOUS_STANDING, findings: found } : lie(code, found)
  }
  const log = proofOutcome(verdict.agent.der, knock, registry, now)
  const found = { ...findings, log }
  if (log !== 'proven' && log !== 'TREE_HEAD_STALE') return lie('not_in_log', found)
  const claim = contradiction(from, verdict)
  if (claim !== undefined) return lie(claim, found)
  const isRevocationKnown = verdict.revocation === 'good' || trust.unknownRevocation === 'accept'
  if (log !== 'proven' || !isRevocationKnown) return { standing: ANONYMOUS_STANDING, findings: found }

  const { tier = 2, displayName, organization, role } = verdict
  return {
    standing: {
      tier,
      reputation: STARTING_REPUTATION[tier],
      ...(displayName === undefined ? {} : { displayName }),
      ...(organization === undefined ? {} : { organization }),
      ...(role === undefined ? {} : { role }),
      root: registry.name,
    },
    findings: found,
  }
}

/** The registry that the last certificate was issued under, as far as its issuer's key id goes. @throws CERTIFICATE_MALFORMED */
function registryOf(
  texts: readonly string[],
  registries: readonly TrustedRegistry[],
): TrustedRegistry | undefined {
  const { authorityKeyId } = certificateFromText(texts.at(-1) ?? '')
  return registries.find(({ root, intermediates }) =>
    [...intermediates, root].some(({ keyId }) => keyId === authorityKeyId),
  )
}

function proofOutcome(agent: Uint8Array, knock: Shown, registry: TrustedRegistry, now: number): string {
  if (knock.certificate_proof === undefined) return 'missing'
  try {
    verifyCertificateProof(agent, knock.certificate_proof, registry, now)
    return 'proven'
  } catch (error) {
    if (isAgentMeshError(error)) return error.code
    throw error
  }
}

/** What the KNOCK says of itself and its own chain does not. To claim less than one could show is no lie. */
function contradiction(claimed: NonNullable<Shown['from']>, verdict: PathVerdict): FalseClaim | undefined {
  if (claimed.tier !== 2 && claimed.tier !== verdict.tier) return 'other_tier'
  const organization = claimed.organization ?? ''
  return organization !== '' && organization !== verdict.organization ? 'other_organization' : undefined
}

function verifyCredential(
  { reputation_credential: credential }: Shown,
  amid: Amid,
  { registries, inconsistent = [] }: TrustContext,
  now: number,
): { readonly score?: number; readonly findings: CheckedStanding['findings'] } {
  if (credential === undefined) return { findings: { credential: 'none' } }
  const registry = registries.find(({ fingerprint }) => fingerprint === credential.registry)
  if (registry === undefined) {
    const isBroken = inconsistent.some(({ fingerprint }) => fingerprint === credential.registry)
    return { findings: { credential: isBroken ? 'log_inconsistent' : 'unknown_registry' } }
  }
  const { fingerprint, serviceKey } = registry
  try {
    const { score } = verifyReputationCredential(credential, { registry: fingerprint, serviceKey, amid, now })
    return { score, findings: { credential: 'valid' } }
  } catch (error) {
    if (isAgentMeshError(error)) return { findings: { credential: error.code } }
    throw error
  }
}

export interface IssuersToCheck {
  readonly registry: TrustedRegistry
  /** Of the root, the intermediates and the chain's own organisation: what `crlOf` will be asked for. */
  readonly keyIds: readonly string[]
}

/** Whose lists an agent should have before it asks `verifyStanding`; undefined when no registry it trusts is concerned. */
export function issuersToCheck(
  texts: Knock['certificate_chain'],
  trust: Pick<TrustContext, 'registries'>,
): IssuersToCheck | undefined {
  if (texts === undefined) return undefined
  try {
    const top = certificateFromText(texts.at(-1) ?? '')
    const registry = registryOf(texts, trust.registries)
    if (registry === undefined) return undefined
    const issuer = registry.intermediates.find(({ keyId }) => keyId === top.authorityKeyId)
    const above = issuer === undefined ? [] : [issuer.keyId]
    const own = top.nameConstraints === undefined ? [] : [top.keyId]
    return { registry, keyIds: [registry.root.keyId, ...above, ...own] }
  } catch (error) {
    if (isAgentMeshError(error)) return undefined
    throw error
  }
}

/**
 * Whether a chain of certificates holds under a root, and what it then says (RFC 5280 §6.1, DESIGN §8, spec/certificates.md).
 *
 *     chain, leaf first    [session] agent [organisation]        as a KNOCK carries it
 *     anchor               intermediate, root                    as the owner trusts them
 *
 * There is no search for a path: the order is given, and each issuer follows from the certificate's authority key id. A chain
 * of more than four certificates is refused unread, so the most that anybody can make us do is five signature checks. Each
 * check of the RFC has its step beside it; what our profile asks beyond them comes after. It is stricter than the RFC: names
 * are compared as bytes, nothing below the root may be self-issued, and there are no policies, which no profile of ours has.
 */
import { equalBytes } from '../../crypto/signing.ts'
import { isAgentMeshError, type Amid, type TierNumber } from '../../wire/index.ts'
import type { ChainCache } from './chain-cache.ts'
import { isSignedBy, parseCertificate, type Certificate, type NameConstraints } from './certificate.ts'
import { kindOf, type CertificateKind } from './certificate-kind.ts'
import { verifyCrl, type Crl } from './crl.ts'
import { equalNames, isWithin } from './distinguished-name.ts'

/** Certificates in a chain, without those of the anchor's that it need not carry. */
export const MAX_CHAIN_LENGTH = 4

export interface PathAnchor {
  readonly root: Certificate
  readonly intermediates: readonly Certificate[]
}

export interface PathContext {
  /** Milliseconds since the epoch. */
  readonly now: number
  /** Whose chain it is to be. */
  readonly amid: Amid
  /** X25519, 32 bytes: with it the chain must begin with a session certificate for this key, without it with the agent's. */
  readonly sessionKey?: Uint8Array
  /** The newest list we hold of an issuer. It is verified here. */
  readonly crlOf: (keyId: string) => Crl | undefined
  /** Kept by whoever validates many chains. */
  readonly cache?: ChainCache | undefined
}

export type PathFailureCode =
  | 'chain_length'
  | 'malformed'
  | 'unknown_issuer'
  | 'signature'
  | 'not_yet_valid'
  | 'expired'
  | 'revoked'
  | 'name_chaining'
  | 'name_constraints'
  | 'not_a_ca'
  | 'path_length'
  | 'key_usage'
  | 'unknown_critical_extension'
  | 'profile'
  | 'amid_mismatch'
  | 'session_key_mismatch'

export interface PathFailure {
  readonly code: PathFailureCode
  /** Of RFC 5280, or the section of our own profile. */
  readonly step: string
  /** 0 is the leaf. */
  readonly depth: number
}

/** `unknown`: a list is missing, stale or not its issuer's, and no list says that a certificate was revoked. */
export type RevocationState = 'good' | 'revoked' | 'unknown'

export interface PathVerdict {
  /** Says nothing about `revocation: unknown`: that is the owner's choice. */
  readonly valid: boolean
  readonly failure?: PathFailure
  readonly revocation: RevocationState
  readonly tier?: TierNumber
  /** As certified; escape before showing. */
  readonly displayName?: string
  readonly organization?: string
  /** What the organisation lets it be. */
  readonly role?: string
  /** The agent's certificate, and the path from leaf to root. */
  readonly agent?: Certificate
  readonly path?: readonly Certificate[]
}

/** @param chain DER of each, leaf first. Never throws for what is in it. */
export function validatePath(
  chain: readonly Uint8Array[],
  anchor: PathAnchor,
  context: PathContext,
): PathVerdict {
  const built = buildPath(chain, anchor, context.cache)
  if ('code' in built) return { valid: false, failure: built, revocation: 'unknown' }
  const { below } = built
  const path = [...below, anchor.root]
  const { failure, revocation } = checkPath(below, anchor.root, context)
  const agent = below.slice(0, 2).find((certificate) => kindOf(certificate) === 'agent')
  const broken = failure ?? checkProfile(path) ?? checkBinding(path, agent, context)
  if (broken !== undefined || agent === undefined) {
    return { valid: false, ...(broken === undefined ? {} : { failure: broken }), revocation }
  }
  context.cache?.keep(path)
  const { commonName, organization, role } = agent.subject
  return {
    valid: true,
    revocation,
    tier: organization === undefined ? 1 : 1.5,
    ...(commonName === undefined || commonName === agent.amid ? {} : { displayName: commonName }),
    ...(organization === undefined ? {} : { organization }),
    ...(role === undefined ? {} : { role }),
    agent,
    path,
  }
}

function buildPath(
  chain: readonly Uint8Array[],
  { root, intermediates }: PathAnchor,
  cache: ChainCache | undefined,
): { readonly below: readonly Certificate[] } | PathFailure {
  if (chain.length < 1 || chain.length > MAX_CHAIN_LENGTH) {
    return { code: 'chain_length', step: 'certificates 4', depth: 0 }
  }
  const below: Certificate[] = []
  for (const [depth, der] of chain.entries()) {
    try {
      below.push(cache === undefined ? parseCertificate(der) : cache.read(der))
    } catch (error) {
      if (isAgentMeshError(error)) return { code: 'malformed', step: '4.1', depth }
      throw error
    }
  }
  const authorityKeyId = below.at(-1)?.authorityKeyId
  const intermediate = intermediates.find(({ keyId }) => keyId === authorityKeyId)
  if (intermediate === undefined && authorityKeyId !== root.keyId) {
    return { code: 'unknown_issuer', step: '6.1.1 (d)', depth: below.length - 1 }
  }
  return { below: [...below, ...(intermediate === undefined ? [] : [intermediate])] }
}

/** The basic path validation of RFC 5280, for what stands below a root, leaf first. Of the root only the dates are checked. */
export function checkPath(
  below: readonly Certificate[],
  root: Certificate,
  { now, crlOf, cache }: Pick<PathContext, 'now' | 'crlOf' | 'cache'>,
): { readonly failure?: PathFailure; readonly revocation: RevocationState } {
  let revocation: RevocationState = 'good'
  const fail = (code: PathFailureCode, step: string, depth: number) => ({
    failure: { code, step, depth },
    revocation: code === 'revoked' ? code : revocation,
  })

  // 6.1.1 (d): an anchor's dates are ours to judge.
  if (now < root.notBefore) return fail('not_yet_valid', '6.1.1 (d)', below.length)
  if (now >= root.notAfter) return fail('expired', '6.1.1 (d)', below.length)
  // 6.1.2
  const constraints: NameConstraints[] = root.nameConstraints === undefined ? [] : [root.nameConstraints]
  let maxPathLength = root.pathLength ?? below.length
  let issuer = root
  for (const [depth, certificate] of [...below.entries()].toReversed()) {
    // 6.1.3 (a)(1)
    const isSigned =
      cache?.isKnown(certificate, issuer.publicKey.bytes) === true || isSignedBy(certificate, issuer)
    if (!isSigned) return fail('signature', '6.1.3 (a)(1)', depth)
    // 6.1.3 (a)(2)
    if (now < certificate.notBefore) return fail('not_yet_valid', '6.1.3 (a)(2)', depth)
    if (now >= certificate.notAfter) return fail('expired', '6.1.3 (a)(2)', depth)
    // 6.1.3 (a)(3)
    const state = revocationOf(certificate, issuer, crlOf, now)
    if (state === 'revoked') return fail('revoked', '6.1.3 (a)(3)', depth)
    if (state === 'unknown') revocation = 'unknown'
    // 6.1.3 (a)(4), and the key that the certificate names beside the issuer
    if (!equalNames(certificate.issuerName, issuer.subject))
      return fail('name_chaining', '6.1.3 (a)(4)', depth)
    if (certificate.authorityKeyId !== issuer.keyId) return fail('name_chaining', '4.2.1.1', depth)
    // 6.1.3 (b)
    if (!constraints.every((constraint) => isPermitted(certificate, constraint))) {
      return fail('name_constraints', '6.1.3 (b)', depth)
    }
    // 6.1.4 (o), 6.1.5 (f)
    if (certificate.unknownCritical.length > 0) {
      return fail('unknown_critical_extension', depth === 0 ? '6.1.5 (f)' : '6.1.4 (o)', depth)
    }
    if (depth === 0) break

    // 6.1.4 (g)
    if (certificate.nameConstraints !== undefined) constraints.push(certificate.nameConstraints)
    // 6.1.4 (k)
    if (!certificate.isCa) return fail('not_a_ca', '6.1.4 (k)', depth)
    // 6.1.4 (l)
    if (maxPathLength <= 0) return fail('path_length', '6.1.4 (l)', depth)
    maxPathLength--
    // 6.1.4 (m)
    maxPathLength = Math.min(maxPathLength, certificate.pathLength ?? maxPathLength)
    // 6.1.4 (n)
    if (!certificate.keyUsage.includes('keyCertSign')) return fail('key_usage', '6.1.4 (n)', depth)
    issuer = certificate
  }
  return { revocation }
}

/**
 * RFC 5280 6.3.3, with complete lists of the issuer's own. What an agent issues is not looked up: a session certificate lives
 * for hours, agents sign no lists, and revoking the agent's certificate ends its sessions' too.
 */
function revocationOf(
  certificate: Certificate,
  issuer: Certificate,
  crlOf: PathContext['crlOf'],
  now: number,
): RevocationState {
  if (issuer.did !== undefined) return 'good'
  const crl = crlOf(issuer.keyId)
  if (crl === undefined) return 'unknown'
  try {
    const state = verifyCrl(crl, issuer, now)
    // 6.3.3 (j)
    if (crl.entries.has(certificate.serial)) return 'revoked'
    return state === 'current' ? 'good' : 'unknown'
  } catch (error) {
    if (isAgentMeshError(error)) return 'unknown'
    throw error
  }
}

/** RFC 5280 4.2.1.10. A name of a form that has no constraint is free; every name of one that has must fit one of them. */
function isPermitted({ subject, dnsNames }: Certificate, constraints: NameConstraints): boolean {
  const { directoryNames, dnsNames: domains } = constraints
  return (
    (directoryNames.length === 0 || directoryNames.some((base) => isWithin(subject, base))) &&
    (domains.length === 0 ||
      dnsNames.every((name) => domains.some((domain) => name === domain || name.endsWith(`.${domain}`))))
  )
}

// --- our own profile ------------------------------------------------------------------------------------------------

/** Kinds of certificate from the leaf up; each may stand only below one of these. */
const ISSUERS: Readonly<Record<CertificateKind, readonly CertificateKind[]>> = {
  session: ['agent'],
  agent: ['organization', 'intermediate'],
  organization: ['intermediate'],
  service: ['intermediate'],
  intermediate: ['root'],
  root: [],
}

/** That every certificate is of a kind of ours and stands where that kind stands. */
export function checkProfile(path: readonly Certificate[]): PathFailure | undefined {
  for (const [depth, certificate] of path.entries()) {
    const kind = kindOf(certificate)
    const issuer = path[depth + 1]
    const issuerKind = issuer && kindOf(issuer)
    const isInPlace =
      kind !== undefined &&
      (issuer === undefined
        ? kind === 'root'
        : issuerKind !== undefined &&
          ISSUERS[kind].includes(issuerKind) &&
          !equalNames(certificate.subject, issuer.subject))
    if (!isInPlace) return { code: 'profile', step: 'certificates 2', depth }
    // Who is an organisation's says so, and nobody else does.
    const { organization, role } = certificate.subject
    const isOwned =
      organization === organizationAbove(issuer) && (organization !== undefined || role === undefined)
    if (kind === 'agent' && !isOwned) {
      return { code: 'profile', step: 'certificates 2.4', depth }
    }
  }
  return undefined
}

function organizationAbove(issuer: Certificate | undefined): string | undefined {
  return issuer !== undefined && kindOf(issuer) === 'organization' ? issuer.subject.organization : undefined
}

/** That the chain is this agent's, and its leaf this session's (DESIGN §4: whatever names an AMID is checked against its key). */
function checkBinding(
  path: readonly Certificate[],
  agent: Certificate | undefined,
  { amid, sessionKey }: Pick<PathContext, 'amid' | 'sessionKey'>,
): PathFailure | undefined {
  const [leaf] = path
  const at = (code: PathFailureCode, depth = 0): PathFailure => ({ code, step: 'certificates 5', depth })
  if (leaf === undefined || agent === undefined) return at('profile')
  if (agent.amid !== amid) return at('amid_mismatch', path.indexOf(agent))
  if (sessionKey === undefined) return leaf === agent ? undefined : at('profile')
  if (leaf === agent) return at('profile')
  if (leaf.amid !== amid) return at('amid_mismatch')
  return equalBytes(leaf.publicKey.bytes, sessionKey) ? undefined : at('session_key_mismatch')
}

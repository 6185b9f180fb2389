/**
 * The DNS record by which an organisation proves its domain (DESIGN §8), in one TXT string of `_agentmesh.<domain>`:
 *
 *     agentmesh-verify=1 amid=<AMID> org=<16 characters> expires=<RFC 3339> proof=<43 characters>
 *     org   = base64url(first 12 bytes of SHA-256 of domain and name, each behind its length)
 *     proof = base64url(HMAC-SHA-256(this registry's key, domain, name, AMID and expiry, each behind its length))
 *
 * So a record is good for one organisation, one AMID and one registry, until it expires, and nothing has to be remembered
 * between giving it out and finding it. It is no secret: whoever copies it proves somebody else's claim.
 */
import { equalBytes, hmacSha256, lengthPrefixed, sha256 } from '@agentmesh/sdk/crypto/signing'
import {
  AgentMeshError,
  formatTimestamp,
  fromBase64Url,
  parseAmid,
  parseTimestamp,
  toBase64Url,
  utf8Bytes,
  type Amid,
} from '@agentmesh/sdk/wire'

export const PROOF_PREFIX = 'agentmesh-verify='
const FORM = /^agentmesh-verify=1 amid=(\S{20,28}) org=([\w-]{16}) expires=(\S{20,24}) proof=([\w-]{43})$/
const ORGANIZATION_BYTES = 12
/** `_agentmesh.` and the domain are a name of at most 253 characters. */
const MAX_DOMAIN_LENGTH = 242
const LABEL = '[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?'
const DOMAIN = new RegExp(`^(${LABEL}\\.)+[a-z]([a-z0-9-]{0,61}[a-z0-9])?$`)
const MAX_SHOWN = 100

/** Who claims which domain under which name. */
export interface DomainClaim {
  readonly domain: string
  readonly name: string
  readonly amid: Amid
}

/** The name that the record stands under. */
export function proofHost(domain: string): string {
  return `_agentmesh.${domain}`
}

/** @throws MALFORMED unless a domain of at least two labels in lower-case A-labels, and no address */
export function checkDomain(text: string): string {
  if (text.length > MAX_DOMAIN_LENGTH || !DOMAIN.test(text)) {
    throw new AgentMeshError(
      'MALFORMED',
      'The domain is not a name such as acme.example, in lower case and with xn-- for other letters',
    )
  }
  return text
}

/** @param expiresAt milliseconds since the epoch */
export function makeProof(claim: DomainClaim, expiresAt: number, key: Uint8Array): string {
  const expires = formatTimestamp(expiresAt)
  const proof = toBase64Url(mac(claim, expires, key))
  return `${PROOF_PREFIX}1 amid=${claim.amid} org=${organizationOf(claim)} expires=${expires} proof=${proof}`
}

/**
 * Checks what was found in the DNS.
 *
 * @param found every TXT string of the host that begins with `agentmesh-verify=`
 * @param now milliseconds since the epoch
 * @returns when the proof expires, milliseconds since the epoch
 * @throws DOMAIN_PROOF_MISSING; DOMAIN_PROOF_INVALID saying what was found: several, another form, another agent's, another
 *   organisation's, forged, or expired
 */
export function checkProof(
  found: readonly string[],
  claim: DomainClaim,
  key: Uint8Array,
  now: number,
): number {
  const host = proofHost(claim.domain)
  const [text, ...others] = found
  if (text === undefined) {
    throw new AgentMeshError(
      'DOMAIN_PROOF_MISSING',
      `${host} has no TXT record that begins with ${PROOF_PREFIX}`,
    )
  }
  if (others.length > 0) {
    throw invalid(`${host} has ${found.length} ${PROOF_PREFIX} records: leave the newest only`)
  }
  const [, amid = '', organization = '', expires = '', proof = ''] = FORM.exec(text) ?? []
  if (amid === '') throw invalid(`The record at ${host} is not in form: ${shown(text)}`)
  if (amid !== claim.amid) {
    throw invalid(`The record at ${host} is that of another agent: ${shownAmid(amid)}`)
  }
  if (organization !== organizationOf(claim)) {
    throw invalid(
      `The record at ${host} is that of another organisation, or of another name or domain of this one`,
    )
  }
  if (!matches(proof, mac(claim, expires, key))) {
    throw invalid(
      `The record at ${host} was not given out by this registry as it stands there: ${shown(text)}`,
    )
  }
  // Authentic, so in form.
  const expiresAt = parseTimestamp(expires)
  if (expiresAt <= now) throw invalid(`The record at ${host} expired at ${expires}: ask for a new one`)
  return expiresAt
}

function organizationOf({ domain, name }: DomainClaim): string {
  const hash = sha256(lengthPrefixed(utf8Bytes(domain), utf8Bytes(name)))
  return toBase64Url(hash.subarray(0, ORGANIZATION_BYTES))
}

function mac({ domain, name, amid }: DomainClaim, expires: string, key: Uint8Array): Uint8Array {
  return hmacSha256(key, lengthPrefixed(...[domain, name, amid, expires].map(utf8Bytes)))
}

function matches(text: string, expected: Uint8Array): boolean {
  try {
    return equalBytes(fromBase64Url(text), expected)
  } catch {
    return false
  }
}

function shownAmid(text: string): string {
  try {
    return parseAmid(text)
  } catch {
    return 'it names none'
  }
}

/** What stands in the DNS is anybody's text. */
export function shown(text: string, length = MAX_SHOWN): string {
  const printable = text.replaceAll(/[^ -~]/g, '?')
  return `"${printable.length > length ? `${printable.slice(0, length)}...` : printable}"`
}

function invalid(message: string): AgentMeshError {
  return new AgentMeshError('DOMAIN_PROOF_INVALID', message, { operation: 'check a domain' })
}

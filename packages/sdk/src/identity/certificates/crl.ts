/**
 * Certificate revocation lists (RFC 5280 §5): version 2, Ed25519, complete (no deltas), one for each issuer and signed by it.
 *
 *     extensions of the list      authority key identifier (the issuer's keyId), CRL number
 *     extension of an entry       reason code; absent means `unspecified`
 *
 * At most 512 KiB, which is about ten thousand entries: an issuer with more waits for certificates to end.
 */
import { ed25519VerifyRaw, equalBytes } from '../../crypto/signing.ts'
import { AgentMeshError } from '../../wire/index.ts'
import { readAuthorityKeyId, type Certificate } from './certificate.ts'
import {
  contextConstructed,
  checkAlgorithm,
  DerReader,
  malformed,
  readExtensions,
  readSigned,
  readWhole,
  TAG,
} from './der-reader.ts'
import {
  derExtension,
  derNumber,
  derSequence,
  derSerial,
  derSigned,
  derTime,
  derValue,
  ED25519_ALGORITHM,
} from './der-writer.ts'
import { equalNames, readName, type DistinguishedName } from './distinguished-name.ts'
import { authorityKeyId, type Issuer } from './issue.ts'

export const MAX_CRL_BYTES = 512 * 1024
const VERSION_2 = 1
const OID_CRL_NUMBER = '2.5.29.20'
const OID_REASON = '2.5.29.21'
const OID_AUTHORITY_KEY_ID = '2.5.29.35'

/** Those of RFC 5280 5.3.1 that end a certificate for good, and their codes. */
const REASON_CODES = {
  unspecified: 0,
  keyCompromise: 1,
  cACompromise: 2,
  affiliationChanged: 3,
  superseded: 4,
  cessationOfOperation: 5,
  privilegeWithdrawn: 9,
} as const
export type RevocationReason = keyof typeof REASON_CODES
export const REVOCATION_REASONS = Object.keys(REASON_CODES) as readonly RevocationReason[]

export interface CrlEntry {
  /** Lower-case hex. */
  readonly serial: string
  /** Milliseconds since the epoch. */
  readonly revokedAt: number
  readonly reason: RevocationReason
}

export interface Crl {
  readonly der: Uint8Array
  readonly signed: Uint8Array
  readonly signature: Uint8Array
  readonly issuerName: DistinguishedName
  /** keyId of the issuer. */
  readonly authorityKeyId: string
  /** Goes up with every list. */
  readonly number: number
  /** Milliseconds since the epoch. */
  readonly thisUpdate: number
  readonly nextUpdate: number
  /** By serial. */
  readonly entries: ReadonlyMap<string, CrlEntry>
}

export interface CrlFields {
  readonly entries: readonly CrlEntry[]
  /** 0 to 2^47 - 1, higher than that of the list before. */
  readonly number: number
  /** Milliseconds since the epoch; written in whole seconds. */
  readonly thisUpdate: number
  readonly nextUpdate: number
}

/** @throws CERTIFICATE_MALFORMED for a list that `parseCrl` refuses */
export function issueCrl(fields: CrlFields, issuer: Issuer): Uint8Array {
  const { entries, number, thisUpdate, nextUpdate } = fields
  const extensions = [authorityKeyId(issuer), derExtension(OID_CRL_NUMBER, false, derNumber(number))]
  const signed = derSequence(
    derNumber(VERSION_2),
    ED25519_ALGORITHM,
    issuer.certificate.subject.der,
    derTime(thisUpdate),
    derTime(nextUpdate),
    // RFC 5280 5.1.2.6: without entries the list of them is absent.
    ...(entries.length === 0 ? [] : [derSequence(...entries.map(makeEntry))]),
    derValue(contextConstructed(0), derSequence(...extensions)),
  )
  const der = derSigned(signed, issuer.signing.secretKey)
  parseCrl(der)
  return der
}

function makeEntry({ serial, revokedAt, reason }: CrlEntry): Uint8Array {
  const code = derNumber(REASON_CODES[reason], TAG.enumerated)
  const extensions = reason === 'unspecified' ? [] : [derSequence(derExtension(OID_REASON, false, code))]
  return derSequence(derSerial(serial), derTime(revokedAt), ...extensions)
}

/** @throws CERTIFICATE_MALFORMED for anything but the canonical DER of a CRL in our profile, in at most 512 KiB */
export function parseCrl(der: Uint8Array): Crl {
  if (der.length > MAX_CRL_BYTES) throw malformed('The CRL is too large')
  const { signed, signature } = readSigned(der)
  const tbs = new DerReader(signed).enter()
  if (tbs.number() !== VERSION_2) throw malformed('Not a version 2 CRL')
  checkAlgorithm(tbs)
  const issuerName = readName(tbs.whole(TAG.sequence))
  const thisUpdate = tbs.time()
  const nextUpdate = tbs.time()
  if (nextUpdate <= thisUpdate) throw malformed('The CRL ends before it begins')
  const entries = tbs.isNext(TAG.sequence) ? readEntries(tbs.enter()) : new Map<string, CrlEntry>()
  const extensions = readWhole(tbs.content(contextConstructed(0)), (reader) => readExtensions(reader.enter()))
  tbs.end()
  const { authorityKeyId: keyId } = readAuthorityKeyId(extensions.get(OID_AUTHORITY_KEY_ID))
  const number = extensions.get(OID_CRL_NUMBER)
  if (extensions.size !== 2 || keyId === undefined || number === undefined) {
    throw malformed('A CRL has an authority key identifier, a number, and no other extension')
  }
  return {
    der: der.slice(),
    signed,
    signature,
    issuerName,
    authorityKeyId: keyId,
    number: readWhole(number.value, (reader) => reader.number()),
    thisUpdate,
    nextUpdate,
    entries,
  }
}

function readEntries(list: DerReader): ReadonlyMap<string, CrlEntry> {
  const entries = new Map<string, CrlEntry>()
  do {
    const entry = list.enter()
    const serial = entry.serial()
    const revokedAt = entry.time()
    const reason = entry.isAtEnd ? 'unspecified' : readReason(entry.enter())
    entry.end()
    if (entries.has(serial)) throw malformed('A serial number stands there twice')
    entries.set(serial, { serial, revokedAt, reason })
  } while (!list.isAtEnd)
  return entries
}

function readReason(list: DerReader): RevocationReason {
  const extensions = readExtensions(list)
  const extension = extensions.get(OID_REASON)
  if (extension === undefined || extensions.size !== 1) {
    throw malformed('An entry has an extension other than its reason')
  }
  const code = readWhole(extension.value, (reader) => reader.number(TAG.enumerated))
  const name = REVOCATION_REASONS.find((candidate) => REASON_CODES[candidate] === code)
  // 0, `unspecified`, is the absence of the extension (RFC 5280 5.3.1).
  if (name === undefined || name === 'unspecified') throw malformed('A reason that is not one of ours')
  return name
}

/** What a list is worth at a time. */
export type CrlState = 'current' | 'stale'

/**
 * Checks a list against the certificate of its issuer (RFC 5280 6.3.3).
 *
 * A stale list is good for what it says: what was revoked stays so. It does not say that anything else is not.
 *
 * @param now milliseconds since the epoch
 * @throws CERTIFICATE_INVALID for another issuer's list, one that it may not sign, a false signature, or one of the future
 */
export function verifyCrl(crl: Crl, issuer: Certificate, now: number): CrlState {
  // 6.3.3 (b)(1): the list is the issuer's own.
  if (!equalNames(crl.issuerName, issuer.subject) || crl.authorityKeyId !== issuer.keyId)
    throw invalid('is another issuer’s')
  // 6.3.3 (f): the issuer may sign lists.
  if (!issuer.isCa || !issuer.keyUsage.includes('cRLSign'))
    throw invalid('is of an issuer that may sign none')
  // 6.3.3 (g)
  if (!isSignedBy(crl, issuer)) throw invalid('is not signed by its issuer')
  if (crl.thisUpdate > now) throw invalid('is of the future')
  // 6.3.3 (a)
  return now >= crl.nextUpdate ? 'stale' : 'current'
}

/** Lists that were found to be signed, and by which key: one is asked of with every chain, and may be half a megabyte. */
const signers = new WeakMap<Crl, Uint8Array>()

function isSignedBy(crl: Crl, { publicKey: { type, bytes } }: Certificate): boolean {
  const known = signers.get(crl)
  if (known !== undefined && equalBytes(known, bytes)) return true
  if (type !== 'ed25519' || !ed25519VerifyRaw(bytes, crl.signature, crl.signed)) return false
  signers.set(crl, bytes)
  return true
}

function invalid(why: string): AgentMeshError {
  return new AgentMeshError('CERTIFICATE_INVALID', `The CRL ${why}`, { operation: 'verify a CRL' })
}

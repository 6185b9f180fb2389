/**
 * Certificate revocation lists (RFC 5280 §5): version 2, Ed25519, complete (no deltas), one for each issuer and signed by it.
 *
 *     extensions of the list      authority key identifier (the issuer's keyId), CRL number
 *     extension of an entry       reason code; absent means `unspecified`
 *
 * At most 512 KiB, which is more than ten thousand entries: an issuer with more waits for certificates to end.
 */
import {
  AuthorityKeyIdentifier,
  CertificateList,
  CRLNumber,
  CRLReason,
  CRLReasons,
  KeyIdentifier,
  RevokedCertificate,
  TBSCertList,
  Version,
  type Extension,
} from '@peculiar/asn1-x509'
import { ed25519SignRaw, ed25519VerifyRaw, equalBytes } from '../../crypto/signing.ts'
import { AgentMeshError, fromHex, toHex } from '../../wire/index.ts'
import type { Certificate } from './certificate.ts'
import {
  bufferOf,
  checkEd25519,
  ed25519Algorithm,
  extensionsById,
  extensionValue,
  makeExtension,
  makeSerial,
  makeTime,
  malformed,
  readDer,
  readSerial,
  readTime,
  writeDer,
} from './der.ts'
import { equalNames, makeName, readName, type DistinguishedName } from './distinguished-name.ts'
import type { Issuer } from './issue.ts'

export const MAX_CRL_BYTES = 512 * 1024
const SIGNATURE_BYTES = 64
const OID_CRL_NUMBER = '2.5.29.20'
const OID_REASON = '2.5.29.21'
const OID_AUTHORITY_KEY_ID = '2.5.29.35'

/** Those of RFC 5280 5.3.1 that end a certificate for good. */
export const REVOCATION_REASONS = [
  'unspecified',
  'keyCompromise',
  'cACompromise',
  'affiliationChanged',
  'superseded',
  'cessationOfOperation',
  'privilegeWithdrawn',
] as const
export type RevocationReason = (typeof REVOCATION_REASONS)[number]

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
  /** 0 to 2^53 - 1, higher than that of the list before. */
  readonly number: number
  /** Milliseconds since the epoch; written in whole seconds. */
  readonly thisUpdate: number
  readonly nextUpdate: number
}

/** @throws CERTIFICATE_MALFORMED for a list that `parseCrl` refuses */
export function issueCrl(fields: CrlFields, { certificate, signing }: Issuer): Uint8Array {
  if (!equalBytes(certificate.publicKey.bytes, signing.publicKey)) {
    throw malformed('The key pair is not that of the issuer’s certificate')
  }
  const authority = new AuthorityKeyIdentifier({
    keyIdentifier: new KeyIdentifier(bufferOf(fromHex(certificate.keyId))),
  })
  const tbsCertList = new TBSCertList({
    version: Version.v2,
    signature: ed25519Algorithm(),
    issuer: makeName(certificate.subject),
    thisUpdate: makeTime(fields.thisUpdate),
    nextUpdate: makeTime(fields.nextUpdate),
    // RFC 5280 5.1.2.6: without entries the list of them is absent.
    ...(fields.entries.length === 0 ? {} : { revokedCertificates: fields.entries.map(makeEntry) }),
    crlExtensions: [
      makeExtension(OID_AUTHORITY_KEY_ID, false, authority),
      makeExtension(OID_CRL_NUMBER, false, new CRLNumber(fields.number)),
    ],
  })
  const der = writeDer(
    new CertificateList({
      tbsCertList,
      signatureAlgorithm: ed25519Algorithm(),
      signature: bufferOf(ed25519SignRaw(signing.secretKey, writeDer(tbsCertList))),
    }),
  )
  parseCrl(der)
  return der
}

function makeEntry({ serial, revokedAt, reason }: CrlEntry): RevokedCertificate {
  return new RevokedCertificate({
    userCertificate: makeSerial(serial),
    revocationDate: makeTime(revokedAt),
    ...(reason === 'unspecified'
      ? {}
      : { crlEntryExtensions: [makeExtension(OID_REASON, false, new CRLReason(CRLReasons[reason]))] }),
  })
}

/** @throws CERTIFICATE_MALFORMED for anything but the canonical DER of a CRL in our profile, in at most 512 KiB */
export function parseCrl(der: Uint8Array): Crl {
  if (der.length > MAX_CRL_BYTES) throw malformed('The CRL is too large')
  const asn1 = readDer(der, CertificateList)
  const { tbsCertList: tbs, signatureAlgorithm, signature } = asn1
  if (tbs.version !== Version.v2) throw malformed('Not a version 2 CRL')
  checkEd25519(tbs.signature, signatureAlgorithm)
  if (signature.byteLength !== SIGNATURE_BYTES) throw malformed('The signature has not 64 bytes')
  const extensions = extensionsById(tbs.crlExtensions ?? [])
  const authority = extensions.get(OID_AUTHORITY_KEY_ID)
  const number = extensions.get(OID_CRL_NUMBER)
  if (extensions.size !== 2 || authority === undefined || number === undefined) {
    throw malformed('A CRL has an authority key identifier, a number, and no other extension')
  }
  if (tbs.nextUpdate === undefined) throw malformed('The CRL has no next update')
  const thisUpdate = readTime(tbs.thisUpdate)
  const nextUpdate = readTime(tbs.nextUpdate)
  if (nextUpdate <= thisUpdate) throw malformed('The CRL ends before it begins')
  const revoked = tbs.revokedCertificates ?? []
  const entries = new Map(revoked.map(readEntry).map((entry) => [entry.serial, entry]))
  if (entries.size !== revoked.length) throw malformed('A serial number stands there twice')
  return {
    der: der.slice(),
    signed: new Uint8Array(asn1.tbsCertListRaw ?? writeDer(tbs)),
    signature: new Uint8Array(signature),
    issuerName: readName(tbs.issuer),
    authorityKeyId: readAuthority(authority),
    number: readNumber(number),
    thisUpdate,
    nextUpdate,
    entries,
  }
}

function readEntry({
  userCertificate,
  revocationDate,
  crlEntryExtensions = [],
}: RevokedCertificate): CrlEntry {
  const [reason, ...others] = crlEntryExtensions
  if (others.length > 0 || (reason !== undefined && reason.extnID !== OID_REASON)) {
    throw malformed('An entry has an extension other than its reason')
  }
  return {
    serial: readSerial(userCertificate),
    revokedAt: readTime(revocationDate),
    reason: reason === undefined ? 'unspecified' : readReason(reason),
  }
}

function readReason(extension: Extension): RevocationReason {
  const { reason } = readDer(extensionValue(extension), CRLReason)
  const name = REVOCATION_REASONS.find((candidate) => CRLReasons[candidate] === reason)
  if (name === undefined) throw malformed('A reason that is not one of ours')
  return name
}

function readAuthority(extension: Extension): string {
  const { keyIdentifier } = readDer(extensionValue(extension), AuthorityKeyIdentifier)
  if (keyIdentifier === undefined) throw malformed('The CRL does not name its issuer’s key')
  return toHex(new Uint8Array(keyIdentifier.buffer))
}

function readNumber(extension: Extension): number {
  const { value } = readDer(extensionValue(extension), CRLNumber)
  if (!Number.isSafeInteger(value) || value < 0) throw malformed('The CRL number is out of range')
  return value
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
  const { type, bytes } = issuer.publicKey
  if (type !== 'ed25519' || !ed25519VerifyRaw(bytes, crl.signature, crl.signed))
    throw invalid('is not signed by its issuer')
  if (crl.thisUpdate > now) throw invalid('is of the future')
  // 6.3.3 (a)
  return now > crl.nextUpdate ? 'stale' : 'current'
}

function invalid(why: string): AgentMeshError {
  return new AgentMeshError('CERTIFICATE_INVALID', `The CRL ${why}`, { operation: 'verify a CRL' })
}

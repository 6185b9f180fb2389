/**
 * Issuing certificates: one function for each kind of spec/certificates.md, pure, and no option that would make another.
 *
 *     root (CA, path length 3) -> intermediate (CA, 2) -> [organisation (CA, 1, name constraints)] -> agent (CA, 0) -> session
 *                                      '-> service (signs tree heads and reputation credentials)
 *
 * What is issued is read back by `parseCertificate`, so nothing leaves here that our own reader refuses.
 */
import { equalBytes, type KeyPair, type RandomBytes } from '../../crypto/signing.ts'
import { fromHex, toHex } from '../../wire/index.ts'
import { amidFromPublicKey, didFromAmid } from '../amid.ts'
import {
  checkDnsName,
  DIRECTORY_NAME_TAG,
  DNS_NAME_TAG,
  KEY_USAGES,
  keyIdOf,
  OID,
  parseCertificate,
  URI_TAG,
  type Certificate,
  type KeyUsageName,
  type PublicKey,
} from './certificate.ts'
import { contextConstructed, contextPrimitive, malformed, TAG } from './der-reader.ts'
import {
  DER_TRUE,
  derBits,
  derExtension,
  derNamedBits,
  derNumber,
  derSequence,
  derSerial,
  derSigned,
  derText,
  derTime,
  derValue,
  ED25519_ALGORITHM,
  X25519_ALGORITHM,
} from './der-writer.ts'
import { makeName, type NameFields } from './distinguished-name.ts'

const VERSION_3 = 2
const DAY = 86_400_000
/** How long each kind lives, in milliseconds; a session's as long as its KNOCK may wait in a mailbox. */
export const CERTIFICATE_LIFETIMES = {
  root: 20 * 365 * DAY,
  intermediate: 5 * 365 * DAY,
  organization: 365 * DAY,
  agent: 30 * DAY,
  service: 90 * DAY,
  session: 3 * DAY,
} as const

/** CAs that may follow each kind of CA on a path (RFC 5280 4.2.1.9). */
export const PATH_LENGTHS = { root: 3, intermediate: 2, organization: 1, agent: 0 } as const

/** A CA's certificate, and the key pair in it. */
export interface Issuer {
  readonly certificate: Certificate
  readonly signing: KeyPair
}

export interface IssueTerms {
  /** Lower-case hex of a positive integer, unique to the issuer: `newSerial`. */
  readonly serial: string
  /** Milliseconds since the epoch; written in whole seconds. */
  readonly notBefore: number
  readonly notAfter: number
}

/** 126 random bits. */
export function newSerial(random: RandomBytes): string {
  const bytes = random(16)
  // Positive, and of the same length always.
  bytes.set([((bytes.at(0) ?? 0) & 0x3f) | 0x40])
  return toHex(bytes)
}

/** @param name the registry's, at most 64 bytes */
export function issueRoot(fields: IssueTerms & { readonly name: string }, signing: KeyPair): Uint8Array {
  const subject = { organization: fields.name, commonName: 'root' }
  const key = ed25519(signing.publicKey)
  const extensions = [...caExtensions(PATH_LENGTHS.root), subjectKeyId(key)]
  return issue(fields, { subject, key, extensions }, { subject, signing })
}

/** @param fields `name` is the registry's, at most 64 bytes */
export function issueIntermediate(
  fields: IssueTerms & { readonly name: string; readonly publicKey: Uint8Array },
  issuer: Issuer,
): Uint8Array {
  const key = ed25519(fields.publicKey)
  return issueUnder(issuer, fields, {
    subject: { organization: fields.name, commonName: 'issuer' },
    key,
    extensions: [...caExtensions(PATH_LENGTHS.intermediate), subjectKeyId(key)],
  })
}

/** Whoever it certifies is named within the organisation: `O` is its name, and a DNS name is its domain's. */
export function issueOrganization(
  fields: IssueTerms & {
    readonly organization: string
    /** In A-labels: `acme.example`. */
    readonly domain: string
    readonly publicKey: Uint8Array
  },
  issuer: Issuer,
): Uint8Array {
  const { organization } = fields
  const domain = checkDnsName(fields.domain)
  const key = ed25519(fields.publicKey)
  const permitted = [
    derSequence(derValue(DIRECTORY_NAME_TAG, makeName({ organization }))),
    derSequence(derText(DNS_NAME_TAG, domain)),
  ]
  const constraints = derSequence(derValue(contextConstructed(0), ...permitted))
  return issueUnder(issuer, fields, {
    subject: { organization },
    key,
    extensions: [
      ...caExtensions(PATH_LENGTHS.organization),
      subjectKeyId(key),
      alternativeName(DNS_NAME_TAG, domain),
      derExtension(OID.nameConstraints, true, constraints),
    ],
  })
}

/**
 * @param fields `publicKey` is the agent's Ed25519 signing key, and makes the AMID; `displayName`, at most 64 bytes, is
 *   the name it goes by, the AMID without one; `role`, at most 32 bytes, is what its
 *   organisation lets it be
 * @param issuer the registry's intermediate, or the organisation
 */
export function issueAgent(
  fields: IssueTerms & {
    readonly publicKey: Uint8Array
    readonly displayName?: string | undefined
    readonly role?: string | undefined
  },
  issuer: Issuer,
): Uint8Array {
  const key = ed25519(fields.publicKey)
  const amid = amidFromPublicKey(fields.publicKey)
  return issueUnder(issuer, fields, {
    subject: {
      organization: organizationOf(issuer.certificate),
      role: fields.role,
      commonName: fields.displayName ?? amid,
    },
    key,
    extensions: [
      basicConstraints(PATH_LENGTHS.agent),
      keyUsage('keyCertSign', 'digitalSignature'),
      subjectKeyId(key),
      alternativeName(URI_TAG, didFromAmid(amid)),
    ],
  })
}

/**
 * @param fields `publicKey` is EK_A of the KNOCK, X25519
 * @param agent the agent's own certificate and signing key
 */
export function issueSession(
  fields: IssueTerms & { readonly publicKey: Uint8Array },
  agent: Issuer,
): Uint8Array {
  const { did, subject } = agent.certificate
  if (did === undefined) throw malformed('Only an agent certifies sessions')
  return issueUnder(agent, fields, {
    // A name of its own: a certificate whose subject is its issuer counts as self-issued.
    subject: { organization: subject.organization, commonName: keyIdOf(fields.publicKey).slice(0, 16) },
    key: { type: 'x25519', bytes: fields.publicKey },
    extensions: [keyUsage('keyAgreement'), alternativeName(URI_TAG, did)],
  })
}

/** @param fields `name` and `url` are the registry's; `publicKey` signs its tree heads and reputation credentials */
export function issueService(
  fields: IssueTerms & { readonly name: string; readonly url: string; readonly publicKey: Uint8Array },
  issuer: Issuer,
): Uint8Array {
  const key = ed25519(fields.publicKey)
  return issueUnder(issuer, fields, {
    subject: { organization: fields.name, commonName: 'service' },
    key,
    extensions: [keyUsage('digitalSignature'), subjectKeyId(key), alternativeName(URI_TAG, fields.url)],
  })
}

// --- parts ----------------------------------------------------------------------------------------------------------

interface Content {
  readonly subject: NameFields
  readonly key: PublicKey
  readonly extensions: readonly Uint8Array[]
}

function issueUnder(issuer: Issuer, terms: IssueTerms, content: Content): Uint8Array {
  const { certificate, signing } = issuer
  const extensions = [...content.extensions, authorityKeyId(issuer)]
  return issue(terms, { ...content, extensions }, { subject: certificate.subject, signing })
}

function issue(
  { serial, notBefore, notAfter }: IssueTerms,
  { subject, key, extensions }: Content,
  issuer: { readonly subject: NameFields; readonly signing: KeyPair },
): Uint8Array {
  const signed = derSequence(
    derValue(contextConstructed(0), derNumber(VERSION_3)),
    derSerial(serial),
    ED25519_ALGORITHM,
    makeName(issuer.subject),
    derSequence(derTime(notBefore), derTime(notAfter)),
    makeName(subject),
    derSequence(key.type === 'x25519' ? X25519_ALGORITHM : ED25519_ALGORITHM, derBits(key.bytes)),
    derValue(contextConstructed(3), derSequence(...extensions)),
  )
  const der = derSigned(signed, issuer.signing.secretKey)
  parseCertificate(der)
  return der
}

function ed25519(bytes: Uint8Array): PublicKey {
  return { type: 'ed25519', bytes }
}

/** An organisation's agents carry its name; the registry's own, none. */
function organizationOf({ nameConstraints, subject }: Certificate): string | undefined {
  return nameConstraints === undefined ? undefined : subject.organization
}

function caExtensions(pathLength: number): Uint8Array[] {
  return [basicConstraints(pathLength), keyUsage('keyCertSign', 'cRLSign')]
}

function basicConstraints(pathLength: number): Uint8Array {
  return derExtension(OID.basicConstraints, true, derSequence(DER_TRUE, derNumber(pathLength)))
}

function keyUsage(...names: readonly KeyUsageName[]): Uint8Array {
  const bits = names.map((name) => KEY_USAGES.indexOf(name))
  return derExtension(OID.keyUsage, true, derNamedBits(bits))
}

function subjectKeyId({ bytes }: PublicKey): Uint8Array {
  const id = derValue(TAG.octetString, fromHex(keyIdOf(bytes)))
  return derExtension(OID.subjectKeyIdentifier, false, id)
}

function alternativeName(tag: number, name: string): Uint8Array {
  return derExtension(OID.subjectAlternativeName, false, derSequence(derText(tag, name)))
}

/** The extension that names the issuer's key. @throws CERTIFICATE_MALFORMED when the key pair is another */
export function authorityKeyId({ certificate, signing }: Issuer): Uint8Array {
  if (!equalBytes(certificate.publicKey.bytes, signing.publicKey)) {
    throw malformed('The key pair is not that of the issuer’s certificate')
  }
  const id = derValue(contextPrimitive(0), fromHex(certificate.keyId))
  return derExtension(OID.authorityKeyIdentifier, false, derSequence(id))
}

/**
 * Issuing certificates: one function for each kind of spec/certificates.md, pure, and no option that would make another.
 *
 *     root (CA, path length 3) -> intermediate (CA, 2) -> [organisation (CA, 1, name constraints)] -> agent (CA, 0) -> session
 *                                      '-> service (signs tree heads and reputation credentials)
 *
 * What is issued is read back by `parseCertificate`, so nothing leaves here that our own reader refuses.
 */
import {
  AlgorithmIdentifier,
  AuthorityKeyIdentifier,
  BasicConstraints,
  Certificate as Asn1Certificate,
  Extensions,
  GeneralName,
  GeneralSubtree,
  GeneralSubtrees,
  KeyIdentifier,
  KeyUsage,
  KeyUsageFlags,
  NameConstraints,
  SubjectAlternativeName,
  SubjectKeyIdentifier,
  SubjectPublicKeyInfo,
  TBSCertificate,
  Validity,
  Version,
  type Extension,
} from '@peculiar/asn1-x509'
import { ed25519SignRaw, equalBytes, type KeyPair, type RandomBytes } from '../../crypto/signing.ts'
import { fromHex, toHex } from '../../wire/index.ts'
import { amidFromPublicKey, didFromAmid } from '../amid.ts'
import {
  checkDnsName,
  keyIdOf,
  OID,
  parseCertificate,
  type Certificate,
  type KeyUsageName,
  type PublicKey,
} from './certificate.ts'
import {
  bufferOf,
  ed25519Algorithm,
  makeExtension,
  makeSerial,
  makeTime,
  malformed,
  OID_ED25519,
  OID_X25519,
  writeDer,
} from './der.ts'
import { makeName, type NameFields } from './distinguished-name.ts'

const DAY = 86_400_000
/** How long each kind lives, in milliseconds; a session as long as it was asked for, at most a day. */
export const CERTIFICATE_LIFETIMES = {
  root: 20 * 365 * DAY,
  intermediate: 5 * 365 * DAY,
  organization: 365 * DAY,
  agent: 30 * DAY,
  service: 90 * DAY,
  session: DAY,
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

/** @param name the registry's, at most 57 characters */
export function issueRoot(fields: IssueTerms & { readonly name: string }, signing: KeyPair): Uint8Array {
  const subject = { organization: fields.name, commonName: `${fields.name} root` }
  const key = ed25519(signing.publicKey)
  const extensions = [...caExtensions(PATH_LENGTHS.root), subjectKeyId(key)]
  return issue(fields, { subject, key, extensions }, { subject, signing })
}

/** @param fields `name` is the registry's, at most 57 characters */
export function issueIntermediate(
  fields: IssueTerms & { readonly name: string; readonly publicKey: Uint8Array },
  issuer: Issuer,
): Uint8Array {
  const key = ed25519(fields.publicKey)
  return issueUnder(issuer, fields, {
    subject: { organization: fields.name, commonName: `${fields.name} issuer` },
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
    new GeneralName({ directoryName: makeName({ organization }) }),
    new GeneralName({ dNSName: domain }),
  ].map((base) => new GeneralSubtree({ base }))
  const constraints = new NameConstraints({ permittedSubtrees: new GeneralSubtrees(permitted) })
  return issueUnder(issuer, fields, {
    subject: { organization },
    key,
    extensions: [
      ...caExtensions(PATH_LENGTHS.organization),
      subjectKeyId(key),
      alternativeNames(new GeneralName({ dNSName: domain })),
      makeExtension(OID.nameConstraints, true, constraints),
    ],
  })
}

/**
 * @param fields `publicKey` is the agent's Ed25519 signing key, and makes the AMID; `displayName`, at most 64 characters, is
 *   the name it goes by, the AMID without one; `role` is what its organisation lets it be
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
      alternativeNames(new GeneralName({ uniformResourceIdentifier: didFromAmid(amid) })),
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
    extensions: [
      keyUsage('keyAgreement'),
      alternativeNames(new GeneralName({ uniformResourceIdentifier: did })),
    ],
  })
}

/** @param fields `name` and `url` are the registry's; `publicKey` signs its tree heads and reputation credentials */
export function issueService(
  fields: IssueTerms & { readonly name: string; readonly url: string; readonly publicKey: Uint8Array },
  issuer: Issuer,
): Uint8Array {
  const key = ed25519(fields.publicKey)
  return issueUnder(issuer, fields, {
    subject: { organization: fields.name, commonName: `${fields.name} service` },
    key,
    extensions: [
      keyUsage('digitalSignature'),
      subjectKeyId(key),
      alternativeNames(new GeneralName({ uniformResourceIdentifier: fields.url })),
    ],
  })
}

// --- parts ----------------------------------------------------------------------------------------------------------

interface Content {
  readonly subject: NameFields
  readonly key: PublicKey
  readonly extensions: readonly Extension[]
}

function issueUnder(issuer: Issuer, terms: IssueTerms, content: Content): Uint8Array {
  const { certificate, signing } = issuer
  if (!equalBytes(certificate.publicKey.bytes, signing.publicKey)) {
    throw malformed('The key pair is not that of the issuer’s certificate')
  }
  const authority = new AuthorityKeyIdentifier({
    keyIdentifier: new KeyIdentifier(bufferOf(fromHex(certificate.keyId))),
  })
  return issue(
    terms,
    {
      ...content,
      extensions: [...content.extensions, makeExtension(OID.authorityKeyIdentifier, false, authority)],
    },
    { subject: certificate.subject, signing },
  )
}

function issue(
  { serial, notBefore, notAfter }: IssueTerms,
  { subject, key, extensions }: Content,
  issuer: { readonly subject: NameFields; readonly signing: KeyPair },
): Uint8Array {
  const tbsCertificate = new TBSCertificate({
    version: Version.v3,
    serialNumber: makeSerial(serial),
    signature: ed25519Algorithm(),
    issuer: makeName(issuer.subject),
    validity: Object.assign(new Validity(), { notBefore: makeTime(notBefore), notAfter: makeTime(notAfter) }),
    subject: makeName(subject),
    subjectPublicKeyInfo: new SubjectPublicKeyInfo({
      algorithm: new AlgorithmIdentifier({ algorithm: key.type === 'x25519' ? OID_X25519 : OID_ED25519 }),
      subjectPublicKey: bufferOf(key.bytes),
    }),
    extensions: new Extensions([...extensions]),
  })
  const signature = ed25519SignRaw(issuer.signing.secretKey, writeDer(tbsCertificate))
  const der = writeDer(
    new Asn1Certificate({
      tbsCertificate,
      signatureAlgorithm: ed25519Algorithm(),
      signatureValue: bufferOf(signature),
    }),
  )
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

function caExtensions(pathLength: number): Extension[] {
  return [basicConstraints(pathLength), keyUsage('keyCertSign', 'cRLSign')]
}

function basicConstraints(pathLength: number): Extension {
  const constraints = new BasicConstraints({ cA: true, pathLenConstraint: pathLength })
  return makeExtension(OID.basicConstraints, true, constraints)
}

function keyUsage(...names: readonly KeyUsageName[]): Extension {
  const flags = names.reduce((sum, name) => sum | KeyUsageFlags[name], 0)
  return makeExtension(OID.keyUsage, true, new KeyUsage(flags))
}

function subjectKeyId({ bytes }: PublicKey): Extension {
  const id = new SubjectKeyIdentifier(bufferOf(fromHex(keyIdOf(bytes))))
  return makeExtension(OID.subjectKeyIdentifier, false, id)
}

function alternativeNames(name: GeneralName): Extension {
  return makeExtension(OID.subjectAlternativeName, false, new SubjectAlternativeName([name]))
}

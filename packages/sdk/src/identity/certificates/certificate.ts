/**
 * X.509 v3 certificates of AgentMesh (RFC 5280, RFC 8410): reading one. Strict, so that two readers cannot see two
 * certificates in the same bytes: canonical DER of at most 2,048 bytes, Ed25519 signatures, our names, no extension twice.
 *
 * Reading says nothing about trust: `path-validation.ts` does. spec/certificates.md has the profile of every certificate.
 */
import {
  AuthorityKeyIdentifier,
  BasicConstraints,
  Certificate as Asn1Certificate,
  KeyUsage,
  KeyUsageFlags,
  NameConstraints as Asn1NameConstraints,
  SubjectAlternativeName,
  SubjectKeyIdentifier,
  Version,
  type Extension,
} from '@peculiar/asn1-x509'
import { ed25519VerifyRaw, isValidEd25519PublicKey, sha256 } from '../../crypto/signing.ts'
import { fromBase64, isAgentMeshError, toBase64, toHex, type Amid } from '../../wire/index.ts'
import { amidFromDid } from '../amid.ts'
import {
  checkEd25519,
  extensionsById,
  extensionValue,
  malformed,
  OID_ED25519,
  OID_X25519,
  readDer,
  readSerial,
  readTime,
  writeDer,
} from './der.ts'
import { readName, type DistinguishedName } from './distinguished-name.ts'

export const MAX_CERTIFICATE_BYTES = 2048
const MAX_ALTERNATIVE_NAMES = 8
const KEY_BYTES = 32
const SIGNATURE_BYTES = 64
const KEY_ID_BYTES = 20

export const OID = {
  subjectKeyIdentifier: '2.5.29.14',
  keyUsage: '2.5.29.15',
  subjectAlternativeName: '2.5.29.17',
  basicConstraints: '2.5.29.19',
  nameConstraints: '2.5.29.30',
  authorityKeyIdentifier: '2.5.29.35',
} as const
const KNOWN_EXTENSIONS: ReadonlySet<string> = new Set(Object.values(OID))

export type KeyUsageName = Exclude<keyof typeof KeyUsageFlags, number>

export interface PublicKey {
  readonly type: 'ed25519' | 'x25519'
  /** 32 bytes. */
  readonly bytes: Uint8Array
}

/** Permitted subtrees; an empty list leaves that form of name free (RFC 5280 4.2.1.10). */
export interface NameConstraints {
  readonly directoryNames: readonly DistinguishedName[]
  readonly dnsNames: readonly string[]
}

/** What a certificate says. Text in it comes from whoever was certified: escape before showing. */
export interface Certificate {
  readonly der: Uint8Array
  /** The bytes under the issuer's signature, and the signature. */
  readonly signed: Uint8Array
  readonly signature: Uint8Array
  /** Lower-case hex. */
  readonly serial: string
  readonly issuerName: DistinguishedName
  readonly subject: DistinguishedName
  readonly publicKey: PublicKey
  /** Milliseconds since the epoch; valid from the first to the second, both included. */
  readonly notBefore: number
  readonly notAfter: number
  /** `keyIdOf` the subject's key, and of the issuer's when the certificate names it. */
  readonly keyId: string
  readonly authorityKeyId?: string
  readonly isCa: boolean
  readonly pathLength?: number
  readonly keyUsage: readonly KeyUsageName[]
  /** Of the alternative names: the agent's DID with its AMID, other URIs, DNS names. */
  readonly did?: string
  readonly amid?: Amid
  readonly uris: readonly string[]
  readonly dnsNames: readonly string[]
  readonly nameConstraints?: NameConstraints
  /** Ids of critical extensions that this reader does not know. */
  readonly unknownCritical: readonly string[]
}

/** Names a key: lower-case hex of the first 20 bytes of SHA-256 of its 32 bytes. An agent's is its AMID's bytes. */
export function keyIdOf(publicKey: Uint8Array): string {
  return toHex(sha256(publicKey).subarray(0, KEY_ID_BYTES))
}

/** Lower-case hex of SHA-256 of the DER. Of a root: the id of its registry. */
export function certificateFingerprint(certificate: Pick<Certificate, 'der'>): string {
  return toHex(sha256(certificate.der))
}

/** base64 DER, as certificates stand in JSON. @throws CERTIFICATE_MALFORMED */
export function certificateFromText(text: string): Certificate {
  if (text.length > Math.ceil(MAX_CERTIFICATE_BYTES / 3) * 4) throw malformed('The certificate is too large')
  let der: Uint8Array
  try {
    der = fromBase64(text)
  } catch (cause) {
    throw malformed('Not base64', cause)
  }
  return parseCertificate(der)
}

export function certificateText(certificate: Pick<Certificate, 'der'>): string {
  return toBase64(certificate.der)
}

/** @throws CERTIFICATE_MALFORMED for anything but the canonical DER of a certificate in our profile, in at most 2,048 bytes */
export function parseCertificate(der: Uint8Array): Certificate {
  if (der.length > MAX_CERTIFICATE_BYTES) throw malformed('The certificate is too large')
  const asn1 = readDer(der, Asn1Certificate)
  const { tbsCertificate: tbs, signatureAlgorithm, signatureValue } = asn1
  if (tbs.version !== Version.v3) throw malformed('Not an X.509 v3 certificate')
  checkEd25519(tbs.signature, signatureAlgorithm)
  if (signatureValue.byteLength !== SIGNATURE_BYTES) throw malformed('The signature has not 64 bytes')
  if (tbs.issuerUniqueID !== undefined || tbs.subjectUniqueID !== undefined) throw malformed('Unique ids')

  const notBefore = readTime(tbs.validity.notBefore)
  const notAfter = readTime(tbs.validity.notAfter)
  if (notAfter < notBefore) throw malformed('The certificate ends before it begins')
  const issuerName = readName(tbs.issuer)
  const subject = readName(tbs.subject)
  if (issuerName.rdns.length === 0 || subject.rdns.length === 0) throw malformed('A name is empty')

  const { algorithm, subjectPublicKey } = tbs.subjectPublicKeyInfo
  const publicKey = readKey(algorithm.algorithm, algorithm.parameters, new Uint8Array(subjectPublicKey))
  const keyId = keyIdOf(publicKey.bytes)
  const extensions = extensionsById(tbs.extensions ?? [])
  const subjectKeyId = extensions.get(OID.subjectKeyIdentifier)
  if (subjectKeyId !== undefined && readKeyId(subjectKeyId) !== keyId) {
    throw malformed('The subject key identifier is not that of the key')
  }
  return {
    der: der.slice(),
    signed: new Uint8Array(asn1.tbsCertificateRaw ?? writeDer(tbs)),
    signature: new Uint8Array(signatureValue),
    serial: readSerial(tbs.serialNumber),
    issuerName,
    subject,
    publicKey,
    notBefore,
    notAfter,
    keyId,
    ...readAuthorityKeyId(extensions.get(OID.authorityKeyIdentifier)),
    ...readBasicConstraints(extensions.get(OID.basicConstraints)),
    keyUsage: readKeyUsage(extensions.get(OID.keyUsage)),
    ...readAlternativeNames(extensions.get(OID.subjectAlternativeName)),
    ...readNameConstraints(extensions.get(OID.nameConstraints)),
    unknownCritical: [...extensions.values()]
      .filter(({ critical, extnID }) => critical && !KNOWN_EXTENSIONS.has(extnID))
      .map(({ extnID }) => extnID),
  }
}

/** Whether the issuer's key signed it. Says nothing about names, dates or whether the issuer may. */
export function isSignedBy(certificate: Certificate, issuer: Certificate): boolean {
  const { type, bytes } = issuer.publicKey
  return type === 'ed25519' && ed25519VerifyRaw(bytes, certificate.signature, certificate.signed)
}

function readKey(algorithm: string, parameters: unknown, bytes: Uint8Array): PublicKey {
  if (parameters !== undefined) throw malformed('A key algorithm has parameters')
  if (bytes.length !== KEY_BYTES) throw malformed('The key has not 32 bytes')
  if (algorithm === OID_X25519) return { type: 'x25519', bytes }
  if (algorithm !== OID_ED25519 || !isValidEd25519PublicKey(bytes)) throw malformed('Not a usable key')
  return { type: 'ed25519', bytes }
}

// --- extensions -----------------------------------------------------------------------------------------------------

function readKeyId(extension: Extension): string {
  const id = readDer(extensionValue(extension), SubjectKeyIdentifier)
  return toHex(new Uint8Array(id.buffer))
}

function readAuthorityKeyId(extension: Extension | undefined): { authorityKeyId?: string } {
  if (extension === undefined) return {}
  const id = readDer(extensionValue(extension), AuthorityKeyIdentifier)
  if (
    id.keyIdentifier === undefined ||
    id.authorityCertIssuer !== undefined ||
    id.authorityCertSerialNumber !== undefined
  ) {
    throw malformed('The authority key identifier is not a key identifier alone')
  }
  return { authorityKeyId: toHex(new Uint8Array(id.keyIdentifier.buffer)) }
}

function readBasicConstraints(extension: Extension | undefined): { isCa: boolean; pathLength?: number } {
  if (extension === undefined) return { isCa: false }
  const { cA, pathLenConstraint } = readDer(extensionValue(extension), BasicConstraints)
  if (pathLenConstraint === undefined) return { isCa: cA }
  if (!cA || !Number.isInteger(pathLenConstraint) || pathLenConstraint < 0) {
    throw malformed('The path length constraint makes no sense')
  }
  return { isCa: cA, pathLength: pathLenConstraint }
}

function readKeyUsage(extension: Extension | undefined): KeyUsageName[] {
  if (extension === undefined) return []
  const der = extensionValue(extension)
  const flags = readDer(der, KeyUsage).toNumber()
  // Named bits have no trailing zeros in DER (X.690 11.2.2); the library keeps those it was given.
  const again = writeDer(new KeyUsage(flags))
  if (again.length !== der.length || flags === 0) throw malformed('The key usage is empty or not canonical')
  const names: KeyUsageName[] = []
  for (const [name, flag] of Object.entries(KeyUsageFlags)) {
    if (typeof flag === 'number' && (flags & flag) !== 0) names.push(name as KeyUsageName)
  }
  return names
}

function readAlternativeNames(extension: Extension | undefined) {
  const uris: string[] = []
  const dnsNames: string[] = []
  const dids: { did: string; amid: Amid }[] = []
  if (extension !== undefined) {
    const names = readDer(extensionValue(extension), SubjectAlternativeName)
    if (names.length === 0 || names.length > MAX_ALTERNATIVE_NAMES)
      throw malformed('No or too many alternative names')
    for (const name of names) {
      if (name.dNSName !== undefined) dnsNames.push(checkDnsName(name.dNSName))
      else if (name.uniformResourceIdentifier === undefined)
        throw malformed('An alternative name of another form')
      else if (!name.uniformResourceIdentifier.startsWith('did:')) uris.push(name.uniformResourceIdentifier)
      else dids.push({ did: name.uniformResourceIdentifier, amid: readDid(name.uniformResourceIdentifier) })
    }
  }
  if (dids.length > 1) throw malformed('A certificate names two agents')
  return { ...dids[0], uris, dnsNames }
}

function readDid(did: string): Amid {
  try {
    return amidFromDid(did)
  } catch (cause) {
    if (isAgentMeshError(cause)) throw malformed('The DID names no agent', cause)
    throw cause
  }
}

const DNS_NAME = /^(?=.{1,253}$)([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)*[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/

/** @throws CERTIFICATE_MALFORMED unless in lower-case A-labels, with no dot at either end */
export function checkDnsName(name: string): string {
  if (!DNS_NAME.test(name)) throw malformed('Not a DNS name in lower case')
  return name
}

function readNameConstraints(extension: Extension | undefined): { nameConstraints?: NameConstraints } {
  if (extension === undefined) return {}
  const { permittedSubtrees, excludedSubtrees } = readDer(extensionValue(extension), Asn1NameConstraints)
  if (!extension.critical || excludedSubtrees !== undefined || permittedSubtrees === undefined) {
    throw malformed('Name constraints other than critical, permitted subtrees')
  }
  const bases = permittedSubtrees.map(({ base, minimum, maximum }) => {
    if (minimum !== 0 || maximum !== undefined) throw malformed('A subtree with bounds')
    return base
  })
  if (bases.length === 0 || bases.length > MAX_ALTERNATIVE_NAMES) throw malformed('No or too many subtrees')
  const nameConstraints = {
    directoryNames: bases.flatMap(({ directoryName }) => (directoryName ? [readName(directoryName)] : [])),
    dnsNames: bases.flatMap(({ dNSName }) => (dNSName === undefined ? [] : [checkDnsName(dNSName)])),
  }
  if (nameConstraints.directoryNames.length + nameConstraints.dnsNames.length !== bases.length) {
    throw malformed('A name constraint of a form that we do not apply')
  }
  return { nameConstraints }
}

/**
 * X.509 v3 certificates of AgentMesh (RFC 5280, RFC 8410): reading one. Strict, so that two readers cannot see two
 * certificates in the same bytes: canonical DER of at most 2,048 bytes, Ed25519 signatures, our names, no extension twice.
 *
 * Reading says nothing about trust: `path-validation.ts` does. spec/certificates.md has the profile of every certificate.
 */
import { ed25519VerifyRaw, isValidEd25519PublicKey, sha256 } from '../../crypto/signing.ts'
import { fromBase64, isAgentMeshError, toBase64, toHex, type Amid } from '../../wire/index.ts'
import { amidFromDid } from '../amid.ts'
import {
  asciiText,
  checkAlgorithm,
  contextConstructed,
  contextPrimitive,
  DerReader,
  malformed,
  readExtensions,
  readSigned,
  readWhole,
  TAG,
  type ExtensionRead,
} from './der-reader.ts'
import { readName, type DistinguishedName } from './distinguished-name.ts'

export const MAX_CERTIFICATE_BYTES = 2048
const MAX_ALTERNATIVE_NAMES = 8
const VERSION_3 = 2
/** RFC 8410 §3: `SEQUENCE { algorithm }` without parameters, in hex. */
const KEY_ALGORITHMS = { '300506032b6570': 'ed25519', '300506032b656e': 'x25519' } as const
const KEY_BYTES = 32
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

/** By the number of their bit (RFC 5280 4.2.1.3). */
export const KEY_USAGES = [
  'digitalSignature',
  'nonRepudiation',
  'keyEncipherment',
  'dataEncipherment',
  'keyAgreement',
  'keyCertSign',
  'cRLSign',
  'encipherOnly',
  'decipherOnly',
] as const
export type KeyUsageName = (typeof KEY_USAGES)[number]

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
  /** Milliseconds since the epoch; valid from the first up to the second, which openssl leaves out, and so do we. */
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
  const { signed, signature } = readSigned(der)
  const tbs = new DerReader(signed).enter()
  if (!tbs.isNext(contextConstructed(0))) throw malformed('Not an X.509 v3 certificate')
  const version = readWhole(tbs.content(contextConstructed(0)), (reader) => reader.number())
  if (version !== VERSION_3) throw malformed('Not an X.509 v3 certificate')
  const serial = tbs.serial()
  checkAlgorithm(tbs)
  const issuerName = readName(tbs.whole(TAG.sequence))
  const validity = tbs.enter()
  const notBefore = validity.time()
  const notAfter = validity.time()
  validity.end()
  if (notAfter < notBefore) throw malformed('The certificate ends before it begins')
  const subject = readName(tbs.whole(TAG.sequence))
  if (issuerName.rdns.length === 0 || subject.rdns.length === 0) throw malformed('A name is empty')
  const publicKey = readKey(tbs.enter())
  const keyId = keyIdOf(publicKey.bytes)
  const extensions = readWhole(tbs.content(contextConstructed(3)), (reader) => readExtensions(reader.enter()))
  tbs.end()
  const subjectKeyId = extensions.get(OID.subjectKeyIdentifier)
  if (subjectKeyId !== undefined && readSubjectKeyId(subjectKeyId) !== keyId) {
    throw malformed('The subject key identifier is not that of the key')
  }
  return {
    der: der.slice(),
    signed,
    signature,
    serial,
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
    unknownCritical: [...extensions]
      .filter(([id, { critical }]) => critical && !KNOWN_EXTENSIONS.has(id))
      .map(([id]) => id),
  }
}

/** Whether the issuer's key signed it. Says nothing about names, dates or whether the issuer may. */
export function isSignedBy(certificate: Certificate, issuer: Certificate): boolean {
  const { type, bytes } = issuer.publicKey
  return type === 'ed25519' && ed25519VerifyRaw(bytes, certificate.signature, certificate.signed)
}

function readKey(info: DerReader): PublicKey {
  const algorithm = toHex(info.whole(TAG.sequence))
  const bytes = info.bits()
  info.end()
  const type = Object.hasOwn(KEY_ALGORITHMS, algorithm)
    ? KEY_ALGORITHMS[algorithm as keyof typeof KEY_ALGORITHMS]
    : undefined
  const isUsable = bytes.length === KEY_BYTES && (type === 'x25519' || isValidEd25519PublicKey(bytes))
  if (type === undefined || !isUsable) throw malformed('Not a usable key')
  return { type, bytes }
}

// --- extensions -----------------------------------------------------------------------------------------------------

function readSubjectKeyId({ value }: ExtensionRead): string {
  return toHex(readWhole(value, (reader) => reader.content(TAG.octetString)))
}

/** The key identifier alone; issuer and serial number, its other form, are for CAs that share a key. */
export function readAuthorityKeyId(extension: ExtensionRead | undefined): { authorityKeyId?: string } {
  if (extension === undefined) return {}
  const id = readWhole(extension.value, (reader) =>
    readWhole(reader.content(TAG.sequence), (fields) => fields.content(contextPrimitive(0))),
  )
  return { authorityKeyId: toHex(id) }
}

function readBasicConstraints(extension: ExtensionRead | undefined): { isCa: boolean; pathLength?: number } {
  if (extension === undefined) return { isCa: false }
  return readWhole(extension.value, (reader) => {
    const fields = reader.enter()
    const isCa = fields.isTrue()
    const pathLength = fields.isAtEnd ? undefined : fields.number()
    fields.end()
    if (pathLength === undefined) return { isCa }
    if (!isCa) throw malformed('A path length constraint of what is no CA')
    return { isCa, pathLength }
  })
}

function readKeyUsage(extension: ExtensionRead | undefined): KeyUsageName[] {
  if (extension === undefined) return []
  const bits = readWhole(extension.value, (reader) => reader.namedBits())
  return bits.map((bit) => {
    const name = KEY_USAGES[bit]
    if (name === undefined) throw malformed('A key usage that does not exist')
    return name
  })
}

/** GeneralName (RFC 5280 4.2.1.6). */
export const DNS_NAME_TAG = contextPrimitive(2)
export const URI_TAG = contextPrimitive(6)
export const DIRECTORY_NAME_TAG = contextConstructed(4)

function readAlternativeNames(extension: ExtensionRead | undefined) {
  const uris: string[] = []
  const dnsNames: string[] = []
  const dids: { did: string; amid: Amid }[] = []
  if (extension !== undefined) {
    const names = readWhole(extension.value, (reader) => reader.enter())
    do {
      if (names.isNext(DNS_NAME_TAG)) dnsNames.push(checkDnsName(asciiText(names.content(DNS_NAME_TAG))))
      else {
        const uri = asciiText(names.content(URI_TAG))
        if (uri.startsWith('did:')) dids.push({ did: uri, amid: readDid(uri) })
        else uris.push(uri)
      }
    } while (!names.isAtEnd)
  }
  if (dids.length > 1) throw malformed('A certificate names two agents')
  if (uris.length + dnsNames.length > MAX_ALTERNATIVE_NAMES) throw malformed('Too many alternative names')
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

/** Permitted subtrees of directory and DNS names; any other constraint is one that we could not apply, so it is refused. */
function readNameConstraints(extension: ExtensionRead | undefined): { nameConstraints?: NameConstraints } {
  if (extension === undefined) return {}
  if (!extension.critical) throw malformed('Name constraints that are not critical')
  const subtrees = readWhole(extension.value, (reader) =>
    readWhole(reader.content(TAG.sequence), (fields) => fields.enter(contextConstructed(0))),
  )
  const directoryNames: DistinguishedName[] = []
  const dnsNames: string[] = []
  do {
    const subtree = subtrees.enter()
    if (subtree.isNext(DNS_NAME_TAG)) dnsNames.push(checkDnsName(asciiText(subtree.content(DNS_NAME_TAG))))
    else {
      const name = readWhole(subtree.content(DIRECTORY_NAME_TAG), (reader) => reader.whole(TAG.sequence))
      directoryNames.push(readName(name))
    }
    subtree.end()
  } while (!subtrees.isAtEnd)
  if (directoryNames.length + dnsNames.length > MAX_ALTERNATIVE_NAMES) throw malformed('Too many subtrees')
  return { nameConstraints: { directoryNames, dnsNames } }
}

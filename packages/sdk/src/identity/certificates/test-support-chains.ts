/**
 * Chains with anything in them, for tests: certificates put together from their parts with no check, so that each can be wrong
 * in one place and right in all others.
 */
import { x25519KeyPair, type KeyPair } from '../../crypto/signing.ts'
import { fromHex } from '../../wire/index.ts'
import { amidFromPublicKey, didFromAmid } from '../amid.ts'
import { DAY, NOW, testRandom } from '../test-support.ts'
import {
  DIRECTORY_NAME_TAG,
  DNS_NAME_TAG,
  KEY_USAGES,
  keyIdOf,
  OID,
  URI_TAG,
  type KeyUsageName,
} from './certificate.ts'
import { contextConstructed, contextPrimitive, TAG } from './der-reader.ts'
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
import { newSerial } from './issue.ts'
import { testKeyPair } from './test-support.ts'

export const AGENT_KEY = testKeyPair('chain agent')
export const AGENT_AMID = amidFromPublicKey(AGENT_KEY.publicKey)
export const SESSION_KEY = x25519KeyPair(testRandom('chain session')(32)).publicKey

type ExtensionName = keyof typeof OID | 'other'

export interface Level {
  readonly subject: Uint8Array
  readonly issuer: Uint8Array
  readonly serial: string
  readonly notBefore: number
  readonly notAfter: number
  readonly key: KeyPair
  readonly spki: Uint8Array
  readonly signer: KeyPair
  /** Undefined leaves one out; `other` is for any that the kind does not have. */
  readonly extensions: Readonly<Partial<Record<ExtensionName, Uint8Array | undefined>>>
  readonly version: Uint8Array | undefined
  readonly algorithm: Uint8Array
  /** Last changes: to what is signed, and to the whole. */
  readonly beforeSigning: (signed: Uint8Array) => Uint8Array
  readonly afterSigning: (der: Uint8Array) => Uint8Array
}
export type Change = Partial<Omit<Level, 'extensions'>> & { readonly extensions?: Level['extensions'] }
export type LevelName = 'root' | 'intermediate' | 'organization' | 'agent' | 'session'

export interface BuiltLevel extends Level {
  readonly der: Uint8Array
}

export const nameOf = (fields: NameFields): Uint8Array => makeName(fields)
export const constraintsOf = (...bases: readonly Uint8Array[]): Uint8Array =>
  derExtension(
    OID.nameConstraints,
    true,
    derSequence(derValue(contextConstructed(0), ...bases.map((base) => derSequence(base)))),
  )
export const directoryBase = (fields: NameFields): Uint8Array =>
  derValue(DIRECTORY_NAME_TAG, makeName(fields))
export const dnsBase = (name: string): Uint8Array => derText(DNS_NAME_TAG, name)
export const keyUsageOf = (...names: readonly KeyUsageName[]): Uint8Array =>
  derExtension(OID.keyUsage, true, derNamedBits(names.map((name) => KEY_USAGES.indexOf(name))))
export const caOf = (pathLength?: number): Uint8Array =>
  derExtension(
    OID.basicConstraints,
    true,
    derSequence(DER_TRUE, ...(pathLength === undefined ? [] : [derNumber(pathLength)])),
  )
export const alternativeNamesOf = (...names: readonly Uint8Array[]): Uint8Array =>
  derExtension(OID.subjectAlternativeName, false, derSequence(...names))
export const uriOf = (uri: string): Uint8Array => derText(URI_TAG, uri)
export const keyIdExtension = (publicKey: Uint8Array): Uint8Array =>
  derExtension(OID.subjectKeyIdentifier, false, derValue(TAG.octetString, fromHex(keyIdOf(publicKey))))
export const authorityExtension = (publicKey: Uint8Array): Uint8Array =>
  derExtension(
    OID.authorityKeyIdentifier,
    false,
    derSequence(derValue(contextPrimitive(0), fromHex(keyIdOf(publicKey)))),
  )

export function rawCertificate(level: Level): Uint8Array {
  const extensions = Object.values(level.extensions).filter((extension) => extension !== undefined)
  const signed = derSequence(
    ...(level.version === undefined ? [] : [derValue(contextConstructed(0), level.version)]),
    derSerial(level.serial),
    level.algorithm,
    level.issuer,
    derSequence(derTime(level.notBefore), derTime(level.notAfter)),
    level.subject,
    level.spki,
    ...(extensions.length === 0 ? [] : [derValue(contextConstructed(3), derSequence(...extensions))]),
  )
  return level.afterSigning(derSigned(level.beforeSigning(signed), level.signer.secretKey))
}

const same = (bytes: Uint8Array): Uint8Array => bytes

function levelOf(
  name: string,
  issuer: Level | undefined,
  fields: Partial<Level>,
  change: Change,
): BuiltLevel {
  const key = change.key ?? fields.key ?? testKeyPair(`chain ${name}`)
  const merged: Level = {
    subject: nameOf({ commonName: name }),
    issuer: issuer?.subject ?? change.subject ?? fields.subject ?? nameOf({ commonName: name }),
    serial: newSerial(testRandom(`chain serial ${name}`)),
    notBefore: NOW - DAY,
    notAfter: NOW + DAY,
    key,
    spki: derSequence(ED25519_ALGORITHM, derBits(key.publicKey)),
    signer: issuer?.key ?? key,
    version: derNumber(2),
    algorithm: ED25519_ALGORITHM,
    beforeSigning: same,
    afterSigning: same,
    ...fields,
    ...change,
    extensions: {
      subjectKeyIdentifier: keyIdExtension(key.publicKey),
      ...(issuer === undefined ? {} : { authorityKeyIdentifier: authorityExtension(issuer.key.publicKey) }),
      ...fields.extensions,
      ...change.extensions,
    },
  }
  return { ...merged, der: rawCertificate(merged) }
}

const CA_USAGE = keyUsageOf('keyCertSign', 'cRLSign')
const DID = alternativeNamesOf(uriOf(didFromAmid(AGENT_AMID)))

/** A whole hierarchy, right in all that `changes` does not change. */
export function buildChain(changes: Partial<Record<LevelName, Change>> = {}, isOrganized = true) {
  const root = levelOf(
    'root',
    undefined,
    { extensions: { basicConstraints: caOf(3), keyUsage: CA_USAGE } },
    changes.root ?? {},
  )
  const intermediate = levelOf(
    'intermediate',
    root,
    { extensions: { basicConstraints: caOf(2), keyUsage: CA_USAGE } },
    changes.intermediate ?? {},
  )
  const organization = levelOf(
    'organization',
    intermediate,
    {
      subject: nameOf({ organization: 'Acme' }),
      extensions: {
        basicConstraints: caOf(1),
        keyUsage: CA_USAGE,
        subjectAlternativeName: alternativeNamesOf(dnsBase('acme.example')),
        nameConstraints: constraintsOf(directoryBase({ organization: 'Acme' }), dnsBase('acme.example')),
      },
    },
    changes.organization ?? {},
  )
  const owner = isOrganized ? { organization: 'Acme' } : {}
  const agent = levelOf(
    'agent',
    isOrganized ? organization : intermediate,
    {
      subject: nameOf({ ...owner, commonName: 'Alice' }),
      key: AGENT_KEY,
      extensions: {
        basicConstraints: caOf(0),
        keyUsage: keyUsageOf('keyCertSign', 'digitalSignature'),
        subjectAlternativeName: DID,
      },
    },
    changes.agent ?? {},
  )
  const session = levelOf(
    'session',
    agent,
    {
      subject: nameOf({ ...owner, commonName: 'session' }),
      spki: derSequence(X25519_ALGORITHM, derBits(SESSION_KEY)),
      extensions: {
        subjectKeyIdentifier: undefined,
        keyUsage: keyUsageOf('keyAgreement'),
        subjectAlternativeName: DID,
      },
    },
    changes.session ?? {},
  )
  const levels = { root, intermediate, organization, agent, session }
  const chain = [session, agent, ...(isOrganized ? [organization] : [])].map(({ der }) => der)
  return { levels, chain }
}

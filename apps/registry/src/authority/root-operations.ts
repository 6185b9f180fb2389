/**
 * What an operator does with the root's key, brought from its safe while the registry may run: the root's revocation list, the
 * next intermediate, the end of an old one. The registry takes all of it up at its next start.
 *
 *     issuing --(renew)--> retired: lists only, what it issued holds --(revoke)--> on the root's list: nothing under it holds
 */
import { readFileSync } from 'node:fs'
import { ed25519KeyPair, equalBytes, type RandomBytes } from '@agentmesh/sdk/crypto/signing'
import {
  addToKeyFolder,
  CERTIFICATE_LIFETIMES,
  Home,
  issueIntermediate,
  issueService,
  newSerial,
  parseCertificate,
  parseCrl,
  readKeyFile,
  type Certificate,
  type Issuer,
  type RevocationReason,
} from '@agentmesh/sdk/identity'
import { AgentMeshError, CLOCK_SKEW_SECONDS } from '@agentmesh/sdk/wire'
import {
  KEYS,
  MAX_INTERMEDIATES,
  openAuthority,
  readFacts,
  ROOT_KEY_USE,
  rootListOf,
  toPem,
  writeFacts,
  type AuthorityKeys,
} from './authority-keys.ts'

/** For what the root signs now and then. */
export interface RootOptions {
  readonly folder: string
  /** What `initAuthority` wrote for it; undefined when the root's key is in the folder. */
  readonly rootFile: string | undefined
  readonly passphrase: string | undefined
  /** Milliseconds since the epoch. */
  readonly now: number
}

/** @throws as `openAuthority`; HOME_DAMAGED when the file holds another key, MALFORMED when the key is nowhere */
function openRoot({ folder, rootFile, passphrase }: RootOptions): { keys: AuthorityKeys; root: Issuer } {
  const keys = openAuthority(folder, passphrase)
  if (rootFile === undefined) {
    if (keys.rootKey === undefined)
      throw new AgentMeshError('MALFORMED', "The root's key is kept elsewhere: bring it with --root")
    return { keys, root: { certificate: keys.root, signing: keys.rootKey } }
  }
  let bytes: Uint8Array
  try {
    bytes = readFileSync(rootFile)
  } catch (cause) {
    throw new AgentMeshError('HOME_FAILED', `Cannot read ${rootFile}`, { cause })
  }
  const signing = ed25519KeyPair(readKeyFile(ROOT_KEY_USE, bytes, passphrase))
  if (!equalBytes(signing.publicKey, keys.root.publicKey.bytes)) {
    throw new AgentMeshError('HOME_DAMAGED', `${rootFile} holds the key of another root`)
  }
  return { keys, root: { certificate: keys.root, signing } }
}

/**
 * Makes the root's next revocation list; the registry takes it up at its next start.
 *
 * @param revoke an intermediate to be put on it
 * @returns the time until which the list holds, milliseconds since the epoch
 * @throws as `openRoot`
 */
function writeRootList(
  options: RootOptions,
  revoke?: { readonly certificate: Certificate; readonly reason: RevocationReason },
): number {
  const { keys, root } = openRoot(options)
  const { number, entries } = parseCrl(keys.rootList)
  const { folder, now } = options
  const kept = [...entries].map(([serial, { revokedAt, reason }]) => ({ serial, revokedAt, reason }))
  const added =
    revoke === undefined || entries.has(revoke.certificate.serial)
      ? []
      : [{ serial: revoke.certificate.serial, revokedAt: now, reason: revoke.reason }]
  const list = rootListOf(root, number + 1, now, [...kept, ...added])
  Home.open(folder).writeFile(`${KEYS}/root.crl`, toPem(list, 'X509 CRL'))
  return parseCrl(list).nextUpdate
}

/** @returns the time until which the list holds. @throws as `openAuthority`; HOME_DAMAGED, MALFORMED */
export function renewRootList(options: RootOptions): number {
  return writeRootList(options)
}

/**
 * Makes an intermediate that issues from the registry's next start on. The one before stays good for what it issued.
 *
 * @returns key ids of the new one and of the one before
 * @throws as `renewRootList`, HOME_FAILED; MALFORMED when too many are in date
 */
export function renewIntermediate(options: RootOptions & { readonly random: RandomBytes }): {
  readonly issuing: string
  readonly retired: string
} {
  const { folder, now, random, passphrase } = options
  const { keys, root } = openRoot(options)
  const seed = random(32)
  const signing = ed25519KeyPair(seed)
  const terms = (kind: 'intermediate' | 'service') => ({
    name: keys.name,
    serial: newSerial(random),
    notBefore: now - CLOCK_SKEW_SECONDS * 1000,
    notAfter: now + CERTIFICATE_LIFETIMES[kind],
  })
  const intermediate = parseCertificate(
    issueIntermediate({ ...terms('intermediate'), publicKey: signing.publicKey }, root),
  )
  const { publicKey } = keys.service.signing
  const service = issueService(
    { ...terms('service'), url: keys.url, publicKey },
    { certificate: intermediate, signing },
  )
  const home = Home.open(folder)
  const facts = readFacts(home)
  const retired = [facts.issuing ?? 'intermediate', ...(facts.retired ?? [])]
  if (retired.length >= MAX_INTERMEDIATES)
    throw new AgentMeshError('MALFORMED', `A registry has at most ${MAX_INTERMEDIATES} intermediates`)
  const name = `intermediate-${intermediate.keyId}`
  const serviceName = `service-${intermediate.keyId}`
  addToKeyFolder(
    home,
    KEYS,
    { name, secret: seed },
    { random, ...(passphrase === undefined ? {} : { passphrase }) },
  )
  home.writeFile(`${KEYS}/${name}.pem`, toPem(intermediate.der, 'CERTIFICATE'))
  home.writeFile(`${KEYS}/${serviceName}.pem`, toPem(service, 'CERTIFICATE'))
  // What counts is what this file names, so that a crash before it changes nothing.
  writeFacts(home, { ...facts, issuing: name, service: serviceName, retired })
  return { issuing: intermediate.keyId, retired: keys.intermediate.certificate.keyId }
}

/**
 * Puts an intermediate on the root's revocation list: from the registry's next start on nothing under it is accepted.
 *
 * @param keyId lower-case hex
 * @returns the time until which the list holds
 * @throws as `renewRootList`; NOT_FOUND; MALFORMED for the one that issues
 */
export function revokeIntermediate(
  options: RootOptions & { readonly keyId: string; readonly reason: RevocationReason },
): number {
  const { folder, passphrase, keyId, reason } = options
  const keys = openAuthority(folder, passphrase)
  if (keyId === keys.intermediate.certificate.keyId)
    throw new AgentMeshError('MALFORMED', 'This intermediate issues: make the next one first')
  const found = keys.retired.find(({ certificate }) => certificate.keyId === keyId)
  if (found === undefined) throw new AgentMeshError('NOT_FOUND', 'There is no such intermediate')
  return writeRootList(options, { certificate: found.certificate, reason })
}

/** The intermediates of an authority, the one that issues first. @throws as `openAuthority` */
export function listIntermediates(
  folder: string,
  passphrase: string | undefined,
): { readonly certificate: Certificate; readonly state: 'issuing' | 'retired' | 'revoked' }[] {
  const keys = openAuthority(folder, passphrase)
  const { entries } = parseCrl(keys.rootList)
  return [
    { certificate: keys.intermediate.certificate, state: 'issuing' },
    ...keys.retired.map(({ certificate }) => ({
      certificate,
      state: entries.has(certificate.serial) ? ('revoked' as const) : ('retired' as const),
    })),
  ]
}

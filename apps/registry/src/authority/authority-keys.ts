/**
 * Keys and certificates of a registry's authority: made once by `agentmesh registry init`, opened at every start.
 *
 *     DIR/keys/authority.json     name, address and fingerprint
 *     DIR/keys/{root,intermediate,service}.pem, root.crl     public
 *     DIR/keys/{root,intermediate,service,secret}.key        sealed (root.key is missing when the root is kept offline)
 *     DIR/keys/{intermediate,service}-<key id>.pem, intermediate-<key id>.key      of a later intermediate
 *
 * `authority.json` says which intermediate issues and which ones did before; those still sign their revocation lists.
 * `secret` is what the proofs of domains and the hashes of people's accounts are keyed with. The root signs intermediates and its own revocation list, so
 * its key is needed every few years and may be in a safe in between.
 */
import { existsSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { ed25519KeyPair, hkdfSha256, type KeyPair, type RandomBytes } from '@agentmesh/sdk/crypto/signing'
import {
  CERTIFICATE_LIFETIMES,
  certificateFingerprint,
  encodeKeyFile,
  Home,
  issueCrl,
  issueIntermediate,
  issueRoot,
  issueService,
  newSerial,
  parseCertificate,
  readKeyFolder,
  writeKeyFolder,
  type Certificate,
  type CrlEntry,
  type Issuer,
} from '@agentmesh/sdk/identity'
import {
  AgentMeshError,
  CLOCK_SKEW_SECONDS,
  formatTimestamp,
  fromBase64,
  parseJsonObject,
  toBase64,
  utf8Bytes,
  utf8Text,
  validate,
  Type,
} from '@agentmesh/sdk/wire'
import type { Static } from 'typebox'

export const KEYS = 'keys'
const MAX_FILE_BYTES = 16 * 1024
const DAY = 86_400_000
/** Nobody has to get the root from its safe for a new list before. */
const OFFLINE_ROOT_LIST_DAYS = 400
export const ROOT_KEY_USE = 'registry root.key'
/** In bytes of UTF-8: a certificate's names have 64, and add a word to it. */
const MAX_NAME_BYTES = 57
/** A trust document has room for eight. */
export const MAX_INTERMEDIATES = 8

/** What a running authority needs. */
export interface AuthorityKeys {
  readonly name: string
  readonly url: string
  /** Of the root. */
  readonly fingerprint: string
  readonly root: Certificate
  /** Undefined: it is offline. */
  readonly rootKey: KeyPair | undefined
  /** The root's revocation list for as long as its key is offline, DER. */
  readonly rootList: Uint8Array
  /** The one that issues. */
  readonly intermediate: Issuer
  /** Those that issued before: what they issued holds until it ends, or until the root revokes them. */
  readonly retired: readonly Issuer[]
  readonly service: Issuer
  /** 32 bytes. */
  readonly secret: Uint8Array
}

export interface NewAuthority {
  /** At most 57 bytes of UTF-8; in every certificate and before everybody who sees one. */
  readonly name: string
  /** `http(s)://host[:port]`, where agents reach this registry. */
  readonly url: string
  /** Milliseconds since the epoch. */
  readonly now: number
  readonly random: RandomBytes
}

interface Seeds {
  readonly root: Uint8Array
  readonly intermediate: Uint8Array
  readonly service: Uint8Array
}

/** @throws MALFORMED for a name or an address that certificates cannot hold */
export function makeAuthorityKeys(fields: NewAuthority): AuthorityKeys & { readonly seeds: Seeds } {
  const { name, now, random } = fields
  const url = checkUrl(fields.url)
  checkName(name)
  const seeds = { root: random(32), intermediate: random(32), service: random(32) }
  const rootKey = ed25519KeyPair(seeds.root)
  const terms = (kind: 'root' | 'intermediate' | 'service') => ({
    name,
    serial: newSerial(random),
    // A clock that is a little behind must be able to use it at once.
    notBefore: now - CLOCK_SKEW_SECONDS * 1000,
    notAfter: now + CERTIFICATE_LIFETIMES[kind],
  })
  const root = parseCertificate(issueRoot(terms('root'), rootKey))
  const rootIssuer = { certificate: root, signing: rootKey }
  const intermediateKey = ed25519KeyPair(seeds.intermediate)
  const intermediate = {
    certificate: parseCertificate(
      issueIntermediate({ ...terms('intermediate'), publicKey: intermediateKey.publicKey }, rootIssuer),
    ),
    signing: intermediateKey,
  }
  const serviceKey = ed25519KeyPair(seeds.service)
  const service = {
    certificate: parseCertificate(
      issueService({ ...terms('service'), url, publicKey: serviceKey.publicKey }, intermediate),
    ),
    signing: serviceKey,
  }
  const rootList = rootListOf(rootIssuer, 1, now)
  const fingerprint = certificateFingerprint(root)
  const keys = { root, rootKey, rootList, intermediate, retired: [], service }
  return { name, url, fingerprint, ...keys, secret: random(32), seeds }
}

export function rootListOf(
  issuer: Issuer,
  number: number,
  now: number,
  entries: readonly CrlEntry[] = [],
): Uint8Array {
  const thisUpdate = now - CLOCK_SKEW_SECONDS * 1000
  return issueCrl({ entries, number, thisUpdate, nextUpdate: now + OFFLINE_ROOT_LIST_DAYS * DAY }, issuer)
}

export interface InitOptions extends NewAuthority {
  readonly folder: string
  readonly passphrase?: string
  /** Where the root's key goes in place of the folder. */
  readonly offlineRoot?: string
}

/**
 * Makes an authority in a folder, with everything in it or nothing.
 *
 * @returns its fingerprint
 * @throws HOME_EXISTS when there is one already, or the file for the root; HOME_UNSAFE, HOME_FAILED, MALFORMED
 */
export function initAuthority(options: InitOptions): AuthorityKeys {
  const { folder, offlineRoot, random, passphrase } = options
  const home = Home.create(folder)
  if (home.has(KEYS)) throw new AgentMeshError('HOME_EXISTS', `${home.path} holds an authority already`)
  const { seeds, ...made } = makeAuthorityKeys(options)
  const protection = { random, ...(passphrase === undefined ? {} : { passphrase }) }
  if (offlineRoot !== undefined) writeAlone(offlineRoot, encodeKeyFile(ROOT_KEY_USE, seeds.root, protection))
  try {
    const { root, ...online } = seeds
    writeKeyFolder(
      home,
      KEYS,
      {
        secrets: { ...online, ...(offlineRoot === undefined ? { root } : {}), secret: made.secret },
        files: {
          'authority.json': utf8Bytes(
            `${JSON.stringify(
              {
                version: 1,
                name: made.name,
                url: made.url,
                fingerprint: made.fingerprint,
                created_at: formatTimestamp(options.now),
              },
              null,
              2,
            )}\n`,
          ),
          'root.pem': toPem(made.root.der, 'CERTIFICATE'),
          'intermediate.pem': toPem(made.intermediate.certificate.der, 'CERTIFICATE'),
          'service.pem': toPem(made.service.certificate.der, 'CERTIFICATE'),
          'root.crl': toPem(made.rootList, 'X509 CRL'),
        },
      },
      protection,
    )
  } catch (error) {
    if (offlineRoot !== undefined) rmSync(offlineRoot, { force: true })
    throw error
  }
  return made
}

const FileName = Type.String({ pattern: '^(intermediate|service)(-[0-9a-f]{40})?$' })
const AuthorityFile = Type.Object({
  version: Type.Literal(1),
  name: Type.String({ maxLength: MAX_NAME_BYTES }),
  url: Type.String({ maxLength: 256 }),
  fingerprint: Type.String({ pattern: '^[0-9a-f]{64}$' }),
  created_at: Type.Optional(Type.String({ maxLength: 64 })),
  /** Files of the intermediate in use and of its service certificate, and of intermediates before it. */
  issuing: Type.Optional(FileName),
  service: Type.Optional(FileName),
  retired: Type.Optional(Type.Array(FileName, { maxItems: MAX_INTERMEDIATES })),
})
type AuthorityFile = Static<typeof AuthorityFile>

export function readFacts(home: Home): AuthorityFile {
  const bytes = home.readFile(`${KEYS}/authority.json`)
  if (bytes === undefined) throw damaged(home, 'authority.json is missing')
  return validate(AuthorityFile, parseJsonObject(bytes, MAX_FILE_BYTES))
}

export function writeFacts(home: Home, facts: AuthorityFile): void {
  home.writeFile(`${KEYS}/authority.json`, utf8Bytes(`${JSON.stringify(facts, null, 2)}\n`))
}

/** Where the authority of a registry is unless told otherwise: beside its database file. */
export function authorityFolder(dataPath: string): string {
  return `${dataPath.replace(/\.db$/, '')}.ca`
}

/**
 * The authority of a registry that starts: that of the folder it is told, or the one beside its database file if there is one.
 *
 * @throws as `openAuthority`
 */
export function findAuthority(
  folder: string | undefined,
  dataPath: string,
  passphrase: string | undefined,
): AuthorityKeys | undefined {
  if (folder !== undefined) return openAuthority(folder, passphrase)
  const beside = authorityFolder(dataPath)
  return existsSync(join(beside, KEYS)) ? openAuthority(beside, passphrase) : undefined
}

/** @throws HOME_EMPTY, HOME_UNSAFE, HOME_DAMAGED, PASSPHRASE_REQUIRED, PASSPHRASE_WRONG */
export function openAuthority(folder: string, passphrase?: string): AuthorityKeys {
  const home = Home.open(folder)
  if (!home.has(KEYS)) throw new AgentMeshError('HOME_EMPTY', `There is no authority in ${home.path}`)
  const file = (name: string) => {
    const bytes = home.readFile(`${KEYS}/${name}`)
    if (bytes === undefined) throw damaged(home, `${name} is missing`)
    return bytes
  }
  let facts: AuthorityFile
  try {
    facts = readFacts(home)
  } catch (error) {
    throw damaged(home, 'authority.json is not in form', error)
  }
  const { issuing = 'intermediate', retired = [] } = facts
  const names = ['root', 'service', 'secret', issuing, ...retired]
  const secrets = readKeyFolder(home, KEYS, names, passphrase)
  try {
    const certificate = (name: string) => parseCertificate(fromPem(file(`${name}.pem`)))
    const pair = (name: string, of: Certificate): KeyPair => {
      const seed = secrets[name]
      if (seed === undefined) throw damaged(home, `${name}.key is missing`)
      const signing = ed25519KeyPair(seed)
      if (toBase64(signing.publicKey) !== toBase64(of.publicKey.bytes)) {
        throw damaged(home, `${name}.key is not that of ${name}.pem`)
      }
      return signing
    }
    const root = certificate('root')
    if (certificateFingerprint(root) !== facts.fingerprint) throw damaged(home, 'root.pem is another root')
    const issuer = (name: string): Issuer => {
      const of = certificate(name)
      return { certificate: of, signing: pair(name, of) }
    }
    const service = certificate(facts.service ?? 'service')
    const { secret } = secrets
    if (secret === undefined) throw damaged(home, 'secret.key is missing')
    return {
      name: facts.name,
      url: facts.url,
      fingerprint: facts.fingerprint,
      root,
      rootKey: secrets['root'] === undefined ? undefined : pair('root', root),
      rootList: fromPem(file('root.crl')),
      intermediate: issuer(issuing),
      retired: retired.map(issuer),
      service: { certificate: service, signing: pair('service', service) },
      secret,
    }
  } catch (error) {
    if (error instanceof AgentMeshError && error.code === 'HOME_DAMAGED') throw error
    throw damaged(home, 'a file is not in form', error)
  }
}

/** What proofs of domains are keyed with. */
export function domainProofKey({ secret }: Pick<AuthorityKeys, 'secret'>): Uint8Array {
  return keyFor(secret, 'domain-proof')
}

/** What people's accounts are hashed with. Without it nobody can tell who is among those the registry knows. */
export function humanKey({ secret }: Pick<AuthorityKeys, 'secret'>): Uint8Array {
  return keyFor(secret, 'human')
}

function keyFor(secret: Uint8Array, use: string): Uint8Array {
  return hkdfSha256(secret, new Uint8Array(0), utf8Bytes(`agentmesh/0.2 registry ${use}`), 32)
}

function damaged(home: Home, what: string, cause?: unknown): AgentMeshError {
  return new AgentMeshError('HOME_DAMAGED', `The authority in ${home.path}: ${what}`, { cause })
}

function checkName(name: string): void {
  if (!/^[^\p{C}()]+$/u.test(name) || name.trim() !== name || utf8Bytes(name).length > MAX_NAME_BYTES) {
    throw new AgentMeshError(
      'MALFORMED',
      `A registry's name is printable text without parentheses, at most ${MAX_NAME_BYTES} bytes of UTF-8`,
    )
  }
}

function checkUrl(text: string): string {
  const url = URL.canParse(text) ? new URL(text) : undefined
  if (url === undefined || !/^https?:$/.test(url.protocol) || url.pathname !== '/' || url.search !== '') {
    throw new AgentMeshError('MALFORMED', 'The address of the registry is http(s)://host[:port]')
  }
  return url.origin
}

/** Never over a file that is there. */
function writeAlone(path: string, bytes: Uint8Array): void {
  try {
    writeFileSync(path, bytes, { flag: 'wx', mode: 0o600, flush: true })
  } catch (cause) {
    const exists = (cause as NodeJS.ErrnoException).code === 'EEXIST'
    throw new AgentMeshError(exists ? 'HOME_EXISTS' : 'HOME_FAILED', `Cannot write ${path}`, { cause })
  }
}

const PEM_COLUMNS = 64

export function toPem(der: Uint8Array, label: 'CERTIFICATE' | 'X509 CRL'): Uint8Array {
  const lines = toBase64(der).match(new RegExp(`.{1,${PEM_COLUMNS}}`, 'g')) ?? []
  return utf8Bytes([`-----BEGIN ${label}-----`, ...lines, `-----END ${label}-----`, ''].join('\n'))
}

/** @throws MALFORMED */
function fromPem(bytes: Uint8Array): Uint8Array {
  const [, text = ''] =
    /^-----BEGIN [A-Z0-9 ]+-----\n([A-Za-z0-9+/=\n]+)-----END /.exec(utf8Text(bytes)) ?? []
  if (text === '') throw new AgentMeshError('MALFORMED', 'Not PEM')
  return fromBase64(text.replaceAll('\n', ''))
}

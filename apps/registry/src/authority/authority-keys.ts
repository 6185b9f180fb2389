/**
 * Keys and certificates of a registry's authority: made once by `agentmesh registry init`, opened at every start.
 *
 *     DIR/keys/authority.json     name, address and fingerprint
 *     DIR/keys/{root,intermediate,service}.pem, root.crl     public
 *     DIR/keys/{root,intermediate,service,secret}.key        sealed (root.key is missing when the root is kept offline)
 *
 * `secret` is what the proofs of domains and the hashes of people's accounts are keyed with. The root signs intermediates and its own revocation list, so
 * its key is needed every few years and may be in a safe in between.
 */
import { existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import {
  ed25519KeyPair,
  equalBytes,
  hkdfSha256,
  type KeyPair,
  type RandomBytes,
} from '@agentmesh/sdk/crypto/signing'
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
  parseCrl,
  readKeyFile,
  readKeyFolder,
  writeKeyFolder,
  type Certificate,
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
} from '@agentmesh/sdk/wire'
import { Type } from 'typebox'

const KEYS = 'keys'
const MAX_FILE_BYTES = 16 * 1024
const DAY = 86_400_000
/** Nobody has to get the root from its safe for a new list before. */
const OFFLINE_ROOT_LIST_DAYS = 400
const ROOT_KEY_USE = 'registry root.key'
/** In bytes of UTF-8: a certificate's names have 64, and add a word to it. */
const MAX_NAME_BYTES = 57

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
  readonly intermediate: Issuer
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
  return { name, url, fingerprint, root, rootKey, rootList, intermediate, service, secret: random(32), seeds }
}

function rootListOf(issuer: Issuer, number: number, now: number): Uint8Array {
  const thisUpdate = now - CLOCK_SKEW_SECONDS * 1000
  return issueCrl({ entries: [], number, thisUpdate, nextUpdate: now + OFFLINE_ROOT_LIST_DAYS * DAY }, issuer)
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

/**
 * Makes the next revocation list of a root whose key is kept elsewhere; the registry takes it up at its next start.
 *
 * @param rootFile what `initAuthority` wrote for it
 * @returns the time until which the list holds, milliseconds since the epoch
 * @throws as `openAuthority`; HOME_DAMAGED when the file holds another key
 */
export function renewRootList(
  folder: string,
  rootFile: string,
  { now, passphrase }: { readonly now: number; readonly passphrase: string | undefined },
): number {
  const keys = openAuthority(folder, passphrase)
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
  const { number } = parseCrl(keys.rootList)
  const list = rootListOf({ certificate: keys.root, signing }, number + 1, now)
  Home.open(folder).writeFile(`${KEYS}/root.crl`, toPem(list, 'X509 CRL'))
  return parseCrl(list).nextUpdate
}

const AuthorityFile = Type.Object({
  version: Type.Literal(1),
  name: Type.String({ maxLength: MAX_NAME_BYTES }),
  url: Type.String({ maxLength: 256 }),
  fingerprint: Type.String({ pattern: '^[0-9a-f]{64}$' }),
})

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
function openAuthority(folder: string, passphrase?: string): AuthorityKeys {
  const home = Home.open(folder)
  if (!home.has(KEYS)) throw new AgentMeshError('HOME_EMPTY', `There is no authority in ${home.path}`)
  const file = (name: string) => {
    const bytes = home.readFile(`${KEYS}/${name}`)
    if (bytes === undefined) throw damaged(home, `${name} is missing`)
    return bytes
  }
  const secrets = readKeyFolder(home, KEYS, ['root', 'intermediate', 'service', 'secret'], passphrase)
  try {
    const facts = validate(AuthorityFile, parseJsonObject(file('authority.json'), MAX_FILE_BYTES))
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
    const intermediate = certificate('intermediate')
    const service = certificate('service')
    const { secret } = secrets
    if (secret === undefined) throw damaged(home, 'secret.key is missing')
    return {
      ...facts,
      root,
      rootKey: secrets['root'] === undefined ? undefined : pair('root', root),
      rootList: fromPem(file('root.crl')),
      intermediate: { certificate: intermediate, signing: pair('intermediate', intermediate) },
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

function toPem(der: Uint8Array, label: 'CERTIFICATE' | 'X509 CRL'): Uint8Array {
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

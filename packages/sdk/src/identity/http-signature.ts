/**
 * Signed HTTP requests: RFC 9421 (HTTP Message Signatures) with Ed25519 and RFC 9530 (Content-Digest), in one strict
 * profile (DESIGN §8).
 *
 *     agentmesh-key: ed25519:<base64>
 *     content-digest: sha-256=:<base64>:                                     when there is a body
 *     signature-input: agentmesh=("@method" "@authority" "@path" "@query" "agentmesh-key" "content-digest")
 *         ;created=<s>;expires=<s>;nonce="<base64url>";keyid="<amid>";alg="ed25519";tag="agentmesh/0.2"
 *     signature: agentmesh=:<base64>:
 *
 * The key travels along, so a first registration verifies like any later request; its hash must be `keyid`. The signature
 * base begins with `"@`, which no labelled signature of ours does, so the two kinds cannot be exchanged.
 *
 * Stricter than the RFC: one signature a request, all six parameters, one digest algorithm, no component parameters, and
 * the lists in the exact spelling that RFC 8941 serialization gives. The order of components and parameters is free.
 */
import { ed25519SignRaw, ed25519VerifyRaw, equalBytes, sha256 } from '../crypto/signing.ts'
import {
  AgentMeshError,
  CLOCK_SKEW_SECONDS,
  formatKey,
  fromBase64,
  fromBase64Url,
  isAmid,
  parseKey,
  PROTOCOL_VERSION,
  toBase64,
  toBase64Url,
  utf8Bytes,
  type Amid,
} from '../wire/index.ts'
import { checkAmid, type Identity } from './amid.ts'

const SIGNATURE_LABEL = 'agentmesh'
const KEY_HEADER = 'agentmesh-key'
const REQUIRED_COMPONENTS = ['@method', '@authority', '@path', '@query', KEY_HEADER] as const
const MIN_NONCE_BYTES = 16
const MAX_NONCE_LENGTH = 64
const MAX_SIGNATURE_INPUT_LENGTH = 1024

/** The longest time between `created` and `expires`: bounds how long a server must remember nonces. */
export const MAX_SIGNATURE_SECONDS = 300
export const DEFAULT_SIGNATURE_SECONDS = 60

export interface RequestToSign {
  readonly method: string
  /** Absolute http or https URL. */
  readonly url: string
  /** The exact bytes that will be sent. */
  readonly body?: Uint8Array
}

export interface SigningOptions {
  /** Milliseconds since the epoch. */
  readonly now: number
  /** At least 16 fresh random bytes. */
  readonly nonce: Uint8Array
  /** At most 300, 60 when not given. */
  readonly expiresInSeconds?: number
}

/** The request as a server received it. */
export interface ReceivedRequest {
  readonly method: string
  /**
   * The `Host` header, after the server has checked that it is one of its own names: a signature made for another server
   * verifies under that server's name.
   */
  readonly authority: string
  /** The request target in origin form, exactly as on the request line: path, and query when there is one. */
  readonly target: string
  /** By lowercase name. */
  readonly headers: Readonly<Record<string, string | readonly string[] | undefined>>
  /** The body's exact bytes; empty or absent when there is none. */
  readonly body?: Uint8Array
}

export interface VerifiedRequest {
  readonly amid: Amid
  readonly publicKey: Uint8Array
  readonly nonce: string
  /** Milliseconds since the epoch until which the server refuses (amid, nonce) as a replay. */
  readonly nonceExpiresAt: number
}

/**
 * The headers to add to a request.
 *
 * @throws MALFORMED for a short nonce, a lifetime out of range, or a URL that is not http or https
 */
export function signRequest(
  request: RequestToSign,
  identity: Identity,
  options: SigningOptions,
): Record<string, string> {
  const lifetime = options.expiresInSeconds ?? DEFAULT_SIGNATURE_SECONDS
  if (!Number.isInteger(lifetime) || lifetime < 1 || lifetime > MAX_SIGNATURE_SECONDS) {
    throw new AgentMeshError('MALFORMED', `A signature lasts 1 to ${MAX_SIGNATURE_SECONDS} seconds`)
  }
  if (options.nonce.length < MIN_NONCE_BYTES) throw new AgentMeshError('MALFORMED', 'Nonce under 16 bytes')
  const nonce = toBase64Url(options.nonce)
  const created = Math.floor(options.now / 1000)

  const headers: Record<string, string> = { [KEY_HEADER]: formatKey('ed25519', identity.signing.publicKey) }
  const components: string[] = [...REQUIRED_COMPONENTS]
  if (request.body !== undefined && request.body.length > 0) {
    headers['content-digest'] = contentDigest(request.body)
    components.push('content-digest')
  }
  const parameters =
    `(${components.map((name) => `"${name}"`).join(' ')})` +
    `;created=${created};expires=${created + lifetime};nonce="${nonce}"` +
    `;keyid="${identity.amid}";alg="ed25519";tag="${PROTOCOL_VERSION}"`
  const base = signatureBase(
    { method: request.method, ...splitUrl(request.url), headers },
    components,
    parameters,
  )
  return {
    ...headers,
    'signature-input': `${SIGNATURE_LABEL}=${parameters}`,
    signature: `${SIGNATURE_LABEL}=:${toBase64(ed25519SignRaw(identity.signing.secretKey, base))}:`,
  }
}

/**
 * Checks a signed request. The caller must still refuse a nonce it has seen from this AMID, and remember the nonce until
 * `nonceExpiresAt`.
 *
 * @param now milliseconds since the epoch
 * @throws INVALID_SIGNATURE (also when a part is missing or not in the profile), SIGNATURE_EXPIRED (also when dated in the
 *   future), AMID_MISMATCH, INVALID_KEY
 */
export function verifyRequest(request: ReceivedRequest, now: number): VerifiedRequest {
  const input = parseSignatureInput(singleHeader(request, 'signature-input'))
  const covered = new Set(input.components)
  const missing = REQUIRED_COMPONENTS.find((name) => !covered.has(name))
  if (missing !== undefined) throw refused(`The signature does not cover ${missing}`)
  if (request.body !== undefined && request.body.length > 0 && !covered.has('content-digest')) {
    throw refused('The signature does not cover the body')
  }

  // Dates before public-key work: they cost nothing, and most replays end here.
  const skew = CLOCK_SKEW_SECONDS
  const nowSeconds = now / 1000
  if (input.expires <= input.created || input.expires - input.created > MAX_SIGNATURE_SECONDS) {
    throw refused(`A signature lasts 1 to ${MAX_SIGNATURE_SECONDS} seconds`)
  }
  if (nowSeconds > input.expires + skew) throw new AgentMeshError('SIGNATURE_EXPIRED')
  if (nowSeconds < input.created - skew) {
    throw new AgentMeshError('SIGNATURE_EXPIRED', 'The signature is dated in the future')
  }

  if (covered.has('content-digest')) {
    const digest = singleHeader(request, 'content-digest')
    if (!matchesDigest(digest, request.body ?? new Uint8Array(0)))
      throw refused('The body is not the one signed')
  }
  const publicKey = parseKey('ed25519', singleHeader(request, KEY_HEADER))
  if (!isAmid(input.keyid)) throw refused('The key id is not an AMID')
  checkAmid(input.keyid, publicKey)
  const signature = parseSignature(singleHeader(request, 'signature'))
  if (!ed25519VerifyRaw(publicKey, signature, signatureBase(request, input.components, input.parameters))) {
    throw new AgentMeshError('INVALID_SIGNATURE')
  }
  return {
    amid: input.keyid,
    publicKey,
    nonce: input.nonce,
    nonceExpiresAt: (input.expires + skew) * 1000,
  }
}

/**
 * The signature base (RFC 9421 §2.5): a line a component, then the parameters.
 *
 * @param components names in the order signed: `@method`, `@authority`, `@path`, `@query`, or lowercase header names
 * @param parameters the value of `@signature-params`: inner list and parameters, as serialized
 * @throws INVALID_SIGNATURE when a component is not in the message
 */
export function signatureBase(
  message: Omit<ReceivedRequest, 'body'>,
  components: readonly string[],
  parameters: string,
): Uint8Array {
  const lines = components.map((name) => `"${name}": ${componentValue(message, name)}`)
  return utf8Bytes([...lines, `"@signature-params": ${parameters}`].join('\n'))
}

/** `sha-256=:<base64>:` (RFC 9530 §2). */
export function contentDigest(body: Uint8Array): string {
  return `sha-256=:${toBase64(sha256(body))}:`
}

function matchesDigest(header: string, body: Uint8Array): boolean {
  return equalBytes(utf8Bytes(header), utf8Bytes(contentDigest(body)))
}

function componentValue(message: Omit<ReceivedRequest, 'body'>, name: string): string {
  const queryAt = message.target.indexOf('?')
  const path = queryAt === -1 ? message.target : message.target.slice(0, queryAt)
  switch (name) {
    case '@method':
      return message.method
    case '@authority':
      return message.authority.toLowerCase()
    case '@path':
      if (!path.startsWith('/')) throw refused('The request target is not a path')
      return path
    case '@query':
      // RFC 9421 §2.2.7: an absent query is a lone question mark.
      return queryAt === -1 ? '?' : message.target.slice(queryAt)
    default:
      return singleHeader(message, name)
  }
}

/** A header sent once. Several of one name would let a proxy and a server read different ones. */
function singleHeader(message: Pick<ReceivedRequest, 'headers'>, name: string): string {
  const value = Object.hasOwn(message.headers, name) ? message.headers[name] : undefined
  if (typeof value !== 'string') {
    throw refused(value === undefined ? `The request has no ${name} header` : `Several ${name} headers`)
  }
  return value.trim()
}

interface SignatureInput {
  readonly components: readonly string[]
  readonly parameters: string
  readonly created: number
  readonly expires: number
  readonly nonce: string
  readonly keyid: string
}

const INPUT_PATTERN =
  /^agentmesh=(\(("[a-z@][a-z0-9-]*"(?: "[a-z@][a-z0-9-]*")*)\)((?:;[a-z]+=(?:\d{1,12}|"[!#-[\]-~]*"))*))$/
const PARAMETER_PATTERN = /;([a-z]+)=(?:(\d+)|"([^"]*)")/g
const KNOWN_COMPONENTS = /^(@method|@authority|@path|@query|[a-z][a-z0-9-]*)$/

function parseSignatureInput(header: string): SignatureInput {
  const match = header.length <= MAX_SIGNATURE_INPUT_LENGTH ? INPUT_PATTERN.exec(header) : null
  const [, parameters, list, tail] = match ?? []
  if (parameters === undefined || list === undefined || tail === undefined) {
    throw refused('The signature-input header is not in the profile')
  }
  const components = list.split(' ').map((name) => name.slice(1, -1))
  if (new Set(components).size !== components.length || !components.every((n) => KNOWN_COMPONENTS.test(n))) {
    throw refused('The signature covers an unknown component, or one twice')
  }

  const values = new Map<string, string | number>()
  for (const [, name = '', digits, text] of tail.matchAll(PARAMETER_PATTERN)) {
    if (values.has(name)) throw refused(`The signature parameter ${name} stands twice`)
    values.set(name, digits === undefined ? (text ?? '') : Number(digits))
  }
  const [created, expires, nonce, keyid] = ['created', 'expires', 'nonce', 'keyid'].map((n) => values.get(n))
  if (
    values.size !== 6 ||
    values.get('alg') !== 'ed25519' ||
    values.get('tag') !== PROTOCOL_VERSION ||
    typeof created !== 'number' ||
    typeof expires !== 'number' ||
    typeof nonce !== 'string' ||
    typeof keyid !== 'string'
  ) {
    throw refused('The signature parameters are not those of the profile')
  }
  if (!isNonce(nonce)) throw refused('The nonce is not base64url of 16 bytes or more')
  return { components, parameters, created, expires, nonce, keyid }
}

function isNonce(text: string): boolean {
  try {
    return text.length <= MAX_NONCE_LENGTH && fromBase64Url(text).length >= MIN_NONCE_BYTES
  } catch {
    return false
  }
}

function parseSignature(header: string): Uint8Array {
  const text = /^agentmesh=:([A-Za-z0-9+/=]{88}):$/.exec(header)?.[1]
  try {
    if (text !== undefined) return fromBase64(text)
  } catch (cause) {
    throw new AgentMeshError('INVALID_SIGNATURE', undefined, { cause })
  }
  throw refused('The signature header is not in the profile')
}

function splitUrl(url: string): { authority: string; target: string } {
  const parsed = URL.canParse(url) ? new URL(url) : undefined
  if (parsed === undefined || !/^https?:$/.test(parsed.protocol)) {
    throw new AgentMeshError('MALFORMED', 'Not an http or https URL')
  }
  // The `host` of a parsed URL is lowercase and without a default port, as RFC 9421 §2.2.3 wants it.
  return { authority: parsed.host, target: parsed.pathname + parsed.search }
}

function refused(message: string): AgentMeshError {
  return new AgentMeshError('INVALID_SIGNATURE', message, { operation: 'verify a request' })
}

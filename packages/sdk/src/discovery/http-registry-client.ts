/**
 * The registry over HTTP (`/v1/registry/...`, specification §3.1). Requests that speak for an agent are signed (RFC 9421);
 * answers are read strictly and checked against the agents' own signatures before anybody sees them.
 */
import {
  didDocument,
  didFromAmid,
  signRequest,
  verifyAgentRecord,
  verifyBundle,
  type Identity,
  certificateFromText,
  parseCrl,
  type Crl,
  type Succession,
} from '../identity/index.ts'
import {
  AgentMeshError,
  Bundle,
  canonicalBytes,
  canonicalText,
  DidDocument,
  Embedded,
  ERROR_CODES,
  ErrorBody,
  isAgentMeshError,
  isErrorCode,
  parseIntent,
  parseJsonObject,
  PrekeyCounts,
  ReputationCredential,
  SearchAnswer,
  validate,
  VerificationDeviceStarted,
  VerificationEmailStarted,
  VerificationPending,
  VerificationProviders,
  VerificationResult,
  VerificationStarted,
  type AgentRecord,
  type Amid,
  type Feedback,
  type ErrorCodeInfo,
  type JsonObject,
  type PrekeyUpload,
  type PresenceState,
  type Registration,
  amidToBytes,
  CertificateProof,
  CertifiedAgent,
  ConsistencyProof,
  DomainChallenge,
  fromBase64,
  OrganizationRecord,
  RevocationListBody,
  SuccessionAnswer,
  toBase64,
  toHex,
  TreeHead,
  TrustDocument,
  type VerificationDeviceFinish,
  type VerificationEmailFinish,
  type VerificationFinish,
  type VerificationStart,
} from '../wire/index.ts'
import { Type, type Static, type TSchema } from 'typebox'
import { boundedFetch, type HttpAnswer } from './bounded-fetch.ts'
import type { RegistryClient, SearchQuery } from './registry-client.ts'
import type { VerificationClient } from './verification-client.ts'

const MAX_ANSWER_BYTES = 256 * 1024
/** A page of 100 records with full capability lists. */
const MAX_SEARCH_ANSWER_BYTES = 8 * 1024 * 1024
/** A revocation list of 512 KiB in base64. */
const MAX_CRL_ANSWER_BYTES = 768 * 1024
const DEFAULT_TIMEOUT_MILLISECONDS = 10_000
const MAX_RETRY_SECONDS = 86_400
const MAX_MESSAGE_LENGTH = 400
const NONCE_BYTES = 16
const SCHEMA_NAME = /^[a-z0-9][a-z0-9._-]*(\/[a-z0-9][a-z0-9._-]*){0,7}$/

const VerificationDeviceAnswer = Type.Union([Embedded(VerificationResult), Embedded(VerificationPending)])

export interface HttpRegistryClientOptions {
  /** Milliseconds since the epoch. */
  readonly now: () => number
  readonly random: (length: number) => Uint8Array
  /** For one whole exchange; 10 seconds when not given. */
  readonly timeoutMilliseconds?: number
  readonly fetch?: typeof fetch
}

type Method = 'GET' | 'POST' | 'PUT'
interface Call {
  readonly method: Method
  readonly path: string
  readonly query?: Readonly<Record<string, string>>
  readonly body?: object
  readonly signed?: true
  readonly maxAnswerBytes?: number
}

export class HttpRegistryClient implements RegistryClient, VerificationClient {
  readonly #origin: string
  readonly #identity: Identity
  readonly #options: HttpRegistryClientOptions
  readonly #underWay = new Set<AbortController>()
  #closed = false

  /** @param url http or https; only its origin counts. @throws MALFORMED for anything else */
  constructor(url: string, identity: Identity, options: HttpRegistryClientOptions) {
    const parsed = URL.canParse(url) ? new URL(url) : undefined
    if (parsed === undefined || !/^https?:$/.test(parsed.protocol)) {
      throw new AgentMeshError('MALFORMED', 'The registry is not an http or https URL')
    }
    this.#origin = parsed.origin
    this.#identity = identity
    this.#options = options
  }

  async register(registration: Registration): Promise<AgentRecord> {
    return this.#putRecord('POST', '/v1/registry/register', registration)
  }

  async update(registration: Registration): Promise<AgentRecord> {
    return this.#putRecord('PUT', `/v1/registry/agents/${registration.amid}`, registration)
  }

  async #putRecord(method: Method, path: string, registration: Registration): Promise<AgentRecord> {
    const answer = await this.#call({ method, path, body: registration, signed: true })
    return trusted('register', () => {
      const record = verifyAgentRecord(answer)
      // The signature is deterministic and covers the record, so it says whether this is the one sent.
      if (record.signature !== registration.signature) throw new Error('The answer is another record of ours')
      return record
    })
  }

  async lookup(amid: Amid): Promise<AgentRecord> {
    const answer = await this.#call({ method: 'GET', path: '/v1/registry/lookup', query: { amid } })
    return trusted('look up an agent', () => {
      const record = verifyAgentRecord(answer)
      if (record.amid !== amid) throw new AgentMeshError('AMID_MISMATCH', 'The answer is about another agent')
      return record
    })
  }

  async search(query: SearchQuery): Promise<SearchAnswer> {
    const { category, subcategory } = parseIntent(query.capability)
    const answer = await this.#call({
      method: 'GET',
      path: '/v1/registry/search',
      query: {
        capability: category,
        ...(subcategory === undefined ? {} : { subcategory }),
        ...(query.action === undefined ? {} : { action: query.action }),
        ...(query.tier_min === undefined ? {} : { tier_min: query.tier_min }),
        ...(query.online === undefined ? {} : { online: String(query.online) }),
        ...(query.limit === undefined ? {} : { limit: String(query.limit) }),
        ...(query.cursor === undefined ? {} : { cursor: query.cursor }),
      },
      maxAnswerBytes: MAX_SEARCH_ANSWER_BYTES,
    })
    return trusted('search', () => {
      const page = validate(SearchAnswer, answer)
      page.agents.forEach(verifyAgentRecord)
      return page
    })
  }

  async uploadPrekeys(upload: PrekeyUpload): Promise<PrekeyCounts> {
    const answer = await this.#call({
      method: 'PUT',
      path: '/v1/registry/prekeys',
      body: upload,
      signed: true,
    })
    return trusted('upload prekeys', () => validate(PrekeyCounts, answer))
  }

  async prekeyCounts(): Promise<PrekeyCounts> {
    const answer = await this.#call({ method: 'GET', path: '/v1/registry/prekeys', signed: true })
    return trusted('count prekeys', () => validate(PrekeyCounts, answer))
  }

  async fetchBundle(amid: Amid): Promise<Bundle> {
    const answer = await this.#call({
      method: 'POST',
      path: '/v1/registry/prekeys/fetch',
      body: { amid },
      signed: true,
    })
    return trusted('fetch a bundle', () => {
      verifyBundle(answer, amid, this.#options.now())
      return validate(Bundle, answer)
    })
  }

  async setPresence(state: PresenceState): Promise<void> {
    await this.#exchange({ method: 'PUT', path: '/v1/registry/presence', body: { state }, signed: true })
  }

  async didDocument(amid: Amid): Promise<DidDocument> {
    const record = await this.lookup(amid)
    const path = `/v1/registry/did/${encodeURIComponent(didFromAmid(amid))}`
    const answer = await this.#call({ method: 'GET', path })
    return trusted('fetch a DID document', () => {
      const document = validate(DidDocument, answer)
      // A DID document has no signature of its own; the signed record says what must stand in it.
      if (canonicalText(document) !== canonicalText(didDocument(record))) {
        throw new Error('The DID document is not that of the agent’s record')
      }
      return document
    })
  }

  async schema(name: string): Promise<JsonObject> {
    if (!SCHEMA_NAME.test(name)) throw new AgentMeshError('INVALID_ID', 'Not a schema name')
    return this.#call({ method: 'GET', path: `/v1/registry/schemas/${name}` })
  }

  async trust(): Promise<TrustDocument> {
    const answer = await this.#call({ method: 'GET', path: '/v1/registry/trust' })
    return trusted('fetch the trust document', () => validate(TrustDocument, answer))
  }

  async crl(keyId: string): Promise<Crl> {
    const path = `/v1/registry/crl/${checkKeyId(keyId)}`
    const answer = await this.#call({ method: 'GET', path, maxAnswerBytes: MAX_CRL_ANSWER_BYTES })
    return trusted('fetch a revocation list', () => {
      const list = parseCrl(fromBase64(validate(RevocationListBody, answer).crl))
      if (list.authorityKeyId !== keyId) throw new Error('The list is another issuer’s')
      return list
    })
  }

  async putCrl(crl: Crl): Promise<void> {
    const path = `/v1/registry/crl/${crl.authorityKeyId}`
    await this.#exchange({ method: 'PUT', path, body: { crl: toBase64(crl.der) }, signed: true })
  }

  async agentCertificate(): Promise<CertifiedAgent> {
    const path = '/v1/registry/certificates/agent'
    return this.#certified(await this.#call({ method: 'POST', path, body: {}, signed: true }))
  }

  async submitCertificate(chain: readonly string[]): Promise<CertifiedAgent> {
    const path = '/v1/registry/certificates/submit'
    const answer = await this.#call({ method: 'POST', path, body: { chain }, signed: true })
    return trusted('submit a certificate', () => {
      const certified = validate(CertifiedAgent, answer)
      if (certified.chain[0] !== chain[0]) throw new Error('The answer is about another certificate')
      return certified
    })
  }

  #certified(answer: JsonObject): CertifiedAgent {
    return trusted('get a certificate', () => {
      const certified = validate(CertifiedAgent, answer)
      const { amid } = certificateFromText(certified.chain[0] ?? '')
      if (amid !== this.#identity.amid) throw new AgentMeshError('AMID_MISMATCH')
      return certified
    })
  }

  async registerOrganization(domain: string, name: string): Promise<DomainChallenge> {
    const path = '/v1/registry/organizations'
    const answer = await this.#call({ method: 'POST', path, body: { domain, name }, signed: true })
    return trusted('register an organisation', () => {
      const challenge = validate(DomainChallenge, answer)
      this.#checkOrganization(challenge.organization, this.#identity.amid)
      return challenge
    })
  }

  async verifyOrganization(): Promise<OrganizationRecord> {
    const path = '/v1/registry/organizations/verify'
    const answer = await this.#call({ method: 'POST', path, body: {}, signed: true })
    return trusted('verify an organisation', () => this.#checkOrganization(answer, this.#identity.amid))
  }

  async organization(amid: Amid): Promise<OrganizationRecord> {
    const answer = await this.#call({ method: 'GET', path: `/v1/registry/organizations/${amid}` })
    return trusted('look up an organisation', () => this.#checkOrganization(answer, amid))
  }

  #checkOrganization(raw: unknown, amid: Amid): OrganizationRecord {
    const record = validate(OrganizationRecord, raw)
    if (record.amid !== amid) throw new AgentMeshError('AMID_MISMATCH')
    if (record.certificate !== undefined) {
      const { keyId } = certificateFromText(record.certificate)
      if (keyId !== toHex(amidToBytes(amid))) throw new AgentMeshError('AMID_MISMATCH')
    }
    return record
  }

  async succession(statement: Succession): Promise<SuccessionAnswer> {
    const path = '/v1/registry/successions'
    const answer = await this.#call({ method: 'POST', path, body: statement, signed: true })
    return trusted('bring a succession', () => {
      const taken = validate(SuccessionAnswer, answer)
      if (taken.old_amid !== statement.old_amid || taken.new_amid !== statement.new_amid) {
        throw new AgentMeshError('AMID_MISMATCH')
      }
      return taken
    })
  }

  async verificationProviders(): Promise<VerificationProviders> {
    const answer = await this.#call({ method: 'GET', path: '/v1/registry/verification/providers' })
    return trusted('list identity providers', () => validate(VerificationProviders, answer))
  }

  async startVerification(start: VerificationStart): Promise<VerificationStarted> {
    return this.#verify('start', start, VerificationStarted)
  }

  async finishVerification(finish: VerificationFinish): Promise<VerificationResult> {
    return this.#verify('finish', finish, VerificationResult)
  }

  async startDeviceVerification(provider: string): Promise<VerificationDeviceStarted> {
    return this.#verify('device', { provider }, VerificationDeviceStarted)
  }

  async finishDeviceVerification(
    finish: VerificationDeviceFinish,
  ): Promise<VerificationResult | VerificationPending> {
    return this.#verify('device/finish', finish, VerificationDeviceAnswer)
  }

  async startEmailVerification(provider: string, address: string): Promise<VerificationEmailStarted> {
    return this.#verify('email', { provider, address }, VerificationEmailStarted)
  }

  async finishEmailVerification(finish: VerificationEmailFinish): Promise<VerificationResult> {
    return this.#verify('email/finish', finish, VerificationResult)
  }

  async #verify<T extends TSchema>(step: string, body: object, schema: T): Promise<Static<T>> {
    const path = `/v1/registry/verification/${step}`
    const answer = await this.#call({ method: 'POST', path, body, signed: true })
    return trusted('verify a person', () => validate(schema, answer))
  }

  async treeHead(): Promise<TreeHead> {
    const answer = await this.#call({ method: 'GET', path: '/v1/registry/log/head' })
    return trusted('fetch a tree head', () => validate(TreeHead, answer))
  }

  async consistency(from: number, to: number): Promise<ConsistencyProof> {
    const path = '/v1/registry/log/consistency'
    const query = { from: String(from), to: String(to) }
    const answer = await this.#call({ method: 'GET', path, query })
    return trusted('fetch a consistency proof', () => validate(ConsistencyProof, answer))
  }

  async certificateProof(certificate: string): Promise<CertificateProof> {
    const path = '/v1/registry/certificates/proof'
    const answer = await this.#call({ method: 'GET', path, query: { certificate } })
    return trusted('fetch a certificate proof', () => validate(CertificateProof, answer))
  }

  async reputationCredential(): Promise<ReputationCredential> {
    const path = '/v1/registry/reputation/credential'
    const answer = await this.#call({ method: 'GET', path, signed: true })
    return trusted('fetch a reputation credential', () => {
      const credential = validate(ReputationCredential, answer)
      if (credential.amid !== this.#identity.amid) throw new AgentMeshError('AMID_MISMATCH')
      return credential
    })
  }

  async submitFeedback(feedback: Feedback): Promise<void> {
    const path = '/v1/registry/reputation/feedback'
    await this.#call({ method: 'POST', path, body: feedback, signed: true })
  }

  close(): void {
    this.#closed = true
    for (const request of this.#underWay) request.abort(new Error('The client was closed'))
  }

  async #call(call: Call): Promise<JsonObject> {
    const answer = await this.#exchange(call)
    return trusted(`${call.method} ${call.path}`, () => parseJsonObject(answer.body, maxBytesOf(call)))
  }

  async #exchange(call: Call): Promise<HttpAnswer> {
    if (this.#closed) throw new AgentMeshError('REGISTRY_UNREACHABLE', 'The client was closed')
    const search = call.query === undefined ? '' : `?${new URLSearchParams(call.query).toString()}`
    const url = new URL(call.path + search, this.#origin).href
    const body = call.body === undefined ? undefined : canonicalBytes(call.body)
    const content = body === undefined ? {} : { body }
    const signature = call.signed
      ? signRequest({ method: call.method, url, ...content }, this.#identity, {
          now: this.#options.now(),
          nonce: this.#options.random(NONCE_BYTES),
        })
      : {}
    const request = {
      url,
      method: call.method,
      headers: {
        accept: 'application/json',
        ...(body === undefined ? {} : { 'content-type': 'application/json' }),
        ...signature,
      },
      ...content,
      maxAnswerBytes: maxBytesOf(call),
      timeoutMilliseconds: this.#options.timeoutMilliseconds ?? DEFAULT_TIMEOUT_MILLISECONDS,
    }
    const cancel = new AbortController()
    this.#underWay.add(cancel)
    try {
      const answer = await boundedFetch(request, cancel, this.#options.fetch ?? fetch)
      if (answer.status < 200 || answer.status > 299) throw refusal(call, answer)
      return answer
    } finally {
      this.#underWay.delete(cancel)
    }
  }
}

/** @throws INVALID_ID */
function checkKeyId(text: string): string {
  if (!/^[0-9a-f]{40}$/.test(text)) throw new AgentMeshError('INVALID_ID', 'Not a key id')
  return text
}

function maxBytesOf(call: Call): number {
  return call.maxAnswerBytes ?? MAX_ANSWER_BYTES
}

/**
 * Reads an answer; whatever is wrong with it is the registry's fault. A key out of date is not: its owner was away.
 */
export function trusted<T>(operation: string, read: () => T): T {
  try {
    return read()
  } catch (cause) {
    if (isAgentMeshError(cause, 'KEY_EXPIRED')) throw cause
    const detail = cause instanceof Error ? `: ${printable(cause.message)}` : ''
    throw new AgentMeshError('REGISTRY_ANSWER_INVALID', `The registry's answer is refused${detail}`, {
      operation,
      cause,
    })
  }
}

/** The error for an answer outside 2xx: its own code when it is one that strangers may use, else ours. */
export function refusal(call: Pick<Call, 'method' | 'path'>, answer: HttpAnswer): AgentMeshError {
  const operation = `${call.method} ${call.path}`
  let body: ErrorBody
  try {
    body = validate(ErrorBody, parseJsonObject(answer.body, MAX_ANSWER_BYTES))
  } catch (cause) {
    // A proxy in between answers like this when the registry behind it is down.
    const code = answer.status >= 500 ? 'REGISTRY_UNREACHABLE' : 'REGISTRY_ANSWER_INVALID'
    return new AgentMeshError(code, `The registry answered with status ${answer.status}`, {
      operation,
      cause,
    })
  }
  const message = printable(body.message)
  // Other codes speak of this side's keys and state; a registry has no say in those.
  const info: ErrorCodeInfo | undefined = isErrorCode(body.code) ? ERROR_CODES[body.code] : undefined
  const code = isErrorCode(body.code) && info?.stranger ? body.code : undefined
  if (code === undefined) {
    return new AgentMeshError(
      'REGISTRY_ANSWER_INVALID',
      `The registry refused with status ${answer.status} and an unknown code: ${message}`,
      { operation },
    )
  }
  const retry = body.retry_after_seconds
  return new AgentMeshError(code, message, {
    operation,
    ...(retry === undefined ? {} : { retryAfterSeconds: Math.min(Math.max(retry, 0), MAX_RETRY_SECONDS) }),
  })
}

/** Text from the registry that ends up before a person: short, and nothing but printable ASCII. */
function printable(text: string): string {
  return text.slice(0, MAX_MESSAGE_LENGTH).replaceAll(/[^ -~]/g, '?')
}

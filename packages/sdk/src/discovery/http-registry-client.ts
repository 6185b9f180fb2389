/**
 * The registry over HTTP (`/v1/registry/...`, specification §3.1). Requests that speak for an agent are signed (RFC 9421);
 * answers are read strictly and checked against the agents' own signatures before anybody sees them.
 */
import {
  didDocument,
  didFromAmid,
  verifyAgentRecord,
  verifyBundle,
  type Identity,
  certificateFromText,
  parseCrl,
  verifySuccession,
  type Crl,
} from '../identity/index.ts'
import {
  AgentMeshError,
  Bundle,
  canonicalText,
  DidDocument,
  parseIntent,
  PrekeyCounts,
  ReputationAnswer,
  ReputationCredential,
  SearchAnswer,
  validate,
  type AgentRecord,
  type Amid,
  type Feedback,
  type JsonObject,
  type PrekeyUpload,
  type PresenceState,
  type Registration,
  type Succession,
  amidToBytes,
  CertificateProof,
  CertifiedAgent,
  ConsistencyProof,
  DomainChallenge,
  fromBase64,
  isAgentMeshError,
  OrganizationRecord,
  parseKey,
  RevocationListBody,
  SuccessionAnswer,
  SuccessionList,
  toBase64,
  toHex,
  TreeHead,
  TrustDocument,
} from '../wire/index.ts'
import type { RegistryClient, SearchQuery } from './registry-client.ts'
import { RegistryHttp, trusted, type RegistryHttpOptions } from './registry-http.ts'

/** A page of 100 records with full capability lists. */
const MAX_SEARCH_ANSWER_BYTES = 8 * 1024 * 1024
/** A revocation list of 512 KiB in base64. */
const MAX_CRL_ANSWER_BYTES = 768 * 1024
const SCHEMA_NAME = /^[a-z0-9][a-z0-9._-]*(\/[a-z0-9][a-z0-9._-]*){0,7}$/

export class HttpRegistryClient implements RegistryClient {
  readonly #http: RegistryHttp
  readonly #identity: Identity
  readonly #options: RegistryHttpOptions

  /** @param url http or https; only its origin counts. @throws MALFORMED for anything else */
  constructor(url: string, identity: Identity, options: RegistryHttpOptions) {
    this.#http = new RegistryHttp(url, identity, options)
    this.#identity = identity
    this.#options = options
  }

  /** What does not hold is told to whoever keeps the owner's record. */
  #trusted<T>(operation: string, read: () => T): T {
    try {
      return trusted(operation, read)
    } catch (error) {
      if (isAgentMeshError(error, 'REGISTRY_ANSWER_INVALID')) this.#options.refused?.(error)
      throw error
    }
  }

  async register(registration: Registration): Promise<AgentRecord> {
    return this.#putRecord('POST', '/v1/registry/register', registration)
  }

  async update(registration: Registration): Promise<AgentRecord> {
    return this.#putRecord('PUT', `/v1/registry/agents/${registration.amid}`, registration)
  }

  async #putRecord(method: 'POST' | 'PUT', path: string, registration: Registration): Promise<AgentRecord> {
    const answer = await this.#http.call({ method, path, body: registration, signed: true })
    return this.#trusted('register', () => {
      const record = verifyAgentRecord(answer)
      // The signature is deterministic and covers the record, so it says whether this is the one sent.
      if (record.signature !== registration.signature) throw new Error('The answer is another record of ours')
      return record
    })
  }

  async lookup(amid: Amid): Promise<AgentRecord> {
    const answer = await this.#http.call({ method: 'GET', path: '/v1/registry/lookup', query: { amid } })
    return this.#trusted('look up an agent', () => {
      const record = verifyAgentRecord(answer)
      if (record.amid !== amid) throw new AgentMeshError('AMID_MISMATCH', 'The answer is about another agent')
      return record
    })
  }

  async search(query: SearchQuery): Promise<SearchAnswer> {
    const { category, subcategory } = parseIntent(query.capability)
    const answer = await this.#http.call({
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
    return this.#trusted('search', () => {
      const page = validate(SearchAnswer, answer)
      page.agents.forEach(verifyAgentRecord)
      return page
    })
  }

  async uploadPrekeys(upload: PrekeyUpload): Promise<PrekeyCounts> {
    const answer = await this.#http.call({
      method: 'PUT',
      path: '/v1/registry/prekeys',
      body: upload,
      signed: true,
    })
    return this.#trusted('upload prekeys', () => validate(PrekeyCounts, answer))
  }

  async prekeyCounts(): Promise<PrekeyCounts> {
    const answer = await this.#http.call({ method: 'GET', path: '/v1/registry/prekeys', signed: true })
    return this.#trusted('count prekeys', () => validate(PrekeyCounts, answer))
  }

  async fetchBundle(amid: Amid): Promise<Bundle> {
    const answer = await this.#http.call({
      method: 'POST',
      path: '/v1/registry/prekeys/fetch',
      body: { amid },
      signed: true,
    })
    return this.#trusted('fetch a bundle', () => {
      verifyBundle(answer, amid, this.#options.now())
      return validate(Bundle, answer)
    })
  }

  async setPresence(state: PresenceState): Promise<void> {
    await this.#http.exchange({ method: 'PUT', path: '/v1/registry/presence', body: { state }, signed: true })
  }

  async didDocument(amid: Amid): Promise<DidDocument> {
    const record = await this.lookup(amid)
    const path = `/v1/registry/did/${encodeURIComponent(didFromAmid(amid))}`
    const answer = await this.#http.call({ method: 'GET', path })
    return this.#trusted('fetch a DID document', () => {
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
    return this.#http.call({ method: 'GET', path: `/v1/registry/schemas/${name}` })
  }

  async trust(): Promise<TrustDocument> {
    const answer = await this.#http.call({ method: 'GET', path: '/v1/registry/trust' })
    return this.#trusted('fetch the trust document', () => validate(TrustDocument, answer))
  }

  async crl(keyId: string): Promise<Crl> {
    const path = `/v1/registry/crl/${checkKeyId(keyId)}`
    const answer = await this.#http.call({ method: 'GET', path, maxAnswerBytes: MAX_CRL_ANSWER_BYTES })
    return this.#trusted('fetch a revocation list', () => {
      const list = parseCrl(fromBase64(validate(RevocationListBody, answer).crl))
      if (list.authorityKeyId !== keyId) throw new Error('The list is another issuer’s')
      return list
    })
  }

  async reputation(amid: Amid): Promise<ReputationAnswer> {
    const answer = await this.#http.call({ method: 'GET', path: '/v1/registry/reputation', query: { amid } })
    return this.#trusted('get a reputation', () => {
      const reputation = validate(ReputationAnswer, answer)
      if (reputation.amid !== amid) throw new AgentMeshError('AMID_MISMATCH')
      return reputation
    })
  }

  async putCrl(crl: Crl): Promise<void> {
    const path = `/v1/registry/crl/${crl.authorityKeyId}`
    await this.#http.exchange({ method: 'PUT', path, body: { crl: toBase64(crl.der) }, signed: true })
  }

  async agentCertificate(): Promise<CertifiedAgent> {
    const path = '/v1/registry/certificates/agent'
    return this.#certified(await this.#http.call({ method: 'POST', path, body: {}, signed: true }))
  }

  async submitCertificate(chain: readonly string[]): Promise<CertifiedAgent> {
    const path = '/v1/registry/certificates/submit'
    const answer = await this.#http.call({ method: 'POST', path, body: { chain }, signed: true })
    return this.#trusted('submit a certificate', () => {
      const certified = validate(CertifiedAgent, answer)
      if (certified.chain[0] !== chain[0]) throw new Error('The answer is about another certificate')
      return certified
    })
  }

  #certified(answer: JsonObject): CertifiedAgent {
    return this.#trusted('get a certificate', () => {
      const certified = validate(CertifiedAgent, answer)
      const { amid } = certificateFromText(certified.chain[0] ?? '')
      if (amid !== this.#identity.amid) throw new AgentMeshError('AMID_MISMATCH')
      return certified
    })
  }

  async registerOrganization(domain: string, name: string): Promise<DomainChallenge> {
    const path = '/v1/registry/organizations'
    const answer = await this.#http.call({ method: 'POST', path, body: { domain, name }, signed: true })
    return this.#trusted('register an organisation', () => {
      const challenge = validate(DomainChallenge, answer)
      this.#checkOrganization(challenge.organization, this.#identity.amid)
      return challenge
    })
  }

  async verifyOrganization(): Promise<OrganizationRecord> {
    const path = '/v1/registry/organizations/verify'
    const answer = await this.#http.call({ method: 'POST', path, body: {}, signed: true })
    return this.#trusted('verify an organisation', () => this.#checkOrganization(answer, this.#identity.amid))
  }

  async organization(amid: Amid): Promise<OrganizationRecord> {
    const answer = await this.#http.call({ method: 'GET', path: `/v1/registry/organizations/${amid}` })
    return this.#trusted('look up an organisation', () => this.#checkOrganization(answer, amid))
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
    const answer = await this.#http.call({ method: 'POST', path, body: statement, signed: true })
    return this.#trusted('bring a succession', () => {
      const taken = validate(SuccessionAnswer, answer)
      if (taken.old_amid !== statement.old_amid || taken.new_amid !== statement.new_amid) {
        throw new AgentMeshError('AMID_MISMATCH')
      }
      return taken
    })
  }

  async successions(amid: Amid): Promise<Succession[]> {
    const path = '/v1/registry/successions'
    const answer = await this.#http.call({ method: 'GET', path, query: { amid } })
    return this.#trusted('fetch successions', () => {
      const { successions } = validate(SuccessionList, answer)
      for (const statement of successions) {
        const { old_amid, new_amid, recovery_public_key: key } = statement
        if (old_amid !== amid && new_amid !== amid) throw new AgentMeshError('AMID_MISMATCH')
        verifySuccession(statement, parseKey('ed25519', key), this.#options.now())
      }
      return successions
    })
  }

  async treeHead(): Promise<TreeHead> {
    const answer = await this.#http.call({ method: 'GET', path: '/v1/registry/log/head' })
    return this.#trusted('fetch a tree head', () => validate(TreeHead, answer))
  }

  async consistency(from: number, to: number): Promise<ConsistencyProof> {
    const path = '/v1/registry/log/consistency'
    const query = { from: String(from), to: String(to) }
    const answer = await this.#http.call({ method: 'GET', path, query })
    return this.#trusted('fetch a consistency proof', () => validate(ConsistencyProof, answer))
  }

  async certificateProof(certificate: string): Promise<CertificateProof> {
    const path = '/v1/registry/certificates/proof'
    const answer = await this.#http.call({ method: 'GET', path, query: { certificate } })
    return this.#trusted('fetch a certificate proof', () => validate(CertificateProof, answer))
  }

  async reputationCredential(): Promise<ReputationCredential> {
    const path = '/v1/registry/reputation/credential'
    const answer = await this.#http.call({ method: 'GET', path, signed: true })
    return this.#trusted('fetch a reputation credential', () => {
      const credential = validate(ReputationCredential, answer)
      if (credential.amid !== this.#identity.amid) throw new AgentMeshError('AMID_MISMATCH')
      return credential
    })
  }

  async submitFeedback(feedback: Feedback): Promise<void> {
    const path = '/v1/registry/reputation/feedback'
    await this.#http.call({ method: 'POST', path, body: feedback, signed: true })
  }

  close(): void {
    this.#http.close()
  }
}

/** @throws INVALID_ID */
function checkKeyId(text: string): string {
  if (!/^[0-9a-f]{40}$/.test(text)) throw new AgentMeshError('INVALID_ID', 'Not a key id')
  return text
}

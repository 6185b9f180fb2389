/**
 * What the layers above need from a registry (specification §3.1). Every answer has been checked when it is returned: what
 * an agent signed is under its signature, and a registry that says otherwise is refused.
 */
import type { Crl } from '../identity/index.ts'
import type {
  AgentRecord,
  Amid,
  Bundle,
  CertificateProof,
  CertifiedAgent,
  ConsistencyProof,
  DidDocument,
  DomainChallenge,
  Feedback,
  JsonObject,
  OrganizationRecord,
  PrekeyCounts,
  PrekeyUpload,
  PresenceState,
  Registration,
  ReputationAnswer,
  ReputationCredential,
  SearchAnswer,
  Succession,
  SuccessionAnswer,
  TierName,
  TreeHead,
  TrustDocument,
} from '../wire/index.ts'

export interface SearchQuery {
  /** `category` or `category/subcategory`. */
  readonly capability: string
  readonly action?: string
  readonly tier_min?: TierName
  /** True: only agents that are online. */
  readonly online?: boolean
  /** 1 to 100. */
  readonly limit?: number
  /** `next_cursor` of the page before. */
  readonly cursor?: string
}

/**
 * All methods throw REGISTRY_UNREACHABLE when no answer comes, REGISTRY_ANSWER_INVALID when the answer is not in form or not
 * true, and otherwise the code with which the registry refused.
 */
export interface RegistryClient {
  register(registration: Registration): Promise<AgentRecord>
  update(registration: Registration): Promise<AgentRecord>
  lookup(amid: Amid): Promise<AgentRecord>
  search(query: SearchQuery): Promise<SearchAnswer>
  /** Replaces the signed and last-resort prekeys, adds the one-time ones. */
  uploadPrekeys(upload: PrekeyUpload): Promise<PrekeyCounts>
  /** How many one-time prekeys of ours are left. */
  prekeyCounts(): Promise<PrekeyCounts>
  /**
   * Uses up one of each kind of the agent's one-time prekeys. As received, so that the caller can hold sequence numbers
   * against those it saw before. Also throws KEY_EXPIRED: the agent was away too long.
   */
  fetchBundle(amid: Amid): Promise<Bundle>
  setPresence(state: PresenceState): Promise<void>
  didDocument(amid: Amid): Promise<DidDocument>
  /** A published JSON Schema, such as `agentmesh/travel/flight-search/v1`. Data from outside: to be shown, never compiled. */
  schema(name: string): Promise<JsonObject>

  /** The registry's own certificates: to be opened with the fingerprint the owner chose (`openTrustDocument`). */
  trust(): Promise<TrustDocument>
  /** The newest revocation list of an issuer, to be verified against its certificate. @param keyId lower-case hex */
  crl(keyId: string): Promise<Crl>
  /** Brings the revocation list of the organisation that we are. */
  putCrl(crl: Crl): Promise<void>
  /** A certificate for us: a new one, or the one we have while it is new enough. */
  agentCertificate(): Promise<CertifiedAgent>
  /** Has a certificate logged that an organisation issued. @param chain base64 DER: agent, organisation */
  submitCertificate(chain: readonly string[]): Promise<CertifiedAgent>
  registerOrganization(domain: string, name: string): Promise<DomainChallenge>
  /** Has the registry look for the DNS record; the answer holds our certificate. */
  verifyOrganization(): Promise<OrganizationRecord>
  organization(amid: Amid): Promise<OrganizationRecord>
  /** Moves what was verified about the old AMID to us. */
  succession(statement: Succession): Promise<SuccessionAnswer>
  /**
   * Statements that name an AMID as old or new, each signed by the recovery key it names: whether that is the old agent's is
   * for the caller to know.
   */
  successions(amid: Amid): Promise<Succession[]>

  /** The signed head of the registry's log, to be verified under its service key. */
  treeHead(): Promise<TreeHead>
  consistency(from: number, to: number): Promise<ConsistencyProof>
  /** @param fingerprint lower-case hex SHA-256 of the certificate's DER */
  certificateProof(fingerprint: string): Promise<CertificateProof>
  /** The registry's word on our own reputation. */
  reputationCredential(): Promise<ReputationCredential>
  submitFeedback(feedback: Feedback): Promise<void>
  reputation(amid: Amid): Promise<ReputationAnswer>

  /** Ends requests under way; later calls throw REGISTRY_UNREACHABLE. */
  close(): void
}

/**
 * What the layers above need from a registry (specification §3.1). Every answer has been checked when it is returned: what
 * an agent signed is under its signature, and a registry that says otherwise is refused.
 */
import type {
  AgentRecord,
  Amid,
  Bundle,
  DidDocument,
  JsonObject,
  PrekeyCounts,
  PrekeyUpload,
  PresenceState,
  Registration,
  SearchAnswer,
  TierName,
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
  /** Ends requests under way; later calls throw REGISTRY_UNREACHABLE. */
  close(): void
}

/**
 * The error codes of AgentMesh, one list.
 *
 * A code is stable: scripts and other implementations match on it, so a code is never renamed or given a second
 * meaning. `spec/errors.md` is generated from this table. `stranger: true` marks the codes that may be sent to a peer
 * who has not been let in; everything else is for the owner (DESIGN: strangers get a coarse code).
 */

export interface ErrorCodeInfo {
  readonly summary: string
  /** May be told to somebody we do not trust: says nothing about our keys, policy or state. */
  readonly stranger?: true
}

export const ERROR_CODES = {
  // wire: reading outside bytes
  MALFORMED: { summary: 'The input is not what its type requires', stranger: true },
  TOO_LARGE: { summary: 'The input exceeds a size limit', stranger: true },
  JSON_SYNTAX: { summary: 'Not JSON', stranger: true },
  JSON_DUPLICATE_KEY: { summary: 'A JSON object names a key twice', stranger: true },
  JSON_FORBIDDEN_KEY: { summary: 'A JSON object uses the key __proto__', stranger: true },
  JSON_DEPTH: { summary: 'JSON is nested more than 32 levels deep', stranger: true },
  JSON_NUMBER: { summary: 'A JSON number cannot be carried exactly', stranger: true },
  JSON_SURROGATE: { summary: 'A JSON string holds a lone surrogate', stranger: true },
  UNKNOWN_TYPE: { summary: 'The message type is not known', stranger: true },
  UNSUPPORTED_TYPE: { summary: 'This side does not know envelopes of this type', stranger: true },
  UNSUPPORTED_VERSION: { summary: 'No common protocol version', stranger: true },
  INVALID_AMID: { summary: 'Not a canonical AMID', stranger: true },
  INVALID_ID: { summary: 'Not a valid identifier', stranger: true },
  INVALID_KEY: {
    summary: 'Not a usable public key (wrong length, small order or non-canonical)',
    stranger: true,
  },
  INVALID_TIMESTAMP: { summary: 'Not an RFC 3339 UTC timestamp', stranger: true },

  // crypto
  INVALID_SIGNATURE: { summary: 'The signature does not verify', stranger: true },
  DECRYPTION_FAILED: { summary: 'The ciphertext does not authenticate under any key we hold' },
  WEAK_SHARED_SECRET: { summary: 'A Diffie-Hellman result is all zero' },
  RATCHET_DUPLICATE: { summary: 'The message key was used already' },
  RATCHET_GAP: { summary: 'The message is more than 2,000 ahead of its chain' },
  RATCHET_BUDGET: { summary: 'The peer made us derive more keys than it may a minute' },
  RATCHET_NOT_READY: { summary: 'Nothing can be sent in this session before its first message has arrived' },
  RATCHET_EXHAUSTED: { summary: 'A message counter reached its end; open a new session' },
  SEAL_BROKEN: { summary: 'A sealed record does not open: wrong key, wrong place, or changed' },

  // session and messages
  PREKEY_UNKNOWN: { summary: 'The KNOCK names a prekey that is not ours, is used up or out of date' },
  KNOCK_EXPIRED: { summary: 'The KNOCK is past its expiry, or its times are not plausible' },
  KNOCK_NOT_FOR_US: { summary: 'The KNOCK is addressed to somebody else' },
  KNOCK_REPLAYED: { summary: 'The KNOCK was received before' },
  RESET_MISMATCH: { summary: 'The RESET is for somebody else, or about a packet that is not outstanding' },
  OPTIMISTIC_REFUSED: { summary: 'The KNOCK used no one-time keys, or no message came along with it' },
  ANSWER_MISMATCH: { summary: 'The ACCEPT or REJECT does not belong to this KNOCK' },
  TRUST_INVALID: { summary: 'The file of trusted registries has a mistake' },
  TRUST_EXISTS: { summary: 'Another registry is trusted under this name' },
  TRUST_FULL: { summary: 'No more registries can be trusted' },
  TRUST_UNKNOWN: { summary: 'No registry of this name or fingerprint is trusted' },
  POLICY_INVALID: { summary: 'The policy file has a mistake; the last good policy stays in force' },
  SESSION_MISMATCH: { summary: 'The message belongs to another session, peer or direction' },
  SESSION_CLOSED: { summary: 'The session is closed' },
  TIME_IMPLAUSIBLE: { summary: 'The time stated is in the future, or before what it answers' },
  SESSION_NOT_CLOSED: { summary: 'The session has no closing that both sides signed' },
  SESSION_EXPIRED: { summary: 'The session is past its time to live' },
  SEQUENCE_REPEATED: { summary: 'The sequence number was received before' },
  LIMIT_MESSAGES: { summary: 'The session has used up its number of messages' },
  LIMIT_SIZE: { summary: 'The message is larger than the session allows' },
  ENVELOPE_UNREADABLE: {
    summary: 'A decrypted envelope is not JSON that says whose it is and what it signs',
  },
  RECEIPTS_IMPOSSIBLE: { summary: 'The receipts confirm what was never sent' },
  OUT_OF_TURN: { summary: 'The session type does not allow this message here' },
  SCHEMA_INVALID: { summary: 'The schema cannot be installed' },
  SCHEMA_MISMATCH: {
    summary: 'The parameters or results are not what their schema requires',
    stranger: true,
  },

  // relay and transport
  CONNECT_REQUIRED: { summary: 'The first frame to a relay must be CONNECT', stranger: true },
  CONNECT_TIMEOUT: { summary: 'No valid CONNECT arrived in time', stranger: true },
  ALREADY_CONNECTED: { summary: 'CONNECT was sent twice on one connection', stranger: true },
  CLOCK_SKEW: { summary: 'The timestamp is too far from our clock', stranger: true },
  CONNECTION_REPLACED: { summary: 'Another connection of the same AMID took over', stranger: true },
  RELAY_SHUTTING_DOWN: { summary: 'The relay is shutting down; connect again later', stranger: true },
  RELAY_ID_MISMATCH: { summary: 'The relay names itself differently from the address that was dialled' },
  SENDING_ONLY: {
    summary: 'The connection was opened with presence offline and takes nothing but SEND',
    stranger: true,
  },
  RELAY_FORBIDDEN: { summary: 'A record names a relay at an address that is not dialled for a stranger' },
  STATE_BEHIND: {
    summary: 'A relay or registry has seen a later state of this agent than the one it runs on',
  },
  RELAY_DISCONNECTED: { summary: 'The connection to the relay ended before the answer came' },
  RELAY_STORE_FAILED: { summary: 'The relay could not write or read its mailboxes', stranger: true },
  REGISTRY_SHUTTING_DOWN: { summary: 'The registry is shutting down', stranger: true },
  TURN_UNAVAILABLE: { summary: 'This relay gives out no TURN credentials', stranger: true },
  MAILBOX_FULL: { summary: 'The mailbox of the receiver is full', stranger: true },
  SENDER_QUOTA: { summary: 'The sender has used up its share of mailbox room', stranger: true },
  ACK_OUT_OF_RANGE: { summary: 'The ACK names a RECEIVE that was never sent', stranger: true },
  SLOW_READER: { summary: 'The connection reads or acknowledges too slowly', stranger: true },
  RATE_LIMITED: { summary: 'Too many requests; retry later', stranger: true },

  // identity
  AMID_MISMATCH: { summary: 'The AMID is not that of the public key', stranger: true },
  KEY_EXPIRED: { summary: 'The key is outside its dates', stranger: true },
  SIGNATURE_EXPIRED: { summary: 'The signature is outside its dates', stranger: true },
  RECOVERY_WORDS_INVALID: { summary: 'Not 24 recovery words: a word is unknown or the checksum is wrong' },
  HOME_EMPTY: { summary: 'There is no agent in the home folder' },
  HOME_EXISTS: { summary: 'The home folder holds an identity already' },
  HOME_UNSAFE: { summary: 'A file or folder of the home is a link, or open to other users' },
  HOME_FAILED: { summary: 'A file of the home folder could not be read or written' },
  HOME_DAMAGED: { summary: 'A file of the home folder is incomplete or does not belong to this identity' },
  PASSPHRASE_REQUIRED: { summary: 'The keys of this home are behind a passphrase' },
  PASSPHRASE_WRONG: { summary: 'The passphrase does not open the keys of this home' },

  // transparency log
  LOG_FOREIGN: { summary: 'The tree head is of another registry’s log' },
  LOG_INCONSISTENT: { summary: 'The log does not begin with what it was shown to hold before' },
  LOG_SPLIT: { summary: 'The registry signed two logs of one size' },
  LOG_PROOF_INVALID: { summary: 'The entry is not shown to be in the log' },
  TREE_HEAD_STALE: { summary: 'The tree head is too old, or from the future' },
  CERTIFICATE_MALFORMED: {
    summary: 'Not a certificate or CRL in the form that is asked for',
    stranger: true,
  },
  CERTIFICATE_INVALID: { summary: 'The certificate, its chain or a CRL does not hold', stranger: true },

  // discovery
  REGISTRY_UNREACHABLE: { summary: 'The registry did not answer' },
  REGISTRY_ANSWER_INVALID: { summary: 'The registry gave an answer that is not true or not in form' },

  // registry
  SIGNATURE_REPLAYED: { summary: 'The signed request was received before', stranger: true },
  SEQUENCE_REPLAYED: { summary: 'The sequence number is not newer than what is stored', stranger: true },
  TIER_UNAVAILABLE: { summary: 'This registry registers anonymous agents (tier 2) only', stranger: true },
  NOT_VERIFIED: { summary: 'The agent was not verified here: nothing to certify', stranger: true },
  PROVIDER_UNKNOWN: { summary: 'This registry has no identity provider of this name', stranger: true },
  PROVIDER_UNAVAILABLE: {
    summary: 'The identity provider does not answer, or not as it must',
    stranger: true,
  },
  VERIFICATION_UNKNOWN: {
    summary: 'No such verification of this agent: unknown, used or too late',
    stranger: true,
  },
  VERIFICATION_REFUSED: { summary: 'The proof of who vouches for the agent does not hold', stranger: true },
  VERIFIED_BY_ANOTHER: { summary: 'Another person vouches for this agent already', stranger: true },
  AGENTS_OF_HUMAN_LIMIT: { summary: 'This person has as many agents as one may have', stranger: true },
  AMID_SUCCEEDED: { summary: 'Another AMID has taken the place of this one', stranger: true },
  SUCCESSION_REFUSED: { summary: 'The old agent named no recovery key, or has a successor', stranger: true },
  DOMAIN_PROOF_MISSING: { summary: 'The DNS has no proof of the domain', stranger: true },
  DOMAIN_PROOF_INVALID: { summary: 'The proof found in the DNS is not the one asked for', stranger: true },
  DOMAIN_PROOF_DISPUTED: { summary: 'Two DNS resolvers do not see the same', stranger: true },
  DNS_UNAVAILABLE: { summary: 'A DNS resolver did not answer; retry later', stranger: true },
  ORGANIZATION_UNKNOWN: { summary: 'There is no such organisation here', stranger: true },
  AGENT_NOT_FOUND: { summary: 'No agent with this AMID is registered', stranger: true },
  NOT_REGISTERED: { summary: 'The signer of the request is not registered here', stranger: true },
  NOT_OWNER: { summary: 'An agent may change nothing but its own entries', stranger: true },
  PREKEYS_MISSING: { summary: 'The agent has no prekeys in date here', stranger: true },
  WRONG_AUTHORITY: { summary: 'The request is for a host that this server is not', stranger: true },
  FEEDBACK_REPEATED: { summary: 'This side has rated this session already', stranger: true },
  FEEDBACK_LATE: { summary: 'The session ended too long ago to be rated', stranger: true },
  FEEDBACK_SELF: { summary: 'Nobody rates himself or another agent of his own', stranger: true },
  CLOSING_CONFLICT: { summary: 'Another closing of this session was counted', stranger: true },
  BANNED: { summary: 'The operator of this registry does not serve this agent', stranger: true },
  ADMIN_UNAUTHORIZED: { summary: 'Not an administrator of this registry', stranger: true },
  NOT_FOUND: { summary: 'There is nothing at this address', stranger: true },
  REGISTRY_FULL: { summary: 'The registry takes no more agents', stranger: true },
  STORE_FAILED: { summary: 'The registry could not read or write its database', stranger: true },
  INTERNAL: { summary: 'The server made a mistake; its log has the details', stranger: true },

  // store and audit log
  HOME_LOCKED: { summary: 'Another process is using this home' },
  STATE_DAMAGED: { summary: 'state.db holds something this agent did not write' },
  STATE_WRONG_KEY: { summary: 'The storage key does not open state.db' },
  STATE_VERSION: { summary: 'state.db was written by a version of this program that this one cannot read' },
  STATE_WRITE_FAILED: { summary: 'state.db cannot be read or written (disk full, read-only, I/O error)' },
  STATE_CLOSED: { summary: 'The store is closed' },
  STATE_MISUSED: { summary: 'A table was changed outside a commit, or a commit did not end at once' },
  AUDIT_DAMAGED: { summary: 'The audit log is not as it was written' },
  AUDIT_WRITE_FAILED: { summary: 'The audit log cannot be written' },

  // agent
  AGENT_STOPPED: { summary: 'The owner took this agent off the network' },
  CONFIG_INVALID: { summary: 'A configuration is not in form' },
  INTENT_MISMATCH: { summary: 'The request is not about what the KNOCK asked for', stranger: true },
  FLOW_BLOCKED: { summary: 'The peer does not read; too many messages wait for it' },
  KNOCK_REJECTED: { summary: 'The peer refused the KNOCK' },
  KNOCK_UNANSWERED: { summary: 'The peer did not answer the KNOCK in time' },
  MESSAGE_EXPIRED: { summary: 'No session was opened in time for the message' },
  MESSAGE_FAILED: { summary: 'The message could not be delivered' },
  MESSAGE_UNKNOWN: { summary: 'There is no message with this id' },
  SESSION_EXISTS: { summary: 'A session with this id is known already' },
  SESSION_UNKNOWN: { summary: 'There is no session with this id' },
  WAIT_TIMEOUT: { summary: 'No answer came in the time given; the message itself goes on' },
  HANDLER_FAILED: { summary: 'The application failed to answer a request', stranger: true },
  FRAMEWORK_NOT_STOPPED: { summary: 'The command that stops the agent framework failed' },
  LISTENER_GONE: { summary: 'The program that took the request went away before it answered' },
  ATTACHMENT_TOO_LARGE: { summary: 'A file is larger than the receiver takes', stranger: true },
  ATTACHMENT_NO_ROOM: { summary: 'The receiver has no room for the files of this message', stranger: true },
  ATTACHMENT_REFUSED: { summary: 'The receiver does not take the files of this message', stranger: true },
  ATTACHMENT_MISMATCH: { summary: 'What came is not the file that the message named', stranger: true },
  ATTACHMENT_UNKNOWN: { summary: 'There is no such file, or no more of it', stranger: true },
  ATTACHMENT_UNREADABLE: { summary: 'A file to be attached cannot be read' },
  ATTACHMENT_UNWRITABLE: { summary: 'A file that came cannot be written where it was to go' },
  SUCCESSION_UNKNOWN: { summary: 'No statement that was checked here names this successor' },
  DAEMON_NOT_RUNNING: { summary: 'No daemon runs for this home' },
} as const satisfies Record<string, ErrorCodeInfo>

export type ErrorCode = keyof typeof ERROR_CODES

export interface AgentMeshErrorOptions {
  /** What was being done, as a short verb phrase: `read KNOCK`, `open state.db`. */
  readonly operation?: string
  readonly cause?: unknown
  /** Seconds after which the same call may succeed. */
  readonly retryAfterSeconds?: number
}

/** The one error class that crosses a public boundary. */
export class AgentMeshError extends Error {
  override readonly name = 'AgentMeshError'
  readonly code: ErrorCode
  readonly operation: string | undefined
  readonly retryAfterSeconds: number | undefined

  constructor(code: ErrorCode, message?: string, options: AgentMeshErrorOptions = {}) {
    super(message ?? ERROR_CODES[code].summary, options.cause === undefined ? {} : { cause: options.cause })
    this.code = code
    this.operation = options.operation
    this.retryAfterSeconds = options.retryAfterSeconds
  }
}

/** True for our own errors; with a code, true for that one only. */
export function isAgentMeshError(error: unknown, code?: ErrorCode): error is AgentMeshError {
  return error instanceof AgentMeshError && (code === undefined || error.code === code)
}

export function isErrorCode(text: string): text is ErrorCode {
  return Object.hasOwn(ERROR_CODES, text)
}

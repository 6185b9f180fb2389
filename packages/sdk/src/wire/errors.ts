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
  RATCHET_GAP: { summary: 'The message is more than 25,000 ahead of its chain' },
  RATCHET_NOT_READY: { summary: 'Nothing can be sent in this session before its first message has arrived' },
  RATCHET_EXHAUSTED: { summary: 'A message counter reached its end; open a new session' },
  SEAL_BROKEN: { summary: 'A sealed record does not open: wrong key, wrong place, or changed' },
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

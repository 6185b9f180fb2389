/**
 * The public shapes of an agent: what an application gives it and gets from it. The local API (`api.ts`) carries the
 * same shapes as JSON, so that a client of the daemon and an embedded agent are programmed alike.
 */
import type { RuleResult } from '../session/index.ts'
import type {
  Amid,
  Capability,
  CloseReason,
  EnvelopeType,
  ErrorPayload,
  Intent,
  MessageId,
  Payload,
  PresenceState,
  RejectReason,
  RequestPayload,
  ResponsePayload,
  SessionId,
  SessionType,
  StatusPayload,
} from '../wire/index.ts'

/** What an application asks of a peer: a REQUEST payload, and how the session for it should be. */
export interface RequestInput {
  intent: Intent
  parameters: Record<string, unknown>
  budget?: RequestPayload['budget']
  response_format?: RequestPayload['response_format']
}

export interface SendOptions {
  /** Names the request end to end: the same id again never runs the peer's handler twice. Default: a fresh one. */
  id?: MessageId
  /**
   * Default `conversation`: an open one with this peer on this category is used again without a new KNOCK, for up to 24
   * hours (specification §5.5). A `request_response` session carries one request and closes by itself.
   */
  sessionType?: SessionType
  /** Lifetime asked for the session, from its ACCEPT. Default 3,600 seconds (24 hours for conversation and stream). */
  ttlSeconds?: number
  /** The message fails when it was not taken by the peer's agent in this time. Default 72 hours, a mailbox's. */
  expiresInSeconds?: number
}

/** How far an outgoing message has come. Stages come in this order; some are skipped when a session is open. */
export type ProgressStage =
  | 'queued'
  | 'looked_up'
  | 'knocked'
  | 'accepted'
  | 'rejected'
  | 'sent'
  | 'stored'
  | 'delivered'
  | 'read'
  | 'status'
  | 'answered'
  | 'failed'

export interface ProgressEvent {
  stage: ProgressStage
  /** RFC 3339. */
  at: string
  session_id?: SessionId
  /** With `status`. */
  status?: StatusPayload
  /** With `answered`: the response, or the error the peer answered with. */
  answer?: Answer
  /** With `rejected`: what the peer's REJECT said. */
  reject?: { reason: RejectReason; human_readable: string; retry_after_seconds: number | null }
  /** With `failed`: a code of spec/errors.md. */
  code?: string
  message?: string
}

export type Answer =
  | { type: 'response'; id: MessageId; from: Amid; payload: ResponsePayload }
  | { type: 'error'; id: MessageId; from: Amid; payload: ErrorPayload }

/** Where something a peer sent came from. It is data with this provenance, never instructions (DESIGN §9). */
export interface Provenance {
  from: Amid
  session_id: SessionId
  tier: 'anonymous' | 'verified' | 'organization'
  received_at: string
}

/** A request as the application sees it, and as `listen --exec` hands it to a program. */
export interface IncomingRequest {
  id: MessageId
  from: Amid
  session_id: SessionId
  intent: Intent
  payload: RequestPayload
  provenance: Provenance
}

/** What an application answers: a response, or an error with a code of its own. */
export type AnswerInput =
  | { results: unknown; status?: ResponsePayload['status']; result_count?: number; schema?: string }
  | { error: ErrorPayload }

export interface RequestContext {
  /** Tells the peer how far the work is. Resolves when the status is safe on disk. */
  status(payload: StatusPayload): Promise<void>
  /** Aborted when the session ends before the answer. */
  readonly signal: AbortSignal
  /** Resolves when the handler's answer is safe on disk; rejects with why it cannot be sent (LIMIT_SIZE, MALFORMED, ...). */
  readonly answered: Promise<void>
}

export type RequestHandler = (
  request: IncomingRequest,
  context: RequestContext,
) => Promise<AnswerInput> | AnswerInput

/** One message of a conversation, either direction. */
export interface ConversationMessage<T extends EnvelopeType = EnvelopeType> {
  id: MessageId
  direction: 'in' | 'out'
  session_id: SessionId
  /** Per direction, from 1; absent while the message waits to be sent. */
  sequence?: number
  type: T
  in_reply_to?: MessageId
  at: string
  payload: Payload<T>
}

/** When each receipt came, RFC 3339; absent: not yet. */
export interface ReceiptTimes {
  stored?: string
  received?: string
  read?: string
  answered?: string
}

export interface SessionSummary {
  session_id: SessionId
  peer: Amid
  role: 'initiator' | 'responder'
  intent: Intent
  type: SessionType
  state: 'open' | 'closed'
  close_reason?: CloseReason
  created_at: string
  expires_at: string
  last_activity_at: string
  messages_sent: number
  messages_received: number
  one_time_prekey_used: boolean
}

/** The whole of one session, as `agentmesh session show` prints it. */
export interface SessionDetail extends SessionSummary {
  messages: (ConversationMessage & { receipts?: ReceiptTimes })[]
}

/** One KNOCK that was decided here, with every rule that was asked and its inputs. */
export interface DecisionRecord {
  id: string
  from: Amid
  at: string
  intent?: Intent
  accepted: boolean
  reason?: RejectReason
  trace: RuleResult[]
}

export type BreakerState = 'running' | 'paused' | 'shutdown' | 'emergency_stop'

export interface AgentStatus {
  amid: Amid
  display_name: string | null
  version: string
  home: string
  pid: number
  started_at: string
  breaker: BreakerState
  presence: PresenceState
  relay: { url: string; state: string; last_error?: string }
  registry: { url: string; state: 'registered' | 'waiting' | 'stopped'; last_error?: string }
  sessions: { open: number; total: number }
  outbox: { queued: number; unacknowledged: number }
  inbox: { waiting: number }
  prekeys: {
    one_time_left: number
    one_time_kem_left: number
    signed_prekey_rotates_at: string
    exchange_key_rotates_at: string
  }
  policy: { valid: boolean; error?: string }
  capabilities: (Capability | string)[]
}

/**
 * The public shapes of an agent: what an application gives it and gets from it. The local API (`api.ts`) carries the
 * same shapes as JSON, so that a client of the daemon and an embedded agent are programmed alike. Fields named `at` or
 * ending in `_at` are RFC 3339 UTC, `..._seconds` are seconds; names with underscores stand on the wire or in the API
 * as they are.
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
  TierName,
} from '../wire/index.ts'
import type { AttachmentInfo, AttachmentSource, ReceivedAttachment } from './attachments/rows.ts'
import type { HomeReason, RelayStanding } from './relays/home-choice.ts'

export type { AttachmentInfo, AttachmentSource, HomeReason, ReceivedAttachment, RelayStanding }

/** What an application asks of a peer: a REQUEST payload, and how the session for it should be. */
export interface RequestInput {
  /** What it is about; the KNOCK asks for this, and policy decides on it. */
  intent: Intent
  /** Any JSON object; with its envelope at most 64 KiB. */
  parameters: Record<string, unknown>
  /** What the answer may cost: a statement to the peer, which this agent does not enforce. */
  budget?: RequestPayload['budget']
  response_format?: RequestPayload['response_format']
  /** Files that go along, at most 16: copied and sealed before `send` resolves. */
  attachments?: readonly AttachmentSource[]
}

export interface SendOptions {
  /** Names the request end to end: the same id again never runs the peer's handler twice. Default: a fresh one. */
  id?: MessageId
  /**
   * Default `conversation`: an open one with this peer on this category is used again without a new KNOCK, for up to
   * 24 hours (specification §5.5). A `request_response` session carries one request and closes by itself.
   */
  sessionType?: SessionType
  /**
   * Seconds the session is asked to live, from its ACCEPT; the peer grants 24 hours at most. Default 3,600 seconds (24
   * hours for conversation and stream).
   */
  ttlSeconds?: number
  /**
   * The message fails (MESSAGE_EXPIRED) when no session was opened for it in so many seconds. Default 72 hours, a
   * mailbox's.
   */
  expiresInSeconds?: number
}

/**
 * How far an outgoing message has come. Stages come in this order, `status` at any time before the end; some are skipped
 * when a session is open, or when the answer is there first.
 */
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

/** What a peer answered. The payload is data from outside; its texts are as they were sent. */
export type Answer =
  | {
      type: 'response'
      id: MessageId
      from: Amid
      payload: ResponsePayload
      /** Its files, whole and checked: `Agent.attachments` reads one by its handle. */
      attachments?: AttachmentInfo[]
    }
  | { type: 'error'; id: MessageId; from: Amid; payload: ErrorPayload }
  | {
      type: 'capability_negotiation_response'
      id: MessageId
      from: Amid
      payload: Payload<'capability_negotiation_response'>
    }

/** Where something a peer sent came from. It is data with this provenance, never instructions (DESIGN §9). */
export interface Provenance {
  from: Amid
  session_id: SessionId
  /** As checked when the session opened, under a registry the owner trusts. */
  tier: TierName
  /** 0 to 1. */
  reputation: number
  /** Certified, not claimed; absent for an anonymous agent. Escape before showing. */
  display_name?: string
  organization?: string
  /** Name of the registry that says so. */
  registry?: string
  received_at: string
}

/** A request as the application sees it, and as `listen --exec` hands it to a program. */
export interface IncomingRequest {
  id: MessageId
  from: Amid
  session_id: SessionId
  intent: Intent
  payload: RequestPayload
  /**
   * The peer signed it before this run of the agent began. Whatever is handed over twice, after a crash, or because a copy of
   * the home was put back and a relay repeats what it carried, is so; most that is so comes for the first time, as it waited.
   */
  sent_before_start: boolean
  /** Its files, whole and checked; in an embedded agent each can be read. */
  attachments?: ReceivedAttachment[]
  provenance: Provenance
}

/** What an application answers: a response, or an error with a code of its own. */
export type AnswerInput =
  | {
      results: unknown
      status?: ResponsePayload['status']
      result_count?: number
      schema?: string
      /** Files that go along, at most 16. */
      attachments?: readonly AttachmentSource[]
    }
  | { error: ErrorPayload }

export interface RequestContext {
  /** Tells the peer how far the work is. Resolves when the status is safe on disk. */
  status(payload: StatusPayload): Promise<void>
  /** Aborted when the session ends before the answer. */
  readonly signal: AbortSignal
  /**
   * Resolves when the handler's answer is safe on disk; rejects with why it cannot be sent (LIMIT_SIZE, MALFORMED,
   * ...).
   */
  readonly answered: Promise<void>
}

/**
 * Answers one request. What it throws is told to the owner; the peer gets HANDLER_FAILED and nothing else. After a
 * crash it may get a request again that it had not finished: `request.id` is the same.
 */
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
  /** Of the peer, as checked when the session opened. */
  peer_tier: TierName
  peer_organization?: string
  /** `initiator`: this agent knocked. */
  role: 'initiator' | 'responder'
  intent: Intent
  type: SessionType
  state: 'open' | 'closed'
  close_reason?: CloseReason
  created_at: string
  expires_at: string
  last_activity_at: string
  /** Receipts and CLOSE do not count. */
  messages_sent: number
  messages_received: number
  /** False: until the first answer secrecy rested on keys that are renewed weekly. */
  one_time_prekey_used: boolean
}

/** The whole of one session, as `agentmesh session show` prints it. */
export interface SessionDetail extends SessionSummary {
  messages: (ConversationMessage & { receipts?: ReceiptTimes })[]
}

/** A session as its owner takes it out. */
export interface SessionExport extends SessionDetail {
  /** base64 of the session with every key it holds (layout: session/session-codec.ts): as secret as the identity's own keys. */
  session_state?: string
}

/** One KNOCK that was decided here, with every rule that was asked and its inputs. */
export interface DecisionRecord {
  /** SHA-256 of the KNOCK in hex; what the audit log names. */
  id: string
  /** With a failed `signature` only what the relay said. */
  from: Amid
  at: string
  /** Absent when the KNOCK was turned away unopened. */
  intent?: Intent
  accepted: boolean
  reason?: RejectReason
  /** Every rule that was asked, in order; the last one decided. For the owner alone. */
  trace: RuleResult[]
}

/** `paused` refuses KNOCKs; the last two are off the network. */
export type BreakerState = 'running' | 'paused' | 'shutdown' | 'emergency_stop'

/** Something an owner asked to be told, or should look at. May hold a peer's words: escape it where a person sees it. */
export interface Notice {
  at: string
  about: string
  text: string
}

/** Who says, by the recovery key of a peer, to go on as that peer. Nothing follows from it but by the owner's hand. */
export interface SuccessorSummary {
  old_amid: Amid
  new_amid: Amid
  /** When the owner of the old one says it was signed. */
  created_at: string
  /** `refused`: the owner accepted another. */
  state: 'offered' | 'accepted' | 'refused'
}

/** How an agent stands, as `agentmesh status` prints it. */
export interface AgentStatus {
  amid: Amid
  display_name: string | null
  /** Of the protocol. */
  version: string
  home: string
  pid: number
  started_at: string
  breaker: BreakerState
  presence: PresenceState
  /** The home: where this agent is reached. `url` is null until one was chosen. */
  relay: { url: string | null; state: string; reason?: HomeReason; last_error?: string }
  /** The list it was chosen from. */
  relays: RelayStanding[]
  registry: { url: string; state: 'registered' | 'waiting' | 'stopped'; last_error?: string }
  sessions: { open: number; total: number }
  /** Messages without a session yet; packets that no relay has, or no peer has confirmed. */
  outbox: { queued: number; unacknowledged: number }
  /** Requests no program has answered. */
  inbox: { waiting: number }
  /** What the registry said it has left; 0 until it was asked. */
  prekeys: {
    one_time_left: number
    one_time_kem_left: number
    signed_prekey_rotates_at: string
    exchange_key_rotates_at: string
  }
  /** What this agent can prove of itself, and whose word counts here. */
  trust: {
    tier: TierName
    display_name?: string
    organization?: string
    certificate_expires_at?: string
    /** 0 to 1, as the registry says it to others. */
    reputation?: number
    registries: string[]
    /** Those of them whose log contradicted itself: what they certify counts for nothing. */
    inconsistent: string[]
    last_error?: string
  }
  /** Successors of peers that wait for the owner's word. */
  successors: SuccessorSummary[]
  /** Gaps in the audit log that the owner has not acknowledged. */
  audit: { gaps: number }
  /** `error`: what is wrong with `policy.json`, while the last good policy is in force. */
  policy: { valid: boolean; error?: string }
  capabilities: (Capability | string)[]
  /** Since the daemon started, newest last. */
  notices: Notice[]
}

/**
 * What the audit log can say. The first five events and their fields are the specification's (§7.1); fields it does not
 * have are optional there. Times are RFC 3339, sizes bytes, sequences those of the envelope.
 *
 * No event carries what a message says, and none a secret. Text that came from a peer may stand in any string: the log
 * escapes it.
 */
import type {
  Amid,
  CloseReason,
  EnvelopeType,
  MessageId,
  RejectReason,
  SessionId,
  SessionType,
} from '../wire/index.ts'

type Result = 'accepted' | 'rejected'
/** Which of the owner's hands did it: a command, the page, an API call, or an edit of the file. */
type Actor = 'cli' | 'dashboard' | 'api' | 'file'

export interface AuditFields {
  // --- specification 7.1
  knock_received: {
    /** Absent in a line that counts the rest of a flood. */
    from?: Amid
    /** `category` or `category/subcategory`; absent when the KNOCK was turned away unopened. */
    intent?: string
    result: Result | 'ignored'
    reason?: RejectReason
    /** The decision that `agentmesh why` explains. */
    id?: string
    /** How many more alike this line stands for, so that a flood is one line. */
    count?: number
  }
  session_started: {
    session_id: SessionId
    peer: Amid
    type: SessionType
    role?: 'initiator' | 'responder'
    intent?: string
    /** false: forward secrecy of the KNOCK rests on weekly keys (DESIGN §7.1). */
    one_time_prekey_used?: boolean
  }
  message_received: MessageFields & { from?: Amid }
  message_sent: MessageFields & { to?: Amid }
  session_closed: {
    session_id: SessionId
    peer?: Amid
    reason: CloseReason
    messages_exchanged: number
  }

  // --- ours: sessions and messages
  knock_sent: { to: Amid; intent: string; id?: string }
  knock_answered: {
    to: Amid
    result: Result | 'expired'
    reason?: RejectReason
    session_id?: SessionId
    id?: string
  }
  /** Something from or to a peer was not taken: a relay's refusal, a broken signature, an exceeded limit. */
  message_refused: {
    from?: Amid
    to?: Amid
    session_id?: SessionId
    code: string
    size_bytes?: number
    /** How many alike this line stands for, so that a flood is one line. */
    count?: number
  }
  /** A session could not go on and a new KNOCK was sent. */
  session_reset: { session_id: SessionId; peer: Amid; reason: string }
  /** `keys`: with the keys of the session. */
  session_exported: { session_id: SessionId; keys: boolean; by: Actor }

  // --- ours: the owner
  policy_changed: { fields: readonly string[]; by: Actor }
  /** An edit of policy.json that was refused; the last good policy stays in force. */
  policy_refused: { problem: string }
  breaker: {
    action:
      | 'kill_session'
      | 'pause_new'
      | 'resume'
      | 'shutdown'
      | 'block'
      | 'allow'
      | 'forget'
      | 'emergency_stop'
    session_id?: SessionId
    peer?: Amid
    by: Actor
  }

  // --- ours: the agent
  agent_started: { version: string; pid: number }
  agent_stopped: { reason: string }
  /** Connected, and not any more: `waiting` dials again, `replaced` and `closed` do not. */
  relay_state: { relay: string; state: 'connected' | 'waiting' | 'replaced' | 'closed'; code?: string }
  /** A peer's record names a relay at an address that is not dialled for a stranger. */
  relay_refused: { relay: string; code: string }
  key_rotated: { key: 'exchange' | 'signed-prekey' | 'kem-prekey'; sequence: number }
  prekeys_added: { one_time: number; one_time_kem: number }
  /** One-time prekeys that were fetched in so many seconds, and no KNOCK came with them. */
  prekeys_drained: { taken: number; seconds: number }
  /** The agent repaired or gave up something of its own; `what` names it, such as `state.db` or `prekeys`. */
  state_recovered: { what: string; detail?: string }
  agent_error: { code: string; operation?: string; detail?: string }

  // --- ours: trust
  /** By fingerprint of its root. `first_use`: the agent's own registry, as it was first met. */
  registry_trusted: { registry: string; fingerprint: string; by: 'owner' | 'first_use' }
  /** Its log contradicted itself: what it certifies counts for nothing from now on. */
  registry_inconsistent: { registry: string; fingerprint: string; detail: string }
  /** An answer of a registry does not hold: forged, somebody else's, or older than what was seen. It was not used. */
  registry_refused: { registry: string; code: string; operation?: string; detail: string }
  registry_distrusted: { registry: string; fingerprint: string }
  /** A registry shows a statement that `new_amid` goes on as `old_amid`; `refused`: not by a key that says so here. */
  succession_shown: { old_amid: Amid; new_amid: Amid; result: 'offered' | 'refused'; reason?: string }
  succession_accepted: { old_amid: Amid; new_amid: Amid; by: Actor }
  /** A certificate of an organisation that the owner joined is this agent's. */
  organization_joined: { organization: string; amid: Amid }
  /** The registry shows a certificate of an organisation that the owner did not join: it was not used. Once an organisation. */
  organization_refused: { organization: string; amid: Amid }
  /** This organisation's revocation list was signed anew and brought to the registry. */
  organization_list: { number: number; entries: number; next_update: string }
  certificate_renewed: { registry: string; serial: string; expires_at: string }

  // --- ours: the log about itself
  /** The log ended without a signed head, as after a crash: so many lines before this one stood unsigned until now. */
  log_resumed: { unsigned_lines: number; torn_bytes: number }
  /** The disk did not take lines for a while: so many were lost. */
  log_gap: { lost_lines: number }
  /** The log before this one failed its check and was set aside, or was gone. `gap` is its id. */
  log_restarted: { gap: string; problem: string; set_aside?: string }
  /** A check found this in the log, or of its end. */
  log_damaged: { gap: string; kind: string; detail: string }
  /** The owner knows of it. */
  log_gap_acknowledged: { gap: string; by: Actor }
}

interface MessageFields {
  session_id: SessionId
  seq: number
  type: EnvelopeType
  size_bytes: number
  id?: MessageId
}

export type AuditEventName = keyof AuditFields

/** One event as it is appended (no field may be named `line` or `prev`); `ts` is the moment of the event (RFC 3339). */
export type AuditEvent<N extends AuditEventName = AuditEventName> = {
  [K in N]: { readonly event: K; readonly ts: string } & Readonly<AuditFields[K]>
}[N]

/** One line of the log as it is read: an event, its place, and the hash of the line before it. */
export interface AuditLine {
  readonly ts: string
  readonly event: string
  readonly line: number
  readonly prev: string
  readonly [field: string]: unknown
}

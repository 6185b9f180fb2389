/** Session rows: writing them under their index, and showing them. */
import {
  AgentMeshError,
  formatIntent,
  formatTimestamp,
  tierName,
  toBase64,
  unionOf,
  type CloseReason,
  type Envelope,
  type RequestPayload,
  type SessionId,
} from '../wire/index.ts'
import {
  encodeSession,
  requestRefusal,
  sessionRefusal,
  type Policy,
  type RequestRefusal,
  type SessionRefusal,
  type TokenTaken,
} from '../session/index.ts'
import { audit, type Core } from './core.ts'
import type { IncomingRow, OutgoingRow, Receipts, SessionRow } from './tables.ts'
import type {
  ConversationMessage,
  ReceiptTimes,
  SessionDetail,
  SessionExport,
  SessionSummary,
} from './types.ts'

/** A session without a message for this long holds its place in no limit: it is kept only to skip the next KNOCK. */
const ACTIVE_MS = 60_000

/** Whether a session is in use, and not merely kept. */
export function isActive(core: Core, { session }: SessionRow): boolean {
  if (session.lastActivityAt + ACTIVE_MS > core.now()) return true
  return core.store.tables.incoming.count({ a: session.id, b: 'ready' }) > 0
}

/** Why the policy does not let a session go on. */
export function refusalOf({ session, standing }: SessionRow, policy: Policy): SessionRefusal | undefined {
  const { peer: from, intent, role } = session
  return sessionRefusal({ from, intent, standing }, policy, role === 'initiator' ? 'us' : 'peer')
}

/** Why the owner's rules do not let a request through; a session that is gone was asked about before. */
export function refusalOfRequest(
  core: Core,
  { session_id, from, payload }: Envelope,
  takeMessage: () => TokenTaken,
): RequestRefusal | undefined {
  const row = core.store.tables.sessions.get(session_id)
  if (!row) return undefined
  const { session, standing } = row
  const { intent } = payload as RequestPayload
  const facts = { from, intent, standing, agreed: session.intent, takeMessage }
  return requestRefusal(facts, core.policy.current(), session.role === 'initiator' ? 'us' : 'peer')
}

/** Puts a session row; call within a commit. */
export function touchSession(core: Core, row: SessionRow): void {
  const { session } = row
  core.store.tables.sessions.put(session.id, row, {
    a: session.peer,
    b: session.state,
    at: session.lastActivityAt,
  })
}

export function isOpen(core: Core, sessionId: SessionId): boolean {
  return core.store.tables.sessions.get(sessionId)?.session.state === 'open'
}

/** An envelope of the peer is read, or needs no reader. Call within a commit. */
export function markRead(core: Core, sessionId: SessionId, sequence: number): void {
  const row = core.store.tables.sessions.get(sessionId)
  if (row) touchSession(core, { ...row, read: unionOf(row.read ?? [], [[sequence, sequence]]) })
}

/**
 * Stores a new session and tells listeners and the audit log. Call within a commit.
 *
 * @throws SESSION_EXISTS when its id is known, with whomever and in whatever state: a session is never put over another
 */
export function startSession(core: Core, row: SessionRow, afterCommit: (() => void)[]): void {
  const { id: session_id, peer, type, role, intent, oneTimePrekeyUsed } = row.session
  if (core.store.tables.sessions.get(session_id)) throw new AgentMeshError('SESSION_EXISTS')
  touchSession(core, row)
  if (role === 'initiator') {
    audit(core, { event: 'knock_answered', to: peer, result: 'accepted', session_id }, afterCommit)
  }
  const one_time_prekey_used = oneTimePrekeyUsed
  audit(
    core,
    {
      event: 'session_started',
      session_id,
      peer,
      type,
      role,
      intent: formatIntent(intent),
      one_time_prekey_used,
    },
    afterCommit,
  )
  afterCommit.push(() => core.events.emit('session', { session_id, peer, state: 'open' }))
}

/** Open sessions go on, but no new request uses them: the next one knocks with the new key. Call within a commit. */
export function forgetLanes(core: Core): void {
  for (const { value: row } of core.store.tables.sessions.list({ b: 'open' })) {
    if (row.lane !== '') touchSession(core, { ...row, lane: '' })
  }
}

/** Marks a session closed here and tells listeners and the audit log. Call within a commit. */
export function markClosed(
  core: Core,
  row: SessionRow,
  reason: CloseReason,
  afterCommit: (() => void)[],
): void {
  const { session } = row
  touchSession(core, { ...row, session: { ...session, state: 'closed', closeReason: reason } })
  audit(
    core,
    {
      event: 'session_closed',
      session_id: session.id,
      peer: session.peer,
      reason,
      messages_exchanged: session.sentCount + session.receivedCount,
    },
    afterCommit,
  )
  afterCommit.push(() =>
    core.events.emit('session', { session_id: session.id, peer: session.peer, state: 'closed' }),
  )
}

export function sessionMessage(envelope: Envelope, direction: 'in' | 'out'): ConversationMessage {
  return {
    id: envelope.id,
    direction,
    session_id: envelope.session_id,
    sequence: envelope.sequence,
    type: envelope.type,
    ...(envelope.in_reply_to === undefined ? {} : { in_reply_to: envelope.in_reply_to }),
    at: envelope.timestamp,
    payload: envelope.payload,
  }
}

export function summarize({ session, standing }: SessionRow): SessionSummary {
  return {
    session_id: session.id,
    peer: session.peer,
    peer_tier: tierName(standing.tier),
    ...(standing.organization === undefined ? {} : { peer_organization: standing.organization }),
    role: session.role,
    intent: session.intent,
    type: session.type,
    state: session.state,
    ...(session.closeReason === undefined ? {} : { close_reason: session.closeReason }),
    created_at: formatTimestamp(session.createdAt),
    expires_at: formatTimestamp(session.expiresAt),
    last_activity_at: formatTimestamp(session.lastActivityAt),
    messages_sent: session.sentCount,
    messages_received: session.receivedCount,
    one_time_prekey_used: session.oneTimePrekeyUsed,
  }
}

export function detail(core: Core, row: SessionRow): SessionDetail {
  const { tables } = core.store
  const sent = tables.outgoing
    .list({ a: row.session.id })
    .map(({ value }) => outgoingMessage(value, row.session.id))
  const received = tables.incoming.list({ a: row.session.id }).map(({ value }) => incomingMessage(value))
  const messages = [...sent, ...received].toSorted((left, right) => left.at.localeCompare(right.at))
  return { ...summarize(row), messages }
}

/** @param keys with the ratchet's state */
export function exported(core: Core, row: SessionRow, keys: boolean): SessionExport {
  const whole = detail(core, row)
  return keys ? { ...whole, session_state: toBase64(encodeSession(row.session)) } : whole
}

function incomingMessage(row: IncomingRow): ConversationMessage {
  return sessionMessage(row.envelope, 'in')
}

function outgoingMessage(
  row: OutgoingRow,
  session_id: SessionId,
): ConversationMessage & { receipts: ReceiptTimes } {
  return {
    id: row.id,
    direction: 'out',
    session_id,
    ...(row.sequence === undefined ? {} : { sequence: row.sequence }),
    type: row.type,
    ...(row.inReplyTo === undefined ? {} : { in_reply_to: row.inReplyTo }),
    at: formatTimestamp(row.createdAt),
    payload: row.payload,
    receipts: receiptTimes(row.receipts),
  }
}

function receiptTimes(receipts: Receipts): ReceiptTimes {
  const times: ReceiptTimes = {}
  for (const state of ['stored', 'received', 'read', 'answered'] as const) {
    const at = receipts[state]
    if (at !== undefined) times[state] = formatTimestamp(at)
  }
  return times
}

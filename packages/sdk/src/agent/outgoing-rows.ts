/** Rows of the application's messages: what a queued one waits for, and writing it under its index. */
import {
  AgentMeshError,
  canonicalBytes,
  DEFAULT_MAX_MESSAGE_BYTES,
  formatIntent,
  inRanges,
  parseJsonObject,
  PAYLOADS,
  sameRanges,
  unionOf,
  validate,
  type Amid,
  type CloseReason,
  type EnvelopeType,
  type Payload,
  type ReceiptPayload,
  type SessionType,
} from '../wire/index.ts'
import type { MessageDraft } from '../messages/index.ts'
import { noteProgress, type Core } from './core.ts'
import type { Heard, OutgoingRow } from './tables.ts'

/** Of a message that may have reached its peer before, on a session or with a KNOCK that is over. */
export function firstSent({ rebinds, createdAt }: Pick<OutgoingRow, 'rebinds' | 'createdAt'>): {
  readonly firstSentAt?: number
} {
  return rebinds > 0 ? { firstSentAt: createdAt } : {}
}

export function draftOf(row: OutgoingRow): MessageDraft {
  const { type, payload, id, inReplyTo } = row
  const reply = inReplyTo === undefined ? {} : { inReplyTo }
  return { type, payload, id, ...reply, ...firstSent(row) } as MessageDraft
}

export const DEFAULT_TTL_SECONDS: Record<SessionType, number> = {
  request_response: 3600,
  // The cache of specification §5.5: who was let in once need not knock again today.
  conversation: 24 * 3600,
  stream: 24 * 3600,
}
/** No application sees them, and the window does not count them. */
export const UNSEEN: ReadonlySet<EnvelopeType> = new Set(['receipt', 'close'])
/** No more of them than of the peer's questions. */
export const ANSWERS: ReadonlySet<EnvelopeType> = new Set([
  'response',
  'error',
  'capability_negotiation_response',
])
/** Messages that wait for an answer. */
export const ASKING: ReadonlySet<EnvelopeType> = new Set(['request', 'capability_negotiation'])
/** Ends that say nothing about what was asked. */
export const BROKEN_REASONS: ReadonlySet<CloseReason> = new Set(['error', 'limit'])
/** A session this owner ended so is not replaced, and what came on it is not worked on. */
export const OWNER_REASONS: ReadonlySet<CloseReason> = new Set(['policy', 'killed', 'shutdown'])

/**
 * A queued message waits for a session on its lane: each single request has its own, the rest share by category, subcategory
 * and urgency, which is what the KNOCK was let in for.
 */
export function laneOf(row: Pick<OutgoingRow, 'id' | 'intent' | 'sessionType'>): string {
  if (row.sessionType === 'request_response') return row.id
  const { urgency } = row.intent
  return [row.sessionType, formatIntent(row.intent), ...(urgency === undefined ? [] : [urgency])].join(' ')
}

/** Index value of messages without a session. */
export function waitingFor(to: Amid, lane: string): string {
  return `${to} ${lane}`
}

/** Call within a commit. */
export function putOutgoing(core: Core, row: OutgoingRow): void {
  core.store.tables.outgoing.put(row.id, row, {
    a: row.sessionId ?? waitingFor(row.to, laneOf(row)),
    b: row.state,
    at: row.createdAt,
  })
}

/** What no envelope can carry is refused at once, not when a session opens for it. @throws MALFORMED, LIMIT_SIZE */
export function checkedPayload(type: EnvelopeType, given: object): Payload {
  const payload: Payload = validate(PAYLOADS[type], given, `send ${type}`)
  const bytes = canonicalBytes(payload)
  if (bytes.length > DEFAULT_MAX_MESSAGE_BYTES) throw new AgentMeshError('LIMIT_SIZE')
  parseJsonObject(bytes, DEFAULT_MAX_MESSAGE_BYTES)
  return payload
}

/** What receipts say of all our envelopes, together with what was said before. */
export function heardWith(before: Heard | undefined, receipts: ReceiptPayload): Heard {
  const { received, read = [], answered = [], closed = 0 } = receipts
  return {
    received: Math.max(before?.received ?? 0, received),
    // What is answered was read.
    read: unionOf(before?.read ?? [], unionOf(read, answered)),
    closed: Math.max(before?.closed ?? 0, closed),
  }
}

export function isNews(before: Heard | undefined, after: Heard): boolean {
  return (
    after.received > (before?.received ?? 0) ||
    after.closed > (before?.closed ?? 0) ||
    !sameRanges(after.read, before?.read ?? [])
  )
}

/** A sealed message with what the peer now says of it; the same row when that is nothing new. Call within a commit. */
export function receiptedRow(
  core: Core,
  row: OutgoingRow,
  { heard, at }: { heard: Heard; at: number },
  afterCommit: (() => void)[],
): OutgoingRow {
  const { sequence = 0, type } = row
  if (type === 'close') return sequence <= heard.closed ? { ...row, state: 'done' } : row
  const isRead = inRanges(heard.read, sequence)
  const said = { received: isRead || sequence <= heard.received, read: isRead }
  let next = row
  for (const state of ['received', 'read'] as const) {
    if (!said[state] || row.receipts[state] !== undefined) continue
    next = { ...next, receipts: { ...next.receipts, [state]: at } }
    next = noteProgress(core, next, { stage: state === 'received' ? 'delivered' : state }, afterCommit)
  }
  // What asks is done when it is answered; anything else when it was read.
  return isRead ? { ...next, state: ASKING.has(type) ? 'read' : 'done' } : next
}

/** Messages go out in the order of this time, also when the clock jumped back. */
export class SendingOrder {
  readonly #core: Core
  #last = 0

  constructor(core: Core) {
    this.#core = core
  }

  /** @param now milliseconds since the epoch */
  next(now: number): number {
    const [newest] =
      this.#last === 0 ? this.#core.store.tables.outgoing.list({ order: 'desc', limit: 1 }) : []
    this.#last = Math.max(now, this.#last, newest?.value.createdAt ?? 0)
    return this.#last
  }
}

/**
 * The application's messages on their way to peers.
 *
 *   queued --(a session of its lane is open)--> sealed --(peer's receipt, answer)--> done
 *      |                                           |
 *      +-------- rejected, expired, refused -------+----> failed
 *
 * Sealing moves the ratchet, so the session row, the message row and the packet row are written in one commit: what
 * leaves for a relay is on disk first (DESIGN §7).
 */
import { createMessage, type MessageDraft } from '../messages/index.ts'
import {
  AgentMeshError,
  formatTimestamp,
  isAgentMeshError,
  MAILBOX_TTL_SECONDS,
  newMessageId,
  parseTimestamp,
  PAYLOADS,
  validate,
  type Amid,
  type ClosePayload,
  type EnvelopeType,
  type ErrorCode,
  type MessageId,
  type Payload,
  type ReceiptPayload,
  type SessionId,
  type SessionType,
} from '../wire/index.ts'
import { audit, background, commit, noteProgress, type Core } from './core.ts'
import type { Outbox } from './outbox.ts'
import { markClosed, sessionMessage, touchSession } from './session-rows.ts'
import type { OutgoingRow, SessionRow } from './tables.ts'
import type { Answer, ProgressEvent, RequestInput, SendOptions } from './types.ts'

const DEFAULT_TTL_SECONDS: Record<SessionType, number> = {
  request_response: 3600,
  conversation: 24 * 3600,
  stream: 24 * 3600,
}
/** A receipt envelope waits this long for company. */
const RECEIPT_DELAY_MS = 20
const MAX_RECEIPTS = 256

/** A queued message waits for a session on its lane: each single request has its own, the rest share by category. */
export function laneOf(row: Pick<OutgoingRow, 'id' | 'intent' | 'sessionType'>): string {
  return row.sessionType === 'request_response' ? row.id : `${row.sessionType} ${row.intent.category}`
}

type Receipt = ReceiptPayload['receipts'][number]

export class Outgoing {
  readonly #core: Core
  readonly #outbox: Outbox
  /** Asks for a session on a lane; called after the commit that queued the message. */
  readonly #needSession: (row: OutgoingRow) => void
  readonly #receipts = new Map<SessionId, Receipt[]>()
  #receiptTimer: NodeJS.Timeout | undefined

  constructor(core: Core, outbox: Outbox, needSession: (row: OutgoingRow) => void) {
    this.#core = core
    this.#outbox = outbox
    this.#needSession = needSession
  }

  /** Takes a request; resolves when it is on disk. The same id again is the same request. */
  async request(to: Amid, input: RequestInput, options: SendOptions): Promise<MessageId> {
    const payload = validate(PAYLOADS.request, { ...input }, 'send request')
    const id = options.id ?? newMessageId(this.#core.random)
    const now = this.#core.now()
    const sessionType = options.sessionType ?? 'request_response'
    await commit(this.#core, (afterCommit) => {
      if (this.#core.store.tables.outgoing.get(id)) return
      const row: OutgoingRow = {
        id,
        to,
        type: 'request',
        payload,
        intent: input.intent,
        sessionType,
        ttlSeconds: options.ttlSeconds ?? DEFAULT_TTL_SECONDS[sessionType],
        state: 'queued',
        createdAt: now,
        expiresAt: now + (options.expiresInSeconds ?? MAILBOX_TTL_SECONDS) * 1000,
        receipts: {},
        progress: [],
      }
      this.#bind(noteProgress(this.#core, row, { stage: 'queued' }, afterCommit), afterCommit)
    })
    return id
  }

  /** Sends on an open session, such as an answer; call within a commit. @throws SESSION_UNKNOWN, SESSION_CLOSED, LIMIT_* */
  onSession<T extends EnvelopeType>(
    sessionId: SessionId,
    message: { type: T; payload: Payload<T>; id?: MessageId; inReplyTo?: MessageId },
    afterCommit: (() => void)[],
  ): MessageId {
    // What the peer is owed goes first, so that it sees its message received before it sees it answered.
    if (message.type !== 'receipt') this.#receiptsOf(sessionId, afterCommit)
    const session = this.#core.store.tables.sessions.get(sessionId)
    if (!session) throw new AgentMeshError('SESSION_UNKNOWN')
    const now = this.#core.now()
    const row: OutgoingRow = {
      id: message.id ?? newMessageId(this.#core.random),
      to: session.session.peer,
      type: message.type,
      payload: validate(PAYLOADS[message.type], message.payload, `send ${message.type}`) as Payload,
      ...(message.inReplyTo === undefined ? {} : { inReplyTo: message.inReplyTo }),
      intent: session.session.intent,
      sessionType: session.session.type,
      ttlSeconds: session.session.constraints.ttl_seconds,
      state: 'queued',
      createdAt: now,
      expiresAt: session.session.expiresAt,
      receipts: {},
      progress: [],
    }
    this.#seal(row, session, afterCommit)
    return row.id
  }

  /** Seals the row on an open session of its lane, or leaves it queued and asks for one. */
  #bind(row: OutgoingRow, afterCommit: (() => void)[]): void {
    const session = this.#openSession(row)
    if (session) {
      this.#seal(row, session, afterCommit)
    } else {
      this.write(row)
      afterCommit.push(() => this.#needSession(row))
    }
  }

  #openSession(row: OutgoingRow): SessionRow | undefined {
    const lane = laneOf(row)
    const now = this.#core.now()
    return this.#core.store.tables.sessions
      .list({ a: row.to, b: 'open' })
      .map((entry) => entry.value)
      .find((entry) => entry.lane === lane && entry.session.expiresAt > now)
  }

  #seal(row: OutgoingRow, { session, ...rest }: SessionRow, afterCommit: (() => void)[]): void {
    const made = createMessage(
      session,
      {
        type: row.type,
        payload: row.payload,
        id: row.id,
        ...(row.inReplyTo === undefined ? {} : { inReplyTo: row.inReplyTo }),
      } as MessageDraft,
      this.#core.identity,
      { random: this.#core.random, now: this.#core.now() },
    )
    touchSession(this.#core, { ...rest, session: made.session })
    const closing = row.type === 'close'
    this.#outbox.put(
      {
        id: row.id,
        to: row.to,
        type: closing ? 'close' : 'message',
        packet: made.packet,
        // A closed session can receive nothing more, not even a receipt; a relay's word is enough for a CLOSE.
        awaitsReceipt: !closing && row.type !== 'receipt',
        expiresAt: row.expiresAt,
      },
      afterCommit,
    )
    audit(
      this.#core,
      {
        event: 'message_sent',
        session_id: session.id,
        to: row.to,
        seq: made.envelope.sequence,
        type: row.type,
        size_bytes: made.packet.length,
        id: row.id,
      },
      afterCommit,
    )
    // A receipt is bookkeeping: no row of its own, nobody waits for it.
    if (row.type === 'receipt') return
    this.write({ ...row, sessionId: session.id, sequence: made.envelope.sequence, state: 'sealed' })
    afterCommit.push(() => this.#core.events.emit('message', sessionMessage(made.envelope, 'out')))
  }

  write(row: OutgoingRow): void {
    this.#core.store.tables.outgoing.put(row.id, row, {
      a: row.sessionId ?? '',
      b: row.state,
      at: row.createdAt,
    })
  }

  /** Messages that wait for a session with this peer on this lane, oldest first. */
  queuedFor(to: Amid, lane: string): OutgoingRow[] {
    return this.queued().filter((row) => row.to === to && laneOf(row) === lane)
  }

  queued(): OutgoingRow[] {
    return this.#core.store.tables.outgoing.list({ b: 'queued', order: 'asc' }).map((entry) => entry.value)
  }

  /** A session opened on a lane: seals all that waited for it. Call within the commit that stores the session. */
  sessionOpened(row: SessionRow, afterCommit: (() => void)[]): void {
    for (const queued of this.queuedFor(row.session.peer, row.lane)) {
      const accepted = noteProgress(
        this.#core,
        queued,
        { stage: 'accepted', session_id: row.session.id },
        afterCommit,
      )
      try {
        const session = this.#core.store.tables.sessions.get(row.session.id)
        if (session) this.#seal(accepted, session, afterCommit)
      } catch (error) {
        if (!isAgentMeshError(error)) throw error
        if (error.code === 'LIMIT_MESSAGES') return
        this.fail(accepted, { code: error.code, message: error.message }, afterCommit)
      }
    }
  }

  note(id: MessageId, event: Omit<ProgressEvent, 'at'>, afterCommit: (() => void)[]): void {
    const row = this.#core.store.tables.outgoing.get(id)
    if (row) this.write(noteProgress(this.#core, row, event, afterCommit))
  }

  fail(
    row: OutgoingRow,
    failure: { code: ErrorCode; message: string } & Pick<ProgressEvent, 'reject'>,
    afterCommit: (() => void)[],
  ): void {
    const { reject, ...rest } = failure
    const rejected =
      reject === undefined ? row : noteProgress(this.#core, row, { stage: 'rejected', reject }, afterCommit)
    this.write(
      noteProgress(this.#core, { ...rejected, state: 'failed' }, { stage: 'failed', ...rest }, afterCommit),
    )
  }

  /** The peer answered one of our requests. Call within the commit that takes the answer. */
  answered(inReplyTo: MessageId, from: Amid, answer: Answer, afterCommit: (() => void)[]): void {
    const row = this.#core.store.tables.outgoing.get(inReplyTo)
    // Only the peer that was asked can answer.
    if (!row || row.to !== from || row.state === 'done') return
    this.#outbox.remove(row.id)
    const receipts = { ...row.receipts, answered: this.#core.now() }
    this.write(
      noteProgress(
        this.#core,
        { ...row, receipts, state: 'done' },
        { stage: 'answered', answer },
        afterCommit,
      ),
    )
  }

  /** The peer's receipts for our messages. Call within the commit that takes them. */
  receipted(from: Amid, payload: ReceiptPayload, afterCommit: (() => void)[]): void {
    for (const receipt of payload.receipts) {
      const row = this.#core.store.tables.outgoing.get(receipt.message_id)
      if (!row || row.to !== from || row.receipts[receipt.state] !== undefined) continue
      this.#outbox.remove(row.id)
      const receipts = { ...row.receipts, [receipt.state]: parseTimestamp(receipt.at) }
      const finished = row.type === 'request' ? row.state : 'done'
      const next = { ...row, receipts, state: finished }
      if (receipt.state === 'answered') this.write(next)
      else
        this.write(
          noteProgress(
            this.#core,
            next,
            { stage: receipt.state === 'read' ? 'read' : 'delivered' },
            afterCommit,
          ),
        )
    }
  }

  /** Owes the peer a receipt; receipts of one session travel together. */
  oweReceipt(sessionId: SessionId, messageId: MessageId, state: Receipt['state']): void {
    const owed = this.#receipts.get(sessionId) ?? []
    owed.push({ message_id: messageId, state, at: formatTimestamp(this.#core.now()) })
    this.#receipts.set(sessionId, owed)
    this.#receiptTimer ??= setTimeout(
      () => background(this.#core, 'send receipts', this.flushReceipts()),
      RECEIPT_DELAY_MS,
    )
  }

  /** Sends every owed receipt; resolves when they are on disk. */
  async flushReceipts(): Promise<void> {
    clearTimeout(this.#receiptTimer)
    this.#receiptTimer = undefined
    if (this.#receipts.size === 0) return
    await commit(this.#core, (afterCommit) => {
      for (const sessionId of this.#receipts.keys()) this.#receiptsOf(sessionId, afterCommit)
    })
  }

  /** Sends a session's owed receipts. Call within a commit. */
  #receiptsOf(sessionId: SessionId, afterCommit: (() => void)[]): void {
    const owed = this.#receipts.get(sessionId) ?? []
    this.#receipts.delete(sessionId)
    const session = this.#core.store.tables.sessions.get(sessionId)
    if (session?.session.state !== 'open') return
    for (let start = 0; start < owed.length; start += MAX_RECEIPTS) {
      const receipts = owed.slice(start, start + MAX_RECEIPTS)
      try {
        this.onSession(sessionId, { type: 'receipt', payload: { receipts } }, afterCommit)
      } catch (error) {
        // A session that cannot carry a receipt any more is ending; the peer's resend will find it closed.
        if (!isAgentMeshError(error)) throw error
        return
      }
    }
  }

  /** Ends a session with a CLOSE. Call within a commit; the application can send nothing after it. */
  close(row: SessionRow, payload: ClosePayload, afterCommit: (() => void)[]): void {
    const { id } = row.session
    this.onSession(id, { type: 'close', payload }, afterCommit)
    const closing = this.#core.store.tables.sessions.get(id)
    if (closing) markClosed(this.#core, closing, payload.reason, afterCommit)
  }

  /** Fails what was not taken in time, and what a full session left behind gets a new one. */
  async maintain(): Promise<void> {
    const now = this.#core.now()
    const queued = this.queued()
    const expired = queued.filter((row) => row.expiresAt <= now)
    if (expired.length > 0) {
      await commit(this.#core, (afterCommit) => {
        for (const row of expired) {
          this.fail(row, { code: 'MESSAGE_EXPIRED', message: 'No session was opened in time' }, afterCommit)
        }
      })
    }
    for (const row of queued) if (row.expiresAt > now) this.#needSession(row)
  }
}

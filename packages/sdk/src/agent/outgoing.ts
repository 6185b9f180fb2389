/**
 * The application's messages on their way to peers.
 *
 *   queued --(a session of its lane is open, the window has room)--> sealed --(receipt)--> read --(answer)--> done
 *      |                                                                |
 *      +------------- rejected, expired, refused ----------------------+----> failed
 *
 * Sealing moves the ratchet, so the session row, the message row and the packet row are written in one commit: what
 * leaves for a relay is on disk first (DESIGN §7). A session has at most `WINDOW` messages the peer's application has
 * not read; the rest wait, so that a fast sender cannot flood a slow reader. Answers wait in the same order, behind what
 * was said before them. What is read makes room whether it is answered or not, so that two sides whose windows are full
 * of questions get on: a handler that is done makes room for the next question, which is read.
 */
import { createMessage, type MessageDraft } from '../messages/index.ts'
import type { Session } from '../session/index.ts'
import {
  AgentMeshError,
  isAgentMeshError,
  isErrorCode,
  MAILBOX_TTL_SECONDS,
  newMessageId,
  parseTimestamp,
  PAYLOADS,
  receiptsOf,
  validate,
  type Amid,
  type ClosePayload,
  type EnvelopeType,
  type ErrorCode,
  type Intent,
  type MessageId,
  type Payload,
  type ReceiptPayload,
  type SessionId,
} from '../wire/index.ts'
import { filesUnderWay } from './attachments/under-way.ts'
import type { PreparedRequest } from './attachments/prepared.ts'
import { audit, commit, noteProgress, type Core } from './core.ts'
import type { Outbox } from './outbox.ts'
import { Lanes, WaitingOn } from './lanes.ts'
import {
  ANSWERS,
  ASKING,
  BROKEN_REASONS,
  checkedPayload,
  DEFAULT_TTL_SECONDS,
  draftOf,
  heardWith,
  isNews,
  receiptedRow,
  OWNER_REASONS,
  putOutgoing,
  UNSEEN,
  waitingFor,
  SendingOrder,
} from './outgoing-rows.ts'
import type { Closings } from './closings.ts'
import { Receipts } from './receipts.ts'
import { markClosed, sessionMessage, touchSession } from './session-rows.ts'
import type { OutgoingRow, RequestAnswer, SessionRow } from './tables.ts'
import type { Answer, ProgressEvent, SendOptions } from './types.ts'

/** Messages of a session sealed and not yet read. */
export const WINDOW = 64
/** Messages of a session that wait for the window; one more is refused, unless it answers the peer. */
const MAX_WAITING = 1000

/** How often a message that its peer never received changes to a new session. */
export const MAX_REBINDS = 5

export class Outgoing {
  readonly #core: Core
  readonly #outbox: Outbox
  /** Asks for a session on a lane; called after the commit that queued the message. */
  readonly #needSession: (row: OutgoingRow) => void
  readonly #order: SendingOrder
  readonly #lanes: Lanes
  readonly #waitingOn = new WaitingOn()
  readonly receipts: Receipts
  readonly closings: Closings

  constructor(core: Core, outbox: Outbox, closings: Closings, needSession: (row: OutgoingRow) => void) {
    this.#core = core
    this.#order = new SendingOrder(core)
    this.#outbox = outbox
    this.#needSession = needSession
    this.closings = closings
    this.#lanes = new Lanes(core)
    for (const { sessionId } of this.queued()) if (sessionId !== undefined) this.#waitingOn.add(sessionId)
    this.receipts = new Receipts(core, (sessionId, payload, afterCommit) => {
      this.onSession(sessionId, { type: 'receipt', payload }, afterCommit)
    })
  }

  /** Takes a request; resolves when it is on disk. The same id again is the same request. */
  request(to: Amid, input: PreparedRequest, options: SendOptions): Promise<MessageId> {
    return this.#open(to, { type: 'request', intent: input.intent, payload: { ...input } }, options)
  }

  /** Asks a peer what a conversation about an intent can be about (specification §6.3). As `request`. */
  negotiate(
    to: Amid,
    intent: Intent,
    payload: Payload<'capability_negotiation'>,
    options: SendOptions,
  ): Promise<MessageId> {
    return this.#open(to, { type: 'capability_negotiation', intent, payload }, options)
  }

  /** A message that opens a session where none is open on its lane. */
  async #open(
    to: Amid,
    first: { type: 'request' | 'capability_negotiation'; intent: Intent; payload: object },
    options: SendOptions,
  ): Promise<MessageId> {
    const { type, intent } = first
    const payload = checkedPayload(type, first.payload)
    const id = options.id ?? newMessageId(this.#core.random)
    const now = this.#core.now()
    const sessionType = options.sessionType ?? 'conversation'
    await commit(this.#core, (afterCommit) => {
      const known = this.#core.store.tables.outgoing.get(id)
      if (known?.to === to) return
      if (known) throw new AgentMeshError('INVALID_ID', 'A message to another peer has this id')
      const row: OutgoingRow = {
        id,
        to,
        type,
        payload,
        intent,
        sessionType,
        ttlSeconds: options.ttlSeconds ?? DEFAULT_TTL_SECONDS[sessionType],
        state: 'queued',
        createdAt: this.#order.next(now),
        expiresAt: now + (options.expiresInSeconds ?? MAILBOX_TTL_SECONDS) * 1000,
        receipts: {},
        progress: [],
        rebinds: 0,
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
      createdAt: this.#order.next(now),
      // A CLOSE says what was read, also of a session whose time is over.
      expiresAt: message.type === 'close' ? now + MAILBOX_TTL_SECONDS * 1000 : session.session.expiresAt,
      receipts: {},
      progress: [],
      rebinds: 0,
    }
    this.#sealOrWait(row, session, afterCommit)
    return row.id
  }

  /**
   * Answers a request on an open session. One that is used up ends instead: the peer asks again on another session, and
   * gets the answer there. Call within a commit. @throws MALFORMED, LIMIT_SIZE
   */
  answer(row: SessionRow, inReplyTo: MessageId, answer: RequestAnswer, afterCommit: (() => void)[]): void {
    if (this.#fits(row)) return void this.onSession(row.session.id, { ...answer, inReplyTo }, afterCommit)
    checkedPayload(answer.type, answer.payload)
    this.close(row, { reason: 'limit' }, afterCommit)
  }

  /** Seals the row on an open session of its lane, or leaves it queued and asks for one. */
  #bind(row: OutgoingRow, afterCommit: (() => void)[]): void {
    const session = this.#lanes.session(row)
    if (session && this.#fits(session)) return this.#sealOrWait(row, session, afterCommit)
    if (session) this.close(session, { reason: 'limit' }, afterCommit)
    this.write(row)
    afterCommit.push(() => this.#needSession(row))
  }

  /** Whether the session can carry one more message of ours. */
  #fits({ session }: SessionRow): boolean {
    const { max_messages: limit } = session.constraints
    return limit === null || session.sentCount + this.#waiting(session.id) < limit
  }

  /** Messages of a session that wait for room. */
  #waiting(sessionId: SessionId): number {
    if (!this.#waitingOn.has(sessionId)) return 0
    return this.#core.store.tables.outgoing.count({ a: sessionId, b: 'queued' })
  }

  /** @throws FLOW_BLOCKED when too much waits for the peer to read */
  #sealOrWait(row: OutgoingRow, session: SessionRow, afterCommit: (() => void)[]): void {
    const { id } = session.session
    const { outgoing } = this.#core.store.tables
    const free = UNSEEN.has(row.type) || 'refused' in row.payload
    const answers = row.inReplyTo !== undefined && ANSWERS.has(row.type)
    const waiting = free ? 0 : this.#waiting(id)
    if (waiting === 0 && (free || outgoing.count({ a: id, b: 'sealed' }) < WINDOW)) {
      this.#seal(row, session, afterCommit)
    } else if (answers || waiting < MAX_WAITING) {
      // Whoever answers learns at once that the answer cannot be sent; what is made here is thrown away.
      if (answers) this.#create(row, session.session)
      this.write({ ...row, sessionId: id })
    } else {
      throw new AgentMeshError('FLOW_BLOCKED', 'The peer does not read; too many messages wait for it')
    }
  }

  /** The peer read something: seals what waited for room, in order. Call within a commit. */
  #useWindow(sessionId: SessionId, afterCommit: (() => void)[]): void {
    if (!this.#waitingOn.has(sessionId)) return
    const { outgoing, sessions } = this.#core.store.tables
    const room = WINDOW - outgoing.count({ a: sessionId, b: 'sealed' })
    if (room <= 0) return
    const queued = outgoing.list({ a: sessionId, b: 'queued', limit: room })
    for (const { value: row } of queued) {
      const session = sessions.get(sessionId)
      if (session?.session.state !== 'open') return
      this.#orFail(row, afterCommit, () => this.#seal(row, session, afterCommit))
    }
    if (queued.length < room) this.#waitingOn.delete(sessionId, afterCommit)
  }

  #orFail(row: OutgoingRow, afterCommit: (() => void)[], seal: () => void): void {
    try {
      seal()
    } catch (error) {
      if (!isAgentMeshError(error)) throw error
      this.fail(row, { code: error.code, message: error.message }, afterCommit)
    }
  }

  #seal(row: OutgoingRow, sessionRow: SessionRow, afterCommit: (() => void)[]): void {
    const { session } = sessionRow
    const made = this.#make(row, sessionRow)
    const said = receiptsOf(made.envelope) === undefined ? {} : { read: this.receipts.readOf(sessionRow) }
    touchSession(this.#core, { ...sessionRow, ...said, session: made.session })
    if ('read' in said) this.receipts.said(session.id)
    this.#outbox.put(
      {
        id: row.id,
        to: row.to,
        type: row.type === 'close' ? 'close' : 'message',
        packet: made.packet,
        awaitsReceipt: row.type !== 'receipt',
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

  /** With the receipts that are owed on the session, where there is room for them; a CLOSE has them always. */
  #make(row: OutgoingRow, sessionRow: SessionRow): ReturnType<typeof createMessage> {
    const { session } = sessionRow
    const isClose = row.type === 'close'
    if (row.type === 'receipt' || !(isClose || this.receipts.isOwed(session.id)))
      return this.#create(row, session)
    const receipts = this.receipts.statement(sessionRow)
    try {
      return this.#create(row, session, { receipts })
    } catch (error) {
      if (!isAgentMeshError(error, 'LIMIT_SIZE')) throw error
    }
    const { received, closed, at } = receipts
    const least = { received, ...(closed === undefined ? {} : { closed }), at }
    return this.#create(row, session, isClose ? { receipts: least } : {})
  }

  /** @throws what `createMessage` throws */
  #create(
    row: OutgoingRow,
    session: Session,
    along: Pick<MessageDraft, 'receipts'> = {},
  ): ReturnType<typeof createMessage> {
    const environment = { random: this.#core.random, now: this.#core.now() }
    return createMessage(session, { ...draftOf(row), ...along }, this.#core.identity, environment)
  }

  write(row: OutgoingRow): void {
    if (row.state === 'queued' && row.sessionId !== undefined) this.#waitingOn.add(row.sessionId)
    putOutgoing(this.#core, row)
  }

  /** Messages that wait for a session with this peer on this lane, oldest first. */
  queuedFor(to: Amid, lane: string): OutgoingRow[] {
    const { outgoing } = this.#core.store.tables
    return outgoing.list({ a: waitingFor(to, lane), b: 'queued' }).map((entry) => entry.value)
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
      const session = this.#core.store.tables.sessions.get(row.session.id)
      // More waited than one session carries: the rest gets another at the next maintenance.
      if (!session || !this.#fits(session)) return
      // One that cannot be sealed fails alone: the session is there, and the others wait for it.
      this.#orFail(accepted, afterCommit, () => this.#sealOrWait(accepted, session, afterCommit))
    }
  }

  /** The peer took a request that came with the KNOCK: the first message of the session. Call within a commit. */
  sentWithKnock(id: MessageId, sessionId: SessionId, afterCommit: (() => void)[]): void {
    const row = this.#core.store.tables.outgoing.get(id)
    if (row?.state !== 'queued') return
    const accepted = noteProgress(this.#core, row, { stage: 'accepted', session_id: sessionId }, afterCommit)
    this.write({ ...accepted, sessionId, sequence: 1, state: 'sealed' })
    const { to, type } = row
    audit(
      this.#core,
      { event: 'message_sent', session_id: sessionId, to, seq: 1, type, size_bytes: 0, id },
      afterCommit,
    )
  }

  /**
   * A session ended. What the peer never received goes out on a new session, unless an owner wanted the end, and so does
   * a request when the session broke; what it received and will not answer has failed. Call within a commit.
   */
  sessionClosed(session: Session, afterCommit: (() => void)[]): void {
    const { outgoing } = this.#core.store.tables
    this.#waitingOn.delete(session.id, afterCommit)
    const reason = session.closeReason ?? 'timeout'
    // A peer that changed its policy decides anew on a KNOCK; one that killed the session has decided.
    const again = reason !== 'killed' && (session.closes === 'theirs' || !OWNER_REASONS.has(reason))
    for (const state of ['read', 'sealed', 'queued'] as const) {
      for (const { value: row } of outgoing.list({ a: session.id, b: state })) {
        // What was said before our own CLOSE is still on its way; what of it was not read, the peer's CLOSE says.
        const onItsWay =
          state === 'sealed' && session.closes === 'ours' && row.receipts.received === undefined
        if (row.type === 'close' || onItsWay) continue
        this.#outbox.remove(row.id)
        // A request asked again gets its first answer, so one whose answer a broken session lost is asked again.
        const isBroken = BROKEN_REASONS.has(reason) || filesUnderWay(this.#core, row.to, row.id)
        const unanswered = row.type === 'request' && isBroken
        const retry = again && (unanswered || row.receipts.received === undefined)
        if (retry && row.rebinds < MAX_REBINDS && session.role === 'initiator') {
          const { sessionId: _, sequence: __, ...rest } = row
          const rebound: OutgoingRow = { ...rest, state: 'queued', receipts: {}, rebinds: row.rebinds + 1 }
          this.#orFail(rebound, afterCommit, () => this.#bind(rebound, afterCommit))
        } else if (ASKING.has(row.type) || row.receipts.received === undefined) {
          const message = `The session ended: ${reason}`
          this.fail(row, { code: 'SESSION_CLOSED', message }, afterCommit)
        } else {
          this.write({ ...row, state: 'failed' })
        }
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
    const now = this.#core.now()
    const receipts = { received: now, read: now, ...row.receipts, answered: now }
    const done = { ...row, receipts, state: 'done' } as const
    this.write(noteProgress(this.#core, done, { stage: 'answered', answer }, afterCommit))
    if (row.sessionId !== undefined) this.#useWindow(row.sessionId, afterCommit)
  }

  /**
   * The peer's receipts for our envelopes of a session. Call within the commit that takes them.
   *
   * @returns whether they said something new
   */
  receipted(sessionId: SessionId, receipts: ReceiptPayload, afterCommit: (() => void)[]): boolean {
    const { sessions, outgoing } = this.#core.store.tables
    const session = sessions.get(sessionId)
    if (!session) return false
    const heard = heardWith(session.heard, receipts)
    if (!isNews(session.heard, heard)) return false
    touchSession(this.#core, { ...session, heard })
    for (const { value: row } of outgoing.list({ a: sessionId, b: 'sealed' })) {
      const next = receiptedRow(this.#core, row, { heard, at: parseTimestamp(receipts.at) }, afterCommit)
      if (next === row) continue
      this.#outbox.remove(row.id)
      this.write(next)
    }
    this.#useWindow(sessionId, afterCommit)
    return true
  }

  /**
   * The peer refused an envelope of ours by name. Call within the commit that takes its word.
   *
   * @returns what was refused; nothing when it says nothing new
   */
  refused(
    sessionId: SessionId,
    payload: Payload<'error'>,
    afterCommit: (() => void)[],
  ): OutgoingRow | undefined {
    const { outgoing } = this.#core.store.tables
    const waiting = (['sealed', 'read'] as const).flatMap((b) => outgoing.list({ a: sessionId, b }))
    const row = waiting.find(({ value }) => value.sequence === payload.refused?.sequence)?.value
    if (!row || row.type === 'close') return undefined
    this.#outbox.remove(row.id)
    const code = isErrorCode(payload.code) ? payload.code : 'MESSAGE_FAILED'
    this.fail(row, { code, message: `The peer refused the message: ${payload.code}` }, afterCommit)
    this.#useWindow(sessionId, afterCommit)
    return row
  }

  /** Ends a session with a CLOSE. Call within a commit; the application can send nothing after it. */
  close(row: SessionRow, payload: ClosePayload, afterCommit: (() => void)[]): void {
    const { id } = row.session
    const signed = this.closings.sign(row, payload)
    this.onSession(id, { type: 'close', payload: signed }, afterCommit)
    const closing = this.#core.store.tables.sessions.get(id)
    if (!closing) return
    this.closings.keepGiven(closing, payload)
    markClosed(this.#core, closing, payload.reason, afterCommit)
    this.sessionClosed({ ...closing.session, closeReason: payload.reason }, afterCommit)
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

/**
 * Messages from peers on their way to the application.
 *
 *   received (one commit: ratchet, row, filter) -> held -> ready -> done
 *                                               (in envelope order, a session)
 *
 * What is committed is owed: a request whose handler did not finish before a crash is handed over again, and the same
 * request id asked twice gets the first answer without the handler running again. DESIGN §7.
 */
import { mismatchError, type RefusedEnvelope } from '../messages/index.ts'
import {
  AgentMeshError,
  ERROR_CODES,
  isAgentMeshError,
  type Envelope,
  type ErrorCode,
  type ErrorPayload,
  type MessageId,
  type Payload,
  type RequestPayload,
  type SessionId,
} from '../wire/index.ts'
import { FileWaits } from './attachments/file-waits.ts'
import type { Attachments } from './attachments/attachments.ts'
import type { PreparedAnswer } from './attachments/prepared.ts'
import { Bookkeeping } from './bookkeeping.ts'
import { audit, background, commit, type Core } from './core.ts'
import {
  asFailure,
  asRequest,
  hasAsked,
  incomingKey,
  negotiationAnswer,
  requestKey,
  saidBefore,
  toAnswer,
  turnOf,
} from './incoming-rows.ts'
import { tellMisfit } from './notices.ts'
import { WINDOW, type Outgoing } from './outgoing.ts'
import { OWNER_REASONS } from './outgoing-rows.ts'
import { PeerRates } from './peer-rates.ts'
import { isOpen, markRead, refusalOfRequest, sessionMessage, touchSession } from './session-rows.ts'
import type { IncomingRow, IncomingState, SessionRow } from './tables.ts'
import { Turns } from './turns.ts'
import type { Answer, RequestHandler } from './types.ts'

/** Envelopes of a session kept behind one that is missing. */
const MAX_HELD = 4 * WINDOW
/** A gap this old is not filled any more: a relay lost what was in it, or the peer never said it. */
const GAP_MS = 10 * 60_000

/** Past the envelope whose turn it was. */
function stepped(row: SessionRow): SessionRow {
  const deliverNext = row.deliverNext + 1
  const { passed, ...rest } = row
  const later = passed?.filter((sequence) => sequence >= deliverNext) ?? []
  return { ...rest, deliverNext, ...(later.length === 0 ? {} : { passed: later }) }
}

export class Inbox {
  readonly #core: Core
  readonly #outgoing: Outgoing
  readonly #files: Attachments
  readonly fileWaits: FileWaits
  readonly #running = new Map<string, AbortController>()
  readonly #turns = new Turns()
  readonly #rates: PeerRates
  readonly #bookkeeping: Bookkeeping
  #handler: RequestHandler | undefined
  #lastOrder = 0
  #dispatching = false

  constructor(core: Core, outgoing: Outgoing, files: Attachments) {
    this.#core = core
    this.#outgoing = outgoing
    this.#files = files
    this.fileWaits = new FileWaits(core, files, {
      wait: (row) => this.#write({ ...row, state: 'coming' }),
      ready: (row, afterCommit) => this.#ready(row, afterCommit),
      refuse: (row, refusal, afterCommit) => this.#refuse(row, refusal, afterCommit),
      keepReply: (row, about) => this.#keepReply(row, about),
      reply: ({ envelope }, about, afterCommit) => this.#reply(envelope, about, afterCommit),
    })
    this.#rates = new PeerRates(core)
    this.#bookkeeping = new Bookkeeping(core, outgoing, this.#rates)
    for (const { value } of core.store.tables.incoming.list({ b: 'ready', order: 'asc' }))
      this.#turns.wait(turnOf(value))
    core.events.on('session', (event) => {
      if (event.state === 'closed') this.#abort(event.session_id)
    })
  }

  /** Who answers requests; undefined lets them wait. One at a time: the newest replaces. */
  handle(handler: RequestHandler | undefined): void {
    this.#handler = handler
    this.dispatch()
  }

  /** Stores a decrypted envelope and moves on what is next in order. Call within the commit that moved the ratchet. */
  take(row: SessionRow, envelope: Envelope, afterCommit: (() => void)[]): void {
    const { tables } = this.#core.store
    const { closes, id } = row.session
    const isClosedHere = closes === 'ours' || closes === 'both' || closes === 'settled'
    // The order is that of the application, which hears nothing more; what it did not hear, our CLOSE says.
    if (isClosedHere && (envelope.type === 'close' || envelope.type === 'receipt')) {
      const isNext = envelope.sequence === row.deliverNext
      touchSession(this.#core, isNext ? stepped(row) : row)
      this.#deliver({ envelope, receivedAt: this.#core.now(), state: 'held' }, afterCommit)
      return
    }
    if (envelope.sequence < row.deliverNext || tables.incoming.get(incomingKey(id, envelope.sequence))) {
      throw new AgentMeshError('SEQUENCE_REPLAYED', 'The peer used an envelope sequence twice')
    }
    const arrived: IncomingRow = { envelope, receivedAt: this.#core.now(), state: 'held' }
    if (envelope.sequence !== row.deliverNext) {
      touchSession(this.#core, row)
      this.#write(arrived)
      if (tables.incoming.count({ a: id, b: 'held' }) > MAX_HELD) this.endFlood(id, afterCommit)
      return
    }
    touchSession(this.#core, stepped(row))
    this.#deliver(arrived, afterCommit)
    this.#deliverHeld(id, afterCommit)
  }

  /**
   * An envelope of the peer was refused: its sequence is used up, and its sender learns why, unless that would be an error
   * about an error. A peer that goes on making them ends the session. Call within the commit that moved the ratchet.
   */
  refuse(row: SessionRow, refused: RefusedEnvelope, afterCommit: (() => void)[]): void {
    const { id: sessionId, peer, state } = row.session
    const { code, sequence, type, id } = refused
    this.#bookkeeping.answerRefused(peer, refused, afterCommit)
    const passed = sequence === row.deliverNext ? [] : [...(row.passed ?? []), sequence]
    const next = sequence === row.deliverNext ? stepped(row) : { ...row, passed }
    touchSession(this.#core, next)
    markRead(this.#core, sessionId, sequence)
    this.#outgoing.receipts.owe(sessionId)
    this.#deliverHeld(sessionId, afterCommit)
    if (passed.length > MAX_HELD || !this.#rates.refusal(peer).allowed) {
      this.#bookkeeping.abandon(sessionId, 'limit', afterCommit)
      return
    }
    if (type === 'error' || state === 'closed') return
    const payload = { code, message: 'The envelope was refused', refused: { sequence } }
    const about = id === undefined ? {} : { inReplyTo: id }
    this.#outgoing.onSession(sessionId, { type: 'error', payload, ...about }, afterCommit)
  }

  /** What came too early and is next now. */
  #deliverHeld(sessionId: SessionId, afterCommit: (() => void)[]): void {
    const { sessions, incoming } = this.#core.store.tables
    for (;;) {
      const row = sessions.get(sessionId)
      if (!row) return
      const held = incoming.get(incomingKey(sessionId, row.deliverNext))
      const isPassed = row.passed?.includes(row.deliverNext) === true
      if (!isPassed && held?.state !== 'held') return
      touchSession(this.#core, stepped(row))
      if (!isPassed && held) this.#deliver(held, afterCommit)
    }
  }

  /** Ends sessions with a gap that nobody fills. */
  async maintain(): Promise<void> {
    const { incoming } = this.#core.store.tables
    const before = this.#core.now() - GAP_MS
    const held = incoming.list({ b: 'held' }).filter(({ value }) => value.receivedAt <= before)
    const stuck = new Set(held.map(({ value }) => value.envelope.session_id))
    if (stuck.size === 0) return
    await commit(this.#core, (afterCommit) => {
      for (const sessionId of stuck) {
        if (incoming.count({ a: sessionId, b: 'held' }) > 0)
          this.#bookkeeping.abandon(sessionId, 'error', afterCommit)
      }
    })
  }

  /** Rows are ordered by when they took their state, which for `ready` is the order of the envelopes. */
  #write(row: IncomingRow): void {
    const { session_id, sequence } = row.envelope
    this.#lastOrder = Math.max(this.#lastOrder + 1, this.#core.now() * 1000)
    this.#core.store.tables.incoming.put(incomingKey(session_id, sequence), row, {
      a: session_id,
      b: row.state,
      at: this.#lastOrder,
    })
  }

  #setState(key: string, state: IncomingState): void {
    const row = this.#core.store.tables.incoming.get(key)
    if (row) this.#write({ ...row, state })
  }

  /** An envelope's turn has come: the type decides what it does. */
  #deliver(row: IncomingRow, afterCommit: (() => void)[]): void {
    const { envelope } = row
    const { session_id, sequence } = envelope
    const forget = (): void => {
      this.#core.store.tables.incoming.delete(incomingKey(session_id, sequence))
      markRead(this.#core, session_id, sequence)
    }
    if (this.#bookkeeping.take(envelope, afterCommit)) return forget()
    // Not before its turn: what a gap holds back may have to come again.
    this.#outgoing.receipts.owe(session_id)
    if (saidBefore(this.#core, envelope)) return forget()
    afterCommit.push(() => this.#core.events.emit('message', sessionMessage(envelope, 'in')))
    if (envelope.type === 'request') return this.#request(row, afterCommit)
    if (envelope.type === 'close') {
      this.#write({ ...row, state: 'done' })
      markRead(this.#core, session_id, sequence)
      this.#bookkeeping.closedByPeer(envelope, afterCommit)
    } else if (envelope.in_reply_to !== undefined && hasAsked(this.#core, envelope, envelope.in_reply_to)) {
      this.fileWaits.takeReply(row, envelope.in_reply_to, afterCommit)
    } else if (envelope.type === 'capability_negotiation') {
      this.#negotiate(row, envelope.payload, afterCommit)
    } else {
      this.#unread(row, afterCommit)
    }
  }

  /** Ends a session on which the peer sends what is of no use. Call within a commit. */
  endFlood(sessionId: SessionId, afterCommit: (() => void)[]): void {
    this.#bookkeeping.abandon(sessionId, 'limit', afterCommit)
  }

  #ready(row: IncomingRow, afterCommit: (() => void)[]): void {
    this.#write({ ...row, state: 'ready' })
    afterCommit.push(() => {
      this.#turns.wait(turnOf(row))
      this.dispatch()
    })
  }

  /** One answer a question; what more a peer says to it is kept at the rate of messages. */
  #keepReply(row: IncomingRow, id: MessageId): void {
    const { outgoing, incoming } = this.#core.store.tables
    const { type, from, session_id, sequence } = row.envelope
    const first = type !== 'status' && outgoing.get(id)?.state !== 'done'
    markRead(this.#core, session_id, row.envelope.sequence)
    this.#outgoing.receipts.owe(session_id)
    if (first || this.#rates.message(from).allowed) this.#write({ ...row, state: 'done' })
    else incoming.delete(incomingKey(session_id, sequence))
  }

  /** What the peer needs against what the owner offers: answered by rule, the application need not know. */
  #negotiate(row: IncomingRow, need: Payload<'capability_negotiation'>, afterCommit: (() => void)[]): void {
    const { session_id, id, from } = row.envelope
    if (!this.#rates.message(from).allowed) return this.#bookkeeping.abandon(session_id, 'limit', afterCommit)
    this.#write({ ...row, state: 'done' })
    markRead(this.#core, session_id, row.envelope.sequence)
    const payload = negotiationAnswer(this.#core, need)
    const draft = { type: 'capability_negotiation_response', payload, inReplyTo: id } as const
    if (isOpen(this.#core, session_id)) this.#outgoing.onSession(session_id, draft, afterCommit)
  }

  /** For the readers of the conversation; a peer that sends past the window ends the session. */
  #unread(row: IncomingRow, afterCommit: (() => void)[]): void {
    const { session_id } = row.envelope
    this.#write({ ...row, state: 'unread' })
    const unread = this.#core.store.tables.incoming.count({ a: session_id, b: 'unread' })
    if (unread <= 2 * WINDOW && this.#rates.message(row.envelope.from).allowed) return
    this.#bookkeeping.abandon(session_id, 'limit', afterCommit)
  }

  /** A reader of the conversation has the message: the peer may send more. */
  async read(sessionId: SessionId, sequence: number): Promise<void> {
    const key = incomingKey(sessionId, sequence)
    const { incoming } = this.#core.store.tables
    if (incoming.get(key)?.state !== 'unread') return
    await commit(this.#core, () => {
      const row = incoming.get(key)
      if (row?.state !== 'unread') return
      this.#write({ ...row, state: 'done' })
      markRead(this.#core, sessionId, sequence)
      this.#outgoing.receipts.owe(sessionId)
    })
  }

  #reply(envelope: Envelope, inReplyTo: MessageId, afterCommit: (() => void)[]): void {
    const { id, from, type, payload } = envelope
    if (type === 'status') {
      this.#outgoing.note(inReplyTo, { stage: 'status', status: payload }, afterCommit)
    } else if (type === 'response' || type === 'error' || type === 'capability_negotiation_response') {
      const answer = { type, id, from, payload, ...this.#files.infosOf(envelope) } as Answer
      this.#outgoing.answered(inReplyTo, from, answer, afterCommit)
    }
    if (type !== 'response' && type !== 'error') return
    const session = this.#core.store.tables.sessions.get(envelope.session_id)
    if (session?.session.type === 'request_response' && session.session.state === 'open') {
      const reason = type === 'response' ? 'completed' : 'error'
      this.#outgoing.close(session, { reason }, afterCommit)
    }
  }

  #request(row: IncomingRow, afterCommit: (() => void)[]): void {
    const { envelope } = row
    const { requests, sessions } = this.#core.store.tables
    const refusal = refusalOfRequest(this.#core, envelope, () => this.#rates.message(envelope.from))
    if (refusal && 'reason' in refusal) {
      this.#write({ ...row, state: 'done' })
      this.#bookkeeping.abandon(envelope.session_id, 'policy', afterCommit)
      return
    }
    if (refusal && refusal.code !== 'RATE_LIMITED') {
      this.#refuse(row, { code: refusal.code, message: refusal.message }, afterCommit)
      return
    }
    if (refusal) {
      // Neither its content nor, in the end, the session is kept for who goes on.
      this.#core.store.tables.incoming.delete(incomingKey(envelope.session_id, envelope.sequence))
      if (!this.#rates.refusal(envelope.from).allowed) {
        this.#bookkeeping.abandon(envelope.session_id, 'limit', afterCommit)
        return
      }
      const { code, message, retryAfterSeconds = 0 } = refusal
      this.#tellRefused(envelope, { code, message, retry_after_seconds: retryAfterSeconds }, afterCommit)
      return
    }
    const check = this.#core.schemas.checkRequest(
      envelope.payload as RequestPayload,
      this.#core.config.schemas ?? 'warn',
    )
    if (!check.ok) return this.#refuse(row, { ...mismatchError(check), code: 'SCHEMA_MISMATCH' }, afterCommit)
    if (check.outcome === 'does_not_fit') tellMisfit(this.#core, envelope, check)
    const key = requestKey(envelope)
    const known = requests.get(key)
    const files = known?.answer ? 'here' : this.#files.expect(envelope, afterCommit)
    if (typeof files === 'object') {
      this.#refuse(row, { code: files.refused, message: ERROR_CODES[files.refused].summary }, afterCommit)
      return
    }
    const index = { a: envelope.from, at: row.receivedAt }
    // Asked again: the answer kept, or, while it is being made, the answer to come goes to the session asked on last.
    requests.put(key, { ...known, sessionId: envelope.session_id }, index)
    if (!known) {
      if (files === 'here') this.#ready(row, afterCommit)
      else this.#write({ ...row, state: 'coming' })
      return
    }
    this.#write({ ...row, state: 'done' })
    if (files === 'coming') return
    markRead(this.#core, envelope.session_id, envelope.sequence)
    const session = sessions.get(envelope.session_id)
    if (known.answer && session) this.#outgoing.answer(session, envelope.id, known.answer, afterCommit)
  }

  /** A request that does not reach the application: the peer is told why. */
  #refuse(row: IncomingRow, payload: ErrorPayload & { code: ErrorCode }, afterCommit: (() => void)[]): void {
    const { from, session_id } = row.envelope
    this.#write({ ...row, state: 'done' })
    if (!this.#rates.refusal(from).allowed) {
      this.#bookkeeping.abandon(session_id, 'limit', afterCommit)
      return
    }
    this.#tellRefused(row.envelope, payload, afterCommit)
  }

  #tellRefused(
    { session_id, from, id, sequence }: Envelope,
    reason: ErrorPayload & { code: ErrorCode },
    afterCommit: (() => void)[],
  ): void {
    audit(this.#core, { event: 'message_refused', from, session_id, code: reason.code }, afterCommit)
    markRead(this.#core, session_id, sequence)
    if (!isOpen(this.#core, session_id)) return
    const payload = { ...reason, refused: { sequence } }
    this.#outgoing.onSession(session_id, { type: 'error', payload, inReplyTo: id }, afterCommit)
  }

  /** Hands ready requests to the application, once for all that became ready in the same commit. */
  dispatch(): void {
    if (this.#dispatching) return
    this.#dispatching = true
    background(
      this.#core,
      'hand over requests',
      Promise.resolve().then(() => this.#dispatchNow()),
    )
  }

  #dispatchNow(): void {
    this.#dispatching = false
    const handler = this.#handler
    if (!handler) return
    const { incoming } = this.#core.store.tables
    for (let key = this.#turns.next(); key !== undefined; key = this.#turns.next()) {
      const row = incoming.get(key)
      if (row?.state === 'ready') background(this.#core, 'answer a request', this.#run(key, row, handler))
      else this.#turns.done(key)
    }
  }

  async #run(key: string, row: IncomingRow, handler: RequestHandler): Promise<void> {
    const abort = new AbortController()
    const { envelope } = row
    this.#running.set(key, abort)
    let settle!: (failure?: AgentMeshError) => void
    const answered = new Promise<void>((resolve, reject) => {
      settle = (failure) => (failure === undefined ? resolve() : reject(failure))
    })
    // Not every handler looks at it.
    answered.catch(() => {})
    try {
      const { closeReason } = this.#core.store.tables.sessions.get(envelope.session_id)?.session ?? {}
      if (closeReason !== undefined && OWNER_REASONS.has(closeReason)) {
        await commit(this.#core, () => this.#setState(key, 'done'))
        return
      }
      this.#outgoing.receipts.read(envelope.session_id, envelope.sequence)
      const answer = await handler(this.#files.withFiles(asRequest(this.#core, row)), {
        signal: abort.signal,
        answered,
        status: async (payload) => {
          await commit(this.#core, (afterCommit) => {
            this.#outgoing.onSession(
              envelope.session_id,
              { type: 'status', payload, inReplyTo: envelope.id },
              afterCommit,
            )
          })
        },
      })
      await this.#answer(key, row, await this.#files.prepareAnswer(envelope, answer))
      settle()
    } catch (error) {
      settle(asFailure(error))
      // A listener that went away did not answer: the request waits for the next one.
      if (isAgentMeshError(error, 'STATE_CLOSED')) return
      if (isAgentMeshError(error, 'LISTENER_GONE')) {
        this.#turns.again(key)
        return
      }
      const detail = error instanceof Error ? error.message : String(error)
      const note = { event: 'agent_error', code: 'HANDLER_FAILED', operation: 'answer a request' } as const
      audit(this.#core, { ...note, detail })
      await this.#giveUp(key, row)
    } finally {
      this.#running.delete(key)
      this.#turns.done(key)
      this.dispatch()
    }
  }

  /** The peer is told that no answer comes; where not even that can be said, the session ends. */
  async #giveUp(key: string, row: IncomingRow): Promise<void> {
    try {
      const message = 'The agent failed to answer this request'
      await this.#answer(key, row, { error: { code: 'HANDLER_FAILED', message } })
    } catch (error) {
      if (!isAgentMeshError(error)) throw error
      await commit(this.#core, (afterCommit) => {
        this.#setState(key, 'done')
        const session = this.#core.store.tables.sessions.get(row.envelope.session_id)
        if (session?.session.state === 'open') this.#outgoing.close(session, { reason: 'limit' }, afterCommit)
      })
    }
  }

  /**
   * The answer and the end of the request in one commit: after a crash either both happened or neither. The answer is
   * its own signed receipt, and is kept: when no session can carry it now, the peer that asks again gets it.
   *
   * @throws MALFORMED, LIMIT_SIZE for an answer that cannot be sent; then the request is still open
   */
  async #answer(key: string, { envelope, receivedAt }: IncomingRow, input: PreparedAnswer): Promise<void> {
    const { requests, sessions } = this.#core.store.tables
    const answer = toAnswer(input)
    await commit(this.#core, (afterCommit) => {
      const known = requests.get(requestKey(envelope))
      const sessionId = known?.sessionId ?? envelope.session_id
      const row = sessions.get(sessionId)
      if (row?.session.state === 'open' && row.session.expiresAt > this.#core.now()) {
        if (sessionId === envelope.session_id) this.#outgoing.receipts.answered(sessionId, envelope.sequence)
        this.#outgoing.answer(row, envelope.id, answer, afterCommit)
      }
      this.#setState(key, 'done')
      // A peer that was forgotten meanwhile stays so.
      if (known)
        requests.put(requestKey(envelope), { sessionId, answer }, { a: envelope.from, at: receivedAt })
    })
  }

  #abort(sessionId: SessionId): void {
    for (const [key, controller] of this.#running) if (key.startsWith(`${sessionId}:`)) controller.abort()
  }

  /** Requests the application has not answered. */
  waiting(): number {
    return this.#core.store.tables.incoming.count({ b: 'ready' })
  }
}

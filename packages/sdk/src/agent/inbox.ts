/**
 * Messages from peers on their way to the application.
 *
 *   received (one commit: ratchet, row, filter) -> held -> ready -> done
 *                                               (in envelope order, a session)
 *
 * What is committed is owed: a request whose handler did not finish before a crash is handed over again, and the same
 * request id asked twice gets the first answer without the handler running again. DESIGN §7.
 */
import { mismatchError, negotiate, type SchemaCheck, type SchemaMode } from '../messages/index.ts'
import { RateLimiter } from '../session/index.ts'
import {
  AgentMeshError,
  formatIntent,
  formatTimestamp,
  isAgentMeshError,
  PAYLOADS,
  validate,
  type ClosePayload,
  type Amid,
  type Envelope,
  type ErrorCode,
  type ErrorPayload,
  type Intent,
  type MessageId,
  type Payload,
  type RequestPayload,
  type SessionId,
} from '../wire/index.ts'
import { audit, background, commit, type Core } from './core.ts'
import { OWNER_REASONS, WINDOW, type Outgoing } from './outgoing.ts'
import { markClosed, sessionMessage, touchSession } from './session-rows.ts'
import type { IncomingRow, IncomingState, RequestAnswer, SessionRow } from './tables.ts'
import type { AnswerInput, IncomingRequest, RequestHandler } from './types.ts'

/** Requests an application works on at the same time; the rest wait on disk. */
const MAX_RUNNING = 16

function incomingKey(sessionId: SessionId, sequence: number): string {
  return `${sessionId}:${sequence}`
}

function requestKey({ from, id }: Envelope): string {
  return `${from}:${id}`
}

/** @throws MALFORMED for what is no answer */
function toAnswer(input: AnswerInput): RequestAnswer {
  if ('error' in input) return { type: 'error', payload: validate(PAYLOADS.error, input.error, 'answer') }
  return { type: 'response', payload: validate(PAYLOADS.response, { status: 'success', ...input }, 'answer') }
}

/** Whether a session's intent covers a request's: same category, and same subcategory when the session has one. */
function covers(agreed: Intent, asked: Intent): boolean {
  if (agreed.category !== asked.category) return false
  return agreed.subcategory === undefined || agreed.subcategory === asked.subcategory
}

export class Inbox {
  readonly #core: Core
  readonly #outgoing: Outgoing
  readonly #running = new Map<string, AbortController>()
  readonly #limits = new RateLimiter()
  #handler: RequestHandler | undefined
  #lastOrder = 0

  constructor(core: Core, outgoing: Outgoing) {
    this.#core = core
    this.#outgoing = outgoing
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
    if (
      envelope.sequence < row.deliverNext ||
      tables.incoming.get(incomingKey(row.session.id, envelope.sequence))
    ) {
      throw new AgentMeshError('SEQUENCE_REPLAYED', 'The peer used an envelope sequence twice')
    }
    if (envelope.type !== 'receipt') this.#outgoing.receipts.owe(row.session.id, envelope.id, 'received')
    const arrived: IncomingRow = { envelope, receivedAt: this.#core.now(), state: 'held' }
    if (envelope.sequence !== row.deliverNext) {
      touchSession(this.#core, row)
      this.#write(arrived)
      return
    }
    touchSession(this.#core, { ...row, deliverNext: row.deliverNext + 1 })
    this.#deliver(arrived, afterCommit)
    this.#deliverHeld(row.session.id, afterCommit)
  }

  /** What came too early and is next now. */
  #deliverHeld(sessionId: SessionId, afterCommit: (() => void)[]): void {
    const { sessions, incoming } = this.#core.store.tables
    for (;;) {
      const row = sessions.get(sessionId)
      const held = row && incoming.get(incomingKey(sessionId, row.deliverNext))
      if (!held) return
      touchSession(this.#core, { ...row, deliverNext: row.deliverNext + 1 })
      this.#deliver(held, afterCommit)
    }
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
    if (envelope.type === 'receipt') {
      this.#core.store.tables.incoming.delete(incomingKey(envelope.session_id, envelope.sequence))
      this.#outgoing.receipted(envelope.from, envelope.payload, afterCommit)
      return
    }
    afterCommit.push(() => this.#core.events.emit('message', sessionMessage(envelope, 'in')))
    if (envelope.type === 'request') {
      this.#request(row, afterCommit)
      return
    }
    if (envelope.type === 'close') {
      this.#write({ ...row, state: 'done' })
      this.#closed(envelope.session_id, envelope.payload.reason, afterCommit)
    } else if (
      envelope.in_reply_to !== undefined &&
      this.#core.store.tables.outgoing.get(envelope.in_reply_to)
    ) {
      this.#write({ ...row, state: 'done' })
      this.#outgoing.receipts.owe(envelope.session_id, envelope.id, 'read')
      this.#reply(envelope, envelope.in_reply_to, afterCommit)
    } else if (envelope.type === 'capability_negotiation') {
      this.#negotiate(row, envelope.payload, afterCommit)
    } else {
      this.#unread(row, afterCommit)
    }
  }

  /** What the peer needs against what the owner offers: answered by rule, the application need not know. */
  #negotiate(row: IncomingRow, need: Payload<'capability_negotiation'>, afterCommit: (() => void)[]): void {
    const { session_id, id } = row.envelope
    const { negotiation, capabilities } = this.#core.config
    this.#write({ ...row, state: 'done' })
    this.#outgoing.receipts.owe(session_id, id, 'read')
    const names = capabilities.map((known) => (typeof known === 'string' ? known : formatIntent(known)))
    const answer = negotiate({ capabilities: names, ...negotiation }, need)
    const draft = { type: 'capability_negotiation_response', payload: answer, inReplyTo: id } as const
    this.#outgoing.onSession(session_id, draft, afterCommit)
  }

  /** Policy `messages_per_minute`, a peer. */
  #takeToken(from: Amid) {
    const { messages_per_minute } = this.#core.policy.current().rate_limit
    return this.#limits.take(from, messages_per_minute, this.#core.now())
  }

  /** For the readers of the conversation; a peer that sends past the window ends the session. */
  #unread(row: IncomingRow, afterCommit: (() => void)[]): void {
    const { session_id } = row.envelope
    this.#write({ ...row, state: 'unread' })
    const unread = this.#core.store.tables.incoming.count({ a: session_id, b: 'unread' })
    if (unread <= 2 * WINDOW && this.#takeToken(row.envelope.from).allowed) return
    const session = this.#core.store.tables.sessions.get(session_id)
    if (session?.session.state === 'open') this.#outgoing.close(session, { reason: 'limit' }, afterCommit)
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
      this.#outgoing.receipts.owe(sessionId, row.envelope.id, 'read')
    })
  }

  #reply(envelope: Envelope, inReplyTo: MessageId, afterCommit: (() => void)[]): void {
    const { id, from } = envelope
    switch (envelope.type) {
      case 'status':
        this.#outgoing.note(inReplyTo, { stage: 'status', status: envelope.payload }, afterCommit)
        return
      case 'response':
        this.#outgoing.answered(
          inReplyTo,
          from,
          { type: 'response', id, from, payload: envelope.payload },
          afterCommit,
        )
        break
      case 'error':
        this.#outgoing.answered(
          inReplyTo,
          from,
          { type: 'error', id, from, payload: envelope.payload },
          afterCommit,
        )
        break
      case 'capability_negotiation_response':
        this.#outgoing.answered(
          inReplyTo,
          from,
          { type: 'capability_negotiation_response', id, from, payload: envelope.payload },
          afterCommit,
        )
        return
      default:
        return
    }
    const session = this.#core.store.tables.sessions.get(envelope.session_id)
    if (session?.session.type === 'request_response' && session.session.state === 'open') {
      const reason = envelope.type === 'response' ? 'completed' : 'error'
      this.#outgoing.close(session, { reason }, afterCommit)
    }
  }

  #closed(sessionId: SessionId, reason: ClosePayload['reason'], afterCommit: (() => void)[]): void {
    const row = this.#core.store.tables.sessions.get(sessionId)
    if (!row) return
    markClosed(this.#core, row, reason, afterCommit)
    this.#outgoing.sessionClosed({ ...row.session, closeReason: reason }, afterCommit)
  }

  #request(row: IncomingRow, afterCommit: (() => void)[]): void {
    const { envelope } = row
    const { requests, sessions } = this.#core.store.tables
    const agreed = sessions.get(envelope.session_id)?.session.intent
    if (agreed && !covers(agreed, (envelope.payload as RequestPayload).intent)) {
      const message = 'The request is not about what the KNOCK asked for'
      this.#refuse(row, { code: 'INTENT_MISMATCH', message }, afterCommit)
      return
    }
    const { allowed, retryAfterSeconds } = this.#takeToken(envelope.from)
    if (!allowed) {
      const message = 'Too many messages a minute'
      const refusal = { code: 'RATE_LIMITED', message, retry_after_seconds: retryAfterSeconds } as const
      this.#refuse(row, refusal, afterCommit)
      return
    }
    const check = this.#core.schemas.checkRequest(envelope.payload as RequestPayload, this.#schemaMode)
    if (!check.ok) {
      this.#refuse(row, { ...mismatchError(check), code: 'SCHEMA_MISMATCH' }, afterCommit)
      return
    }
    if (check.outcome === 'does_not_fit') this.#warn(envelope, check)
    const key = requestKey(envelope)
    const known = requests.get(key)
    const index = { a: envelope.from, at: row.receivedAt }
    // Asked again: the answer kept, or, while it is being made, the answer to come goes to the session asked on last.
    requests.put(key, { ...known, sessionId: envelope.session_id }, index)
    if (!known) {
      this.#write({ ...row, state: 'ready' })
      afterCommit.push(() => this.dispatch())
      return
    }
    this.#write({ ...row, state: 'done' })
    if (known.answer) {
      this.#outgoing.onSession(envelope.session_id, { ...known.answer, inReplyTo: envelope.id }, afterCommit)
    }
  }

  get #schemaMode(): SchemaMode {
    return this.#core.config.schemas ?? 'warn'
  }

  #warn({ from, type }: Envelope, check: SchemaCheck): void {
    const [first] = check.problems
    const where = first === undefined ? '' : `: ${first.path} ${first.problem}`
    const text = `A ${type} of ${from} does not fit ${check.schema ?? 'its schema'}${where}`
    this.#core.events.emit('notice', { at: formatTimestamp(this.#core.now()), about: 'schema', text })
  }

  /** A request that does not reach the application: the peer is told why. */
  #refuse(row: IncomingRow, payload: ErrorPayload & { code: ErrorCode }, afterCommit: (() => void)[]): void {
    const { session_id, from, id } = row.envelope
    this.#write({ ...row, state: 'done' })
    audit(this.#core, { event: 'message_refused', from, session_id, code: payload.code }, afterCommit)
    this.#outgoing.onSession(session_id, { type: 'error', payload, inReplyTo: id }, afterCommit)
  }

  /** Hands ready requests to the application. */
  dispatch(): void {
    const handler = this.#handler
    if (!handler || this.#running.size >= MAX_RUNNING) return
    const { incoming } = this.#core.store.tables
    const ready = incoming.list({ b: 'ready', order: 'asc', limit: MAX_RUNNING + this.#running.size })
    for (const { key, value } of ready) {
      if (this.#running.size >= MAX_RUNNING) return
      if (!this.#running.has(key)) background(this.#core, 'answer a request', this.#run(key, value, handler))
    }
  }

  async #run(key: string, row: IncomingRow, handler: RequestHandler): Promise<void> {
    const abort = new AbortController()
    this.#running.set(key, abort)
    const { envelope } = row
    let settle!: (failure?: AgentMeshError) => void
    const answered = new Promise<void>((resolve, reject) => {
      settle = (failure) => (failure === undefined ? resolve() : reject(failure))
    })
    // Not every handler looks at it.
    answered.catch(() => {})
    try {
      if (this.#endedByOwner(envelope.session_id)) {
        await commit(this.#core, () => this.#setState(key, 'done'))
        return
      }
      this.#outgoing.receipts.owe(envelope.session_id, envelope.id, 'read')
      const answer = await handler(this.#describe(row), {
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
      await this.#answer(key, row, answer)
      settle()
    } catch (error) {
      settle(
        isAgentMeshError(error) ? error : new AgentMeshError('HANDLER_FAILED', undefined, { cause: error }),
      )
      // A listener that went away did not answer: the request waits for the next one.
      if (isAgentMeshError(error, 'LISTENER_GONE')) return
      const detail = error instanceof Error ? error.message : String(error)
      audit(this.#core, {
        event: 'agent_error',
        code: 'HANDLER_FAILED',
        operation: 'answer a request',
        detail,
      })
      await this.#giveUp(key, row)
    } finally {
      this.#running.delete(key)
      this.dispatch()
    }
  }

  #endedByOwner(sessionId: SessionId): boolean {
    const reason = this.#core.store.tables.sessions.get(sessionId)?.session.closeReason
    return reason !== undefined && OWNER_REASONS.has(reason)
  }

  /** The peer is told that no answer comes, when the session can carry even that. */
  async #giveUp(key: string, row: IncomingRow): Promise<void> {
    try {
      const message = 'The agent failed to answer this request'
      await this.#answer(key, row, { error: { code: 'HANDLER_FAILED', message } })
    } catch (error) {
      if (!isAgentMeshError(error)) throw error
      await commit(this.#core, (afterCommit) => {
        this.#setState(key, 'done')
        // A session too full for an error still carries its CLOSE, so nobody waits for an answer that cannot come.
        const session = this.#core.store.tables.sessions.get(row.envelope.session_id)
        if (session?.session.state === 'open') this.#outgoing.close(session, { reason: 'limit' }, afterCommit)
      })
    }
  }

  #describe({ envelope, receivedAt }: IncomingRow): IncomingRequest {
    const payload = envelope.payload as RequestPayload
    return {
      id: envelope.id,
      from: envelope.from,
      session_id: envelope.session_id,
      intent: payload.intent,
      payload,
      provenance: {
        from: envelope.from,
        session_id: envelope.session_id,
        tier: 'anonymous',
        received_at: formatTimestamp(receivedAt),
      },
    }
  }

  /**
   * The answer and the end of the request in one commit: after a crash either both happened or neither. The answer is
   * its own signed receipt, and is kept: when no session can carry it now, the peer that asks again gets it.
   *
   * @throws MALFORMED, LIMIT_SIZE for an answer that cannot be sent; then the request is still open
   */
  async #answer(key: string, { envelope, receivedAt }: IncomingRow, input: AnswerInput): Promise<void> {
    const { requests, sessions } = this.#core.store.tables
    const answer = toAnswer(input)
    await commit(this.#core, (afterCommit) => {
      const known = requests.get(requestKey(envelope))
      const sessionId = known?.sessionId ?? envelope.session_id
      const session = sessions.get(sessionId)?.session
      if (session?.state === 'open' && session.expiresAt > this.#core.now()) {
        this.#outgoing.onSession(sessionId, { ...answer, inReplyTo: envelope.id }, afterCommit)
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

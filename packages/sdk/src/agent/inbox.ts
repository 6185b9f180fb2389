/**
 * Messages from peers on their way to the application.
 *
 *   received (one commit: ratchet, row, filter) -> held -> ready -> done
 *                                               (in envelope order, a session)
 *
 * What is committed is owed: a request whose handler did not finish before a crash is handed over again, and the same
 * request id asked twice gets the first answer without the handler running again. DESIGN §7.
 */
import {
  AgentMeshError,
  formatTimestamp,
  isAgentMeshError,
  type ClosePayload,
  type Envelope,
  type Intent,
  type MessageId,
  type RequestPayload,
  type SessionId,
} from '../wire/index.ts'
import { audit, background, commit, type Core } from './core.ts'
import type { Outgoing } from './outgoing.ts'
import { markClosed, sessionMessage, touchSession } from './session-rows.ts'
import type { IncomingRow, IncomingState, SessionRow } from './tables.ts'
import type { AnswerInput, IncomingRequest, RequestHandler } from './types.ts'

/** Requests an application works on at the same time; the rest wait on disk. */
const MAX_RUNNING = 16

export function incomingKey(sessionId: SessionId, sequence: number): string {
  return `${sessionId}:${sequence}`
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
    if (envelope.type !== 'receipt') this.#outgoing.oweReceipt(row.session.id, envelope.id, 'received')
    this.#write({ envelope, receivedAt: this.#core.now(), state: 'held' })
    let next = row.deliverNext
    touchSession(this.#core, row)
    for (;;) {
      const waiting = tables.incoming.get(incomingKey(row.session.id, next))
      if (!waiting) break
      next++
      touchSession(this.#core, { ...(tables.sessions.get(row.session.id) ?? row), deliverNext: next })
      this.#deliver(waiting, afterCommit)
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
    this.#write({ ...row, state: 'done' })
    this.#outgoing.oweReceipt(envelope.session_id, envelope.id, 'read')
    if (envelope.type === 'close') {
      this.#closed(envelope.session_id, envelope.payload.reason, afterCommit)
    } else if (envelope.in_reply_to !== undefined) {
      this.#reply(envelope, envelope.in_reply_to, afterCommit)
    }
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
    const session = this.#core.store.tables.sessions.get(sessionId)
    if (session) markClosed(this.#core, session, reason, afterCommit)
  }

  #request(row: IncomingRow, afterCommit: (() => void)[]): void {
    const { envelope } = row
    const { requests, sessions } = this.#core.store.tables
    const agreed = sessions.get(envelope.session_id)?.session.intent
    if (agreed && !covers(agreed, (envelope.payload as RequestPayload).intent)) {
      this.#refuse(row, afterCommit)
      return
    }
    const key = `${envelope.from}:${envelope.id}`
    const known = requests.get(key)
    if (!known) {
      requests.put(
        key,
        { incomingKey: incomingKey(envelope.session_id, envelope.sequence) },
        { at: row.receivedAt },
      )
      this.#write({ ...row, state: 'ready' })
      afterCommit.push(() => this.dispatch())
      return
    }
    // The id was asked before: the first answer again, or the one that is being made.
    this.#write({ ...row, state: 'done' })
    const answer =
      known.answerId === undefined ? undefined : this.#core.store.tables.outgoing.get(known.answerId)
    if (answer) {
      this.#outgoing.onSession(
        envelope.session_id,
        { type: answer.type, payload: answer.payload, inReplyTo: envelope.id },
        afterCommit,
      )
    }
  }

  /** Policy let in the KNOCK's intent, so a request about something else does not reach the application. */
  #refuse(row: IncomingRow, afterCommit: (() => void)[]): void {
    const { session_id, from, id } = row.envelope
    this.#write({ ...row, state: 'done' })
    audit(this.#core, { event: 'message_refused', from, session_id, code: 'INTENT_MISMATCH' }, afterCommit)
    const payload = { code: 'INTENT_MISMATCH', message: 'The request is not about what the KNOCK asked for' }
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
    try {
      this.#outgoing.oweReceipt(envelope.session_id, envelope.id, 'read')
      const answer = await handler(this.#describe(row), {
        signal: abort.signal,
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
    } catch (error) {
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

  /** The peer is told that no answer comes, when the session can carry even that. */
  async #giveUp(key: string, row: IncomingRow): Promise<void> {
    try {
      const message = 'The agent failed to answer this request'
      await this.#answer(key, row, { error: { code: 'HANDLER_FAILED', message } })
    } catch (error) {
      if (!isAgentMeshError(error)) throw error
      await commit(this.#core, () => this.#setState(key, 'done'))
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
   * its own signed receipt.
   *
   * @throws MALFORMED, LIMIT_SIZE for an answer that cannot be sent; then the request is still open
   */
  async #answer(key: string, { envelope }: IncomingRow, answer: AnswerInput): Promise<void> {
    const { tables } = this.#core.store
    await commit(this.#core, (afterCommit) => {
      const session = tables.sessions.get(envelope.session_id)?.session
      // Killed, expired or closed meanwhile: nobody is there to hear.
      if (session?.state !== 'open' || session.expiresAt <= this.#core.now()) {
        this.#setState(key, 'done')
        return
      }
      const answerId = this.#outgoing.onSession(
        envelope.session_id,
        'error' in answer
          ? { type: 'error', payload: answer.error, inReplyTo: envelope.id }
          : { type: 'response', payload: { status: 'success', ...answer }, inReplyTo: envelope.id },
        afterCommit,
      )
      this.#setState(key, 'done')
      tables.requests.put(
        `${envelope.from}:${envelope.id}`,
        { incomingKey: key, answerId },
        { at: this.#core.now() },
      )
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

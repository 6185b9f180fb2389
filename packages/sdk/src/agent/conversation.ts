/** A session seen as an exchange of messages: iterate to read, `send` to write. */
import { on } from 'node:events'
import type { ClosePayload, EnvelopeType, MessageId, Payload, SessionId } from '../wire/index.ts'
import { AgentMeshError, newMessageId } from '../wire/index.ts'
import { commit, type Core } from './core.ts'
import type { Inbox } from './inbox.ts'
import type { Outgoing } from './outgoing.ts'
import { detail } from './session-rows.ts'
import type { ConversationMessage } from './types.ts'

export class Conversation {
  readonly #core: Core
  readonly #outgoing: Outgoing
  readonly #inbox: Inbox
  readonly sessionId: SessionId

  constructor(core: Core, outgoing: Outgoing, inbox: Inbox, sessionId: SessionId) {
    this.#core = core
    this.#outgoing = outgoing
    this.#inbox = inbox
    this.sessionId = sessionId
  }

  /**
   * Sends one message; resolves with its id when it is on disk.
   *
   * @param payload of the type's shape in `spec/schemas/payload/`
   * @param inReplyTo the message this one answers
   * @throws MALFORMED, SESSION_UNKNOWN, SESSION_CLOSED, SESSION_EXPIRED, OUT_OF_TURN, LIMIT_MESSAGES, LIMIT_SIZE,
   *   FLOW_BLOCKED
   */
  async send<T extends EnvelopeType>(
    type: T,
    payload: Payload<T>,
    inReplyTo?: MessageId,
  ): Promise<MessageId> {
    const id = newMessageId(this.#core.random)
    await commit(this.#core, (afterCommit) => {
      this.#outgoing.onSession(
        this.sessionId,
        { type, payload, id, ...(inReplyTo === undefined ? {} : { inReplyTo }) },
        afterCommit,
      )
    })
    return id
  }

  /** Ends the session for both; nothing happens when it is over already. @throws SESSION_UNKNOWN */
  async close(payload: ClosePayload = { reason: 'completed' }): Promise<void> {
    await commit(this.#core, (afterCommit) => {
      const row = this.#core.store.tables.sessions.get(this.sessionId)
      if (!row) throw new AgentMeshError('SESSION_UNKNOWN')
      if (row.session.state === 'open') this.#outgoing.close(row, payload, afterCommit)
    })
  }

  /** As `messages()`. */
  [Symbol.asyncIterator](): AsyncGenerator<ConversationMessage, void, void> {
    return this.messages()
  }

  /** What the application takes from the iterator is read: the peer learns it, and may send more. */
  async #read(message: ConversationMessage): Promise<void> {
    if (message.direction === 'out' || message.sequence === undefined) return
    await this.#inbox.read(this.sessionId, message.sequence)
  }

  /**
   * Both sides' messages from the first one, then each as it comes, until the session is closed or the signal
   * aborts. Taking a peer's message from the iterator tells the peer that it was read.
   *
   * @throws SESSION_UNKNOWN
   */
  async *messages(signal?: AbortSignal): AsyncGenerator<ConversationMessage, void, void> {
    const stop = new AbortController()
    const signals = signal === undefined ? [stop.signal] : [stop.signal, signal]
    const events = on(this.#core.events, 'message', { signal: AbortSignal.any(signals) })
    const closed = (): boolean =>
      this.#core.store.tables.sessions.get(this.sessionId)?.session.state !== 'open'
    const seen = new Set<MessageId>()
    try {
      const row = this.#core.store.tables.sessions.get(this.sessionId)
      if (!row) throw new AgentMeshError('SESSION_UNKNOWN')
      for (const message of detail(this.#core, row).messages) {
        seen.add(message.id)
        await this.#read(message)
        yield message
      }
      if (closed()) return
      for await (const [message] of events as AsyncIterable<[ConversationMessage]>) {
        if (message.session_id !== this.sessionId || seen.has(message.id)) continue
        await this.#read(message)
        yield message
        if (message.type === 'close') return
      }
    } catch (error) {
      if (signal?.aborted) return
      throw error
    } finally {
      stop.abort()
    }
  }
}

/** A message that was sent: where it is, and its answer. */
import { on } from 'node:events'
import { AgentMeshError, isErrorCode, type MessageId } from '../wire/index.ts'
import type { Core } from './core.ts'
import type { Answer, ProgressEvent } from './types.ts'

export class SentMessage {
  readonly #core: Core
  readonly id: MessageId

  constructor(core: Core, id: MessageId) {
    this.#core = core
    this.id = id
  }

  /**
   * Every stage so far and each new one; ends when the message is answered or failed.
   *
   * @throws MESSAGE_UNKNOWN; WAIT_TIMEOUT when the signal aborts
   */
  async *progress(signal?: AbortSignal): AsyncGenerator<ProgressEvent, void, void> {
    const stop = new AbortController()
    const signals = signal === undefined ? [stop.signal] : [stop.signal, signal]
    // Listening starts before the row is read, so that no stage falls between.
    const events = on(this.#core.events, 'progress', { signal: AbortSignal.any(signals) })
    try {
      const row = this.#core.store.tables.outgoing.get(this.id)
      if (!row) throw new AgentMeshError('MESSAGE_UNKNOWN')
      for (const event of row.progress) {
        yield event
        if (isLast(event)) return
      }
      for await (const [id, event] of events) {
        if (id !== this.id) continue
        yield event as ProgressEvent
        if (isLast(event as ProgressEvent)) return
      }
    } catch (error) {
      if (signal?.aborted)
        throw new AgentMeshError('WAIT_TIMEOUT', 'No answer in the time given', { cause: error })
      throw error
    } finally {
      stop.abort()
    }
  }

  /**
   * The peer's answer.
   *
   * @param options.timeoutSeconds gives up waiting; the message itself goes on
   * @returns the response, or the error the peer answered with: look at `type`
   * @throws the code the message failed with (KNOCK_REJECTED, AGENT_NOT_FOUND, ...), MESSAGE_UNKNOWN, WAIT_TIMEOUT
   */
  async answer(options: { timeoutSeconds?: number } = {}): Promise<Answer> {
    const signal =
      options.timeoutSeconds === undefined ? undefined : AbortSignal.timeout(options.timeoutSeconds * 1000)
    for await (const event of this.progress(signal)) {
      if (event.stage === 'answered' && event.answer) return event.answer
      if (event.stage === 'failed') {
        const code = event.code !== undefined && isErrorCode(event.code) ? event.code : 'MESSAGE_FAILED'
        throw new AgentMeshError(code, event.message, { operation: 'send' })
      }
    }
    throw new AgentMeshError('WAIT_TIMEOUT', 'No answer in the time given')
  }
}

function isLast(event: ProgressEvent): boolean {
  return event.stage === 'answered' || event.stage === 'failed'
}

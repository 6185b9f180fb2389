/** A message that was sent: where it is, and its answer. */
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
    const queue: ProgressEvent[] = []
    // A stage whose commit is just done stands in the row, and is told once more after it.
    const told = new Set<string>()
    let wake = (): void => {}
    const listen = (id: MessageId, event: ProgressEvent): void => {
      if (id !== this.id || told.has(nameOf(event))) return
      queue.push(event)
      wake()
    }
    const abort = (): void => wake()
    // Listening starts before the row is read, so that no stage falls between.
    this.#core.events.on('progress', listen)
    signal?.addEventListener('abort', abort)
    try {
      const row = this.#core.store.tables.outgoing.get(this.id)
      if (!row) throw new AgentMeshError('MESSAGE_UNKNOWN')
      for (const event of row.progress) told.add(nameOf(event))
      queue.push(...row.progress)
      for (;;) {
        for (let event = queue.shift(); event; event = queue.shift()) {
          yield event
          if (isLast(event)) return
        }
        if (signal?.aborted) throw new AgentMeshError('WAIT_TIMEOUT', 'No answer in the time given')
        await new Promise<void>((resolve) => {
          wake = resolve
        })
      }
    } finally {
      this.#core.events.off('progress', listen)
      signal?.removeEventListener('abort', abort)
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

function nameOf({ stage, at }: ProgressEvent): string {
  return `${stage} ${at}`
}

function isLast(event: ProgressEvent): boolean {
  return event.stage === 'answered' || event.stage === 'failed'
}

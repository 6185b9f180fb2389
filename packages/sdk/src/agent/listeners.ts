/**
 * Programs that answer requests through the local API. A request goes to the listener with the least to do; one that
 * leaves gives its requests back. Without a listener requests wait on disk.
 *
 * A request is answered under a handle that is drawn for that one hand-over. Its own id is its sender's choice: an answer that
 * comes late, when the listener's stream has broken, must not go to somebody else who chose the same one.
 */
import { systemRandom } from '../crypto/signing.ts'
import { AgentMeshError, newMessageId, type StatusPayload } from '../wire/index.ts'
import type { Agent } from './agent.ts'
import type { AnswerInput, IncomingRequest, RequestContext } from './types.ts'

/** One line of the stream a listener reads. */
export type ListenerEvent =
  | { type: 'ready' }
  /** `handle`: what answer and statuses are sent under. Handed out again, a request has another. */
  | { type: 'request'; handle: string; request: IncomingRequest }
  /** The session of a request ended: nobody waits for its answer. */
  | { type: 'cancelled'; handle: string }
  /** The owner's emergency stop: end what answers. */
  | { type: 'emergency_stop' }

interface Open {
  listener: Listener
  context: RequestContext
  resolve(answer: AnswerInput): void
  reject(error: unknown): void
}

class Listener {
  /** Handles. */
  readonly open = new Set<string>()
  #queue: ListenerEvent[] = [{ type: 'ready' }]
  #wake: (() => void) | undefined
  #ended = false

  push(event: ListenerEvent): void {
    this.#queue.push(event)
    this.#wake?.()
  }

  end(): void {
    this.#ended = true
    this.#wake?.()
  }

  async *events(): AsyncGenerator<ListenerEvent, void, void> {
    for (;;) {
      const event = this.#queue.shift()
      if (event) yield event
      else if (this.#ended) return
      else {
        await new Promise<void>((resolve) => {
          this.#wake = resolve
        })
      }
    }
  }
}

export class Listeners {
  readonly #agent: Agent
  readonly #listeners = new Set<Listener>()
  /** By handle. */
  readonly #open = new Map<string, Open>()

  constructor(agent: Agent) {
    this.#agent = agent
  }

  /** Adds a listener for as long as the signal lasts; yields what it is to answer. */
  attach(signal: AbortSignal): AsyncIterable<ListenerEvent> {
    const listener = new Listener()
    this.#listeners.add(listener)
    signal.addEventListener('abort', () => this.#detach(listener))
    if (this.#listeners.size === 1) {
      this.#agent.on('request', (request, context) => this.#offer(request, context))
    }
    return listener.events()
  }

  #detach(listener: Listener): void {
    this.#listeners.delete(listener)
    listener.end()
    if (this.#listeners.size === 0) this.#agent.off('request')
    for (const handle of listener.open) {
      this.#open.get(handle)?.reject(new AgentMeshError('LISTENER_GONE'))
    }
  }

  async #offer(request: IncomingRequest, context: RequestContext): Promise<AnswerInput> {
    const [listener] = [...this.#listeners].toSorted((left, right) => left.open.size - right.open.size)
    if (!listener) throw new AgentMeshError('LISTENER_GONE')
    const handle: string = newMessageId(systemRandom)
    const cancel = () => listener.push({ type: 'cancelled', handle })
    context.signal.addEventListener('abort', cancel)
    try {
      return await new Promise<AnswerInput>((resolve, reject) => {
        this.#open.set(handle, { listener, context, resolve, reject })
        listener.open.add(handle)
        listener.push({ type: 'request', handle, request })
      })
    } finally {
      context.signal.removeEventListener('abort', cancel)
      this.#open.delete(handle)
      listener.open.delete(handle)
    }
  }

  #find(handle: string): Open {
    const open = this.#open.get(handle)
    if (!open) throw new AgentMeshError('MESSAGE_UNKNOWN', 'No open request has this handle')
    return open
  }

  /**
   * Resolves when the answer is safe on disk.
   *
   * @throws MESSAGE_UNKNOWN when nobody was asked, or it is answered already; LIMIT_*, MALFORMED, SESSION_* when it cannot be
   *   sent; then the peer is told that no answer comes
   */
  async answer(handle: string, answer: AnswerInput): Promise<void> {
    const open = this.#find(handle)
    open.resolve(answer)
    await open.context.answered
  }

  /** @throws MESSAGE_UNKNOWN, and what sending a status throws */
  status(handle: string, status: StatusPayload): Promise<void> {
    return this.#find(handle).context.status(status)
  }

  /** Tells every listener to end the program it runs. */
  stopPrograms(): void {
    for (const listener of this.#listeners) listener.push({ type: 'emergency_stop' })
  }

  close(): void {
    for (const listener of this.#listeners) this.#detach(listener)
  }
}

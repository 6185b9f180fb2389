/**
 * A client of a home's daemon: the same calls as `Agent`, over the local API. What the command line, the owner's page
 * and adapters are written against, through a door of its own (`@agentmesh/sdk/client`): it
 * loads none of what agents are made of.
 */
import { createReadStream } from 'node:fs'
import { request as httpRequest, type IncomingMessage } from 'node:http'
import { basename } from 'node:path'
import { pipeline } from 'node:stream/promises'
import type { AuditRecord } from '../observability/index.ts'
import type { SearchQuery } from '../discovery/index.ts'
import type { Policy } from '../session/index.ts'
import {
  AgentMeshError,
  isErrorCode,
  type ClosePayload,
  type EnvelopeType,
  type FeedbackTag,
  type Intent,
  type MessageId,
  type Payload,
  type PresenceState,
  type SearchAnswer,
  type StatusPayload,
} from '../wire/index.ts'
import type { Actor } from './core.ts'
import type { ListenerEvent } from './listeners.ts'
import { localApiPath } from './local-api-path.ts'
import type { TrustSummary } from './trust/trust-file.ts'
import type {
  AgentStatus,
  AnswerInput,
  AttachmentInfo,
  AttachmentSource,
  ConversationMessage,
  DecisionRecord,
  ProgressEvent,
  RequestInput,
  SendOptions,
  SessionDetail,
  SessionExport,
  SessionSummary,
  SuccessorSummary,
} from './types.ts'

export { defaultHomePath } from './local-api-path.ts'

/**
 * Methods do and throw what those of `Agent` with the same name do. All throw DAEMON_NOT_RUNNING when nobody serves
 * the home or the daemon goes away meanwhile, and INTERNAL for a mistake in the daemon, which its log explains.
 * Streams throw WAIT_TIMEOUT when their signal aborts.
 */
export class AgentClient {
  readonly #path: string
  readonly #actor: Actor

  /**
   * @param home the agent's home folder, absolute
   * @param actor who is named in the audit log
   */
  constructor(home: string, actor: Actor = 'api') {
    this.#path = localApiPath(home)
    this.#actor = actor
  }

  status(): Promise<AgentStatus> {
    return this.#call('GET', 'status')
  }

  search(query: SearchQuery): Promise<SearchAnswer> {
    const entries = Object.entries(query).map(([name, value]): [string, string] => [name, String(value)])
    return this.#call('GET', `search?${new URLSearchParams(entries).toString()}`)
  }

  /** Resolves with the message's id when it is safe on the daemon's disk. @throws as `Agent.send` */
  async send(to: string, request: RequestInput, options: SendOptions = {}): Promise<MessageId> {
    const stored = await this.#withHandles(request)
    const { id } = await this.#call<{ id: MessageId }>('POST', 'send', { to, request: stored, options })
    return id
  }

  /** Stores a file that a message is to name by its handle within the hour. @throws as `Attachments.store` */
  async storeAttachment(
    data: Uint8Array | AsyncIterable<Uint8Array>,
    { name, mediaType }: { name?: string; mediaType?: string } = {},
  ): Promise<AttachmentInfo> {
    const query = new URLSearchParams({
      ...(name === undefined ? {} : { name }),
      ...(mediaType === undefined ? {} : { media_type: mediaType }),
    })
    const response = await this.#open('POST', `attachments?${query.toString()}`, data)
    return readJson(response)
  }

  /** Files are brought to the daemon first: it reads no path that a client names. @throws ATTACHMENT_UNREADABLE */
  async #withHandles(message: { attachments?: readonly AttachmentSource[] }): Promise<object> {
    if (message.attachments === undefined || message.attachments.length === 0) return message
    const attachments: { handle: string }[] = []
    for (const source of message.attachments) {
      if ('handle' in source) attachments.push({ handle: source.handle })
      else {
        const data = 'path' in source ? readPath(source.path) : source.data
        const name = source.name ?? ('path' in source ? basename(source.path) : undefined)
        const { handle } = await this.storeAttachment(data, {
          ...source,
          ...(name === undefined ? {} : { name }),
        })
        attachments.push({ handle })
      }
    }
    return { ...message, attachments }
  }

  /** The bytes of a peer's file. @throws ATTACHMENT_UNKNOWN */
  async attachment(handle: string): Promise<AsyncIterable<Uint8Array>> {
    return this.#open('GET', `attachments/${encodeURIComponent(handle)}`)
  }

  /** Asks a peer what it can do; resolves as `send`, and the answer comes as one. @throws as `Agent.negotiate` */
  async negotiate(
    to: string,
    intent: Intent,
    need: Payload<'capability_negotiation'>,
    options: SendOptions = {},
  ): Promise<MessageId> {
    const { id } = await this.#call<{ id: MessageId }>('POST', 'negotiate', { to, intent, need, options })
    return id
  }

  /**
   * Every stage of a message so far and to come; ends with `answered` or `failed`.
   *
   * @throws INVALID_ID, MESSAGE_UNKNOWN
   */
  progress(id: string, signal?: AbortSignal): AsyncGenerator<ProgressEvent, void, void> {
    return this.#stream(`messages/${encodeURIComponent(id)}/progress`, signal)
  }

  async sessions(): Promise<SessionSummary[]> {
    return (await this.#call<{ sessions: SessionSummary[] }>('GET', 'sessions')).sessions
  }

  session(id: string): Promise<SessionDetail> {
    return this.#call('GET', `sessions/${encodeURIComponent(id)}`)
  }

  /** @param options.keys adds the session's keys: read the warning of `Agent.exportSession`. */
  exportSession(id: string, options: { keys?: boolean } = {}): Promise<SessionExport> {
    return this.#call('POST', `sessions/${encodeURIComponent(id)}/export`, options)
  }

  /** @throws INVALID_ID, SESSION_UNKNOWN */
  async killSession(id: string): Promise<void> {
    await this.#call('POST', `sessions/${encodeURIComponent(id)}/kill`)
  }

  /** Ends the session for both, with a reason. @throws INVALID_ID, SESSION_UNKNOWN, MALFORMED */
  async closeSession(id: string, payload: ClosePayload): Promise<void> {
    await this.#call('POST', `sessions/${encodeURIComponent(id)}/close`, payload)
  }

  /** @param rating 0 to 1. @throws as `Agent.rate` */
  async rateSession(id: string, rating: number, tags: readonly FeedbackTag[] = []): Promise<void> {
    await this.#call('POST', `sessions/${encodeURIComponent(id)}/rate`, { rating, tags })
  }

  async trustedRegistries(): Promise<TrustSummary[]> {
    return (await this.#call<{ registries: TrustSummary[] }>('GET', 'trust')).registries
  }

  /** What a registry says it is. @throws as `TrustKeeper.inspect` */
  inspectRegistry(url: string): Promise<Pick<TrustSummary, 'name' | 'url' | 'fingerprint'>> {
    return this.#call('GET', `trust/inspect?${new URLSearchParams({ url }).toString()}`)
  }

  /** @throws as `TrustKeeper.add` */
  async trustRegistry(url: string, fingerprint: string): Promise<void> {
    await this.#call('POST', 'trust', { url, fingerprint })
  }

  /** @param which name or fingerprint. @throws TRUST_UNKNOWN */
  distrustRegistry(which: string): Promise<TrustSummary> {
    return this.#call('POST', 'trust/remove', { registry: which })
  }

  /** Fetches certificates, lists and credentials that are due. @throws as `TrustKeeper.refresh` */
  async refreshTrust(): Promise<void> {
    await this.#call('POST', 'trust/refresh')
  }

  async successors(): Promise<SuccessorSummary[]> {
    return (await this.#call<{ successors: SuccessorSummary[] }>('GET', 'successors')).successors
  }

  /** @throws as `Successions.accept` */
  async acceptSuccessor(oldAmid: string, newAmid: string): Promise<void> {
    await this.#call('POST', 'successors/accept', { old_amid: oldAmid, new_amid: newAmid })
  }

  /** Sends one message on an open session; resolves with its id. @throws as `Conversation.send` */
  async sendOnSession<T extends EnvelopeType>(
    id: string,
    message: { type: T; payload: Payload<T>; in_reply_to?: MessageId },
  ): Promise<MessageId> {
    const path = `sessions/${encodeURIComponent(id)}/messages`
    return (await this.#call<{ id: MessageId }>('POST', path, message)).id
  }

  /**
   * A session's messages so far and to come, both directions; ends with the session.
   *
   * @throws INVALID_ID, SESSION_UNKNOWN
   */
  messages(id: string, signal?: AbortSignal): AsyncGenerator<ConversationMessage, void, void> {
    return this.#stream(`sessions/${encodeURIComponent(id)}/messages`, signal)
  }

  /** Requests to answer with `answer`, for as long as the stream is read. */
  requests(signal?: AbortSignal): AsyncGenerator<ListenerEvent, void, void> {
    return this.#stream('requests', signal)
  }

  /**
   * Answers a request of the `requests` stream, under the handle it was handed out with.
   *
   * @throws MESSAGE_UNKNOWN, and why it cannot be sent: LIMIT_SIZE, MALFORMED, SESSION_*
   */
  async answer(handle: string, answer: AnswerInput): Promise<void> {
    const stored = 'error' in answer ? answer : await this.#withHandles(answer)
    await this.#call('POST', `requests/${encodeURIComponent(handle)}/answer`, stored)
  }

  /** Tells the peer how far the work on its request is. @throws MESSAGE_UNKNOWN, MALFORMED, SESSION_*, LIMIT_* */
  async requestStatus(handle: string, status: StatusPayload): Promise<void> {
    await this.#call('POST', `requests/${encodeURIComponent(handle)}/status`, status)
  }

  /** @param from an AMID: only its KNOCKs. @throws INVALID_AMID */
  async decisions(from?: string): Promise<DecisionRecord[]> {
    const query = from === undefined ? '' : `?${new URLSearchParams({ from }).toString()}`
    return (await this.#call<{ decisions: DecisionRecord[] }>('GET', `decisions${query}`)).decisions
  }

  policy(): Promise<Policy> {
    return this.#call('GET', 'policy')
  }

  /** Replaces the whole policy. @throws POLICY_INVALID; then the old one stays in force */
  setPolicy(policy: object): Promise<Policy> {
    return this.#call('PUT', 'policy', policy)
  }

  async block(amid: string): Promise<void> {
    await this.#call('POST', 'block', { amid })
  }

  async allow(amid: string): Promise<void> {
    await this.#call('POST', 'allow', { amid })
  }

  /** Ends every session with a peer and deletes what is held about it. @throws INVALID_AMID */
  async forget(amid: string): Promise<void> {
    await this.#call('POST', 'forget', { amid })
  }

  /** Until the daemon ends. */
  async setPresence(state: PresenceState): Promise<void> {
    await this.#call('POST', 'presence', { state })
  }

  async pause(): Promise<void> {
    await this.#call('POST', 'pause')
  }

  async resume(): Promise<void> {
    await this.#call('POST', 'resume')
  }

  /** Off the network until `resume`, also across restarts. */
  async shutdown(): Promise<void> {
    await this.#call('POST', 'shutdown')
  }

  /** `shutdown`, then ends answering programs, the agent framework and the daemon. */
  async emergencyStop(): Promise<void> {
    await this.#call('POST', 'emergency-stop')
  }

  /** What the agent remembers of its audit log, to check the files against. */
  auditRecord(): Promise<AuditRecord> {
    return this.#call('GET', 'audit')
  }

  /** @throws NOT_FOUND when the log has no such gap */
  async acknowledgeGap(gap: string): Promise<void> {
    await this.#call('POST', 'audit/acknowledge', { gap })
  }

  /** Ends the daemon; the agent keeps its state. */
  async down(): Promise<void> {
    await this.#call('POST', 'down')
  }

  async #call<T>(method: string, path: string, body?: object): Promise<T> {
    return readJson(await this.#open(method, path, body))
  }

  async *#stream<T>(path: string, signal?: AbortSignal): AsyncGenerator<T, void, void> {
    const response = await this.#open('GET', path, undefined, signal)
    let rest = ''
    try {
      for await (const chunk of response.setEncoding('utf8') as AsyncIterable<string>) {
        const lines = (rest + chunk).split('\n')
        rest = lines.pop() ?? ''
        for (const line of lines) yield JSON.parse(line) as T
      }
    } catch (cause) {
      if (signal?.aborted) throw new AgentMeshError('WAIT_TIMEOUT', undefined, { cause })
      throw new AgentMeshError('DAEMON_NOT_RUNNING', 'The daemon went away', { cause })
    } finally {
      response.destroy()
    }
  }

  /** @param body bytes as they are, anything else as JSON */
  #open(method: string, path: string, body?: object, signal?: AbortSignal): Promise<IncomingMessage> {
    return new Promise((resolve, reject) => {
      const bytes = body !== undefined && (body instanceof Uint8Array || Symbol.asyncIterator in body)
      const text = body === undefined || bytes ? undefined : JSON.stringify(body)
      const request = httpRequest({
        socketPath: this.#path,
        method,
        path: `/v1/${path}`,
        headers: {
          'x-agentmesh-actor': this.#actor,
          ...(text === undefined ? {} : { 'content-type': 'application/json' }),
        },
        ...(signal === undefined ? {} : { signal }),
      })
      request.on('error', (cause) => {
        const code = signal?.aborted ? 'WAIT_TIMEOUT' : 'DAEMON_NOT_RUNNING'
        reject(new AgentMeshError(code, undefined, { cause }))
      })
      request.on('response', (response) => {
        if (response.statusCode === 200) resolve(response)
        else void readError(response).then(reject, reject)
      })
      if (bytes) {
        const source = body instanceof Uint8Array ? [body] : (body as AsyncIterable<Uint8Array>)
        // A daemon that does not take it answers and closes: that answer counts.
        pipeline(source, request).catch((cause: unknown) => {
          request.destroy()
          reject(cause instanceof Error ? cause : new Error(String(cause)))
        })
      } else request.end(text)
    })
  }
}

async function* readPath(path: string): AsyncGenerator<Uint8Array, void, void> {
  try {
    for await (const bytes of createReadStream(path)) yield bytes as Buffer
  } catch (cause) {
    throw new AgentMeshError('ATTACHMENT_UNREADABLE', undefined, { operation: `read ${path}`, cause })
  }
}

async function readJson<T>(response: IncomingMessage): Promise<T> {
  const chunks: Buffer[] = []
  for await (const chunk of response as AsyncIterable<Buffer>) chunks.push(chunk)
  return JSON.parse(Buffer.concat(chunks).toString()) as T
}

async function readError(response: IncomingMessage): Promise<AgentMeshError> {
  const body = await readJson<{ code: string; message: string; retry_after_seconds?: number }>(response)
  return new AgentMeshError(
    isErrorCode(body.code) ? body.code : 'INTERNAL',
    body.message,
    body.retry_after_seconds === undefined ? {} : { retryAfterSeconds: body.retry_after_seconds },
  )
}

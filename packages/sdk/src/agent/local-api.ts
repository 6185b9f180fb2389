/**
 * The local API: how the command line, the owner's page and adapters use the one daemon of a home (DESIGN §2). HTTP with
 * JSON bodies over a Unix socket of mode 0600 (a named pipe on Windows); streams are one JSON value a line. Whoever can
 * open the socket is the owner.
 *
 *   GET  /v1/status  /v1/policy  /v1/decisions?from=  /v1/search?capability=...
 *   POST /v1/send                       { to, request, options }          -> { id }
 *   POST /v1/attachments?name=&media_type=   the bytes of a file   -> AttachmentInfo; a message names it within the hour
 *   GET  /v1/attachments/{handle}       the bytes of a peer's file
 *   POST /v1/negotiate                  { to, intent, need, options }     -> { id }
 *   GET  /v1/trust  /v1/trust/inspect?url=
 *   POST /v1/trust  { url, fingerprint }  /v1/trust/remove  { registry }  /v1/trust/refresh
 *   GET  /v1/audit                                                        -> AuditRecord
 *   POST /v1/audit/acknowledge          { gap }
 *   GET  /v1/successors
 *   POST /v1/successors/accept          { old_amid, new_amid }
 *   GET  /v1/messages/{id}/progress     stream of ProgressEvent, ends with answered or failed
 *   GET  /v1/sessions  /v1/sessions/{id}
 *   POST /v1/sessions/{id}/kill  /v1/sessions/{id}/close
 *   POST /v1/sessions/{id}/export       { keys }                          -> SessionExport
 *   POST /v1/sessions/{id}/rate         { rating, tags? }
 *   POST /v1/sessions/{id}/messages     { type, payload, in_reply_to? }   -> { id }
 *   GET  /v1/sessions/{id}/messages     stream of ConversationMessage, ends with the session
 *   GET  /v1/requests                   stream of ListenerEvent: this connection answers requests while it lasts
 *   POST /v1/requests/{handle}/answer  /v1/requests/{handle}/status
 *   PUT  /v1/policy
 *   POST /v1/block  /v1/allow  /v1/forget  /v1/presence  /v1/pause  /v1/resume  /v1/shutdown  /v1/emergency-stop  /v1/down
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import { chmodSync, rmSync } from 'node:fs'
import { pipeline } from 'node:stream/promises'
import type { Static, TSchema } from 'typebox'
import {
  AgentMeshError,
  AmidText,
  CapabilityNegotiationPayload,
  ClosePayload,
  Embedded,
  ErrorPayload,
  FeedbackTag,
  formatTimestamp,
  Intent,
  isAgentMeshError,
  MAX_ATTACHMENTS,
  MessageIdText,
  parseAmid,
  parseJsonObject,
  PAYLOADS,
  PresenceState,
  RegistryFingerprint,
  RequestPayload,
  SchemaName,
  SessionType,
  StatusPayload,
  validate,
  type EnvelopeType,
  type ErrorCode,
  type JsonObject,
  type Payload,
  type TierName,
  Type,
} from '../wire/index.ts'
import type { Agent } from './agent.ts'
import type { ReceivedAttachment } from './attachments/rows.ts'
import type { Actor } from './core.ts'
import { Listeners } from './listeners.ts'
import { localApiPath } from './local-api-path.ts'

/** A policy file is the largest thing sent here. */
const MAX_BODY_BYTES = 2 * 1024 * 1024
const BASE = 'http://local'

const Options = Type.Optional(
  Type.Object({
    id: Type.Optional(MessageIdText),
    sessionType: Type.Optional(SessionType),
    ttlSeconds: Type.Optional(Type.Integer({ minimum: 1, maximum: 30 * 86_400 })),
    expiresInSeconds: Type.Optional(Type.Integer({ minimum: 1, maximum: 72 * 3600 })),
  }),
)
/** Files stored here before: a client names no path of this machine. */
const Files = Type.Optional(
  Type.Array(Type.Object({ handle: Type.String({ maxLength: 64 }) }), { maxItems: MAX_ATTACHMENTS }),
)
const SendBody = Type.Object({
  to: AmidText,
  request: Type.Object({ ...RequestPayload.properties, attachments: Files }),
  options: Options,
})
const NegotiateBody = Type.Object({
  to: AmidText,
  intent: Embedded(Intent),
  need: Embedded(CapabilityNegotiationPayload),
  options: Options,
})
const MessageBody = Type.Object({
  type: Type.Enum(Object.keys(PAYLOADS) as EnvelopeType[]),
  payload: Type.Record(Type.String(), Type.Unknown()),
  in_reply_to: Type.Optional(MessageIdText),
})
const AnswerBody = Type.Union([
  Type.Object({
    results: Type.Unknown(),
    status: Type.Optional(Type.Enum(['success', 'partial', 'failure'])),
    result_count: Type.Optional(Type.Integer({ minimum: 0 })),
    schema: Type.Optional(SchemaName),
    attachments: Files,
  }),
  Type.Object({ error: Embedded(ErrorPayload) }),
])
const PeerBody = Type.Object({ amid: AmidText })
const SuccessorBody = Type.Object({ old_amid: AmidText, new_amid: AmidText })
const GapBody = Type.Object({ gap: Type.String({ maxLength: 64 }) })
const ExportBody = Type.Object({ keys: Type.Optional(Type.Boolean()) })
const TrustBody = Type.Object({
  url: Type.String({ maxLength: 256, pattern: '^https?://[!-~]+$' }),
  fingerprint: RegistryFingerprint,
})
const DistrustBody = Type.Object({ registry: Type.String({ maxLength: 64 }) })
const RatingBody = Type.Object({
  rating: Type.Number({ minimum: 0, maximum: 1 }),
  tags: Type.Optional(Type.Array(FeedbackTag, { maxItems: 8, uniqueItems: true })),
})
const PresenceBody = Type.Object({ state: PresenceState })

interface Call {
  readonly request: IncomingMessage
  readonly response: ServerResponse
  readonly query: URLSearchParams
  readonly parts: readonly string[]
  readonly by: Actor
  body<T extends TSchema>(schema: T): Promise<Static<T>>
  json(): Promise<JsonObject>
}

type Handler = (call: Call) => unknown

export class LocalApi {
  readonly #agent: Agent
  readonly #server: Server
  readonly #listeners: Listeners
  readonly #onDown: (reason: string) => void
  readonly #routes: Readonly<Record<string, Handler>>

  /** @param onDown asked by a client to end the daemon */
  constructor(agent: Agent, onDown: (reason: string) => void) {
    this.#agent = agent
    this.#onDown = onDown
    this.#listeners = new Listeners(agent)
    this.#routes = this.#table()
    this.#server = createServer((request, response) => void this.#serve(request, response))
    // A stream may be quiet for as long as its session is.
    this.#server.requestTimeout = 0
  }

  /** Begins to serve on the home's socket. @throws HOME_FAILED */
  async listen(): Promise<void> {
    const path = localApiPath(this.#agent.home)
    // The lock says no other daemon lives: a socket that is there was left by one that died.
    if (process.platform !== 'win32') rmSync(path, { force: true })
    await new Promise<void>((resolve, reject) => {
      this.#server.once('error', (cause) =>
        reject(new AgentMeshError('HOME_FAILED', undefined, { operation: `listen on ${path}`, cause })),
      )
      // The folder is 0700, so nobody else can connect before the mode is set.
      this.#server.listen(path, () => {
        if (process.platform !== 'win32') chmodSync(path, 0o600)
        resolve()
      })
    })
  }

  async close(): Promise<void> {
    this.#listeners.close()
    const closed = new Promise<void>((resolve) => {
      this.#server.close(() => resolve())
    })
    this.#server.closeAllConnections()
    await closed
  }

  #table(): Readonly<Record<string, Handler>> {
    const agent = this.#agent
    return {
      'GET status': () => agent.status(),
      'GET policy': () => agent.policy(),
      'PUT policy': async (call) => agent.setPolicy(await call.json(), call.by),
      'GET decisions': ({ query }) => {
        const from = query.get('from')
        return { decisions: agent.decisions(from === null ? {} : { from: parseAmid(from) }) }
      },
      'GET search': ({ query }) => agent.search(searchQuery(query)),
      'GET trust': () => ({ registries: agent.trust.list() }),
      'GET trust/inspect': ({ query }) => agent.trust.inspect(query.get('url') ?? ''),
      'POST trust': async (call) => {
        const { url, fingerprint } = await call.body(TrustBody)
        await agent.trust.add(url, fingerprint)
      },
      'POST trust/remove': async (call) => agent.trust.remove((await call.body(DistrustBody)).registry),
      'POST trust/refresh': () => agent.trust.refresh(),
      'GET audit': () => agent.auditTrail.record(),
      'POST audit/acknowledge': async (call) =>
        agent.auditTrail.acknowledge((await call.body(GapBody)).gap, call.by),
      'GET successors': () => ({ successors: agent.successions.list() }),
      'POST successors/accept': async (call) => {
        const { old_amid, new_amid } = await call.body(SuccessorBody)
        await agent.successions.accept(old_amid, new_amid, call.by)
      },
      'POST send': async (call) => {
        const { to, request, options } = await call.body(SendBody)
        const sent = await agent.send(to, request, options ?? {})
        return { id: sent.id }
      },
      'POST attachments': ({ request, query }) => {
        const [name, mediaType] = [query.get('name'), query.get('media_type')]
        return agent.attachments.store({
          // Not destroyed when we stop reading: the client is to hear why.
          data: request.iterator({ destroyOnReturn: false }),
          ...(name === null ? {} : { name }),
          ...(mediaType === null ? {} : { mediaType }),
        })
      },
      'GET attachments/*': ({ parts, response }) =>
        sendFile(response, agent.attachments.byHandle(parts[0] ?? '')),
      'POST negotiate': async (call) => {
        const { to, intent, need, options } = await call.body(NegotiateBody)
        const sent = await agent.negotiate(to, intent, need, options ?? {})
        return { id: sent.id }
      },
      'GET messages/*/progress': ({ parts, response }) =>
        stream(response, (signal) => agent.sent(parts[0] ?? '').progress(signal)),
      'GET sessions': () => ({ sessions: agent.sessions() }),
      'GET sessions/*': ({ parts }) => agent.session(parts[0] ?? ''),
      'POST sessions/*/kill': ({ parts, by }) => agent.killSession(parts[0] ?? '', by),
      'POST sessions/*/export': async (call) =>
        agent.exportSession(call.parts[0] ?? '', await call.body(ExportBody), call.by),
      'POST sessions/*/close': async (call) =>
        agent.conversation(call.parts[0] ?? '').close(await call.body(ClosePayload)),
      'POST sessions/*/rate': async (call) => {
        const { rating, tags } = await call.body(RatingBody)
        await agent.rate(call.parts[0] ?? '', rating, tags)
      },
      'POST sessions/*/messages': async (call) => {
        const { type, payload, in_reply_to } = await call.body(MessageBody)
        const conversation = agent.conversation(call.parts[0] ?? '')
        return { id: await conversation.send(type, payload as Payload, in_reply_to) }
      },
      'GET sessions/*/messages': ({ parts, response }) =>
        stream(response, (signal) => agent.conversation(parts[0] ?? '').messages(signal)),
      'GET requests': ({ response }) => stream(response, (signal) => this.#listeners.attach(signal)),
      'POST requests/*/answer': async (call) =>
        this.#listeners.answer(call.parts[0] ?? '', await call.body(AnswerBody)),
      'POST requests/*/status': async (call) =>
        this.#listeners.status(call.parts[0] ?? '', await call.body(StatusPayload)),
      'POST block': async (call) => agent.block((await call.body(PeerBody)).amid, call.by),
      'POST forget': async (call) => agent.forget((await call.body(PeerBody)).amid, call.by),
      'POST allow': async (call) => agent.allow((await call.body(PeerBody)).amid, call.by),
      'POST presence': async (call) => agent.setPresence((await call.body(PresenceBody)).state),
      'POST pause': ({ by }) => agent.pause(by),
      'POST resume': ({ by }) => agent.resume(by),
      'POST shutdown': ({ by }) => agent.shutdown('shutdown', by),
      'POST emergency-stop': async ({ by }) => {
        await agent.shutdown('emergency_stop', by)
        this.#listeners.stopPrograms()
        await agent.stopFramework()
        this.#endAfterAnswer('emergency_stop')
      },
      'POST down': () => this.#endAfterAnswer('down'),
    }
  }

  #endAfterAnswer(reason: string): void {
    setImmediate(() => this.#onDown(reason))
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    try {
      const target = request.url ?? '/'
      if (!URL.canParse(target, BASE)) throw new AgentMeshError('NOT_FOUND')
      const url = new URL(target, BASE)
      const segments = url.pathname.split('/').filter(Boolean)
      const handler =
        segments[0] === 'v1' ? this.#route(request.method ?? 'GET', segments.slice(1)) : undefined
      if (!handler) throw new AgentMeshError('NOT_FOUND')
      const read = () => readBody(request)
      const actor = request.headers['x-agentmesh-actor']
      const result = await handler({
        request,
        response,
        query: url.searchParams,
        parts: segments.slice(2, 3),
        by: actor === 'cli' || actor === 'dashboard' ? actor : 'api',
        body: async (schema) => validate(schema, await read()),
        json: read,
      })
      if (!response.headersSent) answer(response, 200, result ?? {})
    } catch (error) {
      const known = isAgentMeshError(error)
        ? error
        : new AgentMeshError('INTERNAL', undefined, { cause: error })
      if (known.code === 'INTERNAL') this.#report(request, known)
      if (response.headersSent) response.destroy()
      else answer(response, httpStatus(known.code), errorBody(known))
    }
  }

  /** A mistake of ours: the client is told no more than that, the owner gets the rest. */
  #report({ method, url }: IncomingMessage, { cause }: AgentMeshError): void {
    const text = cause instanceof Error ? (cause.stack ?? cause.message) : String(cause)
    const notice = { at: formatTimestamp(Date.now()), about: `local API, ${method} ${url}`, text }
    this.#agent.events.emit('notice', notice)
  }

  #route(method: string, path: readonly string[]): Handler | undefined {
    const [first = '', , ...rest] = path
    const patterns = [path.join('/'), [first, '*', ...rest].join('/')]
    const key = patterns
      .map((pattern) => `${method} ${pattern}`)
      .find((known) => Object.hasOwn(this.#routes, known))
    return key === undefined ? undefined : this.#routes[key]
  }
}

function searchQuery(query: URLSearchParams) {
  const text = (name: string) => query.get(name) ?? undefined
  const action = text('action')
  const tier = text('tier_min') as TierName | undefined
  const cursor = text('cursor')
  const limit = text('limit')
  return {
    capability: text('capability') ?? '',
    ...(action === undefined ? {} : { action }),
    ...(tier === undefined ? {} : { tier_min: tier }),
    ...(cursor === undefined ? {} : { cursor }),
    ...(limit === undefined ? {} : { limit: Number(limit) }),
    ...(text('online') === 'true' ? { online: true } : {}),
  }
}

async function readBody(request: IncomingMessage): Promise<JsonObject> {
  const chunks: Buffer[] = []
  let size = 0
  // Not destroyed when we stop reading: the client is to hear why.
  const body: AsyncIterable<Buffer> = request.iterator({ destroyOnReturn: false })
  for await (const chunk of body) {
    size += chunk.length
    if (size > MAX_BODY_BYTES) throw new AgentMeshError('TOO_LARGE')
    chunks.push(chunk)
  }
  return parseJsonObject(size === 0 ? '{}' : Buffer.concat(chunks), MAX_BODY_BYTES)
}

/** One JSON value a line, until the source or the client ends. */
async function stream(
  response: ServerResponse,
  open: (signal: AbortSignal) => AsyncIterable<unknown>,
): Promise<void> {
  const abort = new AbortController()
  response.on('close', () => abort.abort())
  const source = open(abort.signal)[Symbol.asyncIterator]()
  response.on('close', () => void source.return?.())
  let next = await source.next()
  response.writeHead(200, { 'content-type': 'application/x-ndjson', 'cache-control': 'no-store' })
  response.flushHeaders()
  while (!next.done && !response.closed) {
    if (!response.write(`${JSON.stringify(next.value)}\n`)) {
      await new Promise((resolve) => {
        response.once('drain', resolve)
        response.once('close', resolve)
      })
    }
    next = await source.next()
  }
  response.end()
}

async function sendFile(response: ServerResponse, file: ReceivedAttachment): Promise<void> {
  // What a peer says a file is is not said on: no browser is to run it.
  const headers = { 'content-type': 'application/octet-stream', 'x-content-type-options': 'nosniff' }
  response.writeHead(200, { ...headers, 'content-length': file.size, 'cache-control': 'no-store' })
  await pipeline(file.stream(), response)
}

function answer(response: ServerResponse, status: number, body: unknown): void {
  response.writeHead(status, { 'content-type': 'application/json', 'cache-control': 'no-store' })
  response.end(JSON.stringify(body))
}

function errorBody(error: AgentMeshError) {
  const { code, message, retryAfterSeconds } = error
  return {
    code,
    message,
    ...(retryAfterSeconds === undefined ? {} : { retry_after_seconds: retryAfterSeconds }),
  }
}

const NOT_FOUND_CODES: ReadonlySet<ErrorCode> = new Set([
  'NOT_FOUND',
  'SESSION_UNKNOWN',
  'MESSAGE_UNKNOWN',
  'AGENT_NOT_FOUND',
  'SUCCESSION_UNKNOWN',
])

function httpStatus(code: ErrorCode): number {
  if (NOT_FOUND_CODES.has(code)) return 404
  if (code === 'INTERNAL' || code.startsWith('STATE_')) return 500
  return code === 'REGISTRY_UNREACHABLE' ? 502 : 400
}

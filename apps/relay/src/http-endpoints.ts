/**
 * What the relay answers over HTTP: health and metrics for operators, TURN credentials for agents.
 *
 *     GET  /healthz    the process
 *     GET  /readyz     the mailboxes too; 503 also while draining
 *     GET  /metrics    Prometheus text; only at the address of their own where that is set
 *     POST /v1/turn    TURN credentials, signed
 */
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Registry } from 'prom-client'
import { addressKey, clientAddress, type TrustedAddresses } from '@agentmesh/sdk/hosting'
import {
  AgentMeshError,
  isAgentMeshError,
  RELAY_PATH,
  TURN_PATH,
  type ErrorBody,
  type ErrorCode,
} from '@agentmesh/sdk/wire'
import type { Counters } from './counters.ts'
import type { RelayLogger } from './logger.ts'
import type { RateLimiter } from './rate-limit.ts'
import type { TurnDesk } from './turn-credentials.ts'

/** Degraded still counts as ready: it serves. */
export type Readiness = 'ready' | 'not ready' | `degraded: ${string}`

export interface HttpEndpointsOptions {
  readonly counters: Counters
  readonly logger: RelayLogger
  readonly proxies: TrustedAddresses
  readonly turn: TurnDesk
  /** By address. */
  readonly requests: RateLimiter
  /** Milliseconds since the epoch. */
  readonly now: () => number
  readonly relayIds: () => readonly string[]
  readonly readiness: () => Promise<Readiness>
  readonly metrics: () => Promise<Registry>
}

const STATUS: Partial<Record<ErrorCode, number>> = {
  INTERNAL: 500,
  INVALID_SIGNATURE: 401,
  SIGNATURE_EXPIRED: 401,
  SIGNATURE_REPLAYED: 401,
  AMID_MISMATCH: 403,
  WRONG_AUTHORITY: 403,
  TURN_UNAVAILABLE: 404,
  RATE_LIMITED: 429,
}

export class HttpEndpoints {
  readonly #options: HttpEndpointsOptions

  constructor(options: HttpEndpointsOptions) {
    this.#options = options
  }

  /** At the port that the world reaches. @param metrics whether it has them */
  answerStranger(request: IncomingMessage, response: ServerResponse, metrics: boolean): void {
    const { requests, now } = this.#options
    const wait = requests.take(this.#address(request), now())
    if (wait === 0) return this.answer(request, response, metrics)
    response.setHeader('retry-after', String(wait))
    response.setHeader('connection', 'close')
    reply(response, 429, 'Too many requests\n')
  }

  answer(request: IncomingMessage, response: ServerResponse, metrics: boolean): void {
    this.#answer(request, response, metrics).catch((error: unknown) => {
      this.#options.logger.error({ err: error }, 'request not answered')
      response.destroy()
    })
  }

  async #answer(request: IncomingMessage, response: ServerResponse, metrics: boolean): Promise<void> {
    const path = (request.url ?? '').split('?', 1)[0]
    if (path === RELAY_PATH) return reply(response, 426, 'Upgrade to WebSocket\n')
    if (path === TURN_PATH) return this.#answerTurn(request, response)
    if (request.method !== 'GET' && request.method !== 'HEAD') return reply(response, 405, 'Only GET\n')
    if (path === '/healthz') return reply(response, 200, 'ok\n')
    if (path === '/readyz') {
      const readiness = await this.#options.readiness()
      return reply(response, readiness === 'not ready' ? 503 : 200, `${readiness}\n`)
    }
    if (path === '/metrics' && metrics) {
      const registry = await this.#options.metrics()
      return reply(response, 200, await registry.metrics(), registry.contentType)
    }
    return reply(response, 404, 'Not found\n')
  }

  #answerTurn(request: IncomingMessage, response: ServerResponse): void {
    if (request.method !== 'POST') return reply(response, 405, 'Only POST\n')
    const { counters, relayIds, turn } = this.#options
    try {
      const credentials = turn.answer(request, relayIds(), this.#address(request))
      counters.turnCredentials += 1
      replyJson(response, 200, credentials)
    } catch (error) {
      if (!isAgentMeshError(error)) throw error
      this.#refuse(response, error)
    }
  }

  /** What limits by address count under. */
  #address({ headers, socket }: IncomingMessage): string {
    const forwarded = String(headers['x-forwarded-for'] ?? '')
    return addressKey(clientAddress(socket.remoteAddress ?? '', forwarded, this.#options.proxies))
  }

  #refuse(response: ServerResponse, { code, message, retryAfterSeconds: wait }: AgentMeshError): void {
    if (wait !== undefined) response.setHeader('retry-after', String(wait))
    const body: ErrorBody = { code, message, ...(wait === undefined ? {} : { retry_after_seconds: wait }) }
    // Whatever the client still sends of a body is not read.
    response.setHeader('connection', 'close')
    replyJson(response, STATUS[code] ?? 400, body)
  }
}

function replyJson(response: ServerResponse, status: number, body: object): void {
  reply(response, status, JSON.stringify(body), 'application/json; charset=utf-8')
}

function reply(response: ServerResponse, status: number, body: string, type = 'text/plain'): void {
  response.writeHead(status, { 'content-type': type, 'cache-control': 'no-store' })
  response.end(body)
}

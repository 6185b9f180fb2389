/** From errors to HTTP: every answer that is not a success is an `ErrorBody` with a stable code. */
import type { Socket } from 'node:net'
import type { FastifyBaseLogger, FastifyReply, FastifyRequest } from 'fastify'
import {
  AgentMeshError,
  ERROR_CODES,
  isAgentMeshError,
  type ErrorBody,
  type ErrorCode,
} from '@agentmesh/sdk/wire'
import type { RegistryMetrics } from './metrics.ts'

/**
 * What is not listed is a fault of the request: 400. WRONG_AUTHORITY is not 421, which HTTP clients take as an invitation to
 * send the same request again: one that is signed, and whose body may be gone.
 */
const STATUS: Partial<Record<ErrorCode, number>> = {
  INVALID_SIGNATURE: 401,
  ADMIN_UNAUTHORIZED: 401,
  SIGNATURE_EXPIRED: 401,
  SIGNATURE_REPLAYED: 401,
  AMID_MISMATCH: 403,
  NOT_OWNER: 403,
  BANNED: 403,
  FEEDBACK_SELF: 403,
  FEEDBACK_LATE: 403,
  NOT_REGISTERED: 403,
  TIER_UNAVAILABLE: 403,
  NOT_VERIFIED: 403,
  AGENTS_OF_HUMAN_LIMIT: 403,
  VERIFICATION_REFUSED: 403,
  VERIFIED_BY_ANOTHER: 403,
  WRONG_AUTHORITY: 403,
  AMID_SUCCEEDED: 403,
  DOMAIN_PROOF_MISSING: 403,
  DOMAIN_PROOF_INVALID: 403,
  DOMAIN_PROOF_DISPUTED: 403,
  SUCCESSION_REFUSED: 409,
  DNS_UNAVAILABLE: 503,
  ORGANIZATION_UNKNOWN: 404,
  AGENT_NOT_FOUND: 404,
  PREKEYS_MISSING: 404,
  NOT_FOUND: 404,
  PROVIDER_UNKNOWN: 404,
  VERIFICATION_UNKNOWN: 404,
  SEQUENCE_REPLAYED: 409,
  FEEDBACK_REPEATED: 409,
  CLOSING_CONFLICT: 409,
  TOO_LARGE: 413,
  RATE_LIMITED: 429,
  INTERNAL: 500,
  PROVIDER_UNAVAILABLE: 503,
  REGISTRY_FULL: 503,
  REGISTRY_SHUTTING_DOWN: 503,
  STORE_FAILED: 503,
}

const UNSUPPORTED_MEDIA_TYPE = 415

interface Refusal {
  readonly status: number
  readonly body: ErrorBody
}

function refusal(error: unknown): Refusal {
  const known = asAgentMeshError(error)
  return {
    status: statusOf(error) === UNSUPPORTED_MEDIA_TYPE ? UNSUPPORTED_MEDIA_TYPE : (STATUS[known.code] ?? 400),
    body: {
      code: known.code,
      message: known.message,
      ...(known.retryAfterSeconds === undefined ? {} : { retry_after_seconds: known.retryAfterSeconds }),
    },
  }
}

function statusOf(error: unknown): unknown {
  return (error as { statusCode?: unknown } | null)?.statusCode
}

/** Fastify's own refusals carry a status; anything else unknown is a mistake of ours and tells the client nothing. */
function asAgentMeshError(error: unknown): AgentMeshError {
  if (isAgentMeshError(error)) {
    return 'stranger' in ERROR_CODES[error.code]
      ? error
      : new AgentMeshError('INTERNAL', undefined, { cause: error })
  }
  const status = statusOf(error)
  if (status === 413) return new AgentMeshError('TOO_LARGE', 'The body exceeds the limit of this address')
  if (status === UNSUPPORTED_MEDIA_TYPE) {
    return new AgentMeshError('MALFORMED', 'The body must be application/json')
  }
  if (status === 404) return new AgentMeshError('NOT_FOUND')
  if (typeof status === 'number' && status >= 400 && status < 500) return new AgentMeshError('MALFORMED')
  return new AgentMeshError('INTERNAL', undefined, { cause: error })
}

export function sendRefusal(
  metrics: RegistryMetrics,
  log: FastifyBaseLogger,
  error: unknown,
  _request: FastifyRequest,
  reply: FastifyReply,
): FastifyReply {
  const { status, body } = refusal(error)
  metrics.refused(body.code)
  if (status >= 500) {
    // Requests hold keys and names, so the log gets the failure and not the request.
    const cause = error instanceof Error && error.cause instanceof Error ? error.cause : error
    log.error({ err: cause, code: body.code }, 'request failed')
  }
  if (body.retry_after_seconds !== undefined) reply.header('retry-after', String(body.retry_after_seconds))
  return reply.code(status).type('application/json; charset=utf-8').send(JSON.stringify(body))
}

/** For what is not even HTTP; Fastify never sees it. */
export function refuseSocket(error: NodeJS.ErrnoException, socket: Socket): void {
  if (error.code === 'ECONNRESET' || !socket.writable) {
    socket.destroy()
    return
  }
  const [status, code]: [string, ErrorCode] =
    error.code === 'HPE_HEADER_OVERFLOW'
      ? ['431 Request Header Fields Too Large', 'TOO_LARGE']
      : error.code === 'ERR_HTTP_REQUEST_TIMEOUT'
        ? ['408 Request Timeout', 'MALFORMED']
        : ['400 Bad Request', 'MALFORMED']
  const body = JSON.stringify({ code, message: ERROR_CODES[code].summary } satisfies ErrorBody)
  // Half open it would stay for as long as the other side goes on writing.
  socket.end(
    `HTTP/1.1 ${status}\r\nContent-Type: application/json; charset=utf-8\r\n` +
      `Content-Length: ${Buffer.byteLength(body)}\r\nConnection: close\r\n\r\n${body}`,
    () => socket.destroy(),
  )
}

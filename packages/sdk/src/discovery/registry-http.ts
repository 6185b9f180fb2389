/**
 * The exchanges of a registry client: signed where they speak for the agent (RFC 9421), bounded in time and bytes, read
 * strictly, and refusals turned into the codes that a registry may use.
 */
import { signRequest, type Identity } from '../identity/index.ts'
import {
  AgentMeshError,
  canonicalBytes,
  ERROR_CODES,
  ErrorBody,
  isAgentMeshError,
  isErrorCode,
  parseJsonObject,
  validate,
  type ErrorCodeInfo,
  type JsonObject,
} from '../wire/index.ts'
import { boundedFetch, type HttpAnswer } from './bounded-fetch.ts'

const MAX_ANSWER_BYTES = 256 * 1024
const DEFAULT_TIMEOUT_MILLISECONDS = 10_000
const MAX_RETRY_SECONDS = 86_400
const MAX_MESSAGE_LENGTH = 400
const NONCE_BYTES = 16

export interface RegistryHttpOptions {
  /** Milliseconds since the epoch. */
  readonly now: () => number
  readonly random: (length: number) => Uint8Array
  /** For one whole exchange; 10 seconds when not given. */
  readonly timeoutMilliseconds?: number
  readonly fetch?: typeof fetch
  /** Called with REGISTRY_ANSWER_INVALID when an answer does not hold: a forged record, another agent's keys. */
  readonly refused?: (error: AgentMeshError) => void
}

export interface Call {
  readonly method: 'GET' | 'POST' | 'PUT'
  readonly path: string
  readonly query?: Readonly<Record<string, string>>
  readonly body?: object
  readonly signed?: true
  readonly maxAnswerBytes?: number
}

export class RegistryHttp {
  readonly #origin: string
  readonly #identity: Identity
  readonly #options: RegistryHttpOptions
  readonly #underWay = new Set<AbortController>()
  #closed = false

  /** @throws MALFORMED for a URL that is not http or https; only its origin counts */
  constructor(url: string, identity: Identity, options: RegistryHttpOptions) {
    const parsed = URL.canParse(url) ? new URL(url) : undefined
    if (parsed === undefined || !/^https?:$/.test(parsed.protocol)) {
      throw new AgentMeshError('MALFORMED', 'The registry is not an http or https URL')
    }
    this.#origin = parsed.origin
    this.#identity = identity
    this.#options = options
  }

  async call(call: Call): Promise<JsonObject> {
    const answer = await this.exchange(call)
    return trusted(`${call.method} ${call.path}`, () => parseJsonObject(answer.body, maxBytesOf(call)))
  }

  async exchange(call: Call): Promise<HttpAnswer> {
    if (this.#closed) throw new AgentMeshError('REGISTRY_UNREACHABLE', 'The client was closed')
    const search = call.query === undefined ? '' : `?${new URLSearchParams(call.query).toString()}`
    const url = new URL(call.path + search, this.#origin).href
    const body = call.body === undefined ? undefined : canonicalBytes(call.body)
    const content = body === undefined ? {} : { body }
    const signature = call.signed
      ? signRequest({ method: call.method, url, ...content }, this.#identity, {
          now: this.#options.now(),
          nonce: this.#options.random(NONCE_BYTES),
        })
      : {}
    const request = {
      url,
      method: call.method,
      headers: {
        accept: 'application/json',
        ...(body === undefined ? {} : { 'content-type': 'application/json' }),
        ...signature,
      },
      ...content,
      maxAnswerBytes: maxBytesOf(call),
      timeoutMilliseconds: this.#options.timeoutMilliseconds ?? DEFAULT_TIMEOUT_MILLISECONDS,
    }
    const cancel = new AbortController()
    this.#underWay.add(cancel)
    try {
      const answer = await boundedFetch(request, cancel, this.#options.fetch ?? fetch)
      if (answer.status < 200 || answer.status > 299) throw refusal(call, answer)
      return answer
    } finally {
      this.#underWay.delete(cancel)
    }
  }

  /** Ends what is under way; later calls throw REGISTRY_UNREACHABLE. */
  close(): void {
    this.#closed = true
    for (const request of this.#underWay) request.abort(new Error('The client was closed'))
  }
}

function maxBytesOf(call: Call): number {
  return call.maxAnswerBytes ?? MAX_ANSWER_BYTES
}

/**
 * Reads an answer; whatever is wrong with it is the registry's fault. A key out of date is not: its owner was away.
 */
export function trusted<T>(operation: string, read: () => T): T {
  try {
    return read()
  } catch (cause) {
    if (isAgentMeshError(cause, 'KEY_EXPIRED')) throw cause
    const detail = cause instanceof Error ? `: ${printable(cause.message)}` : ''
    throw new AgentMeshError('REGISTRY_ANSWER_INVALID', `The registry's answer is refused${detail}`, {
      operation,
      cause,
    })
  }
}

/** The error for an answer outside 2xx: its own code when it is one that strangers may use, else ours. */
export function refusal(call: Pick<Call, 'method' | 'path'>, answer: HttpAnswer): AgentMeshError {
  const operation = `${call.method} ${call.path}`
  let body: ErrorBody
  try {
    body = validate(ErrorBody, parseJsonObject(answer.body, MAX_ANSWER_BYTES))
  } catch (cause) {
    // A proxy in between answers like this when the registry behind it is down.
    const code = answer.status >= 500 ? 'REGISTRY_UNREACHABLE' : 'REGISTRY_ANSWER_INVALID'
    return new AgentMeshError(code, `The registry answered with status ${answer.status}`, {
      operation,
      cause,
    })
  }
  const message = printable(body.message)
  // Other codes speak of this side's keys and state; a registry has no say in those.
  const info: ErrorCodeInfo | undefined = isErrorCode(body.code) ? ERROR_CODES[body.code] : undefined
  const code = isErrorCode(body.code) && info?.stranger ? body.code : undefined
  if (code === undefined) {
    return new AgentMeshError(
      'REGISTRY_ANSWER_INVALID',
      `The registry refused with status ${answer.status} and an unknown code: ${message}`,
      { operation },
    )
  }
  const retry = body.retry_after_seconds
  return new AgentMeshError(code, message, {
    operation,
    ...(retry === undefined ? {} : { retryAfterSeconds: Math.min(Math.max(retry, 0), MAX_RETRY_SECONDS) }),
  })
}

/** Text from the registry that ends up before a person: short, and nothing but printable ASCII. */
function printable(text: string): string {
  return text.slice(0, MAX_MESSAGE_LENGTH).replaceAll(/[^ -~]/g, '?')
}

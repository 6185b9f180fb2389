/**
 * TURN credentials from an agent's relay, for connections between agents that no relay carries (spec/relay.md). The relay is not
 * trusted: its answer is bounded, strict, and counts for nothing but the TURN server that it names.
 */
import { signRequest, type Identity } from '../identity/index.ts'
import {
  AgentMeshError,
  ErrorBody,
  ERROR_CODES,
  isErrorCode,
  parseJsonObject,
  TurnCredentials,
  TURN_PATH,
  validate,
  type ErrorCode,
  type ErrorCodeInfo,
} from '../wire/index.ts'

const MAX_ANSWER_BYTES = 16 * 1024
const NONCE_BYTES = 16
const TIMEOUT_MILLISECONDS = 10_000

export interface TurnRequestOptions {
  /** Milliseconds since the epoch. */
  readonly now: () => number
  readonly random: (length: number) => Uint8Array
  readonly fetch?: typeof fetch
}

/**
 * @param relayUrl as in the agent's configuration: `wss://host[:port]/v1/connect`
 * @throws TURN_UNAVAILABLE when the relay has none; RATE_LIMITED; RELAY_DISCONNECTED when it does not answer; MALFORMED for an
 *   answer that is none; what the relay refuses the request with
 */
export async function fetchTurnCredentials(
  relayUrl: string,
  identity: Identity,
  options: TurnRequestOptions,
): Promise<TurnCredentials> {
  const operation = 'fetch TURN credentials'
  const url = new URL(TURN_PATH, relayUrl.replace(/^ws/, 'http')).href
  const headers = signRequest({ method: 'POST', url }, identity, {
    now: options.now(),
    nonce: options.random(NONCE_BYTES),
  })
  const { status, body } = await exchange(url, headers, options.fetch ?? fetch, operation)
  const answer = parseJsonObject(body, MAX_ANSWER_BYTES)
  if (status === 200) return validate(TurnCredentials, answer, operation)
  const { code, message, retry_after_seconds: wait } = validate(ErrorBody, answer, operation)
  throw new AgentMeshError(strangersCode(code), printable(message), {
    operation,
    ...(wait === undefined ? {} : { retryAfterSeconds: wait }),
  })
}

async function exchange(
  url: string,
  headers: Record<string, string>,
  fetchFunction: typeof fetch,
  operation: string,
): Promise<{ status: number; body: Uint8Array }> {
  try {
    const signal = AbortSignal.timeout(TIMEOUT_MILLISECONDS)
    const response = await fetchFunction(url, { method: 'POST', headers, redirect: 'error', signal })
    return { status: response.status, body: await readBounded(response) }
  } catch (cause) {
    if (cause instanceof AgentMeshError) throw cause
    throw new AgentMeshError('RELAY_DISCONNECTED', undefined, { operation, cause })
  }
}

async function readBounded(response: Response): Promise<Uint8Array> {
  const body = new Uint8Array(MAX_ANSWER_BYTES)
  let length = 0
  const stream: AsyncIterable<Uint8Array> | null = response.body
  for await (const part of stream ?? []) {
    if (length + part.length > MAX_ANSWER_BYTES) throw new AgentMeshError('TOO_LARGE')
    body.set(part, length)
    length += part.length
  }
  return body.subarray(0, length)
}

/** A relay may use the codes of strangers; others speak of our own state, in which it has no say. */
function strangersCode(code: string): ErrorCode {
  const info: ErrorCodeInfo | undefined = isErrorCode(code) ? ERROR_CODES[code] : undefined
  return isErrorCode(code) && info?.stranger ? code : 'MALFORMED'
}

function printable(text: string): string {
  return text.slice(0, 400).replaceAll(/[^ -~]/g, '?')
}

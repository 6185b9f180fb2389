/**
 * One HTTP exchange with a server that is not trusted: no redirects, a time limit over the whole answer, and an answer read
 * only up to a size limit, counted after decompression.
 */
import { AgentMeshError, concatBytes } from '../wire/index.ts'

export interface HttpAnswer {
  readonly status: number
  readonly body: Uint8Array
}

export interface BoundedRequest {
  readonly url: string
  readonly method: string
  readonly headers: Readonly<Record<string, string>>
  readonly body?: Uint8Array
  readonly maxAnswerBytes: number
  readonly timeoutMilliseconds: number
}

/**
 * @param cancel ends the exchange when aborted
 * @throws REGISTRY_UNREACHABLE, or REGISTRY_ANSWER_INVALID when the answer is too large
 */
export async function boundedFetch(
  request: BoundedRequest,
  cancel: AbortController,
  fetchFunction: typeof fetch,
): Promise<HttpAnswer> {
  const timer = setTimeout(() => {
    cancel.abort(new Error(`No answer within ${request.timeoutMilliseconds} ms`))
  }, request.timeoutMilliseconds)
  try {
    const response = await fetchFunction(request.url, {
      method: request.method,
      headers: request.headers,
      ...(request.body === undefined ? {} : { body: request.body }),
      redirect: 'error',
      signal: cancel.signal,
    })
    return { status: response.status, body: await readBody(response, request.maxAnswerBytes) }
  } catch (cause) {
    cancel.abort()
    if (cause instanceof AgentMeshError) throw cause
    throw new AgentMeshError('REGISTRY_UNREACHABLE', undefined, {
      operation: `${request.method} ${request.url}`,
      cause,
    })
  } finally {
    clearTimeout(timer)
  }
}

async function readBody(response: Response, maxBytes: number): Promise<Uint8Array> {
  const parts: Uint8Array[] = []
  let length = 0
  const stream: AsyncIterable<Uint8Array> | null = response.body
  for await (const part of stream ?? []) {
    length += part.length
    if (length > maxBytes) {
      throw new AgentMeshError('REGISTRY_ANSWER_INVALID', `The registry's answer exceeds ${maxBytes} bytes`)
    }
    parts.push(part)
  }
  return concatBytes(...parts)
}

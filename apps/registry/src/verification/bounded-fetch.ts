/**
 * The registry's way out, to identity providers only: to hosts that the configuration names or that a configured
 * provider's own metadata names, with no redirects followed, a time limit over the whole answer and a limit on its bytes,
 * counted after decompression.
 */
import { isIP } from 'node:net'
import { concatBytes } from '@agentmesh/sdk/wire'

/** Discovery documents and key sets are a few kilobytes. */
const MAX_ANSWER_BYTES = 256 * 1024
const TIMEOUT_MILLISECONDS = 10_000

export type Fetch = (url: string, init?: RequestInit) => Promise<Response>

/** No answer, or none that may be read: never a verdict about a proof. */
export class ProviderFailure extends Error {
  override readonly name = 'ProviderFailure'
}

/** https anywhere; http on this machine only, for development. */
export function isProviderUrl(text: string): boolean {
  if (!URL.canParse(text)) return false
  const { protocol, hostname, username, password } = new URL(text)
  if (username !== '' || password !== '') return false
  return protocol === 'https:' || (protocol === 'http:' && isLoopback(hostname))
}

function isLoopback(hostname: string): boolean {
  return hostname === '127.0.0.1' || hostname === '[::1]' || hostname === 'localhost'
}

/**
 * @param configured a URL of the provider as the operator wrote it. Only one on this machine may lead to this machine, so
 *   that no provider's metadata turns the registry against its neighbours.
 */
export function boundedFetch(configured: string, timeoutMilliseconds = TIMEOUT_MILLISECONDS): Fetch {
  const local = isLoopback(new URL(configured).hostname)
  const mayAsk = (url: string): boolean => {
    if (!isProviderUrl(url)) return false
    const { hostname } = new URL(url)
    return local || !(isLoopback(hostname) || isIP(hostname.replace(/^\[|\]$/g, '')) !== 0)
  }
  return async (url, init = {}) => {
    if (!mayAsk(url)) throw new ProviderFailure('The provider names an address that is not asked')
    const cancel = new AbortController()
    const timer = setTimeout(() => cancel.abort(), timeoutMilliseconds)
    try {
      const response = await fetch(url, { ...init, redirect: 'manual', signal: cancel.signal })
      const body = await readBody(response)
      if (response.status >= 500 || response.status === 429) {
        throw new ProviderFailure(`The provider answered with status ${response.status}`)
      }
      const empty = response.status === 204 || response.status === 304
      return new Response(empty ? null : body, { status: response.status, headers: plainHeaders(response) })
    } catch (cause) {
      cancel.abort()
      throw cause instanceof ProviderFailure ? cause : new ProviderFailure('No answer', { cause })
    } finally {
      clearTimeout(timer)
    }
  }
}

async function readBody(response: Response): Promise<Uint8Array<ArrayBuffer>> {
  const parts: Uint8Array[] = []
  let length = 0
  const stream: AsyncIterable<Uint8Array> | null = response.body
  for await (const part of stream ?? []) {
    length += part.length
    if (length > MAX_ANSWER_BYTES) throw new ProviderFailure(`The answer exceeds ${MAX_ANSWER_BYTES} bytes`)
    parts.push(part)
  }
  return new Uint8Array(concatBytes(...parts))
}

/** The body is decoded and complete, so what described its transfer is no longer true. */
function plainHeaders(response: Response): Headers {
  const headers = new Headers(response.headers)
  for (const name of ['content-encoding', 'content-length', 'transfer-encoding']) headers.delete(name)
  return headers
}

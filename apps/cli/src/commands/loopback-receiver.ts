/**
 * A port of this machine that waits for one redirect of the browser (RFC 8252 §7.3). Other pages and programs can reach
 * it too, so nothing counts but a GET of the one path, under the one Host, with the one state; whatever else comes is
 * answered and forgotten.
 */
import { once } from 'node:events'
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { AgentMeshError } from '@agentmesh/sdk/wire'

const HOST = '127.0.0.1'
const PATH = '/callback'
const MAX_CONNECTIONS = 16
const REQUEST_MILLISECONDS = 10_000

export interface Returned {
  readonly code: string
  readonly iss: string | undefined
}

export class LoopbackReceiver {
  readonly #server: Server
  readonly redirectUri: string
  #settle: ((answer: Returned | AgentMeshError) => void) | undefined
  #state: string | undefined

  static async open(): Promise<LoopbackReceiver> {
    const server = createServer({ requestTimeout: REQUEST_MILLISECONDS })
    server.maxConnections = MAX_CONNECTIONS
    server.listen(0, HOST)
    await once(server, 'listening')
    return new LoopbackReceiver(server)
  }

  private constructor(server: Server) {
    this.#server = server
    this.redirectUri = `http://${HOST}:${(server.address() as AddressInfo).port}${PATH}`
    server.on('request', (request, response) => this.#take(request, response))
  }

  /**
   * The code that came with this state.
   *
   * @throws VERIFICATION_REFUSED when the person or the provider said no, VERIFICATION_UNKNOWN when nothing came in time
   */
  async answer(state: string, milliseconds: number): Promise<Returned> {
    this.#state = state
    const answer = await new Promise<Returned | AgentMeshError>((resolve) => {
      const timer = setTimeout(
        () => resolve(new AgentMeshError('VERIFICATION_UNKNOWN', 'The browser did not come back in time')),
        Math.max(0, milliseconds),
      )
      this.#settle = (taken) => {
        clearTimeout(timer)
        resolve(taken)
      }
    })
    if (answer instanceof AgentMeshError) throw answer
    return answer
  }

  close(): void {
    this.#server.close()
    this.#server.closeIdleConnections()
    this.#server.unref()
  }

  #take(request: IncomingMessage, response: ServerResponse): void {
    const { host } = new URL(this.redirectUri)
    // A name that was rebound to this machine sends another Host.
    if (request.headers.host !== host) return page(response, 400, 'This is not the address of this page.')
    const url = new URL(request.url ?? '/', this.redirectUri)
    if (request.method !== 'GET' || url.pathname !== PATH)
      return page(response, 404, 'There is nothing here.')
    const { code, state, iss, error } = Object.fromEntries(url.searchParams)
    if (this.#settle === undefined || state === undefined || state !== this.#state) {
      return page(response, 400, 'This is not the answer that is waited for.')
    }
    const settle = this.#settle
    this.#settle = undefined
    if (code === undefined) {
      page(response, 200, 'You did not agree. Nothing was changed; you may close this page.')
      const why = (error ?? 'no code').replaceAll(/[^\w -]/g, '').slice(0, 64)
      return settle(new AgentMeshError('VERIFICATION_REFUSED', `The provider sent the browser back: ${why}`))
    }
    page(response, 200, 'Done here. The terminal says whether it worked; you may close this page.')
    settle({ code, iss })
  }
}

/** Nothing of the request stands on the page. */
function page(response: ServerResponse, status: number, text: string): void {
  response.writeHead(status, {
    'content-type': 'text/html; charset=utf-8',
    'content-security-policy': "default-src 'none'",
    'cache-control': 'no-store',
    'referrer-policy': 'no-referrer',
    'x-content-type-options': 'nosniff',
    connection: 'close',
  })
  response.end(
    `<!doctype html><html lang="en"><title>AgentMesh</title><h1>AgentMesh</h1><p>${text}</p></html>\n`,
  )
}

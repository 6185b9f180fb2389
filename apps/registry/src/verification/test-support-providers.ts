/** Identity providers on this machine, and a person with a browser. */
import { createHash, randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { Provider as OidcServer, type Configuration } from 'oidc-provider'

/** A browser with cookies whose person fills in every form and agrees. */
export class Browser {
  readonly #login: string
  readonly #cookies = new Map<string, Map<string, string>>()

  constructor(login: string) {
    this.#login = login
  }

  /**
   * Follows links, fills in forms, and stops where it is sent to an address that starts with `until`, without going there;
   * or at a page without a form.
   */
  async visit(address: string, until: string, values: Readonly<Record<string, string>> = {}): Promise<URL> {
    let request: { url: URL; form?: URLSearchParams } = { url: new URL(address) }
    for (let step = 0; step < 20; step += 1) {
      const { url, form } = request
      const response = await this.#send(url, form)
      const location = response.headers.get('location')
      if (location !== null) {
        await response.body?.cancel()
        const next = new URL(location, url)
        if (next.href.startsWith(until)) return next
        request = { url: next }
        continue
      }
      const page = await response.text()
      const next = this.#fill(page, url, values)
      if (next === undefined) return url
      request = next
    }
    throw new Error('The provider sends the browser in circles')
  }

  async #send(url: URL, form: URLSearchParams | undefined): Promise<Response> {
    const jar = this.#cookies.get(url.host) ?? new Map<string, string>()
    this.#cookies.set(url.host, jar)
    const response = await fetch(url, {
      redirect: 'manual',
      headers: {
        cookie: [...jar].map(([name, value]) => `${name}=${value}`).join('; '),
        connection: 'close',
      },
      ...(form === undefined ? {} : { method: 'POST', body: form }),
    })
    for (const line of response.headers.getSetCookie()) {
      const [pair = ''] = line.split(';', 1)
      const split = pair.indexOf('=')
      const value = pair.slice(split + 1)
      if (value === '') jar.delete(pair.slice(0, split))
      else jar.set(pair.slice(0, split), value)
    }
    return response
  }

  #fill(page: string, at: URL, values: Readonly<Record<string, string>>) {
    const form = /<form[^>]*action="([^"]*)"[^>]*>([\s\S]*?)<\/form>/.exec(page)
    if (form === null) return undefined
    const fields = new URLSearchParams()
    for (const [input] of (form[2] ?? '').matchAll(/<input[^>]*>/g)) {
      const name = /name="([^"]*)"/.exec(input)?.[1]
      if (name === undefined) continue
      const given = { login: this.#login, password: 'any', ...values }[name]
      fields.set(name, given ?? /value="([^"]*)"/.exec(input)?.[1] ?? '')
    }
    return { url: new URL((form[1] ?? '').replaceAll('&amp;', '&'), at), form: fields }
  }
}

export interface TestProvider {
  readonly url: string
  close(): Promise<void>
}

async function listen(server: Server): Promise<TestProvider> {
  if (!server.listening) {
    server.listen(0, '127.0.0.1')
    await once(server, 'listening')
  }
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    async close() {
      server.closeAllConnections()
      server.close()
      await once(server, 'close')
    },
  }
}

/** Any handler as a provider of its own. */
export function serve(
  handler: (request: IncomingMessage, response: ServerResponse) => void,
): Promise<TestProvider> {
  return listen(createServer(handler))
}

/** An OpenID provider with the clients `agentmesh` (secret) and `other`, whose logins are any name. */
export async function startOidc(
  redirects: readonly string[] = ['http://127.0.0.1/callback'],
): Promise<TestProvider> {
  const server = createServer()
  const listening = await listen(server)
  const client = {
    application_type: 'native' as const,
    redirect_uris: [...redirects, 'http://127.0.0.1/elsewhere'],
    grant_types: ['authorization_code', 'urn:ietf:params:oauth:grant-type:device_code'],
    response_types: ['code' as const],
    token_endpoint_auth_method: 'client_secret_post' as const,
  }
  const configuration: Configuration = {
    clients: [
      { ...client, client_id: 'agentmesh', client_secret: 'secret-of-the-registry' },
      { ...client, client_id: 'other', client_secret: 'secret-of-somebody-else' },
    ],
    features: { deviceFlow: { enabled: true }, devInteractions: { enabled: true } },
    cookies: { keys: ['test'] },
    findAccount: (_context, id) => ({ accountId: id, claims: () => ({ sub: id }) }),
  }
  const answer = new OidcServer(listening.url, configuration).callback()
  server.on('request', (request, response) => void answer(request, response))
  return listening
}

export interface GithubLike extends TestProvider {
  /** Who is logged in, by their number. */
  user: unknown
  /** Whether the person has typed the device code. */
  typed: boolean
  /** Seconds it wants between two questions about a device. */
  interval: number
  /** Whether it knows PKCE; one that does not takes any verifier. */
  pkce: boolean
  readonly asked: string[]
}

/** OAuth as GitHub has it: refusals with status 200, no ID token, accounts by number. */
export async function startGithubLike(): Promise<GithubLike> {
  const codes = new Map<string, { redirect: string; challenge: string }>()
  const tokens = new Set<string>()
  const state = { user: 4711 as unknown, typed: false, interval: 5, pkce: true, asked: [] as string[] }
  const json = (response: ServerResponse, body: object, status = 200): void => {
    response.writeHead(status, { 'content-type': 'application/json', connection: 'close' })
    response.end(JSON.stringify(body))
  }
  const grant = (response: ServerResponse): void => {
    const token = `gho_${randomBytes(16).toString('hex')}`
    tokens.add(token)
    json(response, { access_token: token, token_type: 'bearer', scope: '' })
  }
  const redeem = (form: URLSearchParams, response: ServerResponse): void => {
    const code = codes.get(form.get('code') ?? '')
    codes.delete(form.get('code') ?? '')
    const challenge = createHash('sha256')
      .update(form.get('code_verifier') ?? '')
      .digest('base64url')
    const isProved = !state.pkce || code?.challenge === challenge
    if (code === undefined || code.redirect !== form.get('redirect_uri') || !isProved) {
      json(response, { error: 'bad_verification_code' })
    } else grant(response)
  }
  const post = (path: string, form: URLSearchParams, response: ServerResponse): void => {
    if (path === '/login/device/code') {
      json(response, {
        device_code: 'device-secret',
        user_code: 'ABCD-1234',
        verification_uri: 'https://github.example/login/device',
        expires_in: 900,
        interval: state.interval,
      })
    } else if (form.get('client_secret') !== 'github-secret') {
      json(response, { error: 'incorrect_client_credentials' })
    } else if (form.get('grant_type') === null) redeem(form, response)
    else if (form.get('device_code') !== 'device-secret') json(response, { error: 'expired_token' })
    else if (state.typed) grant(response)
    else json(response, { error: 'authorization_pending' })
  }
  const server = createServer((request, response) => {
    const url = new URL(request.url ?? '/', 'http://github.example')
    state.asked.push(url.pathname)
    if (url.pathname === '/login/oauth/authorize') {
      const code = randomBytes(10).toString('hex')
      const redirect = url.searchParams.get('redirect_uri') ?? ''
      codes.set(code, { redirect, challenge: url.searchParams.get('code_challenge') ?? '' })
      const back = new URL(redirect)
      back.searchParams.set('code', code)
      back.searchParams.set('state', url.searchParams.get('state') ?? '')
      response.writeHead(302, { location: back.href, connection: 'close' }).end()
    } else if (url.pathname === '/api/user') {
      const token = (request.headers.authorization ?? '').replace(/^Bearer /, '')
      if (tokens.has(token)) json(response, { login: 'octocat', id: state.user, email: 'octo@cat.example' })
      else json(response, { message: 'Bad credentials' }, 401)
    } else {
      const parts: Buffer[] = []
      request.on('data', (part: Buffer) => parts.push(part))
      request.on('end', () =>
        post(url.pathname, new URLSearchParams(Buffer.concat(parts).toString()), response),
      )
    }
  })
  return Object.assign(state, await listen(server))
}

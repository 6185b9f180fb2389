/**
 * GitHub is OAuth without OpenID Connect: the code buys an access token, the token is shown to the user endpoint once and
 * dropped, and the account is its number there (a login can change hands, a number cannot). Refusals come with status 200.
 */
import { parseJsonObject, type JsonObject, type VerificationWay } from '@agentmesh/sdk/wire'
import { boundedFetch, ProviderFailure, type Fetch } from './bounded-fetch.ts'
import {
  accountOf,
  deviceStarted,
  refused,
  unavailable,
  type Account,
  type AuthorizationRequest,
  type DeviceStarted,
  type Provider,
  type Redemption,
} from './provider.ts'

const MAX_ANSWER_BYTES = 64 * 1024
const DEVICE_GRANT = 'urn:ietf:params:oauth:grant-type:device_code'
/** What GitHub says when the registry's own registration there is wrong. */
const NOT_THE_PERSONS = new Set([
  'incorrect_client_credentials',
  'device_flow_disabled',
  'unsupported_grant_type',
])

export interface GithubOptions {
  readonly name: string
  readonly clientId: string
  readonly clientSecret: string
  /** `https://github.com`, or an Enterprise server. */
  readonly url: string
  readonly apiUrl: string
  readonly ways: readonly VerificationWay[]
  readonly maxSeconds: number
}

export class GithubProvider implements Provider {
  readonly name: string
  readonly type = 'github'
  readonly ways: readonly VerificationWay[]
  readonly returnsToRegistry = false
  readonly #options: GithubOptions
  readonly #fetch: Fetch

  constructor(options: GithubOptions) {
    this.name = options.name
    this.ways = options.ways
    this.#options = options
    this.#fetch = boundedFetch(options.url)
  }

  authorizationUrl(request: AuthorizationRequest): Promise<string> {
    const url = new URL('/login/oauth/authorize', this.#options.url)
    url.search = new URLSearchParams({
      client_id: this.#options.clientId,
      redirect_uri: request.redirectUri,
      state: request.state,
      code_challenge: request.codeChallenge,
      code_challenge_method: 'S256',
    }).toString()
    return Promise.resolve(url.href)
  }

  async redeem({ code, redirectUri, codeVerifier }: Redemption): Promise<Account> {
    const answer = await this.#post('/login/oauth/access_token', {
      client_id: this.#options.clientId,
      client_secret: this.#options.clientSecret,
      code,
      redirect_uri: redirectUri,
      code_verifier: codeVerifier,
    })
    return this.#accountBehind(answer)
  }

  async startDevice(): Promise<DeviceStarted> {
    const answer = await this.#post('/login/device/code', { client_id: this.#options.clientId })
    try {
      return deviceStarted(answer, this.#options.maxSeconds)
    } catch (cause) {
      throw unavailable(this.name, cause)
    }
  }

  async askDevice(deviceCode: string): Promise<Account | 'pending' | 'slow_down'> {
    const answer = await this.#post('/login/oauth/access_token', {
      client_id: this.#options.clientId,
      client_secret: this.#options.clientSecret,
      device_code: deviceCode,
      grant_type: DEVICE_GRANT,
    })
    if (answer['error'] === 'authorization_pending') return 'pending'
    if (answer['error'] === 'slow_down') return 'slow_down'
    return this.#accountBehind(answer)
  }

  async #accountBehind(answer: JsonObject): Promise<Account> {
    const { error, access_token: token } = answer
    if (typeof error === 'string') {
      if (NOT_THE_PERSONS.has(error)) throw unavailable(this.name, new ProviderFailure(error.slice(0, 64)))
      throw refused('The provider does not stand by this code')
    }
    if (typeof token !== 'string' || !/^[!-~]{1,512}$/.test(token)) {
      throw unavailable(this.name, new ProviderFailure('No access token'))
    }
    const base = this.#options.apiUrl.endsWith('/') ? this.#options.apiUrl : `${this.#options.apiUrl}/`
    const user = await this.#ask(new URL('user', base).href, {
      method: 'GET',
      headers: { authorization: `Bearer ${token}` },
    })
    const { id } = user
    if (typeof id !== 'number' || !Number.isSafeInteger(id) || id < 1) {
      throw refused('The provider names no account')
    }
    return accountOf(new URL(this.#options.url).origin, String(id))
  }

  #post(path: string, parameters: Record<string, string>): Promise<JsonObject> {
    return this.#ask(new URL(path, this.#options.url).href, {
      method: 'POST',
      headers: { 'content-type': 'application/x-www-form-urlencoded' },
      body: new URLSearchParams(parameters).toString(),
    })
  }

  /** @throws PROVIDER_UNAVAILABLE */
  async #ask(
    url: string,
    init: { method: string; headers: Record<string, string>; body?: string },
  ): Promise<JsonObject> {
    try {
      const headers = { ...init.headers, accept: 'application/json', 'user-agent': 'agentmesh-registry' }
      const response = await this.#fetch(url, { ...init, headers })
      if (response.status !== 200) throw new ProviderFailure(`Status ${response.status}`)
      return parseJsonObject(new Uint8Array(await response.arrayBuffer()), MAX_ANSWER_BYTES)
    } catch (cause) {
      throw unavailable(this.name, cause)
    }
  }
}

/**
 * OpenID Connect at any issuer: discovery, authorization code with PKCE, state and nonce, device flow. What openid-client
 * leaves to the connection (the ID token's signature) is checked as well, against the issuer's published keys: a proof of
 * who somebody is should not hang on one connection.
 */
import * as oidc from 'openid-client'
import { isAgentMeshError, type AgentMeshError, type VerificationWay } from '@agentmesh/sdk/wire'
import { boundedFetch, ProviderFailure } from './bounded-fetch.ts'
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

/** Metadata is read again after this long; keys on their own, when an unknown one is met. */
const METADATA_MILLISECONDS = 3_600_000
const MAX_URL_LENGTH = 4096
const DEVICE_GRANT = 'urn:ietf:params:oauth:grant-type:device_code'
/** Of these the person is not to blame: the operator is (RFC 6749 §5.2), or the provider. */
const NOT_THE_PERSONS = new Set([
  'invalid_client',
  'unauthorized_client',
  'unsupported_grant_type',
  'invalid_scope',
  'server_error',
  'temporarily_unavailable',
])
/** The answer could not be read; all others are verdicts about what it said. */
const UNREADABLE = new Set([
  'OAUTH_RESPONSE_IS_NOT_CONFORM',
  'OAUTH_RESPONSE_IS_NOT_JSON',
  'OAUTH_PARSE_ERROR',
  'OAUTH_HTTP_REQUEST_FORBIDDEN',
  'OAUTH_REQUEST_PROTOCOL_FORBIDDEN',
  'OAUTH_MISSING_SERVER_METADATA',
  'OAUTH_INVALID_SERVER_METADATA',
  'OAUTH_TIMEOUT',
  'OAUTH_ABORT',
])

export interface OidcOptions {
  readonly name: string
  readonly type: 'google' | 'apple' | 'oidc'
  readonly issuer: string
  readonly clientId: string
  readonly clientAuthentication: oidc.ClientAuth
  readonly ways: readonly VerificationWay[]
  readonly returnsToRegistry: boolean
  /** Longest life of an attempt. */
  readonly maxSeconds: number
  /** Milliseconds since the epoch. */
  readonly now: () => number
}

export class OidcProvider implements Provider {
  readonly name: string
  readonly type: 'google' | 'apple' | 'oidc'
  readonly ways: readonly VerificationWay[]
  readonly returnsToRegistry: boolean
  readonly #options: OidcOptions
  #known: { readonly configuration: Promise<oidc.Configuration>; readonly until: number } | undefined

  constructor(options: OidcOptions) {
    this.name = options.name
    this.type = options.type
    this.ways = options.ways
    this.returnsToRegistry = options.returnsToRegistry
    this.#options = options
  }

  async authorizationUrl(request: AuthorizationRequest): Promise<string> {
    const configuration = await this.#configuration()
    return this.#judged(() => {
      const { href } = oidc.buildAuthorizationUrl(configuration, {
        scope: 'openid',
        redirect_uri: request.redirectUri,
        state: request.state,
        nonce: request.nonce,
        code_challenge: request.codeChallenge,
        code_challenge_method: 'S256',
      })
      if (href.length > MAX_URL_LENGTH || !/^https?:/.test(href)) {
        throw new ProviderFailure('The authorization endpoint is no address for a browser')
      }
      return Promise.resolve(href)
    })
  }

  async redeem(redemption: Redemption): Promise<Account> {
    const configuration = await this.#configuration()
    const returned = new URL(redemption.redirectUri)
    returned.searchParams.set('code', redemption.code)
    returned.searchParams.set('state', redemption.state)
    if (redemption.iss !== undefined) returned.searchParams.set('iss', redemption.iss)
    return this.#judged(async () => {
      const tokens = await oidc.authorizationCodeGrant(configuration, returned, {
        pkceCodeVerifier: redemption.codeVerifier,
        expectedState: redemption.state,
        expectedNonce: redemption.nonce,
        idTokenExpected: true,
      })
      return account(tokens.claims())
    })
  }

  async startDevice(): Promise<DeviceStarted> {
    const configuration = await this.#configuration()
    try {
      const answer = await oidc.initiateDeviceAuthorization(configuration, { scope: 'openid' })
      return deviceStarted(answer, this.#options.maxSeconds)
    } catch (cause) {
      throw unavailable(this.name, cause)
    }
  }

  async askDevice(deviceCode: string): Promise<Account | 'pending' | 'slow_down'> {
    const configuration = await this.#configuration()
    return this.#judged(async () => {
      try {
        const tokens = await oidc.genericGrantRequest(configuration, DEVICE_GRANT, {
          device_code: deviceCode,
        })
        return account(tokens.claims())
      } catch (error) {
        if (error instanceof oidc.ResponseBodyError && error.error === 'authorization_pending')
          return 'pending'
        if (error instanceof oidc.ResponseBodyError && error.error === 'slow_down') return 'slow_down'
        throw error
      }
    })
  }

  /** @throws PROVIDER_UNAVAILABLE */
  async #configuration(): Promise<oidc.Configuration> {
    const now = this.#options.now()
    if (this.#known === undefined || this.#known.until <= now) {
      this.#known = { configuration: this.#discover(), until: now + METADATA_MILLISECONDS }
    }
    const known = this.#known
    try {
      return await known.configuration
    } catch (cause) {
      if (this.#known === known) this.#known = undefined
      throw unavailable(this.name, cause)
    }
  }

  #discover(): Promise<oidc.Configuration> {
    const { issuer, clientId, clientAuthentication } = this.#options
    const ask = boundedFetch(issuer)
    const insecure = issuer.startsWith('http:')
    return oidc.discovery(new URL(issuer), clientId, undefined, clientAuthentication, {
      [oidc.customFetch]: (url, { method, headers, body }) =>
        ask(url, { method, headers, ...(body === undefined || body === null ? {} : { body }) }),
      execute: [oidc.enableNonRepudiationChecks, ...(insecure ? [oidc.allowInsecureRequests] : [])],
    })
  }

  async #judged<T>(work: () => Promise<T>): Promise<T> {
    try {
      return await work()
    } catch (error) {
      throw this.#judge(error)
    }
  }

  #judge(error: unknown): AgentMeshError {
    if (isAgentMeshError(error)) return error
    for (let cause = error; cause instanceof Error; cause = cause.cause) {
      if (cause instanceof ProviderFailure) return unavailable(this.name, error)
    }
    if (error instanceof oidc.ResponseBodyError) {
      return NOT_THE_PERSONS.has(error.error)
        ? unavailable(this.name, error)
        : refused('The provider does not stand by this code', error)
    }
    if (error instanceof oidc.ClientError && !UNREADABLE.has(error.code ?? '')) {
      return refused('The provider’s answer does not prove who the person is', error)
    }
    return unavailable(this.name, error)
  }
}

function account(claims: oidc.IDToken | undefined): Account {
  if (claims === undefined) throw new oidc.ClientError('The provider gave no ID token')
  return accountOf(claims.iss, claims.sub)
}

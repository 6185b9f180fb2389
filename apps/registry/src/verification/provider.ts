/**
 * What an identity provider is to the registry: somebody who says which of its accounts a person holds. The registry asks
 * for nothing else about the person (no scope beyond `openid`, none at GitHub), so it never has more to keep.
 */
import { AgentMeshError, type VerificationWay } from '@agentmesh/sdk/wire'

/** An account at a provider. Stays in memory; what is kept is a keyed hash of it (`human.ts`). */
export interface Account {
  readonly issuer: string
  readonly subject: string
}

export interface AuthorizationRequest {
  readonly redirectUri: string
  readonly state: string
  readonly nonce: string
  readonly codeChallenge: string
}

export interface Redemption {
  readonly redirectUri: string
  readonly state: string
  readonly nonce: string
  readonly code: string
  readonly codeVerifier: string
  /** As in the redirect (RFC 9207). */
  readonly iss: string | undefined
}

export interface DeviceStarted {
  readonly deviceCode: string
  readonly userCode: string
  readonly verificationUri: string
  readonly verificationUriComplete: string | undefined
  readonly intervalSeconds: number
  readonly expiresInSeconds: number
}

/** All methods throw PROVIDER_UNAVAILABLE, and where a proof is judged VERIFICATION_REFUSED. */
export interface Provider {
  readonly name: string
  readonly type: 'google' | 'apple' | 'oidc' | 'github'
  readonly ways: readonly VerificationWay[]
  /** The browser comes back by way of the registry, since the provider knows no loopback addresses. */
  readonly returnsToRegistry: boolean
  authorizationUrl(request: AuthorizationRequest): Promise<string>
  redeem(redemption: Redemption): Promise<Account>
  startDevice(): Promise<DeviceStarted>
  askDevice(deviceCode: string): Promise<Account | 'pending' | 'slow_down'>
}

/** The provider's fault, or that of the configuration: the log has the cause, the client the code. */
export function unavailable(provider: string, cause: unknown): AgentMeshError {
  return new AgentMeshError('PROVIDER_UNAVAILABLE', undefined, {
    operation: `ask provider ${provider}`,
    cause,
  })
}

export function refused(why: string, cause?: unknown): AgentMeshError {
  return new AgentMeshError('VERIFICATION_REFUSED', why, { operation: 'verify a person', cause })
}

/** OpenID Connect Core §2: at most 255 ASCII characters. */
export function accountOf(issuer: string, subject: unknown): Account {
  if (typeof subject !== 'string' || !/^[\x20-\x7e]{1,255}$/.test(subject)) {
    throw refused('The provider names no account')
  }
  return { issuer, subject }
}

/** What a provider says of its device flow, held to what an attempt allows. */
export function deviceStarted(answer: Readonly<Record<string, unknown>>, maxSeconds: number): DeviceStarted {
  const text = (field: string, max: number): string => {
    const value = answer[field]
    if (typeof value !== 'string' || value === '' || value.length > max || /[^!-~]/.test(value)) {
      throw new Error(`${field} is missing or not in form`)
    }
    return value
  }
  const web = (field: string): string => {
    const url = text(field, 1024)
    if (!/^https?:$/.test(new URL(url).protocol)) throw new Error(`${field} is no web address`)
    return url
  }
  const seconds = (field: string, fallback: number, max: number): number => {
    const value = answer[field]
    return typeof value === 'number' && value >= 1 ? Math.min(Math.floor(value), max) : fallback
  }
  return {
    deviceCode: text('device_code', 1024),
    userCode: text('user_code', 64),
    verificationUri: web('verification_uri'),
    verificationUriComplete:
      answer['verification_uri_complete'] === undefined ? undefined : web('verification_uri_complete'),
    intervalSeconds: seconds('interval', DEFAULT_INTERVAL_SECONDS, MAX_INTERVAL_SECONDS),
    expiresInSeconds: seconds('expires_in', maxSeconds, maxSeconds),
  }
}

/** RFC 8628 §3.2 */
const DEFAULT_INTERVAL_SECONDS = 5
export const MAX_INTERVAL_SECONDS = 60

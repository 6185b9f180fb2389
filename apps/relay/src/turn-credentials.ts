/**
 * Credentials for a TURN server that shares a secret with this relay: coturn's `use-auth-secret`, also known as the TURN REST API.
 *
 *     username = <Unix time of the end, seconds> ":" <name>
 *     password = base64(HMAC-SHA-1(secret, username))
 *
 * The TURN server checks both alone, so that it needs no database and no word from here. The name is a keyed hash of the AMID: the
 * same agent has the same one, for quotas, and the TURN server's log does not say who that is.
 *
 * An agent asks with a signed request (RFC 9421, as registries take them):
 *
 *     signatures by address -> dates -> signature -> nonce -> limits by AMID and address -> credentials
 */
import type { IncomingMessage } from 'node:http'
import { hmacSha1, hmacSha256 } from '@agentmesh/sdk/crypto/signing'
import { verifyRequest } from '@agentmesh/sdk/identity'
import {
  AgentMeshError,
  formatTimestamp,
  toBase64,
  toBase64Url,
  utf8Bytes,
  type Amid,
  type TurnCredentials,
} from '@agentmesh/sdk/wire'
import { RateLimiter, type Rate } from './rate-limit.ts'

export interface TurnSettings {
  /** RFC 7065. */
  readonly uris: readonly string[]
  /** The `static-auth-secret` of the TURN server. */
  readonly secret: string
  readonly ttlSeconds: number
}

const NAME_BYTES = 12
/** Requests remembered against replay; the limits by address keep honest ones far below. */
const MAX_NONCES = 100_000

/** @param now milliseconds since the epoch */
function makeTurnCredentials(settings: TurnSettings, amid: Amid, now: number): TurnCredentials {
  const secret = utf8Bytes(settings.secret)
  const end = Math.floor(now / 1000) + settings.ttlSeconds
  const name = toBase64Url(
    hmacSha256(secret, utf8Bytes(`agentmesh turn name ${amid}`)).subarray(0, NAME_BYTES),
  )
  const username = `${end}:${name}`
  return {
    uris: [...settings.uris],
    username,
    password: toBase64(hmacSha1(secret, utf8Bytes(username))),
    expires_at: formatTimestamp(end * 1000),
  }
}

export interface TurnDeskOptions {
  readonly settings: TurnSettings | undefined
  readonly perAgent: Rate
  readonly perAddress: Rate
  /** By address: those of CONNECT, for a signature costs the same here. */
  readonly signatureChecks: RateLimiter
  readonly now: () => number
}

/** Where agents come for credentials. */
export class TurnDesk {
  readonly #options: TurnDeskOptions
  readonly #perAgent: RateLimiter
  readonly #perAddress: RateLimiter
  /** Until when, in milliseconds since the epoch. */
  readonly #nonces = new Map<string, number>()

  constructor(options: TurnDeskOptions) {
    this.#options = options
    this.#perAgent = new RateLimiter(options.perAgent)
    this.#perAddress = new RateLimiter(options.perAddress)
  }

  /**
   * @param names what this relay is called; a request signed for another server means nothing here
   * @param address the key that limits by address count under
   * @throws TURN_UNAVAILABLE, RATE_LIMITED, MALFORMED for a request with a body, WRONG_AUTHORITY, SIGNATURE_REPLAYED, and what
   *   `verifyRequest` throws
   */
  answer(request: IncomingMessage, names: readonly string[], address: string): TurnCredentials {
    const { settings, signatureChecks } = this.#options
    const now = this.#options.now()
    if (settings === undefined) throw new AgentMeshError('TURN_UNAVAILABLE')
    const { headers, method = '', url = '' } = request
    if (headers['transfer-encoding'] !== undefined || (headers['content-length'] ?? '0') !== '0') {
      throw new AgentMeshError('MALFORMED', 'The request has no body')
    }
    const authority = (headers.host ?? '').toLowerCase()
    if (!names.includes(authority)) throw new AgentMeshError('WRONG_AUTHORITY')
    take(signatureChecks, address, now)
    const { amid, nonce, nonceExpiresAt } = verifyRequest({ method, authority, target: url, headers }, now)
    const seen = `${amid} ${nonce}`
    if (this.#nonces.has(seen)) throw new AgentMeshError('SIGNATURE_REPLAYED')
    if (this.#nonces.size >= MAX_NONCES)
      throw new AgentMeshError('RATE_LIMITED', undefined, { retryAfterSeconds: 60 })
    this.#nonces.set(seen, nonceExpiresAt)
    take(this.#perAgent, amid, now)
    take(this.#perAddress, address, now)
    return makeTurnCredentials(settings, amid, now)
  }

  /** Forgets what has no say any more. */
  sweep(): void {
    const now = this.#options.now()
    this.#perAgent.sweep(now)
    this.#perAddress.sweep(now)
    for (const [nonce, expiresAt] of this.#nonces) if (expiresAt < now) this.#nonces.delete(nonce)
  }
}

function take(limiter: RateLimiter, key: string, now: number): void {
  const wait = limiter.take(key, now)
  if (wait > 0) throw new AgentMeshError('RATE_LIMITED', undefined, { retryAfterSeconds: wait })
}

/**
 * How the registry shows itself to Apple: the client secret is a JWT, signed ES256 with the key that Apple gave out for
 * "Sign in with Apple", good for minutes.
 */
import { importPKCS8, SignJWT } from 'jose'
import type { ClientAuth } from 'openid-client'

export const APPLE_ISSUER = 'https://appleid.apple.com'
const SECRET_SECONDS = 300

export interface AppleKey {
  readonly clientId: string
  readonly teamId: string
  readonly keyId: string
  /** PEM, PKCS #8, P-256: the `.p8` file. */
  readonly privateKey: string
}

/** @throws when the key is not a P-256 key in PKCS #8 */
export async function appleAuthentication(
  { clientId, teamId, keyId, privateKey }: AppleKey,
  audience: string,
  now: () => number,
): Promise<ClientAuth> {
  const key = await importPKCS8(privateKey, 'ES256')
  const authenticate = async (_server: object, _client: object, body: URLSearchParams): Promise<void> => {
    const seconds = Math.floor(now() / 1000)
    const secret = await new SignJWT({})
      .setProtectedHeader({ alg: 'ES256', kid: keyId })
      .setIssuer(teamId)
      .setSubject(clientId)
      .setAudience(audience)
      .setIssuedAt(seconds)
      .setExpirationTime(seconds + SECRET_SECONDS)
      .sign(key)
    body.set('client_id', clientId)
    body.set('client_secret', secret)
  }
  // The library waits for what this returns, though its type does not say so.
  // oxlint-disable-next-line typescript/no-misused-promises
  return authenticate
}

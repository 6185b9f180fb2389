/**
 * What the registry remembers of a person: a keyed hash of the account that vouched, so that the same person is
 * recognised and nobody, the keeper of a stolen database included, can ask whether somebody is among them.
 *
 *     human = HMAC-SHA-256(secret, "agentmesh/0.2 human" || 0x00 || RFC 8785 [issuer, subject])
 */
import { hmacSha256, sha256 } from '@agentmesh/sdk/crypto/signing'
import { AgentMeshError, canonicalBytes, MAX_DISPLAY_NAME, utf8Bytes } from '@agentmesh/sdk/wire'
import type { Account } from './provider.ts'

export function humanOf(secret: Uint8Array, account: Account): Uint8Array {
  return hmacSha256(
    secret,
    utf8Bytes('agentmesh/0.2 human\0'),
    canonicalBytes([account.issuer, account.subject]),
  )
}

/** A one-time code, bound to its verification. */
export function codeHash(secret: Uint8Array, verificationId: string, code: string): Uint8Array {
  return hmacSha256(secret, utf8Bytes('agentmesh/0.2 code\0'), canonicalBytes([verificationId, code]))
}

/** PKCE, method S256 (RFC 7636 §4.6), before base64url. */
export function challengeOf(codeVerifier: string): Uint8Array {
  return sha256(utf8Bytes(codeVerifier))
}

/**
 * The name a person wants others to see. It goes into a certificate and before other people, so it holds nothing that
 * hides, reorders or splits text: no control, format or unassigned characters, no line breaks.
 *
 * @throws MALFORMED
 */
export function checkDisplayName(text: string | undefined): string | undefined {
  if (text === undefined) return undefined
  const name = text.normalize('NFC')
  // As long as the name in a certificate may be.
  const { length } = utf8Bytes(name)
  if (
    length === 0 ||
    length > MAX_DISPLAY_NAME ||
    name !== name.trim() ||
    /[\p{C}\p{Zl}\p{Zp}]/u.test(name)
  ) {
    throw new AgentMeshError(
      'MALFORMED',
      `A display name is visible text of 1 to ${MAX_DISPLAY_NAME} bytes of UTF-8, without line breaks, control or direction marks`,
    )
  }
  return name
}

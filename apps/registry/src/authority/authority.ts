/**
 * The certificate authority inside the registry, as the other endpoints see it (DESIGN §8): who was verified gets an agent
 * certificate, and every certificate and every revocation is in the transparency log in the same transaction.
 *
 *     root (may be offline) -> intermediate (online) -> [organisation] -> agent
 *                                                    '-> service: signs tree heads and reputation credentials
 */
import type { KeyPair } from '@agentmesh/sdk/crypto/signing'
import type { RevocationReason } from '@agentmesh/sdk/identity'
import { AgentMeshError, type Amid, type CertificateProof, type TrustDocument } from '@agentmesh/sdk/wire'

export interface AgentSubject {
  readonly amid: Amid
  /** Ed25519, 32 bytes, whose possession the signed request has proved. */
  readonly publicKey: Uint8Array
}

export interface VerifiedSubject extends AgentSubject {
  readonly tier: 1
  /** What the person chose to be shown as; never personal data that was not asked for. */
  readonly displayName?: string
  /** Keyed hash of issuer and subject, 32 bytes: the same human is the same bytes. */
  readonly human: Uint8Array
}

export interface IssuedCertificate {
  /** Base64 DER, the agent's first, without the registry's own intermediates. */
  readonly chain: string[]
  readonly proof: CertificateProof
}

export interface Authority {
  /** Lower-case hex SHA-256 of the root certificate's DER: the id of this registry everywhere. */
  readonly fingerprint: string
  readonly name: string
  readonly trustDocument: TrustDocument
  /** Ed25519; its certificate stands in the trust document. */
  readonly serviceKey: KeyPair

  /**
   * Remembers the human, sets the agent's tier, issues and logs: all or nothing.
   *
   * @throws AGENTS_OF_HUMAN_LIMIT, VERIFIED_BY_ANOTHER, NOT_REGISTERED, AMID_SUCCEEDED, BANNED
   */
  verifyAgent(subject: VerifiedSubject, now: number): Promise<IssuedCertificate>
  /**
   * A certificate for an agent that was verified before: a new one, or the one it has when that is new enough.
   *
   * @throws NOT_VERIFIED
   */
  issueAgent(subject: AgentSubject, now: number): Promise<IssuedCertificate>
  /** Revokes every certificate in date of the agent and makes it anonymous. @returns how many were revoked */
  revokeAgent(amid: Amid, reason: RevocationReason, now: number): Promise<number>
}

/** @throws TIER_UNAVAILABLE: this registry has no certificate authority */
export function authorityOf(context: { readonly authority: Authority | undefined }): Authority {
  if (context.authority === undefined) {
    throw new AgentMeshError('TIER_UNAVAILABLE', 'This registry has no certificate authority')
  }
  return context.authority
}

/**
 * Certificates in JSON, and what a registry says of its own (DESIGN §8, spec/certificates.md). The certificates themselves are
 * read in `identity/certificates/`.
 */
import type { Static } from 'typebox'
import { Type } from './type.ts'
import { PeerText } from './schema.ts'

/** Base64 of at most 2,048 bytes. */
export const CertificateText = Type.String({
  maxLength: 2732,
  pattern: '^[A-Za-z0-9+/]+={0,2}$',
  description: 'base64 of a certificate’s DER',
})

export const TrustDocument = Type.Object(
  {
    name: PeerText(64),
    url: Type.String({ maxLength: 256, pattern: '^https?://[!-~]+$', description: 'Of the registry’s API' }),
    root: CertificateText,
    intermediates: Type.Array(CertificateText, { minItems: 1, maxItems: 8 }),
    service_certificate: CertificateText,
  },
  {
    $id: 'agentmesh/trust-document',
    description: 'A registry’s own certificates; an owner trusts it by the fingerprint of its root',
  },
)
export type TrustDocument = Static<typeof TrustDocument>

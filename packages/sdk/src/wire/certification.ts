/**
 * What is said between agents, organisations and the certificate authority of a registry (DESIGN §8, spec/registry.md).
 */
import type { Static } from 'typebox'
import { Type } from './type.ts'
import { AmidText, Embedded, PeerText, SignatureText, SigningKeyText, Timestamp } from './schema.ts'
import { CertificateProof } from './transparency.ts'
import { CertificateText } from './trust.ts'

/** A revocation list may be as long as 512 KiB. */
export const MAX_CRL_TEXT_LENGTH = (512 * 1024 * 4) / 3 + 4

export const RevocationListBody = Type.Object(
  {
    crl: Type.String({
      maxLength: Math.ceil(MAX_CRL_TEXT_LENGTH),
      pattern: '^[A-Za-z0-9+/]+={0,2}$',
      description: 'base64 of the DER of a certificate revocation list',
    }),
  },
  { description: 'The newest revocation list of an issuer' },
)
export type RevocationListBody = Static<typeof RevocationListBody>

const Chain = Type.Array(CertificateText, {
  minItems: 1,
  maxItems: 2,
  description: 'The agent’s certificate, and that of its organisation',
})

export const CertifiedAgent = Type.Object(
  { chain: Chain, proof: Embedded(CertificateProof) },
  {
    description: 'A chain up to, not including, the registry’s intermediate, and where the log has its first',
  },
)
export type CertifiedAgent = Static<typeof CertifiedAgent>

export const CertificateSubmission = Type.Object(
  { chain: Type.Array(CertificateText, { minItems: 2, maxItems: 2, description: 'Agent, organisation' }) },
  { description: 'A certificate that an organisation issued' },
)
export type CertificateSubmission = Static<typeof CertificateSubmission>

export const DomainText = Type.String({
  minLength: 3,
  maxLength: 242,
  description: 'Such as acme.example: lower case, other letters as xn--',
})

export const OrganizationStatus = Type.Enum(['pending', 'verified', 'grace', 'suspended', 'revoked'], {
  description: 'grace: its DNS record is gone and may come back for some days',
})
export type OrganizationStatus = Static<typeof OrganizationStatus>

export const OrganizationRegistration = Type.Object(
  { domain: DomainText, name: PeerText(64, 'Shown beside the domain') },
  { description: 'Signed by the AMID that is to be the organisation' },
)
export type OrganizationRegistration = Static<typeof OrganizationRegistration>

export const OrganizationRecord = Type.Object(
  {
    amid: AmidText,
    domain: DomainText,
    name: PeerText(64),
    status: OrganizationStatus,
    checked_at: Type.Optional(Timestamp),
    lost_at: Type.Optional(Timestamp),
    certificate: Type.Optional(CertificateText),
  },
  { description: 'An organisation; its certificate when it is verified' },
)
export type OrganizationRecord = Static<typeof OrganizationRecord>

export const DomainChallenge = Type.Object(
  {
    organization: OrganizationRecord,
    record: Type.Object({
      name: Type.String({ description: '_agentmesh.<domain>' }),
      type: Type.Literal('TXT'),
      value: Type.String({ maxLength: 255, description: 'One string, to be pasted as it is' }),
      expires_at: Timestamp,
    }),
  },
  { description: 'The DNS record that proves the domain' },
)
export type DomainChallenge = Static<typeof DomainChallenge>

/** What an organisation needs to certify an agent without asking anybody. */
export const CertificateRequest = Type.Object(
  {
    type: Type.Literal('certificate_request'),
    amid: AmidText,
    signing_public_key: SigningKeyText,
    display_name: Type.Optional(PeerText(64)),
  },
  { description: 'An agent’s AMID and key, which prove each other' },
)
export type CertificateRequest = Static<typeof CertificateRequest>

export const Succession = Type.Object(
  {
    type: Type.Literal('succession'),
    old_amid: AmidText,
    new_amid: AmidText,
    recovery_public_key: SigningKeyText,
    created_at: Timestamp,
    signature: SignatureText,
  },
  {
    $id: 'agentmesh/succession',
    description: 'The owner of old_amid goes on as new_amid; signed by the recovery key',
  },
)
export type Succession = Static<typeof Succession>

/** Of an AMID that succeeds many; the newest ones. */
export const MAX_SUCCESSIONS = 8

export const SuccessionList = Type.Object(
  { successions: Type.Array(Embedded(Succession), { maxItems: MAX_SUCCESSIONS }) },
  { description: 'Statements that name an AMID: the one that ended it, and those of the AMIDs it took over' },
)
export type SuccessionList = Static<typeof SuccessionList>

export const SuccessionAnswer = Type.Object(
  {
    old_amid: AmidText,
    new_amid: AmidText,
    revoked: Type.Integer({ minimum: 0, description: 'Certificates of the old AMID that this ended' }),
    certified: Type.Optional(CertifiedAgent),
  },
  { description: 'The verified identity has moved; with a certificate when there was one to move' },
)
export type SuccessionAnswer = Static<typeof SuccessionAnswer>

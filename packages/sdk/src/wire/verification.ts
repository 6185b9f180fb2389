/**
 * How a person vouches for an agent (tier 1, DESIGN §8; `spec/registry.md`): at an identity provider through the browser
 * or another device, or by a code sent by mail. Every request is signed by the AMID that is to be verified.
 */
import type { Static } from 'typebox'
import { Type } from './type.ts'
import { Embedded, Nullable, PeerText, Timestamp } from './schema.ts'
import { CertificateProof } from './transparency.ts'

/** Code points of the name a person chooses to be shown as: what a certificate's common name holds. */
export const MAX_DISPLAY_NAME = 64
/** Where a browser may be sent back to: a port of the owner's own machine, nothing else (RFC 8252 §7.3, §8.3). */
const LOOPBACK_REDIRECT = '^http://(127\\.0\\.0\\.1|\\[::1\\]):[1-9][0-9]{0,4}/[A-Za-z0-9_/-]{0,64}$'

const ProviderName = Type.String({
  pattern: '^[a-z0-9][a-z0-9_-]{0,31}$',
  description: 'A provider as the registry names it, such as google',
})
const VerificationId = Type.String({
  pattern: '^[A-Za-z0-9_-]{32}$',
  description: 'Names one attempt of one AMID; good once, for minutes',
})
const DisplayName = Type.Optional(PeerText(MAX_DISPLAY_NAME, 'What others are shown; nothing when absent'))
const PkceText = Type.String({ pattern: '^[A-Za-z0-9._~-]{43,128}$' })
const OpaqueText = Type.String({ minLength: 1, maxLength: 2048 })

export const VerificationWay = Type.Enum(['browser', 'device', 'email'], {
  description: 'Authorization code by loopback redirect; device flow (RFC 8628); one-time code by mail',
})
export type VerificationWay = Static<typeof VerificationWay>

export const VerificationProviders = Type.Object(
  {
    providers: Type.Array(
      Type.Object({
        name: ProviderName,
        type: Type.Enum(['google', 'apple', 'oidc', 'github', 'email']),
        ways: Type.Array(VerificationWay, { minItems: 1, maxItems: 3, uniqueItems: true }),
      }),
      { maxItems: 32 },
    ),
  },
  {
    $id: 'agentmesh/verification-providers',
    description: 'Where a person can vouch for an agent, as this registry is set up',
  },
)
export type VerificationProviders = Static<typeof VerificationProviders>

export const VerificationStart = Type.Object(
  {
    provider: ProviderName,
    redirect_uri: Type.String({
      pattern: LOOPBACK_REDIRECT,
      description: 'http://127.0.0.1:<port>/<path> (or [::1]) on the owner’s machine',
    }),
    code_challenge: Type.String({
      pattern: '^[A-Za-z0-9_-]{43}$',
      description: 'PKCE, method S256 (RFC 7636)',
    }),
  },
  { $id: 'agentmesh/verification-start' },
)
export type VerificationStart = Static<typeof VerificationStart>

export const VerificationStarted = Type.Object(
  {
    verification_id: VerificationId,
    authorization_url: Type.String({
      maxLength: 4096,
      pattern: '^https?://[!-~]+$',
      description: 'For the browser of the person',
    }),
    state: Type.String({ pattern: '^[A-Za-z0-9_-]{43}$', description: 'Must come back in the redirect' }),
    expires_at: Timestamp,
  },
  { $id: 'agentmesh/verification-started' },
)
export type VerificationStarted = Static<typeof VerificationStarted>

export const VerificationFinish = Type.Object(
  {
    verification_id: VerificationId,
    code: OpaqueText,
    state: Type.String({ minLength: 1, maxLength: 256 }),
    iss: Type.Optional(Type.String({ maxLength: 256, description: 'As in the redirect (RFC 9207)' })),
    code_verifier: PkceText,
    display_name: DisplayName,
  },
  { $id: 'agentmesh/verification-finish', description: 'What the redirect brought, and the PKCE verifier' },
)
export type VerificationFinish = Static<typeof VerificationFinish>

export const VerificationDevice = Type.Object(
  { provider: ProviderName },
  { $id: 'agentmesh/verification-device' },
)
export type VerificationDevice = Static<typeof VerificationDevice>

const Interval = Type.Integer({ minimum: 1, maximum: 300, description: 'Seconds between two questions' })

export const VerificationDeviceStarted = Type.Object(
  {
    verification_id: VerificationId,
    user_code: Type.String({ maxLength: 64, pattern: '^[!-~]+$' }),
    verification_uri: Type.String({ maxLength: 1024, pattern: '^https?://[!-~]+$' }),
    verification_uri_complete: Type.Optional(Type.String({ maxLength: 1024, pattern: '^https?://[!-~]+$' })),
    interval: Interval,
    expires_at: Timestamp,
  },
  {
    $id: 'agentmesh/verification-device-started',
    description: 'The code to type at the address, on any device (RFC 8628)',
  },
)
export type VerificationDeviceStarted = Static<typeof VerificationDeviceStarted>

export const VerificationDeviceFinish = Type.Object(
  { verification_id: VerificationId, display_name: DisplayName },
  { $id: 'agentmesh/verification-device-finish' },
)
export type VerificationDeviceFinish = Static<typeof VerificationDeviceFinish>

export const VerificationPending = Type.Object(
  { status: Type.Literal('pending'), interval: Interval },
  { $id: 'agentmesh/verification-pending', description: 'The person has not typed the code yet' },
)
export type VerificationPending = Static<typeof VerificationPending>

export const VerificationEmail = Type.Object(
  {
    provider: ProviderName,
    address: Type.String({ minLength: 3, maxLength: 254, description: 'Forgotten when the mail is sent' }),
  },
  { $id: 'agentmesh/verification-email' },
)
export type VerificationEmail = Static<typeof VerificationEmail>

export const VerificationEmailStarted = Type.Object(
  { verification_id: VerificationId, expires_at: Timestamp },
  {
    $id: 'agentmesh/verification-email-started',
    description: 'The same for every address, whether or not a mail can reach it',
  },
)
export type VerificationEmailStarted = Static<typeof VerificationEmailStarted>

export const VerificationEmailFinish = Type.Object(
  {
    verification_id: VerificationId,
    code: Type.String({ pattern: '^[0-9]{8}$' }),
    display_name: DisplayName,
  },
  { $id: 'agentmesh/verification-email-finish' },
)
export type VerificationEmailFinish = Static<typeof VerificationEmailFinish>

export const VerificationResult = Type.Object(
  {
    tier: Type.Literal(1),
    display_name: Nullable(PeerText(MAX_DISPLAY_NAME)),
    certificate_chain: Type.Array(
      Type.String({ maxLength: 4096, pattern: '^[A-Za-z0-9+/]+={0,2}$', description: 'base64 DER' }),
      { minItems: 1, maxItems: 3, description: 'The agent’s first, without the registry’s intermediates' },
    ),
    certificate_proof: Embedded(CertificateProof),
  },
  { $id: 'agentmesh/verification-result', description: 'The agent is verified: what it shows to others' },
)
export type VerificationResult = Static<typeof VerificationResult>

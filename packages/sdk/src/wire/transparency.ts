/**
 * The transparency log on the wire: signed tree heads, proofs, pages of entries (DESIGN §8; `spec/transparency.md`).
 */
import type { Static } from 'typebox'
import { Type } from './type.ts'
import { RegistryFingerprint } from './reputation.ts'
import { AmidText, Embedded, HashText, SignatureText, Timestamp } from './schema.ts'

/** Bytes of an entry of the log, its nine bytes of header included. */
export const MAX_LOG_ENTRY_BYTES = 4_096
/** Entries on one page. */
export const MAX_LOG_PAGE_ENTRIES = 256
/** A path has at most one hash a level, and a size fits in 53 bits. */
const MAX_PATH_HASHES = 53

const Count = (description: string) =>
  Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER, description })
const Path = (description: string) => Type.Array(HashText, { maxItems: MAX_PATH_HASHES, description })

export const TreeHead = Type.Object(
  {
    type: Type.Literal('tree_head'),
    registry: RegistryFingerprint,
    size: Count('Entries in the log'),
    root_hash: HashText,
    timestamp: Timestamp,
    signature: SignatureText,
  },
  {
    $id: 'agentmesh/tree-head',
    description: 'The state of a registry’s log, signed by its service key under the label `tree-head`',
  },
)
export type TreeHead = Static<typeof TreeHead>

export const CertificateProof = Type.Object(
  {
    tree_head: Embedded(TreeHead),
    index: Count('Place of the certificate’s entry'),
    entry_timestamp: Timestamp,
    path: Path('Inclusion path of RFC 9162, lowest hash first'),
  },
  {
    $id: 'agentmesh/certificate-proof',
    description: 'Proves that a certificate is in the log of the registry that issued it',
  },
)
export type CertificateProof = Static<typeof CertificateProof>

export const InclusionProof = Type.Object(
  {
    index: Count('Place of the entry'),
    size: Count('Size of the tree the path leads to the root of'),
    leaf_hash: HashText,
    path: Path('Inclusion path of RFC 9162, lowest hash first'),
  },
  { $id: 'agentmesh/inclusion-proof' },
)
export type InclusionProof = Static<typeof InclusionProof>

export const ConsistencyProof = Type.Object(
  {
    from: Count('Size of the older tree'),
    to: Count('Size of the newer tree'),
    path: Path('Consistency path of RFC 9162'),
  },
  {
    $id: 'agentmesh/consistency-proof',
    description: 'Proves that the newer tree begins with the older one',
  },
)
export type ConsistencyProof = Static<typeof ConsistencyProof>

export const LogEntries = Type.Object(
  {
    start: Count('Index of the first entry'),
    entries: Type.Array(
      Type.String({ maxLength: Math.ceil(MAX_LOG_ENTRY_BYTES / 3) * 4, description: 'base64 of the entry' }),
      { maxItems: MAX_LOG_PAGE_ENTRIES },
    ),
  },
  {
    $id: 'agentmesh/log-entries',
    description: 'Neighbouring entries of a log; fewer than asked for at a limit',
  },
)
export type LogEntries = Static<typeof LogEntries>

export const LoggedRevocation = Type.Object(
  {
    type: Type.Literal('revocation'),
    issuer: Type.String({
      pattern: '^[0-9a-f]{40}$',
      description: 'Key id of the issuing certificate authority',
    }),
    serial: Type.String({
      pattern: '^[0-9a-f]{2,40}$',
      description: 'Serial number of the certificate, hex',
    }),
    reason: Type.String({ maxLength: 32, description: 'Reason of RFC 5280, such as keyCompromise' }),
    revoked_at: Timestamp,
    amid: Type.Optional(AmidText),
  },
  { $id: 'agentmesh/logged-revocation', description: 'Content of a log entry about a revocation' },
)
export type LoggedRevocation = Static<typeof LoggedRevocation>

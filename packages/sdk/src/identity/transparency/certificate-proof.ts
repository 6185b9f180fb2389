/**
 * Whether a certificate is in the log of the registry that issued it: what an agent asks before it believes a peer's
 * chain, with no question to anybody.
 *
 *     leaf = SHA-256(0x00 || 0x01 || entry_timestamp || DER)    -> path -> root of the head, signed by the service key
 *
 * The head may be up to a week old, so that an agent stays who it is while its registry is down for some days; its daemon
 * fetches a new proof every day. Without a bound a registry could show a tree once, hand out proofs under it, take it back,
 * and the proofs would pass for as long as the certificate lives.
 */
import {
  AgentMeshError,
  CertificateProof,
  CLOCK_SKEW_SECONDS,
  fromBase64,
  parseTimestamp,
  validate,
} from '../../wire/index.ts'
import { encodeLogEntry } from './log-entry.ts'
import { leafHash, verifyInclusion } from './merkle.ts'
import { verifyTreeHead, type LogKey, type TreeState } from './tree-head.ts'

/** How old the head of a proof may be. */
export const TREE_HEAD_MAX_AGE_SECONDS = 7 * 86_400

/**
 * @param der the agent certificate of the chain
 * @param raw the proof as received
 * @param now milliseconds since the epoch
 * @returns the tree the proof was checked against, to be held against other heads of this registry
 * @throws MALFORMED, LOG_FOREIGN (a head of another registry), INVALID_SIGNATURE, TREE_HEAD_STALE (too old, or from the
 *   future), LOG_PROOF_INVALID (the certificate is not at that place of that tree), TOO_LARGE (of the certificate)
 */
export function verifyCertificateProof(der: Uint8Array, raw: unknown, log: LogKey, now: number): TreeState {
  const proof = validate(CertificateProof, raw, 'verify a certificate proof')
  const tree = verifyTreeHead(proof.tree_head, log)
  if (tree.timestamp > now + CLOCK_SKEW_SECONDS * 1000) {
    throw new AgentMeshError('TREE_HEAD_STALE', 'The tree head is dated in the future')
  }
  if (tree.timestamp < now - TREE_HEAD_MAX_AGE_SECONDS * 1000) throw new AgentMeshError('TREE_HEAD_STALE')
  const timestamp = parseTimestamp(proof.entry_timestamp)
  const included = verifyInclusion({
    leaf: leafHash(encodeLogEntry({ kind: 'certificate', timestamp, content: der })),
    index: proof.index,
    size: tree.size,
    root: tree.rootHash,
    path: proof.path.map(fromBase64),
  })
  if (!included) throw new AgentMeshError('LOG_PROOF_INVALID')
  return tree
}

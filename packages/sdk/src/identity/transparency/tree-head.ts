/**
 * Signed tree heads: what a registry commits to when it says how long its log is and what its root is (RFC 9162 §4.10).
 *
 *     signature = Ed25519(label `tree-head`, RFC 8785 bytes of the head without `signature`), by the service key
 *
 * Two heads of one registry that no consistency proof can join show that it told two stories; they need no witness beyond
 * the two signatures.
 */
import { equalBytes, sign, verify, type KeyPair } from '../../crypto/signing.ts'
import {
  AgentMeshError,
  ConsistencyProof,
  formatTimestamp,
  fromBase64,
  parseTimestamp,
  toBase64,
  TreeHead,
  unsignedBytes,
  validate,
} from '../../wire/index.ts'
import { EMPTY_ROOT, verifyConsistency } from './merkle.ts'

/** Whose log it is. A `TrustedRegistry` is one. */
export interface LogKey {
  /** The registry's: lower-case hex SHA-256 of its root certificate. */
  readonly fingerprint: string
  /** Ed25519, 32 bytes. */
  readonly serviceKey: Uint8Array
}

export interface TreeState {
  readonly size: number
  readonly rootHash: Uint8Array
  /** Milliseconds since the epoch. */
  readonly timestamp: number
}

/** @throws MALFORMED or INVALID_TIMESTAMP when the state makes no valid head */
export function signTreeHead(
  registry: { fingerprint: string; serviceKey: KeyPair },
  state: TreeState,
): TreeHead {
  const unsigned = {
    type: 'tree_head',
    registry: registry.fingerprint,
    size: state.size,
    root_hash: toBase64(state.rootHash),
    timestamp: formatTimestamp(state.timestamp),
  }
  const signature = sign('tree-head', registry.serviceKey.secretKey, unsignedBytes(unsigned))
  return validate(TreeHead, { ...unsigned, signature: toBase64(signature) }, 'sign a tree head')
}

/**
 * What a head says, when it is the registry's own. Its age is for the caller to judge.
 *
 * @throws MALFORMED, LOG_FOREIGN (another registry's), INVALID_SIGNATURE
 */
export function verifyTreeHead(raw: unknown, { fingerprint, serviceKey }: LogKey): TreeState {
  const head = validate(TreeHead, raw, 'verify a tree head')
  if (head.registry !== fingerprint) throw new AgentMeshError('LOG_FOREIGN')
  if (!verify('tree-head', serviceKey, fromBase64(head.signature), unsignedBytes(head))) {
    throw new AgentMeshError('INVALID_SIGNATURE', 'The tree head is not signed by its registry')
  }
  const rootHash = fromBase64(head.root_hash)
  if (head.size === 0 && !equalBytes(rootHash, EMPTY_ROOT)) {
    throw new AgentMeshError('MALFORMED', 'The root of an empty log is not that of an empty tree')
  }
  return { size: head.size, rootHash, timestamp: parseTimestamp(head.timestamp) }
}

/** Sizes differ in `ask`: a proof of consistency must be asked for. `split`: the registry told two stories. */
export type TreeRelation =
  | { readonly relation: 'same' }
  | { readonly relation: 'split' }
  | { readonly relation: 'ask'; readonly older: TreeState; readonly newer: TreeState }

/** How two verified heads of one registry stand to each other. */
export function compareTrees(one: TreeState, other: TreeState): TreeRelation {
  if (one.size === other.size) {
    return { relation: equalBytes(one.rootHash, other.rootHash) ? 'same' : 'split' }
  }
  const [older, newer] = one.size < other.size ? [one, other] : [other, one]
  return { relation: 'ask', older, newer }
}

/**
 * Checks the proof a registry gave that the newer of two trees begins with the older.
 *
 * @throws MALFORMED; LOG_INCONSISTENT when it is for other sizes or does not lead to both roots
 */
export function checkConsistency(raw: unknown, older: TreeState, newer: TreeState): void {
  const proof = validate(ConsistencyProof, raw, 'check a consistency proof')
  const proven =
    proof.from === older.size &&
    proof.to === newer.size &&
    verifyConsistency({
      from: older.size,
      to: newer.size,
      fromRoot: older.rootHash,
      toRoot: newer.rootHash,
      path: proof.path.map(fromBase64),
    })
  if (!proven) throw new AgentMeshError('LOG_INCONSISTENT')
}

/**
 * Follows the log of a trusted registry: each signed head is held against the one before (spec/transparency.md).
 *
 *     same tree                         nothing new
 *     longer, and proven to continue    kept
 *     older and made before             nothing new: an answer that was under way
 *     another root at the same size, fewer entries made later, no proof: the log contradicts itself
 */
import type { RegistryClient } from '../../discovery/index.ts'
import {
  checkConsistency,
  compareTrees,
  verifyTreeHead,
  type TreeState,
  type TrustedRegistry,
} from '../../identity/index.ts'
import {
  AgentMeshError,
  fromBase64,
  isAgentMeshError,
  parseTimestamp,
  type ErrorCode,
  type TreeHead,
} from '../../wire/index.ts'
import { commit, type Core } from '../core.ts'

/** What says nothing about a log. */
const NO_ANSWER: ReadonlySet<ErrorCode> = new Set([
  'REGISTRY_UNREACHABLE',
  'REGISTRY_ANSWER_INVALID',
  'RATE_LIMITED',
  'STORE_FAILED',
  'INTERNAL',
])

/** @throws LOG_INCONSISTENT; INVALID_SIGNATURE, LOG_FOREIGN; what asking the registry throws */
export async function followLog(core: Core, registry: TrustedRegistry): Promise<void> {
  const { meta } = core.store.tables
  const key = headKey(registry.fingerprint)
  const client = core.registries.at(registry.url)
  const head = await client.treeHead()
  const tree = verifyTreeHead(head, registry)
  const seen = meta.get(key) as TreeHead | undefined
  if (seen !== undefined && !(await continues(client, treeOf(seen), tree))) return
  await commit(core, () => meta.put(key, head))
}

/** Where the newest head of a registry's log is kept. */
export function headKey(fingerprint: string): string {
  return `tree_head:${fingerprint}`
}

/** Checked when it was kept. */
function treeOf({ size, root_hash, timestamp }: TreeHead): TreeState {
  return { size, rootHash: fromBase64(root_hash), timestamp: parseTimestamp(timestamp) }
}

/**
 * Whether a log goes on from the tree we saw; false when it is that one, or an older one of which nothing is known.
 *
 * @throws LOG_INCONSISTENT; what asking for the proof throws when no answer comes
 */
async function continues(client: RegistryClient, seen: TreeState, tree: TreeState): Promise<boolean> {
  const compared = compareTrees(seen, tree)
  if (compared.relation === 'same') return false
  if (compared.relation === 'split') {
    throw new AgentMeshError('LOG_INCONSISTENT', `Its log was shown with two roots at ${seen.size} entries`)
  }
  if (tree.size < seen.size) {
    // One made before may come late; one made later has lost entries.
    if (tree.timestamp <= seen.timestamp) return false
    throw new AgentMeshError(
      'LOG_INCONSISTENT',
      `Its log had ${seen.size} entries and is shown with ${tree.size}`,
    )
  }
  try {
    checkConsistency(await client.consistency(seen.size, tree.size), seen, tree)
  } catch (error) {
    if (!isAgentMeshError(error) || NO_ANSWER.has(error.code)) throw error
    // A head commits its registry to the proof: to refuse it is to have none.
    const why = `Its log of ${tree.size} entries does not continue the one of ${seen.size}`
    throw new AgentMeshError('LOG_INCONSISTENT', why, { cause: error })
  }
  return true
}

/**
 * What somebody who watches a log keeps between two looks at it, and how new entries are held against the new head.
 *
 *     size, root (signed head) + the hashes of its complete subtrees, at most one a level
 *
 * With these the root of any longer tree follows from its new entries alone: a log of millions is read once.
 */
import {
  AgentMeshError,
  Embedded,
  fromBase64,
  HashText,
  toBase64,
  TreeHead,
  validate,
  Type,
} from '../../wire/index.ts'
import { equalBytes } from '../../crypto/signing.ts'
import { completeSubtrees, leafHash, nodeHash, rootOfSubtrees } from './merkle.ts'

const MAX_SUBTREES = 53

const LogState = Type.Object({
  type: Type.Literal('log_state'),
  tree_head: Embedded(TreeHead),
  subtrees: Type.Array(HashText, { maxItems: MAX_SUBTREES }),
})

/** As it is kept in a file. */
export interface LogState {
  readonly type: 'log_state'
  /** The newest head that was found good. It names its registry. */
  readonly tree_head: TreeHead
  /** Base64, from the left. */
  readonly subtrees: readonly string[]
}

/** @throws MALFORMED also when the subtrees are not those of the head */
export function parseLogState(raw: unknown): LogState {
  const state = validate(LogState, raw, 'read the state of a log')
  const { size, root_hash } = state.tree_head
  const root = rootOfSubtrees(state.subtrees.map(fromBase64))
  if (
    state.subtrees.length !== completeSubtrees({ start: 0, end: size }).length ||
    !equalBytes(root, fromBase64(root_hash))
  ) {
    throw new AgentMeshError('MALFORMED', 'The subtrees are not those of the tree head', {
      operation: 'read the state of a log',
    })
  }
  return state
}

/** A tree that grows by one leaf at a time and keeps nothing but its complete subtrees. */
export class GrowingTree {
  readonly #subtrees: Uint8Array[]
  #size: number

  constructor(state?: LogState) {
    this.#subtrees = state === undefined ? [] : state.subtrees.map(fromBase64)
    this.#size = state?.tree_head.size ?? 0
  }

  get size(): number {
    return this.#size
  }

  get root(): Uint8Array {
    return rootOfSubtrees(this.#subtrees)
  }

  /** @param entry the bytes of the entry, not its hash */
  append(entry: Uint8Array): void {
    let hash = leafHash(entry)
    for (let rest = this.#size; rest % 2 === 1; rest = (rest - 1) / 2) {
      const left = this.#subtrees.pop()
      if (left !== undefined) hash = nodeHash(left, hash)
    }
    this.#subtrees.push(hash)
    this.#size++
  }

  /** What to keep; `tree_head` is the verified head of this very tree. */
  state(tree_head: TreeHead): LogState {
    return { type: 'log_state', tree_head, subtrees: this.#subtrees.map(toBase64) }
  }
}

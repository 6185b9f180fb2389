/**
 * The Merkle tree of the transparency log: hashes, and the two proofs (RFC 6962 §2.1, RFC 9162 §2.1).
 *
 *     leaf = SHA-256(0x00 || entry)      node = SHA-256(0x01 || left || right)      empty tree = SHA-256("")
 *
 * Every proof is a list of roots of ranges of leaves. Where a range begins and ends follows from the sizes alone, so the
 * ranges stand in functions of their own: with all leaves at hand their roots are computed, and a registry that stores
 * the complete subtrees reads them. A complete subtree at `level` covers the 2^level leaves from `position` * 2^level on.
 *
 * Indexes and sizes are integers up to 2^53 - 1, which is beyond the reach of bitwise operators.
 */
import { equalBytes, sha256 } from '../../crypto/signing.ts'

const LEAF = Uint8Array.of(0)
const NODE = Uint8Array.of(1)

export const EMPTY_ROOT: Uint8Array = sha256()

/** Leaves `start` up to, not including, `end`. */
export interface LeafRange {
  readonly start: number
  readonly end: number
}

/** A complete subtree. */
export interface Subtree {
  readonly level: number
  readonly position: number
}

export function leafHash(entry: Uint8Array): Uint8Array {
  return sha256(LEAF, entry)
}

export function nodeHash(left: Uint8Array, right: Uint8Array): Uint8Array {
  return sha256(NODE, left, right)
}

/** The root over leaf hashes: MTH of RFC 9162 §2.1.1. */
export function rootOf(leafHashes: readonly Uint8Array[]): Uint8Array {
  if (leafHashes.length < 2) return leafHashes[0] ?? EMPTY_ROOT
  const split = splitOf(leafHashes.length)
  return nodeHash(rootOf(leafHashes.slice(0, split)), rootOf(leafHashes.slice(split)))
}

/** The root of neighbouring complete subtrees, from the left: what `completeSubtrees` lists. */
export function rootOfSubtrees(hashes: readonly Uint8Array[]): Uint8Array {
  return hashes.length === 0 ? EMPTY_ROOT : hashes.reduceRight((right, left) => nodeHash(left, right))
}

/**
 * The complete subtrees a range consists of, from the left, largest first: at most one a level. The range begins where a
 * subtree at least as long begins, as all ranges of a proof do.
 */
export function completeSubtrees({ start, end }: LeafRange): Subtree[] {
  const subtrees: Subtree[] = []
  for (let at = start; at < end;) {
    let level = 0
    while (at + 2 ** (level + 1) <= end) level++
    subtrees.push({ level, position: at / 2 ** level })
    at += 2 ** level
  }
  return subtrees
}

/** The ranges whose roots are the inclusion path of leaf `index` < `size`, lowest first (RFC 9162 §2.1.3.1). */
export function inclusionRanges(index: number, size: number): LeafRange[] {
  const ranges: LeafRange[] = []
  let [start, end] = [0, size]
  while (end - start > 1) {
    const middle = start + splitOf(end - start)
    if (index < middle) {
      ranges.push({ start: middle, end })
      end = middle
    } else {
      ranges.push({ start, end: middle })
      start = middle
    }
  }
  return ranges.toReversed()
}

/** The ranges whose roots are the consistency path from a tree of `from` <= `to` leaves (RFC 9162 §2.1.4.1). */
export function consistencyRanges(from: number, to: number): LeafRange[] {
  if (from === 0 || from === to) return []
  const ranges: LeafRange[] = []
  let [start, end] = [0, to]
  while (from !== end) {
    const middle = start + splitOf(end - start)
    if (from <= middle) {
      ranges.push({ start: middle, end })
      end = middle
    } else {
      ranges.push({ start, end: middle })
      start = middle
    }
  }
  // The old tree itself needs no proof: whoever asks has its root.
  if (start > 0) ranges.push({ start, end })
  return ranges.toReversed()
}

/** The hashes beside the way from leaf `index` to the root; `index` is below the number of leaves. */
export function inclusionPath(index: number, leafHashes: readonly Uint8Array[]): Uint8Array[] {
  return inclusionRanges(index, leafHashes.length).map(({ start, end }) =>
    rootOf(leafHashes.slice(start, end)),
  )
}

/** The hashes by which the tree of the first `from` leaves is shown to be a beginning of this one. */
export function consistencyPath(from: number, leafHashes: readonly Uint8Array[]): Uint8Array[] {
  return consistencyRanges(from, leafHashes.length).map(({ start, end }) =>
    rootOf(leafHashes.slice(start, end)),
  )
}

export interface InclusionClaim {
  readonly leaf: Uint8Array
  readonly index: number
  readonly size: number
  readonly root: Uint8Array
  readonly path: readonly Uint8Array[]
}

/** Whether the tree of `size` leaves with this root has `leaf` at `index` (RFC 9162 §2.1.3.2). Never throws. */
export function verifyInclusion({ leaf, index, size, root, path }: InclusionClaim): boolean {
  if (!isCount(index) || !isCount(size) || index >= size) return false
  let place = index
  let last = size - 1
  let hash = leaf
  for (const beside of path) {
    if (last === 0) return false
    if (isOdd(place) || place === last) {
      hash = nodeHash(beside, hash)
      // A last node without a sibling is carried up to the level where it has one.
      while (!isOdd(place) && place !== 0) [place, last] = [half(place), half(last)]
    } else {
      hash = nodeHash(hash, beside)
    }
    ;[place, last] = [half(place), half(last)]
  }
  return last === 0 && equalBytes(hash, root)
}

export interface ConsistencyClaim {
  readonly from: number
  readonly to: number
  readonly fromRoot: Uint8Array
  readonly toRoot: Uint8Array
  readonly path: readonly Uint8Array[]
}

/** Whether the tree of `from` leaves is the beginning of that of `to` leaves (RFC 9162 §2.1.4.2). Never throws. */
export function verifyConsistency({ from, to, fromRoot, toRoot, path }: ConsistencyClaim): boolean {
  if (!isCount(from) || !isCount(to) || from > to) return false
  if (from === to) return path.length === 0 && equalBytes(fromRoot, toRoot)
  if (from === 0) return path.length === 0 && equalBytes(fromRoot, EMPTY_ROOT)
  let place = from - 1
  let last = to - 1
  while (isOdd(place)) [place, last] = [half(place), half(last)]
  // A tree that is complete in itself is the first node; otherwise that comes with the path.
  const [first, ...rest] = place === 0 ? [fromRoot, ...path] : path
  if (first === undefined) return false
  let [older, newer] = [first, first]
  for (const beside of rest) {
    if (last === 0) return false
    if (isOdd(place) || place === last) {
      older = nodeHash(beside, older)
      newer = nodeHash(beside, newer)
      while (!isOdd(place) && place !== 0) [place, last] = [half(place), half(last)]
    } else {
      newer = nodeHash(newer, beside)
    }
    ;[place, last] = [half(place), half(last)]
  }
  return last === 0 && equalBytes(older, fromRoot) && equalBytes(newer, toRoot)
}

/** The largest power of two below `length`, which is at least 2. */
function splitOf(length: number): number {
  let split = 1
  while (split * 2 < length) split *= 2
  return split
}

function isCount(value: number): boolean {
  return Number.isSafeInteger(value) && value >= 0
}

function isOdd(value: number): boolean {
  return value % 2 === 1
}

function half(value: number): number {
  return Math.floor(value / 2)
}

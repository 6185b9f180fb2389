import { describe, expect, it } from 'vitest'
import { fromHex, toHex, utf8Bytes } from '../../wire/index.ts'
import { printVector, vectorFiles } from '../../wire/test-support.ts'
import {
  completeSubtrees,
  consistencyPath,
  consistencyRanges,
  EMPTY_ROOT,
  inclusionPath,
  inclusionRanges,
  leafHash,
  nodeHash,
  rootOf,
  rootOfSubtrees,
  verifyConsistency,
  verifyInclusion,
} from './merkle.ts'
import { ENTRIES, treeVector, type TreeVector } from './test-support.ts'

const PRINT_WIDTH = 110
const SIZES = Array.from({ length: 20 }, (_, index) => index + 1)
const scenarios = new Map(SIZES.map((size) => [`tree-${String(size).padStart(2, '0')}`, treeVector(size)]))
const { names, load } = vectorFiles('transparency', scenarios, (vector) => printVector(vector, PRINT_WIDTH))
const vectors = names
  .filter((name) => scenarios.has(name))
  .map((name) => JSON.parse(load(name)) as TreeVector)
  .toSorted((a, b) => a.size - b.size)

const LEAVES = ENTRIES.map(leafHash)
const treeOf = (size: number): Uint8Array[] => LEAVES.slice(0, size)
const ROOTS = Array.from({ length: 21 }, (_, size) => rootOf(treeOf(size)))

/** The same bytes but for one bit. */
function flipped(bytes: Uint8Array, bit = 0): Uint8Array {
  const copy = Uint8Array.from(bytes)
  copy[bit >> 3]! ^= 1 << (bit & 7)
  return copy
}

describe('test-vectors/transparency, trees', () => {
  it('holds the trees of 1 to 20 leaves', () => {
    expect(vectors.map(({ size }) => size)).toEqual(SIZES)
  })

  it.each(vectors)(
    'the tree of $size leaves has these hashes and these paths, and each path verifies',
    (vector) => {
      expect(vector).toEqual(scenarios.get(`tree-${String(vector.size).padStart(2, '0')}`))
      const { size } = vector
      const leaves = vector.entries.map((entry) => leafHash(fromHex(entry)))
      const root = rootOf(leaves)
      expect(leaves.map(toHex)).toEqual(vector.leaf_hashes)
      expect(toHex(root)).toBe(vector.root)
      for (const [index, hexes] of vector.inclusion.entries()) {
        const path = hexes.map(fromHex)
        expect(inclusionPath(index, leaves)).toEqual(path)
        expect(verifyInclusion({ leaf: leaves[index]!, index, size, root, path })).toBe(true)
      }
      for (const [from, hexes] of vector.consistency.entries()) {
        const path = hexes.map(fromHex)
        expect(consistencyPath(from, leaves)).toEqual(path)
        const fromRoot = rootOf(leaves.slice(0, from))
        expect(verifyConsistency({ from, to: size, fromRoot, toRoot: root, path })).toBe(true)
      }
    },
  )
})

describe('known answers of the certificate-transparency reference tests', () => {
  it('has the root of the empty tree', () => {
    expect(toHex(EMPTY_ROOT)).toBe('e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855')
    expect(rootOf([])).toEqual(EMPTY_ROOT)
  })

  it.each([
    [1, '6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d'],
    [2, 'fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125'],
    [3, 'aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77'],
    [4, 'd37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7'],
    [5, '4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4'],
    [6, '76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef'],
    [7, 'ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c'],
    [8, '5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328'],
  ])('has the root of its first %i entries', (size, root) => {
    expect(toHex(ROOTS[size]!)).toBe(root)
  })

  it.each([
    [0, 1, []],
    [
      0,
      8,
      [
        '96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7',
        '5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e',
        '6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4',
      ],
    ],
    [
      5,
      8,
      [
        'bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b',
        'ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0',
        'd37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7',
      ],
    ],
    [2, 3, ['fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125']],
    [
      1,
      5,
      [
        '6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d',
        '5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e',
        'bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b',
      ],
    ],
  ])('has the inclusion path of entry %i in the tree of %i', (index, size, path) => {
    expect(inclusionPath(index, treeOf(size)).map(toHex)).toEqual(path)
  })

  it.each([
    [1, 1, []],
    [
      1,
      8,
      [
        '96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7',
        '5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e',
        '6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4',
      ],
    ],
    [
      6,
      8,
      [
        '0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a',
        'ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0',
        'd37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7',
      ],
    ],
    [
      2,
      5,
      [
        '5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e',
        'bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b',
      ],
    ],
  ])('has the consistency path from %i to %i', (from, to, path) => {
    expect(consistencyPath(from, treeOf(to)).map(toHex)).toEqual(path)
  })
})

describe('an inclusion path', () => {
  const claims = SIZES.flatMap((size) =>
    treeOf(size).map((leaf, index) => ({
      leaf,
      index,
      size,
      root: ROOTS[size]!,
      path: inclusionPath(index, treeOf(size)),
    })),
  )

  it('does not verify for another leaf, another root or a changed bit of any hash in it', () => {
    for (const claim of claims) {
      expect(verifyInclusion({ ...claim, leaf: flipped(claim.leaf, claim.index) })).toBe(false)
      expect(verifyInclusion({ ...claim, root: flipped(claim.root, 255 - claim.index) })).toBe(false)
      for (const [at, beside] of claim.path.entries()) {
        expect(verifyInclusion({ ...claim, path: claim.path.with(at, flipped(beside, at)) })).toBe(false)
      }
    }
  })

  it('does not verify at another index', () => {
    for (const claim of claims) {
      for (let index = 0; index < 24; index++) {
        expect(verifyInclusion({ ...claim, index })).toBe(index === claim.index)
      }
    }
  })

  it('does not verify in a tree of another size with the root of that tree', () => {
    for (const claim of claims) {
      for (const size of SIZES) {
        expect(verifyInclusion({ ...claim, size, root: ROOTS[size]! })).toBe(size === claim.size)
      }
    }
  })

  it('does not verify in another order, cut short or with something added', () => {
    for (const claim of claims) {
      const { path } = claim
      for (let one = 0; one < path.length; one++) {
        expect(verifyInclusion({ ...claim, path: path.toSpliced(one, 1) })).toBe(false)
        expect(verifyInclusion({ ...claim, path: path.toSpliced(one, 0, path[one]!) })).toBe(false)
        for (let other = one + 1; other < path.length; other++) {
          const swapped = path.with(one, path[other]!).with(other, path[one]!)
          expect(verifyInclusion({ ...claim, path: swapped })).toBe(false)
        }
      }
      expect(verifyInclusion({ ...claim, path: [...path, claim.root] })).toBe(false)
    }
  })

  it('refuses an inner node shown as a leaf, and a leaf hash shown as an entry', () => {
    const [first, second, third, fourth] = treeOf(4) as [Uint8Array, Uint8Array, Uint8Array, Uint8Array]
    const inner = { index: 0, size: 2, root: ROOTS[4]!, path: [nodeHash(third, fourth)] }
    // The hash values do join; only the leaf's prefix keeps an inner node from being an entry of a smaller tree.
    expect(verifyInclusion({ ...inner, leaf: nodeHash(first, second) })).toBe(true)
    expect(verifyInclusion({ ...inner, leaf: leafHash(Uint8Array.from([...first, ...second])) })).toBe(false)
    expect(leafHash(utf8Bytes('x'))).not.toEqual(leafHash(leafHash(utf8Bytes('x'))))
  })

  it.each([
    [-1, 4],
    [0.5, 4],
    [Number.NaN, 4],
    [0, Number.POSITIVE_INFINITY],
    [0, 2 ** 54],
    [4, 4],
    [0, 0],
  ])('refuses index %d of %d', (index, size) => {
    expect(verifyInclusion({ leaf: LEAVES[0]!, index, size, root: LEAVES[0]!, path: [] })).toBe(false)
  })

  it('is read to the end of a tree of 2^53 - 1 leaves and no further', () => {
    const size = Number.MAX_SAFE_INTEGER
    const path = inclusionRanges(0, size).map(() => LEAVES[0]!)
    expect(path).toHaveLength(53)
    const root = path.reduce((hash, beside) => nodeHash(hash, beside), LEAVES[1]!)
    const claim = { leaf: LEAVES[1]!, index: 0, size, root, path }
    expect(verifyInclusion(claim)).toBe(true)
    const endless = Array.from({ length: 100_000 }, () => LEAVES[0]!)
    expect(verifyInclusion({ ...claim, path: endless })).toBe(false)
  })
})

describe('a consistency path', () => {
  const claims = SIZES.flatMap((to) =>
    Array.from({ length: to + 1 }, (_, from) => ({
      from,
      to,
      fromRoot: ROOTS[from]!,
      toRoot: ROOTS[to]!,
      path: consistencyPath(from, treeOf(to)),
    })),
  )

  it('does not verify for another root on either side or a changed bit of any hash in it', () => {
    for (const claim of claims) {
      expect(verifyConsistency({ ...claim, fromRoot: flipped(claim.fromRoot) })).toBe(false)
      // Whatever tree there is begins with the empty one.
      if (claim.from > 0) expect(verifyConsistency({ ...claim, toRoot: flipped(claim.toRoot) })).toBe(false)
      for (const [at, hash] of claim.path.entries()) {
        expect(verifyConsistency({ ...claim, path: claim.path.with(at, flipped(hash, 100 + at)) })).toBe(
          false,
        )
      }
    }
  })

  it('does not verify between other sizes, even with the roots of those', () => {
    for (const claim of claims.filter(({ from, to }) => from > 0 && from < to)) {
      for (const size of SIZES) {
        const other = { ...claim, from: size, fromRoot: ROOTS[size]! }
        expect(verifyConsistency(other)).toBe(size === claim.from)
        const longer = { ...claim, to: size, toRoot: ROOTS[size]! }
        expect(verifyConsistency(longer)).toBe(size === claim.to)
      }
    }
  })

  it('does not verify in another order, cut short or with something added', () => {
    for (const claim of claims) {
      const { path } = claim
      for (let one = 0; one < path.length; one++) {
        expect(verifyConsistency({ ...claim, path: path.toSpliced(one, 1) })).toBe(false)
        expect(verifyConsistency({ ...claim, path: path.toSpliced(one, 0, path[one]!) })).toBe(false)
        for (let other = one + 1; other < path.length; other++) {
          const swapped = path.with(one, path[other]!).with(other, path[one]!)
          expect(verifyConsistency({ ...claim, path: swapped })).toBe(false)
        }
      }
      expect(verifyConsistency({ ...claim, path: [...path, claim.toRoot] })).toBe(false)
    }
  })

  it('cannot be made for a tree with a changed, dropped, added or moved entry behind the older head', () => {
    const honest = treeOf(13)
    for (let from = 1; from <= 13; from++) {
      for (let at = 0; at < from; at++) {
        const changed = honest.with(at, flipped(honest[at]!))
        const dropped = honest.toSpliced(at, 1)
        const added = honest.toSpliced(at, 0, LEAVES[19]!)
        const moved = honest
          .with(at, honest[at === 0 ? 12 : at - 1]!)
          .with(at === 0 ? 12 : at - 1, honest[at]!)
        for (const forged of [changed, dropped, added, moved]) {
          const to = forged.length
          if (to < from) continue
          const claim = { from, to, fromRoot: ROOTS[from]!, toRoot: rootOf(forged) }
          expect(verifyConsistency({ ...claim, path: consistencyPath(from, forged) })).toBe(false)
          expect(verifyConsistency({ ...claim, path: consistencyPath(from, honest) })).toBe(false)
        }
      }
    }
  })

  it.each([
    [-1, 4],
    [5, 4],
    [1.5, 4],
    [1, Number.NaN],
    [1, 2 ** 54],
  ])('refuses sizes %d and %d', (from, to) => {
    const claim = { from, to, fromRoot: ROOTS[1]!, toRoot: ROOTS[4]! }
    expect(verifyConsistency({ ...claim, path: [] })).toBe(false)
    expect(verifyConsistency({ ...claim, path: consistencyPath(1, treeOf(4)) })).toBe(false)
  })
})

describe('the ranges of proofs', () => {
  const subtreeRoot = (level: number, position: number): Uint8Array =>
    rootOf(LEAVES.slice(position * 2 ** level, (position + 1) * 2 ** level))

  it('consist of complete subtrees, no more than there are levels', () => {
    for (const size of SIZES) {
      const all = [
        { start: 0, end: size },
        ...treeOf(size).flatMap((_, index) => inclusionRanges(index, size)),
        ...SIZES.filter((from) => from <= size).flatMap((from) => consistencyRanges(from, size)),
      ]
      for (const range of all) {
        const subtrees = completeSubtrees(range)
        expect(subtrees.length).toBeLessThanOrEqual(Math.ceil(Math.log2(size + 1)))
        const hashes = subtrees.map(({ level, position }) => subtreeRoot(level, position))
        expect(rootOfSubtrees(hashes)).toEqual(rootOf(LEAVES.slice(range.start, range.end)))
      }
    }
  })

  it('stay few in a tree of a billion leaves', () => {
    const size = 1_000_000_007
    const reads = inclusionRanges(123_456_789, size).flatMap(completeSubtrees)
    expect(reads.length).toBeLessThanOrEqual(60)
    expect(consistencyRanges(999_999_937, size).flatMap(completeSubtrees).length).toBeLessThanOrEqual(60)
  })
})

describe('a path for a tree of another size', () => {
  it('shows no consistency, though both roots are right', () => {
    for (let to = 2; to <= 20; to++) {
      for (let from = 1; from < to; from++) {
        const claim = { from, to, fromRoot: ROOTS[from]!, toRoot: ROOTS[to]! }
        const path = consistencyPath(from, treeOf(to))
        expect(verifyConsistency({ ...claim, path })).toBe(true)
        // Of another height; trees of one height may have a path in common.
        for (const other of [to * 2, to * 4, 2 ** 30]) {
          expect([from, to, other, verifyConsistency({ ...claim, to: other, path })]).toEqual([
            from,
            to,
            other,
            false,
          ])
        }
      }
    }
  })

  it('shows no entry, though the root is right', () => {
    for (let size = 1; size <= 20; size++) {
      for (let index = 0; index < size; index++) {
        const path = inclusionPath(index, treeOf(size))
        const claim = { leaf: LEAVES[index]!, index, root: ROOTS[size]!, path }
        for (const other of [size * 2, size * 4, 2 ** 30]) {
          expect([size, index, other, verifyInclusion({ ...claim, size: other })]).toEqual([
            size,
            index,
            other,
            false,
          ])
        }
      }
    }
  })
})

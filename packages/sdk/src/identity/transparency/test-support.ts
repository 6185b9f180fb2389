/**
 * The definitions of RFC 9162 §2.1 word by word, over all leaves and recursively: slow, and made without a look at
 * `merkle.ts`. Vectors are made with them.
 */
import { createHash } from 'node:crypto'
import { fromHex, toHex } from '../../wire/index.ts'

const hash = (...parts: Uint8Array[]): Uint8Array =>
  Uint8Array.from(parts.reduce((state, part) => state.update(part), createHash('sha256')).digest())

/** The largest power of two smaller than n. */
const split = (n: number): number => 2 ** Math.floor(Math.log2(n - 1))

/** MTH(D_n), RFC 9162 §2.1.1. */
function referenceRoot(entries: readonly Uint8Array[]): Uint8Array {
  if (entries.length === 0) return hash()
  if (entries.length === 1) return hash(Uint8Array.of(0), entries[0]!)
  const k = split(entries.length)
  return hash(Uint8Array.of(1), referenceRoot(entries.slice(0, k)), referenceRoot(entries.slice(k)))
}

/** PATH(m, D_n), RFC 9162 §2.1.3.1. */
function referencePath(m: number, entries: readonly Uint8Array[]): Uint8Array[] {
  if (entries.length === 1) return []
  const k = split(entries.length)
  return m < k
    ? [...referencePath(m, entries.slice(0, k)), referenceRoot(entries.slice(k))]
    : [...referencePath(m - k, entries.slice(k)), referenceRoot(entries.slice(0, k))]
}

/** PROOF(m, D_n), RFC 9162 §2.1.4.1. */
function referenceConsistency(m: number, entries: readonly Uint8Array[]): Uint8Array[] {
  return subproof(m, entries, true)
}

function subproof(m: number, entries: readonly Uint8Array[], known: boolean): Uint8Array[] {
  if (m === entries.length) return known ? [] : [referenceRoot(entries)]
  const k = split(entries.length)
  return m <= k
    ? [...subproof(m, entries.slice(0, k), known), referenceRoot(entries.slice(k))]
    : [...subproof(m - k, entries.slice(k), false), referenceRoot(entries.slice(0, k))]
}

/** The eight entries of the tests of certificate-transparency, and twelve more. */
export const ENTRIES: readonly Uint8Array[] = [
  '',
  '00',
  '10',
  '2021',
  '3031',
  '40414243',
  '5051525354555657',
  '606162636465666768696a6b6c6d6e6f',
  ...Array.from({ length: 12 }, (_, index) => (0x70 + index).toString(16).repeat(index + 1)),
].map(fromHex)

export interface TreeVector {
  readonly description: string
  readonly size: number
  readonly entries: readonly string[]
  readonly leaf_hashes: readonly string[]
  readonly root: string
  /** By index of the leaf. */
  readonly inclusion: readonly (readonly string[])[]
  /** By size of the older tree, from 0 to `size`. */
  readonly consistency: readonly (readonly string[])[]
}

export function treeVector(size: number): TreeVector {
  const entries = ENTRIES.slice(0, size)
  const hexes = (list: readonly Uint8Array[]): string[] => list.map(toHex)
  return {
    description: `The tree of ${size === 1 ? 'one entry' : `${size} entries`}: every inclusion and consistency path. All bytes in hex`,
    size,
    entries: hexes(entries),
    leaf_hashes: entries.map((entry) => toHex(referenceRoot([entry]))),
    root: toHex(referenceRoot(entries)),
    inclusion: entries.map((_, index) => hexes(referencePath(index, entries))),
    consistency: Array.from({ length: size + 1 }, (_, from) =>
      from === 0 ? [] : hexes(referenceConsistency(from, entries)),
    ),
  }
}

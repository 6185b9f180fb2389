/** Sets of chunks as runs of them, in order and with a gap between two: what progress frames say and rows keep. */
import type { ChunkRange } from '../../wire/index.ts'

export function hasChunk(ranges: readonly ChunkRange[], index: number): boolean {
  return ranges.some(([first, last]) => first <= index && index <= last)
}

export function countChunks(ranges: readonly ChunkRange[]): number {
  return ranges.reduce((total, [first, last]) => total + last - first + 1, 0)
}

export function joinRanges(left: readonly ChunkRange[], right: readonly ChunkRange[]): ChunkRange[] {
  const joined: ChunkRange[] = []
  for (const [first, last] of [...left, ...right].toSorted((a, b) => a[0] - b[0])) {
    const before = joined.at(-1)
    if (before && first <= before[1] + 1) joined[joined.length - 1] = [before[0], Math.max(before[1], last)]
    else joined.push([first, last])
  }
  return joined
}

/** The chunks that are not there, from the first on. */
export function* missingChunks(ranges: readonly ChunkRange[], chunks: number): Generator<number, void, void> {
  let next = 0
  for (const [first, last] of ranges) {
    for (; next < Math.min(first, chunks); next++) yield next
    next = last + 1
  }
  for (; next < chunks; next++) yield next
}

export function isWhole(ranges: readonly ChunkRange[], chunks: number): boolean {
  return missingChunks(ranges, chunks).next().done === true
}

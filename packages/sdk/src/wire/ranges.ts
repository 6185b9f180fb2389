/**
 * Sets of sequence numbers as ranges, as they travel: `[[1, 40], [42, 42]]`, ascending, with a number missing between one
 * range and the next. What is mostly complete stays short, however much it holds.
 */
import { Type } from './type.ts'

/** First and last, both included. */
export type SequenceRange = readonly [first: number, last: number]
export type SequenceRanges = readonly SequenceRange[]

/** Of one statement: as many as a window has gaps, and one. */
export const MAX_RANGES = 65

const Sequence = Type.Integer({ minimum: 1, maximum: Number.MAX_SAFE_INTEGER })

/** Whether they ascend without touching is not for a schema: see `areRanges`. */
export function rangesOf(description: string) {
  return Type.Unsafe<SequenceRanges>(
    Type.Array(Type.Array(Sequence, { minItems: 2, maxItems: 2 }), {
      minItems: 1,
      maxItems: MAX_RANGES,
      description: `${description}; ranges [first, last], ascending, not touching`,
    }),
  )
}

/** Whether they ascend, each from first to last, with a gap between any two. */
export function areRanges(ranges: SequenceRanges): boolean {
  return ranges.every(
    ([first, last], index) => first <= last && (index === 0 || first > ranges[index - 1]![1] + 1),
  )
}

export function inRanges(ranges: SequenceRanges, sequence: number): boolean {
  return ranges.some(([first, last]) => first <= sequence && sequence <= last)
}

/** The last number of the set; 0 when it is empty. */
export function lastOf(ranges: SequenceRanges): number {
  return ranges.at(-1)?.[1] ?? 0
}

/** Both sets as one. */
export function unionOf(left: SequenceRanges, right: SequenceRanges): SequenceRanges {
  const union: [number, number][] = []
  for (const [first, last] of [...left, ...right].toSorted((one, other) => one[0] - other[0])) {
    const open = union.at(-1)
    if (open !== undefined && first <= open[1] + 1) open[1] = Math.max(open[1], last)
    else union.push([first, last])
  }
  return union
}

export function rangesFrom(sequences: Iterable<number>): SequenceRanges {
  return unionOf(
    [],
    Array.from(sequences, (sequence): SequenceRange => [sequence, sequence]),
  )
}

export function sameRanges(left: SequenceRanges, right: SequenceRanges): boolean {
  return (
    left.length === right.length &&
    left.every(([first, last], index) => first === right[index]![0] && last === right[index]![1])
  )
}

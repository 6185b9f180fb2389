import { describe, expect, it } from 'vitest'
import { countChunks, hasChunk, isWhole, joinRanges, missingChunks } from './chunk-ranges.ts'
import { SendWindow, WINDOW } from './send-window.ts'

const SECOND = 1000
const upTo = (last: number) => [[0, last]] as const

describe('ranges of chunks', () => {
  it('join where they touch, and stay apart where a chunk is missing', () => {
    expect(
      joinRanges(
        [[0, 2]],
        [
          [3, 4],
          [6, 6],
        ],
      ),
    ).toEqual([
      [0, 4],
      [6, 6],
    ])
    expect(joinRanges([[5, 9]], [[0, 20]])).toEqual([[0, 20]])
    expect(joinRanges([], [])).toEqual([])
  })

  it('tell what is missing, counted and one by one', () => {
    const ranges = [
      [1, 2],
      [4, 4],
    ] as const
    expect([...missingChunks(ranges, 6)]).toEqual([0, 3, 5])
    expect(countChunks(ranges)).toBe(3)
    expect([hasChunk(ranges, 2), hasChunk(ranges, 3)]).toEqual([true, false])
    expect([isWhole(ranges, 5), isWhole([[0, 4]], 5), isWhole([], 0)]).toEqual([false, true, true])
  })
})

describe('the window of a file that is sent', () => {
  it('sends nothing before the receiver said what it has', () => {
    const window = new SendWindow(100, [], 0)
    expect(window.next(32, 0)).toEqual([])
    window.heard([], 0)
    expect(window.next(32, 0)).toEqual(Array.from({ length: WINDOW }, (_, index) => index))
    expect(window.next(32, 0)).toEqual([])
  })

  it('goes on from what is there, and sends as many more as were confirmed', () => {
    const window = new SendWindow(100, [[0, 49]], 0)
    window.heard([[52, 53]], 0)
    expect(window.next(4, 0)).toEqual([50, 51, 54, 55])
    window.heard([[50, 50]], 0)
    expect(window.onTheWay).toBe(3)
    expect(window.next(1, 0)).toEqual([56])
  })

  it('keeps to the room that other files of the peer leave', () => {
    const window = new SendWindow(100, [], 0)
    window.heard([], 0)
    expect(window.next(3, 0)).toEqual([0, 1, 2])
    expect(window.next(0, 0)).toEqual([])
  })

  it('asks a silent receiver with one chunk, ever later', () => {
    const window = new SendWindow(100, [], 0)
    window.heard(upTo(9), 0)
    window.next(32, 0)
    expect(window.probe(14 * SECOND)).toBeUndefined()
    expect(window.probe(15 * SECOND)).toBe(10)
    expect(window.next(32, 15 * SECOND)).toEqual([])
    expect(window.probe(44 * SECOND)).toBeUndefined()
    expect(window.probe(45 * SECOND)).toBe(10)
    expect(window.probe(104 * SECOND)).toBeUndefined()
    window.heard(upTo(9), 104 * SECOND)
    expect(window.next(32, 104 * SECOND)).toHaveLength(WINDOW - 1)
  })

  it('is put off by no clock that jumps back', () => {
    const window = new SendWindow(100, [], 1_000_000 * SECOND)
    expect(window.probe(5 * SECOND)).toBe(0)
  })

  it('says what is news and what is not', () => {
    const window = new SendWindow(100, [], 0)
    expect([
      window.heard([], 0),
      window.heard([], 0),
      window.heard(upTo(3), 0),
      window.heard(upTo(2), 0),
    ]).toEqual([false, false, true, false])
  })
})

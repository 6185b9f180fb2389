import { describe, expect, it } from 'vitest'
import { Gather } from './gather.ts'

const BOUNDS = { items: 3, size: 100, atOnce: 1, waitingItems: 10, waitingSize: 1000 }

/** Work that ends when it is told to. */
function setUp(bounds: Partial<typeof BOUNDS> = {}) {
  const pieces: (readonly number[])[] = []
  const ends: ((error?: Error) => void)[] = []
  const gather = new Gather<number, string>('test', { ...BOUNDS, ...bounds }, async (items) => {
    pieces.push(items)
    await new Promise<void>((resolve, reject) => {
      ends.push((error) => (error === undefined ? resolve() : reject(error)))
    })
    return items.map(String)
  })
  const turn = async () => new Promise<void>((resolve) => setImmediate(resolve))
  return { gather, pieces, ends, turn }
}

describe('Gather', () => {
  it('makes one piece of what a turn asks, and one of what comes while it works', async () => {
    const { gather, pieces, ends, turn } = setUp()
    const first = [gather.ask(1), gather.ask(2)]
    expect(pieces).toEqual([])
    await turn()
    const second = [3, 4, 5, 6].map(async (item) => gather.ask(item))
    await turn()
    expect(pieces).toEqual([[1, 2]])
    ends[0]!()
    expect(await Promise.all(first)).toEqual(['1', '2'])
    await turn()
    expect(pieces).toEqual([
      [1, 2],
      [3, 4, 5],
    ])
    ends[1]!()
    await turn()
    ends[2]!()
    expect(await Promise.all(second)).toEqual(['3', '4', '5', '6'])
    await gather.idle()
  })

  it('begins as many pieces as it may, and makes them no larger than they may be', async () => {
    const { gather, pieces, ends, turn } = setUp({ atOnce: 2 })
    const answers = [60, 60, 30, 500].map(async (size) => gather.ask(size, size))
    await turn()
    await turn()
    expect(pieces).toEqual([[60], [60, 30]])
    ends[1]!()
    await turn()
    expect(pieces[2]).toEqual([500])
    for (const end of ends) end()
    expect(await Promise.all(answers)).toEqual(['60', '60', '30', '500'])
  })

  it('fails those of the piece that failed, and goes on', async () => {
    const { gather, ends, turn } = setUp({ items: 1 })
    const [failed, done] = [gather.ask(1), gather.ask(2)]
    const failure = failed.catch((error: unknown) => error)
    await turn()
    ends[0]!(new Error('no'))
    expect(await failure).toMatchObject({
      code: 'RELAY_STORE_FAILED',
      operation: 'test',
      cause: { message: 'no' },
    })
    await turn()
    ends[1]!()
    expect(await done).toBe('2')
  })

  it('refuses what would wait beyond its bounds, by number and by size', async () => {
    const { gather, ends, turn } = setUp({ items: 10, waitingItems: 2, waitingSize: 50 })
    const first = gather.ask(1, 40)
    await expect(gather.ask(2, 11)).rejects.toMatchObject({ code: 'RELAY_STORE_FAILED' })
    const second = gather.ask(3, 10)
    await expect(gather.ask(4)).rejects.toMatchObject({ code: 'RELAY_STORE_FAILED' })
    await turn()
    // What is worked on waits no more.
    const third = gather.ask(5, 50)
    ends[0]!()
    await turn()
    ends[1]!()
    expect(await Promise.all([first, second, third])).toEqual(['1', '3', '5'])
  })
})

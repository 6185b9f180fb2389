/** Tables that the store writes once a group: nothing of it shows but the number of writes. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { systemRandom } from '../../crypto/signing.ts'
import type { OpenDatabase } from './sqlite.ts'
import { StateStore } from './state-store.ts'
import { drivers, failingPuts, rowName, storageKey, tables, watchingPuts, type Note } from './test-support.ts'

describe.each(drivers)('late tables with %s', (_name, opener) => {
  let dir: string
  let store: StateStore<typeof tables>

  const openStore = (sqlite: OpenDatabase = opener) =>
    StateStore.open(join(dir, 'state.db'), storageKey, {
      tables,
      late: ['notes'],
      random: systemRandom,
      sqlite,
    })
  const put = async (key: string, text: string, index = {}) =>
    store.commit(({ notes }) => notes.put(key, { text }, index))
  const keys = (query = {}) => store.tables.notes.list(query).map(({ key }) => key)

  beforeEach(() => {
    dir = mkdtempSync(join(tmpdir(), 'late-'))
    store = openStore()
  })
  afterEach(() => {
    store.close()
    rmSync(dir, { recursive: true })
  })

  it('writes a row of a late table once a group, as the last work left it', async () => {
    const written: unknown[] = []
    store.close()
    store = openStore(watchingPuts(opener, (name) => written.push(name)))
    await Promise.all([
      put('k', '1', { a: 'x' }),
      put('l', '1'),
      put('k', '2', { a: 'x' }),
      put('k', '3', {}),
    ])
    expect(written).toEqual([rowName('notes', 'k'), rowName('notes', 'l')])
    store.close()
    store = openStore()
    expect(store.tables.notes.get('k')).toEqual({ text: '3' })
    expect(keys({ a: 'x' })).toEqual([])
    expect(keys()).toEqual(['k', 'l'])
  })

  it('shows unwritten rows to every question of the same group', async () => {
    await put('old', '1', { a: 'x', at: 1 })
    const answers = await Promise.all([
      store.commit(({ notes }) => notes.put('old', { text: '2' }, { a: 'y', at: 1 })),
      store.commit(({ notes }) => [notes.count({ a: 'x' }), notes.count({ a: 'y' }), notes.count()]),
      store.commit(({ notes }) => notes.put('new', { text: '1' }, { a: 'y', at: 2 })),
      store.commit(({ notes }) => notes.list({ a: 'y' }).map(({ key, value }) => key + value.text)),
      store.commit(({ notes }) => notes.put('third', { text: '1' }, { at: 3 })),
      store.commit(({ notes }) => [notes.deleteBefore(3), notes.get('new'), notes.delete('third')]),
      store.commit(({ notes }) => [notes.dropDamaged(), notes.delete('third'), notes.list().length]),
    ])
    expect(answers).toEqual([
      undefined,
      [0, 1, 1],
      undefined,
      ['old2', 'new1'],
      undefined,
      [2, undefined, true],
      [0, false, 0],
    ])
  })

  it('undoes a work alone, whether what the works before it put was written in it or not', async () => {
    const mine = new Error('mine')
    const undone = (asks: boolean) =>
      store.commit(({ notes }) => {
        notes.put('k', { text: 'undone' }, { a: 'undone' })
        notes.delete('l')
        if (asks) expect(notes.list().map(({ key }) => key)).toEqual(['k'])
        notes.put('m', { text: 'undone' })
        throw mine
      })
    for (const asks of [false, true]) {
      const outcomes = await Promise.allSettled([
        put('k', 'kept', { a: 'kept' }),
        put('l', 'kept'),
        undone(asks),
      ])
      expect(outcomes[2]).toMatchObject({ reason: mine })
      store.close()
      store = openStore()
      expect(keys()).toEqual(asks ? ['k', 'l'] : expect.arrayContaining(['k', 'l']))
      expect(store.tables.notes.list({ a: 'kept' })).toMatchObject([{ key: 'k', value: { text: 'kept' } }])
    }
  })

  it('rejects a whole group with the late row that cannot be written, and loses none of it silently', async () => {
    store.close()
    store = openStore(failingPuts(opener))
    const failed = await Promise.allSettled([
      put('fine', ''),
      put('fail', ''),
      store.commit(({ notes }) => {
        try {
          notes.list()
        } catch {
          // a careless caller
        }
      }),
    ])
    expect(failed.map((outcome) => outcome.status === 'rejected' && outcome.reason.code)).toEqual(
      Array.from({ length: 3 }, () => 'STATE_WRITE_FAILED'),
    )
    const unfit = { text: Number.NaN } as unknown as Note
    const malformed = await Promise.allSettled([
      put('fine', ''),
      store.commit(({ notes }) => notes.put('unfit', unfit)),
    ])
    expect(malformed).toMatchObject(
      Array.from({ length: 2 }, () => ({ status: 'rejected', reason: { code: 'MALFORMED' } })),
    )
    expect(keys()).toEqual([])
    await put('fine', '')
    expect(keys()).toEqual(['fine'])
  })
})

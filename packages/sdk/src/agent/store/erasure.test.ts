/** What a copy of the files shows of rows that are gone: nothing, in no page, free or used, and in no frame of the log. */
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { systemRandom } from '../../crypto/signing.ts'
import type { Database, OpenDatabase } from './sqlite.ts'
import { StateStore } from './state-store.ts'
import { code, drivers, rowName, storageKey, tables } from './test-support.ts'

describe.each(drivers)('erasure with %s', (_name, opener) => {
  let dir: string
  let path: string
  let store: StateStore<typeof tables>
  /** Every sealed row that was ever written. */
  let written: Buffer[]
  let unerased: unknown[]

  const recording: OpenDatabase = (file) => {
    const database = opener(file)
    return {
      exec: (sql) => database.exec(sql),
      close: () => database.close(),
      prepare(sql) {
        const statement = database.prepare(sql)
        return {
          get: (...values) => statement.get(...values),
          all: (...values) => statement.all(...values),
          run(...values) {
            for (const value of values) if (value instanceof Uint8Array) written.push(Buffer.from(value))
            return statement.run(...values)
          },
        }
      },
    }
  }
  const openStore = (sqlite: OpenDatabase = recording) =>
    StateStore.open(path, storageKey, {
      tables,
      secret: ['notes'],
      random: systemRandom,
      sqlite,
      onUnerased: (error) => unerased.push(error.code),
    })
  const log = () => statSync(`${path}-wal`).size
  const files = () => readdirSync(dir).map((name) => readFileSync(join(dir, name)))
  /** Of all rows ever sealed, those with a piece anywhere in the files. */
  const found = () => {
    const all = files()
    return written.filter((row) =>
      [1, Math.floor(row.length / 2) - 12, row.length - 24].some((at) =>
        all.some((bytes) => bytes.includes(row.subarray(at, at + 24))),
      ),
    )
  }
  const inUse = () => {
    const database = opener(path)
    const rows = database.prepare('SELECT sealed FROM entries UNION ALL SELECT sealed FROM sums').all() as {
      sealed: Uint8Array
    }[]
    const check = database.prepare('SELECT key_check FROM store').get() as { key_check: Uint8Array }
    database.close()
    return [...rows.map(({ sealed }) => sealed), check.key_check].map((row) =>
      Buffer.from(row).toString('hex'),
    )
  }
  const hex = (rows: readonly Uint8Array[]) => rows.map((row) => Buffer.from(row).toString('hex'))

  beforeEach(() => {
    dir = mkdtempSync(join(tmpdir(), 'erasure-'))
    path = join(dir, 'state.db')
    written = []
    unerased = []
    store = openStore()
  })
  afterEach(() => {
    store.close()
    rmSync(dir, { recursive: true })
  })

  it('leaves nothing of a secret row when the commit that deleted it is told of', async () => {
    await store.commit(({ notes }) => notes.put('k', { text: 'x'.repeat(9000) }))
    const secret = written.at(-2)!
    expect(files().some((bytes) => bytes.includes(secret.subarray(1, 25)))).toBe(true)
    await store.commit(({ notes }) => notes.delete('k'))
    expect(log()).toBe(0)
    expect(hex(found())).not.toContain(secret.toString('hex'))
    expect(files().some((bytes) => bytes.includes(rowName('notes', 'k')))).toBe(false)
  })

  it('leaves nothing of what was replaced, or deleted from other tables, once no commit comes', async () => {
    for (const text of ['one', 'two', 'three']) {
      await store.commit(({ notes, drafts }) => {
        notes.put('ratchet', { text })
        drafts.put(text, { text })
        drafts.delete('two')
      })
    }
    expect(log()).toBeGreaterThan(0)
    await expect.poll(log, { timeout: 10_000 }).toBe(0)
    const left = hex(found())
    store.close()
    const used = inUse()
    expect(left.filter((row) => !used.includes(row))).toEqual([])
  })

  it('leaves no row and no name in the unused middle of a page whose rows moved to its neighbour', async () => {
    let seed = 1
    const draw = (below: number) => {
      seed = (seed * 1_103_515_245 + 12_345) % 2_147_483_648
      return seed % below
    }
    const alive: string[] = []
    const dead: string[] = []
    const names = (keys: readonly string[]) => keys.map((key) => Buffer.from(rowName('drafts', key)))
    for (let round = 0; round < 60; round++) {
      await store.commit(({ drafts }) => {
        for (let step = 0; step < 300; step++) {
          if (draw(3) === 0 && alive.length > 50) {
            const [key] = alive.splice(draw(alive.length), 1)
            if (key !== undefined && drafts.delete(key)) dead.push(key)
          } else {
            const old = draw(3) === 0 ? alive[draw(alive.length)] : undefined
            const key = old ?? `k${round}:${step}`
            if (old === undefined) alive.push(key)
            const length = draw(10) === 0 ? draw(20_000) : draw(900)
            drafts.put(key, { text: 'x'.repeat(length) }, { a: key, at: draw(1000) })
          }
        }
      })
    }
    store.close()
    const used = new Set(inUse())
    const gone = written.filter((row) => !used.has(row.toString('hex')))
    expect(gone.length).toBeGreaterThan(5000)
    // Pieces of what is gone, looked for at every place of the file, by their first six bytes to begin with.
    const pieces = new Map(
      [
        ...gone.flatMap((row) => [row.subarray(1), row.subarray(row.length / 2), row.subarray(-16)]),
        ...names(dead),
      ].map((piece) => [piece.readUIntBE(0, 6), piece.subarray(0, 16)]),
    )
    const file = readFileSync(path)
    const places: number[] = []
    for (let at = 0; at + 16 <= file.length; at++) {
      const piece = pieces.get(file.readUIntBE(at, 6))
      if (piece?.equals(file.subarray(at, at + piece.length)) === true) places.push(at)
    }
    expect(places).toEqual([])
  })

  it('does not let the log grow past its bound while commits do not stop coming', async () => {
    let most = 0
    for (let n = 0; n < 40; n++) {
      await store.commit(({ drafts }) => drafts.put('k', { text: 'x'.repeat(400_000) }))
      most = Math.max(most, log())
    }
    expect(most).toBeLessThan(6 * 1024 * 1024)
  })

  it('clears at its start what a process that was killed left behind', async () => {
    await store.commit(({ drafts }) => drafts.put('k', { text: 'old' }))
    const old = written.at(-2)!
    await store.commit(({ drafts }) => drafts.put('k', { text: 'new' }))
    const [main, wal] = [readFileSync(path), readFileSync(`${path}-wal`)]
    store.close()
    writeFileSync(path, main)
    writeFileSync(`${path}-wal`, wal)
    expect(hex(found())).toContain(old.toString('hex'))
    store = openStore()
    expect(store.tables.drafts.get('k')).toEqual({ text: 'new' })
    expect(hex(found())).not.toContain(old.toString('hex'))
  })

  it('loses nothing that was committed, wherever between two steps the power fails', async () => {
    await Promise.all(
      Array.from({ length: 50 }, (_, n) =>
        store.commit(({ drafts }) => drafts.put(`k${n}`, { text: 'first'.repeat(50) })),
      ),
    )
    for (let n = 0; n < 50; n += 3) {
      await store.commit(({ drafts }) => drafts.put(`k${n}`, { text: `last ${n}` }))
    }
    const expected = store.tables.drafts.list()
    const before = { main: readFileSync(path), wal: readFileSync(`${path}-wal`) }
    expect(before.wal.length).toBeGreaterThan(100_000)
    store.erase()
    const erased = readFileSync(path)
    store.close()

    const half = Buffer.from(before.wal)
    half.fill(0, 0, 32)
    const most = Buffer.from(half)
    most.fill(0, 32, Math.floor(half.length / 2))
    const mixed = Buffer.from(half)
    mixed.fill(0, Math.floor(half.length / 3), Math.floor(half.length / 2))
    for (const [main, wal] of [
      [before.main, before.wal],
      [erased, before.wal],
      [erased, half],
      [erased, most],
      [erased, mixed],
      [erased, Buffer.alloc(before.wal.length)],
      [erased, Buffer.alloc(0)],
    ] as const) {
      writeFileSync(path, main)
      writeFileSync(`${path}-wal`, wal)
      store = openStore()
      expect(store.tables.drafts.list()).toEqual(expected)
      expect(store.changedTables()).toEqual([])
      store.close()
    }
    store = openStore()
  })

  it('tells when it cannot erase, keeps what was committed, and tries again', async () => {
    store.close()
    let full = false
    store = openStore((file): Database => {
      const database = recording(file)
      return {
        exec: (sql) => database.exec(sql),
        close: () => database.close(),
        prepare(sql) {
          const statement = database.prepare(sql)
          if (!sql.includes('wal_checkpoint')) return statement
          return {
            run: (...values) => statement.run(...values),
            all: (...values) => statement.all(...values),
            get() {
              if (full) throw Object.assign(new Error('database or disk is full'), { errcode: 13 })
              return statement.get()
            },
          }
        },
      }
    })
    full = true
    await store.commit(({ notes }) => notes.put('k', { text: 'x' }))
    await store.commit(({ notes }) => notes.delete('k'))
    expect(unerased).toEqual(['STATE_WRITE_FAILED'])
    expect(store.tables.notes.get('k')).toBeUndefined()
    expect(() => store.erase()).toThrow(code('STATE_WRITE_FAILED'))
    full = false
    await expect.poll(log, { timeout: 10_000 }).toBe(0)
    expect(unerased).toHaveLength(1)
  })
})

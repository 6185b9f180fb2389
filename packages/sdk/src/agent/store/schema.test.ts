/** Files of older versions: brought up to date whole or not at all, never taken for damaged. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { seal } from '../../crypto/sealing.ts'
import { systemRandom } from '../../crypto/signing.ts'
import { utf8Bytes } from '../../wire/index.ts'
import type { OpenDatabase, SqlRow } from './sqlite.ts'
import { StateStore } from './state-store.ts'
import { code, drivers, spying, storageKey, tables } from './test-support.ts'

/** As the first version made them. */
const TO_VERSION_1 = `
  DROP TABLE sums;
  DROP INDEX entries_b;
  CREATE INDEX entries_at ON entries (tbl, at);
  CREATE INDEX entries_b ON entries (tbl, b, at) WHERE b IS NOT NULL;
  UPDATE store SET schema_version = 1`

describe.each(drivers)('a state file of an older version with %s', (_name, opener) => {
  let dir: string
  let path: string

  const openStore = (sqlite: OpenDatabase = opener, key = storageKey) =>
    StateStore.open(path, key, { tables, random: systemRandom, sqlite })
  const change = (sql: string) => {
    const database = opener(path)
    database.exec(sql)
    database.close()
  }
  const facts = () => {
    const database = opener(path)
    const [row] = database.prepare('SELECT schema_version FROM store').all() as SqlRow[]
    const indexes = database
      .prepare("SELECT sql FROM sqlite_schema WHERE type = 'index' AND sql IS NOT NULL ORDER BY sql")
      .all() as SqlRow[]
    database.close()
    return { version: row?.['schema_version'], indexes: indexes.map(({ sql }) => sql) }
  }

  /** Up to version 2, keys and index values were in the clear. */
  const writeOldRows = (...rows: [string, string, string | null, string | null, number | null, string][]) => {
    const database = opener(path)
    const insert = database.prepare(
      'INSERT INTO entries (tbl, key, a, b, at, sealed) VALUES (?, ?, ?, ?, ?, ?)',
    )
    for (const [table, key, a, b, at, text] of rows) {
      const place = utf8Bytes(JSON.stringify(['agentmesh/0.2 state row', table, key, a, b, at]))
      const value = utf8Bytes(JSON.stringify({ text }))
      insert.run(table, key, a, b, at, seal(storageKey, value, place, systemRandom))
    }
    database.close()
  }

  beforeEach(() => {
    dir = mkdtempSync(join(tmpdir(), 'schema-'))
    path = join(dir, 'state.db')
    openStore().close()
    change(TO_VERSION_1)
    writeOldRows(
      ['notes', 'one', 'alice', 'open', 7, 'first'],
      ['notes', 'two', 'alice', null, 5, 'second'],
      ['drafts', 'one', null, null, null, 'draft'],
    )
  })
  afterEach(() => rmSync(dir, { recursive: true }))

  it('keeps its rows, and is of the newest version once it was opened', async () => {
    expect(facts().version).toBe(1)
    const store = openStore()
    expect(store.tables.notes.list()).toEqual([
      { key: 'two', value: { text: 'second' }, at: 5 },
      { key: 'one', value: { text: 'first' }, at: 7 },
    ])
    expect(store.tables.notes.list({ a: 'alice', b: 'open' }).map(({ key }) => key)).toEqual(['one'])
    expect(store.changedTables()).toEqual([])
    expect(store.tables.drafts.get('one')).toEqual({ text: 'draft' })
    expect(await store.commit(({ notes }) => notes.deleteBefore(8))).toBe(2)
    store.close()
    const fresh = path
    path = join(dir, 'fresh.db')
    openStore().close()
    const made = facts()
    path = fresh
    expect(facts()).toEqual(made)
    openStore().close()
  })

  it.each(['DROP INDEX', 'CREATE INDEX', 'COMMIT'])(
    'is of the old version still when %s fails, and opens the next time',
    (step) => {
      const before = facts()
      let done = false
      const full = spying(opener, (sql) => {
        if (done || !sql.startsWith(step)) return
        done = true
        throw Object.assign(new Error('database or disk is full'), { errcode: 13 })
      })
      expect(() => openStore(full)).toThrow(code('STATE_WRITE_FAILED'))
      expect(facts()).toEqual(before)
      openStore().close()
      expect(facts()).not.toEqual(before)
    },
  )

  it('is not changed for somebody without its key', () => {
    const before = facts()
    expect(() => openStore(opener, new Uint8Array(32))).toThrow(code('STATE_WRONG_KEY'))
    expect(facts()).toEqual(before)
  })

  it('is refused with a trigger in it, or an index of the newest version', () => {
    change('CREATE TRIGGER t AFTER UPDATE ON store BEGIN DELETE FROM entries; END')
    expect(() => openStore()).toThrow(code('STATE_DAMAGED'))
    change('DROP TRIGGER t; DROP INDEX entries_at')
    expect(() => openStore()).toThrow(code('STATE_DAMAGED'))
  })

  it('is refused by its version alone when no program ever wrote it', () => {
    for (const version of [-1, 0, 1000]) {
      change(`UPDATE store SET schema_version = ${version}`)
      expect(() => openStore()).toThrow(code('STATE_VERSION'))
    }
  })
})

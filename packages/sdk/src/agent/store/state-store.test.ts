/** The contract of the store, run on every SQLite this Node has, and what an attacker with the file may try. */
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { systemRandom } from '../../crypto/signing.ts'
import { AgentMeshError } from '../../wire/index.ts'
import { SQLITE_IOERR_FSYNC, type OpenDatabase } from './sqlite.ts'
import { StateStore } from './state-store.ts'
import { code, failingPuts, kinds, rowName, spying, storageKey, tables, type Late } from './test-support.ts'

describe.each(kinds)('the store with %s', (_name, opener, lateTables) => {
  let dir: string
  let path: string
  let store: StateStore<typeof tables>

  const openStore = (
    overrides: { key?: Uint8Array; sqlite?: OpenDatabase; path?: string; late?: Late } = {},
  ) =>
    StateStore.open(overrides.path ?? path, overrides.key ?? storageKey, {
      tables,
      late: overrides.late ?? lateTables,
      random: systemRandom,
      sqlite: overrides.sqlite ?? opener,
    })
  const put = async (key: string, text: string, index = {}) =>
    store.commit(({ notes }) => notes.put(key, { text }, index))
  const keys = (query = {}) => store.tables.notes.list(query).map(({ key }) => key)
  /** Changes the file behind the store's back. */
  const tamper = (...statements: string[]) => {
    store.close()
    const database = opener(path)
    for (const statement of statements) database.exec(statement)
    database.close()
    store = openStore()
  }

  beforeEach(() => {
    dir = mkdtempSync(join(tmpdir(), 'state-'))
    path = join(dir, 'state.db')
    store = openStore()
  })
  afterEach(() => {
    store.close()
    rmSync(dir, { recursive: true })
  })

  // --- rows

  it('gives back what was put, after it was opened again too', async () => {
    const note = { text: 'hello', secret: Uint8Array.of(0, 255, 7) }
    await store.commit(({ notes }) => notes.put('a', note))
    expect(store.tables.notes.get('a')).toEqual(note)
    store.close()
    store = openStore()
    expect(store.tables.notes.get('a')).toEqual(note)
    expect(store.tables.notes.get('b')).toBeUndefined()
    expect(store.tables.drafts.get('a')).toBeUndefined()
  })

  it('replaces a row and its index values, and deletes it', async () => {
    await put('k', 'one', { a: 'x', at: 5 })
    await put('k', 'two', { b: 'y' })
    expect(store.tables.notes.list()).toEqual([{ key: 'k', value: { text: 'two' } }])
    expect(store.tables.notes.count({ a: 'x' })).toBe(0)
    expect(await store.commit(({ notes }) => [notes.delete('k'), notes.delete('k')])).toEqual([true, false])
    expect(store.tables.notes.count()).toBe(0)
  })

  it('lists by index values and time, oldest first, ties in the order they came', async () => {
    await put('z', '', { a: 'p', b: 'open', at: 10 })
    await put('y', '', { a: 'p', b: 'done', at: 10 })
    await put('x', '', { a: 'q', b: 'open', at: 10 })
    await put('w', '', { a: 'p', b: 'open', at: 2 })
    await put('v', '', {})
    expect(keys()).toEqual(['v', 'w', 'z', 'y', 'x'])
    expect(keys({ order: 'desc' })).toEqual(['x', 'y', 'z', 'w', 'v'])
    expect(keys({ a: 'p' })).toEqual(['w', 'z', 'y'])
    expect(keys({ b: 'open' })).toEqual(['w', 'z', 'x'])
    expect(keys({ a: 'p', b: 'open' })).toEqual(['w', 'z'])
    expect(keys({ before: 10 })).toEqual(['w'])
    expect(keys({ a: 'p', limit: 2, order: 'desc' })).toEqual(['y', 'z'])
    expect(store.tables.notes.count({ a: 'p' })).toBe(3)
    expect(store.tables.notes.count({ b: 'open' })).toBe(3)
    await put('z', 'changed', { a: 'p', b: 'open', at: 10 })
    expect(keys({ a: 'p' })).toEqual(['w', 'z', 'y'])
  })

  it('deletes what is older than a time, in its own table only', async () => {
    await put('old', '', { at: 1 })
    await put('new', '', { at: 2 })
    await put('timeless', '')
    await store.commit(({ drafts }) => drafts.put('old', { text: '' }, { at: 1 }))
    expect(await store.commit(({ notes }) => notes.deleteBefore(2))).toBe(1)
    expect(keys()).toEqual(['timeless', 'new'])
    expect(store.tables.drafts.count()).toBe(1)
  })

  it('refuses keys and times that would not come back as they are', async () => {
    for (const key of ['\ud800', 'a\0b']) {
      await expect(put(key, '')).rejects.toThrow(code('MALFORMED'))
      await expect(put('k', '', { a: key })).rejects.toThrow(code('MALFORMED'))
    }
    await expect(put('k', '', { at: 2 ** 53 })).rejects.toThrow(code('MALFORMED'))
    await expect(put('k', '', { at: 0.5 })).rejects.toThrow(code('MALFORMED'))
  })

  // --- commits

  it('runs works in order, each seeing what the ones before it wrote, and shows nothing before', async () => {
    const count = (text: string) =>
      store.commit(({ notes }) => {
        const value = `${notes.get('k')?.text ?? ''}${text}`
        notes.put('k', { text: value })
        return value
      })
    const results = Promise.all([count('a'), count('b'), count('c')])
    expect(store.tables.notes.get('k')).toBeUndefined()
    expect(await results).toEqual(['a', 'ab', 'abc'])
  })

  it('rolls back a work that throws, alone, and rejects with what it threw', async () => {
    const mine = new Error('mine')
    const outcomes = await Promise.allSettled([
      put('before', '1'),
      store.commit(({ notes }) => {
        notes.put('half', { text: '' })
        notes.delete('before')
        throw mine
      }),
      put('after', '2'),
    ])
    expect(outcomes.map(({ status }) => status)).toEqual(['fulfilled', 'rejected', 'fulfilled'])
    expect(outcomes[1]).toMatchObject({ reason: mine })
    expect(keys()).toEqual(['before', 'after'])
  })

  it('takes all works of one turn in one transaction', async () => {
    const statements: string[] = []
    store.close()
    store = openStore({ sqlite: spying(opener, (sql) => statements.push(sql)) })
    statements.length = 0
    await Promise.all(Array.from({ length: 50 }, (_, index) => put(`k${index}`, '')))
    expect(statements.filter((sql) => sql === 'BEGIN IMMEDIATE')).toHaveLength(1)
    expect(statements.filter((sql) => sql === 'COMMIT')).toHaveLength(1)
    expect(statements.at(-1)).toBe('COMMIT')
  })

  it('resolves only after COMMIT returned', async () => {
    const order: string[] = []
    store.close()
    store = openStore({ sqlite: spying(opener, (sql) => order.push(sql)) })
    order.length = 0
    await Promise.all([
      put('a', '').then(() => order.push('told')),
      put('b', '').then(() => order.push('told')),
    ])
    expect(order.slice(-3)).toEqual(['COMMIT', 'told', 'told'])
  })

  it('refuses changes outside a work, and a work that is not done when it returns', async () => {
    expect(() => store.tables.notes.put('k', { text: '' })).toThrow(code('STATE_MISUSED'))
    expect(() => store.tables.notes.delete('k')).toThrow(code('STATE_MISUSED'))
    const late = store.commit(async ({ notes }) => {
      notes.put('k', { text: '' })
      await Promise.resolve()
      notes.put('l', { text: '' })
    })
    await expect(late).rejects.toThrow(code('STATE_MISUSED'))
    expect(keys()).toEqual([])
  })

  it('commits what is queued when it closes, and takes nothing after', async () => {
    const queued = put('k', 'queued')
    store.close()
    await queued
    await expect(put('l', '')).rejects.toThrow(code('STATE_CLOSED'))
    expect(() => store.tables.notes.get('k')).toThrow(code('STATE_CLOSED'))
    store.close()
    store = openStore()
    expect(keys()).toEqual(['k'])
  })

  it('rejects the whole group when COMMIT fails, and goes on after', async () => {
    store.close()
    let fail = false
    store = openStore({
      sqlite: spying(opener, (sql) => {
        if (fail && sql === 'COMMIT')
          throw Object.assign(new Error('database or disk is full'), { errcode: 13 })
      }),
    })
    fail = true
    const outcomes = await Promise.allSettled([put('a', ''), put('b', '')])
    expect(outcomes.map((outcome) => outcome.status === 'rejected' && outcome.reason.code)).toEqual([
      'STATE_WRITE_FAILED',
      'STATE_WRITE_FAILED',
    ])
    fail = false
    expect(keys()).toEqual([])
    await put('c', '')
    expect(keys()).toEqual(['c'])
  })

  it('takes no more commits after a flush failed, since it cannot know what the disk holds', async () => {
    store.close()
    store = openStore({
      sqlite: spying(opener, (sql) => {
        if (sql === 'COMMIT' && existsSync(join(dir, 'broken'))) {
          throw Object.assign(new Error('disk I/O error'), { errcode: SQLITE_IOERR_FSYNC })
        }
      }),
    })
    writeFileSync(join(dir, 'broken'), '')
    await expect(put('a', '')).rejects.toThrow(code('STATE_WRITE_FAILED'))
    rmSync(join(dir, 'broken'))
    await expect(put('b', '')).rejects.toThrow(code('STATE_WRITE_FAILED'))
  })

  it('does not commit the rest of a work that swallowed a failed write', async () => {
    store.close()
    store = openStore({ sqlite: failingPuts(opener), late: [] })
    const outcomes = await Promise.allSettled([
      put('fine', ''),
      store.commit(({ notes }) => {
        notes.put('first', { text: '' })
        try {
          notes.put('fail', { text: '' })
        } catch {
          // a careless caller
        }
      }),
    ])
    expect(outcomes).toMatchObject([{ status: 'fulfilled' }, { reason: { code: 'STATE_WRITE_FAILED' } }])
    expect(keys()).toEqual(['fine'])
  })

  // --- the file

  it('keeps values out of the file, which only its owner can read', async () => {
    await put('k', 'a very secret word')
    store.close()
    expect(readFileSync(path).includes('secret')).toBe(false)
    expect(statSync(path).mode & 0o777).toBe(0o600)
  })

  it('keeps keys and index values out of the file, and opens nameless rows by key alone', async () => {
    store.close()
    store = StateStore.open(path, storageKey, {
      tables,
      late: lateTables,
      nameless: ['drafts'],
      random: systemRandom,
      sqlite: opener,
    })
    await store.commit(({ notes, drafts }) => {
      notes.put('peer amid', { text: '' }, { a: 'peer amid', b: 'peer amid' })
      drafts.put('peer amid', { text: '' })
    })
    expect(keys({ a: 'peer amid', b: 'peer amid' })).toEqual(['peer amid'])
    expect(store.tables.drafts.get('peer amid')).toEqual({ text: '' })
    expect(JSON.stringify(store.tables.drafts.list())).not.toContain('peer amid')
    for (const suffix of ['', '-wal']) expect(readFileSync(path + suffix).includes('peer amid')).toBe(false)
    store.close()
    store = openStore()
    expect(JSON.stringify(store.tables.drafts.list())).not.toContain('peer amid')
  })

  it('refuses another storage key', () => {
    store.close()
    expect(() => openStore({ key: new Uint8Array(32) })).toThrow(code('STATE_WRONG_KEY'))
  })

  it('refuses a second opener while the first has the file', async () => {
    await put('k', '')
    expect(() => openStore()).toThrow(code('HOME_LOCKED'))
    await put('l', '')
    store.close()
    store = openStore()
    expect(keys()).toEqual(['k', 'l'])
  })

  it('refuses a file that is a link', () => {
    const link = join(dir, 'link.db')
    symlinkSync(path, link)
    expect(() => openStore({ path: link })).toThrow(code('HOME_UNSAFE'))
  })

  it('refuses a newer version, another program’s database, and what is no database', () => {
    store.close()
    const change = (sql: string) => {
      const database = opener(path)
      database.exec(sql)
      database.close()
    }
    change('UPDATE store SET schema_version = 4')
    expect(() => openStore()).toThrow(code('STATE_VERSION'))
    change('DELETE FROM store')
    expect(() => openStore()).toThrow(code('STATE_DAMAGED'))
    change('DROP TABLE store')
    expect(() => openStore()).toThrow(code('STATE_DAMAGED'))
    writeFileSync(path, 'not a database at all, but long enough to be looked at'.repeat(50))
    expect(() => openStore()).toThrow(code('STATE_DAMAGED'))
  })

  // --- attackers with the file

  const attacks: [string, string[]][] = [
    ['moved to another key', [`UPDATE entries SET key = 'moved' WHERE key = '${rowName('notes', 'one')}'`]],
    [
      'swapped with another row',
      [
        `UPDATE entries SET sealed = (SELECT e.sealed FROM entries e WHERE e.tbl = entries.tbl AND e.key =
            CASE entries.key WHEN '${rowName('notes', 'one')}' THEN '${rowName('notes', 'two')}'
              ELSE '${rowName('notes', 'one')}' END)`,
      ],
    ],
    ['moved to another index a', ["UPDATE entries SET a = 'mallory'"]],
    ['moved to another index b', ["UPDATE entries SET b = 'closed'"]],
    ['moved from a to b', ['UPDATE entries SET a = b, b = a']],
    ['moved in time', ['UPDATE entries SET at = at + 1']],
    ['stripped of its index values', ['UPDATE entries SET a = NULL, b = NULL, at = NULL']],
    ['emptied', ["UPDATE entries SET sealed = x''"]],
    ['cut short', ['UPDATE entries SET sealed = substr(sealed, 1, length(sealed) - 1)']],
  ]
  it.each(attacks)('refuses a row that was %s, naming the table and not the content', async (_what, sql) => {
    await put('one', 'content one', { a: 'alice', b: 'open', at: 5 })
    await put('two', 'content two', { a: 'alice', b: 'open', at: 5 })
    tamper(...sql)
    const attempt = (): unknown => store.tables.notes.list()
    expect(attempt).toThrow(code('STATE_DAMAGED'))
    try {
      attempt()
    } catch (error) {
      expect(error).toMatchObject({ cause: { code: 'SEAL_BROKEN' } })
      expect((error as AgentMeshError).message).toContain('notes')
      expect((error as AgentMeshError).message).not.toMatch(/content|one|two|alice/)
    }
    expect.assertions(4)
  })

  it('refuses a row copied from another table', async () => {
    await put('k', 'note')
    tamper(`UPDATE entries SET tbl = 'drafts', key = '${rowName('drafts', 'k')}'`)
    expect(store.tables.notes.get('k')).toBeUndefined()
    expect(() => store.tables.drafts.get('k')).toThrow(code('STATE_DAMAGED'))
  })

  it('refuses a row with any bit changed', async () => {
    const keyOf = (bit: number) => String(bit).padStart(3, '0')
    const bits = (41 + 4 + '000{"text":"x"}'.length) * 8
    await Promise.all(Array.from({ length: bits }, (_, bit) => put(keyOf(bit), 'x')))
    store.close()
    const database = opener(path)
    const rows = database.prepare('SELECT key, sealed FROM entries ORDER BY position').all() as {
      key: string
      sealed: Uint8Array
    }[]
    const update = database.prepare('UPDATE entries SET sealed = ? WHERE key = ?')
    database.exec('BEGIN')
    for (const [bit, { key, sealed }] of rows.entries()) {
      expect(sealed).toHaveLength(bits / 8)
      sealed[bit >> 3]! ^= 1 << (bit & 7)
      update.run(sealed, key)
    }
    database.exec('COMMIT')
    database.close()
    store = openStore()
    for (let bit = 0; bit < bits; bit++) {
      expect(() => store.tables.notes.get(keyOf(bit))).toThrow(code('STATE_DAMAGED'))
    }
  })

  it('undoes only the work that met a damaged row', async () => {
    await put('bad', 'x', { a: 'alice' })
    tamper("UPDATE entries SET a = 'mallory'")
    const outcomes = await Promise.allSettled([
      put('good', ''),
      store.commit(({ notes }) => {
        notes.put('also', { text: '' })
        return notes.get('bad')
      }),
    ])
    expect(outcomes).toMatchObject([{ status: 'fulfilled' }, { reason: { code: 'STATE_DAMAGED' } }])
    expect(store.tables.notes.get('good')).toEqual({ text: '' })
    expect(store.tables.notes.get('also')).toBeUndefined()
  })

  const named = (key: string) => rowName('notes', key)
  const losses: [string, string[]][] = [
    ['is gone', [`DELETE FROM entries WHERE key = '${named('one')}'`]],
    ['is gone with its record', [`DELETE FROM entries WHERE key = '${named('one')}'`, 'DELETE FROM sums']],
    ['was put in the place of the record', [`UPDATE sums SET sealed = (SELECT sealed FROM entries LIMIT 1)`]],
  ]
  it.each(losses)(
    'names the table of which a row %s, start after start until it is accepted',
    async (_what, sql) => {
      await put('one', '1')
      await put('two', '2')
      tamper(...sql)
      expect(store.changedTables()).toContain('notes')
      await put('three', '3')
      store.close()
      store = openStore()
      expect(store.changedTables()).toContain('notes')
      await store.acceptTables()
      expect(store.changedTables()).toEqual([])
      store.close()
      store = openStore()
      expect(store.changedTables()).toEqual([])
    },
  )

  it('names the table of which one row alone was put back as it once was', async () => {
    await put('k', 'old')
    await store.commit(({ drafts }) => drafts.put('k', { text: 'other' }))
    store.close()
    const database = opener(path)
    const read = database.prepare('SELECT sealed FROM entries WHERE key = ?')
    const { sealed } = read.get(named('k')) as { sealed: Uint8Array }
    database.close()
    store = openStore()
    await put('k', 'new')
    store.close()
    const again = opener(path)
    again.prepare('UPDATE entries SET sealed = ? WHERE key = ?').run(sealed, named('k'))
    again.close()
    store = openStore()
    expect(store.tables.notes.get('k')).toEqual({ text: 'old' })
    expect(store.changedTables()).toEqual(['notes'])
  })

  it('names the table of which a damaged row was dropped', async () => {
    await put('one', '1')
    await put('two', '2')
    tamper(`UPDATE entries SET sealed = x'01' WHERE key = '${named('two')}'`)
    expect(await store.commit(({ notes }) => notes.dropDamaged())).toBe(1)
    expect(store.changedTables()).toEqual(['notes'])
    expect(keys()).toEqual(['one'])
  })

  it('finds no table changed by works that were undone, groups that failed, and rows of every kind of change', async () => {
    await put('gone', '', { at: 1 })
    await put('kept', '', { at: 9 })
    const undone = store.commit(({ notes }) => {
      notes.put('kept', { text: 'undone' })
      notes.put('new', { text: 'undone' })
      notes.delete('gone')
      throw new Error('mine')
    })
    const replaced = put('kept', 'replaced', { at: 9 })
    const deleted = store.commit(({ notes }) => [
      notes.deleteBefore(5),
      notes.delete('none'),
      notes.get('none'),
    ])
    await Promise.allSettled([undone, replaced, deleted])
    expect(store.changedTables()).toEqual([])
    store.close()
    store = openStore({ sqlite: failingPuts(opener) })
    await Promise.allSettled([put('fail', ''), put('fine', '')])
    expect(store.changedTables()).toEqual([])
    store.close()
    store = openStore()
    expect(store.changedTables()).toEqual([])
  })

  it('refuses a file with a planted trigger or a changed table', () => {
    for (const [plant, remove] of [
      ['CREATE TRIGGER t AFTER INSERT ON entries BEGIN DELETE FROM entries; END', 'DROP TRIGGER t'],
      ['CREATE VIEW v AS SELECT 1', 'DROP VIEW v'],
      ['CREATE TABLE more (x)', 'DROP TABLE more'],
      [
        'DROP INDEX entries_b; CREATE TRIGGER t AFTER INSERT ON entries BEGIN DELETE FROM entries; END',
        'DROP TRIGGER t; CREATE INDEX entries_b ON entries (tbl, b, at)',
      ],
    ] as const) {
      store.close()
      const database = opener(path)
      database.exec(plant)
      database.close()
      expect(() => openStore(), plant).toThrow(code('STATE_DAMAGED'))
      const repair = opener(path)
      repair.exec(remove)
      repair.close()
      store = openStore()
    }
  })

  it('refuses a file whose pages were overwritten', async () => {
    for (let index = 0; index < 200; index++) void put(`k${index}`, 'x'.repeat(500))
    await put('last', '')
    store.close()
    const bytes = readFileSync(path)
    bytes.fill(0xaa, 4096 * 7, 4096 * 20)
    writeFileSync(path, bytes)
    expect(() => openStore()).toThrow(code('STATE_DAMAGED'))
  })
})

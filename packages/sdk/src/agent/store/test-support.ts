/** What the tests of the store share: the drivers there are, and drivers that tell or fail. */
import { expect } from 'vitest'
import { RowNames } from './row-names.ts'
import { jsonCodec } from './json-codec.ts'
import { builtinSqlite, packagedSqlite, type Database, type OpenDatabase } from './sqlite.ts'

export interface Note {
  text: string
  secret?: Uint8Array
}
export const tables = { notes: jsonCodec<Note>(), drafts: jsonCodec<Note>() }
export const storageKey = new Uint8Array(32).fill(9)
/** What stands in the file in place of a key of a table. */
export function rowName(table: keyof typeof tables, key: string): string {
  return new RowNames(storageKey).of(table, 'key', key)
}
const builtin = builtinSqlite()
export const drivers: [string, OpenDatabase][] = [
  ['@photostructure/sqlite', packagedSqlite()],
  ...(builtin === undefined ? [] : [['node:sqlite', builtin] satisfies [string, OpenDatabase]]),
]

export function code(expected: string): unknown {
  return expect.objectContaining({ code: expected })
}

export type Late = readonly (keyof typeof tables)[]
export const kinds = drivers.flatMap(([name, opener]): [string, OpenDatabase, Late][] => [
  [name, opener, []],
  [`${name}, all tables late`, opener, ['notes', 'drafts']],
])

/** The driver, telling of every `exec` before it runs. */
export function spying(open: OpenDatabase, tell: (sql: string) => void): OpenDatabase {
  return (path) => {
    const database = open(path)
    return {
      exec(sql) {
        tell(sql)
        database.exec(sql)
      },
      prepare: (sql) => database.prepare(sql),
      close: () => database.close(),
    }
  }
}

/** The driver, with a disk that has no room for the key `fail`. */
export function failingPuts(open: OpenDatabase): OpenDatabase {
  const names = [rowName('notes', 'fail'), rowName('drafts', 'fail')]
  return watchingPuts(open, (name) => {
    if (names.includes(String(name))) throw Object.assign(new Error('disk is full'), { errcode: 13 })
  })
}

/** The driver, telling the name of every row's key before it is written. */
export function watchingPuts(open: OpenDatabase, tell: (name: unknown) => void): OpenDatabase {
  return (path): Database => {
    const database = open(path)
    return {
      exec: (sql) => database.exec(sql),
      close: () => database.close(),
      prepare(sql) {
        const statement = database.prepare(sql)
        return {
          get: (...values) => statement.get(...values),
          all: (...values) => statement.all(...values),
          run(...values) {
            if (sql.startsWith('INSERT INTO entries')) tell(values[1])
            return statement.run(...values)
          },
        }
      },
    }
  }
}

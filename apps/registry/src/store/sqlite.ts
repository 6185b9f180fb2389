/**
 * SQLite for Kysely: `node:sqlite` where Node has it complete, else @photostructure/sqlite, which has the same interface.
 * Kysely runs it on one connection behind a mutex, so transactions are serial.
 */
import type { DatabaseSync } from '@photostructure/sqlite'
import { SqliteDialect, type SqliteDatabase, type SqliteStatement } from 'kysely'

type Sqlite = { DatabaseSync: new (path: string) => InstanceType<typeof DatabaseSync> }

/** How long to wait for another process's write lock. */
const BUSY_MILLISECONDS = 5_000
/** Those used last are kept. */
const MAX_PREPARED = 200

async function loadSqlite(): Promise<Sqlite> {
  const builtin = process.getBuiltinModule?.('node:sqlite') as
    | (Sqlite & { StatementSync?: { prototype: object } })
    | undefined
  // Node 22 before 22.16 has no `columns()`, without which a reading statement cannot be told from a writing one.
  if (builtin?.StatementSync !== undefined && 'columns' in builtin.StatementSync.prototype) return builtin
  return import('@photostructure/sqlite')
}

type Parameter = string | number | null

/** @param path a file, or `:memory:` */
export async function sqliteDialect(path: string): Promise<SqliteDialect> {
  const { DatabaseSync } = await loadSqlite()
  const database = new DatabaseSync(path)
  database.exec(`PRAGMA busy_timeout = ${BUSY_MILLISECONDS}`)
  database.exec('PRAGMA journal_mode = WAL')
  database.exec('PRAGMA synchronous = FULL')
  database.exec('PRAGMA foreign_keys = ON')

  // Reading the text of a statement takes as long as most statements do.
  const prepared = new Map<string, SqliteStatement>()
  const adapter: SqliteDatabase = {
    close: () => database.close(),
    prepare(sql) {
      const statement = prepared.get(sql) ?? prepare(database, sql)
      prepared.delete(sql)
      prepared.set(sql, statement)
      const oldest = prepared.keys().next()
      if (prepared.size > MAX_PREPARED && !oldest.done) prepared.delete(oldest.value)
      return statement
    },
  }
  return new SqliteDialect({ database: adapter })
}

function prepare(database: InstanceType<typeof DatabaseSync>, sql: string): SqliteStatement {
  const statement = database.prepare(sql)
  return {
    reader: statement.columns().length > 0,
    all: (parameters): unknown[] => statement.all(...(parameters as Parameter[])),
    run: (parameters) => statement.run(...(parameters as Parameter[])),
    iterate: (parameters) => statement.iterate(...(parameters as Parameter[])),
  }
}

/** SQLite, from Node where it has it, else from a package with the same interface. */
import { createRequire } from 'node:module'
import type { DatabaseSyncInstance, SqliteModule } from '@photostructure/sqlite'

export type Database = DatabaseSyncInstance

function sqlite(): Pick<SqliteModule, 'DatabaseSync'> {
  const found: unknown =
    process.getBuiltinModule('node:sqlite' as string) ??
    createRequire(import.meta.url)('@photostructure/sqlite')
  return found as SqliteModule
}

const BUSY_MILLISECONDS = 2_000

/**
 * Opens a file (or `:memory:`) for durable writing: a commit that returned is on disk. Other programs may read it meanwhile,
 * as a backup does.
 */
export function openDatabase(path: string): Database {
  const database = new (sqlite().DatabaseSync)(path)
  database.exec(`
    PRAGMA busy_timeout = ${BUSY_MILLISECONDS};
    PRAGMA journal_mode = WAL;
    PRAGMA synchronous = FULL;
  `)
  return database
}

/**
 * Makes this process the only one that opens `path` for writing, until the result is closed: a second relay on the same
 * file fails. It is a lock on an empty file beside it, which the operating system frees when the process ends in any way.
 */
export function lockDatabase(path: string): Database {
  const lock = new (sqlite().DatabaseSync)(`${path}-lock`)
  try {
    lock.exec(`PRAGMA busy_timeout = ${BUSY_MILLISECONDS}; BEGIN EXCLUSIVE`)
  } catch (error) {
    lock.close()
    throw error
  }
  return lock
}

/** Closes, with everything in the file itself, even where the library keeps prepared statements until they are collected. */
export function closeDatabase(database: Database): void {
  database.exec('PRAGMA wal_checkpoint(TRUNCATE)')
  database.close()
}

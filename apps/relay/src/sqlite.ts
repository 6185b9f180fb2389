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

/**
 * Opens a file (or `:memory:`) for durable writing: a commit that returned is on disk. The file is held exclusively, so
 * a second relay on the same file fails; the operating system frees it when the process ends in any way.
 */
export function openDatabase(path: string): Database {
  const database = new (sqlite().DatabaseSync)(path)
  database.exec(`
    PRAGMA busy_timeout = 2000;
    PRAGMA locking_mode = EXCLUSIVE;
    PRAGMA journal_mode = WAL;
    PRAGMA synchronous = FULL;
  `)
  return database
}

/**
 * Closes, and frees the file even where the library keeps prepared statements (and with them the lock) until they are
 * collected: leaving WAL mode gives the exclusive lock back.
 */
export function closeDatabase(database: Database): void {
  database.exec(`
    PRAGMA journal_mode = DELETE;
    PRAGMA locking_mode = NORMAL;
    SELECT count(*) FROM sqlite_schema;
  `)
  database.close()
}

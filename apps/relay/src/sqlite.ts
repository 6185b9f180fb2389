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
    PRAGMA busy_timeout = 5000;
    PRAGMA locking_mode = EXCLUSIVE;
    PRAGMA journal_mode = WAL;
    PRAGMA synchronous = FULL;
  `)
  return database
}

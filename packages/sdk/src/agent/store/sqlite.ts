/**
 * SQLite behind the few calls the store makes: Node's own (`node:sqlite`) where it has one, else the package with the
 * same interface. Which of the two runs is no one's business above this file; the contract suite runs on both.
 */
import { createRequire } from 'node:module'

export type SqlValue = null | number | string | Uint8Array
export type SqlRow = Record<string, SqlValue>

export interface Statement {
  run(...values: readonly SqlValue[]): { readonly changes: number | bigint }
  get(...values: readonly SqlValue[]): unknown
  all(...values: readonly SqlValue[]): unknown[]
}

export interface Database {
  exec(sql: string): void
  prepare(sql: string): Statement
  close(): void
}

/** Opens a file, or `:memory:`. Throws what the driver throws; see `sqliteCode`. */
export type OpenDatabase = (path: string) => Database

interface SqliteModule {
  readonly DatabaseSync: new (path: string) => Database
}

function driver(module: SqliteModule): OpenDatabase {
  return (path) => new module.DatabaseSync(path)
}

/** Node's SQLite; undefined in a Node that has none. */
export function builtinSqlite(): OpenDatabase | undefined {
  const builtin = process.getBuiltinModule('node:sqlite') as SqliteModule | undefined
  return builtin === undefined ? undefined : driver(builtin)
}

/** The package's SQLite, loaded only where it is needed. */
export function packagedSqlite(): OpenDatabase {
  const require = createRequire(import.meta.url)
  return driver(require('@photostructure/sqlite') as SqliteModule)
}

/**
 * Closes a connection that holds its file exclusively, so that the file is free when this returns. The package leaves
 * prepared statements to the garbage collector, and SQLite keeps a connection with statements, and its locks, until then;
 * so the locks are given back first. Leaving WAL mode also folds the log into the file.
 */
export function closeExclusive(database: Database): void {
  try {
    database.exec('PRAGMA journal_mode = DELETE; PRAGMA locking_mode = NORMAL; SELECT 1 FROM sqlite_schema')
  } catch {
    // A full disk or a damaged file: what was committed stays in the log, and the locks end with the process.
  }
  database.close()
}

export const SQLITE_BUSY = 5
export const SQLITE_CORRUPT = 11
export const SQLITE_NOTADB = 26
/** Extended codes: the data may or may not have reached the disk. */
export const SQLITE_IOERR_FSYNC = 1034
export const SQLITE_IOERR_DIR_FSYNC = 1290

/** SQLite's extended result code (https://sqlite.org/rescode.html), or undefined when the error is not SQLite's. */
export function sqliteCode(error: unknown): number | undefined {
  if (!(error instanceof Error) || !('errcode' in error)) return undefined
  return typeof error.errcode === 'number' ? error.errcode : undefined
}

/** The low byte of an extended code. */
export function primaryCode(code: number): number {
  return code & 0xff
}

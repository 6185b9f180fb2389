/**
 * The tables of the state file, and how a file of an older version becomes one of today's.
 *
 *     store      schema_version | key_check     one row; the check tells a wrong storage key from damage
 *     entries    see `table.ts`
 *     sums       see `table-sums.ts`; one row
 *
 * A new version is needed for changed tables and for a changed encoding of rows: a row that does not decode counts as
 * damaged. Each step of a migration takes a file from one version to the next, all of them in one transaction.
 */
import { open, seal } from '../../crypto/sealing.ts'
import type { RandomBytes } from '../../crypto/signing.ts'
import { AgentMeshError, isAgentMeshError, utf8Bytes } from '../../wire/index.ts'
import type { NameColumn, RowNames } from './row-names.ts'
import { sqliteCode, type Database, type SqlRow, type SqlValue } from './sqlite.ts'
import { framedRow, placeOf } from './table.ts'
import type { TableSums } from './table-sums.ts'

const KEY_CHECK_PLACE = utf8Bytes('agentmesh/0.2 state key check')
/** SQLite's result code for a statement that does not fit the tables there are. */
const SQLITE_ERROR = 1

const STORE = 'CREATE TABLE store (schema_version INTEGER NOT NULL, key_check BLOB NOT NULL) STRICT'
const ENTRIES = `CREATE TABLE entries (position INTEGER PRIMARY KEY, tbl TEXT NOT NULL, key TEXT NOT NULL, a TEXT, b TEXT, at INTEGER, sealed BLOB NOT NULL, UNIQUE (tbl, key)) STRICT`
const SUMS = 'CREATE TABLE sums (sealed BLOB NOT NULL) STRICT'
const BY_A = 'CREATE INDEX entries_a ON entries (tbl, a, b, at) WHERE a IS NOT NULL'
const BY_B = 'CREATE INDEX entries_b ON entries (tbl, b, at)'

interface Version {
  /**
   * The texts are compared with what the file holds: a trigger or a changed column in a tampered file would run in ours.
   */
  readonly schema: readonly string[]
  /** From the version before. */
  readonly migration: readonly string[]
  /** Whether rows of the version before are to be written anew. */
  readonly rewrites?: true
}

/** From version 1 on. */
const VERSIONS: readonly Version[] = [
  {
    schema: [
      STORE,
      ENTRIES,
      'CREATE INDEX entries_at ON entries (tbl, at)',
      BY_A,
      'CREATE INDEX entries_b ON entries (tbl, b, at) WHERE b IS NOT NULL',
    ],
    migration: [],
  },
  {
    // One index fewer to change with every row.
    schema: [STORE, ENTRIES, BY_A, BY_B],
    migration: ['DROP INDEX entries_at', 'DROP INDEX entries_b', BY_B],
  },
  {
    // Keys and index values are hashed, and what rows there are is summed up.
    schema: [STORE, ENTRIES, SUMS, BY_A, BY_B],
    migration: [SUMS],
    rewrites: true,
  },
]

/** What rows are written with. */
export interface SchemaKeys {
  readonly storageKey: Uint8Array
  readonly random: RandomBytes
  readonly names: RowNames
  readonly sums: TableSums
  /** Tables whose rows do not hold their keys. */
  readonly nameless: ReadonlySet<string>
}

/**
 * Makes the tables of an empty file, or checks those of another and brings them up to date.
 *
 * @throws STATE_VERSION, STATE_WRONG_KEY, STATE_DAMAGED, and what the driver throws
 */
export function prepareSchema(database: Database, keys: SchemaKeys): void {
  const { storageKey } = keys
  const found = database
    .prepare("SELECT sql FROM sqlite_schema WHERE name NOT LIKE 'sqlite_autoindex_%'")
    .all()
  if (found.length === 0) {
    create(database, keys)
    return
  }
  const version = checkVersionAndKey(database, storageKey)
  const { schema } = VERSIONS[version - 1] as Version
  const texts = new Set(found.map((row) => (row as SqlRow)['sql']))
  if (texts.size !== schema.length || !schema.every((text) => texts.has(text))) {
    throw new AgentMeshError('STATE_DAMAGED', 'state.db has tables or triggers that are not ours')
  }
  const [result] = database.prepare('PRAGMA quick_check(1)').all() as SqlRow[]
  if (result?.['quick_check'] !== 'ok') {
    throw new AgentMeshError('STATE_DAMAGED', 'state.db is not a sound database file')
  }
  if (version < VERSIONS.length) migrate(database, version, keys)
}

function create(database: Database, { storageKey, random, sums }: SchemaKeys): void {
  const check = seal(storageKey, utf8Bytes('state.db'), KEY_CHECK_PLACE, random)
  atOnce(database, () => {
    for (const statement of VERSIONS.at(-1)?.schema ?? []) database.exec(statement)
    database.prepare('INSERT INTO store VALUES (?, ?)').run(VERSIONS.length, check)
    insertSums(database, sums)
  })
  sums.settle()
}

function migrate(database: Database, from: number, keys: SchemaKeys): void {
  atOnce(database, () => {
    for (const { migration, rewrites } of VERSIONS.slice(from)) {
      for (const step of migration) database.exec(step)
      if (rewrites === true) rewriteRows(database, keys)
    }
    database.prepare('UPDATE store SET schema_version = ?').run(VERSIONS.length)
  })
  keys.sums.settle()
}

/** Hashes keys and index values, and sums up what rows there are. One that does not open stays, and counts as damaged. */
function rewriteRows(database: Database, { storageKey, random, names, sums, nameless }: SchemaKeys): void {
  const rows = database.prepare('SELECT position, tbl, key, a, b, at, sealed FROM entries').all() as SqlRow[]
  const update = database.prepare('UPDATE entries SET key = ?, a = ?, b = ?, sealed = ? WHERE position = ?')
  for (const { position = null, tbl, key, a = null, b = null, at = null, sealed } of rows) {
    const table = String(tbl)
    const named = (column: NameColumn, text: SqlValue) =>
      text === null ? null : names.of(table, column, String(text))
    const name = names.of(table, 'key', String(key))
    const index = [named('a', a), named('b', b)] as const
    let value: Uint8Array
    try {
      value = open(storageKey, sealed as Uint8Array, placeOf(table, String(key), a, b, at))
    } catch (error) {
      if (!isAgentMeshError(error, 'SEAL_BROKEN')) throw error
      continue
    }
    const plain = framedRow(nameless.has(table) ? '' : String(key), value)
    update.run(name, ...index, seal(storageKey, plain, placeOf(table, name, ...index, at), random), position)
  }
  insertSums(database, sums)
}

function insertSums(database: Database, sums: TableSums): void {
  sums.accept(database)
  database.prepare('INSERT INTO sums VALUES (?)').run(sums.sealed() ?? null)
}

/** In one transaction, which is over when this returns or throws: a connection that is in one keeps its locks. */
function atOnce(database: Database, change: () => void): void {
  database.exec('BEGIN EXCLUSIVE')
  try {
    change()
    database.exec('COMMIT')
  } catch (error) {
    try {
      database.exec('ROLLBACK')
    } catch {
      // SQLite rolled back by itself.
    }
    throw error
  }
}

/** The version of the file, one of ours. */
function checkVersionAndKey(database: Database, storageKey: Uint8Array): number {
  let rows: SqlRow[]
  try {
    rows = database.prepare('SELECT schema_version, key_check FROM store').all() as SqlRow[]
  } catch (cause) {
    if (sqliteCode(cause) !== SQLITE_ERROR) throw cause
    throw new AgentMeshError('STATE_DAMAGED', 'state.db is a database of another program', { cause })
  }
  const [row] = rows
  const version = row?.['schema_version']
  const check = row?.['key_check']
  if (rows.length !== 1 || typeof version !== 'number' || !(check instanceof Uint8Array)) {
    throw new AgentMeshError('STATE_DAMAGED', 'state.db lost its first record')
  }
  if (VERSIONS[version - 1] === undefined) {
    throw new AgentMeshError(
      'STATE_VERSION',
      `state.db has version ${version}; this program reads 1 to ${VERSIONS.length}`,
    )
  }
  try {
    open(storageKey, check, KEY_CHECK_PLACE)
  } catch (cause) {
    throw new AgentMeshError('STATE_WRONG_KEY', undefined, { operation: 'open state.db', cause })
  }
  return version
}

/**
 * One table of the store: sealed rows under a text key, found by key or by up to three index columns.
 *
 *     entries: position | tbl | key | a | b | at | sealed (u32 length | key | value)
 *
 * `a` and `b` are what a table's owner looks rows up by (a peer, a state), `at` is a time in milliseconds or another
 * order. Key, `a` and `b` stand there as keyed hashes (`row-names.ts`); a table's own name and `at` are in the clear. All
 * columns but `position` are bound into the seal, so that a row moved to another key, table or index value does not open.
 * Rows that are gone, or put back as they once were, show in the sums (`table-sums.ts`).
 */
import { open, seal } from '../../crypto/sealing.ts'
import type { RandomBytes } from '../../crypto/signing.ts'
import {
  AgentMeshError,
  ByteReader,
  ByteWriter,
  isAgentMeshError,
  utf8Bytes,
  utf8Text,
} from '../../wire/index.ts'
import type { TableCodec } from './json-codec.ts'
import type { RecentValues } from './recent-values.ts'
import type { RowNames } from './row-names.ts'
import { NONCE_COLUMN, nonceOf } from './table-sums.ts'
import type { SqlRow, SqlValue, Statement } from './sqlite.ts'

/** What is sealed of a row. */
export function framedRow(key: string, value: Uint8Array): Uint8Array {
  const text = utf8Bytes(key)
  return new ByteWriter().u32(text.length).bytes(text).bytes(value).finish()
}

export interface TableIndex {
  readonly a?: string
  readonly b?: string
  /** A safe integer. */
  readonly at?: number
}

export interface TableQuery {
  readonly a?: string
  readonly b?: string
  /** Only rows whose `at` is less. */
  readonly before?: number
  readonly limit?: number
  /** By `at` (rows without one first), then by the order of first insertion. Default `asc`. */
  readonly order?: 'asc' | 'desc'
}

export interface TableRow<T> {
  readonly key: string
  readonly value: T
  readonly at?: number
}

/** What a table needs of its store. */
export interface TableHost {
  readonly storageKey: Uint8Array
  readonly random: RandomBytes
  readonly names: RowNames
  /** What a row whose seal has this nonce adds to the sum of its table. */
  partOf(nonce: Uint8Array): Uint8Array
  /** A row went, one came, or one took the other's place: their parts in the sum. */
  moved(table: string, gone: Uint8Array | undefined, come: Uint8Array | undefined): void
  /** A secret is gone: it is to be unreadable in the files before anybody is told of the commit. */
  eraseWithCommit(): void
  /** Prepared once, kept. */
  statement(sql: string): Statement
  /** Runs one statement; its failure is turned into one of our errors. */
  execute<T>(step: () => T): T
  /** @throws STATE_MISUSED unless a commit's work is running. */
  requireWork(): void
  /** For the values a table put or read last; emptied whenever anything is undone. */
  recentValues<V>(): RecentValues<V>
  /** `step` puts memory back if the work that is running is undone. */
  onUndo(step: () => void): void
  isOpen(): boolean
}

/** Keys and index values pass through SQLite as UTF-8 text, so they must have exactly one such form. */
function requireText(text: string): string {
  if (!text.isWellFormed() || text.includes('\0')) {
    throw new AgentMeshError('MALFORMED', 'A row key or index value is not well-formed text')
  }
  return text
}

function requireInteger(value: number): number {
  if (!Number.isSafeInteger(value)) throw new AgentMeshError('MALFORMED', 'A row time is not a safe integer')
  return value
}

/** What a row's seal is bound to. */
export function placeOf(table: string, key: string, a: SqlValue, b: SqlValue, at: SqlValue): Uint8Array {
  return utf8Bytes(JSON.stringify(['agentmesh/0.2 state row', table, key, a, b, at]))
}

/** A row as it is to be written. */
interface NewRow<T> {
  readonly key: string
  /** Of its key. */
  readonly name: string
  readonly value: T
  readonly a: string | null
  readonly b: string | null
  readonly at: number | null
}

const PUT = `INSERT INTO entries (tbl, key, a, b, at, sealed) VALUES (?, ?, ?, ?, ?, ?)
  ON CONFLICT (tbl, key) DO UPDATE SET a = excluded.a, b = excluded.b, at = excluded.at, sealed = excluded.sealed`

/** See `StateStoreOptions`. */
export interface TableKind {
  readonly late: boolean
  readonly nameless: boolean
  readonly secret: boolean
}

const ROW = 'key, a, b, at, sealed'

export class Table<T> {
  readonly #name: string
  readonly #codec: TableCodec<T>
  readonly #host: TableHost
  readonly #kind: TableKind
  readonly #nameOf: (key: string) => string
  readonly #nameOfA: (text: string) => string
  readonly #nameOfB: (text: string) => string
  /** By the name of the key, as all that follows. */
  readonly #recent: RecentValues<{ readonly key: string; readonly value: T }>
  /** Parts in the sums of rows as they are in the file; null for none. */
  readonly #parts: RecentValues<Uint8Array | null>
  /** Whether rows are written at the end of the group. */
  readonly isLate: boolean
  /** Rows of a late table that the group put and that are not written yet. */
  #unwritten = new Map<string, NewRow<T>>()

  constructor(name: string, codec: TableCodec<T>, host: TableHost, kind: TableKind) {
    this.#name = name
    this.#codec = codec
    this.#host = host
    this.#kind = kind
    this.isLate = kind.late
    this.#nameOf = host.names.column(name, 'key')
    this.#nameOfA = host.names.column(name, 'a')
    this.#nameOfB = host.names.column(name, 'b')
    this.#recent = host.recentValues()
    this.#parts = host.recentValues()
  }

  /** @throws STATE_DAMAGED when the row is not as it was written, STATE_CLOSED. */
  get(key: string): T | undefined {
    const name = this.#nameOf(requireText(key))
    const recent = this.#recent.get(name)
    // A closed store answers nothing, whatever it remembers.
    if (recent !== undefined && this.#host.isOpen()) return recent.value
    const unwritten = this.#unwritten.get(name)
    if (unwritten !== undefined) return unwritten.value
    const row = this.#first(`SELECT ${ROW} FROM entries WHERE tbl = ? AND key = ?`, [name])
    if (row !== undefined) return this.#open(row).value
    // A filter is asked before it takes a row.
    this.#parts.set(name, null)
    return undefined
  }

  /** Writes or replaces a row; index values not given are cleared. @throws STATE_MISUSED, STATE_WRITE_FAILED, MALFORMED */
  put(key: string, value: T, index: TableIndex = {}): void {
    this.#host.requireWork()
    const name = this.#nameOf(requireText(key))
    const row: NewRow<T> = {
      key,
      name,
      value,
      a: index.a === undefined ? null : this.#nameOfA(requireText(index.a)),
      b: index.b === undefined ? null : this.#nameOfB(requireText(index.b)),
      at: index.at === undefined ? null : requireInteger(index.at),
    }
    if (this.isLate) this.#keepUnwritten(name, row)
    else this.#write(row)
    this.#recent.set(name, { key: this.#kind.nameless ? name : key, value })
  }

  #write({ key, name, value, a, b, at }: NewRow<T>): void {
    const plain = framedRow(this.#kind.nameless ? '' : key, this.#codec.encode(value))
    const place = placeOf(this.#name, name, a, b, at)
    const sealed = seal(this.#host.storageKey, plain, place, this.#host.random)
    const before = this.#partInFile(name)
    this.#change(PUT, [name, a, b, at, sealed])
    const part = this.#host.partOf(nonceOf(sealed))
    this.#host.moved(this.#name, before ?? undefined, part)
    this.#parts.set(name, part)
  }

  #partInFile(name: string): Uint8Array | null {
    const known = this.#parts.get(name)
    if (known !== undefined) return known
    const row = this.#first(`SELECT ${NONCE_COLUMN} FROM entries WHERE tbl = ? AND key = ?`, [name])
    return row === undefined ? null : this.#host.partOf(nonceIn(row))
  }

  #keepUnwritten(name: string, row: NewRow<T> | undefined): void {
    const before = this.#unwritten.get(name)
    this.#setUnwritten(name, row)
    this.#host.onUndo(() => this.#setUnwritten(name, before))
  }

  #setUnwritten(name: string, row: NewRow<T> | undefined): void {
    if (row === undefined) this.#unwritten.delete(name)
    else this.#unwritten.set(name, row)
  }

  /** Writes what was put and is not written yet: at the end of a group, and before SQLite is asked for rows. */
  writeUnwritten(): void {
    if (this.#unwritten.size === 0) return
    const rows = this.#unwritten
    // When one fails, all stay unwritten: a work that swallows the failure does not lose the rows of others.
    for (const row of rows.values()) this.#write(row)
    this.#unwritten = new Map()
    // Those of earlier works are written inside this one, and gone with it.
    this.#host.onUndo(() => {
      this.#unwritten = rows
    })
  }

  /** Forgets what the group put, which was undone. */
  dropUnwritten(): void {
    this.#unwritten.clear()
  }

  /** Whether there was such a row. @throws STATE_MISUSED, STATE_WRITE_FAILED */
  delete(key: string): boolean {
    this.#host.requireWork()
    const name = this.#nameOf(requireText(key))
    this.#recent.delete(name)
    const unwritten = this.#unwritten.has(name)
    if (unwritten) this.#keepUnwritten(name, undefined)
    const part = this.#partInFile(name)
    if (part === null) return unwritten
    this.#change('DELETE FROM entries WHERE tbl = ? AND key = ?', [name])
    this.#parts.set(name, null)
    this.#removed(part)
    return true
  }

  #removed(part: Uint8Array): void {
    this.#host.moved(this.#name, part, undefined)
    if (this.#kind.secret) this.#host.eraseWithCommit()
  }

  /** Deletes all rows whose `at` is less, unopened; the number of them. @throws STATE_MISUSED, STATE_WRITE_FAILED */
  deleteBefore(at: number): number {
    this.#host.requireWork()
    this.#recent.clear()
    this.#parts.clear()
    this.writeUnwritten()
    // Two ranges of the index by `b` and time: most tables of which rows are deleted so have no `b`.
    return ['IS NULL', 'IS NOT NULL'].reduce((deleted, b) => {
      const which = `entries INDEXED BY entries_b WHERE tbl = ? AND b ${b} AND at < ?`
      const rows = this.#all(`DELETE FROM ${which} RETURNING ${NONCE_COLUMN}`, [requireInteger(at)])
      for (const row of rows) this.#removed(this.#host.partOf(nonceIn(row)))
      return deleted + rows.length
    }, 0)
  }

  /** @throws STATE_DAMAGED when one of the rows is not as it was written. */
  list(query: TableQuery = {}): TableRow<T>[] {
    this.writeUnwritten()
    const { from, where, values } = this.#filter(query)
    const direction = query.order === 'desc' ? 'DESC' : 'ASC'
    const order = `ORDER BY at ${direction}, position ${direction}`
    if (query.limit !== undefined) values.push(requireInteger(query.limit))
    const limit = query.limit === undefined ? '' : ' LIMIT ?'
    const chosen = `FROM ${from} WHERE tbl = ?${where} ${order}${limit}`
    const columns = `SELECT ${ROW}`
    // Without `b` no index has the order: the few that are wanted are chosen before any other is read.
    const sql =
      query.limit !== undefined && query.b === undefined
        ? `${columns} FROM entries WHERE position IN (SELECT position ${chosen}) ${order}`
        : `${columns} ${chosen}`
    return this.#all(sql, values).map((row) => {
      const at = row['at']
      return { ...this.#recentOrOpen(row), ...(typeof at === 'number' ? { at } : {}) }
    })
  }

  /**
   * Deletes the rows that are not as they were written; the number of them. The sums still have them, until the rows that
   * are left are accepted. @throws STATE_MISUSED, STATE_WRITE_FAILED
   */
  dropDamaged(): number {
    this.#host.requireWork()
    this.#recent.clear()
    this.#parts.clear()
    this.writeUnwritten()
    const rows = this.#all(`SELECT position, ${ROW} FROM entries WHERE tbl = ?`, [])
    const damaged = rows.filter((row) => !this.#opens(row))
    for (const row of damaged)
      this.#change('DELETE FROM entries WHERE tbl = ? AND position = ?', [row['position'] ?? null])
    return damaged.length
  }

  #opens(row: SqlRow): boolean {
    try {
      this.#open(row)
      return true
    } catch (error) {
      if (!isAgentMeshError(error, 'STATE_DAMAGED')) throw error
      return false
    }
  }

  count(query: Pick<TableQuery, 'a' | 'b'> = {}): number {
    this.writeUnwritten()
    const { from, where, values } = this.#filter(query)
    const row = this.#first(`SELECT count(*) AS total FROM ${from} WHERE tbl = ?${where}`, values)
    return Number(row?.['total'])
  }

  #first(sql: string, values: readonly SqlValue[]): SqlRow | undefined {
    return this.#host.execute(() => this.#host.statement(sql).get(this.#name, ...values)) as
      | SqlRow
      | undefined
  }

  #all(sql: string, values: readonly SqlValue[]): SqlRow[] {
    return this.#host.execute(() => this.#host.statement(sql).all(this.#name, ...values)) as SqlRow[]
  }

  #change(sql: string, values: readonly SqlValue[]): number {
    return Number(this.#host.execute(() => this.#host.statement(sql).run(this.#name, ...values)).changes)
  }

  #recentOrOpen(row: SqlRow): { readonly key: string; readonly value: T } {
    return this.#recent.get(String(row['key'])) ?? this.#open(row)
  }

  #open(row: SqlRow): { readonly key: string; readonly value: T } {
    try {
      const { key: name, a, b, at, sealed } = row
      if (typeof name !== 'string' || !(sealed instanceof Uint8Array)) throw new AgentMeshError('SEAL_BROKEN')
      const place = placeOf(this.#name, name, a ?? null, b ?? null, at ?? null)
      const reader = new ByteReader(open(this.#host.storageKey, sealed, place))
      const key = utf8Text(reader.bytes(reader.u32()))
      return { key: this.#kind.nameless ? name : key, value: this.#codec.decode(reader.rest()) }
    } catch (cause) {
      throw new AgentMeshError('STATE_DAMAGED', `A row of table ${this.#name} is not as it was written`, {
        operation: 'read state.db',
        cause,
      })
    }
  }

  /**
   * The index is named: SQLite knows nothing about how many rows share a value, and its guess for `a` and `b` together
   * reads the rows of every `a`.
   */
  #filter(query: TableQuery): { from: string; where: string; values: SqlValue[] } {
    let where = ''
    const values: SqlValue[] = []
    if (query.a !== undefined) {
      where += ' AND a = ?'
      values.push(this.#nameOfA(requireText(query.a)))
    }
    if (query.b !== undefined) {
      where += ' AND b = ?'
      values.push(this.#nameOfB(requireText(query.b)))
    }
    if (query.before !== undefined) {
      where += ' AND at < ?'
      values.push(requireInteger(query.before))
    }
    return { from: `entries INDEXED BY ${query.a === undefined ? 'entries_b' : 'entries_a'}`, where, values }
  }
}

function nonceIn(row: SqlRow): Uint8Array {
  const nonce = row['nonce']
  return nonce instanceof Uint8Array ? nonce : new Uint8Array(0)
}

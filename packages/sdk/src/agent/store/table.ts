/**
 * One table of the store: sealed rows under a text key, found by key or by up to three index columns.
 *
 *     entries: position | tbl | key | a | b | at | sealed
 *
 * `a` and `b` are what a table's owner looks rows up by (a peer, a state), `at` is a time in milliseconds or another
 * order. Columns other than `sealed` are in the clear, so that SQLite can search them; all of them but `position` are
 * bound into the seal, so that a row moved to another key, table or index value does not open. What a seal cannot show:
 * rows deleted, and rows or whole files put back as they once were. The session layer notices old ratchets with the peer.
 */
import { open, seal } from '../../crypto/sealing.ts'
import type { RandomBytes } from '../../crypto/signing.ts'
import { AgentMeshError, isAgentMeshError, utf8Bytes } from '../../wire/index.ts'
import type { TableCodec } from './json-codec.ts'
import type { SqlRow, SqlValue, Statement } from './sqlite.ts'

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
  readonly index: TableIndex
}

/** What a table needs of its store. */
export interface TableHost {
  readonly storageKey: Uint8Array
  readonly random: RandomBytes
  /** Prepared once, kept. */
  statement(sql: string): Statement
  /** Runs one statement; its failure is turned into one of our errors. */
  execute<T>(step: () => T): T
  /** @throws STATE_MISUSED unless a commit's work is running. */
  requireWork(): void
  /** For the values a table put or read last; emptied whenever anything is undone. */
  recentValues(): RecentValues
  /** `step` puts memory back if the work that is running is undone. */
  onUndo(step: () => void): void
  isOpen(): boolean
}

/**
 * Opened rows, so that a session's row is not unsealed and decoded for every message. Values are shared: whoever gets one
 * makes a new one instead of changing it.
 */
export class RecentValues {
  readonly #values = new Map<string, unknown>()
  readonly #limit: number

  constructor(limit: number) {
    this.#limit = limit
  }

  get(key: string): unknown {
    return this.#values.get(key)
  }

  set(key: string, value: unknown): void {
    this.#values.delete(key)
    this.#values.set(key, value)
    if (this.#values.size <= this.#limit) return
    const [oldest] = this.#values.keys()
    if (oldest !== undefined) this.#values.delete(oldest)
  }

  delete(key: string): void {
    this.#values.delete(key)
  }

  clear(): void {
    this.#values.clear()
  }
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

function placeOf(table: string, key: string, a: SqlValue, b: SqlValue, at: SqlValue): Uint8Array {
  return utf8Bytes(JSON.stringify(['agentmesh/0.2 state row', table, key, a, b, at]))
}

/** A row as it is to be written. */
interface NewRow<T> {
  readonly key: string
  readonly value: T
  readonly a: string | null
  readonly b: string | null
  readonly at: number | null
}

const PUT = `INSERT INTO entries (tbl, key, a, b, at, sealed) VALUES (?, ?, ?, ?, ?, ?)
  ON CONFLICT (tbl, key) DO UPDATE SET a = excluded.a, b = excluded.b, at = excluded.at, sealed = excluded.sealed`

export class Table<T> {
  readonly #name: string
  readonly #codec: TableCodec<T>
  readonly #host: TableHost
  readonly #recent: RecentValues
  /** Whether rows are written at the end of the group. */
  readonly isLate: boolean
  /** Rows of a late table that the group put and that are not written yet. */
  #unwritten = new Map<string, NewRow<T>>()

  /** @param late see `StateStoreOptions.late` */
  constructor(name: string, codec: TableCodec<T>, host: TableHost, late: boolean) {
    this.#name = name
    this.#codec = codec
    this.#host = host
    this.isLate = late
    this.#recent = host.recentValues()
  }

  /** @throws STATE_DAMAGED when the row is not as it was written, STATE_CLOSED. */
  get(key: string): T | undefined {
    const recent = this.#recent.get(key)
    // A closed store answers nothing, whatever it remembers.
    if (recent !== undefined && this.#host.isOpen()) return recent as T
    const unwritten = this.#unwritten.get(key)
    if (unwritten !== undefined) return unwritten.value
    const row = this.#first('SELECT key, a, b, at, sealed FROM entries WHERE tbl = ? AND key = ?', [
      requireText(key),
    ])
    return row === undefined ? undefined : this.#open(row)
  }

  /** Writes or replaces a row; index values not given are cleared. @throws STATE_MISUSED, STATE_WRITE_FAILED, MALFORMED */
  put(key: string, value: T, index: TableIndex = {}): void {
    this.#host.requireWork()
    const row: NewRow<T> = {
      key: requireText(key),
      value,
      a: index.a === undefined ? null : requireText(index.a),
      b: index.b === undefined ? null : requireText(index.b),
      at: index.at === undefined ? null : requireInteger(index.at),
    }
    if (this.isLate) this.#keepUnwritten(key, row)
    else this.#write(row)
    this.#recent.set(key, value)
  }

  #write({ key, value, a, b, at }: NewRow<T>): void {
    const place = placeOf(this.#name, key, a, b, at)
    const sealed = seal(this.#host.storageKey, this.#codec.encode(value), place, this.#host.random)
    this.#change(PUT, [key, a, b, at, sealed])
  }

  #keepUnwritten(key: string, row: NewRow<T> | undefined): void {
    const before = this.#unwritten.get(key)
    this.#setUnwritten(key, row)
    this.#host.onUndo(() => this.#setUnwritten(key, before))
  }

  #setUnwritten(key: string, row: NewRow<T> | undefined): void {
    if (row === undefined) this.#unwritten.delete(key)
    else this.#unwritten.set(key, row)
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
    this.#recent.delete(key)
    const unwritten = this.#unwritten.has(key)
    if (unwritten) this.#keepUnwritten(key, undefined)
    const deleted = this.#change('DELETE FROM entries WHERE tbl = ? AND key = ?', [requireText(key)])
    return unwritten || deleted > 0
  }

  /** Deletes all rows whose `at` is less, unopened; the number of them. @throws STATE_MISUSED, STATE_WRITE_FAILED */
  deleteBefore(at: number): number {
    this.#host.requireWork()
    this.#recent.clear()
    this.writeUnwritten()
    // Two ranges of the index by `b` and time: most tables of which rows are deleted so have no `b`.
    return ['IS NULL', 'IS NOT NULL'].reduce(
      (deleted, b) =>
        deleted +
        this.#change(`DELETE FROM entries INDEXED BY entries_b WHERE tbl = ? AND b ${b} AND at < ?`, [
          requireInteger(at),
        ]),
      0,
    )
  }

  /** @throws STATE_DAMAGED when one of the rows is not as it was written. */
  list(query: TableQuery = {}): TableRow<T>[] {
    this.writeUnwritten()
    const { from, where, values } = filter(query)
    const direction = query.order === 'desc' ? 'DESC' : 'ASC'
    const order = `ORDER BY at ${direction}, position ${direction}`
    if (query.limit !== undefined) values.push(requireInteger(query.limit))
    const limit = query.limit === undefined ? '' : ' LIMIT ?'
    const chosen = `FROM ${from} WHERE tbl = ?${where} ${order}${limit}`
    const columns = 'SELECT key, a, b, at, sealed'
    // Without `b` no index has the order: the few that are wanted are chosen before any other is read.
    const sql =
      query.limit !== undefined && query.b === undefined
        ? `${columns} FROM entries WHERE position IN (SELECT position ${chosen}) ${order}`
        : `${columns} ${chosen}`
    const rows = this.#host.execute(() => this.#host.statement(sql).all(this.#name, ...values)) as SqlRow[]
    return rows.map((row) => ({
      key: String(row['key']),
      value: this.#recentOrOpen(row),
      index: indexOf(row),
    }))
  }

  /** Deletes the rows that are not as they were written; the number of them. @throws STATE_MISUSED, STATE_WRITE_FAILED */
  dropDamaged(): number {
    this.#host.requireWork()
    this.#recent.clear()
    this.writeUnwritten()
    const sql = 'SELECT key, a, b, at, sealed FROM entries WHERE tbl = ?'
    const rows = this.#host.execute(() => this.#host.statement(sql).all(this.#name)) as SqlRow[]
    const damaged = rows.filter((row) => !this.#opens(row))
    for (const row of damaged)
      this.#change('DELETE FROM entries WHERE tbl = ? AND key = ?', [String(row['key'])])
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
    const { from, where, values } = filter(query)
    const row = this.#first(`SELECT count(*) AS total FROM ${from} WHERE tbl = ?${where}`, values)
    return Number(row?.['total'])
  }

  #first(sql: string, values: readonly SqlValue[]): SqlRow | undefined {
    return this.#host.execute(() => this.#host.statement(sql).get(this.#name, ...values)) as
      | SqlRow
      | undefined
  }

  #change(sql: string, values: readonly SqlValue[]): number {
    return Number(this.#host.execute(() => this.#host.statement(sql).run(this.#name, ...values)).changes)
  }

  #recentOrOpen(row: SqlRow): T {
    const recent = this.#recent.get(String(row['key']))
    return recent === undefined ? this.#open(row) : (recent as T)
  }

  #open(row: SqlRow): T {
    try {
      const { key, a, b, at, sealed } = row
      if (typeof key !== 'string' || !(sealed instanceof Uint8Array)) throw new AgentMeshError('SEAL_BROKEN')
      const place = placeOf(this.#name, key, a ?? null, b ?? null, at ?? null)
      return this.#codec.decode(open(this.#host.storageKey, sealed, place))
    } catch (cause) {
      throw new AgentMeshError('STATE_DAMAGED', `A row of table ${this.#name} is not as it was written`, {
        operation: 'read state.db',
        cause,
      })
    }
  }
}

/**
 * The index is named: SQLite knows nothing about how many rows share a value, and its guess for `a` and `b` together reads
 * the rows of every `a`.
 */
function filter(query: TableQuery): { from: string; where: string; values: SqlValue[] } {
  let where = ''
  const values: SqlValue[] = []
  if (query.a !== undefined) {
    where += ' AND a = ?'
    values.push(requireText(query.a))
  }
  if (query.b !== undefined) {
    where += ' AND b = ?'
    values.push(requireText(query.b))
  }
  if (query.before !== undefined) {
    where += ' AND at < ?'
    values.push(requireInteger(query.before))
  }
  return { from: `entries INDEXED BY ${query.a === undefined ? 'entries_b' : 'entries_a'}`, where, values }
}

function indexOf(row: SqlRow): TableIndex {
  const { a, b, at } = row
  return {
    ...(typeof a === 'string' ? { a } : {}),
    ...(typeof b === 'string' ? { b } : {}),
    ...(typeof at === 'number' ? { at } : {}),
  }
}

/**
 * The state of an agent: one SQLite file, every row sealed, every change durable before anybody is told (DESIGN §7).
 *
 * Flow of a commit:
 *
 *     commit(work) ... commit(work)     queued while the event loop's turn lasts
 *     BEGIN IMMEDIATE
 *       SAVEPOINT, work(tables), RELEASE     once for each; a work that throws is rolled back alone
 *       the hook's rows, and those of late tables   once, however many works put them
 *     COMMIT                            one write and one fsync for all of them
 *     promises resolve
 *
 * A work is synchronous and runs exactly once; it sees what the works before it wrote. When COMMIT fails, every work of
 * the group rejects with STATE_WRITE_FAILED and none has changed anything. Memory that mirrors rows must therefore be
 * updated after the promise resolved, never inside the work.
 *
 * The file is held by one connection (exclusive locking), freed by the operating system when the process dies.
 *
 * What a commit deleted or replaced is overwritten in the files (`erasure.ts`): before the promises of a group that
 * deleted rows of a secret table resolve; otherwise once no commit came for a moment, when the log has grown to its
 * bound, and when the store opens and closes.
 */
import { clearTimeout, setTimeout } from 'node:timers'
import type { RandomBytes } from '../../crypto/signing.ts'
import { AgentMeshError } from '../../wire/index.ts'
import type { TableCodec } from './json-codec.ts'
import { Erasure } from './erasure.ts'
import { ensurePrivateFile } from './private-file.ts'
import { RecentValues } from './recent-values.ts'
import { RowNames } from './row-names.ts'
import { prepareSchema, type SchemaKeys } from './schema.ts'
import {
  builtinSqlite,
  closeExclusive,
  packagedSqlite,
  primaryCode,
  SQLITE_BUSY,
  SQLITE_CORRUPT,
  SQLITE_IOERR_DIR_FSYNC,
  SQLITE_IOERR_FSYNC,
  SQLITE_NOTADB,
  sqliteCode,
  type Database,
  type OpenDatabase,
  type Statement,
} from './sqlite.ts'
import { TableSums } from './table-sums.ts'
import { Table, type TableHost } from './table.ts'

export type TableCodecs = Readonly<Record<string, TableCodec<unknown>>>
export type Tables<C extends TableCodecs> = {
  readonly [K in keyof C]: C[K] extends TableCodec<infer T> ? Table<T> : never
}

export interface StateStoreOptions<C extends TableCodecs> {
  /** Table name -> codec of its values. A name is part of the seal: renaming a table loses its rows. */
  readonly tables: C
  /**
   * Tables whose rows are sealed and written once a group, as the last work left them: for rows that most works put. A
   * value of theirs that cannot be encoded fails the whole group, not its own work alone.
   */
  readonly late?: readonly (keyof C)[]
  /** Tables whose deleted rows are unreadable in the files before the promise of the commit that deleted them resolves. */
  readonly secret?: readonly (keyof C)[]
  /** Tables whose rows hold no more of their keys than a keyed hash, which is what `list()` gives in their place. */
  readonly nameless?: readonly (keyof C)[]
  /** Told when what was deleted cannot be overwritten, as on a full disk; it is tried again. */
  readonly onUnerased?: (error: AgentMeshError) => void
  readonly hook?: CommitHook<Tables<C>>
  readonly random: RandomBytes
  readonly sqlite?: OpenDatabase
}

/** What goes along with every commit group. */
export interface CommitHook<T> {
  /** Called in the transaction, after all works. What it throws fails the group. */
  write(tables: T): void
  /** Called when the group is on disk, before anybody is told. Must not throw. */
  written(): void
}

interface Job {
  run(): unknown
  resolve(value: unknown): void
  reject(error: unknown): void
}

/** Random bytes drawn at once: a nonce alone costs ten times the copy of one. */
const POOL_BYTES = 3072
/** Opened rows of a table kept in memory: one for all would lose a busy agent's sessions to its messages. */
const RECENT_VALUES = 256

/** No commit for so long, and what was replaced since the last erasure is overwritten. */
const IDLE_MS = 250
/** So long a log is erased even if commits do not stop coming: what was replaced stays no longer than this. */
const MAX_LOG_BYTES = 4 * 1024 * 1024

const PRAGMAS = [
  'PRAGMA trusted_schema = OFF',
  'PRAGMA cell_size_check = ON',
  'PRAGMA busy_timeout = 0',
  'PRAGMA locking_mode = EXCLUSIVE',
  'PRAGMA journal_mode = WAL',
  'PRAGMA synchronous = FULL',
  // On macOS a plain fsync leaves data in the drive's cache.
  'PRAGMA fullfsync = ON',
  'PRAGMA secure_delete = ON',
  // Nothing of a rollback or a sort goes to a file of its own.
  'PRAGMA temp_store = MEMORY',
  // The log is written back when it is erased.
  'PRAGMA wal_autocheckpoint = 0',
]

export class StateStore<C extends TableCodecs> {
  readonly tables: Tables<C>
  readonly #database: Database
  readonly #statements = new Map<string, Statement>()
  #queue: Job[] = []
  /** What puts memory back when the work that is running is undone. */
  #undo: (() => void)[] = []
  readonly #recent: { clear(): void }[] = []
  readonly #sums: TableSums
  readonly #erasure: Erasure | undefined
  readonly #onUnerased: (error: AgentMeshError) => void
  /** Set while something that was deleted or replaced is in the files. */
  #erasureDue = false
  /** The group deleted a row of a secret table. */
  #erasesWithCommit = false
  /** Why the last erasure failed. */
  #unerased: AgentMeshError | undefined
  #idle: NodeJS.Timeout | undefined
  readonly #late: readonly Table<unknown>[]
  readonly #hook: CommitHook<Tables<C>> | undefined
  #working = false
  #closed = false
  /** The first SQLite failure inside the work that is running. */
  #workFailure: AgentMeshError | undefined
  /** Set when it is unknown what the disk holds: only reopening tells. */
  #lost: AgentMeshError | undefined

  /**
   * Opens or creates the file (mode 0600; `:memory:` for tests). `storageKey` is 32 bytes.
   *
   * @throws STATE_WRONG_KEY, STATE_DAMAGED, STATE_VERSION, STATE_WRITE_FAILED, HOME_LOCKED (another process has the
   *   file), HOME_UNSAFE (the file is a symbolic link)
   */
  static open<C extends TableCodecs>(
    path: string,
    storageKey: Uint8Array,
    options: StateStoreOptions<C>,
  ): StateStore<C> {
    if (path !== ':memory:') ensurePrivateFile(path, 'open state.db')
    const openDatabase = options.sqlite ?? builtinSqlite() ?? packagedSqlite()
    const key = Uint8Array.from(storageKey)
    const keys: SchemaKeys = {
      storageKey: key,
      random: pooled(options.random),
      names: new RowNames(key),
      sums: new TableSums(key, options.random),
      nameless: new Set(options.nameless as readonly string[] | undefined),
    }
    let database: Database | undefined
    let erasure: Erasure | undefined
    try {
      database = openDatabase(path)
      for (const pragma of PRAGMAS) database.exec(pragma)
      prepareSchema(database, keys)
      keys.sums.read(database)
      // After the locks are held: whoever closes a handle on a file gives up its process's locks on it.
      if (path !== ':memory:') erasure = new Erasure(path, database)
      const store = new StateStore(database, keys, erasure, options)
      store.#erase(true)
      return store
    } catch (error) {
      erasure?.closeLog()
      if (database !== undefined) closeExclusive(database)
      erasure?.close()
      throw storeError(error, 'open state.db')
    }
  }

  private constructor(
    database: Database,
    { storageKey, random, names, sums, nameless }: SchemaKeys,
    erasure: Erasure | undefined,
    options: StateStoreOptions<C>,
  ) {
    this.#database = database
    this.#sums = sums
    this.#erasure = erasure
    this.#onUnerased = options.onUnerased ?? (() => {})
    this.#hook = options.hook
    const host: TableHost = {
      storageKey,
      random,
      names,
      partOf: (nonce) => sums.partOf(nonce),
      moved: (table, gone, come) => {
        sums.move(table, gone, come)
        this.#undo.push(() => sums.move(table, come, gone))
      },
      eraseWithCommit: () => {
        this.#erasesWithCommit = true
      },
      statement: (sql) => this.#statement(sql),
      execute: (step) => this.#execute(step),
      requireWork: () => {
        if (!this.#working) {
          throw new AgentMeshError('STATE_MISUSED', 'Tables change only inside the work of a commit')
        }
      },
      recentValues: <V>() => {
        const values = new RecentValues<V>(RECENT_VALUES)
        this.#recent.push(values)
        return values
      },
      onUndo: (step) => this.#undo.push(step),
      isOpen: () => !this.#closed,
    }
    const late = new Set<keyof C>(options.late)
    const secret = new Set<keyof C>(options.secret)
    this.tables = Object.fromEntries(
      Object.entries(options.tables).map(([name, codec]) => [
        name,
        new Table(name, codec, host, {
          late: late.has(name),
          secret: secret.has(name),
          nameless: nameless.has(name),
        }),
      ]),
    ) as unknown as Tables<C>
    this.#late = Object.values<Table<unknown>>(this.tables).filter((table) => table.isLate)
  }

  /**
   * Runs `work` in the next group and resolves with its result once that is on disk.
   *
   * Rejects with what `work` threw (its changes are undone, those of others are not), with STATE_WRITE_FAILED when the
   * group could not be written, STATE_MISUSED when `work` returned a promise, STATE_CLOSED.
   */
  async commit<T>(work: (tables: Tables<C>) => T): Promise<T> {
    if (this.#closed) throw new AgentMeshError('STATE_CLOSED')
    return new Promise<unknown>((resolve, reject) => {
      this.#queue.push({ run: () => work(this.tables), resolve, reject })
      if (this.#queue.length === 1) setImmediate(() => this.#runQueue())
    }) as Promise<T>
  }

  /**
   * Tables that have other rows than were written last: some are gone, were dropped as damaged, or are those of earlier.
   * They count as changed, over restarts too, until `acceptTables`.
   */
  changedTables(): string[] {
    return this.#execute(() => this.#sums.changed(this.#database))
  }

  /** Takes the rows there are for those that should be: once what rests on them was dealt with. @throws STATE_* */
  async acceptTables(): Promise<void> {
    await this.commit(() => this.#execute(() => this.#sums.accept(this.#database)))
  }

  /**
   * Overwrites what was deleted and replaced up to here, wherever the files hold it. @throws STATE_WRITE_FAILED: it is tried
   * again when nothing is to do
   */
  erase(): void {
    if (this.#closed) throw new AgentMeshError('STATE_CLOSED')
    if (this.#working) throw new AgentMeshError('STATE_MISUSED', 'A work cannot erase')
    this.#runQueue()
    this.#erase()
    if (this.#unerased !== undefined) throw this.#unerased
  }

  /** Set when a flush to disk failed: what the file holds is known only after it was opened again. */
  get lost(): AgentMeshError | undefined {
    return this.#lost
  }

  /** Commits what is queued, then closes. Reads and commits after it fail with STATE_CLOSED. */
  close(): void {
    if (this.#closed) return
    if (this.#working) throw new AgentMeshError('STATE_MISUSED', 'A work cannot close its store')
    this.#runQueue()
    clearTimeout(this.#idle)
    this.#erase()
    this.#erasure?.closeLog()
    this.#closed = true
    this.#statements.clear()
    try {
      closeExclusive(this.#database)
    } catch (error) {
      throw storeError(error, 'close state.db')
    } finally {
      this.#erasure?.close()
    }
  }

  #runQueue(): void {
    const group = this.#queue
    this.#queue = []
    if (group.length === 0) return
    try {
      if (this.#lost !== undefined) throw this.#lost
      this.#database.exec('BEGIN IMMEDIATE')
      const settle = group.map((job) => this.#runJob(job))
      this.#writeHook()
      for (const table of this.#late) table.writeUnwritten()
      this.#writeSums()
      this.#commitGroup()
      this.#sums.settle()
      this.#hook?.written()
      this.#afterCommit()
      for (const tell of settle) tell()
    } catch (error) {
      this.#rollBack()
      const failure = storeError(error, 'commit to state.db')
      for (const job of group) job.reject(failure)
    }
  }

  /** How to tell the caller, once the group is on disk. Throws when the whole transaction is gone. */
  #runJob(job: Job): () => void {
    this.#database.exec('SAVEPOINT work')
    this.#working = true
    this.#workFailure = undefined
    this.#undo = []
    try {
      const value = job.run()
      if (isThenable(value)) {
        // Whatever it still does comes too late to be in this commit.
        value.then(undefined, () => undefined)
        throw new AgentMeshError('STATE_MISUSED', 'The work of a commit must not be asynchronous')
      }
      // A work that swallowed a failed write must not commit the rest of itself.
      if (this.#workFailure !== undefined) throw this.#workFailure as AgentMeshError
      this.#database.exec('RELEASE work')
      return () => job.resolve(value)
    } catch (error) {
      this.#undoWork()
      return () => job.reject(error)
    } finally {
      this.#working = false
    }
  }

  /** Throws when SQLite rolled back the whole transaction by itself, as it may on a full disk. */
  #undoWork(): void {
    for (const values of this.#recent) values.clear()
    for (const step of this.#undo.toReversed()) step()
    try {
      this.#database.exec('ROLLBACK TO work')
      this.#database.exec('RELEASE work')
    } catch (error) {
      throw this.#workFailure ?? error
    }
  }

  #writeHook(): void {
    this.#working = true
    try {
      this.#hook?.write(this.tables)
    } finally {
      this.#working = false
    }
  }

  #commitGroup(): void {
    try {
      this.#database.exec('COMMIT')
    } catch (cause) {
      const code = sqliteCode(cause)
      if (code === SQLITE_IOERR_FSYNC || code === SQLITE_IOERR_DIR_FSYNC) {
        this.#lost = new AgentMeshError(
          'STATE_WRITE_FAILED',
          'state.db could not be flushed to disk; what it holds is known after the agent is started again',
          { operation: 'commit to state.db', cause },
        )
      }
      throw cause
    }
  }

  #rollBack(): void {
    for (const values of this.#recent) values.clear()
    for (const table of this.#late) table.dropUnwritten()
    this.#sums.rollBack()
    this.#erasesWithCommit = false
    try {
      this.#database.exec('ROLLBACK')
    } catch {
      // SQLite rolled back by itself; there is no transaction left.
    }
  }

  #writeSums(): void {
    const sealed = this.#sums.sealed()
    // There is no row in a file whose record was taken away.
    if (sealed !== undefined) {
      if (this.#statement('UPDATE sums SET sealed = ?').run(sealed).changes !== 0) return
      this.#statement('INSERT INTO sums VALUES (?)').run(sealed)
    }
  }

  #afterCommit(): void {
    this.#erasureDue = true
    const isLong = this.#erasure !== undefined && this.#erasure.logBytes() > MAX_LOG_BYTES
    if (this.#erasesWithCommit || isLong) this.#erase()
    else this.#eraseWhenIdle()
  }

  #eraseWhenIdle(): void {
    if (this.#erasure === undefined) return
    if (this.#idle === undefined) {
      this.#idle = setTimeout(() => {
        this.#idle = undefined
        this.#erase()
      }, IDLE_MS).unref()
    } else {
      this.#idle.refresh()
    }
  }

  /** What was committed stays so, whatever fails here. */
  #erase(everyPage = false): void {
    this.#erasesWithCommit = false
    if (this.#erasure === undefined || this.#lost !== undefined || this.#closed) return
    if (!this.#erasureDue && !everyPage) return
    clearTimeout(this.#idle)
    this.#idle = undefined
    try {
      this.#erasure.run(everyPage)
      this.#erasureDue = false
      this.#unerased = undefined
    } catch (cause) {
      const told = this.#unerased !== undefined
      this.#unerased = storeError(cause, 'erase what was deleted from state.db')
      this.#erasureDue = true
      this.#eraseWhenIdle()
      if (!told) this.#onUnerased(this.#unerased)
    }
  }

  #statement(sql: string): Statement {
    let statement = this.#statements.get(sql)
    if (statement === undefined) {
      statement = this.#database.prepare(sql)
      this.#statements.set(sql, statement)
    }
    return statement
  }

  #execute<T>(step: () => T): T {
    if (this.#closed) throw new AgentMeshError('STATE_CLOSED')
    try {
      return step()
    } catch (error) {
      const failure = storeError(error, 'use state.db')
      if (this.#working) this.#workFailure ??= failure
      throw failure
    }
  }
}

/** For nonces, which are no secrets: the bytes not used yet lie in memory. */
function pooled(random: RandomBytes): RandomBytes {
  let pool: Uint8Array = new Uint8Array(0)
  return (length) => {
    if (pool.length < length) pool = random(POOL_BYTES)
    const bytes = pool.subarray(0, length)
    pool = pool.subarray(length)
    return bytes
  }
}

function isThenable(value: unknown): value is PromiseLike<unknown> {
  return typeof value === 'object' && value !== null && 'then' in value && typeof value.then === 'function'
}

/** Ours stay as they are; SQLite's are told apart by their code. Anything else is a bug and keeps its own class. */
function storeError(error: unknown, operation: string): AgentMeshError {
  if (error instanceof AgentMeshError) return error
  const code = sqliteCode(error)
  switch (code === undefined ? undefined : primaryCode(code)) {
    case SQLITE_BUSY:
      return new AgentMeshError('HOME_LOCKED', 'state.db is open in another process', {
        operation,
        cause: error,
      })
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
      return new AgentMeshError('STATE_DAMAGED', 'state.db is not a sound database file', {
        operation,
        cause: error,
      })
    default:
      return new AgentMeshError('STATE_WRITE_FAILED', undefined, { operation, cause: error })
  }
}

/**
 * Mailboxes in one SQLite file. Everything asked for in one event-loop turn is one transaction, so a burst of messages
 * costs one fsync; a failed commit fails all of it, and none of it was promised to anybody.
 */
import {
  AgentMeshError,
  MESSAGE_TYPES,
  parseAmid,
  parseMessageId,
  type Amid,
  type MessageType,
} from '@agentmesh/sdk/wire'
import {
  STATE_COUNTER_TTL_MS,
  type Mailbox,
  type MailboxMessage,
  type Page,
  type Place,
  type StoredMessage,
  type StoreOutcome,
} from './mailbox.ts'
import { refusalOf, type MailboxLimits } from './quotas.ts'
import { closeDatabase, lockDatabase, openDatabase, type Database } from './sqlite.ts'
import { TurnEnd } from './turn.ts'

// `payload` stands last: what is read before it then never touches the payload's overflow pages.
const SCHEMA = `
  CREATE TABLE IF NOT EXISTS mail (
    position INTEGER PRIMARY KEY,
    place INTEGER NOT NULL,
    recipient TEXT NOT NULL,
    sender TEXT NOT NULL,
    id TEXT NOT NULL,
    type TEXT NOT NULL,
    timestamp INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    size INTEGER NOT NULL,
    payload BLOB NOT NULL
  ) STRICT;
  CREATE UNIQUE INDEX IF NOT EXISTS mail_message ON mail (recipient, sender, id);
  CREATE INDEX IF NOT EXISTS mail_order ON mail (recipient, place, position);
  CREATE INDEX IF NOT EXISTS mail_sender ON mail (sender);
  CREATE INDEX IF NOT EXISTS mail_expiry ON mail (expires_at);
  CREATE TABLE IF NOT EXISTS state_counters (
    agent TEXT PRIMARY KEY,
    counter INTEGER NOT NULL,
    seen_at INTEGER NOT NULL
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX IF NOT EXISTS state_counters_seen ON state_counters (seen_at);
`
const SCHEMA_VERSION = 3

/** Version 2 had no state counters, version 1 no `place` either: there everything stood at its position. */
const FROM_VERSION_1 = `
  ALTER TABLE mail RENAME TO mail_1;
  DROP INDEX mail_message;
  DROP INDEX mail_order;
  DROP INDEX mail_sender;
  DROP INDEX mail_expiry;
  ${SCHEMA}
  INSERT INTO mail (position, place, recipient, sender, id, type, timestamp, expires_at, size, payload)
    SELECT position, position, recipient, sender, id, type, timestamp, expires_at, size, payload FROM mail_1;
  DROP TABLE mail_1;
`

interface MailRow {
  position: number
  place: number
  recipient: string
  sender: string
  id: string
  type: string
  timestamp: number
  payload: Uint8Array
}

interface Work {
  readonly run: () => unknown
  readonly resolve: (value: never) => void
  readonly reject: (cause: unknown) => void
}

export class SqliteMailbox implements Mailbox {
  readonly #database: Database
  readonly #lock: Database | undefined
  readonly #limits: MailboxLimits
  readonly #now: () => number
  readonly #turnEnd = new TurnEnd(() => this.#commit())
  readonly #statements: ReturnType<typeof prepare>
  #queue: Work[] = []
  #lastPosition: number
  #messages: number
  #bytes: number
  #stateCounters = 0

  /**
   * @param path a file, or `:memory:`
   * @throws RELAY_STORE_FAILED when it cannot be opened, is in use, or was written by a newer relay
   */
  constructor(path: string, limits: MailboxLimits, now: () => number) {
    this.#limits = limits
    this.#now = now
    try {
      this.#lock = path === ':memory:' ? undefined : lockDatabase(path)
    } catch (cause) {
      throw new AgentMeshError('RELAY_STORE_FAILED', undefined, { operation: `lock ${path}`, cause })
    }
    try {
      this.#database = openDatabase(path)
      const version = scalar(this.#database, 'PRAGMA user_version', 'user_version')
      if (version > SCHEMA_VERSION) throw new Error(`The file has schema version ${version}`)
      const changes = version === 1 ? FROM_VERSION_1 : SCHEMA
      this.#database.exec(`BEGIN; ${changes} PRAGMA user_version = ${SCHEMA_VERSION}; COMMIT`)
      this.#statements = prepare(this.#database)
    } catch (cause) {
      this.#lock?.close()
      throw new AgentMeshError('RELAY_STORE_FAILED', undefined, { operation: `open ${path}`, cause })
    }
    this.#lastPosition = scalar(this.#database, 'SELECT coalesce(max(position), 0) AS n FROM mail', 'n')
    this.#messages = 0
    this.#bytes = 0
    this.#countAll()
  }

  get messages(): number {
    return this.#messages
  }
  get bytes(): number {
    return this.#bytes
  }

  async store(message: MailboxMessage, place?: number): Promise<StoreOutcome> {
    return this.#enqueue('store message', () => this.#store(message, place))
  }

  #store(message: MailboxMessage, place: number | undefined): StoreOutcome {
    const { to, from, id, type, timestamp, payload } = message
    const now = this.#now()
    this.#forget(this.#statements.expireOf.all(to, now))
    if (this.#statements.find.get(to, from, id) !== undefined) return 'stored'

    const box = this.#statements.usage.get(from, from, to) as Record<string, number>
    const total = (this.#statements.senderTotal.get(from) as Record<string, number>)['n'] ?? 0
    const usage = {
      messages: box['messages'] ?? 0,
      bytes: box['bytes'] ?? 0,
      senderMessages: box['sender_messages'] ?? 0,
      senderBytes: box['sender_bytes'] ?? 0,
      senderTotal: total,
      storeMessages: this.#messages,
      storeBytes: this.#bytes,
    }
    const size = payload.length
    const refusal = refusalOf(usage, size, this.#limits)
    if (refusal !== undefined) return refusal

    const expiresAt = timestamp + this.#limits.mailboxTtlMs
    const position = this.#lastPosition + 1
    this.#statements.insert.run(
      position,
      place ?? position,
      to,
      from,
      id,
      type,
      timestamp,
      expiresAt,
      size,
      payload,
    )
    this.#lastPosition = position
    this.#messages += 1
    this.#bytes += size
    return 'stored'
  }

  async page(to: Amid, { after, limit, withKnocks }: Page): Promise<StoredMessage[]> {
    return this.#read('read mailbox', () =>
      this.#statements.page
        .all(to, after.place, after.position, this.#now(), withKnocks ? 1 : 0, limit)
        .map((row) => fromRow(row as unknown as MailRow)),
    )
  }

  async count(to: Amid): Promise<number> {
    return this.#read('count mailbox', () => {
      const row = this.#statements.count.get(to, this.#now()) as Record<string, number>
      return row['n'] ?? 0
    })
  }

  async remove(to: Amid, messages: readonly Place[], stateCounter: number): Promise<void> {
    await this.#enqueue('remove messages', () => {
      for (const { position } of messages) this.#forget(this.#statements.remove.all(to, position))
      if (stateCounter > 0) this.#keepCounter(to, stateCounter)
    })
  }

  #keepCounter(agent: Amid, counter: number): void {
    const { raiseCounter, addCounter } = this.#statements
    if (raiseCounter.run(counter, this.#now(), agent).changes > 0) return
    if (this.#stateCounters >= this.#limits.stateCounters) return
    addCounter.run(agent, counter, this.#now())
    this.#stateCounters += 1
  }

  async stateCounter(of: Amid): Promise<number> {
    return this.#read('read state counter', () => {
      const row = this.#statements.counter.get(of) as { counter: number } | undefined
      return row?.counter ?? 0
    })
  }

  async purge(): Promise<number> {
    return this.#enqueue('purge mailboxes', () => {
      const expired = this.#statements.expire.all(this.#now())
      this.#forget(expired)
      const forgotten = this.#statements.expireCounters.run(this.#now() - STATE_COUNTER_TTL_MS)
      this.#stateCounters -= forgotten.changes
      return expired.length
    })
  }

  async check(): Promise<boolean> {
    try {
      await this.#enqueue('check store', () => this.#database.exec(`PRAGMA user_version = ${SCHEMA_VERSION}`))
      return true
    } catch {
      return false
    }
  }

  async close(): Promise<void> {
    this.#turnEnd.runNow()
    closeDatabase(this.#database)
    this.#lock?.close()
  }

  #forget(deleted: readonly unknown[]): void {
    for (const row of deleted) {
      this.#messages -= 1
      this.#bytes -= (row as { size: number }).size
    }
  }

  #countAll(): void {
    const row = this.#statements.totals.get() as Record<string, number>
    this.#messages = row['messages'] ?? 0
    this.#bytes = row['bytes'] ?? 0
    this.#stateCounters = scalar(this.#database, 'SELECT count(*) AS n FROM state_counters', 'n')
  }

  async #enqueue<T>(operation: string, run: () => T): Promise<T> {
    this.#turnEnd.schedule()
    return new Promise<T>((resolve, reject) => {
      this.#queue.push({
        run,
        resolve,
        reject: (cause) => reject(new AgentMeshError('RELAY_STORE_FAILED', undefined, { operation, cause })),
      })
    })
  }

  /** Reads see everything asked for before them. */
  #read<T>(operation: string, read: () => T): T {
    this.#turnEnd.runNow()
    try {
      return read()
    } catch (cause) {
      throw new AgentMeshError('RELAY_STORE_FAILED', undefined, { operation, cause })
    }
  }

  #commit(): void {
    const queue = this.#queue
    this.#queue = []
    const results: unknown[] = []
    try {
      this.#database.exec('BEGIN IMMEDIATE')
      for (const work of queue) results.push(work.run())
      this.#database.exec('COMMIT')
    } catch (error) {
      this.#rollBack()
      for (const work of queue) work.reject(error)
      return
    }
    for (const [index, work] of queue.entries()) work.resolve(results[index] as never)
  }

  #rollBack(): void {
    try {
      // SQLite has rolled back by itself after some errors, and then there is nothing to roll back.
      this.#database.exec('ROLLBACK')
    } catch {
      // The next BEGIN tells whether the database still works.
    }
    try {
      this.#countAll()
    } catch {
      // The same.
    }
  }
}

function prepare(database: Database) {
  return {
    find: database.prepare('SELECT 1 FROM mail WHERE recipient = ? AND sender = ? AND id = ?'),
    usage: database.prepare(`
      SELECT count(*) AS messages, coalesce(sum(size), 0) AS bytes,
        coalesce(sum(sender = ?), 0) AS sender_messages,
        coalesce(sum(CASE WHEN sender = ? THEN size END), 0) AS sender_bytes
      FROM mail WHERE recipient = ?`),
    senderTotal: database.prepare('SELECT count(*) AS n FROM mail WHERE sender = ?'),
    insert: database.prepare(`
      INSERT INTO mail (position, place, recipient, sender, id, type, timestamp, expires_at, size, payload)
      VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`),
    page: database.prepare(`
      SELECT position, place, recipient, sender, id, type, timestamp, payload FROM mail
      WHERE recipient = ? AND (place, position) > (?, ?) AND expires_at > ? AND (? OR type <> 'knock')
      ORDER BY place, position LIMIT ?`),
    count: database.prepare('SELECT count(*) AS n FROM mail WHERE recipient = ? AND expires_at > ?'),
    remove: database.prepare('DELETE FROM mail WHERE recipient = ? AND position = ? RETURNING size'),
    expireOf: database.prepare('DELETE FROM mail WHERE recipient = ? AND expires_at <= ? RETURNING size'),
    expire: database.prepare('DELETE FROM mail WHERE expires_at <= ? RETURNING size'),
    counter: database.prepare('SELECT counter FROM state_counters WHERE agent = ?'),
    raiseCounter: database.prepare(
      'UPDATE state_counters SET counter = max(counter, ?), seen_at = ? WHERE agent = ?',
    ),
    addCounter: database.prepare('INSERT INTO state_counters (agent, counter, seen_at) VALUES (?, ?, ?)'),
    expireCounters: database.prepare('DELETE FROM state_counters WHERE seen_at < ?'),
    totals: database.prepare('SELECT count(*) AS messages, coalesce(sum(size), 0) AS bytes FROM mail'),
  }
}

function scalar(database: Database, sql: string, column: string): number {
  return (database.prepare(sql).get() as Record<string, number>)[column] ?? 0
}

function fromRow(row: MailRow): StoredMessage {
  if (!Object.hasOwn(MESSAGE_TYPES, row.type)) throw new Error(`Unknown type ${row.type} at ${row.position}`)
  return {
    position: row.position,
    place: row.place,
    to: parseAmid(row.recipient),
    from: parseAmid(row.sender),
    id: parseMessageId(row.id),
    type: row.type as MessageType,
    timestamp: row.timestamp,
    payload: row.payload,
  }
}

/**
 * Mailboxes in PostgreSQL, which several relays may write.
 *
 *     store, remove --> one queue --> one transaction at a time, of all that waits     (`postgres/mail-transaction.ts`)
 *     page, count   --> behind this relay's own writes to that mailbox --> one statement for all of a turn
 *     purge         --> partitions that are over are dropped, new ones made ahead      (`postgres/partitions.ts`)
 *
 * A batch whose connection breaks is done again before anybody is answered (`postgres/database.ts`); it finds what its first
 * run committed. While the database is away everything is refused at once, and what holds for a failure of it holds: the
 * sender is told to come again, and nothing was promised.
 */
import { AgentMeshError, parseAmid, type Amid } from '@agentmesh/sdk/wire'
import {
  STATE_COUNTER_TTL_MS,
  type Mailbox,
  type MailboxMessage,
  type Page,
  type Place,
  type StoredMessage,
  type StoreOutcome,
} from './mailbox.ts'
import type { MailboxLimits } from './quotas.ts'
import { given, PostgresDatabase, type PoolClient } from './postgres/database.ts'
import { Gather } from './postgres/gather.ts'
import { migrate, restampRestored } from './postgres/migrations.ts'
import { Partitions } from './postgres/partitions.ts'
import { readCounts, readPages, readStateCounters, type PageItem } from './postgres/mail-pages.ts'
import { MAX_BATCH_BYTES, MailTransaction, type Totals, type WriteItem } from './postgres/mail-transaction.ts'

/** Two locks a message at most; PostgreSQL has room for 6,400 by default, shared by all relays. */
const BATCH_MESSAGES = 256
const WAITING = { waitingItems: 20_000, waitingSize: 64 * 1024 * 1024 }
const WRITES = { items: BATCH_MESSAGES, size: MAX_BATCH_BYTES, atOnce: 1, ...WAITING }
const READS = { items: 64, size: Infinity, atOnce: 2, ...WAITING }
const TOTALS = `
  SELECT coalesce(sum(messages), 0)::bigint AS messages, coalesce(sum(bytes), 0)::bigint AS bytes FROM relay_mail_usage`

export class PostgresMailbox implements Mailbox {
  readonly #database: PostgresDatabase
  readonly #limits: MailboxLimits
  readonly #now: () => number
  /** Names this relay's lines of the usage. */
  readonly #writer = crypto.randomUUID()
  readonly #partitions = new Partitions()
  readonly #writes: Gather<WriteItem, StoreOutcome>
  readonly #pages: Gather<PageItem, StoredMessage[]>
  readonly #counts: Gather<Amid, number>
  readonly #stateCounters: Gather<Amid, number>
  /** The last write of each mailbox that is not answered yet. */
  readonly #writing = new Map<Amid, Promise<unknown>>()
  #totals: Totals = { messages: 0, bytes: 0 }
  /** Of all relays, as of the last look. */
  #countersKept = 0

  private constructor(database: PostgresDatabase, limits: MailboxLimits, now: () => number) {
    this.#database = database
    this.#limits = limits
    this.#now = now
    this.#writes = new Gather('write mailboxes', WRITES, async (items) => this.#write(items))
    this.#pages = new Gather('read mailbox', READS, async (items) =>
      database.run(async (client) => readPages(client, items, now())),
    )
    this.#counts = new Gather('count mailbox', READS, async (items) =>
      database.run(async (client) => readCounts(client, items, now())),
    )
    this.#stateCounters = new Gather('read state counter', READS, async (items) =>
      database.run(async (client) => readStateCounters(client, items)),
    )
  }

  /**
   * @param onIdleError told of connections that break while nobody uses them
   * @throws RELAY_STORE_FAILED when the server does not answer or refuses, or the database is a newer relay's
   */
  static async open(
    databaseUrl: string,
    limits: MailboxLimits,
    now: () => number,
    onIdleError: (error: Error) => void,
  ): Promise<PostgresMailbox> {
    let database: PostgresDatabase | undefined
    try {
      database = new PostgresDatabase(databaseUrl, onIdleError)
      const mailbox = new PostgresMailbox(database, limits, now)
      await database.run(async (client) => {
        await migrate(client)
        await restampRestored(client)
      })
      await mailbox.#prepare()
      return mailbox
    } catch (cause) {
      await database?.close()
      throw new AgentMeshError('RELAY_STORE_FAILED', undefined, { operation: 'open PostgreSQL', cause })
    }
  }

  get messages(): number {
    return this.#totals.messages
  }
  get bytes(): number {
    return this.#totals.bytes
  }

  async store(message: MailboxMessage, place?: number): Promise<StoreOutcome> {
    return this.#ask(message.to, { message, place }, message.payload.length)
  }

  async remove(to: Amid, messages: readonly Place[], stateCounter: number): Promise<void> {
    if (messages.length === 0 && stateCounter === 0) return
    await this.#ask(to, { to, messages, stateCounter }, 0)
  }

  async #ask(to: Amid, item: WriteItem, size: number): Promise<StoreOutcome> {
    const answer = this.#writes.ask(item, size)
    const done = answer
      .catch(() => {})
      .finally(() => {
        if (this.#writing.get(to) === done) this.#writing.delete(to)
      })
    this.#writing.set(to, done)
    return answer
  }

  async #write(items: readonly WriteItem[]): Promise<StoreOutcome[]> {
    const countersFit = this.#countersKept < this.#limits.stateCounters
    const transaction = new MailTransaction(items, this.#limits, this.#writer, countersFit)
    const { outcomes, totals, change } = await this.#database.run(async (client) => {
      await this.#partitions.ensure(client, transaction.expiryTimes())
      try {
        return await transaction.run(client, this.#now())
      } catch (error) {
        // Perhaps another relay has dropped one: the next run looks.
        this.#partitions.forget()
        throw error
      }
    })
    const { messages, bytes } = this.#totals
    this.#totals = totals ?? { messages: messages + change.messages, bytes: bytes + change.bytes }
    return outcomes
  }

  async page(to: Amid, page: Page): Promise<StoredMessage[]> {
    await this.#writing.get(to)
    return this.#pages.ask({ to, page })
  }

  async count(to: Amid): Promise<number> {
    await this.#writing.get(to)
    return this.#counts.ask(to)
  }

  async stateCounter(of: Amid): Promise<number> {
    await this.#writing.get(of)
    return this.#stateCounters.ask(of)
  }

  async purge(): Promise<number> {
    return this.#attempt('purge mailboxes', async () => {
      const dropped = await this.#database.run(async (client) => {
        await client.query('DELETE FROM relay_state_counters WHERE seen_at < $1', [
          this.#now() - STATE_COUNTER_TTL_MS,
        ])
        return this.#partitions.dropBefore(client, this.#now())
      })
      await this.#prepare()
      return dropped
    })
  }

  /** Partitions made ahead, and a look at what all relays have stored. */
  async #prepare(): Promise<void> {
    await this.#database.run(async (client) => {
      const now = this.#now()
      await this.#partitions.ensureRange(client, now, now + this.#limits.mailboxTtlMs)
      await this.#lookAtTotals(client)
    })
  }

  async #lookAtTotals(client: PoolClient): Promise<void> {
    const { rows } = await client.query<Totals>(TOTALS)
    this.#totals = given(rows[0])
    const counters = await client.query<{ n: number }>(
      'SELECT count(*)::bigint AS n FROM relay_state_counters',
    )
    this.#countersKept = given(counters.rows[0]).n
  }

  async check(): Promise<boolean> {
    try {
      return await this.#database.run(async (client) => {
        const { rows } = await client.query<{ ready: boolean }>(
          `SELECT NOT pg_is_in_recovery() AND current_setting('transaction_read_only') = 'off' AS ready`,
        )
        return given(rows[0]).ready
      })
    } catch {
      return false
    }
  }

  async recipientsSince(mark: string | undefined): Promise<{ mark: string; recipients: Amid[] }> {
    return this.#attempt('look for new mail', () =>
      this.#database.run(async (client) => {
        // One snapshot: what it does not see is not older than the mark it gives.
        const { rows } = await client.query<{ mark: string; recipients: string[] }>(
          `SELECT pg_snapshot_xmin(pg_current_snapshot())::text AS mark,
            ARRAY(SELECT DISTINCT recipient FROM relay_mail WHERE stamp >= $1::text::xid8) AS recipients`,
          [mark ?? null],
        )
        const { mark: next, recipients } = given(rows[0])
        return { mark: next, recipients: recipients.map(parseAmid) }
      }),
    )
  }

  async #attempt<T>(operation: string, work: () => Promise<T>): Promise<T> {
    try {
      return await work()
    } catch (cause) {
      throw new AgentMeshError('RELAY_STORE_FAILED', undefined, { operation, cause })
    }
  }

  async close(): Promise<void> {
    await Promise.all(
      [this.#writes, this.#pages, this.#counts, this.#stateCounters].map(async (gather) => gather.idle()),
    )
    await this.#database.close()
  }
}

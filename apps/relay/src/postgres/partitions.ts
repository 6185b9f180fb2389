/**
 * Expiry at no cost: a message lies in the partition of the day (UTC) in which it expires, and a partition whose day is over is dropped
 * whole. Partitions are made ahead, and when a message needs one that is not there.
 *
 *     relay_mail_<start>     expires_at in [start, start + a day), milliseconds since the epoch
 *
 * ATTACH makes others wait for nothing. DROP has to be alone with the table for a moment; it gives up quickly where
 * somebody holds it (a dump takes its time), because everybody who comes after it waits behind it.
 */
import { given, type PoolClient } from './database.ts'
import { LOCKS } from './locks.ts'

const PARTITION_MS = 24 * 3600_000
const DROP_LOCK_MILLISECONDS = 100
const NAME = /^relay_mail_(\d{1,15})$/

export function partitionOf(expiresAt: number): number {
  return Math.floor(expiresAt / PARTITION_MS) * PARTITION_MS
}

export class Partitions {
  readonly #known = new Set<number>()

  /** Makes the partitions for what expires at these times, unless they are there. Outside of a transaction. */
  async ensure(client: PoolClient, expiryTimes: Iterable<number>): Promise<void> {
    const missing = new Set<number>()
    for (const time of expiryTimes) {
      const start = partitionOf(time)
      if (!this.#known.has(start)) missing.add(start)
    }
    if (missing.size === 0) return
    await client.query('BEGIN')
    await client.query('SELECT pg_advisory_xact_lock($1, 0)', [LOCKS.partitions])
    const there = new Set(await partitionStarts(client))
    for (const start of missing) {
      if (there.has(start)) continue
      const name = `relay_mail_${start}`
      await client.query(`
        CREATE TABLE ${name} (LIKE relay_mail INCLUDING DEFAULTS INCLUDING STORAGE)
          WITH (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 2000);
        ALTER TABLE relay_mail ATTACH PARTITION ${name} FOR VALUES FROM (${start}) TO (${start + PARTITION_MS});
      `)
    }
    await client.query('COMMIT')
    for (const start of missing) this.#known.add(start)
  }

  /** From the one that `from` is in to the one after `until`. */
  async ensureRange(client: PoolClient, from: number, until: number): Promise<void> {
    const times = []
    for (let time = partitionOf(from); time <= until + PARTITION_MS; time += PARTITION_MS) times.push(time)
    await this.ensure(client, times)
  }

  /** Looks again at what is there, after a message found no partition. */
  forget(): void {
    this.#known.clear()
  }

  /**
   * Drops what lies wholly before `now`. The server's clock has to agree: that of one relay must not cost all of them
   * their mail.
   *
   * @returns how many messages were dropped
   */
  async dropBefore(client: PoolClient, now: number): Promise<number> {
    const clock = await client.query<{ now: number }>(
      'SELECT floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint AS now',
    )
    const before = Math.min(now, given(clock.rows[0]).now)
    const past = (await partitionStarts(client)).filter((start) => start + PARTITION_MS <= before)
    let dropped = 0
    for (const start of past) dropped += await this.#drop(client, start)
    return dropped
  }

  async #drop(client: PoolClient, start: number): Promise<number> {
    await client.query(`BEGIN; SET LOCAL lock_timeout = ${DROP_LOCK_MILLISECONDS}`)
    try {
      // First the table: whoever still changes it has then written what that did to the usage.
      await client.query(`DROP TABLE relay_mail_${start}`)
      const { rows } = await client.query<{ messages: number }>(
        'DELETE FROM relay_mail_usage WHERE partition_start = $1 RETURNING messages',
        [start],
      )
      await client.query('COMMIT')
      this.#known.delete(start)
      return rows.reduce((sum, { messages }) => sum + messages, 0)
    } catch (error) {
      if (!isPassing(error)) throw error
      await client.query('ROLLBACK')
      return 0
    }
  }
}

async function partitionStarts(client: PoolClient): Promise<number[]> {
  const { rows } = await client.query<{ name: string }>(`
    SELECT c.relname AS name FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
    WHERE i.inhparent = 'relay_mail'::regclass ORDER BY 1`)
  return rows.flatMap(({ name }) => {
    const start = NAME.exec(name)?.[1]
    return start === undefined ? [] : [Number(start)]
  })
}

/** Somebody holds the table, or another relay has just dropped it. */
function isPassing(error: unknown): boolean {
  const { code } = error as { code?: unknown }
  return code === '55P03' || code === '42P01'
}

/**
 * The tables, and the migrations that make them, recorded by name in `relay_migrations`. Relays migrate when they start, one
 * at a time, while others are at work: a migration must leave what a relay of the version before it uses, and may
 * only take locks that it gets at once. It is never edited once released.
 *
 *     relay_mail             messages, in partitions by the day in which they expire (`partitions.ts`)
 *     relay_mail_position    the sequence that positions come from
 *     relay_state_counters   the highest state counter of each agent, and when it was written last
 *     relay_mail_usage       what each relay has added to and taken from each partition; their sum is what is stored
 *
 * `stamp` is the transaction that stored a message. Positions of different mailboxes are not in the order of commits, but
 * every transaction older than the oldest running one is seen: what came since is what is not older than that
 * (`recipientsSince`).
 *
 * All names begin with `relay_`, so that a registry may live in the same database.
 */
import type { PoolClient } from './database.ts'
import { LOCKS } from './locks.ts'

export interface Migration {
  readonly name: string
  readonly sql: string
}

const LOCK_MILLISECONDS = 3_000

const MIGRATIONS: readonly Migration[] = [
  {
    name: '0001-initial',
    // Payloads are ciphertext: nothing to compress.
    sql: `
      CREATE SEQUENCE relay_mail_position;
      CREATE TABLE relay_mail (
        place bigint NOT NULL,
        position bigint NOT NULL,
        timestamp bigint NOT NULL,
        expires_at bigint NOT NULL,
        stamp xid8 NOT NULL DEFAULT pg_current_xact_id(),
        size integer NOT NULL,
        recipient text COLLATE "C" NOT NULL,
        sender text COLLATE "C" NOT NULL,
        id text COLLATE "C" NOT NULL,
        type text COLLATE "C" NOT NULL,
        payload bytea NOT NULL
      ) PARTITION BY RANGE (expires_at);
      ALTER TABLE relay_mail ALTER COLUMN payload SET STORAGE EXTERNAL;
      CREATE INDEX relay_mail_order ON relay_mail (recipient, place, position);
      CREATE INDEX relay_mail_sender ON relay_mail (sender);
      CREATE INDEX relay_mail_stamp ON relay_mail (stamp);
      CREATE TABLE relay_mail_usage (
        partition_start bigint NOT NULL,
        writer text NOT NULL,
        messages bigint NOT NULL,
        bytes bigint NOT NULL,
        PRIMARY KEY (partition_start, writer)
      ) WITH (fillfactor = 50);
    `,
  },
  {
    name: '0002-state-counters',
    sql: `
      CREATE TABLE relay_state_counters (
        agent text COLLATE "C" PRIMARY KEY,
        counter bigint NOT NULL,
        seen_at bigint NOT NULL
      ) WITH (fillfactor = 80);
    `,
  },
]

/** Brings the database up to this version. Rejects for a database that a newer relay has migrated. */
export async function migrate(client: PoolClient, migrations = MIGRATIONS): Promise<void> {
  await client.query(`BEGIN; SET LOCAL lock_timeout = ${LOCK_MILLISECONDS}`)
  // Waits for another relay's migration as long as a statement may take.
  await client.query('SELECT pg_advisory_xact_lock($1, 0)', [LOCKS.migration])
  await client.query(`CREATE TABLE IF NOT EXISTS relay_migrations (
    name text PRIMARY KEY, migrated_at timestamptz NOT NULL DEFAULT now())`)
  const { rows } = await client.query<{ name: string }>('SELECT name FROM relay_migrations')
  const done = new Set(rows.map(({ name }) => name))
  const known = new Set(migrations.map(({ name }) => name))
  const newer = [...done].filter((name) => !known.has(name))
  if (newer.length > 0) throw new Error(`A newer relay has migrated this database: ${newer.join(', ')}`)
  for (const { name, sql } of migrations) {
    if (done.has(name)) continue
    await client.query(sql)
    await client.query('INSERT INTO relay_migrations (name) VALUES ($1)', [name])
  }
  await client.query('COMMIT')
}

/**
 * In a database restored from a dump the stamps are another server's, and may lie in this one's future, where they would be
 * newer than every mark. A stamp that this server has not reached becomes one of now.
 */
export async function restampRestored(client: PoolClient): Promise<void> {
  await client.query(
    'UPDATE relay_mail SET stamp = pg_current_xact_id() WHERE stamp >= pg_snapshot_xmax(pg_current_snapshot())',
  )
}

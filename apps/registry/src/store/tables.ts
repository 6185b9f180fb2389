/**
 * The tables, and the migrations that make them. Kysely's migrator keeps the version table (`schema_migrations`) and lets
 * one process at a time migrate. A migration is never edited once released.
 */
import { Migrator, type Kysely, type Migration } from 'kysely'
import type { Amid, PresenceState, TierNumber } from '@agentmesh/sdk/wire'
import { bytewiseText, type Dialect } from './dialect.ts'
import { certificatesMigration, membershipMigration, type CertificatesTables } from './certificates-tables.ts'
import { transparencyMigration, type TransparencyTables } from './transparency-tables.ts'
import { verificationMigration, type VerificationTables } from './verification-tables.ts'
import { reputationMigration, type ReputationTables } from './reputation-tables.ts'
import { successionMigration, type SuccessionTables } from './succession-tables.ts'
import { ratesMigration, type RateTables } from './rates-tables.ts'
import { stateCounterMigration, type StateCounterTables } from './state-counter-tables.ts'
import { searchMigration, type Reach, type SearchTables } from './search-tables.ts'

export interface Tables
  extends
    CertificatesTables,
    TransparencyTables,
    VerificationTables,
    ReputationTables,
    SearchTables,
    SuccessionTables,
    RateTables,
    StateCounterTables {
  agents: {
    amid: Amid
    record: string
    sequence: number
    exchange_key: string
    exchange_sequence: number
    tier: TierNumber
    tier_rank: number
    reputation: number
    presence: PresenceState
    last_seen: number
    registered_at: number
    /** As the registry verified them, for answers; the certificates say the same. */
    verified_name: string | null
    organization: string | null
    reach: Reach
  }
  /** `spk` and `pq-last`: one of each an agent. */
  signed_prekeys: { amid: Amid; kind: string; sequence: number; expires_at: number; record: string }
  /** `opk` and `pq-one`. */
  one_time_prekeys: { amid: Amid; kind: string; id: number; expires_at: number; record: string }
  /** The highest one-time id ever stored, by kind. */
  prekey_marks: { amid: Amid; kind: string; highest_id: number }
  nonces: { nonce: string; expires_at: number }
}

function initial(dialect: Dialect): Migration {
  // Byte order in both databases: a search cursor compares AMIDs, and a locale must not reorder them.
  const text = bytewiseText(dialect)
  return {
    async up(db: Kysely<unknown>) {
      await db.schema
        .createTable('agents')
        .addColumn('amid', text, (column) => column.primaryKey())
        .addColumn('record', 'text', (column) => column.notNull())
        .addColumn('sequence', 'bigint', (column) => column.notNull())
        .addColumn('exchange_key', 'text', (column) => column.notNull())
        .addColumn('exchange_sequence', 'bigint', (column) => column.notNull())
        .addColumn('tier', 'double precision', (column) => column.notNull())
        .addColumn('tier_rank', 'integer', (column) => column.notNull())
        .addColumn('reputation', 'double precision', (column) => column.notNull())
        .addColumn('presence', 'text', (column) => column.notNull())
        .addColumn('last_seen', 'bigint', (column) => column.notNull())
        .addColumn('registered_at', 'bigint', (column) => column.notNull())
        .execute()
      await db.schema.createIndex('agents_last_seen').on('agents').column('last_seen').execute()

      await db.schema
        .createTable('capabilities')
        .addColumn('amid', text, (column) => column.notNull().references('agents.amid').onDelete('cascade'))
        .addColumn('category', text, (column) => column.notNull())
        .addColumn('subcategory', text, (column) => column.notNull())
        .addColumn('action', text, (column) => column.notNull())
        .addPrimaryKeyConstraint('capabilities_key', ['amid', 'category', 'subcategory', 'action'])
        .execute()
      await db.schema
        .createIndex('capabilities_search')
        .on('capabilities')
        .columns(['category', 'subcategory', 'action', 'amid'])
        .execute()

      await db.schema
        .createTable('signed_prekeys')
        .addColumn('amid', text, (column) => column.notNull().references('agents.amid').onDelete('cascade'))
        .addColumn('kind', text, (column) => column.notNull())
        .addColumn('sequence', 'bigint', (column) => column.notNull())
        .addColumn('expires_at', 'bigint', (column) => column.notNull())
        .addColumn('record', 'text', (column) => column.notNull())
        .addPrimaryKeyConstraint('signed_prekeys_key', ['amid', 'kind'])
        .execute()
      await db.schema
        .createTable('one_time_prekeys')
        .addColumn('amid', text, (column) => column.notNull().references('agents.amid').onDelete('cascade'))
        .addColumn('kind', text, (column) => column.notNull())
        .addColumn('id', 'bigint', (column) => column.notNull())
        .addColumn('expires_at', 'bigint', (column) => column.notNull())
        .addColumn('record', 'text', (column) => column.notNull())
        .addPrimaryKeyConstraint('one_time_prekeys_key', ['amid', 'kind', 'id'])
        .execute()
      await db.schema
        .createIndex('one_time_prekeys_expiry')
        .on('one_time_prekeys')
        .column('expires_at')
        .execute()
      await db.schema
        .createTable('prekey_marks')
        .addColumn('amid', text, (column) => column.notNull().references('agents.amid').onDelete('cascade'))
        .addColumn('kind', text, (column) => column.notNull())
        .addColumn('highest_id', 'bigint', (column) => column.notNull())
        .addPrimaryKeyConstraint('prekey_marks_key', ['amid', 'kind'])
        .execute()

      await db.schema
        .createTable('nonces')
        .addColumn('nonce', text, (column) => column.primaryKey())
        .addColumn('expires_at', 'bigint', (column) => column.notNull())
        .execute()
      await db.schema.createIndex('nonces_expiry').on('nonces').column('expires_at').execute()
    },
  }
}

/** In order of their names. */
function migrations(dialect: Dialect): Record<string, Migration> {
  return {
    '0001-initial': initial(dialect),
    '0002-transparency': transparencyMigration(dialect),
    '0003-certificates': certificatesMigration(dialect),
    '0004-verification': verificationMigration(dialect),
    '0005-reputation': reputationMigration(dialect),
    '0006-search': searchMigration(dialect),
    '0007-successions': successionMigration(dialect),
    '0008-rates': ratesMigration(dialect),
    '0009-state-counters': stateCounterMigration(dialect),
    '0010-memberships': membershipMigration,
  }
}

export function makeMigrator(db: Kysely<Tables>, dialect: Dialect): Migrator {
  return new Migrator({
    db,
    provider: { getMigrations: () => Promise.resolve(migrations(dialect)) },
    migrationTableName: 'schema_migrations',
    migrationLockTableName: 'schema_migrations_lock',
  })
}

/** Brings the database up to this version. Rejects for a database that a newer version has migrated. */
export async function migrate(db: Kysely<Tables>, dialect: Dialect): Promise<void> {
  const { error } = await makeMigrator(db, dialect).migrateToLatest()
  if (error !== undefined) throw new Error('Migration failed', { cause: error })
}

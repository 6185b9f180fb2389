/**
 * Recovery keys, apart from the agents that named them: whoever stole an agent's key can deregister it, and must not be the
 * first again to name one. And the way from a successor to the statements that name it.
 */
import { sql, type Kysely, type Migration } from 'kysely'
import type { Amid } from '@agentmesh/sdk/wire'
import { bytewiseText, type Dialect } from './dialect.ts'

export interface SuccessionTables {
  /** The first key that each agent named, which no later record replaces; forgotten some time after its last record. */
  recovery_keys: { amid: Amid; recovery_key: string; seen_at: number }
}

export function successionMigration(dialect: Dialect): Migration {
  const text = bytewiseText(dialect)
  return {
    async up(db: Kysely<unknown>) {
      await db.schema
        .createTable('recovery_keys')
        .addColumn('amid', text, (column) => column.primaryKey())
        .addColumn('recovery_key', 'text', (column) => column.notNull())
        .addColumn('seen_at', 'bigint', (column) => column.notNull())
        .execute()
      await sql`
        insert into recovery_keys (amid, recovery_key, seen_at)
        select amid, recovery_key, last_seen from agents where recovery_key is not null
      `.execute(db)
      await db.schema.createIndex('recovery_keys_seen').on('recovery_keys').column('seen_at').execute()
      await db.schema.alterTable('agents').dropColumn('recovery_key').execute()
      await db.schema.createIndex('successions_new').on('successions').column('new_amid').execute()
    },
  }
}

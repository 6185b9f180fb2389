/** The highest state counter each agent has brought, with its signature: given back to the agent alone (DESIGN §7.2). */
import type { Kysely, Migration } from 'kysely'
import type { Amid } from '@agentmesh/sdk/wire'
import { bytewiseText, type Dialect } from './dialect.ts'

export interface StateCounterTables {
  state_counters: { amid: Amid; counter: number; signature: string }
}

export function stateCounterMigration(dialect: Dialect): Migration {
  const text = bytewiseText(dialect)
  return {
    async up(db: Kysely<unknown>) {
      await db.schema
        .createTable('state_counters')
        .addColumn('amid', text, (column) =>
          column.primaryKey().references('agents.amid').onDelete('cascade'),
        )
        .addColumn('counter', 'bigint', (column) => column.notNull())
        .addColumn('signature', 'text', (column) => column.notNull())
        .execute()
    },
  }
}

/**
 * What search reads: one row for everything an agent can be found by, with the columns that search filters and orders by
 * copied beside it, so that a page is a few ranges of one index however many agents offer the same.
 *
 *     offers_search: category | subcategory | action | reach | tier rank | reputation, falling | AMID
 *
 * An empty subcategory or action stands for any. The copies follow the agent's row in the transaction that changes it
 * (offers.ts).
 */
import { sql, type Kysely, type Migration } from 'kysely'
import type { Amid } from '@agentmesh/sdk/wire'
import { bytewiseText, type Dialect } from './dialect.ts'

/**
 * What may be said of an agent from its presence and its last sign of life, for every search that may still be asked or
 * continued: 2 it may be online, 1 it is offline, 0 it is not found. The search itself looks at presence and times.
 */
export type Reach = 0 | 1 | 2

export interface SearchTables {
  offers: {
    amid: Amid
    category: string
    subcategory: string
    action: string
    reach: Reach
    tier_rank: number
    reputation: number
  }
}

export function searchMigration(dialect: Dialect): Migration {
  const text = bytewiseText(dialect)
  return {
    async up(db: Kysely<unknown>) {
      await db.schema
        .alterTable('agents')
        .addColumn('reach', 'integer', (column) => column.notNull().defaultTo(2))
        .execute()
      await sql`update agents set reach = 1 where presence = 'offline'`.execute(db)
      await db.schema.dropIndex('agents_last_seen').execute()
      await db.schema.createIndex('agents_reach').on('agents').columns(['reach', 'last_seen']).execute()

      await db.schema
        .createTable('offers')
        .addColumn('amid', text, (column) => column.notNull().references('agents.amid').onDelete('cascade'))
        .addColumn('category', text, (column) => column.notNull())
        .addColumn('subcategory', text, (column) => column.notNull())
        .addColumn('action', text, (column) => column.notNull())
        .addColumn('reach', 'integer', (column) => column.notNull())
        .addColumn('tier_rank', 'integer', (column) => column.notNull())
        .addColumn('reputation', 'double precision', (column) => column.notNull())
        .addPrimaryKeyConstraint('offers_key', ['amid', 'category', 'subcategory', 'action'])
        .execute()
      await sql`
        insert into offers (amid, category, subcategory, action, reach, tier_rank, reputation)
        select c.amid, c.category, c.subcategory, c.action, a.reach, a.tier_rank, a.reputation
        from (
          select amid, category, subcategory, action from capabilities
          union select amid, category, '', action from capabilities
        ) c inner join agents a on a.amid = c.amid`.execute(db)
      await db.schema
        .createIndex('offers_search')
        .on('offers')
        .columns(['category', 'subcategory', 'action', 'reach', 'tier_rank', 'reputation desc', 'amid'])
        .execute()
      await db.schema.dropTable('capabilities').execute()
    },
  }
}

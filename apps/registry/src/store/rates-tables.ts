/** What `rates.ts` keeps. */
import type { Kysely, Migration } from 'kysely'
import { bytewiseText, type Dialect } from './dialect.ts'

export interface RateTables {
  /** `key` is a hash, so that no addresses lie about; who has both can still tell whether they belong together. */
  rates: { key: string; taken_until: number }
}

export function ratesMigration(dialect: Dialect): Migration {
  const text = bytewiseText(dialect)
  return {
    async up(db: Kysely<unknown>) {
      await db.schema
        .createTable('rates')
        .addColumn('key', text, (column) => column.primaryKey())
        .addColumn('taken_until', 'double precision', (column) => column.notNull())
        .execute()
      await db.schema.createIndex('rates_end').on('rates').column('taken_until').execute()
    },
  }
}

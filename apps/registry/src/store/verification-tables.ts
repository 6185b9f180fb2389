/** The table of verifications under way; a row lives for minutes. */
import type { Kysely, Migration } from 'kysely'
import type { Amid } from '@agentmesh/sdk/wire'
import { bytewiseText, type Dialect } from './dialect.ts'

export interface VerificationTables {
  verifications: {
    id: string
    amid: Amid
    way: string
    provider: string
    /** Of a browser verification: what the provider sends back with the code. */
    state: string | null
    /** JSON of what only this way needs. */
    details: string
    /** Of a mail that was sent: keyed hash of the address and which of its places this is. */
    address: string | null
    place: number | null
    attempts: number
    /** Of a device verification: when the provider may be asked again, and how often. */
    next_at: number
    interval_seconds: number
    expires_at: number
  }
}

export function verificationMigration(dialect: Dialect): Migration {
  const text = bytewiseText(dialect)
  return {
    async up(db: Kysely<unknown>) {
      await db.schema
        .createTable('verifications')
        .addColumn('id', text, (column) => column.primaryKey())
        .addColumn('amid', text, (column) => column.notNull().references('agents.amid').onDelete('cascade'))
        .addColumn('way', 'text', (column) => column.notNull())
        .addColumn('provider', 'text', (column) => column.notNull())
        .addColumn('state', text, (column) => column.unique())
        .addColumn('details', 'text', (column) => column.notNull())
        .addColumn('address', text)
        .addColumn('place', 'integer')
        .addColumn('attempts', 'integer', (column) => column.notNull())
        .addColumn('next_at', 'bigint', (column) => column.notNull())
        .addColumn('interval_seconds', 'bigint', (column) => column.notNull())
        .addColumn('expires_at', 'bigint', (column) => column.notNull())
        .addUniqueConstraint('verifications_address', ['address', 'place'])
        .execute()
      await db.schema.createIndex('verifications_amid').on('verifications').column('amid').execute()
      await db.schema.createIndex('verifications_expiry').on('verifications').column('expires_at').execute()
    },
  }
}

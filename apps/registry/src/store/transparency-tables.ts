/**
 * What the transparency log keeps (DESIGN §8): its entries, and the hash of every complete subtree over them, so that a
 * proof reads a few rows for each level of the tree. No row is ever changed or removed but the one that counts entries.
 */
import type { Kysely, Migration } from 'kysely'
import { bytewiseText, type Dialect } from './dialect.ts'

export interface TransparencyTables {
  /** One row, id 1. Who has changed it holds the only right to append until the end of the transaction. */
  log_state: { id: number; size: number }
  /** `entry` is base64. `certificate_hash`: hex SHA-256 of the DER, of entries that are certificates. */
  log_entries: { position: number; entry: string; certificate_hash: string | null }
  /** Complete subtrees in the numbering of RFC 9420 Appendix C: leaf p is node 2p, its ancestors are odd. Base64. */
  log_nodes: { node: number; hash: string }
}

export function transparencyMigration(dialect: Dialect): Migration {
  const text = bytewiseText(dialect)
  return {
    async up(db: Kysely<TransparencyTables>) {
      await db.schema
        .createTable('log_state')
        .addColumn('id', 'integer', (column) => column.primaryKey())
        .addColumn('size', 'bigint', (column) => column.notNull())
        .execute()
      await db.insertInto('log_state').values({ id: 1, size: 0 }).execute()
      await db.schema
        .createTable('log_entries')
        .addColumn('position', 'bigint', (column) => column.primaryKey())
        .addColumn('entry', 'text', (column) => column.notNull())
        .addColumn('certificate_hash', text)
        .execute()
      await db.schema
        .createIndex('log_entries_certificate')
        .on('log_entries')
        .column('certificate_hash')
        .where('certificate_hash', 'is not', null)
        .execute()
      await db.schema
        .createTable('log_nodes')
        .addColumn('node', 'bigint', (column) => column.primaryKey())
        .addColumn('hash', 'text', (column) => column.notNull())
        .execute()
    },
  }
}

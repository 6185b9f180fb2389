/**
 * What the certificate authority keeps (DESIGN §8): every certificate it issued or took in, the newest revocation list of
 * each issuer, who of the agents belongs to which human, organisations, and who was succeeded by whom.
 *
 * Certificates and revocation lists are base64 DER. A human is a keyed hash, never a name or an address.
 */
import { sql, type Kysely, type Migration } from 'kysely'
import type { Amid } from '@agentmesh/sdk/wire'
import { bytewiseText, type Dialect } from './dialect.ts'

export type CertificateKind = 'root' | 'intermediate' | 'service' | 'organization' | 'agent'

/** `grace`: its DNS record is gone, and it has some days to put it back. */
export type OrganizationStatus = 'pending' | 'verified' | 'grace' | 'suspended' | 'revoked'

export interface CertificatesTables {
  /** `issuer` is the key id of the issuer, `subject` that of the key certified; both hex. */
  certificates: {
    issuer: string
    serial: string
    kind: CertificateKind
    subject: string
    amid: Amid | null
    der: string
    not_before: number
    not_after: number
    revoked_at: number | null
    reason: string | null
    /** When the agent agreed to be the issuer's, where that is an organisation. */
    agreed_at: number | null
  }
  /** The newest of each issuer. `number` only rises, also over a list that could not be made. */
  revocation_lists: {
    issuer: string
    number: number
    der: string
    this_update: number
    next_update: number
  }
  /** A row is what two requests about one human are put in order by. */
  humans: { human: string; verified_at: number }
  verified_agents: { amid: Amid; human: string; display_name: string | null; verified_at: number }
  organizations: {
    amid: Amid
    public_key: string
    domain: string
    name: string
    status: OrganizationStatus
    created_at: number
    checked_at: number
    lost_at: number | null
  }
  successions: { old_amid: Amid; new_amid: Amid; statement: string; taken_at: number }
}

export function certificatesMigration(dialect: Dialect): Migration {
  const text = bytewiseText(dialect)
  return {
    async up(db: Kysely<unknown>) {
      await db.schema.alterTable('agents').addColumn('recovery_key', 'text').execute()
      await db.schema.alterTable('agents').addColumn('verified_name', 'text').execute()
      await db.schema.alterTable('agents').addColumn('organization', 'text').execute()

      await db.schema
        .createTable('certificates')
        .addColumn('issuer', text, (column) => column.notNull())
        .addColumn('serial', text, (column) => column.notNull())
        .addColumn('kind', text, (column) => column.notNull())
        .addColumn('subject', text, (column) => column.notNull())
        .addColumn('amid', text)
        .addColumn('der', 'text', (column) => column.notNull())
        .addColumn('not_before', 'bigint', (column) => column.notNull())
        .addColumn('not_after', 'bigint', (column) => column.notNull())
        .addColumn('revoked_at', 'bigint')
        .addColumn('reason', 'text')
        .addPrimaryKeyConstraint('certificates_key', ['issuer', 'serial'])
        .execute()
      await db.schema
        .createIndex('certificates_amid')
        .on('certificates')
        .columns(['amid', 'not_after'])
        .execute()
      await db.schema
        .createIndex('certificates_end')
        .on('certificates')
        .columns(['kind', 'not_after'])
        .execute()
      await db.schema
        .createIndex('certificates_subject')
        .on('certificates')
        .columns(['subject', 'kind', 'not_after'])
        .execute()
      await db.schema
        .createIndex('certificates_revoked')
        .on('certificates')
        .columns(['issuer', 'not_after'])
        .where(sql.ref('revoked_at'), 'is not', null)
        .execute()

      await db.schema
        .createTable('revocation_lists')
        .addColumn('issuer', text, (column) => column.primaryKey())
        .addColumn('number', 'bigint', (column) => column.notNull())
        .addColumn('der', 'text', (column) => column.notNull())
        .addColumn('this_update', 'bigint', (column) => column.notNull())
        .addColumn('next_update', 'bigint', (column) => column.notNull())
        .execute()

      await db.schema
        .createTable('humans')
        .addColumn('human', text, (column) => column.primaryKey())
        .addColumn('verified_at', 'bigint', (column) => column.notNull())
        .execute()
      await db.schema
        .createTable('verified_agents')
        .addColumn('amid', text, (column) =>
          column.primaryKey().references('agents.amid').onDelete('cascade'),
        )
        .addColumn('human', text, (column) => column.notNull())
        .addColumn('display_name', 'text')
        .addColumn('verified_at', 'bigint', (column) => column.notNull())
        .execute()
      await db.schema.createIndex('verified_agents_human').on('verified_agents').column('human').execute()

      await db.schema
        .createTable('organizations')
        .addColumn('amid', text, (column) => column.primaryKey())
        .addColumn('public_key', 'text', (column) => column.notNull())
        .addColumn('domain', text, (column) => column.notNull())
        .addColumn('name', 'text', (column) => column.notNull())
        .addColumn('status', text, (column) => column.notNull())
        .addColumn('created_at', 'bigint', (column) => column.notNull())
        .addColumn('checked_at', 'bigint', (column) => column.notNull())
        .addColumn('lost_at', 'bigint')
        .execute()
      // A domain has one organisation; others may ask for it, and get it when the record says so.
      await db.schema
        .createIndex('organizations_domain')
        .unique()
        .on('organizations')
        .column('domain')
        .where(sql.ref('status'), 'in', sql`('verified', 'grace')`)
        .execute()
      await db.schema
        .createIndex('organizations_checked')
        .on('organizations')
        .columns(['status', 'checked_at'])
        .execute()

      await db.schema
        .createTable('successions')
        .addColumn('old_amid', text, (column) => column.primaryKey())
        .addColumn('new_amid', text, (column) => column.notNull())
        .addColumn('statement', 'text', (column) => column.notNull())
        .addColumn('taken_at', 'bigint', (column) => column.notNull())
        .execute()
    },
  }
}

/** What organisations brought before their agents were asked counts as not agreed to. */
export const membershipMigration: Migration = {
  async up(db: Kysely<unknown>) {
    await db.schema.alterTable('certificates').addColumn('agreed_at', 'bigint').execute()
  },
}

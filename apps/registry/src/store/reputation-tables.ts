/** The tables of reputation, and of the operators who watch over it. */
import type { Kysely, Migration } from 'kysely'
import type { Amid, TierNumber } from '@agentmesh/sdk/wire'
import { bytewiseText, type Dialect } from './dialect.ts'

export interface ReputationTables {
  /** One row for each side of a session that both closed: what the other side, the rater, has to say of it. */
  reputation_evidence: {
    ratee: Amid
    rater: Amid
    session_id: string
    /** SHA-256 of the statement that both signed, base64. */
    statement: string
    voice: string
    finished: number
    completed: number
    gain: number
    rating: number | null
    rating_gain: number
    tags: string
    received_at: number
    struck: number
  }
  /** All that one voice said of an agent, under forward decay. */
  reputation_voices: {
    ratee: Amid
    ratee_voice: string
    voice: string
    tier: TierNumber
    anonymous: number
    finished: number
    completed: number
    ratings: number
    rating_sum: number
    updated_at: number
  }
  /** How many others a voice has rated. */
  reputation_raters: { voice: string; rated: number }
  reputation_scores: {
    amid: Amid
    published: number
    tier: TierNumber
    terms: string
    sessions: number
    changed_at: number
    anchor: number
    anchor_at: number
    due_at: number | null
    held_proposed: number | null
    held_reasons: string
    held_since: number | null
    held_until: number | null
  }
  bans: { subject: string; reason: string; banned_at: number; banned_by: string }
  admin_actions: { id: string; at: number; who: string; action: string; target: string; detail: string }
}

export function reputationMigration(dialect: Dialect): Migration {
  const text = bytewiseText(dialect)
  return {
    async up(db: Kysely<unknown>) {
      await db.schema
        .createTable('reputation_evidence')
        .addColumn('ratee', text, (column) => column.notNull())
        .addColumn('rater', text, (column) => column.notNull())
        .addColumn('session_id', text, (column) => column.notNull())
        .addColumn('statement', 'text', (column) => column.notNull())
        .addColumn('voice', text, (column) => column.notNull())
        .addColumn('finished', 'integer', (column) => column.notNull())
        .addColumn('completed', 'integer', (column) => column.notNull())
        .addColumn('gain', 'double precision', (column) => column.notNull())
        .addColumn('rating', 'double precision')
        .addColumn('rating_gain', 'double precision', (column) => column.notNull())
        .addColumn('tags', 'text', (column) => column.notNull())
        .addColumn('received_at', 'bigint', (column) => column.notNull())
        .addColumn('struck', 'integer', (column) => column.notNull())
        .addPrimaryKeyConstraint('reputation_evidence_key', ['ratee', 'rater', 'session_id'])
        .execute()
      await db.schema
        .createIndex('reputation_evidence_time')
        .on('reputation_evidence')
        .column('received_at')
        .execute()
      await db.schema
        .createIndex('reputation_evidence_ratee')
        .on('reputation_evidence')
        .columns(['ratee', 'received_at'])
        .execute()

      await db.schema
        .createTable('reputation_voices')
        .addColumn('ratee', text, (column) => column.notNull())
        .addColumn('ratee_voice', text, (column) => column.notNull())
        .addColumn('voice', text, (column) => column.notNull())
        .addColumn('tier', 'double precision', (column) => column.notNull())
        .addColumn('anonymous', 'integer', (column) => column.notNull())
        .addColumn('finished', 'double precision', (column) => column.notNull())
        .addColumn('completed', 'double precision', (column) => column.notNull())
        .addColumn('ratings', 'double precision', (column) => column.notNull())
        .addColumn('rating_sum', 'double precision', (column) => column.notNull())
        .addColumn('updated_at', 'bigint', (column) => column.notNull())
        .addPrimaryKeyConstraint('reputation_voices_key', ['ratee', 'voice'])
        .execute()
      // Newest voices of an agent, supporters of a voice, neighbours, and what is to be forgotten.
      for (const [name, columns] of [
        ['reputation_voices_newest', ['ratee', 'anonymous', 'updated_at']],
        ['reputation_voices_supporters', ['ratee_voice', 'anonymous', 'updated_at']],
        ['reputation_voices_neighbours', ['voice', 'ratee_voice']],
        ['reputation_voices_time', ['updated_at']],
      ] as const) {
        await db.schema
          .createIndex(name)
          .on('reputation_voices')
          .columns([...columns])
          .execute()
      }
      await db.schema
        .createTable('reputation_raters')
        .addColumn('voice', text, (column) => column.primaryKey())
        .addColumn('rated', 'integer', (column) => column.notNull())
        .execute()

      await db.schema
        .createTable('reputation_scores')
        .addColumn('amid', text, (column) => column.primaryKey())
        .addColumn('published', 'double precision', (column) => column.notNull())
        .addColumn('tier', 'double precision', (column) => column.notNull())
        .addColumn('terms', 'text', (column) => column.notNull())
        .addColumn('sessions', 'bigint', (column) => column.notNull())
        .addColumn('changed_at', 'bigint', (column) => column.notNull())
        .addColumn('anchor', 'double precision', (column) => column.notNull())
        .addColumn('anchor_at', 'bigint', (column) => column.notNull())
        .addColumn('due_at', 'bigint')
        .addColumn('held_proposed', 'double precision')
        .addColumn('held_reasons', 'text', (column) => column.notNull())
        .addColumn('held_since', 'bigint')
        .addColumn('held_until', 'bigint')
        .execute()
      await db.schema.createIndex('reputation_scores_due').on('reputation_scores').column('due_at').execute()
      await db.schema
        .createIndex('reputation_scores_held')
        .on('reputation_scores')
        .columns(['held_since', 'amid'])
        .execute()

      await db.schema
        .createTable('bans')
        .addColumn('subject', text, (column) => column.primaryKey())
        .addColumn('reason', 'text', (column) => column.notNull())
        .addColumn('banned_at', 'bigint', (column) => column.notNull())
        .addColumn('banned_by', 'text', (column) => column.notNull())
        .execute()
      await db.schema
        .createTable('admin_actions')
        .addColumn('id', text, (column) => column.primaryKey())
        .addColumn('at', 'bigint', (column) => column.notNull())
        .addColumn('who', 'text', (column) => column.notNull())
        .addColumn('action', 'text', (column) => column.notNull())
        .addColumn('target', 'text', (column) => column.notNull())
        .addColumn('detail', 'text', (column) => column.notNull())
        .execute()
      await db.schema.createIndex('admin_actions_time').on('admin_actions').columns(['at', 'id']).execute()
    },
  }
}

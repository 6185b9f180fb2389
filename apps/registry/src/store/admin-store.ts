/** Bans, and the record of what operators did. */
import { sql, type Kysely, type Transaction } from 'kysely'
import type { Amid } from '@agentmesh/sdk/wire'
import { guarded } from './guard.ts'
import type { Tables } from './tables.ts'

export interface Ban {
  /** `agent:<amid>` or `human:<keyed hash>`. */
  readonly subject: string
  readonly reason: string
  /** Milliseconds since the epoch. */
  readonly at: number
  readonly by: string
}

export interface AdminAction {
  readonly id: string
  readonly at: number
  readonly who: string
  readonly action: string
  readonly target: string
  /** JSON. */
  readonly detail: string
}

export class AdminStore {
  readonly #db: Kysely<Tables>

  constructor(db: Kysely<Tables>) {
    this.#db = db
  }

  async ban(tx: Transaction<Tables>, ban: Ban): Promise<void> {
    await tx
      .insertInto('bans')
      .values({ subject: ban.subject, reason: ban.reason, banned_at: ban.at, banned_by: ban.by })
      .onConflict((conflict) => conflict.column('subject').doNothing())
      .execute()
  }

  /** False when there was no such ban. */
  async unban(tx: Transaction<Tables>, subject: string): Promise<boolean> {
    const { numDeletedRows } = await tx
      .deleteFrom('bans')
      .where('subject', '=', subject)
      .executeTakeFirstOrThrow()
    return numDeletedRows === 1n
  }

  /** @param tx of a caller that decides by the answer */
  isBanned(subjects: readonly string[], tx?: Transaction<Tables>): Promise<boolean> {
    return guarded('read bans', async () => {
      const row = await (tx ?? this.#db)
        .selectFrom('bans')
        .select('subject')
        .where('subject', 'in', subjects)
        .limit(1)
        .executeTakeFirst()
      return row !== undefined
    })
  }

  agentsOfHuman(human: string): Promise<Amid[]> {
    return guarded('list a person’s agents', async () => {
      const rows = await this.#db
        .selectFrom('verified_agents')
        .select('amid')
        .where('human', '=', human)
        .execute()
      return rows.map(({ amid }) => amid)
    })
  }

  /** Removes the records of banned agents. */
  async sweep(tx: Transaction<Tables>): Promise<void> {
    await sql`delete from agents where amid in (select substr(subject, 7) from bans where subject like 'agent:%')`.execute(
      tx,
    )
  }

  bans(after: string, limit: number): Promise<Ban[]> {
    return guarded('list bans', async () => {
      return this.#db
        .selectFrom('bans')
        .select(['subject', 'reason', 'banned_at as at', 'banned_by as by'])
        .where('subject', '>', after)
        .orderBy('subject')
        .limit(limit)
        .execute()
    })
  }

  async note(tx: Transaction<Tables>, action: AdminAction): Promise<void> {
    await tx.insertInto('admin_actions').values(action).execute()
  }

  /** Oldest first, after a place. */
  actions(after: { readonly at: number; readonly id: string }, limit: number): Promise<AdminAction[]> {
    return guarded('read operators’ actions', async () => {
      return this.#db
        .selectFrom('admin_actions')
        .selectAll()
        .where((eb) =>
          eb.or([eb('at', '>', after.at), eb.and([eb('at', '=', after.at), eb('id', '>', after.id)])]),
        )
        .orderBy('at')
        .orderBy('id')
        .limit(limit)
        .execute()
    })
  }
}

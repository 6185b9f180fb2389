/**
 * Limits that several registries on one database keep together: what one of them gave away, no other gives again.
 *
 * A limit of `burst` at once and `perSecond` afterwards is one time (the generic cell rate algorithm): until when what was taken
 * is not back. Each taking moves it by 1 / perSecond, and it may lie burst / perSecond ahead of the clock. A row whose time is
 * past says nothing.
 */
import { sha256 } from '@agentmesh/sdk/crypto/signing'
import { toBase64, utf8Bytes } from '@agentmesh/sdk/wire'
import { sql, type Kysely } from 'kysely'
import type { Rate } from '../rate-limiter.ts'
import { guarded } from './guard.ts'
import type { Tables } from './tables.ts'

export class RateStore {
  readonly #db: Kysely<Tables>

  constructor(db: Kysely<Tables>) {
    this.#db = db
  }

  /** Takes one and returns 0, or takes none and returns the whole seconds (at least 1) until there is one. */
  take(name: string, of: string, { perSecond, burst }: Rate, now: number): Promise<number> {
    const key = toBase64(sha256(utf8Bytes(`${name} ${of}`)))
    const each = 1000 / perSecond
    const furthest = now + burst * each
    return guarded('count a request', async () => {
      const taken = await this.#db
        .insertInto('rates')
        .values({ key, taken_until: now + each })
        .onConflict((conflict) =>
          conflict
            .column('key')
            .doUpdateSet({
              taken_until: sql<number>`case when rates.taken_until > ${now} then rates.taken_until else ${now} end + ${each}`,
            })
            .where('rates.taken_until', '<=', furthest - each),
        )
        .executeTakeFirstOrThrow()
      if (taken.numInsertedOrUpdatedRows === 1n) return 0
      const row = await this.#db
        .selectFrom('rates')
        .select('taken_until')
        .where('key', '=', key)
        .executeTakeFirst()
      return Math.max(1, Math.ceil(((row?.taken_until ?? 0) + each - furthest) / 1000))
    })
  }

  /** Removes what says nothing any more. */
  async purge(now: number): Promise<void> {
    await guarded('purge rates', () => this.#db.deleteFrom('rates').where('taken_until', '<=', now).execute())
  }
}

/** The prekey tables: what goes in, in one transaction, and what comes out once. */
import type { ExpressionBuilder, Kysely, Transaction } from 'kysely'
import type { Amid, PrekeyCounts, StateCounter } from '@agentmesh/sdk/wire'
import type { KeyInput } from './store.ts'
import type { Dialect } from './dialect.ts'
import type { Tables } from './tables.ts'

export type OneTimeKind = 'opk' | 'pq-one'

/** False when the stored key is newer, or as new and another. */
export async function putSignedPrekey(tx: Transaction<Tables>, amid: Amid, key: KeyInput): Promise<boolean> {
  const row = { sequence: key.sequence, expires_at: key.expiresAt, record: key.record }
  const result = await tx
    .insertInto('signed_prekeys')
    .values({ amid, kind: key.kind, ...row })
    .onConflict((conflict) =>
      conflict
        .columns(['amid', 'kind'])
        .doUpdateSet(row)
        .where((eb) =>
          eb.or([
            eb('signed_prekeys.sequence', '<', key.sequence),
            eb('signed_prekeys.record', '=', key.record),
          ]),
        ),
    )
    .executeTakeFirstOrThrow()
  return result.numInsertedOrUpdatedRows === 1n
}

export async function putOneTimeKeys(
  tx: Transaction<Tables>,
  amid: Amid,
  kind: OneTimeKind,
  keys: readonly KeyInput[],
  maxOneTime: number,
): Promise<void> {
  const mark = await tx
    .selectFrom('prekey_marks')
    .select('highest_id')
    .where('amid', '=', amid)
    .where('kind', '=', kind)
    .executeTakeFirst()
  const fresh = keys.filter((key) => key.id > (mark?.highest_id ?? 0))
  if (fresh.length === 0) return
  const highest = Math.max(...fresh.map((key) => key.id))
  await tx
    .insertInto('prekey_marks')
    .values({ amid, kind, highest_id: highest })
    .onConflict((conflict) => conflict.columns(['amid', 'kind']).doUpdateSet({ highest_id: highest }))
    .execute()
  await tx
    .insertInto('one_time_prekeys')
    .values(fresh.map((key) => ({ amid, kind, id: key.id, expires_at: key.expiresAt, record: key.record })))
    .execute()
  // The newest stay: an agent that lost its secrets gets rid of dead keys by uploading new ones.
  await tx
    .deleteFrom('one_time_prekeys')
    .where('amid', '=', amid)
    .where('kind', '=', kind)
    .where('id', '<=', (eb) =>
      eb
        .selectFrom('one_time_prekeys')
        .select('id')
        .where('amid', '=', amid)
        .where('kind', '=', kind)
        .orderBy('id', 'desc')
        .limit(1)
        .offset(maxOneTime),
    )
    .execute()
}

/** The highest stays. */
export async function putStateCounter(
  tx: Transaction<Tables>,
  amid: Amid,
  { counter, signature }: StateCounter,
): Promise<void> {
  await tx
    .insertInto('state_counters')
    .values({ amid, counter, signature })
    .onConflict((conflict) =>
      conflict
        .column('amid')
        .doUpdateSet({ counter, signature })
        .where('state_counters.counter', '<', counter),
    )
    .execute()
}

export async function countOneTime(db: Kysely<Tables>, amid: Amid, now: number): Promise<PrekeyCounts> {
  const rows = await db
    .selectFrom('one_time_prekeys')
    .select((eb) => ['kind', eb.fn.countAll<number>().as('count')])
    .where('amid', '=', amid)
    .where('expires_at', '>', now)
    .groupBy('kind')
    .execute()
  const count = (kind: string) => rows.find((row) => row.kind === kind)?.count ?? 0
  const marks = await db
    .selectFrom('prekey_marks')
    .select(['kind', 'highest_id'])
    .where('amid', '=', amid)
    .execute()
  const stateCounter = await db
    .selectFrom('state_counters')
    .select(['counter', 'signature'])
    .where('amid', '=', amid)
    .executeTakeFirst()
  const highest = (kind: string) => marks.find((mark) => mark.kind === kind)?.highest_id ?? 0
  return {
    one_time_prekeys: count('opk'),
    one_time_kem_prekeys: count('pq-one'),
    highest_one_time_prekey_id: highest('opk'),
    highest_one_time_kem_prekey_id: highest('pq-one'),
    ...(stateCounter === undefined ? {} : { state_counter: stateCounter }),
  }
}

/** The newest key that leaves so many newer ones behind; nothing where there are not more. */
function highestLeaving(
  eb: ExpressionBuilder<Tables, 'one_time_prekeys'>,
  amid: Amid,
  kind: OneTimeKind,
  leave: number,
) {
  return eb
    .selectFrom('one_time_prekeys')
    .select('id')
    .where('amid', '=', amid)
    .where('kind', '=', kind)
    .orderBy('id', 'desc')
    .limit(1)
    .offset(leave)
}

/**
 * One statement, so that it is atomic in both databases; PostgreSQL passes over rows another call is taking.
 *
 * @param leave so many keys stay behind
 */
export async function takeOneTimeKey(
  db: Kysely<Tables>,
  dialect: Dialect,
  { amid, kind, leave, now }: { amid: Amid; kind: OneTimeKind; leave: number; now: number },
): Promise<string | undefined> {
  const taken = await db
    .deleteFrom('one_time_prekeys')
    .where('amid', '=', amid)
    .where('kind', '=', kind)
    .where('id', '=', (eb) =>
      eb
        .selectFrom('one_time_prekeys')
        .select('id')
        .where('amid', '=', amid)
        .where('kind', '=', kind)
        .where('expires_at', '>', now)
        .$if(leave > 0, (query) => query.where('id', '<=', (left) => highestLeaving(left, amid, kind, leave)))
        .orderBy('id')
        .limit(1)
        .$if(dialect === 'postgres', (query) => query.forUpdate().skipLocked()),
    )
    .returning('record')
    .executeTakeFirst()
  return taken?.record
}

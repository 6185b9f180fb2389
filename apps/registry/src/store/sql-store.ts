/**
 * The store over SQL: one query code for SQLite and PostgreSQL.
 *
 * Every transaction begins with a write. In SQLite a transaction that reads first can fail to become a writer; in
 * PostgreSQL the write is also the row lock that puts two changes to one agent in order.
 */
import { Kysely, sql, type Transaction } from 'kysely'
import {
  AgentMeshError,
  tierRank,
  type Amid,
  type PrekeyCounts,
  type PresenceState,
} from '@agentmesh/sdk/wire'
import { postgresDialect } from './postgres.ts'
import { sqliteDialect } from './sqlite.ts'
import type {
  AgentInput,
  KeyInput,
  PrekeyInput,
  PrekeyOutcome,
  PutOutcome,
  PutRule,
  SearchInput,
  SignedVisit,
  Store,
  StoredAgent,
  StoredBundle,
} from './store.ts'
import { migrate, type Dialect, type Tables } from './tables.ts'

/** Rows in one INSERT: SQLite takes a limited number of parameters. */
const INSERT_ROWS = 100

const AGENT_COLUMNS = [
  'amid',
  'record',
  'tier',
  'reputation',
  'presence',
  'last_seen as lastSeen',
  'registered_at as registeredAt',
] as const

/** Ends a transaction without a failure: everything in it is undone. */
class Undo extends Error {}

/** @throws STORE_FAILED when the file cannot be opened or is not one of ours. */
export async function openSqliteStore(path: string): Promise<Store> {
  return open('sqlite', 'open registry database', async () => sqliteDialect(path))
}

/** @throws STORE_FAILED when the server does not answer or refuses. */
export async function openPostgresStore(
  databaseUrl: string,
  onIdleError: (error: Error) => void,
): Promise<Store> {
  return open('postgres', 'connect to PostgreSQL', () =>
    Promise.resolve(postgresDialect(databaseUrl, onIdleError)),
  )
}

async function open(
  dialect: Dialect,
  operation: string,
  connect: () => Promise<ConstructorParameters<typeof Kysely>[0]['dialect']>,
): Promise<Store> {
  let db: Kysely<Tables> | undefined
  try {
    db = new Kysely<Tables>({ dialect: await connect() })
    await migrate(db, dialect)
    return new SqlStore(db, dialect)
  } catch (cause) {
    await db?.destroy().catch(() => undefined)
    throw new AgentMeshError('STORE_FAILED', undefined, { operation, cause })
  }
}

class SqlStore implements Store {
  readonly #db: Kysely<Tables>
  readonly #dialect: Dialect

  constructor(db: Kysely<Tables>, dialect: Dialect) {
    this.#db = db
    this.#dialect = dialect
  }

  /** Driver errors become ours; what the database says goes to the log as the cause, never to a client. */
  async #run<T>(operation: string, work: () => Promise<T>): Promise<T> {
    try {
      return await work()
    } catch (cause) {
      throw new AgentMeshError('STORE_FAILED', undefined, { operation, cause })
    }
  }

  async ping(): Promise<void> {
    await this.#run('ping database', () => sql`select 1`.execute(this.#db))
  }

  admit({ amid, nonce, expiresAt, now }: SignedVisit): Promise<boolean> {
    return this.#run('remember nonce', () =>
      this.#db.transaction().execute(async (tx) => {
        const inserted = await tx
          .insertInto('nonces')
          .values({ nonce, expires_at: expiresAt })
          .onConflict((conflict) => conflict.column('nonce').doNothing())
          .executeTakeFirstOrThrow()
        if (inserted.numInsertedOrUpdatedRows !== 1n) return false
        await tx
          .updateTable('agents')
          .set({ last_seen: now })
          .where('amid', '=', amid)
          .where('last_seen', '<', now)
          .execute()
        return true
      }),
    )
  }

  putAgent(agent: AgentInput, rule: PutRule, now: number): Promise<PutOutcome> {
    return this.#run('store agent', () =>
      this.#db.transaction().execute((tx) => putAgent(tx, agent, rule, now)),
    )
  }

  getAgent(amid: Amid): Promise<StoredAgent | undefined> {
    return this.#run('read agent', () =>
      this.#db.selectFrom('agents').select(AGENT_COLUMNS).where('amid', '=', amid).executeTakeFirst(),
    )
  }

  deleteAgent(amid: Amid): Promise<boolean> {
    return this.#run('delete agent', async () => {
      const { numDeletedRows } = await this.#db
        .deleteFrom('agents')
        .where('amid', '=', amid)
        .executeTakeFirstOrThrow()
      return numDeletedRows === 1n
    })
  }

  setPresence(amid: Amid, state: PresenceState): Promise<boolean> {
    return this.#run('set presence', async () => {
      const { numUpdatedRows } = await this.#db
        .updateTable('agents')
        .set({ presence: state })
        .where('amid', '=', amid)
        .executeTakeFirstOrThrow()
      return numUpdatedRows === 1n
    })
  }

  search(input: SearchInput): Promise<StoredAgent[]> {
    const online = sql<number>`case when presence <> 'offline' and last_seen >= ${input.onlineSince} then 1 else 0 end`
    let offers = this.#db.selectFrom('capabilities').select('amid').where('category', '=', input.category)
    if (input.subcategory !== undefined) offers = offers.where('subcategory', '=', input.subcategory)
    offers = offers.where('action', '=', input.action ?? '')

    let query = this.#db
      .selectFrom('agents')
      .select(AGENT_COLUMNS)
      .where('amid', 'in', offers)
      .where('tier_rank', '>=', input.minTierRank)
      .where('last_seen', '>=', input.seenSince)
    if (input.onlineOnly) query = query.where(online, '=', 1)
    const { after } = input
    if (after !== undefined) {
      const rank = after.online ? 1 : 0
      query = query.where((eb) =>
        eb.or([
          eb(online, '<', rank),
          eb.and([
            eb(online, '=', rank),
            eb.or([
              eb('reputation', '<', after.reputation),
              eb.and([eb('reputation', '=', after.reputation), eb('amid', '>', after.amid)]),
            ]),
          ]),
        ]),
      )
    }
    return this.#run('search agents', () =>
      query
        .orderBy(online, 'desc')
        .orderBy('reputation', 'desc')
        .orderBy('amid', 'asc')
        .limit(input.limit)
        .execute(),
    )
  }

  countAgents(): Promise<number> {
    return this.#run('count agents', () => countAgents(this.#db))
  }

  async putPrekeys(amid: Amid, prekeys: PrekeyInput, maxOneTime: number): Promise<PrekeyOutcome> {
    try {
      return await this.#db.transaction().execute(async (tx) => {
        for (const key of [prekeys.signed, prekeys.lastResort]) {
          if (!(await putSignedPrekey(tx, amid, key))) throw new Undo()
        }
        for (const kind of ['opk', 'pq-one'] as const) {
          const keys = prekeys.oneTime.filter((key) => key.kind === kind)
          await putOneTimeKeys(tx, amid, kind, keys, maxOneTime)
        }
        return { outcome: 'stored', counts: await countOneTime(tx, amid, 0) } as const
      })
    } catch (error) {
      if (error instanceof Undo) return { outcome: 'sequence-replayed' }
      if (isForeignKeyError(error)) return { outcome: 'not-found' }
      throw new AgentMeshError('STORE_FAILED', undefined, { operation: 'store prekeys', cause: error })
    }
  }

  countPrekeys(amid: Amid, now: number): Promise<PrekeyCounts> {
    return this.#run('count prekeys', () => countOneTime(this.#db, amid, now))
  }

  takeBundle(amid: Amid, oneTime: boolean, now: number): Promise<StoredBundle | undefined> {
    return this.#run('take bundle', async () => {
      const rows = await this.#db
        .selectFrom('agents')
        .innerJoin('signed_prekeys', 'signed_prekeys.amid', 'agents.amid')
        .select(['agents.record as agent', 'kind', 'signed_prekeys.record as key', 'expires_at'])
        .where('agents.amid', '=', amid)
        .execute()
      const signed = rows.find((row) => row.kind === 'spk' && row.expires_at > now)
      const lastResort = rows.find((row) => row.kind === 'pq-last' && row.expires_at > now)
      // Nothing is taken for a bundle that cannot be given.
      if (signed === undefined || lastResort === undefined) return undefined
      return {
        record: signed.agent,
        signedPrekey: signed.key,
        oneTimePrekey: oneTime ? await this.#takeOneTime(amid, 'opk', now) : undefined,
        kemPrekey: (oneTime ? await this.#takeOneTime(amid, 'pq-one', now) : undefined) ?? lastResort.key,
      }
    })
  }

  /** One statement, so that it is atomic in both databases; PostgreSQL passes over rows another call is taking. */
  async #takeOneTime(amid: Amid, kind: 'opk' | 'pq-one', now: number): Promise<string | undefined> {
    const taken = await this.#db
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
          .orderBy('id')
          .limit(1)
          .$if(this.#dialect === 'postgres', (query) => query.forUpdate().skipLocked()),
      )
      .returning('record')
      .executeTakeFirst()
    return taken?.record
  }

  async purge(now: number, forgetBefore: number): Promise<void> {
    await this.#run('purge', async () => {
      await this.#db.deleteFrom('nonces').where('expires_at', '<', now).execute()
      await this.#db.deleteFrom('one_time_prekeys').where('expires_at', '<=', now).execute()
      await this.#db.deleteFrom('agents').where('last_seen', '<', forgetBefore).execute()
    })
  }

  async close(): Promise<void> {
    await this.#db.destroy()
  }
}

async function putAgent(
  tx: Transaction<Tables>,
  agent: AgentInput,
  rule: PutRule,
  now: number,
): Promise<PutOutcome> {
  const columns = {
    record: agent.record,
    sequence: agent.sequence,
    exchange_key: agent.exchangeKey,
    exchange_sequence: agent.exchangeSequence,
    tier: agent.tier,
    tier_rank: tierRank(agent.tier),
    reputation: agent.reputation,
  }
  const updated = await tx
    .updateTable('agents')
    .set({
      ...columns,
      last_seen: now,
      ...(agent.presence === undefined ? {} : { presence: agent.presence }),
    })
    .where('amid', '=', agent.amid)
    .where('sequence', '<', agent.sequence)
    .where((eb) =>
      eb.or([
        eb('exchange_sequence', '<', agent.exchangeSequence),
        eb.and([
          eb('exchange_sequence', '=', agent.exchangeSequence),
          eb('exchange_key', '=', agent.exchangeKey),
        ]),
      ]),
    )
    .executeTakeFirstOrThrow()
  if (updated.numUpdatedRows === 1n) {
    await putCapabilities(tx, agent)
    return 'updated'
  }

  const stored = await tx
    .selectFrom('agents')
    .select('record')
    .where('amid', '=', agent.amid)
    .executeTakeFirst()
  if (stored !== undefined) {
    if (stored.record !== agent.record) return 'sequence-replayed'
    if (agent.presence !== undefined) {
      await tx
        .updateTable('agents')
        .set({ presence: agent.presence })
        .where('amid', '=', agent.amid)
        .execute()
    }
    return 'unchanged'
  }
  if (!rule.create) return 'not-found'
  if ((await countAgents(tx)) >= rule.maxAgents) return 'full'
  const inserted = await tx
    .insertInto('agents')
    .values({
      amid: agent.amid,
      ...columns,
      presence: agent.presence ?? 'offline',
      last_seen: now,
      registered_at: now,
    })
    .onConflict((conflict) => conflict.column('amid').doNothing())
    .executeTakeFirstOrThrow()
  // Another request of the same agent came first: its record stands, and this one is judged against it.
  if (inserted.numInsertedOrUpdatedRows !== 1n) return putAgent(tx, agent, rule, now)
  await putCapabilities(tx, agent)
  return 'created'
}

async function putCapabilities(tx: Transaction<Tables>, agent: AgentInput): Promise<void> {
  await tx.deleteFrom('capabilities').where('amid', '=', agent.amid).execute()
  const rows = agent.capabilities.map((capability) => ({ amid: agent.amid, ...capability }))
  for (let start = 0; start < rows.length; start += INSERT_ROWS) {
    await tx
      .insertInto('capabilities')
      .values(rows.slice(start, start + INSERT_ROWS))
      .onConflict((conflict) => conflict.doNothing())
      .execute()
  }
}

/** False when the stored key is newer, or as new and another. */
async function putSignedPrekey(tx: Transaction<Tables>, amid: Amid, key: KeyInput): Promise<boolean> {
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

async function putOneTimeKeys(
  tx: Transaction<Tables>,
  amid: Amid,
  kind: 'opk' | 'pq-one',
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

async function countOneTime(db: Kysely<Tables>, amid: Amid, now: number): Promise<PrekeyCounts> {
  const rows = await db
    .selectFrom('one_time_prekeys')
    .select((eb) => ['kind', eb.fn.countAll<number>().as('count')])
    .where('amid', '=', amid)
    .where('expires_at', '>', now)
    .groupBy('kind')
    .execute()
  const count = (kind: string) => rows.find((row) => row.kind === kind)?.count ?? 0
  return { one_time_prekeys: count('opk'), one_time_kem_prekeys: count('pq-one') }
}

async function countAgents(db: Kysely<Tables>): Promise<number> {
  const row = await db
    .selectFrom('agents')
    .select((eb) => eb.fn.countAll<number>().as('count'))
    .executeTakeFirstOrThrow()
  return row.count
}

/** The agent a prekey belongs to is not there: SQLite says it in words, PostgreSQL by SQLSTATE 23503. */
function isForeignKeyError(error: unknown): boolean {
  if (!(error instanceof Error)) return false
  return (
    (error as { code?: unknown }).code === '23503' || error.message.includes('FOREIGN KEY constraint failed')
  )
}

/**
 * The store over SQL: one query code for SQLite and PostgreSQL.
 *
 * Every transaction begins with a write. In SQLite a transaction that reads first can fail to become a writer; in
 * PostgreSQL the write is also the row lock that puts two changes to one agent in order.
 */
import { channel } from 'node:diagnostics_channel'
import { CompiledQuery, Kysely, sql, type Dialect as KyselyDialect, type Transaction } from 'kysely'
import {
  AgentMeshError,
  isAgentMeshError,
  type Amid,
  type PrekeyCounts,
  type PresenceState,
} from '@agentmesh/sdk/wire'
import { AGENT_COLUMNS, countAgents, putAgent } from './agent-queries.ts'
import { CertificatesStore } from './certificates-store.ts'
import { AdminStore } from './admin-store.ts'
import { lowerReach, noteSeen, placeOffers, sayPresence } from './offers.ts'
import {
  countOneTime,
  putOneTimeKeys,
  putStateCounter,
  putSignedPrekey,
  takeOneTimeKey,
  type OneTimeKind,
} from './prekey-queries.ts'
import { searchAgents, type ReadStatement } from './search-queries.ts'
import { isForeignKeyError, isUndone } from './sql-errors.ts'
import { RateStore } from './rates.ts'
import { ReputationStore } from './reputation-store.ts'
import { sqliteDialect } from './sqlite.ts'
import type { AgentInput, PurgeTimes } from './agent-input.ts'
import type {
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
import type { Dialect } from './dialect.ts'
import { migrate, type Tables } from './tables.ts'
import { SqlVerificationStore, type VerificationStore } from './verification-store.ts'
import { TransparencyStore } from './transparency-store.ts'

/** Every statement's text when it was done, `begin` and `commit` too; never what it was given. */
const STATEMENTS = channel('agentmesh:registry:statement')

/** Times that what the database undid is done again. */
const MAX_ATTEMPTS = 5
/** Any number, the same in every registry. */
const UPKEEP_LOCK = 4_137_204_871

/** Ends a transaction without a failure: everything in it is undone. */
class Undo extends Error {}

/** @throws STORE_FAILED when the file cannot be opened or is not one of ours. */
export async function openSqliteStore(path: string): Promise<Store> {
  return open('sqlite', 'open registry database', async () => ({ dialect: await sqliteDialect(path) }))
}

/** @throws STORE_FAILED when the server does not answer or refuses. */
export async function openPostgresStore(
  databaseUrl: string,
  onIdleError: (error: Error) => void,
): Promise<Store> {
  return open('postgres', 'connect to PostgreSQL', async () => {
    // Most registries have a file, and load no client of a server.
    const { connectPostgres } = await import('./postgres.ts')
    return connectPostgres(databaseUrl, onIdleError)
  })
}

interface Connections {
  readonly dialect: KyselyDialect
  /** When searches have a way of their own. */
  readonly search?: ReadStatement
}

async function open(engine: Dialect, operation: string, connect: () => Promise<Connections>): Promise<Store> {
  let db: Kysely<Tables> | undefined
  try {
    const { dialect, search } = await connect()
    db = new Kysely<Tables>({ dialect, log: ({ query }) => STATEMENTS.publish(query.sql) })
    await migrate(db, engine)
    return new SqlStore(db, engine, search ?? readNumbered(db))
  } catch (cause) {
    await db?.destroy().catch(() => undefined)
    throw new AgentMeshError('STORE_FAILED', undefined, { operation, cause })
  }
}

/** SQLite numbers parameters with another sign. */
function readNumbered(db: Kysely<Tables>): ReadStatement {
  return async (text, parameters) => {
    const numbered = text.replaceAll(/\$(\d)/g, '?$1')
    return (await db.executeQuery<StoredAgent>(CompiledQuery.raw(numbered, [...parameters]))).rows
  }
}

class SqlStore implements Store {
  readonly reputation: ReputationStore
  readonly admin: AdminStore
  readonly #db: Kysely<Tables>
  readonly #dialect: Dialect
  readonly #search: ReadStatement
  readonly certificates: CertificatesStore
  readonly verification: VerificationStore
  readonly transparency: TransparencyStore
  readonly rates: RateStore

  constructor(db: Kysely<Tables>, dialect: Dialect, search: ReadStatement) {
    this.#db = db
    this.#dialect = dialect
    this.#search = search
    this.certificates = new CertificatesStore(db)
    this.verification = new SqlVerificationStore(db, (operation, work) => this.#run(operation, work))
    this.transparency = new TransparencyStore(db)
    this.reputation = new ReputationStore(db)
    this.admin = new AdminStore(db)
    this.rates = new RateStore(db)
  }

  /** Driver errors become ours; what the database says goes to the log as the cause, never to a client. */
  async #run<T>(operation: string, work: () => Promise<T>): Promise<T> {
    for (let attempt = 1; ; attempt += 1) {
      try {
        return await work()
      } catch (cause) {
        if (isAgentMeshError(cause)) throw cause
        if (isUndone(cause) && attempt < MAX_ATTEMPTS) continue
        throw new AgentMeshError('STORE_FAILED', undefined, { operation, cause })
      }
    }
  }

  transaction<T>(operation: string, work: (tx: Transaction<Tables>) => Promise<T>): Promise<T> {
    return this.#run(operation, () => this.#db.transaction().execute(work))
  }

  async alone(work: () => Promise<void>): Promise<boolean> {
    if (this.#dialect === 'sqlite') {
      await work()
      return true
    }
    return this.#db.connection().execute(async (connection) => {
      const lock = await this.#run('take the turn', () =>
        sql<{ taken: boolean }>`select pg_try_advisory_lock(${UPKEEP_LOCK}) as taken`.execute(connection),
      )
      if (lock.rows[0]?.taken !== true) return false
      try {
        await work()
        return true
      } finally {
        await this.#run('give the turn back', () =>
          sql`select pg_advisory_unlock(${UPKEEP_LOCK})`.execute(connection),
        )
      }
    })
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
        await noteSeen(tx, amid, now)
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
    return this.#run('set presence', () =>
      this.#db.transaction().execute(async (tx) => {
        const { numUpdatedRows } = await tx
          .updateTable('agents')
          .set(sayPresence(state))
          .where('amid', '=', amid)
          .executeTakeFirstOrThrow()
        await placeOffers(tx, [amid])
        return numUpdatedRows === 1n
      }),
    )
  }

  search(input: SearchInput): Promise<StoredAgent[]> {
    return this.#run('search agents', () => searchAgents(this.#search, input))
  }

  countAgents(): Promise<number> {
    return this.#run('count agents', () => countAgents(this.#db))
  }

  putPrekeys(amid: Amid, prekeys: PrekeyInput, maxOneTime: number): Promise<PrekeyOutcome> {
    return this.#run('store prekeys', async (): Promise<PrekeyOutcome> => {
      try {
        return await this.#db.transaction().execute(async (tx) => {
          for (const key of [prekeys.signed, prekeys.lastResort]) {
            if (!(await putSignedPrekey(tx, amid, key))) throw new Undo()
          }
          for (const kind of ['opk', 'pq-one'] as const) {
            const keys = prekeys.oneTime.filter((key) => key.kind === kind)
            await putOneTimeKeys(tx, amid, kind, keys, maxOneTime)
          }
          if (prekeys.stateCounter) await putStateCounter(tx, amid, prekeys.stateCounter)
          return { outcome: 'stored', counts: await countOneTime(tx, amid, 0) } as const
        })
      } catch (error) {
        if (error instanceof Undo) return { outcome: 'sequence-replayed' }
        if (isForeignKeyError(error)) return { outcome: 'not-found' }
        throw error
      }
    })
  }

  countPrekeys(amid: Amid, now: number): Promise<PrekeyCounts> {
    return this.#run('count prekeys', () => countOneTime(this.#db, amid, now))
  }

  takeBundle(amid: Amid, oneTime: boolean, now: number, leave = 0): Promise<StoredBundle | undefined> {
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
      const take = async (kind: OneTimeKind): Promise<string | undefined> =>
        oneTime ? takeOneTimeKey(this.#db, this.#dialect, { amid, kind, leave, now }) : undefined
      return {
        record: signed.agent,
        signedPrekey: signed.key,
        oneTimePrekey: await take('opk'),
        kemPrekey: (await take('pq-one')) ?? lastResort.key,
      }
    })
  }

  async purge({ now, lapsedBefore, dormantBefore, forgetBefore }: PurgeTimes): Promise<void> {
    await this.#run('purge', async () => {
      await this.#db.deleteFrom('nonces').where('expires_at', '<', now).execute()
      await this.#db.deleteFrom('one_time_prekeys').where('expires_at', '<=', now).execute()
      await lowerReach(this.#db, { lapsedBefore, dormantBefore })
      await this.#db
        .deleteFrom('agents')
        .where('reach', '=', 0)
        .where('last_seen', '<', Math.min(forgetBefore, dormantBefore))
        .execute()
      await this.#db
        .deleteFrom('recovery_keys')
        .where('seen_at', '<', forgetBefore)
        .where('amid', 'not in', (eb) => eb.selectFrom('agents').select('amid'))
        .execute()
    })
  }

  async close(): Promise<void> {
    await this.#db.destroy()
  }
}

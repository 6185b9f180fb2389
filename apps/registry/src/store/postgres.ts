/** PostgreSQL for Kysely, through a bounded pool, and beside it for searches. */
import pg from 'pg'
import { PostgresDialect } from 'kysely'
import type { ReadStatement } from './search-queries.ts'
import type { StoredAgent } from './store.ts'

const POOL_SIZE = 10
/** A connection keeps its plans. */
const IDLE_MILLISECONDS = 300_000
const CONNECT_MILLISECONDS = 5_000
const STATEMENT_MILLISECONDS = 10_000
const INT8 = 20

const SEARCH_POOL_SIZE = 4

export interface PostgresConnections {
  readonly dialect: PostgresDialect
  /** Ends with the dialect. */
  readonly search: ReadStatement
}

/** @param onError told of connections that break while idle; the pool replaces them */
export function connectPostgres(databaseUrl: string, onError: (error: Error) => void): PostgresConnections {
  const pool = makePool(databaseUrl, POOL_SIZE, onError)
  // A search takes longer to plan than to do. On connections of their own its few texts are planned once, and no other
  // statement is planned without its values.
  const searching = makePool(databaseUrl, SEARCH_POOL_SIZE, onError, (client, done) => {
    client.query('set plan_cache_mode = force_generic_plan', done)
  })
  const names = new Map<string, string>()
  return {
    dialect: new PostgresDialect({
      pool: {
        connect: () => pool.connect(),
        end: async () => {
          await searching.end()
          await pool.end()
        },
      },
    }),
    async search(text, values) {
      let name = names.get(text)
      if (name === undefined) names.set(text, (name = `search-${names.size}`))
      const { rows } = await searching.query<StoredAgent>({ name, text, values: [...values] })
      return rows
    },
  }
}

function makePool(
  databaseUrl: string,
  size: number,
  onError: (error: Error) => void,
  verify: (client: pg.PoolClient, done: (error?: Error) => void) => void = (_, done) => done(),
): pg.Pool {
  // Every bigint here is a time, a count or a sequence below 2^53.
  const types = new pg.TypeOverrides()
  types.setTypeParser(INT8, Number)
  const pool = new pg.Pool({
    connectionString: databaseUrl,
    max: size,
    connectionTimeoutMillis: CONNECT_MILLISECONDS,
    statement_timeout: STATEMENT_MILLISECONDS,
    types,
    idleTimeoutMillis: IDLE_MILLISECONDS,
    verify,
  })
  pool.on('error', onError)
  return pool
}

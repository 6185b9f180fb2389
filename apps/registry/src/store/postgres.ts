/** PostgreSQL for Kysely, through a bounded pool. */
import pg from 'pg'
import { PostgresDialect } from 'kysely'

const POOL_SIZE = 10
const CONNECT_MILLISECONDS = 5_000
const STATEMENT_MILLISECONDS = 10_000
const INT8 = 20

/** @param onError told of connections that break while idle; the pool replaces them */
export function postgresDialect(databaseUrl: string, onError: (error: Error) => void): PostgresDialect {
  // Every bigint here is a time, a count or a sequence below 2^53.
  const types = new pg.TypeOverrides()
  types.setTypeParser(INT8, Number)
  const pool = new pg.Pool({
    connectionString: databaseUrl,
    max: POOL_SIZE,
    connectionTimeoutMillis: CONNECT_MILLISECONDS,
    statement_timeout: STATEMENT_MILLISECONDS,
    types,
  })
  pool.on('error', onError)
  return new PostgresDialect({ pool })
}

/** PostgreSQL for Kysely, through a bounded pool. */
import pg from 'pg'
import { PostgresDialect } from 'kysely'

const POOL_SIZE = 10
const CONNECT_MILLISECONDS = 5_000
const STATEMENT_MILLISECONDS = 10_000
const INT8 = 20

/** @param onError told of connections that break while idle; the pool replaces them */
export function postgresDialect(databaseUrl: string, onError: (error: Error) => void): PostgresDialect {
  const pool = new pg.Pool({
    connectionString: databaseUrl,
    max: POOL_SIZE,
    connectionTimeoutMillis: CONNECT_MILLISECONDS,
    statement_timeout: STATEMENT_MILLISECONDS,
    types: {
      // Every bigint here is a time, a count or a sequence below 2^53.
      getTypeParser: (type: number, format?: 'text' | 'binary') =>
        type === INT8
          ? Number
          : (pg.types.getTypeParser(type, format as 'text') as (value: string) => unknown),
    } as pg.CustomTypesConfig,
  })
  pool.on('error', onError)
  return new PostgresDialect({ pool })
}

/**
 * PostgreSQL as the relay needs it: a bounded pool, and work that is done again when the connection broke under it.
 *
 * Work is a transaction of its own, and doing it twice must be as good as once: when a connection is lost, nobody knows
 * whether its COMMIT was the last thing the server heard. While the server is away, work fails at once, and one piece of
 * it a second goes to see whether it is back.
 */
import pg from 'pg'
import type { ClientBase, Pool, PoolClient } from 'pg'

export type { PoolClient }

/** One writer, readers, and whatever housekeeping asks for. */
const POOL_SIZE = 5
const CONNECT_MILLISECONDS = 5_000
/** The server gives up first. The client's limit is for a server that says nothing any more. */
const STATEMENT_MILLISECONDS = 10_000
const QUERY_MILLISECONDS = 15_000
/** How long a connection that went silent inside a transaction may hold its locks. */
const IDLE_IN_TRANSACTION_MILLISECONDS = 10_000
/** Pauses before work is done again; when they are used up it fails. */
const RETRY_PAUSES = [0, 100, 400]
/** Work that has taken so long is not begun again. */
const RETRY_WITHIN_MILLISECONDS = 5_000
const AWAY_MILLISECONDS = 1_000
const INT8 = 20

/**
 * Plans must not depend on statistics: these tables go from empty to full and back within minutes, and every statement here
 * is meant to walk an index. A commit is on disk when it returns, whatever the server's default; a stricter one stays.
 */
const SESSION = `
  SET plan_cache_mode = force_generic_plan;
  SET enable_seqscan = off;
  SET jit = off;
  SET idle_in_transaction_session_timeout = ${IDLE_IN_TRANSACTION_MILLISECONDS};
  SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off';
`

/**
 * SQLSTATEs of a server that ends, starts, changes roles or is out of slots, of transactions that met, and of a row whose
 * partition was dropped (23514).
 */
const TRANSIENT_STATES = new Set(['23514', '25006', '40001', '40P01', '53300', '57P01', '57P02', '57P03'])

export class PostgresDatabase {
  readonly #pool: Pool
  #awayUntil = 0
  #awayBecause: unknown

  /** @param onIdleError told of connections that break while idle; the pool replaces them */
  constructor(databaseUrl: string, onIdleError: (error: Error) => void) {
    // Every bigint here is a time, a count or a position below 2^53.
    const types = new pg.TypeOverrides()
    types.setTypeParser(INT8, Number)
    this.#pool = new pg.Pool({
      connectionString: databaseUrl,
      max: POOL_SIZE,
      connectionTimeoutMillis: CONNECT_MILLISECONDS,
      statement_timeout: STATEMENT_MILLISECONDS,
      query_timeout: QUERY_MILLISECONDS,
      keepAlive: true,
      application_name: 'agentmesh-relay',
      types,
      ...BEFORE_USE,
    })
    this.#pool.on('error', onIdleError)
  }

  /**
   * Gives `work` a connection; again with another one where that broke. A connection on which anything failed is closed, and
   * with it a transaction that was open.
   *
   * @throws what the driver threw
   */
  async run<T>(work: (client: PoolClient) => Promise<T>): Promise<T> {
    if (performance.now() < this.#awayUntil) throw this.#awayBecause
    const begin = performance.now()
    for (const pause of RETRY_PAUSES) {
      try {
        return await this.#once(work)
      } catch (error) {
        if (!isTransient(error)) throw error
        this.#awayBecause = error
        if (performance.now() - begin > RETRY_WITHIN_MILLISECONDS) break
      }
      await new Promise((resolve) => setTimeout(resolve, pause))
    }
    this.#awayUntil = performance.now() + AWAY_MILLISECONDS
    throw this.#awayBecause
  }

  async #once<T>(work: (client: PoolClient) => Promise<T>): Promise<T> {
    const client = await this.#pool.connect()
    let failed = true
    try {
      const result = await work(client)
      failed = false
      return result
    } finally {
      client.release(failed)
    }
  }

  async close(): Promise<void> {
    await this.#pool.end()
  }
}

/** The pool waits for what this returns, though its types do not say so. */
const BEFORE_USE = { onConnect: prepareSession }

async function prepareSession(client: ClientBase): Promise<void> {
  // What breaks it is told to whoever waits for an answer; without a listener it would end the process.
  client.on('error', () => {})
  await client.query(SESSION)
}

/** What a statement always gives. @throws Error where it did not */
export function given<T>(value: T | undefined): T {
  if (value === undefined) throw new Error('The database gave no answer')
  return value
}

/** Whether the same may work in a moment: all that is no answer of the server, and what `TRANSIENT_STATES` says. */
function isTransient(error: unknown): boolean {
  const code = error instanceof pg.DatabaseError ? error.code : undefined
  return code === undefined || code.startsWith('08') || TRANSIENT_STATES.has(code)
}

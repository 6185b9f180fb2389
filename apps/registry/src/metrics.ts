/** Numbers for the operator, in Prometheus text. Labels are routes and codes of ours, never what a client sent. */
import { Counter, Gauge, Histogram, Registry } from 'prom-client'

const LATENCY_SECONDS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5]

export class RegistryMetrics {
  readonly #registry = new Registry()
  readonly #registers = [this.#registry]
  readonly #requests = new Counter({
    name: 'agentmesh_registry_requests_total',
    help: 'HTTP requests answered',
    labelNames: ['method', 'route', 'status'],
    registers: this.#registers,
  })
  readonly #seconds = new Histogram({
    name: 'agentmesh_registry_request_seconds',
    help: 'Time to answer',
    labelNames: ['route'],
    buckets: LATENCY_SECONDS,
    registers: this.#registers,
  })
  readonly #refusals = new Counter({
    name: 'agentmesh_registry_refusals_total',
    help: 'Requests refused, by error code',
    labelNames: ['code'],
    registers: this.#registers,
  })
  readonly #bundles = new Counter({
    name: 'agentmesh_registry_bundles_total',
    help: 'Prekey bundles given out, by the kind of their KEM prekey',
    labelNames: ['kem'],
    registers: this.#registers,
  })
  readonly #agents = new Gauge({
    name: 'agentmesh_registry_agents',
    help: 'Agents registered, counted once a purge interval',
    registers: this.#registers,
  })

  readonly #connectionsRefused = new Counter({
    name: 'agentmesh_registry_connections_refused_total',
    help: 'TCP connections over a limit',
    registers: this.#registers,
  })

  // These two read for themselves when they are scraped.
  readonly cpu = new Counter({
    name: 'process_cpu_seconds_total',
    help: 'Processor time, user and system',
    registers: this.#registers,
    collect() {
      const { user, system } = process.cpuUsage()
      this.reset()
      this.inc((user + system) / 1e6)
    },
  })
  readonly memory = new Gauge({
    name: 'process_resident_memory_bytes',
    help: 'Resident memory size',
    registers: this.#registers,
    collect() {
      this.set(process.memoryUsage.rss())
    },
  })

  /** @param expiresAt of the TLS certificate in force, in milliseconds since the epoch */
  watchCertificate(expiresAt: () => number): void {
    // oxlint-disable-next-line no-new -- it registers itself
    new Gauge({
      name: 'agentmesh_registry_certificate_expiry_seconds',
      help: 'Unix time when the TLS certificate ends',
      registers: this.#registers,
      collect() {
        this.set(expiresAt() / 1000)
      },
    })
  }

  watchConnections(open: () => number): void {
    // oxlint-disable-next-line no-new -- it registers itself
    new Gauge({
      name: 'agentmesh_registry_connections',
      help: 'Open TCP connections',
      registers: this.#registers,
      collect() {
        this.set(open())
      },
    })
  }

  connectionRefused(): void {
    this.#connectionsRefused.inc()
  }

  answered(method: string, route: string, status: number, seconds: number): void {
    this.#requests.inc({ method, route, status: String(status) })
    this.#seconds.observe({ route }, seconds)
  }

  refused(code: string): void {
    this.#refusals.inc({ code })
  }

  bundleGiven(kem: 'one-time' | 'last-resort'): void {
    this.#bundles.inc({ kem })
  }

  agents(count: number): void {
    this.#agents.set(count)
  }

  get contentType(): string {
    return this.#registry.contentType
  }

  text(): Promise<string> {
    return this.#registry.metrics()
  }
}

/**
 * `kill -9` at random moments, by a schedule drawn from a seed before the run: a relay and two daemons, each a process,
 * carry numbered requests both ways; after so many observed events one or two of them are killed, the others go on for a
 * few messages, and what was killed comes back. In place of the relay there may be several as one service behind one
 * address: then they are killed in turn, and so are the NATS and the PostgreSQL they stand on. At the end everything must come to rest with nothing lost and nothing
 * done twice (ledger.ts), and no key used twice (the audit logs).
 */
import { defaultPolicy } from '@agentmesh/sdk'
import { Random } from '../fuzz/random.ts'
import { ProcessMesh } from '../support/process-mesh.ts'
import { Application } from './application.ts'
import { keyReuse, logProblems } from './audit.ts'
import { Ledger, type LedgerTotals } from './ledger.ts'

export type Victim = 'alice' | 'bob' | 'relay' | 'nats' | 'postgres'

export interface Strike {
  readonly victims: readonly Victim[]
  /** Events observed since the last strike was over; 0: at the moment the restarted program says it is ready. */
  readonly after: number
  /** Questions that each survivor's application asks while the victims are down. */
  readonly sends: number
}

const DAEMONS = ['alice', 'bob'] as const
const TARGETS: readonly (readonly Victim[])[] = [
  ['alice'],
  ['bob'],
  ['relay'],
  ['alice'],
  ['bob'],
  ['relay'],
  ['alice', 'bob'],
  ['alice', 'relay'],
  ['bob', 'relay'],
]
/** Where there is a service. */
const SERVICE_TARGETS: readonly (readonly Victim[])[] = [
  ...TARGETS,
  ['nats', 'postgres'],
  ['postgres'],
  ['relay'],
  ['nats'],
]
const MAX_EVENTS = 24
const MAX_SENDS = 3
/** A run in which nothing happens for so long is stuck; longer than the first resend of a lost packet. */
const STUCK_MS = 150_000
/** None of this comes of a kill: the state of each daemon is whole after it. */
const BROKEN: ReadonlySet<string> = new Set([
  'session_reset',
  'state_recovered',
  'log_restarted',
  'log_damaged',
  'agent_error',
])

/**
 * The same seed gives the same schedule.
 *
 * @param kills processes killed, at least; a double strike may make it one more
 * @param relays of which there are
 */
export function drawSchedule(seed: number, kills: number, relays = 1): Strike[] {
  const targets = relays === 1 ? TARGETS : SERVICE_TARGETS
  // However short the run is, every part of a service is struck.
  const first = relays === 1 ? [] : SERVICE_TARGETS.slice(-3)
  const random = new Random(seed, 'kill run', 0)
  const strikes: Strike[] = []
  let victims: readonly Victim[] = []
  for (let killed = 0; killed < kills; killed += victims.length) {
    const due = first[strikes.length]
    const again = due === undefined && strikes.length > 0 && random.oneIn(6)
    if (!again) victims = due ?? random.pick(targets)
    const after = again ? 0 : 1 + random.below(MAX_EVENTS)
    strikes.push({ victims, after, sends: random.below(MAX_SENDS + 1) })
  }
  return strikes
}

export interface KillReport extends LedgerTotals {
  readonly seed: number
  readonly kills: Record<Victim, number>
  readonly events: number
  /** What must not have happened and did; empty after a good run. */
  readonly problems: string[]
}

export interface KillRunOptions {
  seed: number
  kills: number
  /** Default: one. */
  relays?: number
  /** After each strike. */
  onStrike?: (killed: number, events: number) => void
}

/** @throws when nothing happens any more, or a program ends by itself */
export async function killRun(options: KillRunOptions): Promise<KillReport> {
  const run = new KillRun()
  try {
    await run.start(options.relays ?? 1)
    return await run.play(options)
  } finally {
    await run.close()
  }
}

interface Killable {
  kill(): Promise<void>
  start(): Promise<void>
}

function isServer(victim: Victim): victim is 'relay' | 'nats' | 'postgres' {
  return victim !== 'alice' && victim !== 'bob'
}

export function killsOf(kills: KillReport['kills']): number {
  return Object.values(kills).reduce((sum, count) => sum + count, 0)
}

class KillRun {
  readonly #ledger = new Ledger()
  readonly #applications = new Map<Victim, Application>()
  readonly #kills: Record<Victim, number> = { alice: 0, bob: 0, relay: 0, nats: 0, postgres: 0 }
  #mesh!: ProcessMesh
  #events = 0
  /** Events to go until the next strike. */
  #left = 0
  #strike: () => void = () => {}
  #fail: (error: Error) => void = () => {}
  #stuck: NodeJS.Timeout | undefined
  readonly #failure = new Promise<never>((_, reject) => {
    this.#fail = reject
  })

  async start(relays: number): Promise<void> {
    this.#failure.catch(() => {})
    this.#mesh = await (relays === 1 ? ProcessMesh.start() : ProcessMesh.startService(relays))
    for (const name of DAEMONS) {
      const member = await this.#mesh.online(name)
      const rate_limit = { knocks_per_minute: 1_000_000, messages_per_minute: 1_000_000 }
      await member.client.setPolicy({ ...defaultPolicy(), rate_limit, max_concurrent_sessions: 1000 })
      this.#applications.set(name, new Application(name, member, this.#ledger, this.#happened))
    }
  }

  readonly #happened = (): void => {
    this.#events++
    this.#watch()
    if (--this.#left === 0) this.#strike()
  }

  #watch(): void {
    clearTimeout(this.#stuck)
    this.#stuck = setTimeout(() => void this.#reportStuck(), STUCK_MS)
  }

  async #reportStuck(): Promise<void> {
    const statuses = [...this.#applications.values()].map(async ({ name, member }) => {
      const status = await member.client.status().catch(String)
      return `${name}: ${JSON.stringify(status)}\n${member.daemon.stderr}`
    })
    const problems = this.#ledger.problems().slice(0, 20)
    this.#fail(
      new Error(`Nothing happens any more.\n${[...problems, ...(await Promise.all(statuses))].join('\n')}`),
    )
  }

  async play({ seed, kills, relays = 1, onStrike }: KillRunOptions): Promise<KillReport> {
    const [alice, bob] = [this.#application('alice'), this.#application('bob')]
    this.#watch()
    const running = [this.#guard(alice.run(bob.member)), this.#guard(bob.run(alice.member))]
    for (const application of [alice, bob]) application.up()
    for (const strike of drawSchedule(seed, kills, relays)) {
      await this.#guard(this.#play(strike))
      onStrike?.(killsOf(this.#kills), this.#events)
    }
    for (const application of [alice, bob]) application.stop()
    await Promise.all(running)
    await this.#guard(Promise.all([alice.answered(), bob.answered()]))
    clearTimeout(this.#stuck)
    const members = [alice.member, bob.member]
    await Promise.all(members.map(({ client }) => client.down()))
    await Promise.all(members.map(({ daemon }) => daemon.ended()))
    const audits = await Promise.all(members.map((member) => logProblems(member, BROKEN)))
    return {
      seed,
      kills: this.#kills,
      events: this.#events,
      ...this.#ledger.totals(),
      problems: [...this.#ledger.problems(), ...audits.flat(), ...members.flatMap(keyReuse)],
    }
  }

  #application(name: Victim): Application {
    const application = this.#applications.get(name)
    if (!application) throw new Error(`${name} has no application`)
    return application
  }

  async #guard<T>(work: Promise<T>): Promise<T> {
    work.catch(this.#fail)
    return Promise.race([work, this.#failure])
  }

  async #play({ victims, after, sends }: Strike): Promise<void> {
    let gone: Promise<void>[] = []
    const strike = () => {
      gone = victims.map((victim) => this.#kill(victim))
    }
    // The kill is in the same turn as the event, before anything the event leads to.
    if (after === 0) strike()
    else {
      await new Promise<void>((resolve) => {
        this.#left = after
        this.#strike = () => {
          strike()
          resolve()
        }
      })
    }
    await Promise.all(gone)
    const survivors = [...this.#applications.values()].filter(({ name }) => !victims.includes(name as Victim))
    for (let n = 0; n < sends; n++) await Promise.all(survivors.map((application) => application.ask()))
    await Promise.all(victims.map((victim) => this.#restart(victim)))
  }

  async #kill(victim: Victim): Promise<void> {
    this.#kills[victim]++
    if (isServer(victim)) return this.#server(victim).kill()
    const application = this.#application(victim)
    application.down()
    await application.member.kill()
  }

  /** The relays of a service take turns: each is the one that was killed last until the next one is. */
  #server(victim: 'relay' | 'nats' | 'postgres'): Killable {
    const { service } = this.#mesh
    if (service === undefined) {
      return { kill: () => this.#mesh.stop('relay'), start: () => this.#mesh.restart('relay') }
    }
    if (victim !== 'relay') return service[victim]
    const relay = service.relays[this.#kills.relay % service.relays.length]!
    return { kill: () => relay.end(), start: () => relay.start() }
  }

  async #restart(victim: Victim): Promise<void> {
    if (isServer(victim)) return this.#server(victim).start()
    const application = this.#application(victim)
    await application.member.start()
    application.up()
  }

  async close(): Promise<void> {
    clearTimeout(this.#stuck)
    for (const application of this.#applications.values()) application.down()
    await this.#mesh.close()
  }
}

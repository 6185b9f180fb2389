/**
 * A relay or several as one service, a registry and daemons, each a process of its own, with clients of the daemons in the
 * test's process.
 */
import { mkdtempSync, renameSync, rmSync, symlinkSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import {
  AgentClient,
  isAgentMeshError,
  type Amid,
  type Answer,
  type AnswerInput,
  type Config,
  type IncomingRequest,
  type MessageId,
  type ProgressEvent,
} from '@agentmesh/sdk'
import { RelayService } from './relay-service.ts'
import { portOf, runServer, startDaemon, type Program, type RunningProgram } from './processes.ts'

type ServerKind = 'relay' | 'registry'

function writeClock(path: string, offsetMs: number): void {
  // Whose clock it is may look at any moment.
  symlinkSync(String(offsetMs), `${path}.next`)
  renameSync(`${path}.next`, path)
}

/** One agent: its home outlives its daemon. */
export class Member {
  readonly home: string
  readonly client: AgentClient
  readonly #config: object
  /** Of the daemon from its next start on. */
  env: Record<string, string> = {}
  daemon!: Program
  amid!: Amid

  constructor(home: string, config: object, clockOffsetMs: number) {
    this.home = home
    this.#config = config
    this.client = new AgentClient(home)
    this.setClock(clockOffsetMs)
  }

  get #clockFile(): string {
    return `${this.home}.clock`
  }

  /** The daemon's clock jumps. @param offsetMs from the true time */
  setClock(offsetMs: number): void {
    writeClock(this.#clockFile, offsetMs)
  }

  /** Resolves when the local API answers. */
  async start(): Promise<this> {
    this.daemon = startDaemon(this.home, this.#config, { clockFile: this.#clockFile, env: this.env })
    const { amid } = await this.daemon.ready<{ amid: Amid }>()
    this.amid = amid
    return this
  }

  /** Resolves when peers can reach the agent, looking at what the daemon printed from line `from` on. */
  async online(from = 0): Promise<this> {
    await this.daemon.line((line) => line['event'] === 'connection' && line['online'] === true, from)
    return this
  }

  async kill(): Promise<void> {
    await this.daemon.end('SIGKILL')
  }
}

export class ProcessMesh {
  readonly folder = mkdtempSync(join(tmpdir(), 'agentmesh-'))
  readonly #servers: Map<ServerKind, RunningProgram>
  /** Whose servers these are, where they are another mesh's. */
  readonly #host: ProcessMesh | undefined
  readonly #members = new Set<Member>()
  readonly #listeners = new Set<Listening>()
  /** Undefined where there is one relay, with a file. */
  service: RelayService | undefined

  /** Of the servers, where they have a clock of their own. */
  #clockFile: string | undefined

  private constructor(host?: ProcessMesh) {
    this.#host = host
    this.#servers = host === undefined ? new Map() : host.#servers
  }

  /** @param relays of one service, with the true time */
  static async startService(relays: number): Promise<ProcessMesh> {
    const mesh = new ProcessMesh()
    ;[mesh.service] = await Promise.all([RelayService.start(relays), mesh.#run('registry', 0)])
    return mesh
  }

  /** @param clockOffsetMs of all clocks from the true time; given, `setClocks` can move them */
  static async start(clockOffsetMs?: number): Promise<ProcessMesh> {
    const mesh = new ProcessMesh()
    if (clockOffsetMs !== undefined) {
      mesh.#clockFile = join(mesh.folder, 'servers.clock')
      mesh.setClocks(clockOffsetMs)
    }
    await Promise.all([mesh.#run('relay', 0), mesh.#run('registry', 0)])
    return mesh
  }

  /**
   * A mesh of its own with the same servers, as they run: for tests that ask neither server for what it holds of others.
   * The servers end with this one, and have true clocks.
   */
  beside(): ProcessMesh {
    return new ProcessMesh(this)
  }

  async #run(kind: ServerKind, port: number): Promise<void> {
    const data = join((this.#host ?? this).folder, `${kind}.db`)
    this.#servers.set(kind, await runServer(kind, data, port, this.#clockFile))
  }

  /** Servers and daemons see the same time. */
  setClocks(offsetMs: number): void {
    if (this.#clockFile === undefined) throw new Error('this mesh was started with true clocks')
    writeClock(this.#clockFile, offsetMs)
    for (const member of this.#members) member.setClock(offsetMs)
  }

  url(kind: ServerKind): string {
    return kind === 'relay' && this.service !== undefined ? this.service.url : this.#servers.get(kind)!.url
  }

  async stop(kind: ServerKind, signal: NodeJS.Signals = 'SIGKILL'): Promise<void> {
    await this.#servers.get(kind)!.program.end(signal)
  }

  /** The same server again: same port, same data. */
  async restart(kind: ServerKind): Promise<void> {
    await this.#run(kind, portOf(this.url(kind)))
  }

  /** A daemon that is not yet started. */
  member(name: string, config: Partial<Config> = {}, clockOffsetMs = 0): Member {
    const whole = {
      relays: [this.url('relay')],
      registry: this.url('registry'),
      display_name: name,
      ...config,
    }
    const member = new Member(join(this.folder, name), whole, clockOffsetMs)
    this.#members.add(member)
    return member
  }

  /** A daemon that peers can reach. */
  async online(name: string, config: Partial<Config> = {}): Promise<Member> {
    const member = await this.member(name, config).start()
    return member.online()
  }

  listen(member: Member, work: Work): Listening {
    const listening = new Listening(member.client, work)
    this.#listeners.add(listening)
    return listening
  }

  /** @param undo what was done to the folder, when its programs have ended */
  async close(undo: readonly (() => void)[] = []): Promise<void> {
    await Promise.all([...this.#listeners].map((listener) => listener.stop()))
    const daemons = [...this.#members].map((member) => member.daemon?.end('SIGKILL'))
    const own = this.#host === undefined ? [...this.#servers.values()] : []
    const servers = own.map(({ program }) => program.end('SIGKILL'))
    await Promise.all([...daemons, ...servers])
    await this.service?.close()
    for (const step of undo) step()
    rmSync(this.folder, { recursive: true })
  }
}

/** `handle`: what statuses are sent under. */
export type Work = (request: IncomingRequest, handle: string) => Promise<AnswerInput> | AnswerInput

/** An answering program: ends when its daemon does. */
export class Listening {
  /** Every request handed over, in order. */
  readonly handed: IncomingRequest[] = []
  /** Ids whose answer the daemon took. */
  readonly answered: MessageId[] = []
  /** What the daemon said to answers it did not take. */
  readonly refused: unknown[] = []
  readonly #abort = new AbortController()
  readonly #done: Promise<void>
  readonly #client: AgentClient
  readonly #work: Work
  #wake: () => void = () => {}

  constructor(client: AgentClient, work: Work) {
    this.#client = client
    this.#work = work
    this.#done = this.#listen().catch((error: unknown) => {
      if (!isAgentMeshError(error, 'DAEMON_NOT_RUNNING') && !isAgentMeshError(error, 'WAIT_TIMEOUT'))
        throw error
    })
  }

  async #listen(): Promise<void> {
    for await (const event of this.#client.requests(this.#abort.signal)) {
      if (event.type !== 'request') continue
      this.handed.push(event.request)
      this.#wake()
      void this.#answer(event.handle, event.request)
    }
  }

  async #answer(handle: string, request: IncomingRequest): Promise<void> {
    try {
      await this.#client.answer(handle, await this.#work(request, handle))
      this.answered.push(request.id)
      this.#wake()
    } catch (error) {
      if (!isAgentMeshError(error, 'DAEMON_NOT_RUNNING')) this.refused.push(error)
    }
  }

  /** Resolves when `condition` holds; looked at with each request and answer. */
  async until(condition: () => boolean): Promise<void> {
    while (!condition()) {
      await new Promise<void>((resolve) => {
        this.#wake = resolve
      })
    }
  }

  /** Goes away, with requests it has not answered. */
  leave(): void {
    this.#abort.abort()
  }

  async stop(): Promise<void> {
    this.leave()
    await this.#done
  }
}

/** The stages of a message up to its end. */
export async function stages(client: AgentClient, id: MessageId): Promise<ProgressEvent[]> {
  const events: ProgressEvent[] = []
  for await (const event of client.progress(id)) events.push(event)
  return events
}

/** The one answer of a message. @throws when it failed, or was answered more than once */
export async function answerOf(client: AgentClient, id: MessageId): Promise<Answer> {
  const events = await stages(client, id)
  const answers = events.flatMap(({ answer }) => (answer === undefined ? [] : [answer]))
  const [answer] = answers
  if (answer === undefined || answers.length > 1) throw new Error(`${id}: ${JSON.stringify(events)}`)
  return answer
}

/** Waits for a stage of a message. */
export async function reached(
  client: AgentClient,
  id: MessageId,
  stage: ProgressEvent['stage'],
): Promise<ProgressEvent> {
  for await (const event of client.progress(id)) if (event.stage === stage) return event
  throw new Error(`${id} never came to ${stage}`)
}

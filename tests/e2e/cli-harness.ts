/** The `agentmesh` command as its users run it: processes, exit codes, lines. Runs from the build. */
import { spawn, type ChildProcess } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'

export const ROOT = fileURLToPath(new URL('../..', import.meta.url))
export const COMMAND = join(ROOT, 'apps/cli/bin/agentmesh.js')

type Line = Record<string, unknown>
type Environment = Readonly<Record<string, string>>

export interface Ended {
  readonly code: number | null
  readonly stdout: string
  readonly stderr: string
}

export class Process {
  readonly child: ChildProcess
  readonly ended: Promise<Ended>
  stdout = ''
  stderr = ''
  #finished = false
  readonly #listeners = new Set<() => void>()

  constructor(args: readonly string[], env: Environment = {}) {
    const { AGENTMESH_HOME: _home, FORCE_COLOR: _color, ...inherited } = process.env
    this.child = spawn(process.execPath, args, { cwd: ROOT, env: { ...inherited, ...env } })
    this.child.stdout!.setEncoding('utf8')
    createInterface({ input: this.child.stdout! }).on('line', (line) => {
      this.stdout += `${line}\n`
      this.#look()
    })
    this.child.stderr!.setEncoding('utf8').on('data', (chunk: string) => {
      this.stderr += chunk
      this.#look()
    })
    this.child.stdin!.on('error', () => {})
    this.ended = new Promise((resolve) => {
      this.child.on('close', (code) => {
        this.#finished = true
        this.#look()
        resolve({ code, stdout: this.stdout, stderr: this.stderr })
      })
    })
  }

  #look(): void {
    for (const listener of this.#listeners) listener()
  }

  /** Every JSON line so far. */
  get lines(): Line[] {
    return this.stdout
      .split('\n')
      .filter((line) => line.startsWith('{'))
      .map((line) => JSON.parse(line) as Line)
  }

  /** Resolves when what was printed so far passes. */
  async until(passes: () => boolean): Promise<void> {
    await new Promise<void>((resolve, reject) => {
      const look = (): void => {
        if (passes()) resolve()
        else if (this.#finished) reject(new Error(`It ended: ${this.stdout} ${this.stderr}`))
        else return
        this.#listeners.delete(look)
      }
      this.#listeners.add(look)
      look()
    })
  }

  async line(passes: (line: Line) => boolean): Promise<Line> {
    await this.until(() => this.lines.some(passes))
    return this.lines.find(passes)!
  }

  write(text: string): void {
    this.child.stdin!.write(text)
  }

  async stop(signal: NodeJS.Signals = 'SIGTERM'): Promise<Ended> {
    this.child.kill(signal)
    return this.ended
  }
}

/** Starts a command that stays. */
export function start(args: readonly string[], env: Environment = {}): Process {
  return new Process([COMMAND, ...args], env)
}

/** Runs a command to its end. */
export async function run(args: readonly string[], env: Environment = {}, input = ''): Promise<Ended> {
  const running = start(args, env)
  running.child.stdin!.end(input)
  return running.ended
}

/** The code that an error on stderr names, with `--json`. */
export function errorCode({ stderr }: Ended): unknown {
  const line = stderr.split('\n').findLast((text) => text.startsWith('{"error"'))
  return line === undefined ? undefined : (JSON.parse(line) as { error: { code: string } }).error.code
}

/** A folder, a registry and a relay, and the agents a test makes with them. */
export class Place {
  readonly folder = mkdtempSync(join(tmpdir(), 'agentmesh-cli-'))
  #servers: Process[] = []
  #daemons = new Set<string>()
  registry = ''
  relay = ''

  async open(): Promise<void> {
    const servers = [
      start(['registry', '--port', '0', '--data', join(this.folder, 'registry.db'), '--json']),
      start(['relay', '--port', '0', '--data', join(this.folder, 'relay.db'), '--json']),
    ]
    this.#servers = servers
    const [registry, relay] = await Promise.all(servers.map((server) => server.line((line) => 'url' in line)))
    this.registry = String(registry!['url'])
    this.relay = String(relay!['url'])
  }

  /** A new agent; `up` starts its daemon. */
  async agent(name: string, ...options: readonly string[]): Promise<CliAgent> {
    const home = join(this.folder, name)
    const servers = ['--registry', this.registry, '--relay', this.relay]
    const { code, stdout, stderr } = await run(['init', '--home', home, ...servers, ...options, '--json'])
    if (code !== 0) throw new Error(stderr)
    const agent = new CliAgent(home, (JSON.parse(stdout) as { amid: string }).amid)
    this.#daemons.add(home)
    return agent
  }

  async close(): Promise<void> {
    await Promise.all([...this.#daemons].map((home) => run(['down', '--home', home])))
    await Promise.all(this.#servers.map((server) => server.stop()))
    rmSync(this.folder, { recursive: true })
  }
}

export class CliAgent {
  readonly home: string
  readonly amid: string

  constructor(home: string, amid: string) {
    this.home = home
    this.amid = amid
  }

  run(...args: readonly string[]): Promise<Ended> {
    return run([...args, '--home', this.home])
  }

  start(...args: readonly string[]): Process {
    return start([...args, '--home', this.home])
  }

  /** The one JSON value a command prints. */
  async value<T = Line>(...args: readonly string[]): Promise<T> {
    const { code, stdout, stderr } = await this.run(...args, '--json')
    if (code !== 0) throw new Error(`${args.join(' ')} ended with ${code}: ${stderr}`)
    return JSON.parse(stdout) as T
  }

  /** Starts the daemon and waits until peers can reach it. */
  async up(): Promise<this> {
    let state = await this.value<{ relay: Line; registry: Line }>('up')
    while (state.relay['state'] !== 'connected' || state.registry['state'] !== 'registered') {
      state = await this.value('status')
    }
    return this
  }
}

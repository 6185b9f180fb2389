/**
 * The real programs as processes of their own, for tests that end them at bad moments. They run from the build: `npm
 * test` builds first.
 */
import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'

const root = fileURLToPath(new URL('../..', import.meta.url))

type Line = Record<string, unknown>

interface Waiting {
  from: number
  matches(line: Line): boolean
  resolve(line: Line): void
  reject(error: Error): void
}

export class Program {
  readonly #child: ChildProcess
  readonly #exited: Promise<unknown>
  readonly #lines: Line[] = []
  #waiting: Waiting[] = []
  stderr = ''

  constructor(args: readonly string[], env: Readonly<Record<string, string>> = {}) {
    this.#child = spawn(process.execPath, args, {
      cwd: root,
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { ...process.env, ...env },
    })
    this.#child.stderr?.setEncoding('utf8').on('data', (chunk: string) => {
      this.stderr = (this.stderr + chunk).slice(-20_000)
    })
    createInterface({ input: this.#child.stdout! }).on('line', (text) => {
      this.#lines.push(JSON.parse(text) as Line)
      this.#look()
    })
    // `close` comes after the last line of output, `exit` may come before it.
    this.#exited = once(this.#child, 'close')
    this.#child.on('close', () => {
      for (const { reject } of this.#waiting) reject(this.#ended())
      this.#waiting = []
    })
  }

  get pid(): number {
    return this.#child.pid ?? 0
  }

  get exitCode(): number | null {
    return this.#child.exitCode
  }

  /** How many lines of output there are, to wait for later ones only. */
  get lineCount(): number {
    return this.#lines.length
  }

  /** The first line of standard output: how a program says it is ready. */
  async ready<T extends object>(): Promise<T> {
    return (await this.line(() => true)) as T
  }

  /** The first line that matches, printed or still to come. */
  async line(matches: (line: Line) => boolean, from = 0): Promise<Line> {
    return new Promise((resolve, reject) => {
      this.#waiting.push({ from, matches, resolve, reject })
      this.#look()
      // It may be gone already, with its last lines still to be read.
      void this.#exited.finally(() => reject(this.#ended()))
    })
  }

  #ended(): Error {
    return new Error(`The program ended: ${this.stderr}`)
  }

  #look(): void {
    this.#waiting = this.#waiting.filter(({ from, matches, resolve }) => {
      const found = this.#lines.slice(from).find((line) => matches(line))
      if (found) resolve(found)
      return found === undefined
    })
  }

  /** Sends a signal and waits for the end. */
  async end(signal: NodeJS.Signals = 'SIGTERM'): Promise<void> {
    if (this.#child.exitCode === null && this.#child.signalCode === null) this.#child.kill(signal)
    await this.#exited
  }

  /** Waits for a program that ends by itself. */
  async ended(): Promise<number | null> {
    await this.#exited
    return this.#child.exitCode
  }
}

export interface RunningProgram {
  readonly program: Program
  readonly url: string
  /** Where its figures are; `url` where they have no address of their own. */
  readonly metricsUrl: string
}

/**
 * @param port 0 for any free one; a fixed one to come back at the same address
 * @param clockFile see clock.mjs
 * @param more arguments
 */
export async function runServer(
  kind: 'relay' | 'registry',
  dataPath: string,
  port = 0,
  clockFile?: string,
  more: readonly string[] = [],
): Promise<RunningProgram> {
  const args = [`apps/${kind}/dist/main.js`, '--data', dataPath, '--port', String(port), ...more]
  const program =
    clockFile === undefined
      ? new Program(args)
      : new Program(['--import', './tests/support/clock.mjs', ...args], { AGENTMESH_TEST_CLOCK: clockFile })
  const { url, metrics_port: metricsPort } = await program.ready<{ url: string; metrics_port?: number }>()
  const metricsUrl = metricsPort === undefined ? url : `http://127.0.0.1:${metricsPort}`
  return { program, url, metricsUrl }
}

/** What a daemon runs in. */
export interface Surroundings {
  /** See daemon.mjs. */
  readonly clockFile?: string
  readonly env?: Readonly<Record<string, string>>
}

/** A daemon of a home; `ready` resolves when its local API answers. */
export function startDaemon(home: string, config: object, { clockFile, env }: Surroundings = {}): Program {
  const args = ['tests/support/daemon.mjs', home, JSON.stringify(config)]
  return new Program(clockFile === undefined ? args : [...args, clockFile], env)
}

export function portOf(url: string): number {
  return Number(new URL(url).port)
}

/**
 * The real programs as processes of their own, for tests that end them at bad moments. They run from the build: `npm
 * test` builds first.
 */
import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'

const root = fileURLToPath(new URL('../..', import.meta.url))

export class Program {
  readonly #child: ChildProcess
  readonly #exited: Promise<unknown>
  stderr = ''

  constructor(args: readonly string[]) {
    this.#child = spawn(process.execPath, args, { cwd: root, stdio: ['ignore', 'pipe', 'pipe'] })
    this.#exited = once(this.#child, 'exit')
    this.#child.stderr?.setEncoding('utf8').on('data', (chunk: string) => {
      this.stderr = (this.stderr + chunk).slice(-20_000)
    })
  }

  get pid(): number {
    return this.#child.pid ?? 0
  }

  /** The first line of standard output, as JSON: how a program says it is ready. */
  async ready<T>(): Promise<T> {
    const lines = createInterface({ input: this.#child.stdout! })
    const line = await Promise.race([
      once(lines, 'line').then(([text]) => String(text)),
      this.#exited.then(() => undefined),
    ])
    if (line === undefined) throw new Error(`The program ended before it was ready: ${this.stderr}`)
    return JSON.parse(line) as T
  }

  /** Sends a signal and waits for the end. */
  async end(signal: NodeJS.Signals = 'SIGTERM'): Promise<void> {
    if (this.#child.exitCode === null && this.#child.signalCode === null) this.#child.kill(signal)
    await this.#exited
  }
}

export interface RunningProgram {
  readonly program: Program
  readonly url: string
}

/** @param port 0 for any free one; a fixed one to come back at the same address */
export async function runServer(
  kind: 'relay' | 'registry',
  dataPath: string,
  port = 0,
): Promise<RunningProgram> {
  const program = new Program([`apps/${kind}/dist/main.js`, '--data', dataPath, '--port', String(port)])
  const { url } = await program.ready<{ url: string }>()
  return { program, url }
}

/** A daemon of a home; its local API answers when this resolves. */
export async function runDaemonProcess(home: string, config: object): Promise<Program> {
  const program = new Program(['tests/support/daemon.mjs', home, JSON.stringify(config)])
  await program.ready()
  return program
}

export function portOf(url: string): number {
  return Number(new URL(url).port)
}

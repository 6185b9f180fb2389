/** The processes of the demonstration: started, spoken to, and all of them ended whatever happens. */
import { spawn, type ChildProcessByStdio } from 'node:child_process'
import { createInterface } from 'node:readline'
import type { Readable, Writable } from 'node:stream'
import { fileURLToPath } from 'node:url'
import { COMMAND } from '../commands/shared.ts'

const END_MS = 5_000
/** What a machine under load may need for one step. */
const WAIT_MS = 30_000

export interface Finished {
  readonly code: number | null
  readonly stdout: string
  readonly stderr: string
}

type Line = Record<string, unknown>
type Child = ChildProcessByStdio<Writable, Readable, Readable>

/** A command line in words; what stands in `${}` stays one argument, whatever it holds. */
export function words(texts: TemplateStringsArray, ...values: readonly (string | number)[]): string[] {
  return texts.flatMap((text, index) => {
    const value = values[index]
    return [...text.split(/\s+/).filter(Boolean), ...(value === undefined ? [] : [String(value)])]
  })
}

export class DemoFailure extends Error {
  override readonly name = 'DemoFailure'
}

/** One process that prints JSON lines. */
export class Running {
  readonly name: string
  readonly #child: Child
  readonly #lines: Line[] = []
  readonly #listeners = new Set<() => void>()
  readonly ended: Promise<Finished>
  #stderr = ''
  #stdout = ''
  #isEnded = false
  #isStopped = false

  constructor(name: string, child: Child) {
    this.name = name
    this.#child = child
    child.stderr.setEncoding('utf8').on('data', (text: string) => (this.#stderr += text))
    createInterface({ input: child.stdout }).on('line', (line) => {
      this.#stdout += `${line}\n`
      const value = jsonOf(line)
      if (value !== undefined) this.#lines.push(value)
      this.#wake()
    })
    this.ended = new Promise((resolve) => {
      const finish = (code: number | null): void => {
        this.#isEnded = true
        resolve({ code, stdout: this.#stdout, stderr: this.#stderr })
        this.#wake()
      }
      child.on('error', (error) => {
        this.#stderr += error.message
        finish(null)
      })
      child.on('close', finish)
    })
  }

  get pid(): number {
    return this.#child.pid ?? 0
  }

  get lines(): readonly Line[] {
    return this.#lines
  }

  #wake(): void {
    for (const listener of this.#listeners) listener()
  }

  /** The first line that passes, printed before or after the call. @throws DemoFailure when the process ends without it */
  async line(passes: (line: Line) => boolean, what: string): Promise<Line> {
    return new Promise((resolve, reject) => {
      const done = (): void => {
        clearTimeout(timer)
        this.#listeners.delete(look)
      }
      const fail = (why: string): void => {
        done()
        reject(new DemoFailure(`${this.name} ${why} before it said "${what}". ${this.#stderr.trim()}`))
      }
      const look = (): void => {
        const found = this.#lines.find(passes)
        if (found !== undefined) {
          done()
          resolve(found)
        } else if (this.#isEnded) fail('ended')
      }
      const timer = setTimeout(() => fail(`took more than ${WAIT_MS / 1000} s`), WAIT_MS)
      this.#listeners.add(look)
      look()
    })
  }

  tell(value: object): void {
    this.#child.stdin.write(`${JSON.stringify(value)}\n`)
  }

  /** Resolves when it ends: with what it last said, or undefined when it was stopped. */
  async lost(): Promise<string | undefined> {
    await this.ended
    return this.#isStopped ? undefined : `${this.name} ended by itself. ${this.#stderr.trim()}`.trim()
  }

  /** SIGTERM, and SIGKILL for what does not listen. */
  async stop(): Promise<Finished> {
    this.#isStopped = true
    if (!this.#isEnded) this.#child.kill('SIGTERM')
    const timer = setTimeout(() => this.#child.kill('SIGKILL'), END_MS)
    try {
      return await this.ended
    } finally {
      clearTimeout(timer)
    }
  }
}

export class Processes {
  readonly #running = new Set<Running>()
  #lose: (failure: DemoFailure) => void = () => {}
  /** Rejects when one that all others need is lost, for which they would wait in vain. */
  readonly lost = new Promise<never>((_resolve, reject) => {
    this.#lose = reject
  })

  constructor() {
    this.lost.catch(() => {})
  }

  /** Called once for each process that all others need. */
  need(running: Running): Running {
    void this.#watch(running)
    return running
  }

  async #watch(running: Running): Promise<void> {
    const what = await running.lost()
    if (what !== undefined) this.#lose(new DemoFailure(what))
  }

  /** Starts an `agentmesh` command that stays. */
  start(name: string, args: readonly string[]): Running {
    return this.#spawn(name, [COMMAND, ...args])
  }

  /** Starts a program of our own. */
  program(name: string, url: URL, args: readonly string[]): Running {
    return this.#spawn(name, [fileURLToPath(url), ...args])
  }

  /** Runs an `agentmesh` command to its end. */
  async run(args: readonly string[]): Promise<Finished> {
    return this.start(`agentmesh ${args[0]}`, args).ended
  }

  /** As `run`, for a command that must succeed and print one JSON value. @throws DemoFailure */
  async value<T>(args: readonly string[]): Promise<T> {
    const { code, stdout, stderr } = await this.run([...args, '--json'])
    if (code !== 0) throw new DemoFailure(`agentmesh ${args.join(' ')} ended with ${code}: ${stderr.trim()}`)
    return JSON.parse(stdout) as T
  }

  #spawn(name: string, args: readonly string[]): Running {
    const {
      AGENTMESH_HOME: _home,
      AGENTMESH_PASSPHRASE: _passphrase,
      DATABASE_URL: _url,
      ...env
    } = process.env
    const child = spawn(process.execPath, args, { env, stdio: ['pipe', 'pipe', 'pipe'] })
    // A process that has ended reads nothing more.
    child.stdin.on('error', () => {})
    const running = new Running(name, child)
    this.#running.add(running)
    void running.ended.then(() => this.#running.delete(running))
    return running
  }

  async stopAll(): Promise<void> {
    await Promise.all([...this.#running].map((running) => running.stop()))
  }
}

function jsonOf(line: string): Line | undefined {
  try {
    return JSON.parse(line) as Line
  } catch {
    return undefined
  }
}

/** A relay, a registry, daemons and listeners for a bench, each a process of its own in a temporary folder. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'

const program = fileURLToPath(new URL('process.mjs', import.meta.url))

export class Mesh {
  folder
  /** @type {import('node:child_process').ChildProcess[]} */
  #children = []

  /** @param {string} [base] the folder, and with it the disk, of everything that is stored */
  constructor(base = tmpdir()) {
    this.folder = mkdtempSync(join(base, 'agentmesh-bench-'))
  }

  /**
   * Runs `process.mjs` and waits for its word. `ask` puts a question to it: `cpu`, or what its kind answers.
   * @param {...string} args
   */
  async run(...args) {
    const { child, word } = await this.#spawn([program, ...args], ['ipc'])
    const ask = async (/** @type {string} */ question) => {
      const answer = once(child, 'message')
      child.send(question)
      return (await answer)[0]
    }
    return { word, ask }
  }

  /**
   * Runs a Node program that prints a JSON line when it is ready.
   * @param {readonly string[]} args
   */
  async runProgram(args) {
    const { child, word } = await this.#spawn(args, [])
    return { pid: child.pid ?? 0, word }
  }

  /**
   * @param {readonly string[]} args
   * @param {readonly 'ipc'[]} channel
   * @returns {Promise<{ child: import('node:child_process').ChildProcess, word: any }>}
   */
  async #spawn(args, channel) {
    const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit', ...channel] })
    if (child.stdout === null) throw new Error('no output')
    this.#children.push(child)
    const lines = createInterface({ input: child.stdout })
    const [line] = await Promise.race([
      once(lines, 'line'),
      once(child, 'exit').then(() => Promise.reject(new Error(`${args.join(' ')} ended`))),
    ])
    return { child, word: JSON.parse(String(line)) }
  }

  async servers() {
    const [relay, registry] = await Promise.all([
      this.run('relay', this.folder),
      this.run('registry', this.folder),
    ])
    return {
      relay,
      registry,
      config: JSON.stringify({ relays: [relay.word.url], registry: registry.word.url }),
    }
  }

  /** @param {string} name */
  home(name) {
    return join(this.folder, name)
  }

  async close() {
    // The last one first: a listener without its daemon would complain.
    for (const child of this.#children.toReversed()) {
      if (child.exitCode !== null) continue
      const ended = once(child, 'exit')
      child.kill('SIGKILL')
      await ended
    }
    rmSync(this.folder, { recursive: true })
  }
}

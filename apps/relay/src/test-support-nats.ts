/** A real nats-server for tests, on a port of its own, that may be killed and started again; and a way to cut a relay off. */
import { spawn, spawnSync, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { connect, createServer, type AddressInfo, type Server, type Socket } from 'node:net'
import { createInterface } from 'node:readline'

/** Under CI a test that needs it runs and fails; elsewhere it is skipped by name. */
export const natsMissing =
  process.env['CI'] !== 'true' && spawnSync('nats-server', ['--version']).status !== 0

export class TestNats {
  readonly port: number
  readonly #args: readonly string[]
  #child!: ChildProcess

  private constructor(port: number, args: readonly string[]) {
    this.port = port
    this.#args = args
  }

  /** @param args more of them for nats-server */
  static async start(...args: string[]): Promise<TestNats> {
    const nats = new TestNats(await freePort(), args)
    await nats.start()
    return nats
  }

  get url(): string {
    return `nats://127.0.0.1:${this.port}`
  }

  /** Resolves when it takes connections. */
  async start(): Promise<void> {
    this.#child = spawn('nats-server', ['-a', '127.0.0.1', '-p', String(this.port), ...this.#args], {
      stdio: ['ignore', 'ignore', 'pipe'],
    })
    const ended = once(this.#child, 'exit').then(([code]) => {
      throw new Error(`nats-server ended with ${String(code)}`)
    })
    ended.catch(() => {})
    const ready = (async () => {
      for await (const line of createInterface({ input: this.#child.stderr! })) {
        if (line.includes('Server is ready')) return
      }
      await ended
    })()
    await Promise.race([ready, ended])
    this.#child.stderr?.resume()
  }

  async kill(): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return
    this.#child.kill('SIGKILL')
    await once(this.#child, 'exit')
  }
}

/** Stands in front of a port, and behaves like a network that fails. */
export class TcpProxy {
  readonly #server: Server
  readonly #target: () => number
  readonly #sockets = new Set<Socket>()
  #state: 'open' | 'cut' | 'frozen' = 'open'

  private constructor(server: Server, target: () => number) {
    this.#server = server
    this.#target = target
    server.on('connection', (socket) => this.#join(socket))
  }

  /** @param target asked at each connection */
  static async start(target: () => number, port = 0): Promise<TcpProxy> {
    const server = createServer()
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject)
      server.listen(port, '127.0.0.1', resolve)
    })
    return new TcpProxy(server, target)
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port
  }

  #join(near: Socket): void {
    if (this.#state === 'cut') {
      near.destroy()
      return
    }
    const far = connect(this.#target(), '127.0.0.1')
    for (const [socket, other] of [
      [near, far],
      [far, near],
    ] as const) {
      this.#sockets.add(socket)
      socket.on('error', () => socket.destroy())
      socket.on('data', (chunk) => this.#state === 'frozen' || other.write(chunk))
      socket.on('end', () => this.#state === 'frozen' || other.end())
      socket.on('close', () => {
        this.#sockets.delete(socket)
        if (this.#state !== 'frozen') other.destroy()
      })
    }
  }

  /** Ends every connection and lets none through. */
  cut(): void {
    this.#state = 'cut'
    for (const socket of this.#sockets) socket.destroy()
  }

  /** Loses every byte, and tells nobody. */
  freeze(): void {
    this.#state = 'frozen'
  }

  heal(): void {
    // What lost bytes cannot go on.
    if (this.#state === 'frozen') this.cut()
    this.#state = 'open'
  }

  async close(): Promise<void> {
    this.cut()
    await new Promise((resolve) => {
      this.#server.close(resolve)
    })
  }
}

export function freePort(): Promise<number> {
  return new Promise((resolve) => {
    const probe = createServer().listen(0, '127.0.0.1', () => {
      const { port } = probe.address() as AddressInfo
      probe.close(() => resolve(port))
    })
  })
}

/** TCP doors before or instead of a relay: one far away, and one that leads nowhere and counts who knocks at it. */
import { once } from 'node:events'
import { connect, createServer, type AddressInfo, type Server, type Socket } from 'node:net'

class Door {
  readonly #server: Server
  readonly #sockets = new Set<Socket>()
  /** Connections so far. */
  opened = 0
  #waiting: (() => void)[] = []

  protected constructor(onSocket: (socket: Socket) => Socket | undefined) {
    this.#server = createServer((socket) => {
      this.opened += 1
      for (const wake of this.#waiting.splice(0)) wake()
      for (const each of [socket, onSocket(socket)]) {
        if (each === undefined) continue
        this.#sockets.add(each)
        each.on('error', () => each.destroy())
        each.on('close', () => this.#sockets.delete(each))
      }
    })
  }

  protected async listen(): Promise<this> {
    this.#server.listen(0, '127.0.0.1')
    await once(this.#server, 'listening')
    return this
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port
  }

  get authority(): string {
    return `127.0.0.1:${this.port}`
  }

  /** Resolves when so many connections have come. */
  async until(count: number): Promise<void> {
    while (this.opened < count) await new Promise<void>((resolve) => this.#waiting.push(resolve))
  }

  async close(): Promise<void> {
    const closed = once(this.#server, 'close')
    this.#server.close()
    for (const socket of this.#sockets) socket.destroy()
    await closed
  }
}

/** Carries every byte both ways, each so many milliseconds late. */
export class FarDoor extends Door {
  static async start(milliseconds: number, port: () => number): Promise<FarDoor> {
    const door = new FarDoor((near) => {
      const far = connect(port(), '127.0.0.1')
      for (const [from, to] of [
        [near, far],
        [far, near],
      ] as const) {
        from.on('data', (bytes) => setTimeout(() => to.write(bytes), milliseconds))
        from.on('close', () => setTimeout(() => to.destroy(), milliseconds))
      }
      return far
    })
    return door.listen()
  }
}

/** Takes connections and says nothing. */
export class SilentDoor extends Door {
  static async start(): Promise<SilentDoor> {
    return new SilentDoor(() => undefined).listen()
  }
}

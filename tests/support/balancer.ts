/**
 * One address in front of several relays, as a service has: each connection goes to the next relay in turn that takes it.
 * It knows nothing of relays but their ports.
 */
import { once } from 'node:events'
import { connect, createServer, type AddressInfo, type Server, type Socket } from 'node:net'

export class Balancer {
  readonly #server: Server
  readonly #ports: readonly number[]
  readonly #sockets = new Set<Socket>()
  #next = 0

  private constructor(server: Server, ports: readonly number[]) {
    this.#server = server
    this.#ports = ports
    server.on('connection', (near) => {
      near.on('error', () => near.destroy())
      this.#dial(near, this.#next++, this.#ports.length)
    })
  }

  /** @param ports may be filled in later: a relay must know the balancer's address before it starts */
  static async start(ports: readonly number[]): Promise<Balancer> {
    const server = createServer({ pauseOnConnect: true }).listen(0, '127.0.0.1')
    await once(server, 'listening')
    return new Balancer(server, ports)
  }

  /** What agents dial, and relays must take for their name. */
  get authority(): string {
    return `127.0.0.1:${(this.#server.address() as AddressInfo).port}`
  }

  /** The relay that the next connection goes to. */
  turnTo(index: number): void {
    this.#next = index
  }

  #dial(near: Socket, index: number, tries: number): void {
    const port = this.#ports[index % this.#ports.length]
    if (port === undefined || tries === 0) {
      near.destroy()
      return
    }
    const far = connect(port, '127.0.0.1')
    const refused = () => this.#dial(near, index + 1, tries - 1)
    far.once('error', refused)
    far.once('connect', () => {
      far.off('error', refused)
      far.on('error', () => far.destroy())
      for (const [socket, other] of [
        [near, far],
        [far, near],
      ] as const) {
        this.#sockets.add(socket)
        socket.on('close', () => {
          this.#sockets.delete(socket)
          other.destroy()
        })
        socket.pipe(other)
      }
    })
  }

  async close(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy()
    this.#server.close()
    await once(this.#server, 'close')
  }
}

/**
 * One machine that attacks: all it opens comes from one address of the loopback network, so that a server tells it from the
 * honest ones at 127.0.0.1.
 */
import { once } from 'node:events'
import { request as httpRequest, type OutgoingHttpHeaders } from 'node:http'
import { connect, type Socket } from 'node:net'
import { RawAgent } from '../e2e/relay-harness.ts'
import { onTestFinished } from 'vitest'
import { portOf, type RunningProgram } from './processes.ts'

export interface HttpAnswer {
  /** 0: the connection was closed without one. */
  readonly status: number
  readonly text: string
}

let machines = 0

/** A machine of the test's own: what it opened is gone when the test ends. */
export function hostile(): HostileMachine {
  const machine = new HostileMachine()
  onTestFinished(() => machine.close())
  return machine
}

class HostileMachine {
  /** Another one for each: what one has used up is not the next one's. */
  readonly address = `127.0.0.${++machines + 1}`
  readonly #sockets: Socket[] = []
  readonly #agents: RawAgent[] = []

  /** Resolves when it is connected; what becomes of it is told by its events. */
  async tcp(url: string): Promise<Socket> {
    const socket = connect({ host: '127.0.0.1', port: portOf(url), localAddress: this.address })
    this.#sockets.push(socket)
    socket.on('error', () => {})
    socket.resume()
    await Promise.race([once(socket, 'connect'), once(socket, 'close')])
    return socket
  }

  tcps(url: string, count: number): Promise<Socket[]> {
    return Promise.all(Array.from({ length: count }, () => this.tcp(url)))
  }

  /** One request on a connection of its own. */
  request(url: string, { method = 'GET', headers = {}, body = '' }: RequestParts = {}): Promise<HttpAnswer> {
    return new Promise((resolve) => {
      const nothing = () => resolve({ status: 0, text: '' })
      const options = { method, headers, localAddress: this.address, agent: false }
      const request = httpRequest(url.replace(/^ws/, 'http'), options, (response) => {
        let text = ''
        response.setEncoding('utf8').on('data', (chunk: string) => (text += chunk))
        response.on('end', () => resolve({ status: response.statusCode ?? 0, text }))
        response.on('error', nothing)
      })
      request.on('error', nothing)
      request.end(body)
    })
  }

  /** A WebSocket that has not connected as an agent. */
  stranger(url: string, identity?: RawAgent['identity']): RawAgent {
    const agent = new RawAgent(url, 'bin', identity, {}, this.address)
    this.#agents.push(agent)
    return agent
  }

  /** An agent with an AMID of its own; undefined when it was not let in. */
  async agent(url: string, identity?: RawAgent['identity']): Promise<RawAgent | undefined> {
    const agent = this.stranger(url, identity)
    return agent.connect().then(
      () => agent,
      () => undefined,
    )
  }

  /** Those that were let in. */
  async agents(url: string, count: number): Promise<RawAgent[]> {
    const all: RawAgent[] = []
    for (let n = 0; n < count; n++) {
      const agent = await this.agent(url)
      if (agent !== undefined) all.push(agent)
    }
    return all
  }

  close(): void {
    for (const socket of this.#sockets) socket.destroy()
    for (const agent of this.#agents) agent.webSocket.terminate()
  }
}

interface RequestParts {
  readonly method?: string
  readonly headers?: OutgoingHttpHeaders
  readonly body?: string
}

/** Until all of them are closed. */
export async function allClosed(sockets: readonly Socket[]): Promise<void> {
  await Promise.all(sockets.map(async (socket) => socket.closed || once(socket, 'close')))
}

/** A server's figures, read from 127.0.0.1. */
export async function figures({ metricsUrl }: RunningProgram): Promise<Figures> {
  const answer = await fetch(`${metricsUrl}/metrics`)
  if (!answer.ok) throw new Error(`no figures: ${answer.status}`)
  return new Figures(await answer.text())
}

export class Figures {
  readonly #values = new Map<string, number>()

  constructor(text: string) {
    for (const line of text.split('\n')) {
      const at = line.lastIndexOf(' ')
      if (at > 0 && !line.startsWith('#')) this.#values.set(line.slice(0, at), Number(line.slice(at + 1)))
    }
  }

  /** How many numbers the server keeps. */
  get count(): number {
    return this.#values.size
  }

  /** 0 for one that is not there, as one of a code that never came. */
  of(name: string, labels = ''): number {
    return this.#values.get(labels === '' ? name : `${name}{${labels}}`) ?? 0
  }
}

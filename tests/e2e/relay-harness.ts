/** Raw agents for relay tests: a WebSocket, a codec, and nothing that would correct a test's mistakes. */
import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { WebSocket } from 'ws'
import { ed25519KeyPair, sign, systemRandom } from '@agentmesh/sdk/crypto/signing'
import { connectSignatureParts, identityFromKeyPair, type Identity } from '@agentmesh/sdk/identity'
import {
  binaryCodec,
  jsonCodec,
  newMessageId,
  PROTOCOL_VERSION,
  RELAY_PATH,
  utf8Bytes,
  utf8Text,
  type AgentFrame,
  type Amid,
  type ConnectFrame,
  type HelloFrame,
  type MessageId,
  type MessageType,
  type PresenceState,
  type RelayFrame,
} from '@agentmesh/sdk/wire'

export type Subprotocol = 'bin' | 'json'
export const SUBPROTOCOLS: readonly Subprotocol[] = ['bin', 'json']

export function newIdentity(): Identity {
  return identityFromKeyPair(ed25519KeyPair(systemRandom(32)))
}

/** The answer to a relay's HELLO. */
export function signConnect(
  { amid, signing }: Identity,
  hello: HelloFrame,
  changes: Partial<ConnectFrame> & { relayId?: string } = {},
): ConnectFrame {
  const { publicKey, secretKey } = signing
  const { relayId = hello.relayId, ...rest } = changes
  const timestamp = changes.timestamp ?? Date.now()
  const stateCounter = changes.stateCounter ?? 0
  const parts = connectSignatureParts(relayId, hello.nonce, amid, publicKey, timestamp, stateCounter)
  return {
    frame: 'CONNECT',
    protocol: PROTOCOL_VERSION,
    amid,
    publicKey,
    timestamp,
    presence: 'online',
    stateCounter,
    signature: sign('connect', secretKey, ...parts),
    ...rest,
  }
}

type FrameOf<Name extends RelayFrame['frame']> = Extract<RelayFrame, { frame: Name }>

interface Waiter {
  readonly wants: (frame: RelayFrame) => boolean
  readonly resolve: (frame: RelayFrame) => void
  readonly reject: (error: Error) => void
}

export class RawAgent {
  readonly webSocket: WebSocket
  readonly identity: Identity
  /** Resolves with the close code. */
  readonly closed: Promise<number>
  /** Frames nobody has waited for yet. */
  readonly frames: RelayFrame[] = []
  readonly #codec
  #waiters: Waiter[] = []

  constructor(
    url: string,
    subprotocol: Subprotocol = 'bin',
    identity = newIdentity(),
    headers: Record<string, string> = {},
    localAddress = '127.0.0.1',
  ) {
    this.identity = identity
    this.#codec = subprotocol === 'bin' ? binaryCodec : jsonCodec
    this.webSocket = new WebSocket(url + RELAY_PATH, this.#codec.subprotocol, {
      perMessageDeflate: false,
      headers,
      localAddress,
    })
    this.webSocket.on('message', (data, isBinary) => {
      const bytes = data as Buffer
      this.#take(this.#codec.decodeFromRelay(isBinary ? bytes : bytes.toString()))
    })
    this.webSocket.on('error', () => {})
    this.closed = new Promise((resolve) => {
      this.webSocket.on('close', (code) => {
        for (const waiter of this.#waiters) waiter.reject(new Error(`closed with ${code} while waiting`))
        this.#waiters = []
        resolve(code)
      })
    })
  }

  get amid(): Amid {
    return this.identity.amid
  }

  #take(frame: RelayFrame): void {
    const index = this.#waiters.findIndex((waiter) => waiter.wants(frame))
    if (index < 0) this.frames.push(frame)
    else this.#waiters.splice(index, 1)[0]!.resolve(frame)
  }

  /** The next frame of this name (and, where given, that passes), in the order of arrival. */
  async next<Name extends RelayFrame['frame']>(
    name: Name,
    passes: (frame: FrameOf<Name>) => boolean = () => true,
  ): Promise<FrameOf<Name>> {
    const wants = (frame: RelayFrame) => frame.frame === name && passes(frame as FrameOf<Name>)
    const index = this.frames.findIndex(wants)
    if (index >= 0) return this.frames.splice(index, 1)[0] as FrameOf<Name>
    if (this.webSocket.readyState === WebSocket.CLOSED) throw new Error(`closed without ${name}`)
    return new Promise((resolve, reject) => {
      this.#waiters.push({ wants, resolve: resolve as Waiter['resolve'], reject })
    })
  }

  write(frame: AgentFrame): void {
    this.webSocket.send(this.#codec.encode(frame))
  }

  signConnect(hello: HelloFrame, changes: Partial<ConnectFrame> & { relayId?: string } = {}): ConnectFrame {
    return signConnect(this.identity, hello, changes)
  }

  async connect(presence: PresenceState = 'online'): Promise<FrameOf<'CONNECTED'>> {
    this.write(this.signConnect(await this.next('HELLO'), { presence }))
    return this.next('CONNECTED')
  }

  send(to: Amid, text: string, type: MessageType = 'message', id: MessageId = newMessageId(systemRandom)) {
    this.write({ frame: 'SEND', id, to, type, payload: utf8Bytes(text) })
    return id
  }

  /** What the relay answered to this SEND: its status, or the refusal's code. */
  async outcome(id: MessageId): Promise<string> {
    const sent = await this.next('SENT', (frame) => frame.id === id)
    return sent.code ?? sent.status
  }

  async receive(): Promise<{ sequence: number; from: Amid; type: MessageType; text: string }> {
    const { sequence, from, type, payload } = await this.next('RECEIVE')
    return { sequence, from, type, text: utf8Text(payload) }
  }

  /** Receives that many texts, acknowledging the last. */
  async receiveTexts(count: number): Promise<string[]> {
    const texts: string[] = []
    for (let index = 0; index < count; index++) {
      const { sequence, text } = await this.receive()
      texts.push(text)
      if (index === count - 1) this.ack(sequence)
    }
    return texts
  }

  ack(sequence: number, stateCounter = 0): void {
    this.write({ frame: 'ACK', sequence, stateCounter })
  }

  /** A relay answers a connection's frames in order: when this returns, all before it has been looked at. */
  async settle(): Promise<void> {
    this.write({ frame: 'PRESENCE_QUERY', amid: this.amid })
    await this.next('PRESENCE_RESULT')
  }

  async close(): Promise<void> {
    this.webSocket.close()
    await this.closed
  }
}

export async function connected(
  url: string,
  options: { subprotocol?: Subprotocol; identity?: Identity; presence?: PresenceState } = {},
): Promise<RawAgent> {
  const agent = new RawAgent(url, options.subprotocol, options.identity)
  await agent.connect(options.presence)
  return agent
}

export async function temporaryFolder(): Promise<{ path: string; remove: () => Promise<void> }> {
  const path = await mkdtemp(join(tmpdir(), 'agentmesh-relay-'))
  return { path, remove: async () => rm(path, { recursive: true, force: true }) }
}

export interface RelayProcess {
  readonly url: string
  readonly port: number
  readonly child: ChildProcess
  /** Resolves with exit code or signal. */
  end(signal: NodeJS.Signals): Promise<number | NodeJS.Signals | null>
}

const MAIN = fileURLToPath(new URL('../../apps/relay/dist/main.js', import.meta.url))

/**
 * A relay in a process of its own; needs `tsc -b`.
 *
 * @param data file, or URL of a PostgreSQL database
 * @param logLevel `silent` where failures of its own are what is tested
 */
export async function spawnRelay(
  data: string,
  port = 0,
  logLevel: 'error' | 'silent' = 'error',
): Promise<RelayProcess> {
  const store = data.startsWith('postgres:') ? { DATABASE_URL: data } : { AGENTMESH_RELAY_DATA: data }
  const child = spawn(process.execPath, [MAIN, '--port', String(port), '--log-level', logLevel], {
    stdio: ['ignore', 'pipe', 'inherit'],
    env: { ...process.env, ...store },
  })
  const ended = once(child, 'exit').then(
    ([code, signal]) => (code ?? signal) as number | NodeJS.Signals | null,
  )
  const line = await Promise.race([
    once(createInterface({ input: child.stdout }), 'line').then(([text]) => text as string),
    ended.then((how) => Promise.reject(new Error(`The relay ended with ${how} before it listened`))),
  ])
  const { url } = JSON.parse(line) as { url: string }
  return {
    url,
    port: Number(new URL(url).port),
    child,
    async end(signal) {
      child.kill(signal)
      return ended
    },
  }
}

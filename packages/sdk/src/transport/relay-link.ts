/**
 * One WebSocket to a relay, from dialling to its end (specification §4.2, DESIGN §6). Ends once, with an error; whoever
 * holds it decides what then.
 *
 *     dial -> HELLO -> CONNECT -> CONNECTED -> SEND/SENT, RECEIVE/ACK, presence -> end
 *
 * The relay's HELLO must name the address that was dialled: else a relay in the middle could have us sign another one's
 * challenge. Frames of one event-loop turn leave in one write, acknowledgements as one ACK.
 */
import type { Socket } from 'node:net'
import { WebSocket, type RawData } from 'ws'
import { sign } from '../crypto/signing.ts'
import { connectSignatureParts, type Identity } from '../identity/index.ts'
import {
  AgentMeshError,
  isAgentMeshError,
  MAX_JSON_FRAME_BYTES,
  MAX_PAYLOAD_BYTES,
  PROTOCOL_VERSIONS,
  type AgentFrame,
  type Amid,
  type ConnectedFrame,
  type ErrorFrame,
  type HelloFrame,
  type MessageId,
  type PresenceState,
  type ReceiveFrame,
  type RelayCodec,
  type RelayFrame,
  type SentFrame,
} from '../wire/index.ts'
import { AckTracker } from './ack-tracker.ts'
import type { Delay } from './backoff.ts'
import { deferred, type Deferred } from './deferred.ts'
import { checkPeerRelay, guardedLookup, type OwnKinds } from './relay-address.ts'
import { relayUrl } from './relay-url.ts'
import type { OutgoingMessage, ReceivedMessage, SentResult, StateClaim } from './transport.ts'

/** From dialling to CONNECTED. */
const CONNECT_TIMEOUT_MS = 15_000
/** A relay that is silent for a whole interval, its pong included, is gone. */
const PING_INTERVAL_MS = 20_000
const CLOSE_GRACE_MS = 2_000
/** SENDs without an answer; more wait here, so that one sender cannot overrun a receiver's window. */
const MAX_UNANSWERED = 256

export interface LinkOptions {
  /** `ws:` or `wss:`, with or without the path. */
  readonly url: string
  readonly identity: Identity
  readonly codec: RelayCodec
  readonly presence: PresenceState
  readonly state: StateClaim
  /** The URL is a stranger's word: what it may lead to. Absent for a relay the owner chose. */
  readonly guard?: OwnKinds
  readonly now: () => number
  readonly delay: Delay
}

export interface LinkEvents {
  onConnected(): void
  onReceive(message: ReceivedMessage): void
  /** Once. The code is the relay's own for a fatal ERROR, else RELAY_DISCONNECTED or what was wrong with a frame. */
  onEnd(error: AgentMeshError): void
}

type LinkState = 'awaiting-hello' | 'awaiting-connected' | 'connected' | 'ended'

export class RelayLink {
  readonly #options: LinkOptions
  readonly #events: LinkEvents
  readonly #webSocket: WebSocket
  readonly #authority: string
  readonly #acks = new AckTracker()
  readonly #unanswered = new Map<MessageId, Deferred<SentResult>>()
  readonly #queries: { readonly amid: Amid; readonly answer: Deferred<PresenceState> }[] = []
  readonly #closed: Promise<void>
  #queue: OutgoingMessage[] = []
  #onTheWire = 0
  #maxPayloadBytes = MAX_PAYLOAD_BYTES
  #state: LinkState = 'awaiting-hello'
  #socket: Socket | undefined
  #flush: NodeJS.Immediate | undefined
  #cancelTimer: () => void
  #alive = true

  /** @throws MALFORMED for a URL that is none, RELAY_FORBIDDEN */
  constructor(options: LinkOptions, events: LinkEvents) {
    this.#options = options
    this.#events = events
    const { guard } = options
    const url = relayUrl(guard === undefined ? options.url : checkPeerRelay(options.url, guard))
    this.#authority = url.host
    const webSocket = new WebSocket(url, options.codec.subprotocol, {
      perMessageDeflate: false,
      maxPayload: MAX_JSON_FRAME_BYTES,
      followRedirects: false,
      ...(guard === undefined ? {} : { lookup: guardedLookup(url.href, guard) }),
    })
    this.#webSocket = webSocket
    this.#cancelTimer = options.delay(CONNECT_TIMEOUT_MS, () =>
      this.#end(disconnected('No CONNECTED in time')),
    )
    webSocket.on('upgrade', (response) => (this.#socket = response.socket))
    webSocket.on('unexpected-response', (request, response) => {
      const retry = Number(response.headers['retry-after'])
      this.#end(disconnected(`The relay answered HTTP ${response.statusCode}`, { retry }))
      request.destroy()
    })
    webSocket.on('message', (data, isBinary) => this.#read(data, isBinary))
    webSocket.on('pong', () => (this.#alive = true))
    webSocket.on('error', (cause) =>
      this.#end(isAgentMeshError(cause) ? cause : disconnected(cause.message, { cause })),
    )
    this.#closed = new Promise((resolve) => {
      webSocket.on('close', (code) => {
        this.#end(disconnected(`The socket was closed (${code})`))
        resolve()
      })
    })
  }

  /** The IP address it is connected to. */
  get address(): string | undefined {
    return this.#socket?.remoteAddress
  }

  // --- what the layers above do -----------------------------------------------------------------------------------------

  async send(message: OutgoingMessage): Promise<SentResult> {
    if (this.#state !== 'connected') throw disconnected('Not connected')
    if (message.payload.length > this.#maxPayloadBytes) return { status: 'refused', code: 'TOO_LARGE' }
    const earlier = this.#unanswered.get(message.id)
    if (earlier !== undefined) return earlier.promise
    const waiting = deferred<SentResult>()
    this.#unanswered.set(message.id, waiting)
    if (this.#onTheWire < MAX_UNANSWERED) this.#sendNow(message)
    else this.#queue.push(message)
    return waiting.promise
  }

  setPresence(state: PresenceState): void {
    if (this.#state === 'connected') this.#write({ frame: 'PRESENCE', state })
  }

  async queryPresence(amid: Amid): Promise<PresenceState> {
    if (this.#state !== 'connected') throw disconnected('Not connected')
    const answer = deferred<PresenceState>()
    this.#queries.push({ amid, answer })
    this.#write({ frame: 'PRESENCE_QUERY', amid })
    return answer.promise
  }

  /** Sends what is due, says goodbye, and resolves when the socket is gone. */
  async close(): Promise<void> {
    this.#flushTurn()
    this.#end(disconnected('Closed by us'))
    await this.#closed
  }

  // --- frames -----------------------------------------------------------------------------------------------------------

  #sendNow({ id, to, type, payload }: OutgoingMessage): void {
    this.#onTheWire += 1
    this.#write({ frame: 'SEND', id, to, type, payload })
  }

  #write(frame: AgentFrame): void {
    this.#scheduleFlush()
    this.#webSocket.send(this.#options.codec.encode(frame))
  }

  #scheduleFlush(): void {
    if (this.#flush !== undefined) return
    this.#socket?.cork()
    this.#flush = setImmediate(() => this.#flushTurn())
  }

  #flushTurn(): void {
    if (this.#flush === undefined) return
    clearImmediate(this.#flush)
    const sequence = this.#state === 'connected' ? this.#acks.take() : undefined
    if (sequence !== undefined) {
      const { codec, state } = this.#options
      this.#webSocket.send(codec.encode({ frame: 'ACK', sequence, stateCounter: state.counter }))
    }
    this.#flush = undefined
    this.#socket?.uncork()
  }

  #read(data: RawData, isBinary: boolean): void {
    if (this.#state === 'ended') return
    this.#alive = true
    const bytes = data as Buffer
    try {
      this.#handle(this.#options.codec.decodeFromRelay(isBinary ? bytes : bytes.toString('utf8')))
    } catch (error) {
      if (!isAgentMeshError(error)) throw error
      // A newer relay may say things we do not know; anything else unreadable means we disagree about the bytes.
      if (error.code !== 'UNKNOWN_TYPE') this.#end(error)
    }
  }

  #handle(frame: RelayFrame): void {
    if (frame.frame === 'ERROR') return this.#handleError(frame)
    if (frame.frame === 'HELLO') return this.#handleHello(frame)
    if (frame.frame === 'CONNECTED' && this.#state === 'awaiting-connected') {
      return this.#handleConnected(frame)
    }
    if (this.#state !== 'connected') throw new AgentMeshError('MALFORMED', `${frame.frame} before CONNECTED`)
    switch (frame.frame) {
      case 'SENT':
        return this.#handleSent(frame)
      case 'RECEIVE':
        return this.#handleReceive(frame)
      case 'PRESENCE_RESULT':
        return this.#handlePresence(frame.amid, frame.state)
      case 'CONNECTED':
        throw new AgentMeshError('MALFORMED', 'CONNECTED twice')
    }
  }

  #handleHello(hello: HelloFrame): void {
    if (this.#state !== 'awaiting-hello') throw new AgentMeshError('MALFORMED', 'HELLO twice')
    if (!PROTOCOL_VERSIONS.includes(hello.protocol)) throw new AgentMeshError('UNSUPPORTED_VERSION')
    if (hello.relayId !== this.#authority) throw new AgentMeshError('RELAY_ID_MISMATCH')
    const { identity, presence, state, now } = this.#options
    const { publicKey, secretKey } = identity.signing
    const timestamp = now()
    const { amid } = identity
    const stateCounter = state.counter
    const parts = connectSignatureParts(hello.relayId, hello.nonce, amid, publicKey, timestamp, stateCounter)
    this.#maxPayloadBytes = Math.min(hello.maxPayloadBytes, MAX_PAYLOAD_BYTES)
    this.#state = 'awaiting-connected'
    this.#write({
      frame: 'CONNECT',
      protocol: hello.protocol,
      amid,
      publicKey,
      timestamp,
      presence,
      stateCounter,
      signature: sign('connect', secretKey, ...parts),
    })
  }

  #handleConnected({ stateCounter }: ConnectedFrame): void {
    if (!this.#options.state.admits(stateCounter)) return this.#end(new AgentMeshError('STATE_BEHIND'))
    this.#state = 'connected'
    this.#cancelTimer()
    this.#schedulePing()
    this.#events.onConnected()
  }

  #handleSent({ id, status, code, retryAfterSeconds }: SentFrame): void {
    const waiting = this.#unanswered.get(id)
    if (waiting === undefined) return
    this.#unanswered.delete(id)
    this.#onTheWire -= 1
    waiting.resolve({
      status,
      ...(code === undefined ? {} : { code }),
      ...(retryAfterSeconds === undefined ? {} : { retryAfterSeconds }),
    })
    const next = this.#queue.shift()
    if (next !== undefined) this.#sendNow(next)
  }

  #handleReceive({ sequence, from, type, timestamp, payload }: ReceiveFrame): void {
    this.#acks.receive(sequence)
    this.#events.onReceive({
      from,
      type,
      timestamp,
      payload,
      ack: () => {
        if (this.#state !== 'connected') return
        this.#acks.acknowledge(sequence)
        this.#scheduleFlush()
      },
    })
  }

  #handlePresence(amid: Amid, state: PresenceState): void {
    const index = this.#queries.findIndex((query) => query.amid === amid)
    if (index >= 0) this.#queries.splice(index, 1)[0]?.answer.resolve(state)
  }

  #handleError({ code, message, fatal, retryAfterSeconds }: ErrorFrame): void {
    const error = new AgentMeshError(code, message, {
      operation: 'relay',
      ...(retryAfterSeconds === undefined ? {} : { retryAfterSeconds }),
    })
    if (fatal) return this.#end(error)
    // Queries are answered in order, and are what a relay refuses for their number without naming them.
    if (code === 'RATE_LIMITED') this.#queries.shift()?.answer.reject(error)
  }

  // --- life -------------------------------------------------------------------------------------------------------------

  #schedulePing(): void {
    this.#cancelTimer = this.#options.delay(PING_INTERVAL_MS, () => {
      if (!this.#alive) {
        this.#end(disconnected('The relay shows no sign of life'))
        this.#webSocket.terminate()
        return
      }
      this.#alive = false
      this.#webSocket.ping()
      this.#schedulePing()
    })
  }

  #end(error: AgentMeshError): void {
    if (this.#state === 'ended') return
    this.#state = 'ended'
    this.#cancelTimer()
    for (const waiting of this.#unanswered.values())
      waiting.reject(disconnected(error.message, { cause: error }))
    for (const query of this.#queries) query.answer.reject(disconnected(error.message, { cause: error }))
    this.#unanswered.clear()
    this.#queue = []
    this.#queries.length = 0
    this.#webSocket.close()
    const timer = setTimeout(() => this.#webSocket.terminate(), CLOSE_GRACE_MS)
    timer.unref()
    this.#webSocket.once('close', () => clearTimeout(timer))
    this.#events.onEnd(error)
  }
}

function disconnected(reason: string, options: { cause?: unknown; retry?: number } = {}): AgentMeshError {
  const { cause, retry } = options
  return new AgentMeshError('RELAY_DISCONNECTED', reason, {
    operation: 'relay',
    ...(cause === undefined ? {} : { cause }),
    ...(retry !== undefined && Number.isInteger(retry) ? { retryAfterSeconds: retry } : {}),
  })
}

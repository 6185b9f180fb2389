/**
 * The shell around `connection-machine.ts`: one WebSocket, its codec, and the effects carried out.
 */
import type { Duplex } from 'node:stream'
import type { RawData, WebSocket } from 'ws'
import {
  AgentMeshError,
  isAgentMeshError,
  PROTOCOL_VERSION,
  type Amid,
  type ConnectFrame,
  type ErrorCode,
  type RelayCodec,
  type RelayFrame,
} from '@agentmesh/sdk/wire'
import { addressNetwork, shortAmid } from '@agentmesh/sdk/hosting'
import { checkConnect, type Challenge } from './authenticate.ts'
import { stepConnection, type ConnectionEffect, type ConnectionEvent } from './connection-machine.ts'
import type { Counters } from './counters.ts'
import type { RelayLimits } from './limits.ts'
import type { RelayLogger } from './logger.ts'
import type { RateLimiter } from './rate-limit.ts'
import type { Outlet } from './outlet.ts'
import type { Router } from './router.ts'
import type { Senders } from './senders.ts'
import { SocketWriter, type WriteBatch } from './socket-writer.ts'

/** What all connections of a relay share. */
export interface ConnectionContext {
  readonly router: Router
  readonly senders: Senders
  readonly limits: RelayLimits
  readonly counters: Counters
  readonly logger: RelayLogger
  readonly now: () => number
  readonly batch: WriteBatch
  /** By IP address key. */
  readonly signatureChecks: RateLimiter
  /** By AMID. */
  readonly connects: RateLimiter
}

export interface ConnectionParts {
  readonly webSocket: WebSocket
  readonly socket: Duplex
  readonly codec: RelayCodec
  readonly challenge: Challenge
  readonly address: string
  readonly onAuthenticated: () => void
  readonly onEnded: () => void
}

export class Connection {
  readonly #context: ConnectionContext
  readonly #parts: ConnectionParts
  readonly #writer: SocketWriter
  #state: ReturnType<typeof stepConnection>['state'] = 'awaiting-connect'
  #outlet: Outlet | undefined
  #closeTimer: NodeJS.Timeout | undefined
  /** A ping is out and nothing has come back since. */
  #silent = false

  constructor(context: ConnectionContext, parts: ConnectionParts) {
    this.#context = context
    this.#parts = parts
    this.#writer = new SocketWriter(parts.socket, context.batch, context.counters)
    const { webSocket, challenge } = parts
    webSocket.on('message', (data, isBinary) => this.#read(data, isBinary))
    webSocket.on('pong', () => (this.#silent = false))
    // `close` follows, and says all there is to know.
    webSocket.on('error', () => {})
    webSocket.on('close', () => {
      clearTimeout(this.#closeTimer)
      this.#step({ kind: 'socket-ended' })
      parts.onEnded()
    })
    this.#send({
      frame: 'HELLO',
      protocol: PROTOCOL_VERSION,
      relayId: challenge.relayId,
      nonce: challenge.nonce,
      maxPayloadBytes: context.limits.maxPayloadBytes,
    })
  }

  cut(code: ErrorCode, retryAfterSeconds?: number): void {
    this.#step({ kind: 'cut', code, ...(retryAfterSeconds === undefined ? {} : { retryAfterSeconds }) })
  }

  /** Ends a connection whose other side is gone without a word; asks the others for a sign of life. */
  ping(): void {
    if (this.#silent) {
      this.#parts.webSocket.terminate()
      return
    }
    this.#silent = true
    this.#parts.webSocket.ping()
  }

  terminate(): void {
    this.#parts.webSocket.terminate()
  }

  #read(data: RawData, isBinary: boolean): void {
    this.#silent = false
    const { codec } = this.#parts
    // The default `binaryType` gives one Buffer a message.
    const bytes = data as Buffer
    this.#context.counters.framesIn += 1
    this.#context.counters.bytesIn += bytes.length
    const message = isBinary ? bytes : bytes.toString('utf8')
    let event: ConnectionEvent
    try {
      event = { kind: 'frame', frame: codec.decodeFromAgent(message) }
    } catch (error) {
      if (!isAgentMeshError(error)) throw error
      event = { kind: 'unreadable', error, sendId: codec.refusedSendId(message) }
    }
    this.#step(event)
  }

  #step(event: ConnectionEvent): void {
    const { state, effects } = stepConnection(this.#state, event)
    this.#state = state
    for (const effect of effects) this.#carryOut(effect)
  }

  #carryOut(effect: ConnectionEffect): void {
    const { router, senders } = this.#context
    switch (effect.do) {
      case 'authenticate':
        return this.#authenticate(effect.connect)
      case 'attach':
        this.#outlet = this.#makeOutlet(effect.amid)
        void router.attach(this.#outlet, effect.presence)
        return
      case 'admit-sender':
        this.#outlet = this.#makeOutlet(effect.amid)
        return senders.admit(this.#outlet)
      case 'send':
        return this.#send(effect.frame)
      case 'close':
        return this.#close(effect.closeCode, effect.code)
      default:
        if (this.#outlet !== undefined) this.#carryOutConnected(this.#outlet, effect)
    }
  }

  #carryOutConnected(
    outlet: Outlet,
    effect: Exclude<ConnectionEffect, { do: 'authenticate' | 'attach' | 'admit-sender' | 'send' | 'close' }>,
  ): void {
    const { router, senders } = this.#context
    switch (effect.do) {
      case 'detach':
        return router.detach(outlet)
      case 'dismiss-sender':
        return senders.dismiss(outlet)
      case 'route':
        return router.send(outlet, effect.send)
      case 'refuse':
        return router.refuse(outlet, effect.id, effect.code)
      case 'acknowledge':
        return router.acknowledge(outlet, effect.sequence)
      case 'set-presence':
        return router.setPresence(outlet, effect.presence)
      case 'answer-presence':
        return router.answerPresence(outlet, effect.amid)
    }
  }

  #authenticate(connect: ConnectFrame): void {
    const { counters, now, signatureChecks, connects } = this.#context
    try {
      takeToken(signatureChecks, this.#parts.address, now())
      checkConnect(connect, this.#parts.challenge, now())
      takeToken(connects, connect.amid, now())
    } catch (error) {
      if (!isAgentMeshError(error)) throw error
      counters.connectsRefused += 1
      this.#note(connect, error.code)
      this.cut(error.code, error.retryAfterSeconds)
      return
    }
    counters.connects += 1
    this.#note(connect, 'accepted')
    this.#parts.onAuthenticated()
    this.#step({ kind: 'accepted', connect })
  }

  #note({ amid }: ConnectFrame, outcome: string): void {
    const { logger } = this.#context
    logger.debug({ agent: shortAmid(amid), client: addressNetwork(this.#parts.address), outcome }, 'CONNECT')
  }

  get #accepted(): boolean {
    return this.#state === 'connected' || this.#state === 'sending'
  }

  #makeOutlet(amid: Amid): Outlet {
    return {
      amid,
      deliver: (frame) => {
        if (this.#accepted) this.#send(frame)
      },
      cut: (code, retryAfterSeconds) => this.cut(code, retryAfterSeconds),
    }
  }

  #send(frame: RelayFrame): void {
    this.#writer.push(this.#parts.codec.encode(frame))
    if (this.#accepted && this.#writer.waiting > this.#context.limits.socketBufferBytes) {
      this.cut('SLOW_READER')
    }
  }

  #close(closeCode: number, code: ErrorCode): void {
    this.#context.counters.countCut(code)
    this.#context.logger.debug({ client: addressNetwork(this.#parts.address), code }, 'connection cut')
    this.#writer.flush()
    this.#parts.webSocket.close(closeCode, code)
    this.#closeTimer = setTimeout(() => this.#parts.webSocket.terminate(), this.#context.limits.closeGraceMs)
    this.#closeTimer.unref()
  }
}

function takeToken(limiter: RateLimiter, key: string, now: number): void {
  const wait = limiter.take(key, now)
  if (wait > 0) throw new AgentMeshError('RATE_LIMITED', undefined, { retryAfterSeconds: wait })
}

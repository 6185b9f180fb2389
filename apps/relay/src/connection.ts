/**
 * The shell around `connection-machine.ts`: one WebSocket, its codec, and the effects carried out.
 */
import {
  AgentMeshError,
  isAgentMeshError,
  jsonCodec,
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
import { AckInPlace, type InPlaceEncoding } from './in-place/encoding.ts'
import { InFlight, MessageInPlace, SentInPlace } from './in-place/message-in-place.ts'
import type { RelayLimits } from './limits.ts'
import type { RelayLogger } from './logger.ts'
import type { Origin } from './origin.ts'
import type { RateLimiter } from './rate-limit.ts'
import type { Outlet } from './outlet.ts'
import type { Router } from './router.ts'
import type { Senders } from './senders.ts'
import type { GuardedSocket } from './socket-guard.ts'
import { WebSocket, type Handshake, type WebSocketSettings, type WebSocketUser } from './web-socket.ts'

/** What all connections of a relay share. */
export interface ConnectionContext {
  readonly router: Router
  readonly senders: Senders
  readonly limits: RelayLimits
  readonly counters: Counters
  readonly logger: RelayLogger
  readonly now: () => number
  readonly webSockets: WebSocketSettings
  readonly encodings: { readonly binary: InPlaceEncoding; readonly json: InPlaceEncoding }
  /** By IP address key. */
  readonly signatureChecks: RateLimiter
  /** By IP address key. */
  readonly frames: RateLimiter
  /** By AMID. */
  readonly connects: RateLimiter
}

export interface ConnectionParts {
  readonly handshake: Handshake
  readonly codec: RelayCodec
  readonly challenge: Challenge
  readonly guarded: GuardedSocket
  readonly onEnded: (connection: Connection) => void
}

/** The SEND that is being routed; one at a time. */
const incoming = new MessageInPlace()
/** The ACK that is being read. */
const acknowledged = new AckInPlace()

/** First bytes of frames with a whole message (RFC 6455 §5.2). */
const TEXT = 0x81
const BINARY = 0x82
const UNFINISHED_RETRY_SECONDS = 5

export class Connection implements WebSocketUser, Outlet {
  /** Empty until it is accepted. */
  amid = '' as Amid
  readonly #context: ConnectionContext
  readonly #codec: RelayCodec
  readonly #isText: boolean
  readonly #encoding: InPlaceEncoding
  readonly #guarded: GuardedSocket
  readonly #onEnded: (connection: Connection) => void
  readonly #webSocket: WebSocket
  #state: ReturnType<typeof stepConnection>['state'] = 'awaiting-connect'
  /** Until it is answered. */
  #challenge: Challenge | undefined

  constructor(
    context: ConnectionContext,
    { handshake, codec, challenge, guarded, onEnded }: ConnectionParts,
  ) {
    this.#context = context
    this.#codec = codec
    this.#isText = codec === jsonCodec
    this.#encoding = this.#isText ? context.encodings.json : context.encodings.binary
    this.#challenge = challenge
    this.#guarded = guarded
    this.#onEnded = onEnded
    this.#webSocket = new WebSocket(handshake, context.webSockets, this)
    if (this.#webSocket.socket !== handshake.socket) guarded.follow(this.#webSocket.socket)
    guarded.onTimeout = () => this.cut('CONNECT_TIMEOUT')
    this.#send({
      frame: 'HELLO',
      protocol: PROTOCOL_VERSION,
      relayId: challenge.relayId,
      nonce: challenge.nonce,
      maxPayloadBytes: context.limits.maxPayloadBytes,
    })
  }

  /** Of the client, also behind a proxy. */
  get origin(): Origin {
    return this.#guarded.origin
  }

  // --- for the router -------------------------------------------------------------------------------------------------

  deliver(frame: RelayFrame): void {
    if (this.#accepted) this.#send(frame)
  }

  cut(code: ErrorCode, retryAfterSeconds?: number): void {
    this.#step({ kind: 'cut', code, ...(retryAfterSeconds === undefined ? {} : { retryAfterSeconds }) })
  }

  checkAlive(): void {
    this.#webSocket.checkAlive()
  }

  // --- from the WebSocket ---------------------------------------------------------------------------------------------

  /** SEND and ACK of an accepted agent, without frames and events: what the machine would answer to them is to carry them out. */
  takes(data: Buffer, start: number, end: number, isText: boolean): boolean {
    if (!this.#accepted || isText !== this.#isText) return false
    const { router } = this.#context
    const encoding = this.#encoding
    if (encoding.readSend(incoming, data, start, end)) {
      this.#count(end - start)
      router.send(this, incoming)
      return true
    }
    if (this.#state !== 'connected') return false
    if (!encoding.readAck(acknowledged, data, start, end)) return false
    this.#count(end - start)
    router.acknowledge(this, acknowledged.sequence, acknowledged.stateCounter)
    return true
  }

  message(data: Buffer, start: number, end: number, isText: boolean): void {
    this.#count(end - start)
    const message = isText ? data.toString('utf8', start, end) : new Uint8Array(data.subarray(start, end))
    let event: ConnectionEvent
    try {
      event = { kind: 'frame', frame: this.#codec.decodeFromAgent(message) }
    } catch (error) {
      if (!isAgentMeshError(error)) throw error
      event = { kind: 'unreadable', error, sendId: this.#codec.refusedSendId(message) }
    }
    this.#step(event)
  }

  #count(bytes: number): void {
    const { counters } = this.#context
    counters.framesIn += 1
    counters.bytesIn += bytes
  }

  unfinished(bytes: number): void {
    const { counters, limits } = this.#context
    const { origin } = this
    origin.unfinishedBytes += bytes
    counters.unfinishedBytes += bytes
    if (bytes > 0 && origin.unfinishedBytes > limits.unfinishedBytesPerIp)
      this.cut('RATE_LIMITED', UNFINISHED_RETRY_SECONDS)
  }

  /** Every frame costs its address, whatever is in it. */
  restAfter(frames: number): number {
    const { frames: budget, now } = this.#context
    return budget.charge(this.origin.address, now(), frames)
  }

  behind(): void {
    if (this.#accepted) this.cut('SLOW_READER')
    else this.#webSocket.terminate()
  }

  ending(): void {
    this.#step({ kind: 'socket-ended' })
  }

  ended(): void {
    this.#onEnded(this)
  }

  // --- rules and their effects ----------------------------------------------------------------------------------------

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
        this.amid = effect.amid
        void router.attach(this, effect.presence, effect.stateCounter)
        return
      case 'admit-sender':
        this.amid = effect.amid
        return senders.admit(this)
      case 'send':
        return this.#send(effect.frame)
      case 'close':
        return this.#close(effect.closeCode, effect.code)
      case 'detach':
        return router.detach(this)
      case 'dismiss-sender':
        return senders.dismiss(this)
      case 'route':
        return router.send(this, MessageInPlace.of(effect.send))
      case 'refuse':
        return router.refuse(this, effect.id, effect.code)
      case 'acknowledge':
        return router.acknowledge(this, effect.sequence, effect.stateCounter)
      case 'set-presence':
        return router.setPresence(this, effect.presence)
      case 'answer-presence':
        return router.answerPresence(this, effect.amid)
    }
  }

  #authenticate(connect: ConnectFrame): void {
    const { counters, now, signatureChecks, connects } = this.#context
    try {
      takeToken(signatureChecks, this.origin.address, now())
      // It is answered once: the state that asks for an answer does not come back.
      if (this.#challenge === undefined) throw new AgentMeshError('ALREADY_CONNECTED')
      checkConnect(connect, this.#challenge, now())
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
    this.#guarded.release()
    this.#challenge = undefined
    this.#step({ kind: 'accepted', connect })
  }

  #note({ amid }: ConnectFrame, outcome: string): void {
    const { logger } = this.#context
    logger.debug({ agent: shortAmid(amid), client: addressNetwork(this.origin.address), outcome }, 'CONNECT')
  }

  get #accepted(): boolean {
    return this.#state === 'connected' || this.#state === 'sending'
  }

  #send(frame: RelayFrame): void {
    const { writer } = this.#webSocket
    const encoding = this.#encoding
    if (frame instanceof InFlight) encoding.writeReceive(writer, frame)
    else if (frame instanceof SentInPlace) encoding.writeSent(writer, frame)
    else this.#write(frame)
  }

  #write(frame: RelayFrame): void {
    const data = this.#codec.encode(frame)
    const { writer } = this.#webSocket
    if (typeof data === 'string') {
      const at = writer.take(TEXT, Buffer.byteLength(data))
      writer.slab.bytes.write(data, at)
    } else {
      const at = writer.take(BINARY, data.length)
      writer.slab.bytes.set(data, at)
    }
  }

  #close(closeCode: number, code: ErrorCode): void {
    this.#context.counters.countCut(code)
    this.#context.logger.debug({ client: addressNetwork(this.origin.address), code }, 'connection cut')
    this.#webSocket.close(closeCode, code)
  }
}

function takeToken(limiter: RateLimiter, key: string, now: number): void {
  const wait = limiter.take(key, now)
  if (wait > 0) throw new AgentMeshError('RATE_LIMITED', undefined, { retryAfterSeconds: wait })
}

/**
 * An agent that keeps no rule: real keys, a real relay connection, real sessions, and whatever it likes inside them. Where
 * an honest agent counts, it takes the number a test gives it.
 */
import { ed25519KeyPair, systemRandom } from '@agentmesh/sdk/crypto/signing'
import {
  identityFromKeyPair,
  makeExchangeKey,
  signRegistration,
  verifyBundle,
  type Identity,
} from '@agentmesh/sdk/identity'
import {
  formatTimestamp,
  isAgentMeshError,
  newMessageId,
  type Amid,
  type AttachmentFrame,
  type Envelope,
  type Intent,
  type MessageId,
  type ReceiptPayload,
  type MessageType,
  type Payload,
  type EnvelopeType,
  type SessionType,
} from '@agentmesh/sdk/wire'
import { HttpRegistryClient } from '../../packages/sdk/src/discovery/index.ts'
import {
  consumePacket,
  createAttachmentFrame,
  createMessage,
  type MessageDraft,
} from '../../packages/sdk/src/messages/index.ts'
import {
  consumeAnswer,
  createKnock,
  type PendingKnock,
  type Session,
} from '../../packages/sdk/src/session/index.ts'
import {
  RelayConnection,
  type ReceivedMessage,
  type SentResult,
} from '../../packages/sdk/src/transport/index.ts'
import { FLIGHTS } from './network.ts'

const random = systemRandom

export interface Said {
  /** Envelope sequence; default the next one. */
  sequence?: number
  id?: MessageId
  inReplyTo?: MessageId
  receipts?: MessageDraft['receipts']
}

export class HostilePeer {
  readonly identity: Identity = identityFromKeyPair(ed25519KeyPair(random(32)))
  readonly #exchangeKey = makeExchangeKey(this.identity, {
    startId: 1,
    sequence: 1,
    random,
    now: Date.now(),
  })
  readonly #relay: RelayConnection
  readonly #registry: HttpRegistryClient
  readonly #waiting = new Set<() => void>()
  #pending: PendingKnock | undefined
  /** The KNOCK sent last, to be sent again. */
  knockPacket = new Uint8Array()
  session: Session | undefined
  /** Every packet that came. */
  readonly packets: ReceivedMessage[] = []
  /** Every envelope that came on the session and could be read. */
  readonly envelopes: Envelope[] = []
  /** Every frame of an attachment, likewise. */
  readonly frames: AttachmentFrame[] = []

  private constructor(relay: string, registry: string) {
    const now = Date.now
    this.#registry = new HttpRegistryClient(registry, this.identity, { now, random })
    this.#relay = new RelayConnection({
      url: relay,
      identity: this.identity,
      onReceive: (message) => this.#receive(message),
      onState: () => {},
      random,
      now,
    })
  }

  /**
   * @param registered false: a relay knows it and no registry, so that it cannot knock
   * @param endpoint the home that its record names
   */
  static async open(
    network: { relay: { url: string }; registry: { url: string } },
    registered = true,
    endpoint = network.relay.url,
  ): Promise<HostilePeer> {
    const peer = new HostilePeer(network.relay.url, network.registry.url)
    if (registered) await peer.#register(endpoint)
    await peer.#relay.connect()
    return peer
  }

  async #register(relayUrl: string): Promise<void> {
    await this.#registry.register(
      signRegistration(this.identity, {
        exchange_key: this.#exchangeKey.record,
        capabilities: [],
        relay_endpoint: relayUrl,
        direct_endpoint: null,
        p2p_capable: false,
        sequence: 1,
        created_at: formatTimestamp(Date.now()),
      }),
    )
  }

  get amid(): Amid {
    return this.identity.amid
  }

  #receive(message: ReceivedMessage): void {
    message.ack()
    this.packets.push(message)
    if ((message.type === 'accept' || message.type === 'reject') && this.#pending) {
      const environment = { random, now: Date.now() }
      const answer = consumeAnswer(this.#pending, message.type, message.payload, environment)
      this.#pending = undefined
      if (answer.kind === 'accepted') this.session = answer.session
    } else if ((message.type === 'message' || message.type === 'close') && this.session) {
      this.#read(this.session, message, message.type)
    }
    for (const wake of this.#waiting) wake()
  }

  #read(session: Session, { payload }: ReceivedMessage, type: 'message' | 'close'): void {
    // What it said itself does not bind it.
    const lawless = { ...session, state: 'open' as const, closes: 'none' as const }
    try {
      const read = consumePacket(lawless, payload, type, { random, now: Date.now() })
      this.session = { ...read.session, state: 'open', closes: 'none' }
      if ('frame' in read) this.frames.push(read.frame)
      else if (read.kind === 'read') this.envelopes.push(read.envelope)
    } catch (error) {
      // Of another session of its own, or of a clock that is wrong.
      if (!isAgentMeshError(error)) throw error
    }
  }

  /** Looked at with each packet that comes. */
  async until(condition: () => boolean): Promise<void> {
    while (!condition()) {
      await new Promise<void>((resolve) => {
        const wake = (): void => {
          this.#waiting.delete(wake)
          resolve()
        }
        this.#waiting.add(wake)
      })
    }
  }

  /** Resolves when the KNOCK was accepted. */
  async knock(to: Amid, type: SessionType = 'stream', intent: Intent = FLIGHTS): Promise<void> {
    await this.sendKnock(to, type, intent)
    await this.until(() => this.session !== undefined)
  }

  /** Resolves when the relay has it. */
  async sendKnock(to: Amid, type: SessionType = 'stream', intent: Intent = FLIGHTS): Promise<void> {
    await this.makeKnock(to, type, intent)
    await this.send(to, 'knock', this.knockPacket)
  }

  /** A KNOCK that is not sent yet: `knockPacket`. */
  async makeKnock(
    to: Amid,
    type: SessionType = 'stream',
    intent: Intent = FLIGHTS,
    draw = random,
  ): Promise<void> {
    const now = Date.now()
    const { pending, packet } = createKnock(
      {
        identity: this.identity,
        exchangeKey: this.#exchangeKey,
        bundle: verifyBundle(await this.#registry.fetchBundle(to), to, now),
        intent,
        sessionRequest: { type, ttl_seconds: 3600 },
      },
      { random: draw, now },
    )
    this.#pending = pending
    this.session = undefined
    this.knockPacket = Uint8Array.from(packet)
  }

  /** Bytes of its choice. */
  send(
    to: Amid,
    type: MessageType,
    payload: Uint8Array,
    id: MessageId = newMessageId(random),
  ): Promise<SentResult> {
    return this.#relay.send({ id, to, type, payload })
  }

  /** That it has and read all that it was sent on the session, up to the last that came. */
  receipts(): ReceiptPayload {
    const { highest: received = 0 } = this.session?.received ?? {}
    return {
      received,
      ...(received === 0 ? {} : { read: [[1, received]] }),
      at: formatTimestamp(Date.now()),
    }
  }

  /** A frame of an attachment on the session. */
  async frame(frame: AttachmentFrame): Promise<void> {
    const session = this.session!
    const made = createAttachmentFrame(session, frame, { random, now: Date.now() })
    this.session = made.session
    await this.send(session.peer, 'message', made.packet)
  }

  /** An envelope of the session, whatever the session's rules say. */
  make<T extends EnvelopeType>(type: T, payload: Payload<T>, said: Said = {}): Uint8Array {
    const session = this.session!
    const id = said.id ?? newMessageId(random)
    const { inReplyTo } = said
    const receipts = said.receipts ?? (type === 'close' ? this.receipts() : undefined)
    const draft = {
      type,
      payload,
      id,
      ...(inReplyTo === undefined ? {} : { inReplyTo }),
      ...(receipts === undefined ? {} : { receipts }),
    } as MessageDraft
    const sequence = said.sequence ?? session.sendSequence + 1
    const lawless: Session = { ...session, state: 'open', closes: 'none', sendSequence: sequence - 1 }
    const made = createMessage(lawless, draft, this.identity, { random, now: Date.now() })
    this.session = { ...made.session, state: 'open', closes: 'none' }
    return made.packet
  }

  say<T extends EnvelopeType>(type: T, payload: Payload<T>, said: Said = {}): Promise<SentResult> {
    const packet = this.make(type, payload, said)
    return this.send(this.session!.peer, type === 'close' ? 'close' : 'message', packet)
  }

  async close(): Promise<void> {
    this.#registry.close()
    await this.#relay.close()
  }
}

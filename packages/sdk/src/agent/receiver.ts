/**
 * Everything a relay hands over, one commit a packet: filter, cryptography, rows; then the acknowledgement. What we
 * cannot use is refused, recorded and acknowledged, so that a forged packet is neither kept nor sent again; only a
 * store that cannot write leaves a packet with the relay. DESIGN §7.
 */
import { sha256 } from '../crypto/index.ts'
import { consumeMessage } from '../messages/index.ts'
import type { ReceivedMessage } from '../transport/index.ts'
import {
  AgentMeshError,
  decodeSessionPacket,
  formatTimestamp,
  isAgentMeshError,
  MAILBOX_TTL_SECONDS,
  toHex,
  type ErrorCode,
} from '../wire/index.ts'
import { audit, commit, type Core } from './core.ts'
import type { Inbox } from './inbox.ts'
import type { Initiator } from './initiator.ts'
import type { Outgoing } from './outgoing.ts'
import { Refusals } from './refusals.ts'
import type { Responder } from './responder.ts'
import type { SeenRow } from './tables.ts'

/** Our own disk failed us: the relay keeps the packet. */
const STORE_FAILURES: ReadonlySet<ErrorCode> = new Set(['STATE_WRITE_FAILED', 'STATE_DAMAGED'])
/** A packet is remembered while any mailbox could still hold a copy. */
const SEEN_MS = 2 * MAILBOX_TTL_SECONDS * 1000

export class Receiver {
  readonly #core: Core
  readonly #initiator: Initiator
  readonly #responder: Responder
  readonly #outgoing: Outgoing
  readonly #inbox: Inbox
  readonly #refusals: Refusals

  constructor(core: Core, initiator: Initiator, responder: Responder, outgoing: Outgoing, inbox: Inbox) {
    this.#core = core
    this.#initiator = initiator
    this.#responder = responder
    this.#outgoing = outgoing
    this.#inbox = inbox
    this.#refusals = new Refusals(core)
  }

  /** Takes one packet and acknowledges it once it is committed or refused for good. */
  async receive(message: ReceivedMessage): Promise<void> {
    try {
      await commit(this.#core, (afterCommit) => this.#take(message, afterCommit))
    } catch (error) {
      if (!isAgentMeshError(error)) throw error
      if (STORE_FAILURES.has(error.code)) {
        this.#core.events.emit('notice', {
          at: formatTimestamp(this.#core.now()),
          about: 'state',
          text: `A message could not be stored: ${error.message}`,
        })
        return
      }
      this.#refusals.note(message.from, error.code, message.payload.length)
    }
    message.ack()
  }

  #take(message: ReceivedMessage, afterCommit: (() => void)[]): void {
    const { seen } = this.#core.store.tables
    const hash = toHex(sha256(message.payload))
    const known = seen.get(hash)
    if (known) {
      this.#repeated(known)
      return
    }
    const held = this.#open(message, afterCommit)
    // A KNOCK has filters of its own: nonce, header and the stored answer.
    if (message.type !== 'knock') seen.put(hash, held, { at: this.#core.now() })
  }

  /** The sender did not hear from us: it gets the receipt once more. */
  #repeated(known: SeenRow): void {
    if (known.sessionId !== undefined && known.messageId !== undefined) {
      this.#outgoing.receipts.owe(known.sessionId, known.messageId, 'received')
    }
  }

  #open(message: ReceivedMessage, afterCommit: (() => void)[]): SeenRow {
    const { from, type, payload } = message
    switch (type) {
      case 'knock':
        this.#responder.receiveKnock(from, payload, message.timestamp, afterCommit)
        return {}
      case 'accept':
      case 'reject':
        this.#initiator.receiveAnswer(from, type, payload, afterCommit)
        return {}
      case 'message':
      case 'close':
        return this.#sessionMessage(message, type, afterCommit)
      default:
        throw new AgentMeshError('UNKNOWN_TYPE', 'This agent takes no direct connections')
    }
  }

  #sessionMessage(message: ReceivedMessage, type: 'message' | 'close', afterCommit: (() => void)[]): SeenRow {
    const { sessionId } = decodeSessionPacket(message.payload)
    const row = this.#core.store.tables.sessions.get(sessionId)
    // One code for both: a stranger learns nothing about our sessions.
    if (!row || row.session.peer !== message.from) throw new AgentMeshError('SESSION_UNKNOWN')
    const { session, envelope } = consumeMessage(row.session, message.payload, type, {
      random: this.#core.random,
      now: this.#core.now(),
    })
    audit(
      this.#core,
      {
        event: 'message_received',
        session_id: sessionId,
        from: message.from,
        seq: envelope.sequence,
        type: envelope.type,
        size_bytes: message.payload.length,
        id: envelope.id,
      },
      afterCommit,
    )
    this.#inbox.take({ ...row, session }, envelope, afterCommit)
    return envelope.type === 'receipt' ? {} : { sessionId, messageId: envelope.id }
  }

  /** Forgets packets no mailbox can hold any more, and writes what was counted. */
  async maintain(): Promise<void> {
    this.#refusals.flush()
    const { seen } = this.#core.store.tables
    await commit(this.#core, () => {
      seen.deleteBefore(this.#core.now() - SEEN_MS)
    })
  }
}

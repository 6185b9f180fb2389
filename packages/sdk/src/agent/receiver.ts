/**
 * Everything a relay hands over, one commit a packet: filter, cryptography, rows; then the acknowledgement. What we
 * cannot use is refused, recorded and acknowledged, so that a forged packet is neither kept nor sent again; only a
 * store that cannot write leaves a packet with the relay. DESIGN §7.
 */
import { sha256 } from '../crypto/index.ts'
import { consumePacket, type RefusedEnvelope } from '../messages/index.ts'
import type { ReceivedMessage } from '../transport/index.ts'
import {
  AgentMeshError,
  CLOCK_SKEW_SECONDS,
  decodeSessionPacket,
  isAgentMeshError,
  toHex,
  type ErrorCode,
} from '../wire/index.ts'
import type { Attachments } from './attachments/attachments.ts'
import { ChainBudget } from './chain-budget.ts'
import { audit, commit, type Core } from './core.ts'
import type { Inbox } from './inbox.ts'
import { incomingKey } from './incoming-rows.ts'
import type { Initiator } from './initiator.ts'
import type { Outgoing } from './outgoing.ts'
import { packetKey } from './packet-key.ts'
import type { Recovery } from './recovery.ts'
import type { Receipts } from './receipts.ts'
import { Refusals } from './refusals.ts'
import { Repeats } from './repeats.ts'
import type { Responder } from './responder.ts'
import { touchSession } from './session-rows.ts'
import type { SeenRow, SessionRow } from './tables.ts'
import { ListsNeeded, type TrustKeeper } from './trust/trust-keeper.ts'

export interface ReceiverParts {
  readonly initiator: Initiator
  readonly responder: Responder
  readonly outgoing: Outgoing
  readonly inbox: Inbox
  readonly recovery: Recovery
  readonly trust: TrustKeeper
  readonly attachments: Attachments
}

export class Receiver {
  readonly #core: Core
  readonly #initiator: Initiator
  readonly #responder: Responder
  readonly #inbox: Inbox
  readonly #recovery: Recovery
  readonly #trust: TrustKeeper
  readonly #attachments: Attachments
  readonly #refusals: Refusals
  readonly #repeats: Repeats
  readonly #receipts: Receipts
  readonly #budget: ChainBudget

  constructor(core: Core, parts: ReceiverParts) {
    this.#core = core
    this.#initiator = parts.initiator
    this.#responder = parts.responder
    this.#inbox = parts.inbox
    this.#recovery = parts.recovery
    this.#trust = parts.trust
    this.#attachments = parts.attachments
    this.#refusals = new Refusals(core)
    this.#budget = new ChainBudget(core)
    this.#receipts = parts.outgoing.receipts
    this.#repeats = new Repeats(core, this.#receipts)
  }

  /** Takes one packet and acknowledges it once it is committed or refused for good. */
  async receive(message: ReceivedMessage): Promise<void> {
    try {
      const unopened = await this.#commit(message)
      if (unopened !== undefined) await this.#recovery.refuse(message, unopened)
    } catch (error) {
      if (!isAgentMeshError(error)) throw error
      // Our disk failed: the relay keeps the packet, and the owner is told.
      if (error.code === 'STATE_WRITE_FAILED') throw error
      const code = error.code === 'STATE_DAMAGED' ? await this.#dropDamaged(message, error) : error.code
      this.#refusals.note(message.from, code, message.payload.length)
      if (code === 'RATCHET_BUDGET') await this.#endOverdrawn(message)
      else await this.#recovery.refuse(message, code)
    }
    message.ack()
  }

  /** The peer made us derive too much: it hears so, and nothing more that it says on this session is opened. */
  async #endOverdrawn({ from, type, payload }: ReceivedMessage): Promise<void> {
    if (type !== 'message' && type !== 'close') return
    const { sessionId } = decodeSessionPacket(payload)
    const session = this.#core.store.tables.sessions.get(sessionId)?.session
    if (session?.state !== 'open' || session.peer !== from) return
    if (!this.#budget.isOverdrawn(from, sessionId)) return
    await commit(this.#core, (afterCommit) => this.#inbox.endFlood(sessionId, afterCommit))
  }

  async #commit(message: ReceivedMessage): Promise<ErrorCode | undefined> {
    const take = (): Promise<ErrorCode | undefined> =>
      commit(this.#core, (afterCommit) => this.#receipts.attempt(() => this.#take(message, afterCommit)))
    try {
      return await take()
    } catch (error) {
      if (!(error instanceof ListsNeeded)) throw error
      await this.#trust.fetchLists(error.issuers)
      return take()
    }
  }

  /** A session row that does not open is of no use to anybody: without it, the peer is asked to start over. */
  async #dropDamaged(message: ReceivedMessage, error: AgentMeshError): Promise<ErrorCode> {
    if (message.type !== 'message' && message.type !== 'close') throw error
    const { sessionId } = decodeSessionPacket(message.payload)
    const { sessions } = this.#core.store.tables
    await commit(this.#core, (afterCommit) => {
      sessions.delete(sessionId)
      audit(this.#core, { event: 'state_recovered', what: 'session', detail: error.message }, afterCommit)
    })
    return 'SESSION_UNKNOWN'
  }

  /** Why a KNOCK was not opened, when it was not. */
  #take(message: ReceivedMessage, afterCommit: (() => void)[]): ErrorCode | undefined {
    const { from, type, payload, timestamp } = message
    // A KNOCK has filters of its own: nonce, header and the stored answer.
    if (type === 'knock') return this.#responder.receiveKnock(from, payload, timestamp, afterCommit)
    const { seen } = this.#core.store.tables
    const hash = packetKey(from, sha256(payload))
    const known = seen.get(hash)
    if (known) this.#repeated(known)
    else seen.put(hash, this.#open(message, `${type} ${hash}`, afterCommit), { at: this.#core.now() })
    return undefined
  }

  /** The sender did not hear from us: it gets the receipts once more. @throws SESSION_CLOSED when none can be sent */
  #repeated({ sessionId, sequence }: SeenRow): void {
    if (sessionId === undefined || sequence === undefined) return
    const session = this.#core.store.tables.sessions.get(sessionId)?.session
    // Given up without a CLOSE, it carries no receipt: a RESET lets the sender say it again on another session.
    if (session?.state === 'closed' && session.closes === 'none') throw new AgentMeshError('SESSION_CLOSED')
    // Our CLOSE says what was read, and comes again itself.
    if (session?.closes === 'ours') return
    // What waits behind a gap is not received yet.
    if (this.#core.store.tables.incoming.get(incomingKey(sessionId, sequence))?.state === 'held') return
    this.#repeats.note(sessionId)
  }

  #open(message: ReceivedMessage, key: string, afterCommit: (() => void)[]): SeenRow {
    const { from, type, payload } = message
    switch (type) {
      case 'reset':
        this.#recovery.receiveReset(from, payload, afterCommit)
        return {}
      case 'accept':
      case 'reject':
        this.#budget.meter({ from, about: toHex(payload.subarray(0, 32)), key }, (mayDerive) =>
          this.#initiator.receiveAnswer(from, type, payload, mayDerive, afterCommit),
        )
        return {}
      case 'message':
      case 'close':
        return this.#sessionMessage(message, type, key, afterCommit)
      default:
        throw new AgentMeshError('UNKNOWN_TYPE', 'This agent takes no direct connections')
    }
  }

  #sessionMessage(
    message: ReceivedMessage,
    type: 'message' | 'close',
    key: string,
    afterCommit: (() => void)[],
  ): SeenRow {
    const { sessionId } = decodeSessionPacket(message.payload)
    const { row, consumed } = this.#budget.meter(
      { from: message.from, about: sessionId, key },
      (mayDerive) => {
        const known = this.#core.store.tables.sessions.get(sessionId)
        // One code for both: a stranger learns nothing about our sessions.
        if (!known || known.session.peer !== message.from) throw new AgentMeshError('SESSION_UNKNOWN')
        const environment = { random: this.#core.random, now: this.#core.now(), mayDerive }
        return { row: known, consumed: consumePacket(known.session, message.payload, type, environment) }
      },
    )
    const next = { ...row, session: consumed.session }
    if (consumed.kind === 'frame') {
      this.#attachments.take(next, consumed.frame, afterCommit)
      return {}
    }
    if (consumed.kind === 'late') {
      touchSession(this.#core, next)
      return { sessionId, sequence: consumed.sequence }
    }
    if (consumed.kind === 'refused') return this.#refused(message, next, consumed.refused, afterCommit)
    const { envelope } = consumed
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
    this.#inbox.take(next, envelope, afterCommit)
    return envelope.type === 'receipt' ? {} : { sessionId, sequence: envelope.sequence }
  }

  #refused(
    { from, payload, timestamp }: ReceivedMessage,
    row: SessionRow,
    refused: RefusedEnvelope,
    afterCommit: (() => void)[],
  ): SeenRow {
    const { code, sequence } = refused
    // Where the relay is ahead of us too, it is our clock that is wrong; the packet comes again.
    if (code === 'TIME_IMPLAUSIBLE' && timestamp - this.#core.now() > CLOCK_SKEW_SECONDS * 1000)
      throw new AgentMeshError('CLOCK_SKEW')
    this.#inbox.refuse(row, refused, afterCommit)
    afterCommit.push(() => this.#refusals.note(from, code, payload.length))
    return { sessionId: row.session.id, sequence }
  }

  /** Writes what was counted; called at the end. */
  flush(): void {
    this.#refusals.flush(true)
  }

  /** Writes what was counted, and ends sessions with a gap that nobody fills. */
  async maintain(): Promise<void> {
    this.#refusals.flush()
    await this.#inbox.maintain()
  }
}

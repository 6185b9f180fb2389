/**
 * What a peer says of the session itself, and no application hears: receipts, the word that an envelope was refused, CLOSE
 * (spec/sessions.md 4 to 6).
 */
import {
  AgentMeshError,
  receiptsOf,
  type Amid,
  type CloseReason,
  type Envelope,
  type MessageId,
  type SessionId,
} from '../wire/index.ts'
import type { RefusedEnvelope } from '../messages/index.ts'
import type { Core } from './core.ts'
import type { Outgoing } from './outgoing.ts'
import { ANSWERS, ASKING } from './outgoing-rows.ts'
import type { PeerRates } from './peer-rates.ts'
import { isOpen, markClosed, touchSession } from './session-rows.ts'

export class Bookkeeping {
  readonly #core: Core
  readonly #outgoing: Outgoing
  readonly #rates: PeerRates

  constructor(core: Core, outgoing: Outgoing, rates: PeerRates) {
    this.#core = core
    this.#outgoing = outgoing
    this.#rates = rates
  }

  /**
   * Receipts, and the word that an envelope of ours was refused.
   *
   * @returns whether the envelope is about nothing else; a refused request gets it as its answer
   */
  take(envelope: Envelope, afterCommit: (() => void)[]): boolean {
    const { session_id, in_reply_to: about } = envelope
    const refusal = envelope.type === 'error' && envelope.payload.refused ? envelope.payload : undefined
    const isAsked = refusal !== undefined && about !== undefined && this.#isWaiting(envelope, about)
    const isAnswer = isAsked && refusal.code !== 'TIME_IMPLAUSIBLE'
    if (isAsked && !isAnswer) {
      this.#sayAgain(session_id, afterCommit)
      return true
    }
    const named = refusal && !isAnswer ? this.#outgoing.refused(session_id, refusal, afterCommit) : undefined
    if (named && ANSWERS.has(named.type) && refusal?.code === 'TIME_IMPLAUSIBLE')
      this.#sayAgain(session_id, afterCommit)
    const receipts = receiptsOf(envelope)
    const news = receipts !== undefined && this.#outgoing.receipted(session_id, receipts, afterCommit)
    if (refusal && !isAnswer) this.#outgoing.receipts.owe(session_id)
    const isAlone = envelope.type === 'receipt' || (refusal !== undefined && !isAnswer)
    if (isAlone && !news && !named) this.#idle(envelope, afterCommit)
    return isAlone
  }

  /**
   * What was refused for its time alone was sealed under a clock that is wrong, ours or the peer's, and may be right soon: the
   * session ends as one that broke, so that a question is asked on another one, and an answer, which is kept, given there.
   */
  #sayAgain(sessionId: SessionId, afterCommit: (() => void)[]): void {
    const row = this.#core.store.tables.sessions.get(sessionId)
    if (row?.session.state === 'open') this.#outgoing.close(row, { reason: 'error' }, afterCommit)
  }

  /** The answer to a request of ours was refused here: no other will come, unless it was its time alone. */
  answerRefused(from: Amid, { code, type, inReplyTo }: RefusedEnvelope, afterCommit: (() => void)[]): void {
    if (!(type === 'response' || type === 'error') || code === 'TIME_IMPLAUSIBLE') return
    const row = inReplyTo && this.#core.store.tables.outgoing.get(inReplyTo)
    if (!row || row.to !== from || !ASKING.has(row.type) || row.state === 'done') return
    this.#outgoing.fail(row, { code, message: 'The peer’s answer was refused here' }, afterCommit)
  }

  /** Whether a message is about a request of ours to this very peer that has no answer. */
  #isWaiting(envelope: Envelope, id: MessageId): boolean {
    const row = this.#core.store.tables.outgoing.get(id)
    return row?.to === envelope.from && ASKING.has(row.type) && row.state !== 'done'
  }

  /**
   * An envelope of bookkeeping that says nothing new. An honest peer makes one when it repeats a receipt that was lost, which
   * is seldom; who floods us with them ends the session, and nothing more is read on it.
   */
  #idle({ session_id, from }: Envelope, afterCommit: (() => void)[]): void {
    if (this.#rates.idleReceipt(from).allowed) return
    if (!isOpen(this.#core, session_id)) throw new AgentMeshError('RATE_LIMITED')
    this.abandon(session_id, 'limit', afterCommit)
  }

  /**
   * Ends a session whose next envelope does not come. What waits behind it was not acknowledged, so the peer says it again
   * on another session, and it is not handed over here.
   */
  abandon(sessionId: SessionId, reason: CloseReason, afterCommit: (() => void)[]): void {
    const { sessions, incoming } = this.#core.store.tables
    const held = incoming.list({ a: sessionId, b: 'held' })
    for (const { key } of held) incoming.delete(key)
    const row = sessions.get(sessionId)
    const waiting = held.find(({ value }) => value.envelope.type === 'close')?.value.envelope
    if (row?.session.state === 'open') this.#outgoing.close(row, { reason }, afterCommit)
    // The CLOSE itself waits behind the gap: it is answered, and the answer says where the gap is.
    else if (waiting?.type === 'close') this.closedByPeer(waiting, afterCommit)
  }

  /** The peer's CLOSE is answered by ours, or confirms it; what it did not read is said again or has failed. */
  closedByPeer({ session_id, sequence, payload }: Envelope<'close'>, afterCommit: (() => void)[]): void {
    const known = this.#core.store.tables.sessions.get(session_id)
    if (!known) return
    const row = { ...known, peerClose: Math.max(known.peerClose ?? 0, sequence) }
    touchSession(this.#core, row)
    this.#outgoing.receipts.owe(session_id)
    const { closings } = this.#outgoing
    const { closes, role, closeReason } = row.session
    if (closes !== 'theirs' && closings.countersigned(row, payload)) {
      this.#outgoing.sessionClosed(row.session, afterCommit)
      return
    }
    // Two CLOSEs crossed: the initiator's is the one that both sign.
    const isCrossed = closes === 'both' && role === 'responder'
    const signed = closes === 'theirs' || isCrossed ? closings.countersign(row, payload) : undefined
    const answer = signed ?? (closes === 'theirs' ? { reason: payload.reason } : undefined)
    const reason =
      closes !== 'theirs' && role === 'initiator' ? (closeReason ?? payload.reason) : payload.reason
    this.#closed(session_id, reason, afterCommit)
    if (answer) this.#outgoing.onSession(session_id, { type: 'close', payload: answer }, afterCommit)
  }

  #closed(sessionId: SessionId, reason: CloseReason, afterCommit: (() => void)[]): void {
    const row = this.#core.store.tables.sessions.get(sessionId)
    if (!row) return
    markClosed(this.#core, row, reason, afterCommit)
    this.#outgoing.sessionClosed({ ...row.session, closeReason: reason }, afterCommit)
  }
}

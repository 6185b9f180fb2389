/**
 * Closing statements: what both sides sign when a session ends, so that either can rate the other (DESIGN §8,
 * spec/reputation.md).
 *
 *   who closes     CLOSE with its signature over the statement -->  checks it, signs the same bytes
 *   has both      <-- CLOSE with that signature                     has both
 *
 * When both close at once, the responder signs the initiator's statement in a second CLOSE, and its own counts no more.
 *
 * A statement names the session, its two sides, and how and when it ended: nothing of what it was about. It stays here
 * until the owner or the application rates the peer; then it goes to the registry with the rating, and is tried again
 * until the registry has it.
 */
import { signClosing, signFeedback, verifyClosingSignature } from '../identity/index.ts'
import type { Session } from '../session/index.ts'
import {
  AgentMeshError,
  CLOCK_SKEW_SECONDS,
  FEEDBACK_TAGS,
  formatTimestamp,
  isAgentMeshError,
  parseTimestamp,
  SessionClosing,
  validate,
  type Amid,
  type ClosePayload,
  type ClosingStatement,
  type Envelope,
  type ErrorCode,
  type Feedback,
  type FeedbackTag,
  type SessionId,
} from '../wire/index.ts'
import { commit, type Core } from './core.ts'
import { touchSession } from './session-rows.ts'
import type { ClosingRow, RatingRow, SessionRow } from './tables.ts'

/** What a registry may say to feedback that it may not say the next time. */
const TRY_AGAIN: ReadonlySet<ErrorCode> = new Set([
  'REGISTRY_UNREACHABLE',
  'REGISTRY_ANSWER_INVALID',
  'RATE_LIMITED',
  'STORE_FAILED',
])
const BATCH = 20
const SKEW = CLOCK_SKEW_SECONDS * 1000

function statementOf(session: Session, reason: ClosePayload['reason'], closed_at: string): ClosingStatement {
  const [initiator, responder] =
    session.role === 'initiator' ? [session.self, session.peer] : [session.peer, session.self]
  return { type: 'session_closing', session_id: session.id, initiator, responder, reason, closed_at }
}

function signedBy(
  { role }: Session,
  statement: ClosingStatement,
  own: string,
  peer: string | undefined,
): ClosingRow {
  const [initiator_signature, responder_signature] = role === 'initiator' ? [own, peer] : [peer, own]
  return {
    ...statement,
    ...(initiator_signature === undefined ? {} : { initiator_signature }),
    ...(responder_signature === undefined ? {} : { responder_signature }),
  }
}

/** The closing, when both have signed it. */
function complete(closing: ClosingRow | undefined): SessionClosing | undefined {
  if (closing?.initiator_signature === undefined || closing.responder_signature === undefined)
    return undefined
  return validate(SessionClosing, closing)
}

export class Closings {
  readonly #core: Core

  constructor(core: Core) {
    this.#core = core
  }

  /** The payload of the first CLOSE of a session, with our signature. Call within the commit that seals it. */
  sign(row: SessionRow, payload: ClosePayload): ClosePayload {
    const closed_at = formatTimestamp(this.#core.now())
    const statement = statementOf(row.session, payload.reason, closed_at)
    const signature = signClosing(this.#core.identity, statement)
    touchSession(this.#core, { ...row, closing: signedBy(row.session, statement, signature, undefined) })
    return { ...payload, closing: { closed_at, signature } }
  }

  /**
   * The peer closed the session. Call within the commit that takes its CLOSE.
   *
   * @returns the CLOSE that answers it; none for a peer that brought no good signature of its own
   */
  countersign(row: SessionRow, { reason, closing }: ClosePayload): ClosePayload | undefined {
    if (closing === undefined) return undefined
    const { session } = row
    const { closed_at } = closing
    const at = parseTimestamp(closed_at)
    if (at < session.createdAt - SKEW || at > this.#core.now() + SKEW) return undefined
    const statement = statementOf(session, reason, closed_at)
    if (!verifyClosingSignature(statement, closing.signature, session.peerSigningKey)) return undefined
    const signature = signClosing(this.#core.identity, statement)
    touchSession(this.#core, {
      ...row,
      closing: signedBy(session, statement, signature, closing.signature),
    })
    return { reason, closing: { closed_at, signature } }
  }

  /**
   * The peer's CLOSE came after ours. Call within the commit that takes it.
   *
   * @returns whether it answers ours; else both sides closed at the same time
   */
  countersigned(row: SessionRow, { closing }: ClosePayload): boolean {
    const { session, closing: ours } = row
    if (closing === undefined || ours === undefined) return false
    const own = session.role === 'initiator' ? ours.initiator_signature : ours.responder_signature
    const statement = statementOf(session, ours.reason, ours.closed_at)
    if (own === undefined || !verifyClosingSignature(statement, closing.signature, session.peerSigningKey)) {
      return false
    }
    touchSession(this.#core, { ...row, closing: signedBy(session, statement, own, closing.signature) })
    return true
  }

  /**
   * Takes the CLOSE with which a responder answers ours after its own had crossed it. It is not held back behind what may be
   * missing: that was said to a closed session. Call within a commit.
   *
   * @returns whether the envelope is such a CLOSE
   */
  settle(row: SessionRow, envelope: Envelope): boolean {
    if (row.session.closes !== 'settled' || envelope.type !== 'close') return false
    return this.countersigned(row, envelope.payload)
  }

  /**
   * Rates the peer of a session that both sides closed; safe on disk when it resolves.
   *
   * @param rating 0 to 1
   * @throws SESSION_UNKNOWN; SESSION_NOT_CLOSED while not both have signed; FEEDBACK_REPEATED; MALFORMED
   */
  async rate(sessionId: SessionId, rating: number, tags: readonly FeedbackTag[]): Promise<void> {
    const { sessions, ratings } = this.#core.store.tables
    await commit(this.#core, () => {
      const row = sessions.get(sessionId)
      if (!row) throw new AgentMeshError('SESSION_UNKNOWN')
      const closing = complete(row.closing)
      if (!closing) throw new AgentMeshError('SESSION_NOT_CLOSED')
      if (ratings.get(sessionId) !== undefined) throw new AgentMeshError('FEEDBACK_REPEATED')
      // Signed here so that a rating out of range is refused at once.
      signFeedback(this.#core.identity, { closing, rating, tags }, this.#core.now())
      this.#keep(row, { rating, tags: [...tags] })
    })
  }

  /** The rating that a CLOSE of ours carried counts for the registry as well (specification §6.2). */
  keepGiven(row: SessionRow, { reputation_feedback: given }: ClosePayload): void {
    if (given === undefined) return
    const tags = FEEDBACK_TAGS.filter((tag) => given.tags?.includes(tag))
    this.#keep(row, { rating: given.score, tags })
  }

  #keep({ session }: SessionRow, rating: RatingRow): void {
    const index = { a: session.peer, b: 'waiting', at: this.#core.now() }
    this.#core.store.tables.ratings.put(session.id, rating, index)
  }

  /**
   * Brings ratings to the peers' home registries. What waits for one that does not answer is tried again.
   *
   * @throws the first REGISTRY_UNREACHABLE or the like, when all were tried
   */
  async submit(): Promise<void> {
    const { sessions, ratings } = this.#core.store.tables
    let failed: AgentMeshError | undefined
    for (const { key, value, at } of ratings.list({ b: 'waiting', limit: BATCH })) {
      const row = sessions.get(key)
      const closing = complete(row?.closing)
      // The peer has not answered our CLOSE yet.
      if (row === undefined || closing === undefined) continue
      let outcome = 'sent'
      try {
        await this.#bring(
          row.session.peer,
          signFeedback(this.#core.identity, { closing, ...value }, this.#core.now()),
        )
      } catch (error) {
        if (!isAgentMeshError(error)) throw error
        if (TRY_AGAIN.has(error.code)) {
          failed ??= error
          continue
        }
        outcome = 'refused'
        const text = `The registry did not take the rating of session ${key}: ${error.message}`
        this.#core.events.emit('notice', { at: formatTimestamp(this.#core.now()), about: 'rating', text })
      }
      const index = { a: row.session.peer, b: outcome, ...(at === undefined ? {} : { at }) }
      await commit(this.#core, () => ratings.put(key, value, index))
    }
    if (failed) throw failed
  }

  /** To the registry that speaks for the peer, as far as the owner trusts it. @throws AGENT_NOT_FOUND when none does */
  async #bring(peer: Amid, feedback: Feedback): Promise<void> {
    try {
      const { registry } = await this.#core.registries.find(peer)
      await registry.submitFeedback(feedback)
    } catch (error) {
      if (!isAgentMeshError(error, 'AGENT_NOT_FOUND')) throw error
      throw new AgentMeshError('AGENT_NOT_FOUND', `No registry that is trusted here speaks for ${peer}`)
    }
  }
}

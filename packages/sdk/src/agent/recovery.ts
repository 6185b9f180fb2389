/**
 * Repair of what a lost, rolled-back or damaged state breaks (DESIGN §7, spec/sessions.md 6).
 *
 *   their packet is of no use to us  --> RESET to them, a few a minute; our keys stay as they are
 *   our packet was of no use to them --> (RESET, signed, about a packet they have not confirmed)
 *                                        session over, KNOCK given up; what they did not confirm goes out on a new KNOCK
 *
 * A RESET proves what the peer has seen. A state behind that is never used to send again.
 */
import { sha256 } from '../crypto/index.ts'
import {
  consumeReset,
  createReset,
  isBehind,
  knockHash,
  RateLimiter,
  readReset,
  type ResetNotice,
} from '../session/index.ts'
import type { ReceivedMessage } from '../transport/index.ts'
import {
  AgentMeshError,
  decodeSessionPacket,
  formatTimestamp,
  fromBase64,
  isAgentMeshError,
  MAILBOX_TTL_SECONDS,
  toBase64,
  toHex,
  type Amid,
  type ErrorCode,
  type MessageId,
  type Reset,
  type ResetReason,
  type SessionId,
} from '../wire/index.ts'
import { audit, commit, isKnownPeer, type Core } from './core.ts'
import { forgetOwed } from './incoming-rows.ts'
import type { Initiator } from './initiator.ts'
import type { Keyring } from './keyring.ts'
import type { Outbox } from './outbox.ts'
import type { Outgoing } from './outgoing.ts'
import { markClosed, touchSession } from './session-rows.ts'
import type { StateFound } from './state-counter.ts'

/** RESETs a minute to one peer: making one costs a signature, provoking one costs a stranger nothing. */
const RESETS_PER_PEER = 6
/**
 * RESETs a minute in all, in four shares that do not touch each other: who goes on provoking them uses up what is for
 * repeats, and strangers what is for strangers, so that a peer which lost its state is told so at once whoever else is at
 * it. A state lost here makes strangers of all peers but those on the allowlist; they have the first one of each minute.
 */
const RESETS_IN_ALL = {
  known: { first: 600, repeated: 120 },
  stranger: { first: 60, repeated: 30 },
} as const

/** What a packet of a session that we hold was refused with, and what that says of the session. */
const REASONS: Partial<Record<ErrorCode, ResetReason>> = {
  DECRYPTION_FAILED: 'undecryptable',
  RATCHET_GAP: 'undecryptable',
  RATCHET_DUPLICATE: 'state_behind',
  SEQUENCE_REPEATED: 'state_behind',
  SEQUENCE_REPLAYED: 'state_behind',
  ENVELOPE_UNREADABLE: 'envelope_unreadable',
  INVALID_SIGNATURE: 'signature_invalid',
  SESSION_MISMATCH: 'identity_mismatch',
}
/** Encrypted by the peer, and nothing that it can be asked to account for: the session ends here too. */
const ENDING: ReadonlySet<ErrorCode> = new Set([
  'ENVELOPE_UNREADABLE',
  'INVALID_SIGNATURE',
  'SESSION_MISMATCH',
])

/**
 * A KNOCK we have not the keys for: its sender fetches our bundle anew. Who made it up learns what it knew, that nobody
 * can open it: the prekeys we publish have public ids, and which key was missing is not said.
 */
const KNOCK_REASONS: Partial<Record<ErrorCode, 'prekey_unknown' | 'undecryptable'>> = {
  PREKEY_UNKNOWN: 'prekey_unknown',
  DECRYPTION_FAILED: 'undecryptable',
}

/** Strangers send what they like, such as a packet that names no session. */
function namedSession(packet: Uint8Array): SessionId | undefined {
  try {
    return decodeSessionPacket(packet).sessionId
  } catch (error) {
    if (!isAgentMeshError(error)) throw error
    return undefined
  }
}

export class Recovery {
  readonly #core: Core
  readonly #outbox: Outbox
  readonly #outgoing: Outgoing
  readonly #initiator: Initiator
  readonly #keyring: Keyring
  readonly #budget = new RateLimiter()

  constructor(core: Core, outbox: Outbox, outgoing: Outgoing, initiator: Initiator, keyring: Keyring) {
    this.#core = core
    this.#outbox = outbox
    this.#outgoing = outgoing
    this.#initiator = initiator
    this.#keyring = keyring
  }

  // --- their packet, of no use to us ------------------------------------------------------------------------------

  /** Tells the peer that its packet could not be used, where that helps and is not too often. */
  async refuse(message: ReceivedMessage, code: ErrorCode): Promise<void> {
    const notice = this.#notice(message, code)
    if (!notice) return
    const { about } = notice
    const ended = 'session_id' in about && ENDING.has(code) ? about.session_id : undefined
    const isTold = this.#afford(message.from)
    if (!isTold && ended === undefined) return
    await commit(this.#core, (afterCommit) => {
      // Before what is said again on another session.
      const behind = 'session_id' in about ? this.#unconfirmed(about.session_id) : []
      if (ended !== undefined) this.#giveUp(ended, afterCommit)
      if (!isTold) return
      const now = this.#core.now()
      const packet = createReset(this.#core.identity, notice, now)
      const expiresAt = now + MAILBOX_TTL_SECONDS * 1000
      this.#outbox.put(
        { to: message.from, type: 'reset', packet, awaitsReceipt: false, expiresAt, behind },
        afterCommit,
      )
    })
  }

  #notice(message: ReceivedMessage, code: ErrorCode): ResetNotice | undefined {
    const { from, type, payload: packet } = message
    const knocked = type === 'knock' ? KNOCK_REASONS[code] : undefined
    if (knocked) {
      return { to: from, about: { knock_hash: toBase64(knockHash(packet)) }, packet, reason: knocked }
    }
    if (type !== 'message' && type !== 'close') return undefined
    const session_id = namedSession(packet)
    if (session_id === undefined) return undefined
    const row = this.#core.store.tables.sessions.get(session_id)
    if (!row || row.session.peer !== from) {
      // A CLOSE for a session that is gone asks for nothing.
      return type === 'close' || code !== 'SESSION_UNKNOWN'
        ? undefined
        : { to: from, about: { session_id }, packet, reason: 'session_unknown' }
    }
    // Our word that the session could not go on reached nobody.
    if (code === 'SESSION_CLOSED' && type === 'message') {
      return { to: from, about: { session_id }, packet, reason: 'session_unknown' }
    }
    const reason = REASONS[code]
    if (!reason) return undefined
    return { to: from, about: { session_id }, packet, reason, receivedUpTo: row.session.received.highest }
  }

  /** Packets of a session that its peer did not confirm. */
  #unconfirmed(sessionId: SessionId): MessageId[] {
    const { outgoing, packets } = this.#core.store.tables
    const sealed = outgoing.list({ a: sessionId, b: 'sealed' }).map(({ value }) => value.id)
    return sealed.filter((id) => packets.get(id) !== undefined)
  }

  #giveUp(sessionId: SessionId, afterCommit: (() => void)[]): void {
    const row = this.#core.store.tables.sessions.get(sessionId)
    if (!row || (row.session.state === 'closed' && row.session.closes === 'none')) return
    if (row.session.state === 'open') markClosed(this.#core, row, 'error', afterCommit)
    else touchSession(this.#core, { ...row, session: { ...row.session, closes: 'none' } })
    this.#sendAgain(sessionId, afterCommit)
  }

  #afford(peer: Amid): boolean {
    if (this.#core.policy.current().blocklist.includes(peer)) return false
    const take = (bucket: string, perMinute: number): boolean =>
      this.#budget.take(bucket, perMinute, this.#core.now()).allowed
    if (!take(peer, RESETS_PER_PEER)) return false
    const who = isKnownPeer(this.#core, peer) ? 'known' : 'stranger'
    const turn = take(`first ${peer}`, 1) ? 'first' : 'repeated'
    return take(`${who} ${turn}`, RESETS_IN_ALL[who][turn])
  }

  // --- our own state, of no use to anybody -------------------------------------------------------------------------

  /**
   * The state is not the one used last, or rows of it are gone. Its ratchets may have sealed since, its prekeys may have opened KNOCKs since: none
   * is used again, new keys are made, and what waits goes out on new KNOCKs, as said before. Requests and messages that an
   * older copy owes its application may have been handed over since, so they are not: a peer that still waits asks again.
   */
  async giveUpAll(found: Exclude<StateFound, 'same'>): Promise<void> {
    const { sessions, answers } = this.#core.store.tables
    await commit(this.#core, (afterCommit) => {
      this.#core.state.goBeyond(this.#core.store.tables)
      if (found === 'older') forgetOwed(this.#core.store.tables)
      for (const { key } of answers.list()) answers.delete(key)
      for (const row of this.#outgoing.queued()) this.#outgoing.write({ ...row, rebinds: row.rebinds + 1 })
      // A KNOCK is made anew for all that is queued when the agent goes online.
      this.#initiator.forgetAll()
      this.#keyring.startOver(afterCommit)
      for (const { value: row } of sessions.list()) {
        if (row.session.state === 'open') markClosed(this.#core, row, 'error', afterCommit)
        // One that was closed can still carry receipts; one that was given up carries nothing.
        else touchSession(this.#core, { ...row, session: { ...row.session, closes: 'none' } })
        this.#sendAgain(row.session.id, afterCommit)
      }
    })
    // Not before: a start that is cut short gives up again.
    await this.#core.store.acceptTables()
  }

  // --- our packet, of no use to them ------------------------------------------------------------------------------

  /** A RESET came. Call within a commit. @throws what `consumeReset` throws, RESET_MISMATCH; then nothing changed */
  receiveReset(from: Amid, packet: Uint8Array, afterCommit: (() => void)[]): void {
    const { about } = readReset(packet)
    if ('session_id' in about) this.#resetSession(from, about.session_id, packet, afterCommit)
    else this.#resetKnock(from, toHex(fromBase64(about.knock_hash)), packet, afterCommit)
  }

  #consume(from: Amid, packet: Uint8Array, peerSigningKey: Uint8Array): Reset {
    const { identity } = this.#core
    return consumeReset(packet, { from, to: identity.amid, peerSigningKey, now: this.#core.now() })
  }

  #resetSession(from: Amid, sessionId: SessionId, packet: Uint8Array, afterCommit: (() => void)[]): void {
    const row = this.#core.store.tables.sessions.get(sessionId)
    if (!row || row.session.peer !== from) throw new AgentMeshError('SESSION_UNKNOWN')
    const reset = this.#consume(from, packet, row.session.peerSigningKey)
    const open = row.session.state === 'open'
    // What the peer confirmed, or we never sent, moves nothing: a replayed RESET names such a packet.
    if (!this.#outstanding(sessionId, reset.packet_hash)) {
      if (open) throw new AgentMeshError('RESET_MISMATCH')
      return
    }
    const behind = reset.received_up_to !== undefined && isBehind(row.session, reset.received_up_to)
    const reason = behind ? 'our state was older than what the peer has seen' : reset.reason
    audit(this.#core, { event: 'session_reset', session_id: sessionId, peer: from, reason }, afterCommit)
    if (open) markClosed(this.#core, row, 'error', afterCommit)
    this.#sendAgain(sessionId, afterCommit)
    this.#notify(
      `A session with ${from} could not go on (${reason}); what was not confirmed is sent again`,
      afterCommit,
    )
  }

  /** What the peer did not confirm on a session that was given up goes out on another. */
  #sendAgain(sessionId: SessionId, afterCommit: (() => void)[]): void {
    const { sessions, outgoing } = this.#core.store.tables
    const ended = sessions.get(sessionId)
    // Nobody is there to confirm it.
    for (const { key, value } of outgoing.list({ a: sessionId, b: 'sealed' }))
      if (value.type === 'close') this.#outbox.remove(key as MessageId)
    if (ended) this.#outgoing.sessionClosed({ ...ended.session, closes: 'theirs' }, afterCommit)
  }

  /** Whether a packet of this session is unconfirmed and has this hash. */
  #outstanding(sessionId: SessionId, packetHash: string): boolean {
    const { outgoing, packets } = this.#core.store.tables
    return outgoing.list({ a: sessionId, b: 'sealed' }).some(({ key }) => {
      const packet = packets.get(key)
      return packet !== undefined && toBase64(sha256(packet.packet)) === packetHash
    })
  }

  #resetKnock(from: Amid, hash: string, packet: Uint8Array, afterCommit: (() => void)[]): void {
    const row = this.#core.store.tables.handshakes.get(hash)
    if (!row || row.pending.peer !== from) throw new AgentMeshError('ANSWER_MISMATCH')
    const reset = this.#consume(from, packet, row.pending.peerSigningKey)
    if (reset.packet_hash !== row.packetHash) throw new AgentMeshError('RESET_MISMATCH')
    this.#initiator.knockAgain(hash, row, afterCommit)
  }

  #notify(text: string, afterCommit: (() => void)[]): void {
    const at = formatTimestamp(this.#core.now())
    afterCommit.push(() => this.#core.events.emit('notice', { at, about: 'recovery', text }))
  }
}

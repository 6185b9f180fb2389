/**
 * KNOCKs, ours and our peers'. The cryptography and the rules are the session layer's; here they meet the store, the
 * registry and the clock.
 *
 * Ours, one a lane:
 *
 *   looking up --(bundle)--> knocking --(ACCEPT)--> session   --> the lane's messages are sealed
 *       |  ^ registry away       |
 *       +--+                     +--(REJECT, expiry)--> the lane's messages fail
 *
 * Theirs: answered once, in the commit that stores nonce, decision, session and answer. A KNOCK that comes again gets the
 * stored answer, whatever policy says by then.
 */
import { verifyBundle } from '../identity/index.ts'
import {
  ANONYMOUS_STANDING,
  createAccept,
  createReject,
  evaluateKnock,
  grantConstraints,
  knockHash,
  openKnock,
  newPrecheckState,
  precheckKnock,
  refuseUnopened,
  rejectText,
  stepInitiator,
  stepResponder,
  type Decision,
  type InitiatorState,
  type OpenedKnock,
  type PrecheckOutcome,
  type ResponderEffect,
  type ResponderEvent,
  type ResponderState,
} from '../session/index.ts'
import {
  AgentMeshError,
  formatIntent,
  formatTimestamp,
  isAgentMeshError,
  KNOCK_TTL_SECONDS,
  newSessionId,
  toHex,
  type Amid,
  type Bundle,
  type ErrorCode,
  type Intent,
  type PresenceState,
} from '../wire/index.ts'
import { audit, background, commit, type Core } from './core.ts'
import type { Keyring } from './keyring.ts'
import type { Outbox } from './outbox.ts'
import { laneOf, type Outgoing } from './outgoing.ts'
import { touchSession } from './session-rows.ts'
import type { OutgoingRow, SessionRow } from './tables.ts'
import type { DecisionRecord } from './types.ts'

const LOOKUP_RETRY_MS = 2_000
const MAX_LOOKUP_RETRY_MS = 60_000
/** Decisions kept for `why`. */
export const MAX_DECISIONS = 1000

/** Registry answers that end a message at once; anything else is tried again. */
const FINAL: ReadonlySet<ErrorCode> = new Set([
  'AGENT_NOT_FOUND',
  'REGISTRY_ANSWER_INVALID',
  'AMID_MISMATCH',
  'INVALID_SIGNATURE',
  'INVALID_KEY',
  'KEY_EXPIRED',
  'MALFORMED',
  'UNSUPPORTED_VERSION',
  'WEAK_SHARED_SECRET',
])

/** What a decision needs to know of the agent as it is now. */
export interface Availability {
  readonly paused: boolean
  readonly presence: PresenceState
  /** Since when the relay reaches us, milliseconds since the epoch; what it took before that waited for us. */
  readonly connectedSince: number
}

export class Handshakes {
  readonly #core: Core
  readonly #outbox: Outbox
  readonly #keyring: Keyring
  readonly #availability: () => Availability
  readonly #limits = newPrecheckState()
  readonly #lookingUp = new Set<string>()
  readonly #retries = new Map<string, { timer: NodeJS.Timeout; delay: number }>()
  #outgoing!: Outgoing

  constructor(core: Core, outbox: Outbox, keyring: Keyring, availability: () => Availability) {
    this.#core = core
    this.#outbox = outbox
    this.#keyring = keyring
    this.#availability = availability
  }

  /** Outgoing asks for sessions and is told of them, so the two are joined after both exist. */
  join(outgoing: Outgoing): void {
    this.#outgoing = outgoing
  }

  // --- ours -----------------------------------------------------------------------------------------------------

  /** Sees to a session on the row's lane, unless one is on its way. */
  need(row: OutgoingRow): void {
    const lane = laneOf(row)
    const key = `${row.to} ${lane}`
    if (this.#lookingUp.has(key) || this.#retries.has(key) || this.#pending(row.to, lane)) return
    this.#lookingUp.add(key)
    const knocked = this.#knock(row, lane, key).finally(() => this.#lookingUp.delete(key))
    background(this.#core, 'knock', knocked)
  }

  #pending(to: Amid, lane: string): boolean {
    return this.#core.store.tables.handshakes.list({ a: to }).some((entry) => entry.value.lane === lane)
  }

  async #knock(row: OutgoingRow, lane: string, key: string): Promise<void> {
    const { registry, store } = this.#core
    const { state } = stepInitiator({ name: 'idle' }, { type: 'knock', peer: row.to }, this.#environment())
    try {
      await registry.lookup(row.to)
      await commit(this.#core, (afterCommit) =>
        this.#outgoing.note(row.id, { stage: 'looked_up' }, afterCommit),
      )
      const bundle = await registry.fetchBundle(row.to)
      await commit(this.#core, (afterCommit) => {
        // Nobody waits any more: failed, expired, or sealed on a session that opened meanwhile.
        if (store.tables.outgoing.get(row.id)?.state === 'queued')
          this.#sendKnock(state, row, lane, bundle, afterCommit)
      })
      this.#clearRetry(key)
    } catch (error) {
      if (!isAgentMeshError(error)) throw error
      if (FINAL.has(error.code)) await this.#giveUp(row.to, lane, error.code, error.message)
      else this.#retryLater(row, key, error)
    }
  }

  #environment() {
    return { random: this.#core.random, now: this.#core.now() }
  }

  #sendKnock(
    state: InitiatorState,
    row: OutgoingRow,
    lane: string,
    raw: Bundle,
    afterCommit: (() => void)[],
  ): void {
    const bundle = verifyBundle(raw, row.to, this.#core.now())
    this.#checkExchangeSequence(row.to, raw.exchange_key.sequence)
    const { display_name } = this.#core.config
    const step = stepInitiator(
      state,
      {
        type: 'bundle',
        request: {
          identity: this.#core.identity,
          exchangeKey: this.#keyring.currentExchangeKey(),
          bundle,
          intent: row.intent,
          sessionRequest: { type: row.sessionType, ttl_seconds: row.ttlSeconds },
          ...(display_name === undefined ? {} : { displayName: display_name }),
        },
      },
      this.#environment(),
    )
    if (step.state.name === 'failed')
      throw new AgentMeshError(step.state.code, undefined, { operation: 'knock' })
    if (step.state.name !== 'knocking') return
    const { pending } = step.state
    this.#core.store.tables.handshakes.put(
      toHex(pending.knockHash),
      { pending, lane, createdAt: this.#core.now() },
      { a: row.to, b: lane, at: pending.expiresAt },
    )
    for (const effect of step.effects) {
      if (effect.type !== 'send-knock') continue
      const { expiresAt } = pending
      const { to, packet } = effect
      this.#outbox.put({ to, type: 'knock', packet, awaitsReceipt: false, expiresAt }, afterCommit)
    }
    const note = { event: 'knock_sent', to: row.to, intent: formatIntent(row.intent) } as const
    audit(this.#core, note, afterCommit)
    for (const queued of this.#outgoing.queuedFor(row.to, lane)) {
      this.#outgoing.note(queued.id, { stage: 'knocked' }, afterCommit)
    }
  }

  /** An exchange key older than one we saw is a registry replaying the past. */
  #checkExchangeSequence(peer: Amid, sequence: number): void {
    const { contacts } = this.#core.store.tables
    const known = contacts.get(peer)
    if (known && sequence < known.exchangeSequence) {
      throw new AgentMeshError('REGISTRY_ANSWER_INVALID', 'The registry answered with an older exchange key')
    }
    const now = this.#core.now()
    contacts.put(peer, { exchangeSequence: sequence, lastSeenAt: now }, { at: now })
  }

  #retryLater(row: OutgoingRow, key: string, error: AgentMeshError): void {
    const delay = Math.min((this.#retries.get(key)?.delay ?? LOOKUP_RETRY_MS / 2) * 2, MAX_LOOKUP_RETRY_MS)
    const wait = error.retryAfterSeconds === undefined ? delay : error.retryAfterSeconds * 1000
    const timer = setTimeout(() => {
      this.#retries.delete(key)
      this.need(row)
    }, wait)
    this.#retries.set(key, { timer, delay })
  }

  #clearRetry(key: string): void {
    clearTimeout(this.#retries.get(key)?.timer)
    this.#retries.delete(key)
  }

  async #giveUp(to: Amid, lane: string, code: ErrorCode, message: string): Promise<void> {
    await commit(this.#core, (afterCommit) => {
      for (const row of this.#outgoing.queuedFor(to, lane))
        this.#outgoing.fail(row, { code, message }, afterCommit)
    })
  }

  /** An ACCEPT or REJECT came. Call within a commit. @throws what the session layer throws; then nothing changed. */
  receiveAnswer(
    from: Amid,
    type: 'accept' | 'reject',
    packet: Uint8Array,
    afterCommit: (() => void)[],
  ): void {
    const { handshakes } = this.#core.store.tables
    const hash = toHex(packet.subarray(0, 32))
    const handshake = handshakes.get(hash)
    if (!handshake || handshake.pending.peer !== from) throw new AgentMeshError('ANSWER_MISMATCH')
    const step = stepInitiator(
      { name: 'knocking', pending: handshake.pending },
      { type: 'answer', relayType: type, packet },
      this.#environment(),
    )
    for (const effect of step.effects) if (effect.type === 'report') throw new AgentMeshError(effect.code)
    handshakes.delete(hash)
    if (step.state.name === 'open') {
      this.#open({ session: step.state.session, lane: handshake.lane, deliverNext: 1 }, afterCommit)
      return
    }
    if (step.state.name !== 'rejected') return
    const { reason, human_readable, retry_after_seconds } = step.state.reject
    audit(this.#core, { event: 'knock_answered', to: from, result: 'rejected', reason }, afterCommit)
    for (const row of this.#outgoing.queuedFor(from, handshake.lane)) {
      this.#outgoing.fail(
        row,
        {
          code: 'KNOCK_REJECTED',
          message: `${reason}: ${human_readable}`,
          reject: { reason, human_readable, retry_after_seconds },
        },
        afterCommit,
      )
    }
  }

  #open(row: SessionRow, afterCommit: (() => void)[]): void {
    const { session } = row
    touchSession(this.#core, row)
    const { id: session_id, peer } = session
    if (row.lane !== '') {
      audit(this.#core, { event: 'knock_answered', to: peer, result: 'accepted', session_id }, afterCommit)
    }
    audit(
      this.#core,
      {
        event: 'session_started',
        session_id,
        peer,
        type: session.type,
        role: session.role,
        intent: formatIntent(session.intent),
        one_time_prekey_used: session.oneTimePrekeyUsed,
      },
      afterCommit,
    )
    afterCommit.push(() => this.#core.events.emit('session', { session_id, peer, state: 'open' }))
    if (row.lane !== '') this.#outgoing.sessionOpened(row, afterCommit)
  }

  // --- theirs ---------------------------------------------------------------------------------------------------

  /**
   * A KNOCK came. Call within a commit; what it does not let in changes nothing but the owner's record.
   *
   * @param takenAt when the relay took it, milliseconds since the epoch
   */
  receiveKnock(from: Amid, packet: Uint8Array, takenAt: number, afterCommit: (() => void)[]): void {
    const now = this.#core.now()
    const hash = toHex(knockHash(packet))
    const answered = this.#core.store.tables.answers.get(hash)
    if (answered) {
      // Our answer may have been lost: the same one again, never a second decision.
      this.#sendAnswer(from, answered.type, answered.packet, now, afterCommit)
      return
    }
    const precheck = precheckKnock(from, this.#core.policy.current(), this.#limits, now)
    let state: ResponderState = { name: 'received' }
    const events: ResponderEvent[] = [{ type: 'prechecked', precheck }]
    for (let event = events.shift(); event; event = events.shift()) {
      const step = stepResponder(state, event)
      state = step.state
      for (const effect of step.effects) {
        const next = this.#perform(effect, { from, packet, takenAt, hash }, afterCommit)
        if (next) events.push(next)
      }
    }
    this.#record(state, from, hash, precheck, afterCommit)
  }

  #perform(
    effect: ResponderEffect,
    knock: { from: Amid; packet: Uint8Array; takenAt: number; hash: string },
    afterCommit: (() => void)[],
  ): ResponderEvent | undefined {
    const { nonces, sessions } = this.#core.store.tables
    const now = this.#core.now()
    switch (effect.type) {
      case 'open':
        try {
          const own = { identity: this.#core.identity, keys: this.#keyring }
          return { type: 'opened', opened: openKnock(knock.packet, knock.from, own, { now }) }
        } catch (error) {
          if (!isAgentMeshError(error)) throw error
          return { type: 'not-opened', code: error.code }
        }
      case 'commit-nonce': {
        const key = `${knock.from}:${toHex(effect.opened.nonce)}`
        if (nonces.get(key)) return { type: 'not-opened', code: 'KNOCK_REPLAYED' }
        nonces.put(key, true, { at: effect.opened.forgetAfter })
        this.#keyring.consume(effect.opened)
        return undefined
      }
      case 'evaluate': {
        const { opened, precheck } = effect
        const { paused, presence, connectedSince } = this.#availability()
        const decision = evaluateKnock(
          {
            from: knock.from,
            knock: opened.knock,
            expiresAt: opened.expiresAt,
            standing: ANONYMOUS_STANDING,
          },
          this.#core.policy.current(),
          {
            now,
            precheck,
            activeSessions: sessions.count({ b: 'open' }),
            paused,
            presence,
            arrivedOffline: knock.takenAt < connectedSince,
          },
        )
        this.#decide(knock.hash, knock.from, decision, opened.knock.intent, afterCommit)
        return { type: 'decided', decision }
      }
      case 'accept':
        this.#accept(knock.hash, effect.opened, afterCommit)
        return undefined
      case 'reject':
        this.#reject(knock.hash, effect.opened, effect.decision, afterCommit)
        return undefined
    }
  }

  /** A KNOCK that ended without an answer is a decision too, and the owner can ask why. */
  #record(
    state: ResponderState,
    from: Amid,
    hash: string,
    precheck: PrecheckOutcome,
    afterCommit: (() => void)[],
  ): void {
    if (state.name !== 'dropped') return
    if (state.reason !== 'silent') {
      this.#decide(hash, from, refuseUnopened(from, state.reason, precheck), undefined, afterCommit)
    } else if (precheck.verdict !== 'ok') {
      const { verdict, trace } = precheck
      this.#decide(hash, from, { accepted: false, reason: verdict, trace }, undefined, afterCommit)
    }
  }

  #decide(
    id: string,
    from: Amid,
    decision: Decision,
    intent: Intent | undefined,
    afterCommit: (() => void)[],
  ): void {
    const now = this.#core.now()
    const record: DecisionRecord = {
      id,
      from,
      at: formatTimestamp(now),
      ...(intent === undefined ? {} : { intent }),
      accepted: decision.accepted,
      ...(decision.reason === undefined ? {} : { reason: decision.reason }),
      trace: [...decision.trace],
    }
    const { decisions } = this.#core.store.tables
    decisions.put(id, record, { a: from, at: now })
    // Strangers can make us write here, so the oldest goes at once.
    const surplus = decisions.count() - MAX_DECISIONS
    if (surplus > 0) for (const { key } of decisions.list({ limit: surplus })) decisions.delete(key)
    audit(
      this.#core,
      {
        event: 'knock_received',
        from,
        ...(intent === undefined ? {} : { intent: formatIntent(intent) }),
        result: decision.accepted ? 'accepted' : 'rejected',
        ...(decision.reason === undefined ? {} : { reason: decision.reason }),
        id,
      },
      afterCommit,
    )
    afterCommit.push(() => this.#core.events.emit('knock', record))
  }

  #accept(hash: string, opened: OpenedKnock, afterCommit: (() => void)[]): void {
    const made = createAccept(
      opened,
      {
        identity: this.#core.identity,
        sessionId: newSessionId(this.#core.random),
        constraints: grantConstraints(opened.knock.session_request),
        capabilities: this.#core.config.capabilities.map((capability) =>
          typeof capability === 'string' ? capability : formatIntent(capability),
        ),
      },
      this.#environment(),
    )
    this.#answer(hash, opened, 'accept', made.packet, afterCommit)
    this.#open({ session: made.session, lane: '', deliverNext: 1 }, afterCommit)
  }

  #reject(hash: string, opened: OpenedKnock, decision: Decision, afterCommit: (() => void)[]): void {
    const reason = decision.reason ?? 'invalid_signature'
    const packet = createReject(
      opened,
      {
        identity: this.#core.identity,
        reason,
        humanReadable: rejectText(reason),
        retryAfterSeconds: decision.retryAfterSeconds ?? null,
      },
      this.#environment(),
    )
    this.#answer(hash, opened, 'reject', packet, afterCommit)
  }

  #answer(
    hash: string,
    opened: OpenedKnock,
    type: 'accept' | 'reject',
    packet: Uint8Array,
    afterCommit: (() => void)[],
  ): void {
    const { from } = opened
    this.#core.store.tables.answers.put(hash, { type, packet }, { a: from, at: opened.forgetAfter })
    this.#sendAnswer(from, type, packet, this.#core.now(), afterCommit)
  }

  #sendAnswer(
    to: Amid,
    type: 'accept' | 'reject',
    packet: Uint8Array,
    now: number,
    afterCommit: (() => void)[],
  ): void {
    const expiresAt = now + KNOCK_TTL_SECONDS * 1000
    this.#outbox.put({ to, type, packet, awaitsReceipt: false, expiresAt }, afterCommit)
  }

  // --- time -----------------------------------------------------------------------------------------------------

  /** Ends KNOCKs nobody answered, forgets what cannot be replayed any more. */
  async maintain(): Promise<void> {
    const now = this.#core.now()
    const { handshakes, answers, nonces } = this.#core.store.tables
    await commit(this.#core, (afterCommit) => {
      for (const { key, value } of handshakes.list({ before: now })) {
        handshakes.delete(key)
        for (const row of this.#outgoing.queuedFor(value.pending.peer, value.lane)) {
          this.#outgoing.fail(
            row,
            { code: 'KNOCK_UNANSWERED', message: 'The peer did not answer' },
            afterCommit,
          )
        }
      }
      answers.deleteBefore(now)
      nonces.deleteBefore(now)
    })
  }

  close(): void {
    for (const { timer } of this.#retries.values()) clearTimeout(timer)
    this.#retries.clear()
  }
}

/**
 * Our peers' KNOCKs. The rules and the cryptography are the session layer's; here they meet the store and the clock.
 *
 * Each is answered once, in the commit that stores nonce, decision, session and answer. A KNOCK that comes again gets
 * the stored answer, whatever policy says by then.
 */
import {
  createAccept,
  createReject,
  evaluateKnock,
  grantConstraints,
  knockHash,
  newPrecheckState,
  openKnock,
  openOptimistic,
  precheckKnock,
  refuseUnopened,
  rejectText,
  stepResponder,
  UnusableKnock,
  type Decision,
  type OpenedKnock,
  type PrecheckOutcome,
  type ResponderEffect,
  type ResponderEvent,
  type ResponderState,
} from '../session/index.ts'
import {
  formatIntent,
  formatTimestamp,
  isAgentMeshError,
  KNOCK_TTL_SECONDS,
  toHex,
  type Amid,
  type Envelope,
  type ErrorCode,
  type Intent,
  type PresenceState,
  type RejectReason,
} from '../wire/index.ts'
import { audit, commit, isChosenPeer, isKnownPeer, type Core } from './core.ts'
import type { Keyring } from './keyring.ts'
import type { Outbox } from './outbox.ts'
import { packetKey } from './packet-key.ts'
import { isActive, startSession } from './session-rows.ts'
import type { TrustKeeper } from './trust/trust-keeper.ts'
import type { SessionRow } from './tables.ts'
import { Tally } from './tally.ts'
import type { DecisionRecord } from './types.ts'

/** Decisions kept for `why`. */
const MAX_DECISIONS = 1000

/** What a decision needs to know of the agent as it is now. */
export interface Availability {
  readonly paused: boolean
  readonly presence: PresenceState
  /** Since when the relay reaches us, milliseconds since the epoch; what it took before that waited for us. */
  readonly connectedSince: number
}

/** Neither told to its sender nor a reason of its own. */
function isQuiet(reason: 'silent' | 'repeated' | ErrorCode): reason is 'silent' | 'repeated' {
  return reason === 'silent' || reason === 'repeated'
}

interface ReceivedKnock {
  readonly from: Amid
  readonly packet: Uint8Array
  readonly takenAt: number
  /** Of sender and packet (`packetKey`). */
  readonly hash: string
  readonly precheck: PrecheckOutcome
  /** Lists were asked for already. */
  readonly waited: boolean
}

type DeliverFirst = (row: SessionRow, envelope: Envelope, afterCommit: (() => void)[]) => void

export class Responder {
  readonly #core: Core
  readonly #outbox: Outbox
  readonly #keyring: Keyring
  readonly #trust: TrustKeeper
  readonly #availability: () => Availability
  readonly #limits = newPrecheckState()
  /** KNOCKs turned away: a flood would push older decisions out, and fill the log. */
  readonly #refused = new Tally<RejectReason | 'other'>({ perKind: 5, inAll: 60 })
  /** KNOCKs that wait for revocation lists, by sender and hash. */
  readonly #waiting = new Map<string, PrecheckOutcome>()
  #deliver: DeliverFirst = () => {}

  constructor(
    core: Core,
    outbox: Outbox,
    keyring: Keyring,
    trust: TrustKeeper,
    availability: () => Availability,
  ) {
    this.#core = core
    this.#outbox = outbox
    this.#keyring = keyring
    this.#trust = trust
    this.#availability = availability
  }

  /** Where a request that came with its KNOCK goes; the inbox exists later than we do. */
  join(deliver: DeliverFirst): void {
    this.#deliver = deliver
  }

  #environment() {
    return { random: this.#core.random, now: this.#core.now() }
  }

  /**
   * A KNOCK came. Call within a commit; what it does not let in changes nothing but the owner's record.
   *
   * @param takenAt when the relay took it, milliseconds since the epoch
   * @returns why it was not opened, when it was not
   * @throws ListsNeeded: to be called again when they were asked for
   */
  receiveKnock(
    from: Amid,
    packet: Uint8Array,
    takenAt: number,
    afterCommit: (() => void)[],
  ): ErrorCode | undefined {
    const now = this.#core.now()
    const hash = packetKey(from, knockHash(packet))
    const waited = this.#waiting.get(hash)
    this.#waiting.delete(hash)
    const precheck = waited ?? this.#precheck(from, now)
    const answered = this.#core.store.tables.answers.get(hash)
    if (answered) {
      // Our answer may have been lost: the same one again, never a second decision. At the rate of KNOCKs, since an
      // answer that nobody fetches stays on our disk.
      if (precheck.verdict === 'ok') {
        this.#sendAnswer(from, answered.type, answered.packet, now, afterCommit)
      }
      return undefined
    }
    let state: ResponderState = { name: 'received' }
    const events: ResponderEvent[] = [{ type: 'prechecked', precheck }]
    for (let event = events.shift(); event; event = events.shift()) {
      const step = stepResponder(state, event)
      state = step.state
      for (const effect of step.effects) {
        const given = { from, packet, takenAt, hash, precheck, waited: waited !== undefined }
        const next = this.#perform(effect, given, afterCommit)
        if (next) events.push(next)
      }
    }
    this.#record(state, from, hash, precheck, afterCommit)
    return state.name === 'dropped' && !isQuiet(state.reason) ? state.reason : undefined
  }

  #precheck(from: Amid, now: number): PrecheckOutcome {
    const isKnown = isKnownPeer(this.#core, from) || isChosenPeer(this.#core, from)
    return precheckKnock({ from, isKnown }, this.#core.policy.current(), this.#limits, now)
  }

  /** The same KNOCK comes here again, and is not held against its sender's rate twice. */
  #requireLists({ knock }: OpenedKnock, { hash, precheck }: ReceivedKnock): void {
    try {
      this.#trust.requireLists(knock.certificate_chain)
    } catch (error) {
      this.#waiting.set(hash, precheck)
      throw error
    }
  }

  #perform(
    effect: ResponderEffect,
    knock: ReceivedKnock,
    afterCommit: (() => void)[],
  ): ResponderEvent | undefined {
    const { nonces } = this.#core.store.tables
    const now = this.#core.now()
    switch (effect.type) {
      case 'open':
        try {
          const own = { identity: this.#core.identity, keys: this.#keyring }
          const opened = openKnock(knock.packet, knock.from, own, { now })
          if (!knock.waited) this.#requireLists(opened, knock)
          return { type: 'opened', opened }
        } catch (error) {
          if (!isAgentMeshError(error)) throw error
          if (error instanceof UnusableKnock) this.#keyring.keepHeader(error.kept)
          return { type: 'not-opened', code: error.code }
        }
      case 'commit-nonce': {
        const key = `${knock.from}:${toHex(effect.opened.nonce)}`
        if (nonces.get(key)) return { type: 'repeated' }
        nonces.put(key, true, { at: effect.opened.forgetAfter })
        this.#keyring.consume(effect.opened)
        return { type: 'claimed' }
      }
      case 'evaluate': {
        const { opened, precheck } = effect
        const { paused, presence, connectedSince } = this.#availability()
        const decision = evaluateKnock(
          {
            from: knock.from,
            knock: opened.knock,
            expiresAt: opened.expiresAt,
            ...this.#trust.check(opened.knock, opened),
          },
          this.#core.policy.current(),
          {
            now,
            precheck,
            activeSessions: this.#activeSessions(),
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

  /** Sessions in use, counted no further than the policy's limit; those used last come first. */
  #activeSessions(): number {
    const { max_concurrent_sessions: limit } = this.#core.policy.current()
    const open = this.#core.store.tables.sessions.list({
      b: 'open',
      order: 'desc',
      limit,
    })
    return open.filter((entry) => isActive(this.#core, entry.value)).length
  }

  /** A KNOCK that ended without an answer is a decision too, and the owner can ask why. */
  #record(
    state: ResponderState,
    from: Amid,
    hash: string,
    precheck: PrecheckOutcome,
    afterCommit: (() => void)[],
  ): void {
    if (state.name !== 'dropped' || state.reason === 'repeated') return
    if (!isQuiet(state.reason)) {
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
    const { accepted, reason } = decision
    const known = accepted || isKnownPeer(this.#core, from)
    if (!accepted && !this.#refused.note(from, reason ?? 'other', known)) return
    const now = this.#core.now()
    const record: DecisionRecord = {
      id,
      from,
      at: formatTimestamp(now),
      ...(intent === undefined ? {} : { intent }),
      accepted,
      ...(reason === undefined ? {} : { reason }),
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
        result: accepted ? 'accepted' : 'rejected',
        ...(reason === undefined ? {} : { reason }),
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
        constraints: grantConstraints(opened.knock.session_request),
        standing: this.#trust.standing,
        capabilities: this.#core.config.capabilities.map((capability) =>
          typeof capability === 'string' ? capability : formatIntent(capability),
        ),
      },
      this.#environment(),
    )
    this.#answer(hash, opened, 'accept', made.packet, afterCommit)
    const { standing } = this.#trust.check(opened.knock, opened)
    const row = { lane: '', deliverNext: 1, standing }
    startSession(this.#core, { ...row, session: made.session }, afterCommit)
    if (made.accept.optimistic_taken !== true) return
    // It came with the KNOCK and was not looked at until now.
    const { session, envelope } = openOptimistic(opened, made.session)
    this.#deliver({ ...row, session }, envelope, afterCommit)
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

  /** Writes how many KNOCKs were turned away and not recorded each; called at each maintenance, and `atOnce` at the end. */
  flush(atOnce = false): void {
    const counted = atOnce ? this.#refused.drain() : this.#refused.due(this.#core.now())
    for (const { from, code, count } of counted) {
      audit(this.#core, {
        event: 'knock_received',
        ...(from === undefined ? {} : { from }),
        result: 'rejected',
        ...(code === undefined || code === 'other' ? {} : { reason: code }),
        count,
      })
    }
  }

  /** Forgets answers whose KNOCK cannot come again. */
  async maintain(): Promise<void> {
    this.flush()
    const now = this.#core.now()
    const { answers } = this.#core.store.tables
    await commit(this.#core, () => {
      answers.deleteBefore(now)
    })
  }
}

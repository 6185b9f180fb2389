/**
 * Our KNOCKs, one a lane. The cryptography is the session layer's; here it meets registry, store and clock.
 *
 *   looking up --(bundle)--> knocking --(ACCEPT)--> session   --> the lane's messages are sealed
 *       |  ^ registry away       |
 *       +--+                     +--(REJECT, expiry)--> the lane's messages fail
 */
import { sha256 } from '../crypto/index.ts'
import { verifyBundle } from '../identity/index.ts'
import { stepInitiator, type InitiatorState, type SessionEnvironment } from '../session/index.ts'
import {
  AgentMeshError,
  formatIntent,
  isAgentMeshError,
  toBase64,
  toHex,
  type AgentRecord,
  type Amid,
  type Bundle,
  type ErrorCode,
  type RequestPayload,
} from '../wire/index.ts'
import { checkContactKeys } from './contact-keys.ts'
import { audit, background, commit, type Core } from './core.ts'
import type { Keyring } from './keyring.ts'
import type { Outbox } from './outbox.ts'
import { firstSent, laneOf } from './outgoing-rows.ts'
import { MAX_REBINDS, type Outgoing } from './outgoing.ts'
import type { Routes } from './relays/routes.ts'
import { startSession } from './session-rows.ts'
import type { HandshakeRow, OutgoingRow } from './tables.ts'
import type { TrustKeeper } from './trust/trust-keeper.ts'

const LOOKUP_RETRY_MS = 2_000
const MAX_LOOKUP_RETRY_MS = 60_000
/** Wait before the second new KNOCK for one that the peer could not open; doubles each time. */
const REKNOCK_MS = 1_000
/** Registry answers that end a message at once; anything else is tried again. */
const FINAL: ReadonlySet<ErrorCode> = new Set([
  'AGENT_NOT_FOUND',
  'REGISTRY_ANSWER_INVALID',
  'AMID_MISMATCH',
  'RELAY_FORBIDDEN',
  'INVALID_SIGNATURE',
  'INVALID_KEY',
  'KEY_EXPIRED',
  'MALFORMED',
  'UNSUPPORTED_VERSION',
  'WEAK_SHARED_SECRET',
])

export class Initiator {
  readonly #core: Core
  readonly #outbox: Outbox
  readonly #keyring: Keyring
  readonly #trust: TrustKeeper
  readonly #routes: Routes
  readonly #lookingUp = new Set<string>()
  /** By peer and lane. Without a timer: the attempt it waited for is under way. */
  readonly #retries = new Map<string, { timer: NodeJS.Timeout | undefined; delay: number }>()
  #closed = false
  #outgoing!: Outgoing

  constructor(core: Core, outbox: Outbox, keyring: Keyring, trust: TrustKeeper, routes: Routes) {
    this.#core = core
    this.#outbox = outbox
    this.#keyring = keyring
    this.#trust = trust
    this.#routes = routes
  }

  /** Outgoing asks for sessions and is told of them, so the two are joined after both exist. */
  join(outgoing: Outgoing): void {
    this.#outgoing = outgoing
  }

  /** Sees to a session on the row's lane, unless one is on its way. */
  need(row: OutgoingRow): void {
    const lane = laneOf(row)
    const key = `${row.to} ${lane}`
    if (
      this.#closed ||
      this.#lookingUp.has(key) ||
      this.#retries.get(key)?.timer ||
      this.#pending(row.to, lane)
    )
      return
    this.#lookingUp.add(key)
    const knocked = this.#knock(row, lane, key).finally(() => this.#lookingUp.delete(key))
    background(this.#core, 'knock', knocked)
  }

  #pending(to: Amid, lane: string): boolean {
    return this.#core.store.tables.handshakes.list({ a: to }).some((entry) => entry.value.lane === lane)
  }

  async #knock(row: OutgoingRow, lane: string, key: string): Promise<void> {
    const { state } = stepInitiator({ name: 'idle' }, { type: 'knock', peer: row.to }, this.#environment())
    try {
      await this.#lookUpAndKnock(state, row, lane)
      this.#clearRetry(key)
    } catch (error) {
      if (!isAgentMeshError(error)) throw error
      if (this.#closed) return
      if (!FINAL.has(error.code)) return this.#retryLater(row, key, error)
      this.#clearRetry(key)
      await this.#giveUp(row.to, lane, error.code, error.message)
    }
  }

  /** Of two fetches that race, the later may be read first: an answer that is older than one before it is asked for once more. */
  async #lookUpAndKnock(state: InitiatorState, row: OutgoingRow, lane: string, again = true): Promise<void> {
    const { registries, store } = this.#core
    const { record, registry, url } = await registries.find(row.to)
    this.#routes.note(record)
    await commit(this.#core, (afterCommit) =>
      this.#outgoing.note(row.id, { stage: 'looked_up' }, afterCommit),
    )
    const bundle = await registry.fetchBundle(row.to)
    try {
      await commit(this.#core, (afterCommit) => {
        // Nobody waits any more: failed, expired, or sealed on a session that opened meanwhile.
        if (store.tables.outgoing.get(row.id)?.state === 'queued')
          this.#sendKnock(state, row, lane, record, bundle, afterCommit)
      })
    } catch (error) {
      if (!isAgentMeshError(error, 'REGISTRY_ANSWER_INVALID')) throw error
      if (again) return this.#lookUpAndKnock(state, row, lane, false)
      registries.refused(url, error)
      throw error
    }
  }

  #environment() {
    return { random: this.#core.random, now: this.#core.now() }
  }

  #sendKnock(
    state: InitiatorState,
    row: OutgoingRow,
    lane: string,
    record: AgentRecord,
    raw: Bundle,
    afterCommit: (() => void)[],
  ): void {
    const bundle = verifyBundle(raw, row.to, this.#core.now())
    checkContactKeys(this.#core, row.to, record, raw)
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
          standing: this.#trust.standing,
          // Who is on our allowlist gets the first request with the KNOCK (specification §5.5).
          ...(row.type === 'request' && this.#core.policy.current().allowlist.includes(row.to)
            ? {
                optimistic: {
                  type: 'request',
                  id: row.id,
                  payload: row.payload as RequestPayload,
                  ...firstSent(row),
                },
              }
            : {}),
        },
      },
      this.#environment(),
    )
    if (step.state.name === 'failed')
      throw new AgentMeshError(step.state.code, undefined, { operation: 'knock' })
    if (step.state.name !== 'knocking') return
    const { pending } = step.state
    for (const effect of step.effects) {
      if (effect.type !== 'send-knock') continue
      const { expiresAt } = pending
      const { to, packet } = effect
      // Sent again until it is answered: a relay can lose it, and the peer can move to another.
      const packetId = this.#outbox.put(
        { to, type: 'knock', packet, awaitsReceipt: true, expiresAt },
        afterCommit,
      )
      this.#core.store.tables.handshakes.put(
        toHex(pending.knockHash),
        { pending, lane, packetHash: toBase64(sha256(packet)), packetId, createdAt: this.#core.now() },
        { a: to, b: lane, at: expiresAt },
      )
    }
    const note = { event: 'knock_sent', to: row.to, intent: formatIntent(row.intent) } as const
    audit(this.#core, note, afterCommit)
    for (const queued of this.#outgoing.queuedFor(row.to, lane)) {
      this.#outgoing.note(queued.id, { stage: 'knocked' }, afterCommit)
    }
  }

  #retryLater(row: OutgoingRow, key: string, error: AgentMeshError): void {
    const delay = Math.min((this.#retries.get(key)?.delay || LOOKUP_RETRY_MS / 2) * 2, MAX_LOOKUP_RETRY_MS)
    const wait = error.retryAfterSeconds === undefined ? delay : error.retryAfterSeconds * 1000
    this.#retryIn(row, key, { wait, delay })
  }

  #needIn(row: OutgoingRow, wait: number): void {
    const key = `${row.to} ${laneOf(row)}`
    // Several messages of a lane wait for one KNOCK.
    if (!this.#closed && !this.#retries.get(key)?.timer) this.#retryIn(row, key, { wait, delay: 0 })
  }

  #retryIn(row: OutgoingRow, key: string, { wait, delay }: { wait: number; delay: number }): void {
    const timer = setTimeout(() => {
      this.#retries.set(key, { timer: undefined, delay })
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
    mayDerive: SessionEnvironment['mayDerive'],
    afterCommit: (() => void)[],
  ): void {
    const { handshakes } = this.#core.store.tables
    const hash = toHex(packet.subarray(0, 32))
    const handshake = handshakes.get(hash)
    if (!handshake || handshake.pending.peer !== from) throw new AgentMeshError('ANSWER_MISMATCH')
    const step = stepInitiator(
      { name: 'knocking', pending: handshake.pending },
      { type: 'answer', relayType: type, packet },
      { ...this.#environment(), ...(mayDerive && { mayDerive }) },
    )
    for (const effect of step.effects) {
      if (effect.type !== 'report') continue
      if (effect.code !== 'TIME_IMPLAUSIBLE') throw new AgentMeshError(effect.code)
      // The peer's own word, under a clock that is wrong, theirs or ours. It keeps this answer for this KNOCK: another is made.
      this.knockAgain(hash, handshake, afterCommit)
      return
    }
    this.#endHandshake(hash, handshake)
    if (step.state.name === 'open') {
      // What an ACCEPT shows falsely counts for nothing; whether to talk to such a peer was for who sent to it.
      const { standing } = this.#trust.check(step.state.accept, { from })
      const row = { session: step.state.session, lane: handshake.lane, deliverNext: 1, standing }
      startSession(this.#core, row, afterCommit)
      const { optimisticMessageId: first } = handshake.pending
      if (step.state.accept.optimistic_taken === true && first !== undefined) {
        this.#outgoing.sentWithKnock(first, row.session.id, afterCommit)
      }
      this.#outgoing.sessionOpened(row, afterCommit)
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

  /** Its KNOCK waits for no answer any more. Call within a commit. */
  #endHandshake(hash: string, { packetId }: HandshakeRow): void {
    this.#core.store.tables.handshakes.delete(hash)
    if (packetId !== undefined) this.#outbox.remove(packetId)
  }

  /** Gives up every KNOCK that was not answered; what waits for them knocks anew. Call within a commit. */
  forgetAll(): void {
    for (const { key, value } of this.#core.store.tables.handshakes.list()) this.#endHandshake(key, value)
  }

  /** The peer cannot use a KNOCK of ours: another one, with keys fetched anew. Call within a commit. */
  knockAgain(hash: string, handshake: HandshakeRow, afterCommit: (() => void)[]): void {
    const { pending, lane } = handshake
    this.#endHandshake(hash, handshake)
    for (const row of this.#outgoing.queuedFor(pending.peer, lane)) {
      if (row.rebinds >= MAX_REBINDS) {
        const message = 'The peer could not open any of our KNOCKs'
        this.#outgoing.fail(row, { code: 'KNOCK_UNANSWERED', message }, afterCommit)
      } else {
        this.#outgoing.write({ ...row, rebinds: row.rebinds + 1 })
        // The first at once; after it, the peer may still be publishing its new keys.
        const wait = row.rebinds === 0 ? 0 : REKNOCK_MS * 2 ** (row.rebinds - 1)
        afterCommit.push(() => (wait === 0 ? this.need(row) : this.#needIn(row, wait)))
      }
    }
  }

  /** Ends KNOCKs nobody answered. */
  async maintain(): Promise<void> {
    const { handshakes } = this.#core.store.tables
    await commit(this.#core, (afterCommit) => {
      for (const { key, value } of handshakes.list({ before: this.#core.now() })) {
        this.#endHandshake(key, value)
        for (const row of this.#outgoing.queuedFor(value.pending.peer, value.lane)) {
          const message = 'The peer did not answer'
          this.#outgoing.fail(row, { code: 'KNOCK_UNANSWERED', message }, afterCommit)
        }
      }
    })
  }

  close(): void {
    this.#closed = true
    for (const { timer } of this.#retries.values()) clearTimeout(timer)
    this.#retries.clear()
  }
}

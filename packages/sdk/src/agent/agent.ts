/**
 * One agent: its identity at work. Opens the home as its only writer, keeps the registry and the relay connection, and
 * joins the parts that send, receive and decide.
 *
 *     const agent = await Agent.open({ home: './alice' })
 *     agent.on('request', async (request) => ({ results: await lookUp(request.payload.parameters) }))
 *     const sent = await agent.send(peer, { intent: { category: 'travel' }, parameters: {} })
 *     const answer = await sent.answer()
 *
 * The daemon (`agentmesh up`) is this class behind a local API. DESIGN §2.
 */
import { once, type EventEmitter } from 'node:events'
import type { SearchQuery } from '../discovery/index.ts'
import type { Policy } from '../session/index.ts'
import {
  AgentMeshError,
  parseAmid,
  parseMessageId,
  parseSessionId,
  PROTOCOL_VERSION,
  type Amid,
  type FeedbackTag,
  type Intent,
  type Payload,
  type PresenceState,
  type SearchAnswer,
  type SessionId,
} from '../wire/index.ts'
import { Attachments } from './attachments/attachments.ts'
import { Breakers } from './breakers.ts'
import { Closings } from './closings.ts'
import { Conversation } from './conversation.ts'
import { audit, background, type Actor, type AgentEvents, type Core } from './core.ts'
import { Inbox } from './inbox.ts'
import { Initiator } from './initiator.ts'
import { Keyring } from './keyring.ts'
import { Network } from './network.ts'
import { Notices } from './notices.ts'
import { openCore, type AgentOptions, type OpenedCore } from './open-core.ts'
import { listPeer } from './peer-lists.ts'
import { Outbox } from './outbox.ts'
import { Outgoing } from './outgoing.ts'
import { PutBack } from './put-back.ts'
import { Receiver } from './receiver.ts'
import { Recovery } from './recovery.ts'
import { Registrar } from './registrar.ts'
import { Responder } from './responder.ts'
import { forgetPeer, Retention } from './retention.ts'
import { SentMessage } from './sent-message.ts'
import { SessionKeeper } from './session-keeper.ts'
import { detail, exported, summarize } from './session-rows.ts'
import { statusOf } from './status.ts'
import type { SessionRow } from './tables.ts'
import { Successions } from './trust/successions.ts'
import { TrustKeeper } from './trust/trust-keeper.ts'
import type {
  AgentStatus,
  DecisionRecord,
  RequestHandler,
  RequestInput,
  SendOptions,
  SessionDetail,
  SessionExport,
  SessionSummary,
} from './types.ts'

/** How often expiry, resends and limits are looked at. */
const MAINTENANCE_MS = 5_000

/**
 * One agent at work in this process. Errors thrown are `AgentMeshError` with a code of spec/errors.md; whatever writes
 * to disk may also throw STATE_WRITE_FAILED, STATE_DAMAGED and, after `close`, STATE_CLOSED. Texts of peers in what
 * methods return are as they were sent: escape them (`escapeText`) before a terminal or a page shows them.
 */
export class Agent {
  /** Present once, when `open` made the identity: 24 words to write down, kept nowhere (DESIGN §4). */
  readonly recoveryWords: string | undefined
  readonly auditTrail: Core['trail']
  readonly #core: Core
  readonly #release: () => void
  readonly #breakers: Breakers
  readonly #keyring: Keyring
  readonly #outbox: Outbox
  readonly #outgoing: Outgoing
  /** Files of peers by their handles, and copies of ours for a message to come. */
  readonly attachments: Attachments
  readonly #initiator: Initiator
  readonly #responder: Responder
  readonly #inbox: Inbox
  readonly #sessions: SessionKeeper
  readonly #receiver: Receiver
  readonly #recovery: Recovery
  readonly #putBack: PutBack
  readonly #network: Network
  readonly #notices: Notices
  readonly #registrar: Registrar
  readonly #closings: Closings
  readonly #trust: TrustKeeper
  readonly #successions: Successions
  readonly #retention: Retention
  #timer: NodeJS.Timeout | undefined
  #maintaining: Promise<void> = Promise.resolve()
  #closed = false

  /**
   * Opens a home as its only writer and goes online. Does not wait for registry or relay: both are kept trying, and
   * `status()` says how it stands.
   *
   * @throws HOME_LOCKED, HOME_UNSAFE, HOME_DAMAGED, HOME_FAILED, PASSPHRASE_REQUIRED, PASSPHRASE_WRONG,
   *   CONFIG_INVALID, POLICY_INVALID, AUDIT_WRITE_FAILED, STATE_*
   */
  static async open(options: AgentOptions): Promise<Agent> {
    const opened = await openCore(options)
    try {
      const agent = new Agent(opened)
      audit(opened.core, { event: 'agent_started', version: PROTOCOL_VERSION, pid: process.pid })
      if (opened.found !== 'same') await agent.#recovery.giveUpAll(opened.found)
      opened.core.state.follow()
      await agent.#keyring.rotate()
      await agent.#retention.maintain()
      agent.attachments.resume()
      agent.#start()
      return agent
    } catch (error) {
      opened.release()
      throw error
    }
  }

  private constructor({ core, release, recoveryWords, notices }: OpenedCore) {
    this.#core = core
    this.#release = release
    this.recoveryWords = recoveryWords
    this.auditTrail = core.trail
    this.#breakers = new Breakers(core)
    this.#notices = new Notices(core)
    this.#keyring = new Keyring(core)
    this.#outbox = new Outbox(core)
    this.#closings = new Closings(core)
    this.#successions = new Successions(core, (peer) => this.#sessions.endWith(peer, 'policy'))
    this.#trust = new TrustKeeper(core, this.#closings, this.#successions, (registry) =>
      this.#sessions.distrust(registry),
    )
    this.#registrar = new Registrar(core, this.#keyring)
    this.#network = new Network(core, this.#outbox, this.#registrar, this.#trust)
    this.#initiator = new Initiator(core, this.#outbox, this.#keyring, this.#trust, this.#network.routes)
    this.#responder = new Responder(core, this.#outbox, this.#keyring, this.#trust, () => ({
      paused: this.#breakers.refusesKnocks,
      presence: this.#network.presence,
      connectedSince: this.#network.home.connectedSince,
    }))
    this.attachments = new Attachments(core, this.#outbox)
    this.#outgoing = new Outgoing(core, this.#outbox, this.#closings, (row) => {
      if (!this.#breakers.offline) this.#initiator.need(row)
    })
    this.#initiator.join(this.#outgoing)
    this.#inbox = new Inbox(core, this.#outgoing, this.attachments)
    this.attachments.join(this.#inbox, this.#outgoing)
    this.#sessions = new SessionKeeper(core, this.#outgoing)
    this.#retention = new Retention(core)
    this.#responder.join((row, envelope, afterCommit) => this.#inbox.take(row, envelope, afterCommit))
    this.#recovery = new Recovery(core, this.#outbox, this.#outgoing, this.#initiator, this.#keyring)
    this.#receiver = new Receiver(core, {
      initiator: this.#initiator,
      responder: this.#responder,
      outgoing: this.#outgoing,
      inbox: this.#inbox,
      trust: this.#trust,
      recovery: this.#recovery,
      attachments: this.attachments,
    })
    this.#network.join(this.#receiver)
    this.#putBack = new PutBack(core, this.#inbox, this.#recovery, this.#registrar, () => this.#knock())
    for (const notice of notices) core.events.emit('notice', notice)
    this.#sessions.followPolicy()
  }

  #start(): void {
    this.#timer = setInterval(() => {
      const turn = this.#maintaining.then(() => this.#maintain())
      background(this.#core, 'maintain', turn)
      this.#maintaining = turn.catch(() => {})
    }, MAINTENANCE_MS)
    if (!this.#breakers.offline) this.#goOnline()
  }

  #goOnline(): void {
    this.#network.start()
    this.#knock()
  }

  #knock(): void {
    for (const row of this.#outgoing.queued()) this.#initiator.need(row)
  }

  /**
   * Ends everything in order and frees lock and files. A request whose handler has not answered stays on disk and is
   * handed over at the next start. Calling it again does nothing.
   *
   * @param reason for the audit log
   */
  async close(reason = 'closed'): Promise<void> {
    if (this.#closed) return
    this.#closed = true
    clearInterval(this.#timer)
    await this.#maintaining
    await this.#outgoing.receipts.flush()
    this.#putBack.handle(undefined)
    this.#initiator.close()
    await this.#network.stop()
    this.#core.registries.close()
    await this.attachments.close()
    this.#receiver.flush()
    this.#responder.flush(true)
    await this.auditTrail.close(reason)
    this.#release()
    this.attachments.release()
  }

  /** Whether peers can find and reach this agent: known to the registry, connected to the relay. */
  get online(): boolean {
    return this.#network.online
  }

  /**
   * Resolves when the agent is online.
   *
   * @throws WAIT_TIMEOUT after so many seconds, with the last reason; it goes on trying
   */
  async ready(timeoutSeconds = 30): Promise<void> {
    const signal = AbortSignal.timeout(timeoutSeconds * 1000)
    while (!this.online) {
      try {
        await once(this.#core.events, 'connection', { signal })
      } catch (cause) {
        const { registry, relay } = this.status()
        const why = registry.last_error ?? relay.last_error ?? `relay ${relay.state}`
        throw new AgentMeshError('WAIT_TIMEOUT', `Not online after ${timeoutSeconds} s: ${why}`, { cause })
      }
    }
  }

  // --- the application's side -------------------------------------------------------------------------------------

  /** This agent's address. */
  get amid(): Amid {
    return this.#core.identity.amid
  }

  /** The registries whose word counts here, and what this agent can prove of itself. */
  get trust(): TrustKeeper {
    return this.#trust
  }

  /** Who says to go on as a peer that lost its key, and the owner's word on it. */
  get successions(): Successions {
    return this.#successions
  }

  /**
   * Says how a session with a peer went; the registry counts it when both sides closed the session. Resolves when it is
   * safe on disk.
   *
   * @param rating 0 to 1
   * @param tags words of `FEEDBACK_TAGS`
   * @throws INVALID_ID, SESSION_UNKNOWN, SESSION_NOT_CLOSED, FEEDBACK_REPEATED, MALFORMED
   */
  async rate(sessionId: string, rating: number, tags: readonly FeedbackTag[] = []): Promise<void> {
    await this.#closings.rate(parseSessionId(sessionId), rating, tags)
    background(this.#core, 'bring a rating', this.#closings.submit())
  }

  /** Absolute path of the home folder. */
  get home(): string {
    return this.#core.home.path
  }

  /** `progress`, `message`, `session`, `knock`, `refused`, `notice`, `breaker`, `connection`: see `AgentEvents`. */
  get events(): EventEmitter<AgentEvents> {
    return this.#core.events
  }

  /**
   * Who answers peers' requests from now on, up to 32 at a time, of one peer at most 16: what the handler returns is the answer. One that throws
   * has the peer answered with HANDLER_FAILED. After a crash a request that was not answered is handed over again.
   */
  on(_event: 'request', handler: RequestHandler): this {
    this.#putBack.handle(handler)
    return this
  }

  /** Nobody answers any more: requests wait on disk. */
  off(_event: 'request'): this {
    this.#putBack.handle(undefined)
    return this
  }

  /**
   * Sends a request. Resolves when it is safe on disk; looking up, knocking, sending and resending go on by
   * themselves, also after a restart.
   *
   * @param to the peer's AMID
   * @throws INVALID_AMID, AMID_SUCCEEDED, MALFORMED, AGENT_STOPPED, FLOW_BLOCKED, LIMIT_SIZE, STATE_WRITE_FAILED
   */
  async send(to: string, request: RequestInput, options: SendOptions = {}): Promise<SentMessage> {
    this.#breakers.requireOnline()
    const peer = this.#successions.receiver(to)
    const prepared = await this.attachments.prepareRequest(peer, request, options.id)
    const id = await this.#outgoing.request(peer, prepared.request, { ...options, id: prepared.id })
    return new SentMessage(this.#core, id)
  }

  /**
   * Asks a peer what it can do before a conversation (specification §6.3): the answer says what is matched, whom to ask
   * for the rest, and the schema, language and payment method both can use. Opens the conversation where none is open.
   *
   * @throws as `send`
   */
  async negotiate(
    to: string,
    intent: Intent,
    need: Payload<'capability_negotiation'>,
    options: SendOptions = {},
  ): Promise<SentMessage> {
    this.#breakers.requireOnline()
    const peer = this.#successions.receiver(to)
    return new SentMessage(this.#core, await this.#outgoing.negotiate(peer, intent, need, options))
  }

  /** A message sent earlier, by its id; whether there is one shows when it is asked. @throws INVALID_ID */
  sent(id: string): SentMessage {
    return new SentMessage(this.#core, parseMessageId(id))
  }

  /** The messages of a session, to read and to write; whether it exists shows when it is used. @throws INVALID_ID */
  conversation(sessionId: string): Conversation {
    return new Conversation(this.#core, this.#outgoing, this.#inbox, parseSessionId(sessionId))
  }

  /**
   * One page of agents that offer a capability; `next_cursor` leads on. Each record carries its agent's checked
   * signature.
   *
   * @throws REGISTRY_UNREACHABLE, REGISTRY_ANSWER_INVALID, and the code with which the registry refused (RATE_LIMITED,
   *   MALFORMED)
   */
  search(query: SearchQuery): Promise<SearchAnswer> {
    return this.#core.registries.home.search(query)
  }

  /**
   * How reachable others see this agent. `dnd` takes no KNOCKs. Kept until `close`, not on disk. Does not wait for the
   * relay.
   */
  setPresence(state: PresenceState): Promise<void> {
    return this.#network.setPresence(state)
  }

  // --- the owner's side -------------------------------------------------------------------------------------------

  /** All sessions that are kept, closed ones too; the one used last comes first. */
  sessions(): SessionSummary[] {
    return this.#core.store.tables.sessions.list({ order: 'desc' }).map((entry) => summarize(entry.value))
  }

  /** One session with its messages in both directions, oldest first. @throws INVALID_ID, SESSION_UNKNOWN */
  session(sessionId: string): SessionDetail {
    return detail(this.#core, this.#sessionRow(parseSessionId(sessionId)))
  }

  /**
   * One session for its owner's records (specification §4.4), and a line in the audit log that it was taken out.
   *
   * @param options.keys adds the ratchet's state. Whoever has it and sees the packets can read what both sides say next,
   *   until each has answered the other once more; not what was said before, and nothing can be signed with it
   * @throws INVALID_ID, SESSION_UNKNOWN
   */
  exportSession(sessionId: string, options: { keys?: boolean } = {}, by: Actor = 'api'): SessionExport {
    const row = this.#sessionRow(parseSessionId(sessionId))
    const keys = options.keys === true
    audit(this.#core, { event: 'session_exported', session_id: row.session.id, keys, by })
    return exported(this.#core, row, keys)
  }

  #sessionRow(sessionId: SessionId): SessionRow {
    const row = this.#core.store.tables.sessions.get(sessionId)
    if (!row) throw new AgentMeshError('SESSION_UNKNOWN')
    return row
  }

  /** Decisions on KNOCKs, newest first; the last 1,000 are kept. */
  decisions(filter: { from?: Amid } = {}): DecisionRecord[] {
    return this.#core.store.tables.decisions
      .list({ ...(filter.from === undefined ? {} : { a: filter.from }), order: 'desc' })
      .map((entry) => entry.value)
  }

  /** The policy in force. */
  policy(): Policy {
    return this.#core.policy.current()
  }

  /**
   * Replaces the policy and writes `policy.json`. A field left out has its default, not its old value.
   *
   * @param policy an object as in `spec/schemas/policy.json`
   * @param by who is named in the audit log
   * @returns the policy in force
   * @throws POLICY_INVALID, HOME_FAILED; then the old one stays in force
   */
  setPolicy(policy: unknown, by: Actor = 'api'): Policy {
    return this.#core.policy.replace(policy, by)
  }

  /** Refuses a peer from now on and ends every session with it. @throws INVALID_AMID, HOME_FAILED */
  async block(amid: string, by: Actor = 'api'): Promise<void> {
    await this.#sessions.endWith(listPeer(this.#core, amid, 'block', by), 'policy')
  }

  /** Puts a peer on the allowlist, and off the blocklist. @throws INVALID_AMID, HOME_FAILED */
  allow(amid: string, by: Actor = 'api'): void {
    listPeer(this.#core, amid, 'allow', by)
  }

  /**
   * Ends every session with a peer and deletes all that is held about it: keys, messages, receipts, decisions. What is
   * kept: its place in the policy's lists, the audit log, files the owner exported, and filters against replays.
   *
   * @throws INVALID_AMID
   */
  async forget(amid: string, by: Actor = 'api'): Promise<void> {
    const peer = parseAmid(amid)
    audit(this.#core, { event: 'breaker', action: 'forget', peer, by })
    await this.#sessions.endWith(peer, 'killed')
    await forgetPeer(this.#core, peer, this.attachments)
    this.#network.routes.forget(peer)
  }

  /** Ends one session at once; the peer is told when it can be reached. @throws INVALID_ID, SESSION_UNKNOWN */
  async killSession(sessionId: string, by: Actor = 'api'): Promise<void> {
    const id = parseSessionId(sessionId)
    const { peer } = this.#sessionRow(id).session
    audit(this.#core, { event: 'breaker', action: 'kill_session', session_id: id, peer, by })
    await this.#sessions.end((row) => row.session.id === id, 'killed')
  }

  /**
   * New KNOCKs are refused, also across restarts; sessions go on.
   *
   * @throws AGENT_STOPPED when it is off the network
   */
  async pause(by: Actor = 'api'): Promise<void> {
    this.#breakers.requireOnline()
    await this.#breakers.set('paused', by)
  }

  /** Undoes `pause`, `shutdown` and `emergency-stop`. */
  async resume(by: Actor = 'api'): Promise<void> {
    const wasOffline = this.#breakers.offline
    await this.#breakers.set('running', by)
    if (wasOffline) this.#goOnline()
  }

  /** Ends all sessions and goes off the network until `resume`, also across restarts. */
  async shutdown(state: 'shutdown' | 'emergency_stop' = 'shutdown', by: Actor = 'api'): Promise<void> {
    await this.#breakers.set(state, by)
    await this.#sessions.end(() => true, 'shutdown')
    await this.#network.stop()
  }

  /** Runs `framework_stop_command`: see `Breakers.stopFramework`. */
  stopFramework(): Promise<void> {
    return this.#breakers.stopFramework()
  }

  /** How the agent stands at this moment; asks nobody. */
  status(): AgentStatus {
    return statusOf(this.#core, {
      startedAt: this.#core.startedAt,
      breakers: this.#breakers,
      network: this.#network,
      registrar: this.#registrar,
      outbox: this.#outbox,
      inbox: this.#inbox,
      keyring: this.#keyring,
      notices: this.#notices,
      trust: this.#trust,
      successions: this.#successions,
    })
  }

  // --- time -------------------------------------------------------------------------------------------------------

  async #maintain(): Promise<void> {
    // Looks at the file, so that a changed policy is in force without a KNOCK to ask for it.
    this.#core.policy.current()
    const messages = [this.#sessions, this.#outgoing, this.#outbox, this.#initiator, this.#responder]
    for (const part of [...messages, this.#receiver, this.#retention, this.attachments]) await part.maintain()
  }
}

/**
 * Which sessions stay open, and which end: at an owner's word, with a changed policy, when their time is over, and when
 * there are more than an agent holds.
 */
import { ANONYMOUS_STANDING, MAX_SESSION_SECONDS, type Policy } from '../session/index.ts'
import { formatTimestamp, type Amid, type CloseReason } from '../wire/index.ts'
import { audit, background, commit, isDue, type Core } from './core.ts'
import type { Outgoing } from './outgoing.ts'
import { changedFields } from './policy-file.ts'
import { isActive, refusalOf, touchSession } from './session-rows.ts'
import type { SessionRow } from './tables.ts'

/** Sessions held open where the policy asks for no more. */
const MAX_OPEN = 1000
/** How often all open sessions are looked at. */
const SWEEP_MS = 30_000

export class SessionKeeper {
  readonly #core: Core
  readonly #outgoing: Outgoing
  #sweepAt = 0

  constructor(core: Core, outgoing: Outgoing) {
    this.#core = core
    this.#outgoing = outgoing
  }

  /** Ends open sessions with a CLOSE, which may be sent at any time: the peer of one that timed out learns it too. */
  async end(which: (row: SessionRow) => boolean, reason: CloseReason): Promise<void> {
    await commit(this.#core, (afterCommit) => {
      for (const { value: row } of this.#core.store.tables.sessions.list({ b: 'open' })) {
        if (which(row)) this.#outgoing.close(row, { reason }, afterCommit)
      }
    })
  }

  /** Ends every session with a peer. */
  endWith(peer: Amid, reason: CloseReason): Promise<void> {
    return this.end((row) => row.session.peer === peer, reason)
  }

  /** What a registry said of peers counts no more: sessions that rest on it go on as far as the policy lets anybody. */
  async distrust(registry: string): Promise<void> {
    await commit(this.#core, () => {
      for (const { value: row } of this.#core.store.tables.sessions.list({ b: 'open' })) {
        if (row.standing.root === registry) touchSession(this.#core, { ...row, standing: ANONYMOUS_STANDING })
      }
    })
    await this.#policyChanged(this.#core.policy.current())
  }

  /** Tells the owner of every edit of the policy, and holds the sessions there are to it. */
  followPolicy(): void {
    const core = this.#core
    core.policy.watch({
      changed: (policy, before, by) => {
        const fields = changedFields(policy, before)
        // A file that was only touched says nothing new.
        if (fields.length > 0 || by !== 'file') audit(core, { event: 'policy_changed', fields, by })
        background(core, 'apply a policy', this.#policyChanged(policy))
      },
      refused: (problem) => {
        audit(core, { event: 'policy_refused', problem })
        core.events.emit('notice', { at: formatTimestamp(core.now()), about: 'policy', text: problem })
      },
    })
  }

  /** Sessions the new policy would not let in end; those kept only to skip a KNOCK do too (specification §5.5). */
  async #policyChanged(policy: Policy): Promise<void> {
    await this.end((row) => {
      if (refusalOf(row, policy)) return true
      return row.session.role === 'responder' && !isActive(this.#core, row)
    }, 'policy')
  }

  /** Ends what is overdue, idle for longer than the owner keeps it, or too much. */
  async maintain(): Promise<void> {
    const now = this.#core.now()
    if (!isDue(this.#sweepAt, SWEEP_MS, now)) return
    this.#sweepAt = now + SWEEP_MS
    const idleMs = (this.#core.config.session_idle_seconds ?? MAX_SESSION_SECONDS) * 1000
    await this.end(
      ({ session }) => session.expiresAt <= now || session.lastActivityAt + idleMs <= now,
      'timeout',
    )
    await this.#makeRoom()
  }

  /** Those used longest ago go first. */
  async #makeRoom(): Promise<void> {
    const { sessions } = this.#core.store.tables
    const most = Math.max(MAX_OPEN, this.#core.policy.current().max_concurrent_sessions)
    const surplus = sessions.count({ b: 'open' }) - most
    if (surplus <= 0) return
    const oldest = new Set(sessions.list({ b: 'open', limit: surplus }).map((entry) => entry.key))
    await this.end((row) => oldest.has(row.session.id), 'limit')
  }
}

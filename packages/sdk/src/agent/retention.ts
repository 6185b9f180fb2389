/**
 * What is forgotten, and when.
 *
 *   session over, transcripts not stored   its messages at once, its keys with it
 *   session over                           after 30 days, also what no application has read
 *   answers kept for repeated requests     after 96 hours: longer than a sender repeats
 *   packets and KNOCKs that were taken     when nothing they guard against can arrive any more
 *   peer deleted                           everything of it at once, but for the two filters against replays
 *
 * But for the first line, a clock that jumps ahead makes nothing old: what is deleted has been there for 96 hours in which
 * this agent ran (`running-time.ts`).
 */
import { MAILBOX_TTL_SECONDS, type Amid, type SessionId } from '../wire/index.ts'
import type { Attachments } from './attachments/attachments.ts'
import { commit, type Core } from './core.ts'
import { eraseDamagedStates } from './damaged-state.ts'
import { addMinute, cutoffOf, RunningMinutes, type RunningMarks } from './running-time.ts'

const DAY_MS = 86_400_000
const CLOSED_MS = 30 * DAY_MS
const ANSWER_MS = 4 * DAY_MS
/** A packet is remembered while any mailbox could still hold a copy. */
const SEEN_MS = 2 * MAILBOX_TTL_SECONDS * 1000
const MARKS = 'running'
/** Sessions looked at in one commit, so that none of them holds up messages. */
const BATCH = 100

/** Deletes a session and its messages. Call within a commit. */
function forgetSession(core: Core, id: SessionId): void {
  const { sessions, outgoing, incoming, packets, ratings } = core.store.tables
  for (const { key } of outgoing.list({ a: id })) {
    outgoing.delete(key)
    packets.delete(key)
  }
  for (const { key } of incoming.list({ a: id })) incoming.delete(key)
  ratings.delete(id)
  sessions.delete(id)
}

/** Deletes all that is held about a peer, messages that still wait for it included. */
export async function forgetPeer(core: Core, peer: Amid, attachments: Attachments): Promise<void> {
  const { sessions, outgoing, packets, handshakes, answers, decisions, contacts, requests, successions } =
    core.store.tables
  await commit(core, (afterCommit) => {
    attachments.forgetPeer(peer, afterCommit)
    for (const { key } of sessions.list({ a: peer })) forgetSession(core, key as SessionId)
    for (const { key, value } of outgoing.list({ b: 'queued' })) if (value.to === peer) outgoing.delete(key)
    for (const { key, value } of outgoing.list({ b: 'failed' })) if (value.to === peer) outgoing.delete(key)
    for (const table of [packets, handshakes, answers, decisions, requests]) {
      for (const { key } of table.list({ a: peer })) table.delete(key)
    }
    contacts.delete(peer)
    successions.delete(peer)
  })
  core.store.erase()
  eraseDamagedStates(core.home)
}

export class Retention {
  readonly #core: Core
  readonly #running = new RunningMinutes()

  constructor(core: Core) {
    this.#core = core
  }

  /** Deletes what is due; called at the start, before anything is taken, and at each maintenance. */
  async maintain(): Promise<void> {
    const now = this.#core.now()
    const { meta, requests, seen, nonces } = this.#core.store.tables
    const marks = meta.get(MARKS) as RunningMarks | undefined
    const next = this.#running.look(now) || !marks ? addMinute(marks, now) : marks
    const cutoff = cutoffOf(next)
    await commit(this.#core, () => {
      if (next !== marks) meta.put(MARKS, next)
      requests.deleteBefore(Math.min(now - ANSWER_MS, cutoff))
      seen.deleteBefore(Math.min(now - SEEN_MS, cutoff))
      nonces.deleteBefore(Math.min(now, cutoff))
    })
    await this.#forgetSessions(now, cutoff)
  }

  /** Closed sessions whose time is over: at once where the owner stores no transcripts. */
  async #forgetSessions(now: number, cutoff: number): Promise<void> {
    const { sessions, incoming, outgoing, packets } = this.#core.store.tables
    const unread = Math.min(now - CLOSED_MS, cutoff)
    const before = this.#core.policy.current().store_transcripts ? unread : now
    const waiting = (a?: string): number => {
      const which = a === undefined ? {} : { a }
      const states = ['ready', 'coming', 'unread'] as const
      return states.reduce((sum, b) => sum + incoming.count({ ...which, b }), 0)
    }
    const due = sessions.list({ b: 'closed', before, limit: BATCH + waiting() }).filter(
      ({ key, at }) =>
        // A CLOSE or an answer that no relay has taken yet still has to go out.
        !outgoing.list({ a: key }).some((row) => packets.get(row.key) !== undefined) &&
        // What the peer was told we have, the application is to get.
        ((at ?? 0) < unread || waiting(key) === 0),
    )
    const failed = outgoing.list({ b: 'failed', before: unread, limit: BATCH })
    if (due.length + failed.length === 0) return
    await commit(this.#core, () => {
      for (const { key } of due) forgetSession(this.#core, key as SessionId)
      for (const { key } of failed) outgoing.delete(key)
    })
  }
}

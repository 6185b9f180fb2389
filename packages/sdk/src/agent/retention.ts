/**
 * What is forgotten, and when.
 *
 *   session over, transcripts not stored   its messages at once, its keys with it
 *   session over                           after 30 days, also what no application has read
 *   answers kept for repeated requests     after 4 days: longer than a sender repeats
 *   peer deleted                           everything of it at once
 *
 * Filters against replays outlive all of it: they go when nothing they guard against can arrive any more.
 */
import type { Amid, SessionId } from '../wire/index.ts'
import { commit, type Core } from './core.ts'

const CLOSED_DAYS = 30
const ANSWER_DAYS = 4
const DAY_MS = 86_400_000
/** Sessions looked at in one commit, so that none of them holds up messages. */
const BATCH = 100

/** Deletes a session and its messages. Call within a commit. */
function forgetSession(core: Core, id: SessionId): void {
  const { sessions, outgoing, incoming, packets } = core.store.tables
  for (const { key } of outgoing.list({ a: id })) {
    outgoing.delete(key)
    packets.delete(key)
  }
  for (const { key } of incoming.list({ a: id })) incoming.delete(key)
  sessions.delete(id)
}

/** Deletes all that is held about a peer, messages that still wait for it included. */
export async function forgetPeer(core: Core, peer: Amid): Promise<void> {
  const { sessions, outgoing, packets, handshakes, answers, decisions, contacts, requests } =
    core.store.tables
  await commit(core, () => {
    for (const { key } of sessions.list({ a: peer })) forgetSession(core, key as SessionId)
    for (const { key, value } of outgoing.list({ b: 'queued' })) if (value.to === peer) outgoing.delete(key)
    for (const { key, value } of outgoing.list({ b: 'failed' })) if (value.to === peer) outgoing.delete(key)
    for (const table of [packets, handshakes, answers, decisions, requests]) {
      for (const { key } of table.list({ a: peer })) table.delete(key)
    }
    contacts.delete(peer)
  })
}

/** Deletes closed sessions whose time is over: at once where the owner stores no transcripts. */
export async function forgetOldSessions(core: Core): Promise<void> {
  const { sessions, incoming, outgoing, packets, requests } = core.store.tables
  const keep = core.policy.current().store_transcripts ? CLOSED_DAYS * DAY_MS : 0
  const before = core.now() - keep
  const waiting = (a?: string): number => {
    const which = a === undefined ? {} : { a }
    return incoming.count({ ...which, b: 'ready' }) + incoming.count({ ...which, b: 'unread' })
  }
  const due = sessions.list({ b: 'closed', before, limit: BATCH + waiting() }).filter(
    ({ key, index }) =>
      // A CLOSE or an answer that no relay has taken yet still has to go out.
      !outgoing.list({ a: key }).some((row) => packets.get(row.key) !== undefined) &&
      // What the peer was told we have, the application is to get.
      ((index.at ?? 0) < core.now() - CLOSED_DAYS * DAY_MS || waiting(key) === 0),
  )
  const failed = outgoing.list({ b: 'failed', before: core.now() - CLOSED_DAYS * DAY_MS, limit: BATCH })
  await commit(core, () => {
    requests.deleteBefore(core.now() - ANSWER_DAYS * DAY_MS)
    for (const { key } of due) forgetSession(core, key as SessionId)
    for (const { key } of failed) outgoing.delete(key)
  })
}

/**
 * Who says to go on as a peer that lost its key (DESIGN §4, spec/identity.md 9).
 *
 *   a peer is met      its recovery key is remembered, as its signed record names it then
 *   a statement shown  by that key --> offered: the owner is told, and nothing changes
 *                      by any other, or after the owner chose --> refused: the owner is told once
 *   the owner accepts  the old one's place on the allowlist is the new one's; the old one is blocked
 *
 * Registries are asked about peers we know once a day, and when somebody unknown knocks. What they show is believed no
 * further than the recovery key goes, which a registry does not have.
 */
import { verifySuccession } from '../../identity/index.ts'
import {
  AgentMeshError,
  formatKey,
  formatTimestamp,
  isAgentMeshError,
  parseAmid,
  parseKey,
  type Amid,
  type Succession,
} from '../../wire/index.ts'
import { audit, background, commit, isKnownPeer, type Actor, type Core } from '../core.ts'
import { replacePeer } from '../peer-lists.ts'
import type { SuccessionRow } from '../tables.ts'
import type { SuccessorSummary } from '../types.ts'

const DAY_MS = 86_400_000
/** Peers asked about in one turn, and when the owner asks for it. */
const BATCH = 20
const BATCH_AT_ONCE = 500
/** Peers remembered; those met longest ago go, never the owner's own list or one with an offer. */
const MAX_PEERS = 10_000
/** Of one peer: more are two lies or two thieves, and are not kept. */
const MAX_OFFERS = 4
const MAX_REFUSED = 16
/** A flood of strangers must not become a flood of ours. */
const STRANGERS_A_MINUTE = 20

const EMPTY: SuccessionRow = { offers: [], refused: [] }

export class Successions {
  readonly #core: Core
  readonly #endSessions: (peer: Amid) => Promise<void>
  /** When each peer was asked about, since the start. */
  readonly #lookedAt = new Map<Amid, number>()
  #strangers = { since: 0, asked: 0 }

  /** @param endSessions with a peer whose place another has */
  constructor(core: Core, endSessions: (peer: Amid) => Promise<void>) {
    this.#core = core
    this.#endSessions = endSessions
    core.events.on('session', ({ peer, state }) => {
      if (state === 'open') background(core, 'look at a peer', this.#meet(peer))
    })
    core.events.on('knock', ({ from, intent, accepted }) => {
      // Who was not let in may be a peer under another name; one that proved nothing is nobody.
      if (!accepted && intent !== undefined) background(core, 'look at a stranger', this.#stranger(from))
    })
  }

  /** Every successor that was offered, newest statement last. */
  list(): SuccessorSummary[] {
    const { successions } = this.#core.store.tables
    return successions.list().flatMap(({ value: { offers, accepted } }) =>
      offers.map(({ old_amid, new_amid, created_at }) => ({
        old_amid,
        new_amid,
        created_at,
        state: accepted === undefined ? 'offered' : accepted === new_amid ? 'accepted' : 'refused',
      })),
    )
  }

  /** Whom the owner accepted in the place of a peer. */
  successorOf(peer: Amid): Amid | undefined {
    return this.#core.store.tables.successions.get(peer)?.accepted
  }

  /** @throws INVALID_AMID, AMID_SUCCEEDED for a peer in whose place the owner accepted another */
  receiver(to: string): Amid {
    const peer = parseAmid(to)
    const successor = this.successorOf(peer)
    if (successor === undefined) return peer
    throw new AgentMeshError('AMID_SUCCEEDED', `You accepted ${successor} in the place of ${peer}`)
  }

  /**
   * Takes a successor for the agent that it says to be: it has the old one's place on the allowlist; the old one, whose key
   * may be in other hands, is blocked and its sessions end.
   *
   * @throws INVALID_AMID, SUCCESSION_UNKNOWN; SUCCESSION_REFUSED when the owner chose another, or the new one was succeeded
   *   itself; HOME_FAILED
   */
  async accept(oldAmid: string, newAmid: string, by: Actor = 'api'): Promise<void> {
    const [old, next] = [parseAmid(oldAmid), parseAmid(newAmid)]
    this.#check(old, next)
    replacePeer(this.#core, old, next, by)
    await commit(this.#core, (afterCommit) => {
      this.#check(old, next)
      this.#put(old, { ...this.#row(old), accepted: next })
      // From now on a peer like any other, with a key of its own to be remembered.
      if (this.#core.store.tables.successions.get(next) === undefined) this.#put(next, EMPTY)
      audit(this.#core, { event: 'succession_accepted', old_amid: old, new_amid: next, by }, afterCommit)
    })
    await this.#endSessions(old)
  }

  #check(old: Amid, next: Amid): void {
    const row = this.#row(old)
    if (old === this.#core.identity.amid) {
      throw new AgentMeshError(
        'SUCCESSION_REFUSED',
        'It is about this agent itself: there is nothing to accept',
      )
    }
    if (!row.offers.some(({ new_amid }) => new_amid === next)) throw new AgentMeshError('SUCCESSION_UNKNOWN')
    if (row.accepted !== undefined && row.accepted !== next) {
      throw new AgentMeshError('SUCCESSION_REFUSED', `${row.accepted} was accepted in the place of ${old}`)
    }
    const beyond = this.successorOf(next)
    if (beyond !== undefined) {
      throw new AgentMeshError('SUCCESSION_REFUSED', `${beyond} took the place of ${next} already`)
    }
  }

  /**
   * Asks about peers that were not asked about for a day.
   *
   * @param atOnce all of them, as the owner wishes
   * @throws REGISTRY_UNREACHABLE and what registries refuse with
   */
  async look(atOnce: boolean): Promise<void> {
    const { successions, contacts } = this.#core.store.tables
    const known = new Set<Amid>([
      this.#core.identity.amid,
      ...this.#core.policy.current().allowlist,
      ...(contacts.list().map(({ key }) => key) as Amid[]),
      ...(successions.list().map(({ key }) => key) as Amid[]),
    ])
    const due = [...known].filter((peer) => atOnce || this.#isDue(peer))
    for (const peer of due.slice(0, atOnce ? BATCH_AT_ONCE : BATCH)) await this.#lookAt(peer)
    this.#prune()
  }

  async #meet(peer: Amid): Promise<void> {
    if (!this.#isDue(peer)) return
    await this.#quietly(async () => {
      await this.#lookAt(peer)
      await this.#lookBehind(peer)
    })
  }

  async #stranger(from: Amid): Promise<void> {
    const now = this.#core.now()
    if (Math.abs(now - this.#strangers.since) > 60_000) this.#strangers = { since: now, asked: 0 }
    if (this.#strangers.asked >= STRANGERS_A_MINUTE) return
    this.#strangers.asked++
    await this.#quietly(() => this.#lookBehind(from))
  }

  /** Nobody waits for it: the next turn asks again, and says what is wrong. */
  async #quietly(work: () => Promise<void>): Promise<void> {
    try {
      await work()
    } catch (error) {
      if (!isAgentMeshError(error) || error.code.startsWith('STATE_')) throw error
    }
  }

  #isDue(peer: Amid): boolean {
    const at = this.#lookedAt.get(peer)
    return at === undefined || Math.abs(this.#core.now() - at) >= DAY_MS
  }

  async #lookAt(peer: Amid): Promise<void> {
    const named = await this.#namedKey(peer)
    this.#lookedAt.set(peer, this.#core.now())
    await commit(this.#core, () => {
      const row = this.#row(peer)
      const recoveryKey = row.recoveryKey ?? named
      this.#put(peer, { ...row, ...(recoveryKey === undefined ? {} : { recoveryKey }) })
    })
    for (const statement of await this.#shown(peer)) {
      if (statement.old_amid === peer) await this.#take(statement)
    }
  }

  /** Whom somebody says to be the successor of: of a peer we know, the same is found by asking about that one. */
  async #lookBehind(next: Amid): Promise<void> {
    for (const { old_amid: old, new_amid } of await this.#shown(next)) {
      if (new_amid === next && this.#isKnown(old)) await this.#lookAt(old)
    }
  }

  async #namedKey(peer: Amid): Promise<string | undefined> {
    const { amid, recoveryPublicKey } = this.#core.identity
    if (peer === amid) return formatKey('ed25519', recoveryPublicKey)
    try {
      return (await this.#core.registries.find(peer)).record.recovery_public_key
    } catch (error) {
      // What was remembered counts on, also of one that is gone.
      if (isAgentMeshError(error, 'AGENT_NOT_FOUND')) return undefined
      throw error
    }
  }

  /** @throws REGISTRY_UNREACHABLE when none of them answers */
  async #shown(peer: Amid): Promise<Succession[]> {
    const asked = await Promise.allSettled(
      this.#core.registries.all.map((registry) => registry.successions(peer)),
    )
    const statements = asked.flatMap((answer) => (answer.status === 'fulfilled' ? answer.value : []))
    const failed = asked.flatMap((answer): unknown[] => (answer.status === 'rejected' ? [answer.reason] : []))
    const mistake = failed.find((error) => !isAgentMeshError(error, 'NOT_FOUND'))
    if (mistake instanceof Error && statements.length === 0) throw mistake
    return statements
  }

  #isKnown(peer: Amid): boolean {
    const { successions, contacts } = this.#core.store.tables
    return (
      isKnownPeer(this.#core, peer) || contacts.get(peer) !== undefined || successions.get(peer) !== undefined
    )
  }

  async #take(statement: Succession): Promise<void> {
    await commit(this.#core, (afterCommit) => {
      const { old_amid: old, new_amid: next, signature } = statement
      const row = this.#row(old)
      // A key that becomes known later has its say.
      const told = `${row.recoveryKey ?? ''} ${signature}`
      if (row.offers.some(({ new_amid }) => new_amid === next) || row.refused.includes(told)) return
      const reason = this.#objection(row, statement)
      if (reason === undefined) this.#put(old, { ...row, offers: [...row.offers, statement] })
      else this.#put(old, { ...row, refused: [...row.refused, told].slice(-MAX_REFUSED) })
      const shown = { old_amid: old, new_amid: next }
      audit(
        this.#core,
        reason === undefined
          ? { event: 'succession_shown', ...shown, result: 'offered' }
          : { event: 'succession_shown', ...shown, result: 'refused', reason },
        afterCommit,
      )
      const text =
        reason === undefined ? this.#news(row, shown) : `${next} does not go on as ${old}: ${reason}`
      const at = formatTimestamp(this.#core.now())
      afterCommit.push(() => this.#core.events.emit('notice', { at, about: 'succession', text }))
    })
  }

  #news(
    { offers }: SuccessionRow,
    { old_amid: old, new_amid: next }: Pick<Succession, 'old_amid' | 'new_amid'>,
  ): string {
    if (old === this.#core.identity.amid) return `Your recovery words say that ${next} goes on as this agent`
    if (offers.length > 0) {
      return `${next} is named as a second successor of ${old}: ask its owner by another way before you accept any`
    }
    return (
      `${next} goes on as ${old}, as the recovery key of ${old} says. Nothing changes until you accept it: ` +
      `agentmesh trust accept-successor ${old} ${next}`
    )
  }

  /** Why a statement does not count here. */
  #objection({ recoveryKey, offers, accepted }: SuccessionRow, statement: Succession): string | undefined {
    if (recoveryKey === undefined) return 'no recovery key of the old agent is known here'
    try {
      verifySuccession(statement, parseKey('ed25519', recoveryKey), this.#core.now())
    } catch (error) {
      if (!isAgentMeshError(error)) throw error
      return 'it is not signed by the recovery key that the old agent named first'
    }
    if (accepted !== undefined) return `${accepted} was accepted already`
    return offers.length >= MAX_OFFERS ? 'too many successors are named' : undefined
  }

  #row(peer: Amid): SuccessionRow {
    return this.#core.store.tables.successions.get(peer) ?? EMPTY
  }

  #put(peer: Amid, row: SuccessionRow, at = this.#core.now()): void {
    const b = row.accepted !== undefined ? 'accepted' : row.offers.length > 0 ? 'offered' : 'none'
    this.#core.store.tables.successions.put(peer, row, { b, at })
  }

  #prune(): void {
    const { successions } = this.#core.store.tables
    const surplus = successions.count() - MAX_PEERS
    if (surplus <= 0) return
    const gone = successions
      .list({ b: 'none', limit: surplus })
      .filter(({ key }) => !isKnownPeer(this.#core, key as Amid))
    background(
      this.#core,
      'forget peers',
      commit(this.#core, () => {
        for (const { key } of gone) successions.delete(key)
      }),
    )
  }
}

/**
 * The agent's exchange keys and prekeys: made, published, rotated, used up (DESIGN §4, §7).
 *
 *   exchange key, signed prekey, last-resort KEM prekey   current for 7 days, kept 3 more for mail in a mailbox
 *   one-time prekeys, curve and KEM                       100 of each at the registry, filled up below 20
 *
 * Secrets are deleted when a KNOCK used them or their time is over. A one-time key is deleted only in the commit that
 * accepts the KNOCK's nonce, never for one that did not authenticate.
 */
import { kemKeyPair, x25519KeyPair } from '../crypto/index.ts'
import {
  EXCHANGE_KEY_SECONDS,
  makeExchangeKey,
  makeLastResortKemPrekey,
  makeOneTimeKemPrekeys,
  makeOneTimePrekeys,
  makeSignedPrekey,
  nextSequence,
  signStateCounter,
  SIGNED_PREKEY_SECONDS,
  verifyStateCounter,
  writeExchangePublicKey,
  type OwnKey,
} from '../identity/index.ts'
import { headerSequence, type KeyLookup, type KnockKeys, type OpenedKnock } from '../session/index.ts'
import {
  AgentMeshError,
  CLOCK_SKEW_SECONDS,
  formatTimestamp,
  parseKey,
  parseTimestamp,
  PROTOCOL_VERSIONS,
  toHex,
  type KeyKind,
  type KnockHeader,
  type PrekeyCounts,
  type PrekeyUpload,
  type SignedKey,
} from '../wire/index.ts'
import { audit, commit, type Core } from './core.ts'
import { PrekeyWatch, type PrekeyNumbers } from './prekey-watch.ts'
import { forgetLanes } from './session-rows.ts'
import type { KeyRow } from './tables.ts'

/** One-time prekeys of each kind kept at the registry, and when to fill up (DESIGN §7). */
const ONE_TIME_PREKEYS = 100
const REPLENISH_BELOW = 20
/** Exchange keys that open KNOCKs: this week's, the one before it, and one more for what made us start over. */
const MAX_EXCHANGE_KEYS = 3
/** How far ahead of the clock, in seconds, ids of ours may be that a registry tells us of: a clock may have been wrong for long. */
const MAX_ID_AHEAD_SECONDS = 10 * 365 * 86_400
/** Secrets kept of each one-time kind: who drains the registry would else fill our disk for 30 days. */
const MAX_ONE_TIME_KEPT = 1000

const LIFETIME_SECONDS = {
  ik: EXCHANGE_KEY_SECONDS,
  spk: SIGNED_PREKEY_SECONDS,
  'pq-last': SIGNED_PREKEY_SECONDS,
}
const AUDIT_NAMES = { ik: 'exchange', spk: 'signed-prekey', 'pq-last': 'kem-prekey' } as const
/** When a key was made last. */
const MADE_AT = 'keys made at'
type LongLivedKind = keyof typeof LIFETIME_SECONDS

interface KeyCounters {
  nextId: number
  sequence: number
}

interface HeldPrekeys {
  oneTime: number
  oneTimeKem: number
  highestId: number
  highestKemId: number
}

export interface PrekeyStatus {
  oneTimeLeft: number
  oneTimeKemLeft: number
  signedPrekeyRotatesAt: number
  exchangeKeyRotatesAt: number
}

export class Keyring implements KeyLookup {
  readonly #core: Core
  /** What the registry said it has left; unknown until it was asked. */
  #left: HeldPrekeys | undefined
  /** What lies at the registry is of no use, and is pushed out by the next upload. */
  #replaceAll = false
  /** A KNOCK was accepted since the last upload. */
  #knockedSince = false
  /** How often keys were given up: an upload that began before is not the one that pushes them out. */
  #givenUp = 0
  readonly #watch = new PrekeyWatch()

  constructor(core: Core) {
    this.#core = core
  }

  // --- keys in use ------------------------------------------------------------------------------------------------

  /** The exchange key our KNOCKs are made with. */
  currentExchangeKey(): OwnKey {
    return this.#current('ik')
  }

  #current(kind: LongLivedKind): KeyRow {
    const row = this.#newest(kind)
    if (!row) throw new AgentMeshError('STATE_DAMAGED', `No ${kind} key`, { operation: 'read keys' })
    return row
  }

  /** By sequence: a clock that jumped ahead and back made keys that expire later than those after them. */
  #newest(kind: LongLivedKind): KeyRow | undefined {
    const rows = this.#core.store.tables.keys.list({ a: kind }).map((entry) => entry.value)
    return rows.reduce<KeyRow | undefined>(
      (newest, row) => (newest && newest.record.sequence > row.record.sequence ? newest : row),
      undefined,
    )
  }

  /** Keys were made by a clock that stood ahead of this one: nobody takes them before their date. */
  #madeAhead(now: number): boolean {
    const madeAt = this.#core.store.tables.meta.get(MADE_AT)
    return typeof madeAt === 'number' && madeAt > now + CLOCK_SKEW_SECONDS * 1000
  }

  /**
   * Makes what is missing or due. Resolves true when something is new, and so must be published.
   *
   * @param startOver everything anew, and no trust in what the registry has of ours
   */
  async rotate(startOver = false): Promise<boolean> {
    const now = this.#core.now()
    const all = startOver || this.#madeAhead(now)
    const due = (Object.keys(LIFETIME_SECONDS) as LongLivedKind[]).filter((kind) => {
      const newest = this.#newest(kind)
      return all || !newest || newest.createdAt + LIFETIME_SECONDS[kind] * 1000 <= now
    })
    // Keys of a state we no longer have may lie at the registry: 100 fresh ones of each kind push them out.
    if (all || this.#core.store.tables.keys.count() === 0) this.#replaceAll = true
    const outdated = this.#core.store.tables.keys.count({}) > 0
    await commit(this.#core, (afterCommit) => {
      for (const kind of due) this.#renew(kind, afterCommit)
      if (outdated) this.#core.store.tables.keys.deleteBefore(now)
      this.#dropExchangeKeys()
      if (due.includes('ik')) forgetLanes(this.#core)
    })
    if (due.includes('ik')) this.#showExchangeKey()
    return due.length > 0
  }

  /**
   * Gives up every key: KNOCKs made for them are refused from now on. The one-time ones follow with the next `publish`, which
   * pushes out those at the registry. Call within a commit.
   */
  startOver(afterCommit: (() => void)[]): void {
    const { keys } = this.#core.store.tables
    for (const { key } of keys.list()) keys.delete(key)
    for (const kind of Object.keys(LIFETIME_SECONDS) as LongLivedKind[]) this.#renew(kind, afterCommit)
    forgetLanes(this.#core)
    afterCommit.push(() => {
      this.#replaceAll = true
      this.#givenUp += 1
      this.#showExchangeKey()
    })
  }

  #renew(kind: LongLivedKind, afterCommit: (() => void)[]): void {
    const made = this.#make(kind)
    this.#put(made)
    const { sequence } = made.record
    audit(this.#core, { event: 'key_rotated', key: AUDIT_NAMES[kind], sequence }, afterCommit)
  }

  #showExchangeKey(): void {
    writeExchangePublicKey(this.#core.home, parseKey('x25519', this.#current('ik').record.key))
  }

  #dropExchangeKeys(): void {
    const { keys } = this.#core.store.tables
    const newestFirst = keys
      .list({ a: 'ik' })
      .toSorted((left, right) => right.value.record.sequence - left.value.record.sequence)
    for (const { key } of newestFirst.slice(MAX_EXCHANGE_KEYS)) keys.delete(key)
  }

  #make(kind: LongLivedKind): OwnKey {
    const options = this.#newKeyOptions(kind, 1)
    switch (kind) {
      case 'ik':
        return makeExchangeKey(this.#core.identity, options)
      case 'spk':
        return makeSignedPrekey(this.#core.identity, options, PROTOCOL_VERSIONS)
      case 'pq-last':
        return makeLastResortKemPrekey(this.#core.identity, options)
    }
  }

  /** Ids and sequences go up for good, so a counter outlives the keys. Call within a commit. */
  #newKeyOptions(kind: KeyKind, count: number) {
    const { meta } = this.#core.store.tables
    const now = this.#core.now()
    const counters = (meta.get(`keys ${kind}`) ?? { nextId: 1, sequence: 0 }) as KeyCounters
    const sequence = nextSequence(counters.sequence, now)
    // Like the sequence, ids follow the clock, so that a state restored from an old copy does not use one again.
    const startId = Math.max(counters.nextId, Math.floor(now / 1000))
    meta.put(`keys ${kind}`, { nextId: startId + count, sequence })
    meta.put(MADE_AT, now)
    return { startId, count, sequence, random: this.#core.random, now }
  }

  #raiseId(kind: KeyKind, highest: number): void {
    const { meta } = this.#core.store.tables
    // Ids follow the clock: one far ahead of it would leave none to come.
    if (highest > this.#core.now() / 1000 + MAX_ID_AHEAD_SECONDS) {
      throw new AgentMeshError(
        'REGISTRY_ANSWER_INVALID',
        'The registry says it has prekeys of the far future',
      )
    }
    const counters = (meta.get(`keys ${kind}`) ?? { nextId: 1, sequence: 0 }) as KeyCounters
    if (highest >= counters.nextId) meta.put(`keys ${kind}`, { ...counters, nextId: highest + 1 })
  }

  #put({ record, secret }: OwnKey): void {
    const expiresAt = parseTimestamp(record.expires_at)
    const row: KeyRow = {
      kind: record.kind,
      record,
      secret,
      createdAt: parseTimestamp(record.created_at),
      expiresAt,
      uploaded: false,
    }
    this.#write(row)
  }

  #write(row: KeyRow): void {
    this.#core.store.tables.keys.put(`${row.kind}:${row.record.id}`, row, {
      a: row.kind,
      b: row.uploaded ? 'uploaded' : 'new',
      at: row.expiresAt,
    })
  }

  // --- publishing -------------------------------------------------------------------------------------------------

  /** Uploads new keys and fills up the one-time ones. @throws what the registry client throws */
  async publish(): Promise<void> {
    const givenUp = this.#givenUp
    const held = this.#left ?? (await this.#ask())
    const left = this.#replaceAll ? { ...held, oneTime: 0, oneTimeKem: 0 } : held
    await commit(this.#core, () => {
      // A registry takes higher ids only, and may have seen ones that a restored state forgot.
      this.#raiseId('opk', held.highestId)
      this.#raiseId('pq-one', held.highestKemId)
      this.#fill('opk', left.oneTime, makeOneTimePrekeys)
      this.#fill('pq-one', left.oneTimeKem, makeOneTimeKemPrekeys)
    })
    const fresh = (kind: KeyKind): SignedKey[] =>
      this.#core.store.tables.keys
        .list({ a: kind, b: 'new', limit: ONE_TIME_PREKEYS })
        .map((entry) => entry.value.record)
    const upload: PrekeyUpload = {
      signed_prekey: this.#current('spk').record,
      last_resort_kem_prekey: this.#current('pq-last').record,
      one_time_prekeys: fresh('opk'),
      one_time_kem_prekeys: fresh('pq-one'),
      state_counter: signStateCounter(this.#core.identity, this.#core.state.forRegistry()),
    }
    this.#knockedSince = false
    this.#left = countsOf(await this.#core.registries.home.uploadPrekeys(upload))
    if (givenUp === this.#givenUp) this.#replaceAll = false
    await commit(this.#core, () => {
      const published = [
        upload.signed_prekey,
        upload.last_resort_kem_prekey,
        ...upload.one_time_prekeys,
        ...upload.one_time_kem_prekeys,
      ]
      for (const record of published) {
        const row = this.#core.store.tables.keys.get(`${record.kind}:${record.id}`)
        if (row) this.#write({ ...row, uploaded: true })
      }
    })
    // Fresh keys push out what is too many: the watch begins anew with what lies there.
    this.#watch.forget()
    this.#watch.look(this.#held(), this.#left, this.#core.now())
    const added = {
      one_time: upload.one_time_prekeys.length,
      one_time_kem: upload.one_time_kem_prekeys.length,
    }
    if (added.one_time + added.one_time_kem > 0) audit(this.#core, { event: 'prekeys_added', ...added })
  }

  /** What the registry has left; tells the owner when far more is gone than KNOCKs came. */
  async #ask(): Promise<HeldPrekeys> {
    const counts = await this.#core.registries.home.prekeyCounts()
    this.#compare(counts)
    const left = countsOf(counts)
    const drain = this.#watch.look(this.#held(), left, this.#core.now())
    if (drain) {
      const { taken, seconds } = drain
      audit(this.#core, { event: 'prekeys_drained', taken, seconds })
      const minutes = Math.max(1, Math.round(seconds / 60))
      this.#core.events.emit('notice', {
        at: formatTimestamp(this.#core.now()),
        about: 'prekeys',
        text:
          `${taken} one-time prekeys were fetched in ${minutes} min and no KNOCK came with them: somebody may be ` +
          'draining them, so that KNOCKs rest on weekly keys; they are filled up again',
      })
    }
    return left
  }

  /** A registry that was brought a later state shows that ours is an older copy. @throws INVALID_SIGNATURE, STATE_BEHIND */
  #compare({ state_counter: seen }: PrekeyCounts): void {
    if (seen === undefined) return
    const { identity, state } = this.#core
    verifyStateCounter(seen, identity.amid, identity.signing.publicKey)
    if (!state.admitsRegistry(seen.counter)) throw new AgentMeshError('STATE_BEHIND')
  }

  /** One-time keys that should lie at the registry. */
  #held(): PrekeyNumbers {
    const { keys } = this.#core.store.tables
    const uploaded = (kind: KeyKind): number => keys.count({ a: kind, b: 'uploaded' })
    return { oneTime: uploaded('opk'), oneTimeKem: uploaded('pq-one') }
  }

  /** Makes the keys that bring a kind to 100, counting those made and not yet uploaded. Call within a commit. */
  #fill(kind: 'opk' | 'pq-one', left: number, make: typeof makeOneTimePrekeys): void {
    const missing = ONE_TIME_PREKEYS - left - this.#core.store.tables.keys.count({ a: kind, b: 'new' })
    if (left >= REPLENISH_BELOW || missing <= 0) return
    for (const key of make(this.#core.identity, this.#newKeyOptions(kind, missing))) this.#put(key)
    const { keys } = this.#core.store.tables
    const surplus = keys.count({ a: kind }) - MAX_ONE_TIME_KEPT
    if (surplus <= 0) return
    // Fetched longest ago; a KNOCK that still comes with one is answered with a RESET and made again.
    for (const { key } of keys.list({ a: kind, order: 'asc', limit: surplus })) keys.delete(key)
  }

  /** Asks whether the registry was brought a later state. @throws STATE_BEHIND and what the registry client throws */
  async compare(): Promise<void> {
    this.#compare(await this.#core.registries.home.prekeyCounts())
  }

  /** Brings the registry how far the state is, at the end. @throws what the registry client throws */
  async leave(): Promise<void> {
    const { sessions } = this.#core.store.tables
    if (this.#knockedSince || sessions.count({ b: 'open' }) > 0) await this.publish()
  }

  /** Asks the registry what is left and fills up below 20. @throws what the registry client throws */
  async replenish(): Promise<void> {
    this.#left = await this.#ask()
    // How far the state is goes along: KNOCKs taken since are not to be taken again by an older copy.
    const isLow = Math.min(this.#left.oneTime, this.#left.oneTimeKem) < REPLENISH_BELOW
    if (isLow || this.#knockedSince) await this.publish()
  }

  /** The registry may have started over: ask it again before the next upload. */
  forgetCounts(): void {
    this.#left = undefined
    this.#watch.forget()
  }

  status(): PrekeyStatus {
    return {
      oneTimeLeft: this.#left?.oneTime ?? 0,
      oneTimeKemLeft: this.#left?.oneTimeKem ?? 0,
      signedPrekeyRotatesAt: this.#current('spk').createdAt + SIGNED_PREKEY_SECONDS * 1000,
      exchangeKeyRotatesAt: this.#current('ik').createdAt + EXCHANGE_KEY_SECONDS * 1000,
    }
  }

  // --- opening KNOCKs (KeyLookup) ---------------------------------------------------------------------------------

  find(header: KnockHeader): KnockKeys | undefined {
    const signed = this.#get('spk', header.signedPrekeyId)
    const oneTime =
      header.oneTimePrekeyId === undefined ? undefined : this.#get('opk', header.oneTimePrekeyId)
    const kem = this.#get(header.kemKind === 'one-time' ? 'pq-one' : 'pq-last', header.kemPrekeyId)
    const exchange = this.#core.store.tables.keys
      .list({ a: 'ik' })
      .map(({ value }) => value)
      .filter((row) => this.#alive(row) && headerSequence(row.record.sequence) === header.exchangeKeySequence)
    const isMissing = !signed || !kem || exchange.length === 0
    if (isMissing || (header.oneTimePrekeyId !== undefined && !oneTime)) return undefined
    return {
      exchangeKeys: exchange.map(({ secret }) => x25519KeyPair(secret)),
      signedPrekey: x25519KeyPair(signed.secret),
      versions: signed.record.versions ?? [],
      kemKey: kemKeyPair(kem.secret),
      ...(oneTime === undefined ? {} : { oneTimePrekey: x25519KeyPair(oneTime.secret) }),
    }
  }

  headerSeen(hash: Uint8Array): boolean {
    return this.#core.store.tables.nonces.get(`header ${toHex(hash)}`) !== undefined
  }

  /** Of a KNOCK that is not to be opened again. Call within a commit. */
  keepHeader({ headerHash, forgetAfter }: Pick<OpenedKnock, 'headerHash' | 'forgetAfter'>): void {
    this.#core.store.tables.nonces.put(`header ${toHex(headerHash)}`, true, { at: forgetAfter })
  }

  #get(kind: KeyKind, id: number): KeyRow | undefined {
    const row = this.#core.store.tables.keys.get(`${kind}:${id}`)
    return row && this.#alive(row) ? row : undefined
  }

  #alive(row: KeyRow): boolean {
    return row.expiresAt > this.#core.now()
  }

  /** Deletes the one-time keys a KNOCK used and remembers its header. Call within the commit that takes its nonce. */
  consume(opened: OpenedKnock): void {
    const { keys } = this.#core.store.tables
    const { oneTimePrekeyId, oneTimeKemPrekeyId } = opened.used
    this.#knockedSince = true
    if (oneTimePrekeyId !== undefined) keys.delete(`opk:${oneTimePrekeyId}`)
    if (oneTimeKemPrekeyId !== undefined) keys.delete(`pq-one:${oneTimeKemPrekeyId}`)
    this.keepHeader(opened)
    if (this.#left) {
      this.#left = {
        ...this.#left,
        oneTime: this.#left.oneTime - (oneTimePrekeyId === undefined ? 0 : 1),
        oneTimeKem: this.#left.oneTimeKem - (oneTimeKemPrekeyId === undefined ? 0 : 1),
      }
    }
  }
}

function countsOf(counts: PrekeyCounts): HeldPrekeys {
  return {
    oneTime: counts.one_time_prekeys,
    oneTimeKem: counts.one_time_kem_prekeys,
    highestId: counts.highest_one_time_prekey_id ?? 0,
    highestKemId: counts.highest_one_time_kem_prekey_id ?? 0,
  }
}

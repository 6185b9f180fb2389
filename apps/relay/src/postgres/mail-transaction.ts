/**
 * One transaction of stores and removals:
 *
 *     lock the mailboxes and senders it touches, in one order          nobody else changes what is looked at
 *     delete what is to be removed, and keep the state counters that come with it
 *     look: what is there already, what mailboxes and senders hold     one statement; positions too
 *     decide, message by message (`quotas.ts`)
 *     insert what fits, and add to this relay's line of the usage      one statement
 *     commit
 *
 * A position is taken under the mailbox's lock, which is held until the commit: in each mailbox positions are in the order of
 * commits. Done twice, a batch stores nothing twice: what the first time committed is found by the second.
 */
import type { Amid, MessageId } from '@agentmesh/sdk/wire'
import type { MailboxMessage, Place, StoreOutcome } from '../mailbox.ts'
import { refusalOf, type MailboxLimits } from '../quotas.ts'
import { given, type PoolClient } from './database.ts'
import { LOCKS, lockKeys } from './locks.ts'
import { partitionOf } from './partitions.ts'

export interface StoreItem {
  readonly message: MailboxMessage
  readonly place: number | undefined
}
export interface RemoveItem {
  readonly to: Amid
  readonly messages: readonly Place[]
  /** 0: none to keep. */
  readonly stateCounter: number
}
export type WriteItem = StoreItem | RemoveItem

export interface Totals {
  readonly messages: number
  readonly bytes: number
}

export interface BatchResult {
  /** Of each item; for a removal `stored`. */
  readonly outcomes: StoreOutcome[]
  /** What all mailboxes hold; undefined when nothing was stored, and then `change` is what to add to it. */
  readonly totals: Totals | undefined
  readonly change: Totals
}

/** Bytes of payload in one batch, and so what a relay that did not see another's last commit can add to the store. */
export const MAX_BATCH_BYTES = 8 * 1024 * 1024
/** While the store has less room than so many relays could fill at once, they write one after the other. */
const RELAYS_AT_ONCE = 16

const DELETE = {
  name: 'relay-mail-delete',
  text: `
    DELETE FROM relay_mail m USING unnest($1::text[], $2::bigint[], $3::bigint[]) AS r (recipient, place, position)
    WHERE m.recipient = r.recipient AND m.place = r.place AND m.position = r.position
    RETURNING m.expires_at, m.size`,
}

/**
 * Rows of one shape for three questions; `n` counts from 1 through the arrays of the question. A mailbox is walked once for each
 * sender to it; it is short, and no index knows better. The ids of a share come as one text.
 */
const LOOK = {
  name: 'relay-mail-look',
  text: `
    SELECT 'share' AS about, w.n, u.messages, u.bytes, u.sender_messages, u.sender_bytes, u.names
    FROM unnest($1::text[], $2::text[], $3::text[]) WITH ORDINALITY AS w (recipient, sender, ids, n) CROSS JOIN LATERAL (
      SELECT count(*) AS messages, coalesce(sum(m.size), 0)::bigint AS bytes,
        count(*) FILTER (WHERE m.sender = w.sender) AS sender_messages,
        coalesce(sum(m.size) FILTER (WHERE m.sender = w.sender), 0)::bigint AS sender_bytes,
        array_agg(m.id) FILTER (WHERE m.sender = w.sender AND strpos(w.ids, m.id) > 0) AS names
      FROM relay_mail m WHERE m.recipient = w.recipient AND m.expires_at > $4) u
    UNION ALL
    SELECT 'sender', w.n, 0, 0, u.messages, 0, NULL
    FROM unnest($5::text[]) WITH ORDINALITY AS w (sender, n) CROSS JOIN LATERAL (
      SELECT count(*) AS messages FROM relay_mail m WHERE m.sender = w.sender AND m.expires_at > $4) u
    UNION ALL
    SELECT 'store', 0, coalesce(sum(messages), 0)::bigint, coalesce(sum(bytes), 0)::bigint, 0, 0,
      ARRAY(SELECT nextval('relay_mail_position')::text COLLATE "C" FROM generate_series(1, $6::integer))
    FROM relay_mail_usage`,
}

/** Payloads come as one value, since an array of them would be sent as text. */
const INSERT = {
  name: 'relay-mail-insert',
  text: `
    INSERT INTO relay_mail (place, position, timestamp, expires_at, size, recipient, sender, id, type, payload)
    SELECT place, position, timestamp, expires_at, size, recipient, sender, id, type,
      substring($10::bytea FROM start FOR size)
    FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::integer[], $6::text[], $7::text[],
      $8::text[], $9::text[], $11::integer[])
      AS w (place, position, timestamp, expires_at, size, recipient, sender, id, type, start)`,
}

/** What a relay of a cluster did not see another keep may exceed the limit by as much as is kept between two looks. */
const KEEP_COUNTERS = {
  name: 'relay-keep-state-counters',
  text: `
    INSERT INTO relay_state_counters AS c (agent, counter, seen_at)
    SELECT w.agent, max(w.counter), $3 FROM unnest($1::text[], $2::bigint[]) AS w (agent, counter)
    WHERE $4 OR EXISTS (SELECT FROM relay_state_counters k WHERE k.agent = w.agent)
    GROUP BY w.agent
    ON CONFLICT (agent) DO UPDATE SET counter = greatest(c.counter, excluded.counter), seen_at = excluded.seen_at`,
}

const ADD_USAGE = {
  name: 'relay-mail-usage',
  text: `
    INSERT INTO relay_mail_usage AS u (partition_start, writer, messages, bytes)
    SELECT start, $1, messages, bytes FROM unnest($2::bigint[], $3::bigint[], $4::bigint[]) AS w (start, messages, bytes)
    ON CONFLICT (partition_start, writer)
    DO UPDATE SET messages = u.messages + excluded.messages, bytes = u.bytes + excluded.bytes`,
}

export class MailTransaction {
  readonly #items: readonly WriteItem[]
  readonly #stores: StoreItem[] = []
  readonly #removals: RemoveItem[] = []
  readonly #limits: MailboxLimits
  readonly #writer: string
  readonly #countersFit: boolean

  /**
   * @param writer names this relay's lines of the usage
   * @param countersFit whether state counters of more agents may be kept
   */
  constructor(items: readonly WriteItem[], limits: MailboxLimits, writer: string, countersFit: boolean) {
    this.#items = items
    for (const item of items) {
      if ('message' in item) this.#stores.push(item)
      else this.#removals.push(item)
    }
    this.#limits = limits
    this.#writer = writer
    this.#countersFit = countersFit
  }

  expiryTimes(): number[] {
    return this.#stores.map(({ message }) => this.#expiresAt(message))
  }

  /** @param now milliseconds since the epoch */
  async run(client: PoolClient, now: number): Promise<BatchResult> {
    const result = await this.#transaction(client, now, false)
    return result ?? given(await this.#transaction(client, now, true))
  }

  /** Undefined when the store turned out to be so full that this relay has to be alone with it. */
  async #transaction(client: PoolClient, now: number, alone: boolean): Promise<BatchResult | undefined> {
    await client.query(this.#beginAndLock(alone))
    const usage = new UsageChange()
    if (this.#removals.length > 0) await this.#remove(client, usage)
    await this.#keepCounters(client, now)
    const freed = usage.total()
    let found: Found | undefined
    let accepted: Accepted[] = []
    let outcomes: StoreOutcome[] = []
    if (this.#stores.length > 0) {
      found = new Found(await this.#look(client, now), freed)
      const reserve = RELAYS_AT_ONCE * MAX_BATCH_BYTES
      if (!alone && found.store.bytes > this.#limits.storeBytes - reserve) {
        await client.query('ROLLBACK')
        return undefined
      }
      ;({ accepted, outcomes } = this.#decide(found))
      for (const { message } of accepted) usage.add(this.#expiresAt(message), message.payload.length)
      if (accepted.length > 0) await this.#insert(client, accepted)
    }
    if (!usage.isEmpty) await client.query({ ...ADD_USAGE, values: [this.#writer, ...usage.columns()] })
    await client.query('COMMIT')
    let next = 0
    return {
      outcomes: this.#items.map((item) => ('message' in item ? given(outcomes[next++]) : 'stored')),
      totals: found?.store,
      change: usage.total(),
    }
  }

  #beginAndLock(alone: boolean): string {
    const recipients = lockKeys([
      ...this.#stores.map(({ message }) => message.to),
      ...this.#removals.map(({ to }) => to),
    ])
    const senders = lockKeys(this.#stores.map(({ message }) => message.from))
    // One at a time, and each before the next: in the order of the array.
    const lockAll = (lockClass: number, keys: readonly number[]) =>
      `SELECT count(pg_advisory_xact_lock(${lockClass}, key)) FROM unnest('{${keys.join()}}'::integer[]) AS key;`
    const store = `SELECT pg_advisory_xact_lock${alone ? '' : '_shared'}(${LOCKS.store}, 0);`
    return `BEGIN ISOLATION LEVEL READ COMMITTED;
      ${this.#stores.length > 0 ? store : ''}
      ${lockAll(LOCKS.recipient, recipients)}
      ${senders.length > 0 ? lockAll(LOCKS.sender, senders) : ''}`
  }

  async #remove(client: PoolClient, usage: UsageChange): Promise<void> {
    const recipients: string[] = []
    const places: number[] = []
    const positions: number[] = []
    for (const { to, messages } of this.#removals) {
      for (const { place, position } of messages) {
        recipients.push(to)
        places.push(place)
        positions.push(position)
      }
    }
    if (positions.length === 0) return
    const { rows } = await client.query<{ expires_at: number; size: number }>({
      ...DELETE,
      values: [recipients, places, positions],
    })
    for (const { expires_at, size } of rows) usage.subtract(expires_at, size)
  }

  async #keepCounters(client: PoolClient, now: number): Promise<void> {
    const shown = this.#removals.filter(({ stateCounter }) => stateCounter > 0)
    if (shown.length === 0) return
    const counters = shown.map(({ stateCounter }) => stateCounter)
    await client.query({
      ...KEEP_COUNTERS,
      values: [shown.map(({ to }) => to), counters, now, this.#countersFit],
    })
  }

  async #look(client: PoolClient, now: number): Promise<{ rows: LookRow[]; keys: LookKeys }> {
    const keys = new LookKeys()
    for (const { message } of this.#stores) keys.add(message)
    const { rows } = await client.query<LookRow>({
      ...LOOK,
      values: [
        keys.shares.map(({ to }) => to),
        keys.shares.map(({ from }) => from),
        keys.shares.map(({ ids }) => ids.join(' ')),
        now,
        keys.senders,
        this.#stores.length,
      ],
    })
    return { rows, keys }
  }

  #decide(found: Found): { accepted: Accepted[]; outcomes: StoreOutcome[] } {
    const accepted: Accepted[] = []
    const outcomes = this.#stores.map(({ message, place }): StoreOutcome => {
      const { to, from, id, payload } = message
      const name = `${to} ${from} ${id}`
      if (found.known.has(name)) return 'stored'
      const mailbox = given(found.mailboxes.get(to))
      const share = given(found.shares.get(`${to} ${from}`))
      const sender = given(found.senders.get(from))
      const usage = {
        messages: mailbox.messages,
        bytes: mailbox.bytes,
        senderMessages: share.messages,
        senderBytes: share.bytes,
        senderTotal: sender.messages,
        storeMessages: found.store.messages,
        storeBytes: found.store.bytes,
      }
      const refusal = refusalOf(usage, payload.length, this.#limits)
      if (refusal !== undefined) return refusal
      for (const held of [mailbox, share, sender, found.store]) {
        held.messages += 1
        held.bytes += payload.length
      }
      found.known.add(name)
      const position = given(found.positions[accepted.length])
      accepted.push({ message, position, place: place ?? position })
      return 'stored'
    })
    return { accepted, outcomes }
  }

  async #insert(client: PoolClient, accepted: readonly Accepted[]): Promise<void> {
    const column = <T>(value: (each: Accepted) => T): T[] => accepted.map(value)
    let end = 1
    const starts = accepted.map(({ message }) => {
      const start = end
      end += message.payload.length
      return start
    })
    await client.query({
      ...INSERT,
      values: [
        column(({ place }) => place),
        column(({ position }) => position),
        column(({ message }) => message.timestamp),
        column(({ message }) => this.#expiresAt(message)),
        column(({ message }) => message.payload.length),
        column(({ message }) => message.to),
        column(({ message }) => message.from),
        column(({ message }) => message.id),
        column(({ message }) => message.type),
        Buffer.concat(column(({ message }) => message.payload)),
        starts,
      ],
    })
  }

  #expiresAt({ timestamp }: MailboxMessage): number {
    return timestamp + this.#limits.mailboxTtlMs
  }
}

interface Accepted extends Place {
  readonly message: MailboxMessage
}

interface Held {
  messages: number
  bytes: number
}

interface LookRow extends Held {
  readonly about: 'share' | 'sender' | 'store'
  readonly n: number
  readonly sender_messages: number
  readonly sender_bytes: number
  /** Ids that are there already; of the store, new positions. */
  readonly names: readonly string[] | null
}

interface Share {
  readonly to: Amid
  readonly from: Amid
  readonly ids: MessageId[]
}

/** The distinct shares (a sender in a mailbox) and senders of a batch, in the order in which they are asked about. */
class LookKeys {
  readonly shares: Share[] = []
  readonly senders: Amid[] = []
  readonly #byName = new Map<string, Share>()
  readonly #bySender = new Set<Amid>()

  add({ to, from, id }: MailboxMessage): void {
    const name = `${to} ${from}`
    let share = this.#byName.get(name)
    if (share === undefined) {
      share = { to, from, ids: [] }
      this.#byName.set(name, share)
      this.shares.push(share)
    }
    share.ids.push(id)
    if (this.#bySender.has(from)) return
    this.#bySender.add(from)
    this.senders.push(from)
  }
}

/** What the look found, and, while a batch is decided, what it adds. */
class Found {
  /** Messages that are stored, as `to from id`. */
  readonly known = new Set<string>()
  readonly mailboxes = new Map<Amid, Held>()
  readonly shares = new Map<string, Held>()
  readonly senders = new Map<Amid, Held>()
  readonly store: Held = { messages: 0, bytes: 0 }
  readonly positions: readonly number[] = []

  /** @param freed what the same transaction has removed, which is not in the usage yet */
  constructor({ rows, keys }: { rows: readonly LookRow[]; keys: LookKeys }, freed: Totals) {
    for (const row of rows) {
      const { about, n, messages, bytes, sender_messages, sender_bytes, names } = row
      const ofSender = { messages: sender_messages, bytes: sender_bytes }
      if (about === 'share') {
        const { to, from } = given(keys.shares[n - 1])
        this.mailboxes.set(to, { messages, bytes })
        this.shares.set(`${to} ${from}`, ofSender)
        for (const id of names ?? []) this.known.add(`${to} ${from} ${id}`)
      } else if (about === 'sender') this.senders.set(given(keys.senders[n - 1]), ofSender)
      else {
        this.store = { messages: messages + freed.messages, bytes: bytes + freed.bytes }
        this.positions = (names ?? []).map(Number).toSorted((a, b) => a - b)
      }
    }
  }
}

/** What a batch adds to the usage, by partition. */
class UsageChange {
  readonly #byPartition = new Map<number, Held>()

  get isEmpty(): boolean {
    return this.#byPartition.size === 0
  }

  add(expiresAt: number, size: number): void {
    this.#change(expiresAt, 1, size)
  }

  subtract(expiresAt: number, size: number): void {
    this.#change(expiresAt, -1, -size)
  }

  #change(expiresAt: number, messages: number, bytes: number): void {
    const start = partitionOf(expiresAt)
    const held = this.#byPartition.get(start) ?? { messages: 0, bytes: 0 }
    held.messages += messages
    held.bytes += bytes
    this.#byPartition.set(start, held)
  }

  columns(): [number[], number[], number[]] {
    const all = [...this.#byPartition.values()]
    return [[...this.#byPartition.keys()], all.map(({ messages }) => messages), all.map(({ bytes }) => bytes)]
  }

  total(): Totals {
    let messages = 0
    let bytes = 0
    for (const held of this.#byPartition.values()) {
      messages += held.messages
      bytes += held.bytes
    }
    return { messages, bytes }
  }
}

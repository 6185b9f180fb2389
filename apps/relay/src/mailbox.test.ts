/** The contract of `Mailbox`, run against each implementation. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { amidFromBytes, messageIdFromBytes, type Amid, type MessageId } from '@agentmesh/sdk/wire'
import { DEFAULT_LIMITS } from './limits.ts'
import { FRONT, type Mailbox, type MailboxMessage, type Place, type StoredMessage } from './mailbox.ts'
import { closeDatabase, openDatabase } from './sqlite.ts'
import { PostgresMailbox } from './postgres-mailbox.ts'
import type { MailboxLimits } from './quotas.ts'
import { SqliteMailbox } from './sqlite-mailbox.ts'
import { TestPostgres } from './test-support-postgres.ts'

const HOUR = 3600_000
const START = Date.UTC(2026, 1, 1)

function amid(number: number): Amid {
  return amidFromBytes(new Uint8Array(20).fill(number))
}
function messageId(number: number): MessageId {
  const bytes = new Uint8Array(16)
  new DataView(bytes.buffer).setUint32(0, number)
  bytes[6] = 0x40
  bytes[8] = 0x80
  return messageIdFromBytes(bytes)
}
function numberOf({ id }: MailboxMessage): number {
  return Number.parseInt(id.slice(0, 8), 16)
}

const folder = mkdtempSync(join(tmpdir(), 'agentmesh-mailbox-'))
let files = 0

let postgres: TestPostgres
let databaseUrl: string
beforeAll(async () => {
  postgres = await TestPostgres.start()
  databaseUrl = await postgres.create()
})
afterAll(async () => postgres.stop())

interface Opened {
  mailbox: Mailbox
  /** Undefined where nothing outlives the process. */
  reopen: (() => Promise<Mailbox>) | undefined
}
type Open = (limits: MailboxLimits, now: () => number) => Promise<Opened>

const implementations: [string, Open][] = [
  [
    'SQLite file',
    async (limits, now) => {
      const path = join(folder, `${files++}.db`)
      const open = async () => new SqliteMailbox(path, limits, now)
      return { mailbox: await open(), reopen: open }
    },
  ],
  [
    'SQLite in memory',
    async (limits, now) => ({ mailbox: new SqliteMailbox(':memory:', limits, now), reopen: undefined }),
  ],
  [
    'PostgreSQL',
    async (limits, now) => {
      const open = async () => PostgresMailbox.open(databaseUrl, limits, now, () => {})
      await (await open()).close()
      await postgres.clear(databaseUrl)
      return { mailbox: await open(), reopen: open }
    },
  ],
]

describe.each(implementations)('Mailbox: %s', (_, open) => {
  let now: number
  let number: number
  let opened: Opened
  let mailbox: Mailbox

  async function start(limits: Partial<MailboxLimits> = {}): Promise<void> {
    opened = await open({ ...DEFAULT_LIMITS, ...limits }, () => now)
    mailbox = opened.mailbox
  }

  /** Numbered from 1. */
  function message(changes: Partial<MailboxMessage> = {}): MailboxMessage {
    number += 1
    return {
      to: amid(1),
      from: amid(2),
      id: messageId(number),
      type: 'message',
      timestamp: now,
      payload: Uint8Array.of(number & 0xff),
      ...changes,
    }
  }

  async function read(to = amid(1), after: Place = FRONT, limit = 1000): Promise<StoredMessage[]> {
    return mailbox.page(to, { after, limit, withKnocks: true })
  }
  async function numbers(to = amid(1)): Promise<number[]> {
    return (await read(to)).map(numberOf)
  }
  async function place(wanted: number, to = amid(1)): Promise<Place> {
    return (await read(to)).find((each) => numberOf(each) === wanted)!
  }

  beforeEach(async () => {
    now = START
    number = 0
    await start()
  })
  afterEach(async () => mailbox.close())

  it('gives back what it took, unchanged', async () => {
    const sent = message({ type: 'knock', payload: new Uint8Array(5000).fill(7) })
    expect(await mailbox.store(sent)).toBe('stored')
    expect(await read(sent.to)).toEqual([
      { ...sent, place: expect.any(Number), position: expect.any(Number) },
    ])
  })

  it('orders by the order of the calls, in pages', async () => {
    const sent = [message(), message(), message()]
    await Promise.all([sent[2]!, sent[0]!, sent[1]!].map(async (each) => mailbox.store(each)))
    const all = await read()
    expect(all.map(numberOf)).toEqual([3, 1, 2])
    expect((await read(amid(1), all[0], 1)).map(numberOf)).toEqual([1])
    expect(await read(amid(1), all[2])).toEqual([])
  })

  it('gives every message a higher position than all before it, also in an emptied mailbox', async () => {
    await mailbox.store(message())
    await mailbox.store(message())
    const [first, second] = await read()
    await mailbox.remove(amid(1), [first!, second!], 0)
    await mailbox.store(message())
    const [third] = await read(amid(1), second)
    expect(numberOf(third!)).toBe(3)
    expect(first!.position).toBeLessThan(second!.position)
    expect(second!.position).toBeLessThan(third!.position)
  })

  it('puts what a connection left in front of what it was not sent', async () => {
    await mailbox.store(message())
    const sent = await place(1)
    await mailbox.store(message())
    await mailbox.store(message(), sent.place)
    await mailbox.store(message(), sent.place)
    await mailbox.store(message(), FRONT.place)
    const all = await read()
    expect(all.map(numberOf)).toEqual([5, 1, 3, 4, 2])
    // Each is a place to go on from.
    for (const [index, each] of all.entries()) {
      expect((await read(amid(1), each)).map(numberOf)).toEqual([5, 1, 3, 4, 2].slice(index + 1))
    }
    await mailbox.remove(amid(1), [all[2]!], 0)
    expect(await numbers()).toEqual([5, 1, 4, 2])
  })

  it('keeps mailboxes apart', async () => {
    await mailbox.store(message())
    await mailbox.store(message({ to: amid(9) }))
    expect(await numbers()).toEqual([1])
    expect(await numbers(amid(9))).toEqual([2])
    await mailbox.remove(amid(1), [await place(2, amid(9))], 0)
    expect(await mailbox.count(amid(9))).toBe(1)
  })

  it('shows a read everything asked for before it', async () => {
    await mailbox.store(message())
    const first = await place(1)
    const stored = mailbox.store(message())
    const removed = mailbox.remove(amid(1), [first], 0)
    const kept = mailbox.store(message())
    const [page, count] = await Promise.all([numbers(), mailbox.count(amid(1))])
    expect([page, count]).toEqual([[2, 3], 2])
    await Promise.all([stored, removed, kept])
  })

  it('takes a message of the same receiver, sender and id once, and says it is stored', async () => {
    const sent = message()
    const again = { ...sent, payload: Uint8Array.of(99) }
    expect(await mailbox.store(sent)).toBe('stored')
    expect(await mailbox.store(again)).toBe('stored')
    expect(await mailbox.store(again, FRONT.place)).toBe('stored')
    expect(await mailbox.store({ ...sent, from: amid(3) })).toBe('stored')
    // In one commit too.
    const twice = message()
    expect(await Promise.all([mailbox.store(twice), mailbox.store(twice)])).toEqual(['stored', 'stored'])
    const page = await read()
    expect(page.map(({ from, payload }) => [from, payload[0]])).toEqual([
      [amid(2), 1],
      [amid(3), 1],
      [amid(2), 2],
    ])
    expect([mailbox.messages, mailbox.bytes]).toEqual([3, 3])
  })

  it('leaves KNOCKs out of a page that is not to have them', async () => {
    await mailbox.store(message({ type: 'knock' }))
    await mailbox.store(message())
    const page = await mailbox.page(amid(1), { after: FRONT, limit: 1, withKnocks: false })
    expect(page.map(numberOf)).toEqual([2])
    expect(await numbers()).toEqual([1, 2])
  })

  it('keeps the highest state counter of each agent, also across a restart', async () => {
    expect(await mailbox.stateCounter(amid(1))).toBe(0)
    await Promise.all(
      [5, Number.MAX_SAFE_INTEGER, 6, 0].map(async (each) => mailbox.remove(amid(1), [], each)),
    )
    await mailbox.remove(amid(2), [], 3)
    const both = async () => Promise.all([1, 2].map(async (each) => mailbox.stateCounter(amid(each))))
    expect(await both()).toEqual([Number.MAX_SAFE_INTEGER, 3])
    if (opened.reopen === undefined) return
    await mailbox.close()
    mailbox = await opened.reopen()
    expect(await both()).toEqual([Number.MAX_SAFE_INTEGER, 3])
  })

  it('forgets the state counter of an agent that showed none for 30 days', async () => {
    await mailbox.remove(amid(1), [], 5)
    await mailbox.remove(amid(2), [], 6)
    now += 20 * 24 * HOUR
    await mailbox.remove(amid(2), [], 6)
    now += 10 * 24 * HOUR + 1
    await mailbox.purge()
    expect([await mailbox.stateCounter(amid(1)), await mailbox.stateCounter(amid(2))]).toEqual([0, 6])
  })

  it('keeps no state counter more than its number, and still raises those it has', async () => {
    await mailbox.close()
    await start({ stateCounters: 2 })
    for (const agent of [1, 2]) await mailbox.remove(amid(agent), [], 5)
    await mailbox.purge()
    for (const agent of [3, 1]) await mailbox.remove(amid(agent), [], 6)
    const kept = await Promise.all([1, 2, 3].map(async (agent) => mailbox.stateCounter(amid(agent))))
    expect(kept).toEqual([6, 5, 0])
  })

  it('refuses beyond a sender’s number, and leaves the others their room', async () => {
    await mailbox.close()
    await start({ senderMessages: 2, mailboxMessages: 3 })
    const outcomes = []
    for (const from of [2, 2, 2, 3, 4]) outcomes.push(await mailbox.store(message({ from: amid(from) })))
    expect(outcomes).toEqual(['stored', 'stored', 'sender-quota', 'stored', 'mailbox-full'])
    await mailbox.remove(amid(1), [await place(1)], 0)
    expect(await mailbox.store(message({ from: amid(2) }))).toBe('stored')
  })

  it('answers `stored` for a message it has, though the sender has no room for another', async () => {
    await mailbox.close()
    await start({ senderMessages: 1 })
    const sent = message()
    expect(await mailbox.store(sent)).toBe('stored')
    expect(await mailbox.store(sent)).toBe('stored')
  })

  it('counts bytes, for a sender, a mailbox and all together', async () => {
    await mailbox.close()
    await start({ senderBytes: 1000, mailboxBytes: 1500, storeBytes: 2000 })
    const store = async (to: number, from: number, size: number) =>
      mailbox.store(message({ to: amid(to), from: amid(from), payload: new Uint8Array(size) }))
    expect(await store(1, 2, 1001)).toBe('sender-quota')
    expect(await store(1, 2, 1000)).toBe('stored')
    expect(await store(1, 2, 1)).toBe('sender-quota')
    expect(await store(1, 3, 501)).toBe('mailbox-full')
    expect(await store(1, 3, 500)).toBe('stored')
    expect(await store(9, 4, 501)).toBe('store-full')
    expect(await store(9, 4, 500)).toBe('stored')
    expect(mailbox.bytes).toBe(2000)
    await mailbox.remove(amid(1), await read(), 0)
    expect([mailbox.messages, mailbox.bytes]).toEqual([1, 500])
  })

  it('limits what one sender has in all mailboxes', async () => {
    await mailbox.close()
    await start({ senderTotalMessages: 3 })
    const outcomes = []
    for (const to of [11, 12, 13, 14]) outcomes.push(await mailbox.store(message({ to: amid(to) })))
    expect(outcomes).toEqual(['stored', 'stored', 'stored', 'sender-quota'])
  })

  it('forgets after 72 hours, and counts expired messages against nobody', async () => {
    await mailbox.close()
    await start({ mailboxMessages: 1 })
    const old = message()
    await mailbox.store(old)
    now += 72 * HOUR - 1
    expect(await numbers()).toEqual([1])
    expect(await mailbox.store(message())).toBe('mailbox-full')
    now += 1
    expect(await numbers()).toEqual([])
    expect(await mailbox.count(amid(1))).toBe(0)
    // Sent again under its old id it is a message like any other.
    expect(await mailbox.store({ ...old, timestamp: now })).toBe('stored')
    expect(await read()).toMatchObject([{ timestamp: now }])
  })

  it('purges what is past its time', async () => {
    await mailbox.store(message())
    await mailbox.store(message())
    now += 48 * HOUR
    await mailbox.store(message())
    // A day after the first two expired.
    now += 48 * HOUR
    expect(await mailbox.purge()).toBe(2)
    expect(await mailbox.purge()).toBe(0)
    expect([mailbox.messages, mailbox.bytes]).toEqual([1, 1])
    expect(await numbers()).toEqual([3])
  })

  it('keeps to every quota, whatever is asked at once', async () => {
    await mailbox.close()
    await start({ mailboxMessages: 10, senderMessages: 3, senderTotalMessages: 7, mailboxBytes: 70 })
    const asked = Array.from({ length: 120 }, (__, index) => {
      const [to, from] = [amid(1 + (index % 5)), amid(50 + (index % 7))]
      return message({ to, from, payload: new Uint8Array(1 + (index % 13)) })
    })
    const outcomes = await Promise.all(asked.map(async (each) => mailbox.store(each)))
    const stored = asked.filter((__, index) => outcomes[index] === 'stored')
    for (let to = 1; to <= 5; to++) {
      const held = await read(amid(to))
      // What it said it stored, in order, and nothing else.
      expect(held.map(numberOf)).toEqual(stored.filter((each) => each.to === amid(to)).map(numberOf))
      expect(held.length).toBeLessThanOrEqual(10)
      expect(held.reduce((sum, { payload }) => sum + payload.length, 0)).toBeLessThanOrEqual(70)
      for (const { from } of held) {
        expect(held.filter((each) => each.from === from).length).toBeLessThanOrEqual(3)
      }
    }
    for (let from = 50; from < 57; from++) {
      expect(stored.filter((each) => each.from === amid(from)).length).toBeLessThanOrEqual(7)
    }
    expect(new Set(outcomes)).toEqual(new Set(['stored', 'sender-quota', 'mailbox-full']))
    expect(mailbox.messages).toBe(stored.length)
    expect(mailbox.bytes).toBe(stored.reduce((sum, { payload }) => sum + payload.length, 0))
  })

  it('pages through what stands there, each message once, while more is stored and removed', async () => {
    await mailbox.close()
    await start({ mailboxMessages: 1000, senderMessages: 1000 })
    await Promise.all(Array.from({ length: 40 }, async () => mailbox.store(message())))
    const seen: StoredMessage[] = []
    const others: Promise<unknown>[] = []
    for (;;) {
      const page = await read(amid(1), seen.at(-1), 7)
      if (page.length === 0) break
      seen.push(...page)
      others.push(mailbox.remove(amid(1), page.slice(0, 3), 0))
      if (number < 60) others.push(mailbox.store(message()), mailbox.store(message({ to: amid(9) })))
    }
    await Promise.all(others)
    const wanted = Array.from({ length: number }, (__, index) => index + 1)
    const ours = wanted.filter((each) => each <= 40 || each % 2 === 1)
    expect(seen.map(numberOf)).toEqual(ours)
    expect(await mailbox.count(amid(9))).toBe(number - ours.length)
  })

  it('tells whether it can be written', async () => {
    expect(await mailbox.check()).toBe(true)
  })

  it('has everything again when it is opened again', async () => {
    if (opened.reopen === undefined) return
    await mailbox.store(message())
    await mailbox.store(message({ payload: new Uint8Array(300) }))
    await mailbox.close()
    mailbox = await opened.reopen()
    expect([mailbox.messages, mailbox.bytes]).toEqual([2, 301])
    await mailbox.store(message())
    expect(await numbers()).toEqual([1, 2, 3])
  })
})

describe('a mailbox file', () => {
  it('belongs to one relay at a time', async () => {
    const path = join(folder, 'shared.db')
    const mailbox = new SqliteMailbox(path, DEFAULT_LIMITS, () => START)
    expect(() => new SqliteMailbox(path, DEFAULT_LIMITS, () => START)).toThrow(
      expect.objectContaining({ code: 'RELAY_STORE_FAILED' }),
    )
    await mailbox.close()
    await new SqliteMailbox(path, DEFAULT_LIMITS, () => START).close()
  })

  it('is brought up from the first version, in its order', async () => {
    const path = join(folder, 'version-1.db')
    const old = openDatabase(path)
    old.exec(`
      CREATE TABLE mail (position INTEGER PRIMARY KEY, recipient TEXT NOT NULL, sender TEXT NOT NULL, id TEXT NOT NULL,
        type TEXT NOT NULL, timestamp INTEGER NOT NULL, expires_at INTEGER NOT NULL, size INTEGER NOT NULL,
        payload BLOB NOT NULL) STRICT;
      CREATE UNIQUE INDEX mail_message ON mail (recipient, sender, id);
      CREATE INDEX mail_order ON mail (recipient, position);
      CREATE INDEX mail_sender ON mail (sender);
      CREATE INDEX mail_expiry ON mail (expires_at);
      PRAGMA user_version = 1;
    `)
    const insert = old.prepare('INSERT INTO mail VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)')
    for (const number of [2, 1]) {
      const position = START * 1000 + number
      const names = [amid(1), amid(2), messageId(number), 'message'] as const
      insert.run(position, ...names, START, START + HOUR, 1, Uint8Array.of(number))
    }
    closeDatabase(old)
    const mailbox = new SqliteMailbox(path, DEFAULT_LIMITS, () => START)
    const to = amid(1)
    const [from, timestamp, payload] = [amid(2), START, Uint8Array.of(3)]
    await mailbox.store({ to, from, id: messageId(3), type: 'message', timestamp, payload })
    const page = await mailbox.page(to, { after: FRONT, limit: 10, withKnocks: true })
    expect(page.map((each) => [numberOf(each), each.payload[0]])).toEqual([
      [1, 1],
      [2, 2],
      [3, 3],
    ])
    expect([mailbox.messages, mailbox.bytes]).toEqual([3, 3])
    await mailbox.close()
  })

  it('of a newer version is refused', () => {
    const path = join(folder, 'newer.db')
    const newer = openDatabase(path)
    newer.exec('PRAGMA user_version = 99')
    closeDatabase(newer)
    const open = () => new SqliteMailbox(path, DEFAULT_LIMITS, () => START)
    expect(open).toThrow(expect.objectContaining({ code: 'RELAY_STORE_FAILED' }))
  })

  it('is refused when its folder does not exist', () => {
    const open = () => new SqliteMailbox(join(folder, 'no', 'such.db'), DEFAULT_LIMITS, () => START)
    expect(open).toThrow(expect.objectContaining({ code: 'RELAY_STORE_FAILED' }))
  })
})

process.once('exit', () => rmSync(folder, { recursive: true, force: true }))

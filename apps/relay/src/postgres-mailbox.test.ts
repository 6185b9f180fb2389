/** What `mailbox.test.ts` does not ask: several relays at once on one database, and a database that fails. */
import pg from 'pg'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { amidFromBytes, messageIdFromBytes, type Amid } from '@agentmesh/sdk/wire'
import { DEFAULT_LIMITS } from './limits.ts'
import { FRONT, type MailboxMessage, type Place, type StoredMessage } from './mailbox.ts'
import { migrate } from './postgres/migrations.ts'
import { PostgresMailbox } from './postgres-mailbox.ts'
import type { MailboxLimits } from './quotas.ts'
import { CommitCutter, TestPostgres } from './test-support-postgres.ts'

const HOUR = 3600_000
const START = Date.UTC(2026, 1, 1)
const ROOMY = {
  ...DEFAULT_LIMITS,
  mailboxMessages: 1_000_000,
  senderMessages: 1_000_000,
  senderTotalMessages: 1_000_000,
}

const turn = async () => new Promise<void>((resolve) => setImmediate(resolve))
const to = amid(1)

function amid(number: number): Amid {
  const bytes = new Uint8Array(20)
  new DataView(bytes.buffer).setUint32(0, number)
  return amidFromBytes(bytes)
}
function numberOf({ id }: MailboxMessage): number {
  return Number.parseInt(id.slice(0, 8), 16)
}

let postgres: TestPostgres
let url: string
let now: number
let number: number
const opened: PostgresMailbox[] = []

beforeAll(async () => {
  postgres = await TestPostgres.start()
})
afterAll(async () => postgres.stop())
beforeEach(() => {
  now = START
  number = 0
})
afterEach(async () => {
  await Promise.all(opened.splice(0).map(async (each) => each.close()))
})

/** Another relay's mailbox on the same database. */
async function open(
  limits: Partial<MailboxLimits> = {},
  at = url,
  clock = () => now,
): Promise<PostgresMailbox> {
  const mailbox = await PostgresMailbox.open(at, { ...ROOMY, ...limits }, clock, () => {})
  opened.push(mailbox)
  return mailbox
}

async function client(): Promise<pg.Client> {
  const connected = new pg.Client({ connectionString: url })
  connected.on('error', () => {})
  await connected.connect()
  return connected
}

function message(changes: Partial<MailboxMessage> = {}): MailboxMessage {
  number += 1
  const bytes = new Uint8Array(16)
  new DataView(bytes.buffer).setUint32(0, number)
  bytes.set([0x40, 0, 0x80], 6)
  const [id, payload] = [messageIdFromBytes(bytes), Uint8Array.of(number & 0xff)]
  return { to, from: amid(2), id, type: 'message', timestamp: now, payload, ...changes }
}

async function read(mailbox: PostgresMailbox, of = to, after: Place = FRONT): Promise<StoredMessage[]> {
  return mailbox.page(of, { after, limit: 100_000, withKnocks: true })
}

describe('a mailbox of several relays', () => {
  let one: PostgresMailbox
  let two: PostgresMailbox

  async function both(limits: Partial<MailboxLimits> = {}): Promise<void> {
    ;[one, two] = await Promise.all([open(limits), open(limits)])
  }

  beforeAll(async () => {
    url = await postgres.create()
    now = START
    await open()
    // Holds every transaction for a while before its commit, so that those of two relays overlap and overtake each other.
    const connected = await client()
    await connected.query(`
      CREATE FUNCTION linger() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(random() * 0.02); RETURN NULL; END';
      CREATE TRIGGER linger AFTER INSERT ON relay_mail_usage FOR EACH STATEMENT EXECUTE FUNCTION linger()`)
    await connected.end()
  })
  beforeEach(async () => postgres.clear(url))

  it('shows who reads behind the last message every new one once, in each writer’s order', async () => {
    await both()
    const seen: StoredMessage[] = []
    let writing = true
    const reader = await open()
    const tail = (async () => {
      for (let last = false; !last;) {
        last = !writing
        seen.push(...(await read(reader, to, seen.at(-1))))
      }
    })()
    const write = async (mailbox: PostgresMailbox, from: Amid): Promise<void> => {
      for (let round = 0; round < 40; round++) {
        await Promise.all([1, 2, 3].map(async () => mailbox.store(message({ from }))))
      }
    }
    await Promise.all([write(one, amid(2)), write(two, amid(3))])
    writing = false
    await tail
    expect(seen).toHaveLength(240)
    for (const from of [amid(2), amid(3)]) {
      const numbers = seen.filter((each) => each.from === from).map(numberOf)
      expect(numbers).toEqual(numbers.toSorted((a, b) => a - b))
      expect(new Set(numbers).size).toBe(120)
    }
    expect(seen.map(({ position }) => position)).toEqual(
      seen.map(({ position }) => position).toSorted((a, b) => a - b),
    )
  })

  it('takes a message that comes by both relays once', async () => {
    await both()
    const sent = Array.from({ length: 50 }, () => message())
    const outcomes = await Promise.all(
      sent.flatMap((each) => [one, two].map(async (mailbox) => mailbox.store(each))),
    )
    expect(new Set(outcomes)).toEqual(new Set(['stored']))
    expect((await read(one)).map(numberOf).toSorted((a, b) => a - b)).toEqual(sent.map(numberOf))
  })

  describe.each<[string, Partial<MailboxLimits>, (index: number) => Partial<MailboxMessage>, string]>([
    ['a mailbox', { mailboxMessages: 20 }, (index) => ({ from: amid(100 + index) }), 'mailbox-full'],
    ['bytes of a mailbox', { mailboxBytes: 20 }, (index) => ({ from: amid(100 + index) }), 'mailbox-full'],
    ['a sender in a mailbox', { senderMessages: 20 }, () => ({}), 'sender-quota'],
    ['a sender in all', { senderTotalMessages: 20 }, (index) => ({ to: amid(100 + index) }), 'sender-quota'],
    [
      'the store',
      { storeBytes: 20 },
      (index) => ({ to: amid(1000 + index), from: amid(index) }),
      'store-full',
    ],
  ])('with a quota of %s', (_, limits, changes, refusal) => {
    it('keeps to it across relays', async () => {
      await both(limits)
      const outcomes = await Promise.all(
        Array.from({ length: 60 }, async (__, index) => {
          const sent = message(changes(index))
          // In several commits of each relay.
          for (let turns = Math.floor(index / 8) * 40; turns > 0; turns--) await turn()
          return (index % 2 === 0 ? one : two).store(sent)
        }),
      )
      expect(outcomes.filter((outcome) => outcome === 'stored')).toHaveLength(20)
      expect(new Set(outcomes)).toEqual(new Set(['stored', refusal]))
      await one.purge()
      expect([one.messages, one.bytes]).toEqual([20, 20])
    })
  })

  it('lets both remove, and counts what is left', async () => {
    await both()
    const places = async (of: Amid) => (await read(one, of)).slice(0, 30)
    await Promise.all(
      [1, 2].flatMap((of) =>
        Array.from({ length: 40 }, async () =>
          one.store(message({ to: amid(of), payload: new Uint8Array(3) })),
        ),
      ),
    )
    const [first, second] = [await places(amid(1)), await places(amid(2))]
    await Promise.all([
      one.remove(amid(1), first, 0),
      one.remove(amid(2), second, 0),
      two.remove(amid(2), second.toReversed(), 0),
      two.remove(amid(1), first.toReversed(), 0),
      two.store(message({ to: amid(1) })),
    ])
    await Promise.all([one.purge(), two.purge()])
    expect([one.messages, one.bytes]).toEqual([21, 61])
    expect([two.messages, two.bytes]).toEqual([21, 61])
    expect([await one.count(amid(1)), await two.count(amid(2))]).toEqual([11, 10])
  })

  it('names every mailbox that was given something since, whichever commit came first', async () => {
    await both()
    await one.store(message({ to: amid(5) }))
    const first = await two.recipientsSince(undefined)
    expect(first.recipients).toEqual([])
    // Begun before a message that is committed first.
    const slow = await client()
    await slow.query('BEGIN')
    await slow.query(
      `INSERT INTO relay_mail (place, position, timestamp, expires_at, size, recipient, sender, id, type, payload)
        VALUES (1, nextval('relay_mail_position'), $1, $1, 0, $2, $3, '', 'message', '')`,
      [START, amid(6), amid(2)],
    )
    await one.store(message({ to: amid(7) }))
    const second = await two.recipientsSince(first.mark)
    expect(second.recipients).toEqual([amid(7)])
    await slow.query('COMMIT')
    await slow.end()
    const third = await two.recipientsSince(second.mark)
    expect(third.recipients).toContain(amid(6))
    expect((await two.recipientsSince(third.mark)).recipients).toEqual([])
  })

  it('takes what a dump brought from another server for old', async () => {
    await both()
    await one.store(message({ to: amid(8) }))
    const connected = await client()
    await connected.query("UPDATE relay_mail SET stamp = '9999999999'")
    await connected.end()
    const { mark } = await two.recipientsSince(undefined)
    expect((await two.recipientsSince(mark)).recipients).toEqual([amid(8)])
    await open()
    const { mark: later } = await two.recipientsSince(undefined)
    expect((await two.recipientsSince(later)).recipients).toEqual([])
    expect(await two.count(amid(8))).toBe(1)
  })

  it('drops no mail because the clock of one relay is wrong', async () => {
    now = Date.now()
    await both()
    await one.store(message())
    const ahead = await open({}, url, () => now + 1000 * HOUR)
    expect(await ahead.purge()).toBe(0)
    expect(await read(ahead)).toEqual([])
    expect(await read(one)).toHaveLength(1)
  })

  it('makes a partition again that another relay has dropped', async () => {
    await both()
    await one.store(message())
    const later = await open({}, url, () => START + 100 * HOUR)
    expect(await later.purge()).toBe(1)
    expect(await one.store(message())).toBe('stored')
    expect((await read(one)).map(numberOf)).toEqual([2])
    expect(await later.purge()).toBe(1)
  })

  it('waits with dropping for who reads, and lets nobody wait meanwhile', async () => {
    await both()
    await one.store(message())
    const dump = await client()
    await dump.query('BEGIN; SELECT count(*) FROM relay_mail')
    const later = await open({}, url, () => START + 100 * HOUR)
    const [dropped, stored] = await Promise.all([later.purge(), one.store(message())])
    expect([dropped, stored]).toEqual([0, 'stored'])
    await dump.query('COMMIT')
    await dump.end()
    expect(await later.purge()).toBe(2)
  })
})

describe('a mailbox whose database fails', () => {
  let cutter: CommitCutter

  beforeAll(async () => {
    url = await postgres.create()
    cutter = await CommitCutter.start(postgres.port)
  })
  afterAll(async () => cutter.close())

  it.each(['before', 'after'] as const)(
    'stores once what was on its way when the connection broke %s the commit',
    async (when) => {
      const mailbox = await open({}, postgres.url(new URL(url).pathname.slice(1), cutter.port))
      await postgres.clear(url)
      cutter.cut(when)
      const cuts = cutter.cuts
      const sent = Array.from({ length: 20 }, () => message())
      const outcomes = await Promise.all(sent.map(async (each) => mailbox.store(each)))
      expect(cutter.cuts).toBe(cuts + 1)
      expect(new Set(outcomes)).toEqual(new Set(['stored']))
      const held = await read(mailbox)
      expect(held.map(numberOf)).toEqual(sent.map(numberOf))
      cutter.cut(when)
      await mailbox.remove(to, held.slice(0, 19), 0)
      expect(cutter.cuts).toBe(cuts + 2)
      expect(await mailbox.count(to)).toBe(1)
      await mailbox.purge()
      expect([mailbox.messages, mailbox.bytes]).toEqual([1, 1])
    },
  )

  it('loses nothing it acknowledged when the server is killed, says that it fails, and heals alone', async () => {
    const mailbox = await open()
    await postgres.clear(url)
    const acknowledged = new Set<number>()
    const failures = new Set<unknown>()
    const writing = new AbortController()
    let gone: (() => void) | undefined
    const writer = async (from: Amid) => {
      while (!writing.signal.aborted) {
        const next = message({ from })
        try {
          expect(await mailbox.store(next)).toBe('stored')
          acknowledged.add(numberOf(next))
        } catch (error) {
          failures.add((error as { code?: unknown }).code)
          gone?.()
          await turn()
        }
      }
    }
    const writers = [2, 3, 4, 5, 6, 7, 8, 9].map(async (from) => writer(amid(from)))
    const acknowledgedMore = async (count: number) => {
      const enough = acknowledged.size + count
      while (acknowledged.size < enough) await turn()
    }
    await acknowledgedMore(200)
    for (let kills = 0; kills < 2; kills++) {
      const failed = new Promise<void>((resolve) => {
        gone = resolve
      })
      await postgres.kill()
      await failed
      expect(await mailbox.check()).toBe(false)
      await expect(read(mailbox)).rejects.toMatchObject({ code: 'RELAY_STORE_FAILED' })
      await postgres.start()
      await acknowledgedMore(100)
      expect(await mailbox.check()).toBe(true)
    }
    writing.abort()
    await Promise.all(writers)
    expect(failures).toEqual(new Set(['RELAY_STORE_FAILED']))
    const held = new Set((await read(mailbox)).map(numberOf))
    expect([...acknowledged].filter((each) => !held.has(each))).toEqual([])
    await mailbox.purge()
    expect(mailbox.messages).toBe(held.size)
  })

  it('is not opened where no server answers, without a word of the password', async () => {
    const nowhere = 'postgres://relay:hunter2@127.0.0.1:1/mail'
    const failure: unknown = await PostgresMailbox.open(
      nowhere,
      ROOMY,
      () => now,
      () => {},
    ).catch((error: unknown) => error)
    expect(failure).toMatchObject({ code: 'RELAY_STORE_FAILED', operation: 'open PostgreSQL' })
    expect(`${String(failure)} ${JSON.stringify(failure)} ${(failure as Error).stack}`).not.toContain(
      'hunter2',
    )
  })
})

describe('migrations', () => {
  beforeEach(async () => {
    url = await postgres.create()
  })

  it('are made once by relays that start at once', async () => {
    const mailboxes = await Promise.all([open(), open(), open()])
    await Promise.all(mailboxes.map(async (mailbox) => mailbox.store(message())))
    const [mailbox] = mailboxes
    expect(await mailbox.count(to)).toBe(3)
    const connected = await client()
    const { rows } = await connected.query('SELECT name FROM relay_migrations ORDER BY name')
    await connected.end()
    expect(rows).toEqual([{ name: '0001-initial' }, { name: '0002-state-counters' }])
  })

  it('go on beside a relay at work, and keep an older one from starting', async () => {
    const mailbox = await open()
    let migrated = false
    const outcomes = new Set<string>()
    const work = (async () => {
      for (let last = false; !last;) {
        last = migrated
        outcomes.add(await mailbox.store(message()))
        await mailbox.remove(to, (await read(mailbox)).slice(0, 1), 0)
      }
    })()
    const next = [
      { name: '0001-initial', sql: '' },
      { name: '0002-state-counters', sql: '' },
      { name: '0003-next', sql: 'ALTER TABLE relay_mail ADD COLUMN note text' },
    ]
    const newer = await Promise.all([client(), client()])
    await Promise.all(newer.map(async (each) => migrate(each as unknown as pg.PoolClient, next)))
    await Promise.all(newer.map(async (each) => each.end()))
    migrated = true
    await work
    expect(outcomes).toEqual(new Set(['stored']))
    await expect(open()).rejects.toMatchObject({ code: 'RELAY_STORE_FAILED' })
  })

  it('that fail leave nothing behind', async () => {
    await open()
    const connected = await client()
    const broken = [
      { name: '0001-initial', sql: '' },
      { name: '0002-state-counters', sql: '' },
      { name: '0003-half', sql: 'CREATE TABLE relay_half (n integer); SELECT 1 / 0' },
    ]
    await expect(migrate(connected as unknown as pg.PoolClient, broken)).rejects.toThrow('division by zero')
    await connected.query('ROLLBACK')
    const { rows } = await connected.query("SELECT to_regclass('relay_half') AS half")
    await connected.end()
    expect(rows).toEqual([{ half: null }])
    expect(await (await open()).store(message())).toBe('stored')
  })
})

/** The contract of `Mailbox`, run against each implementation. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { amidFromBytes, messageIdFromBytes, type Amid, type MessageId } from '@agentmesh/sdk/wire'
import { DEFAULT_LIMITS } from './limits.ts'
import type { Mailbox, MailboxMessage } from './mailbox.ts'
import { SqliteMailbox, type MailboxLimits } from './sqlite-mailbox.ts'

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

const folder = mkdtempSync(join(tmpdir(), 'agentmesh-mailbox-'))
let files = 0

interface Opened {
  mailbox: Mailbox
  /** Undefined where nothing outlives the process. */
  reopen: (() => Mailbox) | undefined
}
type Open = (limits: MailboxLimits, now: () => number) => Opened

const implementations: [string, Open][] = [
  [
    'SQLite file',
    (limits, now) => {
      const path = join(folder, `${files++}.db`)
      const open = () => new SqliteMailbox(path, limits, now)
      return { mailbox: open(), reopen: open }
    },
  ],
  [
    'SQLite in memory',
    (limits, now) => ({ mailbox: new SqliteMailbox(':memory:', limits, now), reopen: undefined }),
  ],
]

describe.each(implementations)('Mailbox: %s', (_, open) => {
  let now: number
  let position: number
  let opened: Opened
  let mailbox: Mailbox

  function start(limits: Partial<MailboxLimits> = {}): void {
    opened = open({ ...DEFAULT_LIMITS, ...limits }, () => now)
    mailbox = opened.mailbox
  }

  function message(changes: Partial<MailboxMessage> = {}): MailboxMessage {
    position += 1
    return {
      to: amid(1),
      from: amid(2),
      id: messageId(position),
      type: 'message',
      position,
      timestamp: now,
      payload: Uint8Array.of(position & 0xff),
      ...changes,
    }
  }

  async function positions(to = amid(1), after = 0, limit = 1000, withKnocks = true): Promise<number[]> {
    return (await mailbox.page(to, { after, limit, withKnocks })).map((row) => row.position)
  }

  beforeEach(() => {
    now = START
    position = 0
    start()
  })
  afterEach(async () => mailbox.close())

  it('gives back what it took, unchanged', async () => {
    const sent = message({ type: 'knock', payload: new Uint8Array(5000).fill(7) })
    expect(await mailbox.store(sent)).toBe('stored')
    expect(await mailbox.page(sent.to, { after: 0, limit: 10, withKnocks: true })).toEqual([sent])
  })

  it('orders by position and not by time of storing, in pages', async () => {
    const [first, second, third] = [message(), message(), message()]
    await Promise.all([third, first, second].map(async (each) => mailbox.store(each)))
    expect(await positions()).toEqual([1, 2, 3])
    expect(await positions(amid(1), 1, 1)).toEqual([2])
    expect(await positions(amid(1), 3)).toEqual([])
  })

  it('keeps mailboxes apart', async () => {
    await mailbox.store(message())
    await mailbox.store(message({ to: amid(9) }))
    expect(await positions()).toEqual([1])
    expect(await positions(amid(9))).toEqual([2])
    await mailbox.remove(amid(1), [2])
    expect(await mailbox.count(amid(9))).toBe(1)
  })

  it('shows a read everything asked for before it', async () => {
    const stored = mailbox.store(message())
    const removed = mailbox.remove(amid(1), [1])
    const kept = mailbox.store(message())
    expect(await positions()).toEqual([2])
    expect(await mailbox.count(amid(1))).toBe(1)
    await Promise.all([stored, removed, kept])
  })

  it('takes a message of the same receiver, sender and id once, and says it is stored', async () => {
    const sent = message()
    expect(await mailbox.store(sent)).toBe('stored')
    expect(await mailbox.store({ ...sent, position: 50, payload: Uint8Array.of(99) })).toBe('stored')
    expect(await mailbox.store({ ...sent, position: 51, from: amid(3) })).toBe('stored')
    const page = await mailbox.page(amid(1), { after: 0, limit: 10, withKnocks: true })
    expect(page.map((row) => [row.position, row.payload[0]])).toEqual([
      [1, 1],
      [51, 1],
    ])
  })

  it('leaves KNOCKs out of a page that is not to have them', async () => {
    await mailbox.store(message({ type: 'knock' }))
    await mailbox.store(message())
    expect(await positions(amid(1), 0, 10, false)).toEqual([2])
    expect(await positions()).toEqual([1, 2])
  })

  it('refuses beyond a sender’s number, and leaves the others their room', async () => {
    await mailbox.close()
    start({ senderMessages: 2, mailboxMessages: 3 })
    const outcomes = []
    for (const from of [2, 2, 2, 3, 4]) outcomes.push(await mailbox.store(message({ from: amid(from) })))
    expect(outcomes).toEqual(['stored', 'stored', 'sender-quota', 'stored', 'mailbox-full'])
    await mailbox.remove(amid(1), [1])
    expect(await mailbox.store(message({ from: amid(2) }))).toBe('stored')
  })

  it('answers `stored` for a message it has, though the sender has no room for another', async () => {
    await mailbox.close()
    start({ senderMessages: 1 })
    const sent = message()
    expect(await mailbox.store(sent)).toBe('stored')
    expect(await mailbox.store(sent)).toBe('stored')
  })

  it('counts bytes, for a sender, a mailbox and all together', async () => {
    await mailbox.close()
    start({ senderBytes: 1000, mailboxBytes: 1500, storeBytes: 2000 })
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
    await mailbox.remove(amid(1), [2, 5])
    expect([mailbox.messages, mailbox.bytes]).toEqual([1, 500])
  })

  it('limits what one sender has in all mailboxes', async () => {
    await mailbox.close()
    start({ senderTotalMessages: 3 })
    const outcomes = []
    for (const to of [11, 12, 13, 14]) outcomes.push(await mailbox.store(message({ to: amid(to) })))
    expect(outcomes).toEqual(['stored', 'stored', 'stored', 'sender-quota'])
  })

  it('forgets after 72 hours, and counts expired messages against nobody', async () => {
    await mailbox.close()
    start({ mailboxMessages: 1 })
    const old = message()
    await mailbox.store(old)
    now += 72 * HOUR - 1
    expect(await positions()).toEqual([1])
    expect(await mailbox.store(message())).toBe('mailbox-full')
    now += 1
    expect(await positions()).toEqual([])
    expect(await mailbox.count(amid(1))).toBe(0)
    // Sent again under its old id it is a message like any other.
    expect(await mailbox.store({ ...old, position: 90, timestamp: now })).toBe('stored')
    expect(await positions()).toEqual([90])
  })

  it('purges what is past its time', async () => {
    await mailbox.store(message())
    now += HOUR
    await mailbox.store(message())
    now += 71 * HOUR
    expect(await mailbox.purge()).toBe(1)
    expect([mailbox.messages, mailbox.bytes]).toEqual([1, 1])
  })

  it('tells whether it can be written', async () => {
    expect(await mailbox.check()).toBe(true)
  })

  it('has everything again when it is opened again', async () => {
    if (opened.reopen === undefined) return
    await mailbox.store(message())
    await mailbox.store(message({ payload: new Uint8Array(300) }))
    await mailbox.close()
    mailbox = opened.reopen()
    expect(await positions()).toEqual([1, 2])
    expect([mailbox.lastPosition, mailbox.messages, mailbox.bytes]).toEqual([2, 2, 301])
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

  it('is refused when its folder does not exist', () => {
    const open = () => new SqliteMailbox(join(folder, 'no', 'such.db'), DEFAULT_LIMITS, () => START)
    expect(open).toThrow(expect.objectContaining({ code: 'RELAY_STORE_FAILED' }))
  })
})

process.once('exit', () => rmSync(folder, { recursive: true, force: true }))

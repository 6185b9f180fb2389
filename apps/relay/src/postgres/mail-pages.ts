/** Pages of many mailboxes in one statement, counts, and state counters. */
import { MESSAGE_TYPES, parseAmid, parseMessageId, type Amid, type MessageType } from '@agentmesh/sdk/wire'
import type { Page, StoredMessage } from '../mailbox.ts'
import { given, type PoolClient } from './database.ts'

export interface PageItem {
  readonly to: Amid
  readonly page: Page
}

const PAGES = {
  name: 'relay-mail-pages',
  text: `
    SELECT w.n, m.* FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::integer[], $5::boolean[])
      WITH ORDINALITY AS w (recipient, place, position, how_many, knocks, n)
    CROSS JOIN LATERAL (
      SELECT m.place, m.position, m.timestamp, m.sender, m.id, m.type, m.payload FROM relay_mail m
      WHERE m.recipient = w.recipient AND (m.place, m.position) > (w.place, w.position)
        AND m.expires_at > $6 AND (w.knocks OR m.type <> 'knock')
      ORDER BY m.place, m.position LIMIT w.how_many) m
    ORDER BY w.n, m.place, m.position`,
}

const COUNTS = {
  name: 'relay-mail-counts',
  text: `
    SELECT u.messages FROM unnest($1::text[]) WITH ORDINALITY AS w (recipient, n) CROSS JOIN LATERAL (
      SELECT count(*) AS messages FROM relay_mail m WHERE m.recipient = w.recipient AND m.expires_at > $2) u
    ORDER BY w.n`,
}

const STATE_COUNTERS = {
  name: 'relay-state-counters',
  text: `
    SELECT coalesce(c.counter, 0)::bigint AS counter FROM unnest($1::text[]) WITH ORDINALITY AS w (agent, n)
    LEFT JOIN relay_state_counters c ON c.agent = w.agent
    ORDER BY w.n`,
}

interface PageRow {
  readonly n: number
  readonly place: number
  readonly position: number
  readonly timestamp: number
  readonly sender: string
  readonly id: string
  readonly type: string
  readonly payload: Buffer
}

/** The page of each item. @param now milliseconds since the epoch */
export async function readPages(
  client: PoolClient,
  items: readonly PageItem[],
  now: number,
): Promise<StoredMessage[][]> {
  const { rows } = await client.query<PageRow>({
    ...PAGES,
    values: [
      items.map(({ to }) => to),
      items.map(({ page }) => page.after.place),
      items.map(({ page }) => page.after.position),
      items.map(({ page }) => page.limit),
      items.map(({ page }) => page.withKnocks),
      now,
    ],
  })
  const pages = items.map(({ to }) => ({ to, messages: [] as StoredMessage[] }))
  for (const row of rows) {
    const page = given(pages[row.n - 1])
    page.messages.push(fromRow(page.to, row))
  }
  return pages.map(({ messages }) => messages)
}

export async function readCounts(client: PoolClient, items: readonly Amid[], now: number): Promise<number[]> {
  const { rows } = await client.query<{ messages: number }>({ ...COUNTS, values: [items, now] })
  return rows.map(({ messages }) => messages)
}

export async function readStateCounters(client: PoolClient, items: readonly Amid[]): Promise<number[]> {
  const { rows } = await client.query<{ counter: number }>({ ...STATE_COUNTERS, values: [items] })
  return rows.map(({ counter }) => counter)
}

function fromRow(to: Amid, row: PageRow): StoredMessage {
  if (!Object.hasOwn(MESSAGE_TYPES, row.type)) throw new Error(`Unknown type ${row.type} at ${row.position}`)
  return {
    to,
    place: row.place,
    position: row.position,
    from: parseAmid(row.sender),
    id: parseMessageId(row.id),
    type: row.type as MessageType,
    timestamp: row.timestamp,
    // A copy: the driver's buffer is a part of everything that came with it.
    payload: new Uint8Array(row.payload),
  }
}

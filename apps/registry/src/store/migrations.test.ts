/** Databases that an older version made, with what it kept in them. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Kysely, sql, type Transaction } from 'kysely'
import { ed25519KeyPair, sha256 } from '@agentmesh/sdk/crypto/signing'
import { amidFromPublicKey } from '@agentmesh/sdk/identity'
import { utf8Bytes, type Amid } from '@agentmesh/sdk/wire'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { startPostgres, type TestPostgres } from '../test-support-postgres.ts'
import { connectPostgres } from './postgres.ts'
import { openPostgresStore, openSqliteStore } from './sql-store.ts'
import type { Dialect } from './dialect.ts'
import { sqliteDialect } from './sqlite.ts'
import { makeMigrator, type Tables } from './tables.ts'
import type { SearchInput, Store } from './store.ts'

const NOW = 1_800_000_000_000
const DAY = 86_400_000
const AMIDS: readonly Amid[] = Array.from({ length: 45 }, (_, index) =>
  amidFromPublicKey(ed25519KeyPair(sha256(utf8Bytes(`old ${index}`))).publicKey),
)
const [FIRST, SECOND] = AMIDS as [Amid, Amid]
/** Agents that come back while house is kept. */
const COMING = 10
const online = (index: number) => index % 3 === 0
const scoreOf = (index: number) => 0.5 + index / 1000

interface Old {
  readonly dialect: Dialect
  /** The database as this migration left it. */
  migrate(name: string): Promise<Kysely<Tables>>
  open(): Promise<Store>
}

const travel = (fields: Partial<SearchInput> = {}): SearchInput => ({
  category: 'travel',
  subcategory: undefined,
  action: undefined,
  minTierRank: 0,
  onlineOnly: false,
  seenSince: NOW - 30 * DAY,
  onlineSince: NOW - 600_000,
  after: undefined,
  limit: 100,
  ...fields,
})

/** As the first version filled its tables. */
function fill(database: Kysely<Tables>): Promise<void> {
  return database.transaction().execute(insertOld)
}

async function insertOld(db: Transaction<Tables>): Promise<void> {
  for (const [index, amid] of AMIDS.entries()) {
    const presence = online(index) ? 'online' : 'offline'
    const record = JSON.stringify({ index })
    await sql`insert into agents (amid, record, sequence, exchange_key, exchange_sequence, tier, tier_rank, reputation, presence,
      last_seen, registered_at) values (${amid}, ${record}, 1, 'x25519:key', 1, 2, 0, ${scoreOf(index)}, ${presence}, ${NOW}, ${NOW})`.execute(
      db,
    )
    for (const [subcategory, action] of [
      ['flights', ''],
      ['flights', 'book'],
    ]) {
      await sql`insert into capabilities (amid, category, subcategory, action)
        values (${amid}, 'travel', ${subcategory}, ${action})`.execute(db)
    }
    for (const kind of ['spk', 'pq-last']) {
      await sql`insert into signed_prekeys (amid, kind, sequence, expires_at, record)
        values (${amid}, ${kind}, 1, ${NOW + DAY}, ${`"${kind}"`})`.execute(db)
    }
    for (const kind of ['opk', 'pq-one']) {
      await sql`insert into one_time_prekeys (amid, kind, id, expires_at, record)
        values (${amid}, ${kind}, 1, ${NOW + DAY}, ${`"${kind} 1"`})`.execute(db)
      await sql`insert into prekey_marks (amid, kind, highest_id) values (${amid}, ${kind}, 1)`.execute(db)
    }
  }
  await sql`insert into nonces (nonce, expires_at) values ('used', ${NOW + DAY})`.execute(db)
}

function holdsForBoth(name: string, old: () => Promise<Old>): void {
  describe(`migrations on ${name}`, () => {
    it('keep agents, offers, prekeys and nonces of the first version, and all works with them', async () => {
      const database = await old()
      const db = await database.migrate('0001-initial')
      await fill(db)
      await db.destroy()
      const store = await database.open()
      try {
        expect(await store.countAgents()).toBe(AMIDS.length)
        expect(await store.getAgent(FIRST)).toMatchObject({ record: '{"index":0}', tier: 2, reputation: 0.5 })

        const expected = AMIDS.map((amid, index) => ({ amid, index })).toSorted(
          (a, b) => Number(online(b.index)) - Number(online(a.index)) || b.index - a.index,
        )
        for (const asked of [
          travel(),
          travel({ subcategory: 'flights' }),
          travel({ subcategory: 'flights', action: 'book' }),
          travel({ action: 'book' }),
        ]) {
          expect((await store.search(asked)).map(({ amid }) => amid)).toEqual(
            expected.map(({ amid }) => amid),
          )
        }
        expect(await store.search(travel({ onlineOnly: true }))).toHaveLength(15)
        expect(await store.search(travel({ subcategory: 'hotels' }))).toEqual([])

        expect(await store.takeBundle(FIRST, true, NOW)).toMatchObject({ oneTimePrekey: '"opk 1"' })
        expect(await store.takeBundle(FIRST, true, NOW)).toMatchObject({ kemPrekey: '"pq-last"' })
        const visit = { amid: FIRST, expiresAt: NOW + DAY, now: NOW + 1 }
        expect(await store.admit({ ...visit, nonce: 'used' })).toBe(false)
        expect(await store.admit({ ...visit, nonce: 'new' })).toBe(true)

        // What came later reaches them.
        const standing = { tier: 1, verifiedName: 'Ann', organization: null } as const
        await store.transaction('verify', (tx) => store.certificates.setStanding(tx, SECOND, standing))
        const verified = await store.search(travel({ minTierRank: 1 }))
        expect(verified.map(({ amid }) => amid)).toEqual([SECOND])
        await store.purge({ now: NOW, lapsedBefore: 0, dormantBefore: 0, forgetBefore: 0 })
        expect(await store.deleteAgent(FIRST)).toBe(true)
        expect(await store.search(travel())).toHaveLength(AMIDS.length - 1)
      } finally {
        await store.close()
      }
    })

    it('keep what each later version put beside them', async () => {
      const database = await old()
      let db = await database.migrate('0001-initial')
      await fill(db)
      await db.destroy()
      db = await database.migrate('0005-reputation')
      await sql`insert into log_entries (position, entry) values (0, 'ZW50cnk=')`.execute(db)
      await sql`update agents set recovery_key = 'ed25519:key' where amid = ${FIRST}`.execute(db)
      await sql`update agents set tier = 1, tier_rank = 1 where amid = ${FIRST}`.execute(db)
      await sql`insert into verified_agents (amid, human, display_name, verified_at)
        values (${FIRST}, 'human', 'Ann', ${NOW})`.execute(db)
      await sql`insert into organizations (amid, public_key, domain, name, status, created_at, checked_at)
        values (${SECOND}, 'ed25519:key', 'harbour.example', 'Harbour', 'verified', ${NOW}, ${NOW})`.execute(
        db,
      )
      await sql`insert into verifications (id, amid, way, provider, details, attempts, next_at, interval_seconds, expires_at)
        values ('id', ${SECOND}, 'email', 'email', '{}', 0, ${NOW}, 0, ${NOW + DAY})`.execute(db)
      await sql`insert into successions (old_amid, new_amid, statement, taken_at)
        values ('old', ${FIRST}, '{}', ${NOW})`.execute(db)
      await db.destroy()
      const store = await database.open()
      try {
        expect(await store.certificates.humanOf(FIRST)).toBe('human')
        expect(await store.certificates.organization(SECOND)).toMatchObject({ domain: 'harbour.example' })
        expect(await store.verification.tryCode('id', SECOND, 5, NOW)).toMatchObject({ provider: 'email' })
        expect(await store.certificates.successionsOf(FIRST)).toEqual(['{}'])
        const key = await store.transaction('read', (tx) => store.certificates.recoveryKey(tx, FIRST))
        expect(key).toBe('ed25519:key')
        const found = await store.search(travel({ minTierRank: 1 }))
        expect(found.map(({ amid }) => amid)).toEqual([FIRST])
      } finally {
        await store.close()
      }
    })

    it('refuse a database of a newer version', async () => {
      const database = await old()
      const db = await database.migrate('0001-initial')
      await sql`insert into schema_migrations (name, timestamp) values ('9999-later', '2030-01-01')`.execute(
        db,
      )
      await db.destroy()
      await expect(database.open()).rejects.toMatchObject({ code: 'STORE_FAILED' })
    })
  })
}

async function migrateTo(db: Kysely<Tables>, dialect: Dialect, name: string): Promise<Kysely<Tables>> {
  const { error } = await makeMigrator(db, dialect).migrateTo(name)
  if (error !== undefined) throw new Error('Migration failed', { cause: error })
  return db
}

const folder = mkdtempSync(join(tmpdir(), 'agentmesh-migrations-'))
afterAll(() => rmSync(folder, { recursive: true, force: true }))
let files = 0

holdsForBoth('SQLite', async () => {
  const path = join(folder, `${files++}.db`)
  return {
    dialect: 'sqlite',
    migrate: async (name) =>
      migrateTo(new Kysely<Tables>({ dialect: await sqliteDialect(path) }), 'sqlite', name),
    open: () => openSqliteStore(path),
  }
})

describe('with a PostgreSQL server', () => {
  let server: TestPostgres
  beforeAll(async () => {
    server = await startPostgres()
  })
  afterAll(() => server.stop())

  const old = async (): Promise<Old> => {
    const url = await server.create()
    return {
      dialect: 'postgres',
      migrate: (name) => {
        const { dialect } = connectPostgres(url, () => undefined)
        return migrateTo(new Kysely<Tables>({ dialect }), 'postgres', name)
      },
      open: () => openPostgresStore(url, () => undefined),
    }
  }
  holdsForBoth('PostgreSQL', old)

  it.each(['an empty database', 'one of the first version with agents in it'])(
    'lets several registries start and migrate %s at once',
    async (which) => {
      const database = await old()
      if (which !== 'an empty database') {
        const db = await database.migrate('0001-initial')
        await fill(db)
        await db.destroy()
      }
      const stores = await Promise.all(Array.from({ length: 5 }, () => database.open()))
      const counts = await Promise.all(stores.map((store) => store.countAgents()))
      expect(new Set(counts)).toEqual(new Set([which === 'an empty database' ? 0 : AMIDS.length]))
      await Promise.all(stores.map((store) => store.close()))
    },
  )

  it('lets several registries keep house at once, while agents come back', async () => {
    const database = await old()
    const db = await database.migrate('0001-initial')
    await fill(db)
    await db.destroy()
    const stores = await Promise.all(Array.from({ length: 4 }, () => database.open()))
    const later = NOW + 40 * DAY
    const times = { now: later, lapsedBefore: later - DAY, dormantBefore: later - 30 * DAY, forgetBefore: 0 }
    const coming = AMIDS.slice(0, COMING).flatMap((amid, index) =>
      stores.map((store, from) =>
        store.admit({ amid, nonce: `${index} ${from}`, expiresAt: NOW, now: later + index }),
      ),
    )
    await Promise.all([...stores.map((store) => store.purge(times)), ...coming])
    await stores[0]!.purge(times)
    const found = await stores[1]!.search(
      travel({ seenSince: later - 30 * DAY, onlineSince: later - 600_000 }),
    )
    expect(found.map(({ amid }) => amid).toSorted()).toEqual(AMIDS.slice(0, COMING).toSorted())

    // Of work that is for one of them, one does it.
    let working = 0
    let most = 0
    const turns = await Promise.all(
      stores.map((store) =>
        store.alone(async () => {
          working += 1
          most = Math.max(most, working)
          await store.purge(times)
          working -= 1
        }),
      ),
    )
    expect(most).toBe(1)
    expect(turns).toContain(true)
    expect(await stores[2]!.alone(async () => {})).toBe(true)
    await Promise.all(stores.map((store) => store.close()))
  })

  it('does again what the database undid to end a deadlock', async () => {
    const database = await old()
    const [one, other] = [await database.open(), await database.open()]
    const db = await database.migrate('0009-state-counters')
    await sql`insert into nonces (nonce, expires_at) values ('a', 1), ('b', 1)`.execute(db)
    let arrived = 0
    const attempts: string[] = []
    let open = (): void => {}
    const both = new Promise<void>((resolve) => (open = resolve))
    const touch = (store: Store, name: string, order: readonly [string, string]) =>
      store.transaction('touch', async (tx) => {
        attempts.push(name)
        const add = (nonce: string) =>
          sql`update nonces set expires_at = expires_at + 1 where nonce = ${nonce}`.execute(tx)
        await add(order[0])
        arrived += 1
        if (arrived === 2) open()
        await both
        await add(order[1])
      })
    await Promise.all([touch(one, 'one', ['a', 'b']), touch(other, 'other', ['b', 'a'])])
    expect(attempts).toHaveLength(3)
    const { rows } = await sql<{ expires_at: number }>`select expires_at from nonces`.execute(db)
    expect(rows.map(({ expires_at }) => expires_at)).toEqual([3, 3])
    await Promise.all([one.close(), other.close(), db.destroy()])
  })
})

/** What a copy of a home shows of what is gone, with all its keys: its files are read byte for byte while the agent runs. */
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  statSync,
} from 'node:fs'
import { join, relative } from 'node:path'
import type { Agent } from '@agentmesh/sdk'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { packagedSqlite } from '../../packages/sdk/src/agent/store/sqlite.ts'
import { FLIGHTS, TestNetwork } from '../support/network.ts'

let network: TestNetwork
const single = { sessionType: 'request_response' } as const
const ask = (n: unknown) => ({ intent: FLIGHTS, parameters: { n } })

beforeEach(async () => {
  network = await TestNetwork.start()
})
afterEach(() => network.close())

/** Every sealed row of an agent's state and its table, by the nonce that makes its bytes unlike any other's. */
function sealedRows(agent: Agent): Map<string, string> {
  const copy = join(mkdtempSync(join(network.folder, 'copy-')), 'state.db')
  for (const suffix of ['', '-wal']) {
    const file = join(agent.home, `state.db${suffix}`)
    if (existsSync(file)) copyFileSync(file, copy + suffix)
  }
  const database = packagedSqlite()(copy)
  const rows = database.prepare('SELECT tbl, sealed FROM entries').all() as {
    tbl: string
    sealed: Uint8Array
  }[]
  database.close()
  return new Map(rows.map(({ tbl, sealed }) => [Buffer.from(sealed.subarray(1, 25)).toString('hex'), tbl]))
}

/** Files of a home that hold these bytes anywhere: in rows, in pages that are free, in frames of a log. */
function filesWith(agent: Agent, bytes: Buffer): string[] {
  return readdirSync(agent.home, { recursive: true, encoding: 'utf8' })
    .map((name) => join(agent.home, name))
    .filter((path) => statSync(path, { throwIfNoEntry: false })?.isFile() === true)
    .filter((path) => readFileSync(path).includes(bytes))
    .map((path) => relative(agent.home, path))
}

/** The rows that are gone since, by table, and those of them that can still be read. */
function goneSince(agent: Agent, before: ReadonlyMap<string, string>) {
  const now = sealedRows(agent)
  const gone = [...before].filter(([nonce]) => !now.has(nonce))
  return {
    tables: new Set(gone.map(([, table]) => table)),
    readable: gone.filter(([nonce]) => filesWith(agent, Buffer.from(nonce, 'hex')).length > 0),
  }
}

test('when `forget` returns, no file of the home holds a row about the peer, nor its name but in the log', async () => {
  const alice = await network.agent('alice')
  const bob = await network.agent('bob')
  for (const agent of [alice, bob]) agent.on('request', () => ({ results: 'a secret' }))
  await (await alice.send(bob.amid, ask('a secret question'))).answer()
  await (await bob.send(alice.amid, ask('another one'))).answer()
  // What still waits at the relay is not to come while the files are compared.
  await bob.close()
  const before = sealedRows(alice)
  // A state that was set aside as damaged holds the same rows.
  const aside = join(alice.home, 'damaged-1700000000000')
  mkdirSync(aside, { mode: 0o700 })
  for (const suffix of ['', '-wal']) {
    copyFileSync(join(alice.home, `state.db${suffix}`), join(aside, `state.db${suffix}`))
  }
  await alice.forget(bob.amid)
  expect(existsSync(aside)).toBe(false)
  const { tables, readable } = goneSince(alice, before)
  for (const table of ['sessions', 'incoming', 'outgoing', 'contacts']) expect(tables).toContain(table)
  expect(readable).toEqual([])
  const named = filesWith(alice, Buffer.from(bob.amid))
  expect(named.filter((file) => !file.startsWith('logs/'))).toEqual([])
})

test('when a KNOCK was accepted, no file of the home holds the one-time keys it used', async () => {
  const alice = await network.agent('alice')
  const bob = await network.agent('bob')
  bob.on('request', () => ({ results: 1 }))
  const before = sealedRows(bob)
  await (await alice.send(bob.amid, ask(1))).answer()
  expect(bob.sessions()).toMatchObject([{ one_time_prekey_used: true }])
  const keys = new Map([...before].filter(([, table]) => table === 'keys'))
  const { tables, readable } = goneSince(bob, keys)
  expect(tables).toContain('keys')
  expect(readable).toEqual([])
})

test('when a session is over and no transcript is kept, no file of the home holds its keys and texts', async () => {
  const alice = await network.agent('alice')
  const bob = await network.agent('bob')
  for (const agent of [alice, bob]) agent.setPolicy({ ...agent.policy(), store_transcripts: false })
  let during = new Map<string, string>()
  bob.on('request', () => {
    during = sealedRows(bob)
    return { results: 1 }
  })
  await (await alice.send(bob.amid, ask('a secret question'), single)).answer()
  const answered = sealedRows(alice)
  await expect.poll(() => [alice, bob].flatMap((agent) => agent.sessions()), { timeout: 60_000 }).toEqual([])
  for (const [agent, before] of [
    [alice, answered],
    [bob, during],
  ] as const) {
    const rows = new Map(
      [...before].filter(([, table]) => ['sessions', 'incoming', 'outgoing'].includes(table)),
    )
    const { tables, readable } = goneSince(agent, rows)
    expect(tables).toContain('sessions')
    expect(readable).toEqual([])
  }
})

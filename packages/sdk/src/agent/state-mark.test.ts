import {
  chmodSync,
  cpSync,
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { openCore, type OpenedCore } from './open-core.ts'
import { StateMark } from './state-mark.ts'
import { packagedSqlite } from './store/sqlite.ts'

let folder: string
let home: string
let now: number
let opened: OpenedCore | undefined

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'agentmesh-mark-'))
  home = join(folder, 'home')
  now = Date.parse('2026-02-01T12:00:00Z')
})
afterEach(async () => {
  await close()
  rmSync(folder, { recursive: true })
})

async function open(): Promise<OpenedCore> {
  opened = await openCore({ home, now: () => now })
  return opened
}

async function close(): Promise<void> {
  await opened?.core.audit.close()
  opened?.release()
  opened = undefined
}

/** One start and stop of an agent. */
async function run(): Promise<OpenedCore> {
  const core = await open()
  await new StateMark(core.core).renew()
  await close()
  return core
}

const state = () => join(home, 'state.db')
const mark = () => readFileSync(join(home, 'state.mark'), 'utf8')

test('a state that is the one used last is taken for it, start after start', async () => {
  for (let start = 0; start < 3; start++) {
    const { outdated, notices } = await run()
    expect([outdated, notices]).toEqual([false, []])
  }
})

test('each older copy of the state is known for one, and said once', async () => {
  const copies: string[] = []
  for (let start = 0; start < 3; start++) {
    await run()
    copies.push(join(folder, `copy${start}`))
    cpSync(state(), copies.at(-1)!)
  }
  await run()
  for (const copy of copies) {
    cpSync(copy, state())
    const { outdated, notices } = await run()
    expect(outdated).toBe(true)
    expect(notices.map(({ text }) => text)).toEqual([expect.stringContaining('an older copy was put back')])
    expect((await run()).outdated).toBe(false)
  }
})

test('a copy made while the agent ran is known for one after an hour', async () => {
  const { core } = await open()
  const stateMark = new StateMark(core)
  await stateMark.renew()
  const first = mark()
  now += 3_599_999
  await stateMark.maintain()
  expect(mark()).toBe(first)
  now += 1
  await stateMark.maintain()
  const second = mark()
  expect(second).not.toBe(first)
  await close()
  writeFileSync(join(home, 'state.mark'), first)
  // What a crash between commit and file leaves.
  expect((await open()).outdated).toBe(false)
})

test('crashes between commit and file, one after the other, are no older copy', async () => {
  await run()
  const file = mark()
  for (let crash = 0; crash < 3; crash++) {
    await run()
    writeFileSync(join(home, 'state.mark'), file)
    expect((await open()).outdated).toBe(false)
    await close()
  }
})

test.each(['', 'not a mark', '\u00ff'])(
  'a mark file that says "%s" is no mark of this state',
  async (text) => {
    await run()
    await run()
    writeFileSync(join(home, 'state.mark'), text, 'latin1')
    expect((await run()).outdated).toBe(true)
  },
)

test('a state that is gone is said once, and is not outdated', async () => {
  await run()
  for (const suffix of ['', '-wal', '-shm'])
    if (existsSync(state() + suffix)) rmSync(state() + suffix, { force: true })
  const { outdated, notices } = await run()
  expect(outdated).toBe(false)
  expect(notices.map(({ text }) => text)).toEqual([expect.stringContaining('the file was gone')])
  expect((await run()).notices).toEqual([])
})

/** Changes the file behind the agent's back. */
function tamper(sql: string): void {
  const database = packagedSqlite()(state())
  database.exec(sql)
  database.close()
}

for (const [table, guards] of [
  ['nonces', true],
  ['seen', true],
  ['incoming', true],
  ['outgoing', true],
  ['requests', true],
  ['ratings', false],
] as const) {
  test(`a row of ${table} that was deleted is told of${guards ? ', and the state not used again' : ''}`, async () => {
    const { core } = await open()
    await new StateMark(core).renew()
    await core.store.commit((tables) => {
      for (const key of ['one', 'two']) {
        tables[table].put(key, { rating: 1, tags: [] } as never)
      }
    })
    await close()
    tamper(`DELETE FROM entries WHERE position = (SELECT max(position) FROM entries WHERE tbl = '${table}')`)
    const found = await run()
    expect(found.outdated).toBe(guards)
    expect(found.notices.map(({ text }) => text)).toEqual([
      expect.stringContaining(`rows of ${table} are gone`),
    ])
    // What is not given up is so at the next start, too.
    expect((await run()).outdated).toBe(guards)
  })
}

test('a filter row with one bit changed makes the state one that is not used again', async () => {
  const { core } = await open()
  await new StateMark(core).renew()
  await core.store.commit(({ nonces }) => nonces.put('peer:nonce', true, { at: now + 60_000 }))
  await close()
  tamper(
    "UPDATE entries SET sealed = CAST(substr(sealed, 1, 30) || x'00' || substr(sealed, 32) AS BLOB) WHERE tbl = 'nonces'",
  )
  const found = await run()
  expect(found.outdated).toBe(true)
  expect(found.notices.map(({ text }) => text)).toContainEqual(expect.stringContaining('nonces'))
})

for (const name of ['state.db', 'lock.db', 'logs/audit.jsonl'] as const) {
  test(`a home whose ${name} others could read or write is not opened until that is repaired`, async () => {
    await run()
    const files = name.startsWith('logs/')
      ? readdirSync(join(home, 'logs')).map((file) => `logs/${file}`)
      : [name]
    for (const file of files) {
      for (const mode of [0o644, 0o660, 0o602]) {
        chmodSync(join(home, file), mode)
        await expect(open()).rejects.toMatchObject({
          code: 'HOME_UNSAFE',
          message: expect.stringContaining(`chmod 600 ${join(home, file)}`) as string,
        })
        chmodSync(join(home, file), 0o600)
        await run()
      }
    }
  })
}

test('a policy that was refused for its mode is taken once it has the mode that was advised', async () => {
  const { core } = await open()
  const file = join(home, 'policy.json')
  const told: string[] = []
  core.policy.watch({ changed: () => told.push('changed'), refused: (problem) => told.push(problem) })
  chmodSync(file, 0o644)
  expect(core.policy.error()).toContain(`chmod 600 ${file}`)
  chmodSync(file, 0o600)
  expect(core.policy.error()).toBeUndefined()
  expect(told).toEqual([expect.stringContaining('chmod 600'), 'changed'])
})

import { cpSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { commit } from './core.ts'
import { openCore, type OpenedCore } from './open-core.ts'

let folder: string
let home: string
let opened: OpenedCore | undefined

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'agentmesh-counter-'))
  home = join(folder, 'home')
})
afterEach(async () => {
  await close()
  rmSync(folder, { recursive: true })
})

async function close(): Promise<void> {
  await opened?.core.audit.close()
  opened?.release()
  opened = undefined
}

/** A start of an agent, as far as its state is concerned. */
async function open(): Promise<OpenedCore> {
  opened = await openCore({ home })
  const { core } = opened
  if (opened.found !== 'same') await commit(core, () => core.state.goBeyond(core.store.tables))
  core.state.follow()
  return opened
}
async function found(): Promise<string> {
  const result = await open()
  await close()
  return result.found
}
async function moves(times = 1): Promise<void> {
  for (let time = 0; time < times; time++) {
    await commit(opened!.core, () => opened!.core.store.tables.meta.put('any', time))
  }
}
/** A run with so many commits, connected to a relay that has seen nothing later. */
async function run(times: number): Promise<void> {
  const { core } = await open()
  expect(core.state.admits(core.state.counter)).toBe(true)
  await moves(times)
  await close()
}

const repairs = (notices: OpenedCore['notices']): string[] =>
  notices.filter(({ about }) => about === 'recovery').map(({ text }) => text)
const path = (name: string) => join(home, name)
const mark = () => Number(readFileSync(path('state.mark'), 'utf8'))
const keep = (name: string) => {
  const copy = join(folder, `${name}-${Math.random()}`)
  cpSync(path(name), copy)
  return () => cpSync(copy, path(name))
}

test('the file goes up with every commit group, after it', async () => {
  const { core } = await open()
  const before = mark()
  await Promise.all([moves(), moves(), moves()])
  expect(mark()).toBe(before + 1)
  await moves(3)
  expect(mark()).toBe(before + 4)
  expect(core.store.tables.meta.get('counter')).toMatchObject({ counter: before + 4 })
})

test('a commit that failed leaves the file and the counter as they were', async () => {
  const { core } = await open()
  await moves()
  const before = mark()
  const row = core.store.tables.meta.get('counter')
  const failing = commit(core, () => {
    core.store.tables.meta.put('late', 1)
    // A row of a late table that cannot be written fails the whole group.
    core.store.tables.outgoing.put('x', Symbol('none') as never)
  })
  await expect(failing).rejects.toMatchObject({ code: 'MALFORMED' })
  expect(mark()).toBe(before)
  expect(core.store.tables.meta.get('counter')).toEqual(row)
  await moves()
  expect(mark()).toBe(before + 1)
})

test('a state that is the one used last is taken for it, start after start, also after a crash between commit and file', async () => {
  for (let start = 0; start < 3; start++) {
    const behind = existsSync(path('state.mark')) ? keep('state.mark') : () => {}
    await run(2)
    behind()
    expect(await found()).toBe('same')
  }
})

test('a state.db put back is known for one, whatever it does afterwards, and said once', async () => {
  await run(1)
  const putBack = keep('state.db')
  await run(1)
  putBack()
  const { found: how, notices } = await open()
  expect(how).toBe('older')
  expect(repairs(notices)).toEqual([expect.stringContaining('an older copy was put back')])
  await close()
  expect(await found()).toBe('same')
})

test('a state put back and not given up before a crash is known for one at the next start too', async () => {
  await run(1)
  const putBack = keep('state.db')
  await run(1)
  putBack()
  for (let start = 0; start < 3; start++) {
    opened = await openCore({ home })
    expect(opened.found).toBe('older')
    await moves(5)
    await close()
  }
})

test.each(['', 'not a mark', '\u00ff', '9'.repeat(16), '7\n'])(
  'a file that says "%s" is none of this state',
  async (text) => {
    await run(2)
    writeFileSync(path('state.mark'), text, 'latin1')
    expect(await found()).toBe('older')
  },
)

test('a state of which the file was taken away is not trusted', async () => {
  await run(2)
  rmSync(path('state.mark'))
  expect(await found()).toBe('older')
})

test('a first start that ended before it wrote the file is no older copy', async () => {
  const { core, release } = await openCore({ home })
  await core.audit.close()
  release()
  expect(await found()).toBe('same')
})

test('a state that is gone is said once, and counts on from where the other was', async () => {
  await run(5)
  const before = mark()
  for (const suffix of ['', '-wal', '-shm']) rmSync(path(`state.db${suffix}`), { force: true })
  const { found: how, notices } = await open()
  expect([how, repairs(notices)]).toEqual(['lost', [expect.stringContaining('the file was gone')]])
  expect(mark()).toBeGreaterThan(before)
  await close()
  expect(await found()).toBe('same')
})

test('a home of a version that did not count is given up once', async () => {
  await run(2)
  const { core } = await open()
  await commit(core, () => {
    core.store.tables.meta.delete('counter')
    core.store.tables.meta.put('mark', { current: 'aa', before: '' })
  })
  await close()
  // What the commit wrote besides.
  await withoutCounter()
  writeFileSync(path('state.mark'), 'ab'.repeat(16))
  const { found: how, notices } = await open()
  expect(how).toBe('outdated')
  expect(repairs(notices)).toEqual([expect.stringContaining('an earlier version')])
  expect(opened!.core.store.tables.meta.get('mark')).toBe(undefined)
  await close()
  expect(await found()).toBe('same')
})

async function withoutCounter(): Promise<void> {
  const { StateStore } = await import('./store/index.ts')
  const { TABLES } = await import('./tables.ts')
  const { identity } = await openCore({ home }).then(async ({ core, release }) => {
    await core.audit.close()
    release()
    return core
  })
  const store = StateStore.open(path('state.db'), identity.storageKey, {
    tables: TABLES,
    random: (length) => crypto.getRandomValues(new Uint8Array(length)),
  })
  await store.commit(({ meta }) => meta.delete('counter'))
  store.close()
}

test('a relay that has seen a later state is not listened to before everything was given up', async () => {
  await run(5)
  const { core } = await open()
  const events: string[] = []
  core.state.onBehind = () => events.push('behind')
  core.state.onConfirmed = () => events.push('confirmed')
  const later = core.state.counter + 10
  expect(core.state.admits(later)).toBe(false)
  await moves(20)
  expect(core.state.admits(later)).toBe(false)
  await commit(core, () => core.state.goBeyond(core.store.tables))
  expect(core.state.counter).toBe(later)
  expect(core.state.admits(later)).toBe(true)
  expect(events).toEqual(['behind', 'behind', 'confirmed'])
  await moves()
  expect(core.state.counter).toBe(later + 2)
})

test('a relay cannot have an agent run out of numbers', async () => {
  const { core } = await open()
  expect(core.state.admits(Number.MAX_SAFE_INTEGER)).toBe(true)
  expect(core.state.admits(2 ** 52)).toBe(false)
  await commit(core, () => core.state.goBeyond(core.store.tables))
  await moves()
  expect(core.state.admits(Number.MAX_SAFE_INTEGER)).toBe(true)
})

test('a copy that ran on without a relay is not hidden by what it counted meanwhile', async () => {
  await run(5)
  const copies = [keep('state.db'), keep('state.mark')]
  await run(5)
  const told = (await open()).core.state.counter
  await close()
  for (const putBack of copies) putBack()
  for (let start = 0; start < 3; start++) {
    await open()
    await moves(10)
    await close()
  }
  const { core } = await open()
  expect(mark()).toBeGreaterThan(told)
  expect(core.state.admits(told)).toBe(false)
})

test('an agent that ran on without a relay is no older copy', async () => {
  await run(5)
  const told = (await open()).core.state.counter
  await moves(20)
  await close()
  const { core } = await open()
  expect(core.state.admits(told)).toBe(true)
  await moves()
  expect(core.state.counter).toBe(mark())
})

test('what it tells a relay is on disk before: a crash right after makes no older copy of it', async () => {
  const { core } = await open()
  core.state.admits(0)
  await moves(3)
  const told = core.state.counter
  const copies = [keep('state.db'), keep('state.db-wal')]
  await close()
  for (const putBack of copies) putBack()
  const again = await open()
  expect(again.found).toBe('same')
  expect(again.core.state.admits(told)).toBe(true)
})

test('a machine that was set back and resumed is behind what its relay was told in between', async () => {
  const { core } = await open()
  core.state.admits(0)
  await moves(3)
  const inBetween = core.state.counter + 4
  core.state.disconnected()
  await moves(10)
  expect(core.state.admits(inBetween)).toBe(false)
})

test('the registry is compared with what this state brought there, not with what it told a relay since', async () => {
  await run(3)
  const { core } = await open()
  const later = core.state.counter + 5
  core.state.admits(0)
  await moves(20)
  expect(core.state.counter).toBeGreaterThan(later)
  expect(core.state.admitsRegistry(later)).toBe(false)
})

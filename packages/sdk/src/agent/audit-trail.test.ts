/** What whoever can write the files of a stopped agent can do to its audit log, and what honest crashes leave. */
import {
  appendFileSync,
  cpSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { sha256, systemRandom } from '../crypto/index.ts'
import { Home, openIdentity } from '../identity/index.ts'
import { checkAuditLog, readAuditLog, type AuditCheck } from '../observability/index.ts'
import { toBase64, utf8Bytes } from '../wire/index.ts'
import { audit } from './core.ts'
import { openCore, type OpenedCore } from './open-core.ts'
import { readAuditRecord } from './read-audit-record.ts'
import { StateStore } from './store/index.ts'
import { STORE_LAYOUT } from './tables.ts'

let folder: string
let home: string
let logs: string
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'agentmesh-trail-'))
  home = join(folder, 'home')
  logs = join(home, 'logs')
})
afterEach(() => rmSync(folder, { recursive: true }))

async function start(): Promise<OpenedCore> {
  const opened = await openCore({ home })
  opened.core.state.follow()
  audit(opened.core, { event: 'agent_started', version: 'test', pid: 1 })
  return opened
}

async function stop({ core, release }: OpenedCore): Promise<void> {
  await core.trail.close('test')
  release()
}

/** A start and a stop. */
async function run(work: (opened: OpenedCore) => unknown = () => {}): Promise<void> {
  const opened = await start()
  await opened.core.trail.check()
  await work(opened)
  await stop(opened)
}

/** What `agentmesh audit verify` finds while nothing runs. */
function verify(): Promise<AuditCheck> {
  const { publicKey } = openIdentity(Home.open(home)).signing
  return checkAuditLog(logs, publicKey, readAuditRecord(home))
}

const file = (): string =>
  join(
    logs,
    readdirSync(logs)
      .toSorted()
      .find((name) => name.endsWith('.jsonl'))!,
  )
const linesOf = (): string[] => readFileSync(file(), 'utf8').split('\n').slice(0, -1)
const writeLines = (lines: readonly string[]): void =>
  writeFileSync(file(), lines.map((line) => `${line}\n`).join(''))
const events = (): string[] => [...readAuditLog(logs)].map(({ event }) => event)

/** A line that continues the chain as the agent itself would. */
function forge(): void {
  const last = linesOf().at(-1)!
  const { line } = JSON.parse(last) as { line: number }
  const forged = { ts: '2026-02-01T12:00:00Z', event: 'agent_error', code: 'FORGED', line: line + 1 }
  appendFileSync(file(), `${JSON.stringify({ ...forged, prev: toBase64(sha256(utf8Bytes(last))) })}\n`)
}

/** [what is done to the stopped home, what a check finds, whether the log is set aside] */
const ATTACKS: Record<string, [() => void, string[], 'set aside' | 'kept' | 'gone']> = {
  'the whole log deleted': [() => rmSync(logs, { recursive: true }), ['head-missing', 'truncated'], 'gone'],
  'exactly one line cut': [() => writeLines(linesOf().slice(0, -1)), ['truncated'], 'set aside'],
  'a line forged after the agent stopped': [forge, ['added'], 'set aside'],
  'half a line added after the agent stopped': [
    () => appendFileSync(file(), '{"ts"'),
    ['added'],
    'set aside',
  ],
  'a line edited': [
    () => writeLines(linesOf().with(1, linesOf()[1]!.replace('test', 'fest'))),
    ['changed'],
    'set aside',
  ],
  'an older log put in its place': [
    () => {
      rmSync(logs, { recursive: true })
      cpSync(join(folder, 'older'), logs, { recursive: true })
    },
    ['truncated', 'head-old'],
    'set aside',
  ],
  'the state that remembers its end deleted': [
    () => {
      for (const name of readdirSync(home))
        if (name.startsWith('state.db') || name === 'state.mark') unlinkSync(join(home, name))
    },
    ['end-unknown'],
    'kept',
  ],
}

test('a log that nobody touched is whole, over restarts', async () => {
  await run()
  await run(({ core }) => expect(core.trail.unacknowledged).toBe(0))
  expect(await verify()).toMatchObject({ ok: true, endChecked: true, gaps: [], problems: [] })
})

describe.each(Object.entries(ATTACKS))('%s', (_name, [attack, kinds, fate]) => {
  beforeEach(async () => {
    await run()
    cpSync(logs, join(folder, 'older'), { recursive: true })
    await run()
    attack()
  })

  test('is found by a check while nothing runs', async () => {
    const { ok, gaps } = await verify()
    expect(ok).toBe(false)
    expect(gaps.map(({ kind }) => kind)).toEqual(kinds)
    expect(new Set(gaps.map(({ id }) => id)).size).toBe(gaps.length)
  })

  test('is found at the next start, and stays an error over restarts until the owner acknowledges it', async () => {
    await run(({ core, notices }) => {
      expect(core.trail.unacknowledged).toBeGreaterThan(0)
      expect(notices.map(({ about }) => about)).toContain('audit')
    })
    const restarted = fate !== 'kept'
    expect(events().includes('log_restarted')).toBe(restarted)
    expect(readdirSync(logs).filter((name) => name.startsWith('damaged-'))).toHaveLength(
      fate === 'set aside' ? 1 : 0,
    )
    if (restarted) expect(readFileSync(file(), 'utf8')).not.toContain('FORGED')
    await run()
    const { ok, gaps } = await verify()
    expect(ok).toBe(false)
    await run(async ({ core }) => {
      for (const { id } of gaps) await core.trail.acknowledge(id, 'cli')
      expect(core.trail.unacknowledged).toBe(0)
    })
    expect(await verify()).toMatchObject({ ok: true, problems: [] })
    expect(events()).toContain('log_gap_acknowledged')
    await run()
    expect(await verify()).toMatchObject({ ok: true })
  })
})

test('a line edited in a file of an earlier day is found by the next start, and its edit by another one again', async () => {
  await run()
  const [first] = linesOf()
  // The clock of the machine moves on by two days: the line is far from the end.
  const opened = await openCore({ home, now: () => Date.now() + 2 * 86_400_000 })
  opened.core.state.follow()
  await stop(opened)
  writeLines(linesOf().with(0, first!.replace('"pid":1', '"pid":2')))
  const found: string[] = []
  await run(async ({ core }) => {
    expect(core.trail.unacknowledged).toBe(1)
    const [gap] = core.trail.record().gaps
    found.push(gap!.id)
    await core.trail.acknowledge(gap!.id, 'cli')
  })
  expect(await verify()).toMatchObject({ ok: true })
  writeLines(linesOf().with(0, first!.replace('"pid":1', '"pid":3')))
  const { ok, gaps } = await verify()
  expect(ok).toBe(false)
  expect(gaps.filter((gap) => gap.acknowledged_at === undefined)).toMatchObject([{ kind: 'changed' }])
  expect(gaps.map(({ id }) => id)).toContain(found[0])
})

test('a folder of a log set aside is an error when nothing else tells of it', async () => {
  await run()
  mkdirSync(join(logs, 'damaged-2026-01-01T00-00-00.000Z'))
  expect(await verify()).toMatchObject({ ok: false, gaps: [{ kind: 'set-aside' }] })
})

test('an id that no gap has is not acknowledged', async () => {
  await run(({ core }) =>
    expect(core.trail.acknowledge('0123456789abcdef', 'cli')).rejects.toMatchObject({ code: 'NOT_FOUND' }),
  )
})

describe('a killed agent', () => {
  /** What is on disk at this moment is the home after the kill. */
  async function kill(atTheEnd: (opened: OpenedCore) => unknown): Promise<void> {
    const opened = await start()
    await atTheEnd(opened)
    const copy = join(folder, 'killed')
    cpSync(home, copy, { recursive: true, filter: (name) => !name.endsWith('agent.sock') })
    await stop(opened)
    rmSync(home, { recursive: true })
    cpSync(copy, home, { recursive: true })
    rmSync(copy, { recursive: true })
  }
  const moments: [string, (opened: OpenedCore) => unknown][] = [
    ['before its first line', () => {}],
    ['with lines that no head signs', () => new Promise((resolve) => setImmediate(resolve))],
    ['with a head that its state does not know of yet', ({ core }) => core.audit.flush()],
    [
      'with an end that its state knows',
      async ({ core }) => {
        await core.audit.flush()
        await core.store.commit(() => {})
        audit(core, { event: 'breaker', action: 'resume', by: 'cli' })
        await new Promise((resolve) => setImmediate(resolve))
      },
    ],
  ]
  test.each(moments)('%s has no gap, and its log goes on', async (_name, moment) => {
    await run()
    const before = events().length
    await kill(moment)
    const half = '{"ts":"2026-02-01T12:0'
    if (events().length > before) appendFileSync(file(), half)
    expect(await verify()).toMatchObject({ ok: true, gaps: [] })
    await run(({ core }) => expect(core.trail.unacknowledged).toBe(0))
    expect(events()).not.toContain('log_restarted')
    expect(await verify()).toMatchObject({ ok: true, gaps: [], tornBytes: 0 })
  })

  test('whose log is cut to less than its state knows was tampered with', async () => {
    await run()
    cpSync(logs, join(folder, 'older'), { recursive: true })
    await kill(async ({ core }) => {
      await core.audit.flush()
      await core.store.commit(() => {})
    })
    rmSync(logs, { recursive: true })
    cpSync(join(folder, 'older'), logs, { recursive: true })
    expect((await verify()).gaps.map(({ kind }) => kind)).toEqual(['truncated', 'head-old'])
    await run(({ core }) => expect(core.trail.unacknowledged).toBeGreaterThan(0))
  })
})

test('a home of a version that remembered no end has no gap', async () => {
  await run()
  const store = StateStore.open(join(home, 'state.db'), openIdentity(Home.open(home)).storageKey, {
    ...STORE_LAYOUT,
    random: systemRandom,
  })
  await store.commit(({ meta }) => meta.delete('audit_end'))
  store.close()
  expect(await verify()).toMatchObject({ ok: true, gaps: [] })
  await run(({ core }) => expect(core.trail.unacknowledged).toBe(0))
  expect(events()).not.toContain('log_restarted')
})

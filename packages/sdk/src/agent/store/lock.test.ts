import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, it, onTestFinished } from 'vitest'
import { acquireLock } from './lock.ts'

const now = (): number => Date.UTC(2026, 1, 1, 12)
const locked = expect.objectContaining({ code: 'HOME_LOCKED' })

let home: string
let record: string
beforeEach(() => {
  home = mkdtempSync(join(tmpdir(), 'home-'))
  record = join(home, 'lock.json')
})
afterEach(() => rmSync(home, { recursive: true }))

/** The record a living process that is not this one would have left, or undefined where start times are unknown. */
async function recordOfLivingProcess(): Promise<{ pid: number; started: string } | undefined> {
  const child = spawn(process.execPath, ['-e', 'setInterval(() => {}, 1e6); console.log()'], {
    stdio: 'pipe',
  })
  onTestFinished(() => {
    child.kill('SIGKILL')
  })
  await once(child.stdout, 'data')
  // This process's own record shows the form of a start time; the child's differs from it in its ticks.
  acquireLock(home, now)()
  const release = acquireLock(home, now)
  const own = JSON.parse(readFileSync(record, 'utf8')) as { started?: string }
  release()
  if (own.started === undefined || child.pid === undefined) return undefined
  const stat = readFileSync(`/proc/${child.pid}/stat`, 'utf8')
  return { pid: child.pid, started: `${own.started.split('/')[0]}/${stat.split(') ')[1]!.split(' ')[19]}` }
}

it('lets one holder in at a time, also within one process', () => {
  const release = acquireLock(home, now)
  expect(() => acquireLock(home, now)).toThrow(locked)
  release()
  const again = acquireLock(home, now)
  release()
  expect(() => acquireLock(home, now)).toThrow(locked)
  again()
})

it('leaves a private record while it is held, and none after', () => {
  const release = acquireLock(home, now)
  expect(JSON.parse(readFileSync(record, 'utf8'))).toMatchObject({
    pid: process.pid,
    since: '2026-02-01T12:00:00.000Z',
  })
  for (const name of ['lock.json', 'lock.db']) expect(statSync(join(home, name)).mode & 0o777).toBe(0o600)
  release()
  expect(existsSync(record)).toBe(false)
})

it('takes over from a process that is gone, whatever its record looks like', () => {
  for (const left of [
    JSON.stringify({ pid: 2 ** 22 + 1, since: '2026-01-31T10:00:00.000Z', started: 'boot/1' }),
    JSON.stringify({ pid: 2 ** 22 + 1, since: '2026-01-31T10:00:00.000Z' }),
    '{"pid":',
    '',
    'null',
  ]) {
    writeFileSync(record, left)
    acquireLock(home, now)()
  }
  expect(existsSync(record)).toBe(false)
})

it('takes over when the pid belongs to another process by now', async () => {
  const living = await recordOfLivingProcess()
  const reused = { pid: living?.pid ?? 1, since: '2026-01-31T10:00:00.000Z', started: `${living?.started}1` }
  writeFileSync(record, JSON.stringify(reused))
  acquireLock(home, now)()
  expect(existsSync(record)).toBe(false)
})

it.skipIf(!existsSync('/proc/self/stat'))(
  'refuses when the recorded process lives, even if the file system let the lock through (needs /proc)',
  async () => {
    const living = await recordOfLivingProcess()
    expect(living).toBeDefined()
    writeFileSync(record, JSON.stringify({ ...living, since: '2026-01-31T10:00:00.000Z' }))
    expect(() => acquireLock(home, now)).toThrow(
      expect.objectContaining({
        code: 'HOME_LOCKED',
        message: `This home is in use by process ${living?.pid} since 2026-01-31T10:00:00.000Z`,
      }),
    )
    expect(existsSync(record)).toBe(true)
    rmSync(record)
    acquireLock(home, now)()
  },
)

it('refuses a lock file that is a link', () => {
  const elsewhere = mkdtempSync(join(tmpdir(), 'elsewhere-'))
  onTestFinished(() => rmSync(elsewhere, { recursive: true }))
  writeFileSync(join(elsewhere, 'file'), '')
  symlinkSync(join(elsewhere, 'file'), join(home, 'lock.db'))
  expect(() => acquireLock(home, now)).toThrow(expect.objectContaining({ code: 'HOME_UNSAFE' }))
})

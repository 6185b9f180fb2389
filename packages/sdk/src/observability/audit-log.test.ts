import { execFileSync } from 'node:child_process'
import {
  appendFileSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setImmediate as nextTurn } from 'node:timers/promises'
import { afterEach, beforeEach, expect, it, onTestFinished, vi } from 'vitest'
import { ed25519KeyPair } from '../crypto/signing.ts'
import { newSessionId, parseAmid, type AgentMeshError } from '../wire/index.ts'
import type { AuditEvent } from './audit-events.ts'
import { AuditLog } from './audit-log.ts'
import { setAsideAuditLog } from './audit-resume.ts'
import { readAuditLog, verifyAuditLog } from './audit-verify.ts'

const signing = ed25519KeyPair(new Uint8Array(32).fill(7))
const peer = parseAmid('3GkGvLCbs2SxRQpmMGFbSCRqkbYx')
const session_id = newSessionId((length) => new Uint8Array(length).fill(1))
const noon = Date.UTC(2026, 1, 1, 12)

let dir: string
let clock: number
let failures: AgentMeshError[]

beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'audit-'))
  clock = noon
  failures = []
})
afterEach(() => rmSync(dir, { recursive: true, force: true }))

function open(where = dir): AuditLog {
  return AuditLog.open(where, {
    identity: { signing },
    now: () => clock,
    onFailure: (error) => failures.push(error),
  })
}

function message(seq: number): AuditEvent {
  return {
    event: 'message_received',
    ts: new Date(clock).toISOString(),
    session_id,
    seq,
    type: 'request',
    size_bytes: 1000 + seq,
  }
}

/** A closed log of `count` lines in one file. */
async function logOf(count: number): Promise<string> {
  const log = open()
  for (let seq = 1; seq <= count; seq++) log.append(message(seq))
  await log.close()
  return join(dir, '2026-02-01.0001.jsonl')
}

function linesOf(path: string): string[] {
  return readFileSync(path, 'utf8').split('\n').slice(0, -1)
}

function writeLines(path: string, lines: readonly string[]): void {
  writeFileSync(path, lines.map((line) => `${line}\n`).join(''))
}

async function problems(publicKey = signing.publicKey) {
  const report = await verifyAuditLog(dir, publicKey)
  expect(report.ok).toBe(report.problems.length === 0)
  return report.problems.map(({ kind, line }) => [kind, line])
}

it('writes the fields of the specification, in a private file', async () => {
  const log = open()
  log.append({
    event: 'knock_received',
    ts: '2026-02-01T12:00:00Z',
    from: peer,
    intent: 'travel/flights',
    result: 'accepted',
  })
  log.append({
    event: 'session_closed',
    ts: '2026-02-01T12:00:10Z',
    session_id,
    reason: 'completed',
    messages_exchanged: 4,
  })
  await log.close()
  const path = join(dir, '2026-02-01.0001.jsonl')
  const [first, second] = linesOf(path).map((line) => JSON.parse(line))
  expect(first).toEqual({
    ts: '2026-02-01T12:00:00Z',
    event: 'knock_received',
    from: peer,
    intent: 'travel/flights',
    result: 'accepted',
    line: 1,
    prev: expect.any(String),
  })
  expect(second).toMatchObject({
    event: 'session_closed',
    reason: 'completed',
    messages_exchanged: 4,
    line: 2,
  })
  expect(statSync(path).mode & 0o777).toBe(0o600)
  expect(statSync(join(dir, 'head.json')).mode & 0o777).toBe(0o600)
  expect([...readAuditLog(dir)].map((line) => line.event)).toEqual(['knock_received', 'session_closed'])
})

it('passes its own check over several openings and days, with a head on its last line', async () => {
  await logOf(3)
  clock += 86_400_000
  const log = open()
  log.append(message(4))
  await nextTurn()
  clock -= 2 * 86_400_000
  log.append(message(5))
  await log.close()
  expect(readdirSync(dir).toSorted()).toEqual(['2026-02-01.0001.jsonl', '2026-02-02.0001.jsonl', 'head.json'])
  const report = await verifyAuditLog(dir, signing.publicKey)
  expect(report).toMatchObject({ ok: true, lines: 5, unsignedLines: 0, tornBytes: 0, head: { line: 5 } })
})

it('escapes text of peers, so that a name can neither forge a line nor reorder one', async () => {
  const log = open()
  const intent = 'travel"}\n{"event":"breaker"\u202e\u001b[2J\ud800'
  log.append({ event: 'knock_received', ts: '2026-02-01T12:00:00Z', from: peer, intent, result: 'rejected' })
  await log.close()
  const lines = linesOf(join(dir, '2026-02-01.0001.jsonl'))
  expect(lines).toHaveLength(1)
  expect(JSON.parse(lines[0]!)).toMatchObject({
    event: 'knock_received',
    intent: 'travel"}\\u{000A}{"event":"breaker"\\u{202E}\\u{001B}[2J\\u{D800}',
  })
  expect(await problems()).toEqual([])
})

it('writes the lines of one turn together and in order', async () => {
  const log = open()
  for (let seq = 1; seq <= 500; seq++) log.append(message(seq))
  expect(readdirSync(dir)).toEqual(['head.json'])
  await nextTurn()
  expect(linesOf(join(dir, '2026-02-01.0001.jsonl')).map((line) => JSON.parse(line).seq)).toEqual(
    Array.from({ length: 500 }, (_, index) => index + 1),
  )
  await log.close()
})

it('signs a head at most once a second, without being asked', async () => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] })
  onTestFinished(() => {
    vi.useRealTimers()
  })
  let uses = 0
  const identity = {
    get signing() {
      uses++
      return signing
    },
  }
  const log = AuditLog.open(dir, { identity, now: () => clock, onFailure: (error) => failures.push(error) })
  uses = 0
  for (const seq of [1, 2, 3, 4]) {
    log.append(message(seq))
    await nextTurn()
    vi.advanceTimersByTime(500)
    // Half seconds: every second one is due for a head.
    const signed = seq - (seq % 2)
    await vi.waitUntil(() => log.head()?.line === signed)
  }
  expect(uses).toBe(2)
  await log.close()
  expect(uses).toBe(2)
})

it('keeps a line that is too long as its name and size', async () => {
  const log = open()
  log.append({ event: 'agent_error', ts: '2026-02-01T12:00:00Z', code: 'X', detail: '\u202e'.repeat(20_000) })
  await log.close()
  const [line] = [...readAuditLog(dir)]
  expect(line).toMatchObject({ event: 'agent_error', omitted_bytes: expect.any(Number) })
  expect(line).not.toHaveProperty('detail')
  expect(await problems()).toEqual([])
})

it('refuses an event whose time is none, and any event after close', async () => {
  const log = open()
  expect(() => log.append({ ...message(1), ts: '../../x' })).toThrow(
    expect.objectContaining({ code: 'INVALID_TIMESTAMP' }),
  )
  await log.close()
  expect(() => log.append(message(1))).toThrow(expect.objectContaining({ code: 'AUDIT_WRITE_FAILED' }))
})

it('refuses a log folder that is a link', () => {
  symlinkSync(dir, `${dir}.link`)
  onTestFinished(() => rmSync(`${dir}.link`))
  expect(() => open(`${dir}.link`)).toThrow(expect.objectContaining({ code: 'HOME_UNSAFE' }))
})

// --- tampering

it('finds an edited line', async () => {
  const path = await logOf(6)
  const lines = linesOf(path)
  writeLines(path, lines.with(2, lines[2]!.replace('1003', '9003')))
  expect(await problems()).toEqual([['changed', 3]])
})

it('finds an edited last line', async () => {
  const path = await logOf(6)
  const lines = linesOf(path)
  writeLines(path, lines.with(5, lines[5]!.replace('1006', '9006')))
  expect(await problems()).toEqual([['changed', 6]])
})

it('finds an edit behind which the chain was computed anew', async () => {
  await logOf(6)
  const other = mkdtempSync(join(tmpdir(), 'audit-'))
  onTestFinished(() => rmSync(other, { recursive: true }))
  const forged = open(other)
  for (let seq = 1; seq <= 6; seq++) forged.append(seq === 3 ? message(33) : message(seq))
  await forged.close()
  const path = join(dir, '2026-02-01.0001.jsonl')
  writeFileSync(path, readFileSync(join(other, '2026-02-01.0001.jsonl')))
  expect(await problems()).toEqual([['changed', 6]])
})

it('finds deleted lines', async () => {
  const path = await logOf(6)
  writeLines(path, linesOf(path).toSpliced(2, 2))
  expect(await problems()).toEqual([['missing', 3]])
})

it('finds a deleted first line', async () => {
  const path = await logOf(3)
  writeLines(path, linesOf(path).slice(1))
  expect(await problems()).toEqual([['missing', 1]])
})

it('finds an inserted line', async () => {
  const path = await logOf(6)
  const lines = linesOf(path)
  writeLines(path, lines.toSpliced(3, 0, lines[3]!.replace('1004', '1')))
  expect((await problems()).map(([kind]) => kind)).toContain('out-of-order')
})

it('finds swapped lines', async () => {
  const path = await logOf(6)
  const lines = linesOf(path)
  writeLines(path, lines.with(2, lines[3]!).with(3, lines[2]!))
  expect((await problems()).map(([kind]) => kind)).toEqual(
    expect.arrayContaining(['missing', 'out-of-order']),
  )
})

it('finds what is no line at all', async () => {
  const path = await logOf(6)
  writeLines(path, linesOf(path).with(2, '{"event":"a","event":"b"}'))
  expect(await problems()).toEqual([['malformed', 3]])
})

it('finds a line longer than any, without reading it whole', async () => {
  const path = await logOf(2)
  appendFileSync(path, `${'x'.repeat(3_000_000)}\n`)
  expect(await problems()).toEqual([['malformed', 3]])
})

it('finds a tail cut off, at a line and inside one', async () => {
  const path = await logOf(6)
  const lines = linesOf(path)
  writeLines(path, lines.slice(0, 4))
  expect(await problems()).toEqual([['truncated', 5]])
  truncateSync(path, statSync(path).size - 10)
  expect(await problems()).toEqual([['truncated', 4]])
  expect(() => open()).toThrow(expect.objectContaining({ code: 'AUDIT_DAMAGED' }))
})

it('finds exactly one line cut, and the cut of all', async () => {
  const path = await logOf(6)
  const lines = linesOf(path)
  writeLines(path, lines.slice(0, 5))
  expect(await problems()).toEqual([['truncated', 6]])
  expect(() => open()).toThrow(expect.objectContaining({ code: 'AUDIT_DAMAGED' }))
  writeLines(path, [])
  expect(await problems()).toEqual([['truncated', 1]])
})

it('finds a log that ends one line before, or after, what its agent remembers', async () => {
  await logOf(6)
  const { head } = await verifyAuditLog(dir, signing.publicKey)
  const kinds = async (line: number) => {
    const end = { line, hash: head!.hash, clean: true }
    return (await verifyAuditLog(dir, signing.publicKey, { end })).problems.map(({ kind }) => kind)
  }
  expect(await kinds(6)).toEqual([])
  expect(await kinds(7)).toEqual(['truncated', 'head-old'])
  expect(await kinds(5)).toEqual(['changed', 'added'])
})

it('finds a missing file, at either end and in the middle', async () => {
  for (let day = 0; day < 3; day++) {
    await logOf(2)
    clock += 86_400_000
  }
  const files = readdirSync(dir)
    .filter((name) => name !== 'head.json')
    .toSorted()
  expect(files).toHaveLength(3)
  const expected = [
    ['missing', 1],
    ['missing', 3],
    ['truncated', 5],
  ]
  for (const [index, file] of files.entries()) {
    const content = readFileSync(join(dir, file))
    rmSync(join(dir, file))
    expect(await problems()).toEqual([expected[index]])
    writeFileSync(join(dir, file), content)
  }
  expect(await problems()).toEqual([])
})

it('finds a missing head, and a log that is gone altogether', async () => {
  const path = await logOf(2)
  rmSync(join(dir, 'head.json'))
  expect(await problems()).toEqual([['head-missing', undefined]])
  expect(() => open()).toThrow(expect.objectContaining({ code: 'AUDIT_DAMAGED' }))
  rmSync(path)
  expect(await problems()).toEqual([['head-missing', undefined]])
})

it('finds a head that says less, moved back to hide a cut tail', async () => {
  const path = await logOf(6)
  const head = JSON.parse(readFileSync(join(dir, 'head.json'), 'utf8'))
  writeFileSync(join(dir, 'head.json'), JSON.stringify({ ...head, line: 4 }))
  writeLines(path, linesOf(path).slice(0, 4))
  expect(await problems()).toEqual([['head-forged', undefined]])
})

it("refuses another agent's log and head", async () => {
  await logOf(3)
  const other = ed25519KeyPair(new Uint8Array(32).fill(8)).publicKey
  expect(await problems(other)).toEqual([
    ['head-forged', undefined],
    ['changed', 1],
  ])
})

it('counts lines behind the head as unsigned, and finds one that does not continue the chain', async () => {
  const path = await logOf(3)
  const last = JSON.parse(linesOf(path)[2]!)
  appendFileSync(path, `${JSON.stringify({ ...last, line: 4 })}\n`)
  const report = await verifyAuditLog(dir, signing.publicKey)
  expect(report.unsignedLines).toBe(1)
  expect(report.problems.map(({ kind }) => kind)).toEqual(['changed'])
})

// --- crashes

/** What a crash leaves: lines behind the head, and half a line. Returns the file. */
async function crashed(): Promise<string> {
  await logOf(2)
  const head = readFileSync(join(dir, 'head.json'))
  const path = await logOf(3)
  writeFileSync(join(dir, 'head.json'), head)
  appendFileSync(path, '{"ts":"2026-02-01T12:0')
  return path
}

it('goes on behind a crash, says how many lines were unsigned, and signs them', async () => {
  await crashed()
  const before = await verifyAuditLog(dir, signing.publicKey)
  expect(before).toMatchObject({ ok: true, lines: 5, unsignedLines: 3, tornBytes: 22, head: { line: 2 } })
  await open().close()
  const lines = [...readAuditLog(dir)]
  expect(lines.at(-1)).toMatchObject({ event: 'log_resumed', unsigned_lines: 3, torn_bytes: 22, line: 6 })
  const after = await verifyAuditLog(dir, signing.publicKey)
  expect(after).toMatchObject({ ok: true, lines: 6, unsignedLines: 0, tornBytes: 0, head: { line: 6 } })
})

it('does not sign a chain that broke behind the head', async () => {
  const path = await crashed()
  const lines = linesOf(path)
  writeLines(path, lines.with(3, lines[3]!.replace('1002', '9')))
  expect(() => open()).toThrow(expect.objectContaining({ code: 'AUDIT_DAMAGED' }))
})

it('sets a damaged log aside, complete, and begins a new one', async () => {
  const path = await logOf(4)
  writeLines(path, linesOf(path).slice(0, 2))
  expect(() => open()).toThrow(expect.objectContaining({ code: 'AUDIT_DAMAGED' }))
  const aside = setAsideAuditLog(dir, clock)
  const log = open()
  log.append({
    event: 'log_restarted',
    ts: new Date(clock).toISOString(),
    gap: '0123456789abcdef',
    set_aside: aside,
    problem: 'truncated',
  })
  await log.close()
  expect(await problems()).toEqual([])
  expect(readdirSync(join(dir, aside)).toSorted()).toEqual(['2026-02-01.0001.jsonl', 'head.json'])
  const old = await verifyAuditLog(join(dir, aside), signing.publicKey)
  expect(old.problems.map(({ kind }) => kind)).toEqual(['truncated'])
})

// --- full disk

const tmpfs = ((): string | undefined => {
  const where = mkdtempSync(join(tmpdir(), 'audit-full-'))
  try {
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=256k', 'none', where], { stdio: 'ignore' })
    execFileSync('umount', [where])
    return where
  } catch {
    rmSync(where, { recursive: true })
    return undefined
  }
})()

it.skipIf(tmpfs === undefined)(
  'keeps its chain when the disk is full, and says afterwards what was lost (needs root to mount a tmpfs)',
  async () => {
    const where = tmpfs!
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=256k', 'none', where])
    onTestFinished(() => {
      execFileSync('umount', ['-l', where])
      rmSync(where, { recursive: true })
    })
    const logs = join(where, 'logs')
    mkdirSync(logs)
    const log = open(logs)
    log.append(message(1))
    await log.flush()
    writeFileSync(join(where, 'ballast'), new Uint8Array(180 * 1024))
    for (let seq = 2; seq <= 2000; seq++) log.append(message(seq))
    await nextTurn()
    expect(failures.map(({ code }) => code)).toEqual(['AUDIT_WRITE_FAILED'])
    for (let seq = 2001; seq <= 10_101; seq++) log.append(message(seq))
    await expect(log.flush()).rejects.toMatchObject({ code: 'AUDIT_WRITE_FAILED' })
    const during = await verifyAuditLog(logs, signing.publicKey)
    expect(during).toMatchObject({ ok: true, lines: 1, tornBytes: 0 })

    execFileSync('mount', ['-o', 'remount,size=16m', where])
    await log.close()
    const lines = [...readAuditLog(logs)]
    expect(lines).toHaveLength(1 + 10_000 + 1)
    expect(lines.at(-1)).toMatchObject({ event: 'log_gap', lost_lines: 100 })
    expect(await verifyAuditLog(logs, signing.publicKey)).toMatchObject({ ok: true, unsignedLines: 0 })
    expect(failures).toHaveLength(1)
  },
)

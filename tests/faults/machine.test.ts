/**
 * What goes wrong on the machine of a running daemon besides its disk: no file descriptors left, a clock that jumps, a
 * state file that was damaged or put back while the daemon was dead.
 */
import { execFileSync } from 'node:child_process'
import { cpSync, readdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { readAuditLog } from '@agentmesh/sdk'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { answerOf, type Member, ProcessMesh, reached } from '../support/process-mesh.ts'
import { codeOf, expectSettled, startPair } from './conversation.ts'

const HOURS = 3_600_000

let mesh: ProcessMesh

beforeEach(async () => {
  mesh = await ProcessMesh.start()
})
afterEach(() => mesh.close())

function events(member: Member): string[] {
  return [...readAuditLog(join(member.home, 'logs'))].map(({ event }) => event)
}

function told(member: Member, text: string): Promise<unknown> {
  const from = member.daemon.lineCount
  return member.daemon.line((line) => JSON.stringify(line).includes(text), from)
}

/** How many descriptors a process may have; those it has stay open. */
function limitDescriptors(pid: number, limit: number): void {
  execFileSync('prlimit', ['--pid', String(pid), `--nofile=${limit}:`])
}

test('without file descriptors a daemon says so, takes or refuses by code, and goes on when it has some', async () => {
  const pair = await startPair(mesh)
  const { pid } = pair.bob.daemon
  limitDescriptors(pid, 3)
  // What is open goes on; a new connection cannot be made.
  const noted = told(pair.bob, 'EMFILE')
  await mesh.stop('relay')
  await noted
  for (let n = 0; n < 3; n++) await pair.ask()
  const codes = new Set<string | undefined>()
  for (let n = 0; n < 3; n++) codes.add(await codeOf(pair.bob.client.status()))
  for (const code of codes) expect(['DAEMON_NOT_RUNNING', undefined]).toContain(code)
  expect(pair.bob.daemon.exitCode).toBeNull()
  await mesh.restart('relay')
  limitDescriptors(pid, 1024)
  await expectSettled(pair)
  expect((await pair.bob.client.status()).pid).toBe(pid)
})

test.each([2, -2])(
  'a clock that jumps %i hours and back is named by status, and delays messages without losing one',
  async (hours) => {
    const pair = await startPair(mesh)
    const { alice } = pair
    alice.setClock(hours * HOURS)
    await pair.ask()
    await pair.ask()
    // The relay asks for the time at each connection.
    const noted = told(alice, 'CLOCK_SKEW')
    await mesh.stop('relay')
    await mesh.restart('relay')
    await noted
    const late = [await pair.ask(), await pair.ask()]
    const status = await alice.client.status()
    expect(status.relay.last_error).toMatch(/CLOCK_SKEW: .*clock/)
    const { queued, unacknowledged } = status.outbox
    expect(queued + unacknowledged).toBeGreaterThanOrEqual(late.length)
    alice.setClock(0)
    for (const id of late) await answerOf(alice.client, id)
    for (let n = 0; n < 2; n++) await pair.ask()
    await expectSettled(pair)
  },
)

const damages: [string, (path: string) => void][] = [
  ['cut to half', (path) => truncateSync(path, Math.floor(readFileSync(path).length / 2))],
  ['flipped in a bit of many pages', flipBits],
  ['gone', (path) => rmSync(path)],
]

function flipBits(path: string): void {
  const bytes = readFileSync(path)
  for (let offset = 4096 + 3000; offset < bytes.length; offset += 4096) bytes[offset] = bytes[offset]! ^ 1
  writeFileSync(path, bytes)
}

test.each(damages)(
  'a state file %s is noticed at the start, told once, and repaired with the peer',
  async (_, damage) => {
    const pair = await startPair(mesh)
    await pair.bob.daemon.end('SIGTERM')
    damage(join(pair.bob.home, 'state.db'))
    await pair.bob.start()
    pair.listen()
    for (let n = 0; n < 3; n++) await pair.ask()
    await expectSettled(pair)
    expect([...events(pair.bob), ...events(pair.alice)]).toEqual(
      expect.arrayContaining([expect.stringMatching(/^(state_recovered|session_reset)$/)]),
    )
  },
)

test('a state file put back from before is never used to say something twice, on either side', async () => {
  const pair = await startPair(mesh)
  for (const member of [pair.alice, pair.bob]) {
    await member.kill()
    const state = readdirSync(member.home).filter((name) => name.startsWith('state.db'))
    const copy = join(mesh.folder, `${member === pair.alice ? 'alice' : 'bob'}.copy`)
    for (const name of state) cpSync(join(member.home, name), join(copy, name))
    await member.start()
    if (member === pair.bob) pair.listen()
    await member.online()
    const ids = [await pair.ask(), await pair.ask(), await pair.ask()]
    for (const id of ids) await reached(pair.alice.client, id, 'answered')
    await expectSettled(pair)
    await member.kill()
    for (const name of readdirSync(member.home).filter((file) => file.startsWith('state.db')))
      rmSync(join(member.home, name))
    cpSync(copy, member.home, { recursive: true })
    await member.start()
    if (member === pair.bob) pair.listen()
    // What the old file does not know of was answered above.
    if (member === pair.alice) pair.forget()
    await pair.ask()
    await expectSettled(pair)
  }
  expect(events(pair.alice)).toContain('session_reset')
})

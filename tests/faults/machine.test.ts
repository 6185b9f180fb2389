/**
 * What goes wrong on the machine of a running daemon besides its disk: no file descriptors left, a clock that jumps, a
 * state file that was damaged or put back while the daemon was dead.
 */
import { execFileSync } from 'node:child_process'
import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { MessageId } from '@agentmesh/sdk'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { answerOf, type Member, ProcessMesh, reached } from '../support/process-mesh.ts'
import { eventsOf, keyReuse } from './audit.ts'
import { codeOf, expectSettled, type Pair, startPair } from './conversation.ts'

const HOURS = 3_600_000
const WEEK = 7 * 24 * HOURS + HOURS

let servers: ProcessMesh
let mesh: ProcessMesh

beforeAll(async () => {
  servers = await ProcessMesh.start()
})
afterAll(() => servers.close())
beforeEach(() => {
  mesh = servers.beside()
})
afterEach(() => mesh.close())

function told(member: Member, text: string): Promise<unknown> {
  const from = member.daemon.lineCount
  return member.daemon.line((line) => JSON.stringify(line).includes(text), from)
}

/** How many descriptors a process may have; those it has stay open. */
function limitDescriptors(pid: number, limit: number): void {
  execFileSync('prlimit', ['--pid', String(pid), `--nofile=${limit}:`])
}

test('without file descriptors a receiver says so, takes or refuses by code, and goes on when it has some', async () => {
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

test('without file descriptors a sender refuses by code, or keeps what it took, and goes on when it has some', async () => {
  const pair = await startPair(mesh)
  const { pid } = pair.alice.daemon
  limitDescriptors(pid, 3)
  for (let n = 0; n < 3; n++) expect(['DAEMON_NOT_RUNNING', undefined]).toContain(await codeOf(pair.ask()))
  expect(pair.alice.daemon.exitCode).toBeNull()
  limitDescriptors(pid, 1024)
  await pair.ask()
  await expectSettled(pair)
  expect((await pair.alice.client.status()).pid).toBe(pid)
})

describe.each(['alice', 'bob'] as const)('the clock of %s', (name) => {
  test.each([2, -2])(
    'that jumps %i hours and back is named by status, and delays messages without losing one',
    async (hours) => {
      const pair = await startPair(mesh)
      const wrong = pair[name]
      const noted = told(wrong, 'CLOCK_SKEW')
      wrong.setClock(hours * HOURS)
      await pair.ask()
      await pair.ask()
      // The relay asks for the time at each connection.
      await mesh.stop('relay')
      await mesh.restart('relay')
      await noted
      const late = [await pair.ask(), await pair.ask()]
      expect((await wrong.client.status()).relay.last_error).toMatch(/CLOCK_SKEW: .*clock/)
      const { queued, unacknowledged } = (await pair.alice.client.status()).outbox
      expect(queued + unacknowledged).toBeGreaterThanOrEqual(late.length)
      if (wrong === pair.alice || hours < 0) wrong.setClock(0)
      else await passMinuteAfterReset(pair, late)
      for (const id of late) await answerOf(pair.alice.client, id)
      for (let n = 0; n < 2; n++) await pair.ask()
      await expectSettled(pair)
      expect([pair.alice, pair.bob].flatMap(keyReuse)).toEqual([])
    },
  )
})

/** What Bob answered with a clock that was ahead broke the session; Alice sends again, and hears so, after a minute. */
async function passMinuteAfterReset({ alice, bob }: Pair, late: readonly MessageId[]): Promise<void> {
  for (const id of late) await reached(alice.client, id, 'stored')
  const givenUp = told(bob, '"state":"closed"')
  bob.setClock(0)
  await givenUp
  alice.setClock(61_000)
}

/** Each with what the owner is told of it. */
const damages: [string, (path: string) => void, RegExp][] = [
  ['cut to half', (path) => truncateSync(path, Math.floor(readFileSync(path).length / 2)), /damaged-/],
  ['flipped in a bit of many pages', flipBits, /damaged/],
  ['gone', (path) => rmSync(path), /gone/],
]

function flipBits(path: string): void {
  const bytes = readFileSync(path)
  for (let offset = 4096 + 3000; offset < bytes.length; offset += 4096) bytes[offset] = bytes[offset]! ^ 1
  writeFileSync(path, bytes)
}

describe.each(['alice', 'bob'] as const)('a state file of %s', (name) => {
  test.each(damages)(
    '%s is noticed at the start, told once, and repaired with the peer',
    async (_, damage, notice) => {
      const pair = await startPair(mesh)
      const victim = pair[name]
      await victim.daemon.end('SIGTERM')
      damage(join(victim.home, 'state.db'))
      await victim.start()
      if (name === 'bob') pair.listen()
      else pair.forget()
      await expectRecoveryTold(victim, notice)
      for (let n = 0; n < 3; n++) await pair.ask()
      await expectSettled(pair)
      expect([pair.alice, pair.bob].flatMap(keyReuse)).toEqual([])
      await victim.daemon.end('SIGTERM')
      await victim.start()
      expect(eventsOf(victim).filter((event) => event === 'state_recovered')).toHaveLength(1)
    },
  )
})

/** Once in the audit log, once in what `status` shows. */
async function expectRecoveryTold(member: Member, notice: RegExp): Promise<void> {
  expect(eventsOf(member).filter((event) => event === 'state_recovered')).toHaveLength(1)
  const { notices } = await member.client.status()
  expect(notices.filter(({ about }) => about === 'recovery').map(({ text }) => text)).toEqual([
    expect.stringMatching(notice),
  ])
}

function stateFiles({ home }: Member): string[] {
  return readdirSync(home).filter((file) => file.startsWith('state.db'))
}

/** A copy of a state, as a backup takes it. @returns puts it back */
function copyState(member: Member): () => void {
  const copy = mkdtempSync(join(mesh.folder, 'copy-'))
  for (const file of stateFiles(member)) cpSync(join(member.home, file), join(copy, file))
  return () => {
    for (const file of stateFiles(member)) rmSync(join(member.home, file))
    cpSync(copy, member.home, { recursive: true })
  }
}

/** The daemon dies, its state is put back, and it starts again. */
async function goBack(pair: Pair, name: 'alice' | 'bob', putBack: () => void): Promise<void> {
  const member = pair[name]
  await member.kill()
  putBack()
  await member.start()
  if (name === 'bob') pair.listen()
  // What the old file does not know of was answered before.
  else pair.forget()
  await expectRecoveryTold(member, /older copy/)
}

test('a state file put back from before never says a second thing with the same keys, on either side', async () => {
  const pair = await startPair(mesh)
  for (const name of ['alice', 'bob'] as const) {
    await pair[name].kill()
    const putBack = copyState(pair[name])
    await pair[name].start()
    if (name === 'bob') pair.listen()
    const ids = [await pair.ask(), await pair.ask(), await pair.ask()]
    for (const id of ids) await reached(pair.alice.client, id, 'answered')
    await expectSettled(pair)
    await goBack(pair, name, putBack)
    await pair.ask()
    await expectSettled(pair)
  }
  expect([pair.alice, pair.bob].flatMap(keyReuse)).toEqual([])
})

test("last week's copy of a state file, put back after a week in which sessions ended and keys changed", async () => {
  await mesh.close()
  mesh = await ProcessMesh.start(-WEEK)
  const pair = await startPair(mesh, mesh.member('alice', {}, -WEEK), mesh.member('bob', {}, -WEEK))
  const names = ['alice', 'bob'] as const
  for (const name of names) await pair[name].kill()
  const putBack = { alice: copyState(pair.alice), bob: copyState(pair.bob) }
  mesh.setClocks(0)
  for (const name of names) await pair[name].start()
  pair.listen()
  pair.forget()
  for (const name of names) await pair[name].online()
  for (let n = 0; n < 3; n++) await pair.ask()
  await expectSettled(pair)
  for (const name of names) {
    const renewed = eventsOf(pair[name]).filter((event) => event === 'key_rotated')
    expect(renewed).toHaveLength(6)
    await goBack(pair, name, putBack[name])
    await pair.ask()
    await expectSettled(pair)
  }
  expect([pair.alice, pair.bob].flatMap(keyReuse)).toEqual([])
})

test('a lock left by kill -9 whose process id belongs to another program by now is taken over', async () => {
  const pair = await startPair(mesh)
  const { alice } = pair
  await alice.kill()
  const path = join(alice.home, 'lock.json')
  const left = JSON.parse(readFileSync(path, 'utf8')) as { pid: number }
  expect(left.pid).toBe(alice.daemon.pid)
  // This process lives, and started at another time.
  writeFileSync(path, JSON.stringify({ ...left, pid: process.pid }))
  await alice.start()
  await pair.ask()
  await expectSettled(pair)
  expect(JSON.parse(readFileSync(path, 'utf8'))).toMatchObject({ pid: alice.daemon.pid })
})

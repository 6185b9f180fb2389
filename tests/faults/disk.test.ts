/**
 * A disk that is full, fails to flush or is read-only, under a running daemon: a clear code, nothing acknowledged that is
 * not on disk, and all well again when the cause is gone. Mounting needs root, the failing flush a C compiler.
 */
import { execFileSync, spawnSync } from 'node:child_process'
import { closeSync, mkdirSync, openSync, rmSync, writeFileSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { newMessageId } from '@agentmesh/sdk'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { type Member, ProcessMesh, reached } from '../support/process-mesh.ts'
import { eventsOf } from './audit.ts'
import { codeOf, expectSettled, startPair } from './conversation.ts'

// Under CI nothing is skipped: what is missing there must be seen.
const required = process.env['CI'] !== undefined
const root = process.getuid?.() === 0
const compiler = spawnSync('cc', ['--version']).status === 0

let mesh: ProcessMesh
const mounts: string[] = []

beforeEach(async () => {
  mesh = await ProcessMesh.start()
})
afterEach(async () => {
  await mesh.close(mounts.splice(0).map((where) => () => execFileSync('umount', ['-l', where])))
})

/** A home on a disk of its own. */
function onSmallDisk(name: string, size: string): Member {
  const member = mesh.member(name)
  mkdirSync(member.home)
  execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${size},mode=0700`, 'none', member.home])
  mounts.push(member.home)
  return member
}

/** Takes all the room there is on a home's disk. @returns gives it back */
function fillDisk(home: string): () => void {
  const path = join(home, 'filler')
  const file = openSync(path, 'w', 0o600)
  let size = 1024 * 1024
  while (size >= 1) {
    try {
      if (writeSync(file, new Uint8Array(size)) < size) size = Math.floor(size / 2)
    } catch {
      size = Math.floor(size / 2)
    }
  }
  closeSync(file)
  return () => rmSync(path)
}

describe.skipIf(!root && !required)('on a disk that is full (needs root to mount a tmpfs)', () => {
  test('the sender refuses with a code what it cannot keep, and what it took arrives once', async () => {
    const pair = await startPair(mesh, onSmallDisk('alice', '8m'))
    const giveBack = fillDisk(pair.alice.home)
    const codes: (string | undefined)[] = []
    // The write-ahead log has room left from before, so the first few may find a place.
    do codes.push(await codeOf(pair.ask('x'.repeat(20_000))))
    while (codes.at(-1) === undefined && codes.length < 1000)
    expect(codes.at(-1)).toBe('STATE_WRITE_FAILED')
    expect(pair.alice.daemon.exitCode).toBeNull()
    expect((await pair.alice.client.status()).amid).toBe(pair.alice.amid)
    giveBack()
    for (let n = 0; n < 3; n++) await pair.ask()
    await expectSettled(pair)
    await pair.alice.client.down()
    expect(await pair.alice.daemon.ended()).toBe(0)
  })

  test(
    'the receiver acknowledges nothing it could not keep, and gets it when there is room',
    { timeout: 180_000 },
    async () => {
      const pair = await startPair(mesh, mesh.member('alice'), onSmallDisk('bob', '8m'))
      const giveBack = fillDisk(pair.bob.home)
      const before = pair.handed.length
      const told = pair.bob.daemon.line(
        ({ event, text }) => event === 'notice' && String(text).startsWith('STATE_WRITE_FAILED'),
      )
      const asking = (async () => {
        // Some find room in the write-ahead log.
        for (let n = 0; n < 40; n++) await pair.ask('x'.repeat(20_000))
      })()
      await Promise.all([told, asking])
      const kept = pair.handed.length - before
      expect(kept).toBeLessThan(40)
      const { notices } = await pair.bob.client.status()
      expect(notices.some(({ text }) => text.startsWith('STATE_WRITE_FAILED'))).toBe(true)
      expect((await pair.alice.client.status()).outbox.unacknowledged).toBeGreaterThan(0)
      giveBack()
      await expectSettled(pair)
    },
  )
})

describe.skipIf(!root && !required)('in a home that is read-only (needs root to mount)', () => {
  test('a daemon does not start, says why, and goes on where it was once it may write', async () => {
    const pair = await startPair(mesh, onSmallDisk('alice', '16m'))
    await mesh.stop('relay')
    await pair.ask()
    await pair.alice.kill()
    execFileSync('mount', ['-o', 'remount,ro', pair.alice.home])
    await expect(pair.alice.start()).rejects.toThrow(/HOME_FAILED|STATE_WRITE_FAILED/)
    expect(pair.alice.daemon.exitCode).not.toBe(0)
    execFileSync('mount', ['-o', 'remount,rw', pair.alice.home])
    await pair.alice.start()
    await mesh.restart('relay')
    await expectSettled(pair)
  })
})

describe.skipIf(!compiler && !required)('on a disk that fails to flush (needs cc)', () => {
  test('the daemon says so and ends: what it holds is known after a new start, and comes once', async () => {
    const library = join(mesh.folder, 'failing-sync.so')
    const source = fileURLToPath(new URL('failing-sync.c', import.meta.url))
    execFileSync('cc', ['-shared', '-fPIC', '-O1', '-o', library, source, '-ldl'])
    const trigger = join(mesh.folder, 'fail')
    const alice = mesh.member('alice')
    alice.env = { LD_PRELOAD: library, AGENTMESH_TEST_EIO: trigger }
    const pair = await startPair(mesh, alice)
    writeFileSync(trigger, '')
    const id = newMessageId((length) => crypto.getRandomValues(new Uint8Array(length)))
    // A receipt that was due may have failed just before, and ended the daemon under the call.
    expect(['STATE_WRITE_FAILED', 'DAEMON_NOT_RUNNING']).toContain(await codeOf(pair.askAgain(id, 1)))
    expect(await alice.daemon.ended()).not.toBe(0)
    expect(alice.daemon.stderr).toContain('STATE_WRITE_FAILED')
    // Nothing becomes of it while the disk still fails: a new start does not get further.
    await expect(alice.start()).rejects.toThrow('STATE_WRITE_FAILED')
    rmSync(trigger)
    await alice.start()
    await pair.askAgain(id, 1)
    await reached(alice.client, id, 'answered')
    await expectSettled(pair)
    expect(eventsOf(alice)).not.toContain('session_reset')
  })

  test('a receiver whose disk fails to flush acknowledges nothing, and gets the messages after a new start', async () => {
    const library = join(mesh.folder, 'failing-sync.so')
    const source = fileURLToPath(new URL('failing-sync.c', import.meta.url))
    execFileSync('cc', ['-shared', '-fPIC', '-O1', '-o', library, source, '-ldl'])
    const trigger = join(mesh.folder, 'fail')
    const bob = mesh.member('bob')
    bob.env = { LD_PRELOAD: library, AGENTMESH_TEST_EIO: trigger }
    const pair = await startPair(mesh, mesh.member('alice'), bob)
    writeFileSync(trigger, '')
    for (let n = 0; n < 5; n++) await pair.ask()
    expect(await bob.daemon.ended()).not.toBe(0)
    expect(bob.daemon.stderr).toContain('STATE_WRITE_FAILED')
    // A receipt of the sender's may be on its way too.
    expect((await pair.alice.client.status()).outbox.unacknowledged).toBeGreaterThanOrEqual(5)
    rmSync(trigger)
    await bob.start()
    pair.listen()
    await expectSettled(pair)
  })
})

/** What survives: processes killed while they write, disks that fill up, folders that cannot be written. */
import { execFileSync, spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { afterEach, beforeEach, expect, it, onTestFinished } from 'vitest'
import { systemRandom } from '../../crypto/signing.ts'
import { acquireLock, jsonCodec, StateStore } from './index.ts'

const source = (name: string): string => JSON.stringify(fileURLToPath(new URL(name, import.meta.url)))
const repository = fileURLToPath(new URL('../../../../..', import.meta.url))
const tables = { left: jsonCodec<{ n: number; filler: string }>(), right: jsonCodec<{ n: number }>() }
const storageKey = new Uint8Array(32).fill(3)
const now = (): number => Date.UTC(2026, 1, 1)

let home: string
let path: string
const mounted: string[] = []
beforeEach(() => {
  home = mkdtempSync(join(tmpdir(), 'home-'))
  path = join(home, 'state.db')
})
afterEach(() => {
  // Lazily: a driver may keep a closed file open until its next garbage collection.
  for (const folder of mounted.splice(0)) execFileSync('umount', ['-l', folder])
  rmSync(home, { recursive: true, force: true })
})

function openStore(where = path): StateStore<typeof tables> {
  return StateStore.open(where, storageKey, { tables, random: systemRandom })
}

/** Another process that runs `program`; what it prints, line by line. */
function start(program: string): { child: ChildProcess; lines: AsyncIterator<string> } {
  const file = join(home, 'program.mjs')
  writeFileSync(file, program)
  const loader = `import { runnerImport } from 'vite'; await runnerImport(${JSON.stringify(file)})`
  const child = spawn(process.execPath, ['--input-type=module', '-e', loader], {
    cwd: repository,
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  onTestFinished(() => {
    child.kill('SIGKILL')
  })
  return { child, lines: createInterface({ input: child.stdout })[Symbol.asyncIterator]() }
}

async function killed(child: ChildProcess): Promise<void> {
  const exit = once(child, 'exit')
  child.kill('SIGKILL')
  await exit
}

it('has everything that was promised, and nothing by half, after kill -9', async () => {
  const { child, lines } = start(`
    import { jsonCodec, StateStore } from ${source('./index.ts')}
    import { systemRandom } from ${source('../../crypto/signing.ts')}
    const tables = { left: jsonCodec(), right: jsonCodec() }
    const store = StateStore.open(${JSON.stringify(path)}, new Uint8Array(32).fill(3), { tables, random: systemRandom })
    let next = 0
    async function writer() {
      for (;;) {
        const n = next++
        await store.commit(({ left, right }) => {
          left.put('row' + n, { n, filler: 'x'.repeat(n % 3000) }, { at: n })
          right.put('row' + n, { n })
        })
        // One write each, so that a line that arrived was printed after its promise resolved.
        process.stdout.write(n + '\\n')
      }
    }
    for (let index = 0; index < 8; index++) void writer()
  `)
  const promised: number[] = []
  while (promised.length < 1500) promised.push(Number((await lines.next()).value))
  await killed(child)
  for (let line = await lines.next(); !line.done; line = await lines.next()) promised.push(Number(line.value))

  const store = openStore()
  onTestFinished(() => store.close())
  const left = store.tables.left.list()
  const right = store.tables.right.list()
  expect(left.map(({ key }) => key)).toEqual(right.map(({ key }) => key))
  for (const n of promised) {
    expect(store.tables.left.get(`row${n}`)).toEqual({ n, filler: 'x'.repeat(n % 3000) })
  }
})

it('has what was promised, and nothing of what was deleted, wherever in an erasure kill -9 falls', async () => {
  for (let round = 0; round < 3; round++) {
    const { child, lines } = start(`
      import { jsonCodec, StateStore } from ${source('./index.ts')}
      import { systemRandom } from ${source('../../crypto/signing.ts')}
      const tables = { left: jsonCodec(), right: jsonCodec() }
      const options = { tables, secret: ['left'], random: systemRandom }
      const store = StateStore.open(${JSON.stringify(path)}, new Uint8Array(32).fill(3), options)
      for (let n = ${round * 1_000_000}; ; n++) {
        await store.commit(({ left, right }) => {
          left.put('row' + n, { n, filler: 'x'.repeat((n * 977) % 20000) })
          left.delete('row' + (n - 1))
          right.put('row' + n, { n })
        })
        process.stdout.write(n + '\\n')
      }
    `)
    const promised: number[] = []
    while (promised.length < 60) promised.push(Number((await lines.next()).value))
    await killed(child)
    for (let line = await lines.next(); !line.done; line = await lines.next())
      promised.push(Number(line.value))

    const store = openStore()
    expect(store.changedTables()).toEqual([])
    for (const n of promised) expect(store.tables.right.get(`row${n}`)).toEqual({ n })
    // Of each round the last one, or the one whose commit nobody was told of.
    const left = store.tables.left.list().map(({ value }) => value.n)
    expect(left).toHaveLength(round + 1)
    expect(left.at(-1)).toBeGreaterThanOrEqual(promised.at(-1) ?? Infinity)
    store.close()
  }
})

it('keeps its locks when the same process asks for them once more', async () => {
  const store = openStore()
  onTestFinished(() => store.close())
  onTestFinished(acquireLock(home, now))
  expect(() => openStore()).toThrow(expect.objectContaining({ code: 'HOME_LOCKED' }))
  expect(() => acquireLock(home, now)).toThrow(expect.objectContaining({ code: 'HOME_LOCKED' }))
  const { lines } = start(`
    import { acquireLock, StateStore } from ${source('./index.ts')}
    import { systemRandom } from ${source('../../crypto/signing.ts')}
    const attempt = (open) => {
      try {
        open()
        return 'opened'
      } catch (error) {
        return error.code
      }
    }
    const key = new Uint8Array(32).fill(3)
    console.log(attempt(() => StateStore.open(${JSON.stringify(path)}, key, { tables: {}, random: systemRandom })))
    console.log(attempt(() => acquireLock(${JSON.stringify(home)}, () => 0)))
  `)
  expect([(await lines.next()).value, (await lines.next()).value]).toEqual(['HOME_LOCKED', 'HOME_LOCKED'])
})

it('names the process that holds the home, and takes the lock over when that was killed', async () => {
  const { child, lines } = start(`
    import { acquireLock } from ${source('./index.ts')}
    import { setInterval } from 'node:timers'
    acquireLock(${JSON.stringify(home)}, () => Date.UTC(2026, 0, 31, 10))
    console.log('locked')
    setInterval(() => globalThis.gc?.(), 1000)
  `)
  expect((await lines.next()).value).toBe('locked')
  expect(() => acquireLock(home, now)).toThrow(
    expect.objectContaining({
      code: 'HOME_LOCKED',
      message: `This home is in use by process ${child.pid} since 2026-01-31T10:00:00.000Z`,
    }),
  )
  await killed(child)
  const release = acquireLock(home, now)
  expect(JSON.parse(readFileSync(join(home, 'lock.json'), 'utf8'))).toMatchObject({ pid: process.pid })
  release()
})

// --- disks

/** Mounts a small disk for one test; undefined where that is not allowed. */
const mountSmallDisk = ((): ((folder: string, options: string) => void) | undefined => {
  const mount = (folder: string, options: string): void => {
    execFileSync('mount', ['-t', 'tmpfs', '-o', options, 'none', folder], { stdio: 'ignore' })
  }
  const probe = mkdtempSync(join(tmpdir(), 'mount-'))
  try {
    mount(probe, 'size=64k')
    execFileSync('umount', [probe])
  } catch {
    return undefined
  } finally {
    rmSync(probe, { recursive: true })
  }
  return (folder, options) => {
    mkdirSync(folder)
    mount(folder, options)
    mounted.push(folder)
  }
})()

it.skipIf(mountSmallDisk === undefined)(
  'refuses a commit that the disk has no room for, keeps what was there, and goes on later (needs root for a tmpfs)',
  async () => {
    const disk = join(home, 'disk')
    mountSmallDisk?.(disk, 'size=1m')
    const store = openStore(join(disk, 'state.db'))
    const put = async (n: number, size: number) =>
      store.commit(({ left, right }) => {
        left.put(`row${n}`, { n, filler: 'x'.repeat(size) })
        right.put(`row${n}`, { n })
      })
    await put(0, 1000)
    let stored = 1
    const failure: unknown = await (async () => {
      for (; stored < 1000; stored++) await put(stored, 10_000)
    })().catch((error: unknown) => error)
    expect(failure).toMatchObject({ code: 'STATE_WRITE_FAILED', operation: 'commit to state.db' })
    expect(stored).toBeGreaterThan(5)
    const keys = () => store.tables.left.list().map(({ key }) => key)
    const kept = Array.from({ length: stored }, (_, n) => `row${n}`)
    expect(keys()).toEqual(kept)
    expect(store.tables.right.count()).toBe(stored)
    const both = await Promise.allSettled([put(5000, 400_000), put(5001, 400_000)])
    expect(both).toMatchObject([
      { reason: { code: 'STATE_WRITE_FAILED' } },
      { reason: { code: 'STATE_WRITE_FAILED' } },
    ])
    expect(keys()).toEqual(kept)

    execFileSync('mount', ['-o', 'remount,size=16m', disk])
    await put(stored, 10_000)
    store.close()
    const again = openStore(join(disk, 'state.db'))
    expect(again.tables.left.list().map(({ key }) => key)).toEqual([...kept, `row${stored}`])
    again.close()
  },
)

const asRoot = process.getuid?.() === 0

it.skipIf(asRoot && mountSmallDisk === undefined)(
  'says that a read-only home cannot be written (as root: needs to mount a tmpfs)',
  () => {
    const folder = join(home, 'readonly')
    if (asRoot) {
      mountSmallDisk?.(folder, 'size=1m,ro')
    } else {
      mkdirSync(folder)
      chmodSync(folder, 0o500)
    }
    expect(() => acquireLock(folder, now)).toThrow(
      expect.objectContaining({ code: 'STATE_WRITE_FAILED', operation: 'lock the home' }),
    )
    expect(() => openStore(join(folder, 'state.db'))).toThrow(
      expect.objectContaining({ code: 'STATE_WRITE_FAILED', operation: 'open state.db' }),
    )
  },
)

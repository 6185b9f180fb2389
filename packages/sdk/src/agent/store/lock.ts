/**
 * The lock of a home: one process at a time writes keys, ratchet state and logs (DESIGN §2).
 *
 *     lock.db     held by BEGIN EXCLUSIVE: the operating system frees it when the process dies, however it dies
 *     lock.json   { pid, since, started? }: who holds it, for people and for the second check
 *
 * The second check is for file systems whose locks do nothing: a record that names a living process refuses, even when
 * lock.db could be locked. A process is the same one only when its start time is (pids are reused); where the start time
 * cannot be read, lock.db decides alone.
 */
import { readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { AgentMeshError, formatTimestamp } from '../../wire/index.ts'
import { ensurePrivateFile } from './private-file.ts'
import {
  builtinSqlite,
  packagedSqlite,
  primaryCode,
  SQLITE_BUSY,
  sqliteCode,
  type Database,
} from './sqlite.ts'

interface LockRecord {
  readonly pid: number
  /** RFC 3339. */
  readonly since: string
  readonly started?: string
}

// A connection that nothing refers to would be closed, and its lock with it.
const held = new Set<Database>()

/**
 * Takes the lock of a home folder; the function returned frees it.
 *
 * @param now milliseconds since the epoch
 * @throws HOME_LOCKED naming the pid of the holder and since when, HOME_UNSAFE, STATE_WRITE_FAILED (read-only home)
 */
export function acquireLock(home: string, now: () => number): () => void {
  const recordPath = join(home, 'lock.json')
  const database = openExclusive(join(home, 'lock.db'), recordPath)
  held.add(database)
  const release = (): void => {
    if (!held.delete(database)) return
    // The record goes first: after the lock is free it may be another's.
    rmSync(recordPath, { force: true })
    database.close()
  }
  const holder = readRecord(recordPath)
  if (holder !== undefined && holder.pid !== process.pid && isSameProcess(holder)) {
    held.delete(database)
    database.close()
    throw lockedBy(holder)
  }
  try {
    writeRecord(recordPath, now())
  } catch (cause) {
    release()
    throw new AgentMeshError('STATE_WRITE_FAILED', undefined, { operation: 'lock the home', cause })
  }
  return release
}

function openExclusive(path: string, recordPath: string): Database {
  ensurePrivateFile(path, 'lock the home')
  let database: Database | undefined
  try {
    database = (builtinSqlite() ?? packagedSqlite())(path)
    database.exec('PRAGMA busy_timeout = 0')
    database.exec('BEGIN EXCLUSIVE')
    return database
  } catch (cause) {
    database?.close()
    const code = sqliteCode(cause)
    if (code !== undefined && primaryCode(code) === SQLITE_BUSY) throw lockedBy(readRecord(recordPath), cause)
    throw new AgentMeshError('STATE_WRITE_FAILED', undefined, { operation: 'lock the home', cause })
  }
}

function lockedBy(holder: LockRecord | undefined, cause?: unknown): AgentMeshError {
  const who = holder === undefined ? 'another process' : `process ${holder.pid} since ${holder.since}`
  return new AgentMeshError('HOME_LOCKED', `This home is in use by ${who}`, {
    operation: 'lock the home',
    cause,
  })
}

/** Undefined for a record that is missing or damaged: lock.db is what counts. */
function readRecord(path: string): LockRecord | undefined {
  try {
    const value = JSON.parse(readFileSync(path, 'utf8')) as Partial<LockRecord> | null
    if (typeof value?.pid !== 'number' || typeof value.since !== 'string') return undefined
    return {
      pid: value.pid,
      since: /^[\d:.TZ-]{20,24}$/.test(value.since) ? value.since : 'an unknown time',
      ...(typeof value.started === 'string' ? { started: value.started } : {}),
    }
  } catch {
    return undefined
  }
}

function writeRecord(path: string, now: number): void {
  const started = processStart(process.pid)
  const record: LockRecord = {
    pid: process.pid,
    since: formatTimestamp(now),
    ...(started === undefined ? {} : { started }),
  }
  const draft = `${path}.new`
  rmSync(draft, { force: true })
  writeFileSync(draft, `${JSON.stringify(record)}\n`, { mode: 0o600, flag: 'wx' })
  renameSync(draft, path)
}

function isSameProcess(record: LockRecord): boolean {
  return record.started !== undefined && processStart(record.pid) === record.started
}

/** Boot id and start time in ticks since boot (proc(5)): no two processes share both. Undefined when dead or unknown. */
function processStart(pid: number): string | undefined {
  try {
    const boot = readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim()
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
    // The name in field 2 may hold spaces and parentheses; field 3 follows the last one.
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
    const [state] = fields
    const ticks = fields[19]
    return state === 'Z' || state === 'X' || ticks === undefined ? undefined : `${boot}/${ticks}`
  } catch {
    return undefined
  }
}

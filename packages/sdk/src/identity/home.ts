/**
 * The home folder of one agent (`~/.agentmesh`, or `AGENTMESH_HOME`): where its keys, policy, state and logs are.
 *
 * Folders are 0700 and files 0600. Links are refused, and so is what other users own or can read, because a key that was
 * readable once is no secret any more. A file is replaced by writing a new one beside it, flushing it to disk and renaming
 * it into place, so a crash leaves the old file or the new one, never half of either. Calls are synchronous: files here are
 * small, and most are read once at start. On Windows, which has no such modes, the profile folder's own rules protect them.
 */
import {
  chmodSync,
  closeSync,
  constants,
  fchmodSync,
  fstatSync,
  fsyncSync,
  lstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
  type Stats,
} from 'node:fs'
import { dirname, join, resolve } from 'node:path'
import { systemRandom } from '../crypto/signing.ts'
import { AgentMeshError, toHex } from '../wire/index.ts'

const FOLDER_MODE = 0o700
const FILE_MODE = 0o600
const OTHERS = 0o077
/** A path part starts with a letter or digit: no `..`, no hidden files, no separators, no device streams. */
const PART_PATTERN = /^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$/
/** Where a new file is written before it gets its name. Cannot collide with a part, which never starts with a dot. */
const TEMPORARY_PREFIX = '.new-'
/** Larger files in a home are read by their own code. */
const MAX_FILE_BYTES = 1024 * 1024

const O_NOFOLLOW = process.platform === 'win32' ? 0 : constants.O_NOFOLLOW
const hasModes = process.platform !== 'win32'

export class Home {
  /** Absolute path of the folder. */
  readonly path: string

  private constructor(path: string) {
    this.path = path
  }

  /** Opens an existing home. @throws HOME_EMPTY when there is no folder, HOME_UNSAFE for a link or an open folder. */
  static open(path: string): Home {
    const absolute = resolve(path)
    if (!checkFolder(absolute)) throw new AgentMeshError('HOME_EMPTY', `There is no folder ${absolute}`)
    return new Home(absolute)
  }

  /** Opens a home, making the folder when it is missing. @throws HOME_UNSAFE as `open`. */
  static create(path: string): Home {
    const absolute = resolve(path)
    makeFolder(absolute)
    // An empty folder has had no secret in it, so it may be tightened; one with content may not.
    attempt(`tighten ${absolute}`, () => {
      if (!hasModes || !lstatSync(absolute).isDirectory() || readdirSync(absolute).length > 0) return
      chmodSync(absolute, FOLDER_MODE)
    })
    checkFolder(absolute)
    return new Home(absolute)
  }

  /** The absolute path of a folder in the home, made when missing. @throws INVALID_ID, HOME_UNSAFE */
  folder(name: string): string {
    let path = this.path
    for (const part of partsOf(name)) {
      path = join(path, part)
      makeFolder(path)
      checkFolder(path)
    }
    return path
  }

  /** The absolute path of a file in the home, its folder made when missing. @throws INVALID_ID, HOME_UNSAFE */
  file(name: string): string {
    const parts = partsOf(name)
    const folder = parts.length === 1 ? this.path : this.folder(parts.slice(0, -1).join('/'))
    return join(folder, parts.at(-1) ?? '')
  }

  /** The bytes of a file, or undefined when there is none. @throws INVALID_ID, HOME_UNSAFE, HOME_FAILED, HOME_DAMAGED over 1 MiB */
  readFile(name: string): Uint8Array | undefined {
    const parts = partsOf(name)
    let path = this.path
    for (const part of parts.slice(0, -1)) {
      path = join(path, part)
      if (!checkFolder(path)) return undefined
    }
    return readSafely(join(path, parts.at(-1) ?? ''))
  }

  /** Replaces or makes a file, whole or not at all. @throws INVALID_ID, HOME_UNSAFE, HOME_FAILED */
  writeFile(name: string, bytes: Uint8Array): void {
    const path = this.file(name)
    const stats = statOf(path)
    if (stats) checkStats(path, stats, 'file')
    writeAtomically(path, bytes)
  }

  /**
   * Holds files that are read and written past this class (databases, logs) to the same rule: no links, nobody else's,
   * open to nobody else. Of a folder, everything in it. What is not there passes.
   *
   * @throws INVALID_ID, HOME_UNSAFE
   */
  requirePrivate(...names: readonly string[]): void {
    for (const name of names) checkAll(join(this.path, ...partsOf(name)))
  }

  /** True when there is a file, link or folder of that name. @throws INVALID_ID */
  has(name: string): boolean {
    return statOf(join(this.path, ...partsOf(name))) !== undefined
  }

  /**
   * Makes a folder with all its files in one step: a crash leaves none of them.
   *
   * @throws INVALID_ID, HOME_UNSAFE, HOME_FAILED, HOME_EXISTS when the folder is there and has content
   */
  writeFolder(name: string, files: Readonly<Record<string, Uint8Array>>): void {
    const target = join(this.path, ...partsOf(name))
    Object.keys(files).forEach(partsOf)
    const temporary = join(this.path, temporaryName())
    attempt(`write ${target}`, () => {
      try {
        mkdirSync(temporary, { mode: FOLDER_MODE })
        for (const [file, bytes] of Object.entries(files)) writeNew(join(temporary, file), bytes)
        syncFolder(temporary)
        renameSync(temporary, target)
        syncFolder(dirname(target))
      } catch (cause) {
        rmSync(temporary, { recursive: true, force: true })
        if (!isTaken(cause)) throw cause
        throw new AgentMeshError('HOME_EXISTS', `${target} is there already`, { cause })
      }
    })
  }
}

function partsOf(name: string): string[] {
  const parts = name.split('/')
  if (!parts.every((part) => PART_PATTERN.test(part))) {
    throw new AgentMeshError('INVALID_ID', 'Not a name of a file in the home folder')
  }
  return parts
}

function makeFolder(path: string): void {
  // A link to a folder passes here, and is refused by the check that follows every call.
  attempt(`make the folder ${path}`, () => mkdirSync(path, { mode: FOLDER_MODE, recursive: true }))
}

/** False when there is nothing of that name. */
function checkFolder(path: string): boolean {
  const stats = statOf(path)
  if (stats) checkStats(path, stats, 'folder')
  return stats !== undefined
}

function checkAll(path: string): void {
  const stats = statOf(path)
  if (!stats) return
  const isFolder = stats.isDirectory()
  checkStats(path, stats, isFolder ? 'folder' : 'file')
  if (!isFolder) return
  for (const name of attempt(`look into ${path}`, () => readdirSync(path))) checkAll(join(path, name))
}

/** Of the thing itself, never of what a link points to; undefined when there is nothing. */
function statOf(path: string): Stats | undefined {
  return attempt(`look at ${path}`, () => lstatSync(path, { throwIfNoEntry: false }))
}

function checkStats(path: string, stats: Stats, expected: 'file' | 'folder'): void {
  if (stats.isSymbolicLink()) throw unsafe(`${path} is a link`)
  if (expected === 'folder' ? !stats.isDirectory() : !stats.isFile()) {
    throw unsafe(`${path} is not a ${expected}`)
  }
  if (!hasModes) return
  if (stats.uid !== process.getuid?.()) throw unsafe(`${path} belongs to another user`)
  if ((stats.mode & OTHERS) !== 0) {
    const mode = expected === 'folder' ? '700' : '600'
    throw unsafe(`${path} is open to other users; check what it holds, then: chmod ${mode} ${path}`)
  }
}

function readSafely(path: string): Uint8Array | undefined {
  const stats = statOf(path)
  if (!stats) return undefined
  checkStats(path, stats, 'file')
  // The check above makes the good message; the flags and the second check are what cannot be raced.
  return attempt(`read ${path}`, () => {
    const handle = openSync(path, constants.O_RDONLY | O_NOFOLLOW)
    try {
      const opened = fstatSync(handle)
      checkStats(path, opened, 'file')
      if (opened.size > MAX_FILE_BYTES) throw new AgentMeshError('HOME_DAMAGED', `${path} exceeds 1 MiB`)
      return new Uint8Array(readFileSync(handle))
    } finally {
      closeSync(handle)
    }
  })
}

/** Runs file system calls; what they throw becomes HOME_FAILED with the cause. */
function attempt<T>(operation: string, work: () => T): T {
  try {
    return work()
  } catch (cause) {
    if (cause instanceof AgentMeshError) throw cause
    throw new AgentMeshError('HOME_FAILED', undefined, { operation, cause })
  }
}

/** True for what rename says when the target is a folder with content, or no folder. */
function isTaken(error: unknown): boolean {
  const code = error instanceof Error && 'code' in error ? error.code : undefined
  return code === 'ENOTEMPTY' || code === 'EEXIST' || code === 'ENOTDIR'
}

function temporaryName(): string {
  return TEMPORARY_PREFIX + toHex(systemRandom(8))
}

function writeAtomically(path: string, bytes: Uint8Array): void {
  const temporary = join(dirname(path), temporaryName())
  attempt(`write ${path}`, () => {
    try {
      writeNew(temporary, bytes)
      renameSync(temporary, path)
    } catch (cause) {
      rmSync(temporary, { force: true })
      throw cause
    }
    syncFolder(dirname(path))
  })
}

function writeNew(path: string, bytes: Uint8Array): void {
  const handle = openSync(
    path,
    constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | O_NOFOLLOW,
    FILE_MODE,
  )
  try {
    if (hasModes) fchmodSync(handle, FILE_MODE)
    writeFileSync(handle, bytes)
    fsyncSync(handle)
  } finally {
    closeSync(handle)
  }
}

/** A rename is durable once its folder is; Windows cannot open folders and needs no such call. */
function syncFolder(path: string): void {
  if (!hasModes) return
  const handle = openSync(path, constants.O_RDONLY)
  try {
    fsyncSync(handle)
  } finally {
    closeSync(handle)
  }
}

function unsafe(message: string): AgentMeshError {
  return new AgentMeshError('HOME_UNSAFE', message, { operation: 'open the home folder' })
}

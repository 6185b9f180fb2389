/** Files of the home folder that SQLite opens by name: made here first, so that they are private and no links. */
import { accessSync, closeSync, constants, fsyncSync, lstatSync, openSync } from 'node:fs'
import { dirname } from 'node:path'
import { AgentMeshError } from '../../wire/index.ts'

/**
 * Makes an empty file of mode 0600 unless there is a file already, and makes its folder entry durable. A file that is there
 * is not opened: closing any handle on it would give up the locks that this process may hold on it.
 *
 * @throws HOME_UNSAFE when the path is a symbolic link, STATE_WRITE_FAILED when the file cannot be made or written
 */
export function ensurePrivateFile(path: string, operation: string): void {
  try {
    const stats = lstatSync(path, { throwIfNoEntry: false })
    if (stats?.isSymbolicLink()) throw new AgentMeshError('HOME_UNSAFE', `${path} is a link`, { operation })
    if (stats) {
      accessSync(path, constants.R_OK | constants.W_OK)
      return
    }
    closeSync(openSync(path, constants.O_RDWR | constants.O_CREAT | constants.O_EXCL, 0o600))
    syncFolder(dirname(path))
  } catch (cause) {
    if (cause instanceof AgentMeshError) throw cause
    throw new AgentMeshError('STATE_WRITE_FAILED', undefined, { operation, cause })
  }
}

/** Windows has no such call and needs none. */
function syncFolder(folder: string): void {
  if (process.platform === 'win32') return
  const handle = openSync(folder, constants.O_RDONLY)
  try {
    fsyncSync(handle)
  } finally {
    closeSync(handle)
  }
}

/** Files of the home folder that SQLite opens by name: made here first, so that they are private and no links. */
import { closeSync, constants, fsyncSync, openSync } from 'node:fs'
import { dirname } from 'node:path'
import { AgentMeshError } from '../../wire/index.ts'

/**
 * Makes an empty file of mode 0600 unless there is a file already, and makes its folder entry durable.
 *
 * @throws HOME_UNSAFE when the path is a symbolic link, STATE_WRITE_FAILED when the file cannot be made or written
 */
export function ensurePrivateFile(path: string, operation: string): void {
  try {
    const flags = constants.O_RDWR | constants.O_CREAT | (constants.O_NOFOLLOW ?? 0)
    closeSync(openSync(path, flags, 0o600))
    syncFolder(dirname(path))
  } catch (cause) {
    const code = (cause as NodeJS.ErrnoException).code
    throw new AgentMeshError(code === 'ELOOP' ? 'HOME_UNSAFE' : 'STATE_WRITE_FAILED', undefined, {
      operation,
      cause,
    })
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

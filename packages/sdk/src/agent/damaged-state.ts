/**
 * `damaged-<time>/`: a `state.db` that could not be used, kept for its owner to look at. It holds keys and texts of everybody,
 * and nobody can tell whose: so it goes with the first peer that is forgotten (DESIGN §7.2 "Erasure").
 */
import { closeSync, fsyncSync, openSync, readdirSync, rmSync, statSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import type { Home } from '../identity/index.ts'
import { AgentMeshError } from '../wire/index.ts'

const FOLDER = /^damaged-\d+$/

/** Overwrites and deletes every state file that was set aside. @throws HOME_UNSAFE, HOME_FAILED */
export function eraseDamagedStates(home: Home): void {
  const operation = 'erase damaged state files'
  const folders = readdirSync(home.path).filter((name) => FOLDER.test(name))
  home.requirePrivate(...folders)
  try {
    for (const folder of folders) {
      for (const name of readdirSync(join(home.path, folder))) overwrite(join(home.path, folder, name))
      rmSync(join(home.path, folder), { recursive: true })
    }
  } catch (cause) {
    throw new AgentMeshError('HOME_FAILED', undefined, { operation, cause })
  }
}

function overwrite(path: string): void {
  const { size } = statSync(path)
  const handle = openSync(path, 'r+')
  try {
    const zeros = new Uint8Array(1 << 20)
    for (let at = 0; at < size;) at += writeSync(handle, zeros, 0, Math.min(zeros.length, size - at), at)
    fsyncSync(handle)
  } finally {
    closeSync(handle)
  }
}

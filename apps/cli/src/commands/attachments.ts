/**
 * Files on the command line: given by path to go along with a message, and written where the owner said when they came. What
 * a peer calls a file is text: the names written here are made of it, never taken from it.
 */
import { mkdir, mkdtemp, open, readdir, rm } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import type { AgentClient, AttachmentInfo, AttachmentSource, JsonValue } from '@agentmesh/sdk'
import { AgentMeshError } from '@agentmesh/sdk/wire'
import { homePath } from './shared.ts'
import type { Context } from '../output.ts'

/** Beside the name, for one that is taken. */
const MAX_TRIES = 1000
const TEMPORARY_FOLDER = 'listen-files'

export function sourcesOf(paths: readonly string[]): AttachmentSource[] {
  return paths.map((path) => ({ path: resolve(path) }))
}

/** A name for a file of a peer: letters, digits, dot, dash and underscore of what it is called, and no hidden file. */
function safeName(name: string): string {
  const kept = name
    .replaceAll(/[^A-Za-z0-9._-]+/g, '_')
    .replace(/^[._-]+/, '')
    .slice(0, 100)
  return kept === '' ? 'file' : kept
}

/** Writes a file beside what is there already. @returns its path. @throws ATTACHMENT_UNWRITABLE, as `AgentClient.attachment` */
async function save(client: AgentClient, file: AttachmentInfo, folder: string): Promise<string> {
  const name = safeName(file.name)
  const dot = name.lastIndexOf('.')
  const [stem, end] = dot > 0 ? [name.slice(0, dot), name.slice(dot)] : [name, '']
  for (let turn = 0; turn < MAX_TRIES; turn++) {
    const path = join(folder, turn === 0 ? name : `${stem}-${turn}${end}`)
    try {
      const handle = await open(path, 'wx', 0o600)
      try {
        for await (const bytes of await client.attachment(file.handle)) await handle.writeFile(bytes)
      } catch (error) {
        await rm(path, { force: true })
        throw error
      } finally {
        await handle.close()
      }
      return path
    } catch (cause) {
      if (cause instanceof AgentMeshError) throw cause
      if ((cause as NodeJS.ErrnoException).code !== 'EEXIST') throw unwritable(path, cause)
    }
  }
  throw unwritable(join(folder, name), undefined)
}

function unwritable(path: string, cause: unknown): AgentMeshError {
  return new AgentMeshError('ATTACHMENT_UNWRITABLE', `${path} cannot be written`, {
    operation: 'save',
    cause,
  })
}

/** Writes files of a peer into a folder, made when missing. @returns their paths, in order */
export async function saveAll(
  client: AgentClient,
  files: readonly AttachmentInfo[],
  folder: string,
): Promise<string[]> {
  const paths: string[] = []
  try {
    await mkdir(folder, { recursive: true, mode: 0o700 })
  } catch (cause) {
    throw unwritable(folder, cause)
  }
  for (const file of files) paths.push(await save(client, file, resolve(folder)))
  return paths
}

/** Files of a request in clear, for as long as a program works on it. */
export interface OpenedFiles {
  readonly paths: readonly string[]
  remove(): Promise<void>
}

/** Copies the files of a request into a folder of their own in the home. */
export async function openFiles(
  context: Context,
  client: AgentClient,
  files: readonly AttachmentInfo[],
): Promise<OpenedFiles> {
  if (files.length === 0) return { paths: [], remove: async () => {} }
  const parent = join(homePath(context), TEMPORARY_FOLDER)
  await mkdir(parent, { recursive: true, mode: 0o700 })
  const folder = await mkdtemp(join(parent, `${process.pid}-`))
  const remove = (): Promise<void> => rm(folder, { recursive: true, force: true })
  try {
    return { paths: await saveAll(client, files, folder), remove }
  } catch (error) {
    await remove()
    throw error
  }
}

/** Deletes what a `listen` that was killed left; others may be at work. */
export async function removeLeftFiles(context: Context): Promise<void> {
  const folder = join(homePath(context), TEMPORARY_FOLDER)
  const names = await readdir(folder).catch(() => [])
  for (const name of names)
    if (!isAlive(Number.parseInt(name, 10))) await rm(join(folder, name), { recursive: true, force: true })
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM'
  }
}

/** The files an answering program names: paths, or objects with `path`, `name`, `media_type`. @throws MALFORMED */
export function namedFiles(value: JsonValue): AttachmentSource[] {
  if (!Array.isArray(value)) throw new AgentMeshError('MALFORMED', 'attachments must be a list')
  return value.map((entry) => {
    if (typeof entry === 'string') return { path: resolve(entry) }
    const { path, name, media_type } = (typeof entry === 'object' && entry !== null ? entry : {}) as {
      [field: string]: JsonValue
    }
    if (typeof path !== 'string') throw new AgentMeshError('MALFORMED', 'attachments: a path is missing')
    return {
      path: resolve(path),
      ...(typeof name === 'string' ? { name } : {}),
      ...(typeof media_type === 'string' ? { mediaType: media_type } : {}),
    }
  })
}

/** The folder of attachments: files of chunks under names drawn here, one handle each while they are in use. */
import { readdirSync, rmSync, statfsSync } from 'node:fs'
import { join } from 'node:path'
import { toHex } from '../../wire/index.ts'
import type { Core } from '../core.ts'
import { ChunkFile } from './chunk-file.ts'

const FOLDER = 'attachments'

export class AttachmentFiles {
  readonly #core: Core
  readonly #folder: string
  readonly #open = new Map<string, ChunkFile>()

  /** @throws HOME_UNSAFE, HOME_FAILED */
  constructor(core: Core) {
    this.#core = core
    this.#folder = core.home.folder(FOLDER)
  }

  newName(): string {
    return toHex(this.#core.random(16))
  }

  /** The file of this name, which need not be there yet. */
  file(name: string, size: number | (() => number)): ChunkFile {
    const known = this.#open.get(name)
    if (known) return known
    const file = this.reader(name, size)
    this.#open.set(name, file)
    return file
  }

  /** With a handle of its own, for the caller to close. */
  reader(name: string, size: number | (() => number)): ChunkFile {
    const { random, identity } = this.#core
    const keys = { folder: this.#folder, storageKey: identity.storageKey, random }
    return new ChunkFile(keys, name, typeof size === 'number' ? () => size : size)
  }

  /** Frees the handle; the file stays. */
  release(name: string): void {
    this.#open.get(name)?.close()
    this.#open.delete(name)
  }

  remove(name: string): void {
    this.file(name, 0).remove()
    this.#open.delete(name)
  }

  /** Deletes what no row names. */
  keepOnly(names: ReadonlySet<string>): void {
    for (const name of readdirSync(this.#folder))
      if (!names.has(name) && !this.#open.has(name)) rmSync(join(this.#folder, name), { force: true })
  }

  /** Bytes the disk has left. */
  free(): number {
    const { bavail, bsize } = statfsSync(this.#folder)
    return bavail * bsize
  }

  close(): void {
    for (const file of this.#open.values()) file.close()
    this.#open.clear()
  }
}

/**
 * A file of chunks in the home, each sealed under the storage key and bound to the file's name and its place in it, so that
 * it can be written and read in any order:
 *
 *     chunk 0 sealed | chunk 1 sealed | ... | last one, shorter        at index * (32768 + 41)
 *
 * Names are drawn here; what a peer calls a file never reaches the disk.
 */
import { closeSync, constants, fsync, openSync, readSync, rmSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { open, seal, type RandomBytes } from '../../crypto/index.ts'
import {
  AgentMeshError,
  ATTACHMENT_CHUNK_BYTES,
  ByteWriter,
  chunkLength,
  isAgentMeshError,
  utf8Bytes,
} from '../../wire/index.ts'

/** What sealing adds: version, nonce, tag. */
const SEAL_BYTES = 41
const STRIDE = ATTACHMENT_CHUNK_BYTES + SEAL_BYTES
const NAME = /^[0-9a-f]{32}$/
const PLACE = utf8Bytes('agentmesh/0.2 attachment ')
const flush = promisify(fsync)

export interface ChunkFileKeys {
  /** Folder of such files. */
  readonly folder: string
  readonly storageKey: Uint8Array
  readonly random: RandomBytes
}

/** Bytes on disk of a file of this size. */
export function sealedSize(size: number): number {
  return size + Math.ceil(size / ATTACHMENT_CHUNK_BYTES) * SEAL_BYTES
}

export class ChunkFile {
  readonly name: string
  readonly #keys: ChunkFileKeys
  readonly #size: () => number
  readonly #path: string
  #handle: number | undefined

  /**
   * @param name one drawn by `newFileName`
   * @param size of the whole, in bytes; it may still grow while the file is written
   */
  constructor(keys: ChunkFileKeys, name: string, size: () => number) {
    if (!NAME.test(name)) throw new AgentMeshError('STATE_DAMAGED', 'Not a name of an attachment')
    this.name = name
    this.#keys = keys
    this.#size = size
    this.#path = join(keys.folder, name)
  }

  /** @throws STATE_WRITE_FAILED */
  write(index: number, bytes: Uint8Array): void {
    const sealed = seal(this.#keys.storageKey, bytes, this.#place(index), this.#keys.random)
    this.#attempt(() => {
      let written = 0
      while (written < sealed.length)
        written += writeSync(this.#open(), sealed, written, sealed.length - written, index * STRIDE + written)
    })
  }

  /** @throws STATE_DAMAGED when it is not there as it was written */
  read(index: number): Uint8Array {
    const sealed = new Uint8Array(chunkLength(this.#size(), index) + SEAL_BYTES)
    const length = this.#attempt(() => readSync(this.#open(), sealed, 0, sealed.length, index * STRIDE))
    try {
      return open(this.#keys.storageKey, sealed.subarray(0, length), this.#place(index))
    } catch (cause) {
      if (!isAgentMeshError(cause)) throw cause
      throw new AgentMeshError('STATE_DAMAGED', 'A chunk of an attachment is not as it was written', {
        cause,
      })
    }
  }

  has(index: number): boolean {
    try {
      this.read(index)
      return true
    } catch (error) {
      if (!isAgentMeshError(error)) throw error
      return false
    }
  }

  /** Resolves when all that was written is on disk. @throws STATE_WRITE_FAILED */
  async sync(): Promise<void> {
    const handle = this.#attempt(() => this.#open())
    try {
      await flush(handle)
    } catch (cause) {
      // Deleted or closed meanwhile: nobody asks for it any more.
      if (this.#handle !== handle) return
      throw failed(cause)
    }
  }

  close(): void {
    const handle = this.#handle
    this.#handle = undefined
    if (handle !== undefined) closeSync(handle)
  }

  remove(): void {
    this.close()
    this.#attempt(() => rmSync(this.#path, { force: true }))
  }

  #open(): number {
    if (this.#handle === undefined) {
      const flags = constants.O_RDWR | constants.O_CREAT | (constants.O_NOFOLLOW ?? 0)
      this.#handle = openSync(this.#path, flags, 0o600)
    }
    return this.#handle
  }

  #place(index: number): Uint8Array {
    return new ByteWriter().bytes(PLACE).bytes(utf8Bytes(this.name)).u32(index).finish()
  }

  #attempt<T>(work: () => T): T {
    try {
      return work()
    } catch (cause) {
      throw failed(cause)
    }
  }
}

function failed(cause: unknown): AgentMeshError {
  return new AgentMeshError('STATE_WRITE_FAILED', 'An attachment cannot be read or written', {
    operation: 'use attachments/',
    cause,
  })
}

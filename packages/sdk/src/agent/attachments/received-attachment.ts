/** A peer's file, whole and checked, as the application has it. */
import { open as openFile, rm, type FileHandle } from 'node:fs/promises'
import { AgentMeshError } from '../../wire/index.ts'
import type { AttachmentFiles } from './files.ts'
import type { ReceivedAttachment, ReceivedFileRow } from './rows.ts'

export class StoredAttachment implements ReceivedAttachment {
  readonly handle: string
  readonly name: string
  readonly media_type: string
  readonly size: number
  readonly sha256: string
  readonly #files: AttachmentFiles
  readonly #chunks: number

  constructor(files: AttachmentFiles, { handle, manifest }: ReceivedFileRow) {
    this.handle = handle
    this.name = manifest.name
    this.media_type = manifest.media_type
    this.size = manifest.size
    this.sha256 = manifest.sha256
    this.#chunks = manifest.chunks
    this.#files = files
  }

  async *stream(): AsyncGenerator<Uint8Array, void, void> {
    const file = this.#files.reader(this.handle, this.size)
    try {
      for (let index = 0; index < this.#chunks; index++) {
        yield file.read(index)
        // Others have their turn.
        await new Promise((resolve) => setImmediate(resolve))
      }
    } finally {
      file.close()
    }
  }

  async read(): Promise<Uint8Array> {
    const bytes = new Uint8Array(this.size)
    let offset = 0
    for await (const chunk of this.stream()) {
      bytes.set(chunk, offset)
      offset += chunk.length
    }
    return bytes
  }

  async saveTo(path: string): Promise<void> {
    const unwritable = (cause: unknown): AgentMeshError =>
      new AgentMeshError('ATTACHMENT_UNWRITABLE', undefined, { operation: `write ${path}`, cause })
    let handle: FileHandle
    try {
      handle = await openFile(path, 'wx', 0o600)
    } catch (cause) {
      throw unwritable(cause)
    }
    try {
      for await (const chunk of this.stream()) await handle.writeFile(chunk)
      await handle.close()
    } catch (cause) {
      await handle.close().catch(() => {})
      await rm(path, { force: true })
      throw cause instanceof AgentMeshError ? cause : unwritable(cause)
    }
  }
}

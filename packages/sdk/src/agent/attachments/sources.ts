/** Where an application's files come from, and how one becomes a sealed copy of ours. */
import { createReadStream, statSync } from 'node:fs'
import { basename } from 'node:path'
import {
  AgentMeshError,
  ATTACHMENT_CHUNK_BYTES,
  AttachmentManifest,
  chunksOf,
  MAX_ATTACHMENT_BYTES,
  newAttachmentId,
  toBase64,
  validate,
} from '../../wire/index.ts'
import { sha256Stream } from '../../crypto/index.ts'
import type { Core } from '../core.ts'
import type { AttachmentFiles } from './files.ts'
import type { AttachmentSource, SentFileRow } from './rows.ts'

const MEDIA_TYPE = 'application/octet-stream'

/** @throws ATTACHMENT_UNREADABLE */
async function* readPath(path: string): AsyncGenerator<Uint8Array, void, void> {
  try {
    if (!statSync(path).isFile()) throw new Error('not a file')
    for await (const bytes of createReadStream(path, { highWaterMark: 8 * ATTACHMENT_CHUNK_BYTES }))
      yield bytes as Buffer
  } catch (cause) {
    throw new AgentMeshError('ATTACHMENT_UNREADABLE', undefined, { operation: `read ${path}`, cause })
  }
}

async function* once(bytes: Uint8Array): AsyncGenerator<Uint8Array, void, void> {
  yield bytes
}

/** Cuts what comes into chunks; every one but the last is full. */
async function* chunked(source: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array, void, void> {
  let open = new Uint8Array(ATTACHMENT_CHUNK_BYTES)
  let length = 0
  for await (const bytes of source) {
    for (let start = 0; start < bytes.length;) {
      const part = bytes.subarray(start, start + ATTACHMENT_CHUNK_BYTES - length)
      open.set(part, length)
      start += part.length
      length += part.length
      if (length < ATTACHMENT_CHUNK_BYTES) continue
      yield open
      open = new Uint8Array(ATTACHMENT_CHUNK_BYTES)
      length = 0
    }
  }
  if (length > 0) yield open.subarray(0, length)
}

/**
 * Makes the sealed copy, flushed; its row is the caller's to put.
 *
 * @throws ATTACHMENT_UNREADABLE, ATTACHMENT_TOO_LARGE, MALFORMED for a name or media type that no manifest takes,
 *   STATE_WRITE_FAILED
 */
export async function storeSource(
  core: Core,
  files: AttachmentFiles,
  source: Exclude<AttachmentSource, { handle: string }>,
): Promise<SentFileRow> {
  const { name, mediaType = MEDIA_TYPE } = source
  const handle = files.newName()
  let size = 0
  const file = files.file(handle, () => size)
  const stream =
    'path' in source
      ? readPath(source.path)
      : source.data instanceof Uint8Array
        ? once(source.data)
        : source.data
  const described = {
    id: newAttachmentId(core.random),
    name: name ?? ('path' in source ? basename(source.path) : 'file'),
    media_type: mediaType,
    chunk_size: ATTACHMENT_CHUNK_BYTES,
  } as const
  try {
    validate(AttachmentManifest, { ...described, size, sha256: NO_HASH, chunks: 0 }, 'attach a file')
    const hash = sha256Stream()
    let index = 0
    for await (const bytes of chunked(stream)) {
      size += bytes.length
      if (size > MAX_ATTACHMENT_BYTES) throw new AgentMeshError('ATTACHMENT_TOO_LARGE')
      hash.update(bytes)
      file.write(index++, bytes)
    }
    await file.sync()
    files.release(handle)
    const manifest = { ...described, size, sha256: toBase64(hash.digest()), chunks: chunksOf(size) }
    return { handle, manifest, ranges: [], createdAt: core.now() }
  } catch (error) {
    files.remove(handle)
    throw error
  }
}

const NO_HASH = toBase64(new Uint8Array(32))

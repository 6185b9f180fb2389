/**
 * Files that go along with a request or a response (DESIGN §12, spec/sessions.md).
 *
 * The message that names a file carries its manifest, under the envelope's signature. Its bytes follow in frames of their
 * own: plaintexts of the session's ratchet that begin with one of the bytes below, where an envelope begins with `{`.
 *
 *     0x01 chunk      attachment id 16 | index u32 | 1 to 32768 bytes
 *     0x02 progress   attachment id 16 | ranges u16 | ranges * (first u32 | last u32)      what the receiver has on disk
 *     0x03 refused    attachment id 16 | length u8 | code                                   no more of it is wanted, or is there
 *
 * Frames take no sequence number and no place in a session's limits, and are not signed: the AEAD says who made them,
 * and the manifest's hash covers all chunks together.
 */
import type { Static } from 'typebox'
import { Type } from './type.ts'
import { ByteReader, ByteWriter, utf8Bytes, utf8Text } from './bytes.ts'
import { AgentMeshError } from './errors.ts'
import { attachmentIdFromBytes, idToBytes, UUID_PATTERN, type AttachmentId } from './ids.ts'
import { HashText, PeerText } from './schema.ts'

export const ATTACHMENT_CHUNK_BYTES = 32 * 1024
/** Of one attachment, whatever a policy says. */
export const MAX_ATTACHMENT_BYTES = 1024 * 1024 * 1024
export const MAX_ATTACHMENTS = 16
export const MAX_CHUNKS = MAX_ATTACHMENT_BYTES / ATTACHMENT_CHUNK_BYTES
/** In one progress frame: who has more gaps than that names the first ones. */
export const MAX_PROGRESS_RANGES = 256

const CODE = /^[A-Z][A-Z0-9_]{0,63}$/

export const AttachmentIdText = Type.Unsafe<AttachmentId>(
  Type.String({ pattern: UUID_PATTERN, description: 'Attachment id: UUID version 4' }),
)

/** What a message says of a file that comes with it. */
export const AttachmentManifest = Type.Object({
  id: AttachmentIdText,
  name: PeerText(255, 'What the sender calls it; never a path'),
  media_type: Type.String({
    maxLength: 127,
    pattern: '^[a-z0-9][a-z0-9!#$&^_.+-]{0,62}/[a-z0-9][a-z0-9!#$&^_.+-]{0,62}$',
    description: 'What the sender says it is, such as image/png',
  }),
  size: Type.Integer({ minimum: 0, maximum: MAX_ATTACHMENT_BYTES }),
  sha256: HashText,
  chunk_size: Type.Literal(ATTACHMENT_CHUNK_BYTES),
  chunks: Type.Integer({ minimum: 0, maximum: MAX_CHUNKS, description: 'size / chunk_size, rounded up' }),
})
export type AttachmentManifest = Static<typeof AttachmentManifest>

export const Attachments = Type.Array(AttachmentManifest, {
  minItems: 1,
  maxItems: MAX_ATTACHMENTS,
  description: 'Files that follow in frames of their own',
})

/** First and last of a run of chunks. */
export type ChunkRange = readonly [first: number, last: number]

export type AttachmentFrame =
  | { readonly kind: 'chunk'; readonly id: AttachmentId; readonly index: number; readonly bytes: Uint8Array }
  | { readonly kind: 'progress'; readonly id: AttachmentId; readonly ranges: readonly ChunkRange[] }
  | { readonly kind: 'refused'; readonly id: AttachmentId; readonly code: string }

const CHUNK = 0x01
const PROGRESS = 0x02
const REFUSED = 0x03

/** Whether a plaintext of a session is a frame of an attachment and no envelope. */
export function isAttachmentFrame(plaintext: Uint8Array): boolean {
  const first = plaintext[0]
  return first === CHUNK || first === PROGRESS || first === REFUSED
}

/** Chunks of a file of this size. */
export function chunksOf(size: number): number {
  return Math.ceil(size / ATTACHMENT_CHUNK_BYTES)
}

/** Bytes of one chunk of a file. */
export function chunkLength(size: number, index: number): number {
  return Math.min(ATTACHMENT_CHUNK_BYTES, size - index * ATTACHMENT_CHUNK_BYTES)
}

/** What the schema cannot say of the manifests of a message. @throws MALFORMED */
export function checkManifests(manifests: readonly AttachmentManifest[]): void {
  for (const { size, chunks } of manifests) {
    if (chunks !== chunksOf(size))
      throw new AgentMeshError('MALFORMED', 'attachments: chunks do not fit the size')
  }
  if (new Set(manifests.map(({ id }) => id)).size !== manifests.length) {
    throw new AgentMeshError('MALFORMED', 'attachments: two have one id')
  }
}

/** @throws MALFORMED for what `decodeAttachmentFrame` would not take */
export function encodeAttachmentFrame(frame: AttachmentFrame): Uint8Array {
  const writer = new ByteWriter()
  const begin = (kind: number): ByteWriter => writer.u8(kind).bytes(idToBytes(frame.id))
  switch (frame.kind) {
    case 'chunk':
      checkChunk(frame.index, frame.bytes)
      return begin(CHUNK).u32(frame.index).bytes(frame.bytes).finish()
    case 'progress':
      checkRanges(frame.ranges)
      begin(PROGRESS).u16(frame.ranges.length)
      for (const [first, last] of frame.ranges) writer.u32(first).u32(last)
      return writer.finish()
    case 'refused': {
      checkCode(frame.code)
      const code = utf8Bytes(frame.code)
      return begin(REFUSED).u8(code.length).bytes(code).finish()
    }
  }
}

/** @throws MALFORMED, INVALID_ID */
export function decodeAttachmentFrame(bytes: Uint8Array): AttachmentFrame {
  const reader = new ByteReader(bytes)
  const kind = reader.u8()
  const id = attachmentIdFromBytes(reader.bytes(16))
  switch (kind) {
    case CHUNK: {
      const index = reader.u32()
      const chunk = reader.rest()
      checkChunk(index, chunk)
      return { kind: 'chunk', id, index, bytes: chunk }
    }
    case PROGRESS: {
      const count = reader.u16()
      if (count > MAX_PROGRESS_RANGES) throw new AgentMeshError('MALFORMED', 'Too many ranges')
      const ranges = Array.from({ length: count }, (): ChunkRange => [reader.u32(), reader.u32()])
      reader.end()
      checkRanges(ranges)
      return { kind: 'progress', id, ranges }
    }
    case REFUSED: {
      const code = utf8Text(reader.bytes(reader.u8()))
      reader.end()
      checkCode(code)
      return { kind: 'refused', id, code }
    }
    default:
      throw new AgentMeshError('MALFORMED', 'Not a frame of an attachment')
  }
}

function checkChunk(index: number, bytes: Uint8Array): void {
  if (index >= MAX_CHUNKS) throw new AgentMeshError('MALFORMED', 'No attachment has a chunk of this index')
  if (bytes.length === 0 || bytes.length > ATTACHMENT_CHUNK_BYTES)
    throw new AgentMeshError('MALFORMED', 'A chunk has 1 to 32768 bytes')
}

/** In order, and with a gap between two of them: there is one way to write what is there. */
function checkRanges(ranges: readonly ChunkRange[]): void {
  if (ranges.length > MAX_PROGRESS_RANGES) throw new AgentMeshError('MALFORMED', 'Too many ranges')
  let next = 0
  for (const [first, last] of ranges) {
    if (first < next || last < first || last >= MAX_CHUNKS)
      throw new AgentMeshError('MALFORMED', 'Ranges are not in order')
    next = last + 2
  }
}

function checkCode(code: string): void {
  if (!CODE.test(code)) throw new AgentMeshError('MALFORMED', 'Not an error code')
}

/**
 * The owner's bounds on files of peers (policy `attachments`), asked before the first byte is taken. What an application is
 * done with makes room for what comes, oldest first, unless the owner keeps files.
 */
import type { Amid, AttachmentManifest, ErrorCode } from '../../wire/index.ts'
import type { Core } from '../core.ts'
import { sealedSize } from './chunk-file.ts'
import { countChunks } from './chunk-ranges.ts'
import type { AttachmentFiles } from './files.ts'
import type { ReceivedFileRow } from './rows.ts'

/** An empty file takes a row, too. */
const LEAST_BYTES = 32 * 1024
/** Left on the disk for everything else. */
const DISK_RESERVE_BYTES = 64 * 1024 * 1024
/** Files of a peer that are not whole yet. */
const MAX_COMING_OF_PEER = 64
/** An application that has the message gets so long to take its files. */
export const GRACE_MS = 600_000

const cost = ({ size }: AttachmentManifest): number => Math.max(LEAST_BYTES, size)
const total = (manifests: readonly AttachmentManifest[]): number =>
  manifests.reduce((sum, manifest) => sum + cost(manifest), 0)

function rowsOf(core: Core, peer?: Amid): ReceivedFileRow[] {
  return core.store.tables.receivedFiles.list(peer === undefined ? {} : { a: peer }).map(({ value }) => value)
}

/** Whether the message a file came with waits for the application, or for files. */
function isWanted(core: Core, { owner, state, at }: ReceivedFileRow): boolean {
  if (state === 'coming' || at + GRACE_MS > core.now()) return true
  if (core.policy.current().attachments.keep) return true
  if (owner.kind === 'response') return false
  const request = core.store.tables.requests.get(`${owner.peer}:${owner.about}`)
  return request !== undefined && request.answer === undefined
}

/** Why the owner does not take files, if so. */
export function roomFor(
  core: Core,
  files: AttachmentFiles,
  peer: Amid,
  added: readonly AttachmentManifest[],
): ErrorCode | undefined {
  if (added.length === 0) return undefined
  const { max_bytes, max_bytes_per_peer, max_bytes_in_all } = core.policy.current().attachments
  if (added.some(({ size }) => size > max_bytes)) return 'ATTACHMENT_TOO_LARGE'
  const needed = total(added)
  const all = rowsOf(core)
  const fixed = all.filter((row) => isWanted(core, row))
  const ofPeer = fixed.filter(({ owner }) => owner.peer === peer)
  const coming = (rows: readonly ReceivedFileRow[]) => rows.filter(({ state }) => state === 'coming')
  if (coming(ofPeer).length + added.length > MAX_COMING_OF_PEER) return 'ATTACHMENT_NO_ROOM'
  const held = (rows: readonly ReceivedFileRow[]) => total(rows.map(({ manifest }) => manifest))
  if (held(ofPeer) + needed > max_bytes_per_peer) return 'ATTACHMENT_NO_ROOM'
  if (held(fixed) + needed > max_bytes_in_all) return 'ATTACHMENT_NO_ROOM'
  // What was promised to others is still to be written.
  const promised = coming(all).reduce(
    (sum, { manifest, ranges }) => sum + sealedSize(manifest.size) - countChunks(ranges) * LEAST_BYTES,
    0,
  )
  const written = added.reduce((sum, { size }) => sum + sealedSize(size), 0)
  return files.free() < promised + written + DISK_RESERVE_BYTES ? 'ATTACHMENT_NO_ROOM' : undefined
}

/** Deletes rows of what nobody waits for until there is room; their files. Call within a commit, after `roomFor`. */
export function makeRoom(core: Core, peer: Amid, added: readonly AttachmentManifest[]): string[] {
  if (added.length === 0) return []
  const { max_bytes_per_peer, max_bytes_in_all } = core.policy.current().attachments
  const { receivedFiles } = core.store.tables
  const rows = receivedFiles.list()
  const held = (which: (row: ReceivedFileRow) => boolean): number =>
    total(rows.filter(({ value }) => which(value)).map(({ value }) => value.manifest))
  let overPeer = held(({ owner }) => owner.peer === peer) + total(added) - max_bytes_per_peer
  let overAll = held(() => true) + total(added) - max_bytes_in_all
  const removed: string[] = []
  for (const { key, value: row } of rows.toSorted((left, right) => left.value.at - right.value.at)) {
    const helps = overAll > 0 || (overPeer > 0 && row.owner.peer === peer)
    if (!helps || isWanted(core, row)) continue
    receivedFiles.delete(key)
    removed.push(row.handle)
    overAll -= cost(row.manifest)
    if (row.owner.peer === peer) overPeer -= cost(row.manifest)
  }
  return removed
}

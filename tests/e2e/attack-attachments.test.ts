/** What a peer that was let in tries with files: sizes, hashes, indexes, ids, names, floods. */
import { createHash, randomBytes } from 'node:crypto'
import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { defaultPolicy, newMessageId, type Agent, type IncomingRequest } from '@agentmesh/sdk'
import { systemRandom } from '@agentmesh/sdk/crypto/signing'
import {
  ATTACHMENT_CHUNK_BYTES,
  chunksOf,
  newAttachmentId,
  type AttachmentManifest,
} from '@agentmesh/sdk/wire'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { HostilePeer } from '../support/hostile-peer.ts'
import { FLIGHTS, TestNetwork } from '../support/network.ts'

let network: TestNetwork
let bob: Agent
let mallory: HostilePeer
let handed: IncomingRequest[]

beforeEach(async () => {
  network = await TestNetwork.start()
  handed = []
  bob = await network.agent('bob')
  bob.on('request', (request) => {
    handed.push(request)
    return { results: 'done' }
  })
  mallory = await HostilePeer.open(network)
  await mallory.knock(bob.amid)
})
afterEach(async () => {
  await mallory.close()
  await network.close()
})

function manifestOf(bytes: Uint8Array, change: Partial<AttachmentManifest> = {}): AttachmentManifest {
  return {
    id: newAttachmentId(systemRandom),
    name: 'file',
    media_type: 'application/octet-stream',
    size: bytes.length,
    sha256: createHash('sha256').update(bytes).digest('base64'),
    chunk_size: ATTACHMENT_CHUNK_BYTES,
    chunks: chunksOf(bytes.length),
    ...change,
  }
}

const request = (...attachments: AttachmentManifest[]) => ({ intent: FLIGHTS, parameters: {}, attachments })
const codes = (): unknown[] =>
  mallory.envelopes.flatMap(({ type, payload }) =>
    type === 'error' && 'code' in payload ? [payload.code] : [],
  )
const filesOfBob = () => readdirSync(join(network.folder, 'bob', 'attachments'))

async function sendAll({ id }: AttachmentManifest, bytes: Uint8Array): Promise<void> {
  for (let index = 0; index < chunksOf(bytes.length); index++) {
    const start = index * ATTACHMENT_CHUNK_BYTES
    await mallory.frame({
      kind: 'chunk',
      id,
      index,
      bytes: bytes.subarray(start, start + ATTACHMENT_CHUNK_BYTES),
    })
  }
}

test('a file larger than the owner allows is refused before its first byte', async () => {
  const { attachments } = defaultPolicy()
  bob.setPolicy({ attachments: { ...attachments, max_bytes: 1000 } })
  const bytes = randomBytes(1001)
  await mallory.say('request', request(manifestOf(bytes)))
  await mallory.until(() => codes().length === 1)
  expect(codes()).toEqual(['ATTACHMENT_TOO_LARGE'])
  expect([handed.length, filesOfBob().length]).toEqual([0, 0])
})

test('files that together take more than a peer may have are refused', async () => {
  const { attachments } = defaultPolicy()
  bob.setPolicy({ attachments: { ...attachments, max_bytes_per_peer: 100_000 } })
  await mallory.say('request', request(manifestOf(randomBytes(60_000)), manifestOf(randomBytes(60_000))))
  await mallory.until(() => codes().length === 1)
  // Promised room counts before it is filled; an empty file takes some, too.
  await mallory.say('request', request(manifestOf(randomBytes(60_000))))
  await mallory.say('request', request(...Array.from({ length: 3 }, () => manifestOf(new Uint8Array(0)))))
  await mallory.until(() => codes().length === 2)
  expect(codes()).toEqual(['ATTACHMENT_NO_ROOM', 'ATTACHMENT_NO_ROOM'])
  expect(handed).toEqual([])
})

test('a file that is not the one its manifest names is refused and deleted', async () => {
  const bytes = randomBytes(70_000)
  const manifest = manifestOf(randomBytes(70_000))
  await mallory.say('request', request(manifest))
  await sendAll(manifest, bytes)
  await mallory.until(() => codes().length === 1)
  expect(codes()).toEqual(['ATTACHMENT_MISMATCH'])
  expect([handed.length, filesOfBob().length]).toEqual([0, 0])
})

test('chunks that the manifest does not have, or that came before, change nothing', async () => {
  const bytes = randomBytes(40_000)
  const manifest = manifestOf(bytes, { name: '../../etc/passwd' })
  const { id } = manifest
  await mallory.say('request', request(manifest))
  const full = new Uint8Array(ATTACHMENT_CHUNK_BYTES)
  await mallory.frame({ kind: 'chunk', id, index: 2, bytes: full })
  await mallory.frame({ kind: 'chunk', id, index: 1, bytes: full })
  await mallory.frame({ kind: 'chunk', id, index: 0, bytes: full.subarray(1) })
  await sendAll(manifest, bytes)
  await mallory.frame({ kind: 'chunk', id, index: 0, bytes: full })
  await mallory.until(() => mallory.envelopes.some(({ type }) => type === 'response'))
  const [file] = handed[0]?.attachments ?? []
  expect(file?.name).toBe('../../etc/passwd')
  expect(Buffer.from((await file?.read()) ?? [])).toEqual(bytes)
  expect(filesOfBob()).toEqual([expect.stringMatching(/^[0-9a-f]{32}$/)])
})

test('a chunk of a file that no message named is refused, and nothing is written', async () => {
  const id = newAttachmentId(systemRandom)
  await mallory.frame({ kind: 'chunk', id, index: 0, bytes: randomBytes(10) })
  await mallory.until(() => mallory.frames.length === 1)
  expect(mallory.frames).toEqual([{ kind: 'refused', id, code: 'ATTACHMENT_UNKNOWN' }])
  expect(filesOfBob()).toEqual([])
})

test('one file cannot stand in for that of another message, nor for that of another peer', async () => {
  const bytes = randomBytes(100)
  const manifest = manifestOf(bytes)
  await mallory.say('request', request(manifest))
  await mallory.say('request', request(manifest))
  await mallory.until(() => codes().length === 1)
  expect(codes()).toEqual(['ATTACHMENT_REFUSED'])
  const eve = await HostilePeer.open(network)
  try {
    await eve.knock(bob.amid)
    await eve.frame({ kind: 'chunk', id: manifest.id, index: 0, bytes: randomBytes(100) })
    await eve.until(() => eve.frames.length === 1)
    expect(eve.frames).toEqual([{ kind: 'refused', id: manifest.id, code: 'ATTACHMENT_UNKNOWN' }])
    // Under her own name the id is free.
    await eve.say('request', request(manifestOf(randomBytes(50), { id: manifest.id })))
    await eve.until(() => eve.frames.length === 2)
    expect(eve.frames[1]).toEqual({ kind: 'progress', id: manifest.id, ranges: [] })
  } finally {
    await eve.close()
  }
  await sendAll(manifest, bytes)
  await mallory.until(() => mallory.envelopes.some(({ type }) => type === 'response'))
  expect(Buffer.from((await handed[0]?.attachments?.[0]?.read()) ?? [])).toEqual(bytes)
})

test('a flood of frames that bring nothing ends the session', async () => {
  const closed = (): boolean => bob.sessions()[0]?.state === 'closed'
  let sent = 0
  while (!closed() && sent < 1000) {
    sent++
    const id = newAttachmentId(systemRandom)
    if (sent % 2 === 0) await mallory.frame({ kind: 'progress', id, ranges: [[0, 9]] })
    else await mallory.frame({ kind: 'chunk', id, index: 0, bytes: Uint8Array.of(1) })
  }
  expect(bob.sessions()).toMatchObject([{ state: 'closed', close_reason: 'limit' }])
  expect([sent < 1000, filesOfBob().length]).toEqual([true, 0])
})

test('a message that waits for its files holds up nothing behind it', async () => {
  await mallory.say('request', request(manifestOf(randomBytes(100))))
  const id = newMessageId(systemRandom)
  await mallory.say('request', { intent: FLIGHTS, parameters: {} }, { id })
  await mallory.until(() => mallory.envelopes.some(({ type }) => type === 'response'))
  expect(handed.map((seen) => seen.id)).toEqual([id])
})

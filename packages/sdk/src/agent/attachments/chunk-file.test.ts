import { mkdtempSync, readFileSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, it } from 'vitest'
import { systemRandom } from '../../crypto/index.ts'
import { ATTACHMENT_CHUNK_BYTES } from '../../wire/index.ts'
import { ChunkFile, sealedSize } from './chunk-file.ts'

const NAME = 'a'.repeat(32)
const SIZE = ATTACHMENT_CHUNK_BYTES + 5
const last = Uint8Array.of(1, 2, 3, 4, 5)
const first = new Uint8Array(ATTACHMENT_CHUNK_BYTES).fill(7)

let folder: string
const open = (name = NAME) =>
  new ChunkFile({ folder, storageKey: new Uint8Array(32).fill(3), random: systemRandom }, name, () => SIZE)

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'agentmesh-'))
})
afterEach(() => rmSync(folder, { recursive: true }))

it('keeps chunks sealed, in whatever order they come', async () => {
  const file = open()
  file.write(1, last)
  expect([file.has(0), file.has(1)]).toEqual([false, true])
  file.write(0, first)
  await file.sync()
  file.close()
  const again = open()
  expect([again.read(0), again.read(1)]).toEqual([first, last])
  again.close()
  const { size, mode } = statSync(join(folder, NAME))
  expect([size, mode & 0o777]).toEqual([sealedSize(SIZE), 0o600])
  expect(readFileSync(join(folder, NAME)).includes(Buffer.from(first.subarray(0, 16)))).toBe(false)
})

it('opens no chunk that was changed, cut, moved, or put under another name', () => {
  const file = open()
  file.write(0, first)
  file.write(1, last)
  file.close()
  const bytes = readFileSync(join(folder, NAME))
  const other = 'b'.repeat(32)
  writeFileSync(join(folder, other), bytes)
  bytes[100] = (bytes[100] ?? 0) ^ 1
  writeFileSync(join(folder, NAME), bytes.subarray(0, -1))
  for (const name of [NAME, other]) {
    const read = open(name)
    for (const index of [0, 1])
      expect(() => read.read(index)).toThrow(expect.objectContaining({ code: 'STATE_DAMAGED' }))
    read.close()
  }
})

it('follows no link, and takes no name but its own', () => {
  symlinkSync(join(folder, 'elsewhere'), join(folder, NAME))
  expect(() => open().write(0, first)).toThrow(expect.objectContaining({ code: 'STATE_WRITE_FAILED' }))
  expect(() => open('../passwd')).toThrow(expect.objectContaining({ code: 'STATE_DAMAGED' }))
})

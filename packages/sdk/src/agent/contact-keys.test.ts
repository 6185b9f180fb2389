/** Answers of a registry held to what was seen of a peer before. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { amidFromBytes, type AgentRecord, type Bundle } from '../wire/index.ts'
import { checkContactKeys } from './contact-keys.ts'
import { openCore, type OpenedCore } from './open-core.ts'

const peer = amidFromBytes(new Uint8Array(20).fill(1))

let folder: string
let opened: OpenedCore

beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), 'agentmesh-contact-'))
  opened = await openCore({ home: join(folder, 'home') })
})
afterEach(async () => {
  await opened.core.audit.close()
  opened.release()
  rmSync(folder, { recursive: true })
})

interface Sequences {
  record: number
  /** Of the exchange key, in the record and in the bundle. */
  shown: number
  ik: number
  spk: number
  opk?: number
  'pq-one'?: number
  'pq-last'?: number
}

const FIRST: Sequences = { record: 10, shown: 10, ik: 10, spk: 10, opk: 10, 'pq-one': 10 }

/** Accepted, or the code it was refused with. */
async function taken(changes: Partial<Sequences>, otherKey = false): Promise<string> {
  const numbers = { ...FIRST, ...changes }
  const exchange = (sequence: number, key = 'x25519:ik') => ({
    kind: 'ik',
    sequence,
    key: `${key} ${sequence}`,
  })
  const prekey = (kind: 'spk' | 'opk' | 'pq-one' | 'pq-last') => ({ kind, sequence: numbers[kind] })
  const record = { sequence: numbers.record, public_keys: { exchange_key: exchange(numbers.shown) } }
  const bundle = {
    exchange_key: exchange(numbers.ik, otherKey ? 'x25519:other' : undefined),
    signed_prekey: prekey('spk'),
    one_time_prekey: numbers.opk === undefined ? undefined : prekey('opk'),
    kem_prekey: prekey(numbers['pq-last'] === undefined ? 'pq-one' : 'pq-last'),
  }
  const { core } = opened
  return core.store
    .commit(() => checkContactKeys(core, peer, record as AgentRecord, bundle as Bundle))
    .then(
      () => 'taken',
      (error: { code: string }) => error.code,
    )
}

test('the first answer is taken, and again, and newer ones', async () => {
  expect(await taken({})).toBe('taken')
  expect(await taken({})).toBe('taken')
  expect(await taken({ record: 11, shown: 11, ik: 11, spk: 12, opk: 13, 'pq-last': 11 })).toBe('taken')
})

test.each(['record', 'spk', 'opk', 'pq-one'] as const)(
  'an older %s than was seen is refused',
  async (kind) => {
    expect(await taken({})).toBe('taken')
    expect(await taken({ [kind]: 9 })).toBe('REGISTRY_ANSWER_INVALID')
    expect(await taken({})).toBe('taken')
  },
)

test('an older exchange key than was seen is refused, in record and bundle alike', async () => {
  expect(await taken({})).toBe('taken')
  expect(await taken({ shown: 9, ik: 9 })).toBe('REGISTRY_ANSWER_INVALID')
})

test('an older last-resort key is refused though one-time ones came between', async () => {
  expect(await taken({ 'pq-last': 10 })).toBe('taken')
  expect(await taken({})).toBe('taken')
  expect(await taken({ 'pq-last': 9 })).toBe('REGISTRY_ANSWER_INVALID')
})

test('a bundle whose exchange key is older than the one of its record is refused, also at first contact', async () => {
  expect(await taken({ ik: 9 })).toBe('REGISTRY_ANSWER_INVALID')
  expect(opened.core.store.tables.contacts.get(peer)).toBeUndefined()
})

test('a bundle with another exchange key of the same number as its record’s is refused', async () => {
  expect(await taken({}, true)).toBe('REGISTRY_ANSWER_INVALID')
})

test('what is refused moves nothing: the last good answer is still taken', async () => {
  expect(await taken({})).toBe('taken')
  expect(await taken({ record: 20, spk: 9 })).toBe('REGISTRY_ANSWER_INVALID')
  expect(await taken({})).toBe('taken')
})

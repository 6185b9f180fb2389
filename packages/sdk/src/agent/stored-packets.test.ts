import { beforeEach, expect, it } from 'vitest'
import { amidFromBytes, messageIdFromBytes, type MessageId, type MessageType } from '../wire/index.ts'
import { StoredPackets } from './stored-packets.ts'
import type { PacketRow } from './tables.ts'

const amid = (number: number) => amidFromBytes(new Uint8Array(20).fill(number))
function packet(order: number, type: MessageType = 'message', to = amid(1)): PacketRow {
  const bytes = Uint8Array.from([0, 0, 0, 0, 0, 0, 0x40, 0, 0x80, 0, 0, 0, 0, 0, 0, 0])
  new DataView(bytes.buffer).setUint32(0, order)
  const id = messageIdFromBytes(bytes)
  return { id, to, type, packet: bytes, awaitsReceipt: false, order, expiresAt: 1000 + order }
}

let done: MessageId[]
let stored: StoredPackets
beforeEach(() => {
  done = []
  stored = new StoredPackets((id) => done.push(id))
})

it('gives back what a peer that moved left behind, in order, once', () => {
  const packets = [packet(1), packet(2, 'accept'), packet(3)]
  for (const each of packets) stored.add(each)
  stored.add(packet(4, 'message', amid(2)))
  expect(stored.take(amid(1))).toEqual(packets.map(({ id }) => id))
  expect(stored.take(amid(1))).toEqual([])
  expect([stored.size, done]).toEqual([1, []])
})

it('keeps nothing that a stranger can have us make, and no CLOSE: nothing comes after it', () => {
  const packets = (['reject', 'reset', 'close'] as const).map((type, index) => packet(index, type))
  for (const each of packets) stored.add(each)
  expect(done).toEqual(packets.map(({ id }) => id))
  expect(stored.size).toBe(0)
})

it('lets go of what came before something that the peer confirmed, and of nothing else', () => {
  for (const order of [1, 2, 4]) stored.add(packet(order))
  stored.add(packet(0, 'message', amid(2)))
  stored.confirmed(amid(1), 3)
  expect(done).toEqual([packet(1).id, packet(2).id])
  expect(stored.has(packet(4).id)).toBe(true)
  expect(stored.size).toBe(2)
})

it('is bounded in number and in time', () => {
  for (let order = 0; order < 100; order++) stored.add(packet(order))
  expect(stored.size).toBe(64)
  expect(done).toEqual(Array.from({ length: 36 }, (_, order) => packet(order).id))
  stored.expire(1098)
  expect(stored.take(amid(1))).toEqual([packet(99).id])
})

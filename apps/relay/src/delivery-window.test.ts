import { describe, expect, it } from 'vitest'
import { amidFromBytes, messageIdFromBytes } from '@agentmesh/sdk/wire'
import { DeliveryWindow, type InFlight } from './delivery-window.ts'

const from = amidFromBytes(new Uint8Array(20).fill(2))

function entry(number: number, size = 1): InFlight<string> {
  const bytes = Uint8Array.from([0, 0, 0, number, 0, 0, 0x40, 0, 0x80, 0, 0, 0, 0, 0, 0, 0])
  const id = messageIdFromBytes(bytes)
  const payload = new Uint8Array(size)
  const message = { to: from, from, id, type: 'message', timestamp: 0, payload } as const
  return { message, place: undefined, sender: 'sender' }
}

describe('DeliveryWindow', () => {
  it('numbers from 1 and acknowledges cumulatively, oldest first', () => {
    const window = new DeliveryWindow<string>()
    const entries = [entry(1), entry(2), entry(3)]
    expect(entries.map((each) => window.add(each))).toEqual([1, 2, 3])
    expect(window.acknowledge(2)).toEqual(entries.slice(0, 2))
    expect([...window.entries()]).toEqual([entries[2]])
  })

  it('takes an older or repeated number as nothing new', () => {
    const window = new DeliveryWindow<string>()
    window.add(entry(1))
    window.add(entry(2))
    window.acknowledge(2)
    expect(window.acknowledge(2)).toEqual([])
    expect(window.acknowledge(1)).toEqual([])
  })

  it('refuses a number it never sent, and changes nothing', () => {
    const window = new DeliveryWindow<string>()
    window.add(entry(1))
    expect(() => window.acknowledge(2)).toThrow(expect.objectContaining({ code: 'ACK_OUT_OF_RANGE' }))
    expect(() => window.acknowledge(0xffff_ffff)).toThrow(
      expect.objectContaining({ code: 'ACK_OUT_OF_RANGE' }),
    )
    expect(window.count).toBe(1)
  })

  it('finds a message until it is acknowledged', () => {
    const window = new DeliveryWindow<string>()
    const sent = entry(1)
    window.add(sent)
    expect(window.find(from, sent.message.id)).toBe(sent)
    window.acknowledge(1)
    expect(window.find(from, sent.message.id)).toBeUndefined()
  })

  it('has room by number and by bytes', () => {
    const window = new DeliveryWindow<string>()
    window.add(entry(1, 100))
    expect(window.hasRoom(2, 101)).toBe(true)
    expect(window.hasRoom(1, 101)).toBe(false)
    expect(window.hasRoom(2, 100)).toBe(false)
    window.acknowledge(1)
    expect([window.count, window.bytes]).toEqual([0, 0])
  })
})

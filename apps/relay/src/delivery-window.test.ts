import { describe, expect, it } from 'vitest'
import { amidFromBytes, messageIdFromBytes } from '@agentmesh/sdk/wire'
import { DeliveryWindow } from './delivery-window.ts'
import { InFlight, MessageInPlace } from './in-place/message-in-place.ts'

const from = amidFromBytes(new Uint8Array(20).fill(2))

function entry(number: number, size = 1): InFlight<string> {
  const bytes = Uint8Array.from([0, 0, 0, number, 0, 0, 0x40, 0, 0x80, 0, 0, 0, 0, 0, 0, 0])
  const id = messageIdFromBytes(bytes)
  const payload = new Uint8Array(size)
  const message = MessageInPlace.of({ to: from, id, type: 'message', payload })
  return new InFlight<string>(message, from, 0, 'sender', undefined)
}

function acknowledge(window: DeliveryWindow<string>, sequence: number): InFlight<string>[] {
  const done: InFlight<string>[] = []
  for (let each = window.takeUpTo(sequence); each !== undefined; each = window.takeUpTo(sequence)) {
    done.push(each)
  }
  return done
}

describe('DeliveryWindow', () => {
  it('numbers from 1 and acknowledges cumulatively, oldest first', () => {
    const window = new DeliveryWindow<string>()
    const entries = [entry(1), entry(2), entry(3)]
    for (const each of entries) window.add(each)
    expect(entries.map(({ sequence }) => sequence)).toEqual([1, 2, 3])
    expect(acknowledge(window, 2)).toEqual(entries.slice(0, 2))
    expect([...window.entries()]).toEqual([entries[2]])
  })

  it('takes an older or repeated number as nothing new', () => {
    const window = new DeliveryWindow<string>()
    window.add(entry(1))
    window.add(entry(2))
    acknowledge(window, 2)
    expect(acknowledge(window, 2)).toEqual([])
    expect(acknowledge(window, 1)).toEqual([])
  })

  it('knows the highest number it gave', () => {
    const window = new DeliveryWindow<string>()
    window.add(entry(1))
    window.add(entry(2))
    acknowledge(window, 2)
    expect(window.sent).toBe(2)
  })

  it('finds a message until it is acknowledged', () => {
    const window = new DeliveryWindow<string>()
    const sent = entry(1)
    window.add(sent)
    expect(window.find(from, sent)).toBe(sent)
    acknowledge(window, 1)
    expect(window.find(from, sent)).toBeUndefined()
  })

  it('tells messages apart whose ids collide, and senders who chose one id', () => {
    const window = new DeliveryWindow<string>()
    const [one, two] = [entry(1), entry(2)]
    ;[two.idA, two.idB] = [one.idB, one.idA]
    two.idC = one.idC
    two.idD = one.idD
    const others = new InFlight<string>(one, amidFromBytes(new Uint8Array(20).fill(3)), 0, 'other', undefined)
    for (const each of [one, two, others, entry(3)]) window.add(each)
    const found = () => [one, two, others].map((each) => window.find(each.from, each))
    expect(found()).toEqual([one, two, others])
    acknowledge(window, 2)
    expect(found()).toEqual([undefined, undefined, others])
  })

  it('finds each of many, and none that is acknowledged', () => {
    const window = new DeliveryWindow<string>()
    const entries = Array.from({ length: 600 }, (_, index) => {
      const each = entry(index & 0xff)
      each.idD = index * 7919
      return each
    })
    for (const each of entries) window.add(each)
    expect(entries.map((each) => window.find(from, each))).toEqual(entries)
    acknowledge(window, 350)
    expect(entries.map((each) => window.find(from, each))).toEqual(
      entries.map((each, index) => (index < 350 ? undefined : each)),
    )
  })

  it('keeps count and order over many acknowledgements', () => {
    const window = new DeliveryWindow<string>()
    let acknowledged = 0
    for (let number = 1; number <= 300; number++) {
      window.add(entry(number & 0xff))
      if (number % 7 === 0) {
        const done = acknowledge(window, number - 3)
        expect(done.map(({ sequence }) => sequence)).toEqual(
          Array.from({ length: number - 3 - acknowledged }, (_, index) => acknowledged + 1 + index),
        )
        acknowledged = number - 3
      }
      expect(window.count).toBe(number - acknowledged)
      expect(window.entries()[0]?.sequence).toBe(number === acknowledged ? undefined : acknowledged + 1)
    }
  })

  it('has room by number and by bytes', () => {
    const window = new DeliveryWindow<string>()
    window.add(entry(1, 100))
    expect(window.hasRoom(2, 101)).toBe(true)
    expect(window.hasRoom(1, 101)).toBe(false)
    expect(window.hasRoom(2, 100)).toBe(false)
    acknowledge(window, 1)
    expect([window.count, window.bytes]).toEqual([0, 0])
  })
})

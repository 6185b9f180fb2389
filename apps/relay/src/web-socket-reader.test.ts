import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { NO_STATUS, WebSocketFault, WebSocketReader, type WebSocketSink } from './web-socket-reader.ts'

const LIMITS = { maxMessageBytes: 70_000, maxFragments: 8 }

/** A sink should take no such text: it shows that nobody else looks. */
const TAKEN = 'taken \xff'

type Event = readonly [string, ...(string | number)[]]

class Recorder implements WebSocketSink {
  readonly events: Event[] = []
  takes(data: Buffer, start: number, end: number, isText: boolean): boolean {
    if (data.toString('latin1', start, end) !== TAKEN) return false
    this.events.push(['taken', isText ? 'text' : 'binary'])
    return true
  }
  onMessage(data: Buffer, start: number, end: number, isText: boolean): void {
    this.events.push([isText ? 'text' : 'binary', data.toString('latin1', start, end)])
  }
  onPing(payload: Buffer): void {
    this.events.push(['ping', payload.toString('latin1')])
  }
  onPong(): void {
    this.events.push(['pong'])
  }
  onClose(code: number): void {
    this.events.push(['close', code])
  }
}

interface FrameParts {
  readonly opcode: number
  readonly payload?: Uint8Array | string
  readonly final?: boolean
  readonly reserved?: number
  readonly masked?: boolean
  /** 0, 126 or 127: which form of the length, whatever the length is. */
  readonly form?: number
}

function frame({
  opcode,
  payload = '',
  final = true,
  reserved = 0,
  masked = true,
  form,
}: FrameParts): Buffer {
  const body = Buffer.from(payload)
  const key = masked ? Buffer.from([0x12, 0xf4, 0x56, 0x89]) : Buffer.alloc(0)
  const used = form ?? (body.length < 126 ? 0 : body.length < 65_536 ? 126 : 127)
  const header = Buffer.alloc(used === 0 ? 2 : used === 126 ? 4 : 10)
  header[0] = (final ? 0x80 : 0) | (reserved << 4) | opcode
  header[1] = (masked ? 0x80 : 0) | (used === 0 ? body.length : used)
  if (used === 126) header.writeUInt16BE(body.length, 2)
  if (used === 127) header.writeBigUInt64BE(BigInt(body.length), 2)
  const data = Buffer.from(body)
  if (masked) for (let index = 0; index < data.length; index++) data[index]! ^= key[index % 4]!
  return Buffer.concat([header, key, data])
}

/** Events and the close code of the fault, where one ended it. */
function read(data: Buffer, cuts: readonly number[] = []): { events: Event[]; fault: number | undefined } {
  const recorder = new Recorder()
  const reader = new WebSocketReader(recorder, LIMITS)
  const places = [0, ...cuts.map((cut) => cut % (data.length + 1)).toSorted((a, b) => a - b), data.length]
  try {
    for (let index = 1; index < places.length; index++) {
      // Behind what was read there is something of another connection.
      const piece = data.subarray(places[index - 1], places[index])
      reader.read(Buffer.concat([piece, Buffer.alloc(20, 0xff)]), piece.length)
    }
  } catch (error) {
    if (!(error instanceof WebSocketFault)) throw error
    return { events: recorder.events, fault: error.closeCode }
  }
  return { events: recorder.events, fault: undefined }
}

const size = fc.oneof(fc.nat({ max: 200 }), fc.constantFrom(125, 126, 127, 4096, 65_535, 65_536, 69_999))
const whole = fc
  .tuple(fc.constantFrom(1, 2, 9, 10), size, fc.nat({ max: 127 }))
  .map(([opcode, length, fill]) => ({
    opcode,
    payload: Buffer.alloc(opcode > 8 ? length % 126 : length, fill),
  }))

describe('WebSocketReader', () => {
  it('reads the same events from the same bytes, however they come', () => {
    const property = fc.property(
      fc.array(whole, { maxLength: 6 }),
      fc.array(fc.nat(), { maxLength: 12 }),
      (frames, cuts) => {
        const names: Record<number, string> = { 1: 'text', 2: 'binary', 9: 'ping', 10: 'pong' }
        const expected = frames.map(({ opcode, payload }) =>
          opcode === 10 ? ['pong'] : [names[opcode], payload.toString('latin1')],
        )
        expect(read(Buffer.concat(frames.map(frame)), cuts)).toEqual({ events: expected, fault: undefined })
      },
    )
    fc.assert(property, { numRuns: 200 })
  })

  it('reads byte by byte, fragments and what comes between them included', () => {
    const data = Buffer.concat([
      frame({ opcode: 1, payload: 'ab', final: false }),
      frame({ opcode: 9, payload: 'now' }),
      frame({ opcode: 0, payload: '', final: false }),
      frame({ opcode: 0, payload: Buffer.from('c\u00e4') }),
      frame({ opcode: 2, payload: Buffer.alloc(300, 5) }),
      frame({ opcode: 8, payload: Buffer.from([0x0b, 0xb8, 0x68, 0x69]) }),
    ])
    const expected = read(data)
    expect(expected.events.map(([kind]) => kind)).toEqual(['ping', 'text', 'binary', 'close'])
    expect(expected.events[1]).toEqual(['text', Buffer.from('abc\u00e4').toString('latin1')])
    expect(expected.events[3]).toEqual(['close', 3000])
    const everywhere = Array.from({ length: data.length }, (_, index) => index)
    expect(read(data, everywhere)).toEqual(expected)
  })

  it('finds the same fault, after the same events, however the bytes come', () => {
    const noise = fc.oneof(
      fc.uint8Array({ maxLength: 60 }).map((bytes) => Buffer.from(bytes)),
      fc
        .tuple(fc.array(whole, { maxLength: 3 }), fc.nat(), fc.nat({ max: 255 }))
        .map(([frames, at, value]) => {
          const data = Buffer.concat(frames.map(frame))
          if (data.length > 0) data[at % data.length] = value
          return data
        }),
    )
    fc.assert(
      fc.property(noise, fc.array(fc.nat(), { maxLength: 8 }), (data, cuts) => {
        expect(read(Buffer.from(data), cuts)).toEqual(read(Buffer.from(data)))
      }),
      { numRuns: 1000 },
    )
  })

  it('looks at nothing after a Close', () => {
    const data = Buffer.concat([frame({ opcode: 8 }), frame({ opcode: 3 })])
    expect(read(data)).toEqual({ events: [['close', NO_STATUS]], fault: undefined })
  })

  it('refuses a message that is too big before it comes, in one frame or in many', () => {
    expect(read(frame({ opcode: 2, payload: Buffer.alloc(70_001) }).subarray(0, 14)).fault).toBe(1009)
    const parts = [0, 1, 2].map((part) =>
      frame({ opcode: part === 0 ? 2 : 0, payload: Buffer.alloc(30_000), final: false }),
    )
    expect(read(Buffer.concat(parts).subarray(0, 60_030)).fault).toBe(1009)
    expect(read(frame({ opcode: 2, payload: Buffer.alloc(70_000) })).fault).toBe(undefined)
  })

  it('takes a ping within a message of the largest size', () => {
    const data = Buffer.concat([
      frame({ opcode: 2, payload: Buffer.alloc(70_000), final: false }),
      frame({ opcode: 9, payload: 'alive' }),
      frame({ opcode: 0 }),
    ])
    expect(read(data).events.map(([kind]) => kind)).toEqual(['ping', 'binary'])
  })

  it('offers every message to be taken as it lies, and checks as UTF-8 what is not', () => {
    for (const [opcode, name] of [
      [1, 'text'],
      [2, 'binary'],
    ] as const) {
      const taken = Buffer.from(TAKEN, 'latin1')
      expect(read(frame({ opcode, payload: taken }))).toEqual({ events: [['taken', name]], fault: undefined })
      const first = frame({ opcode, payload: taken.subarray(0, 3), final: false })
      const pieces = Buffer.concat([first, frame({ opcode: 0, payload: taken.subarray(3) })])
      expect(read(pieces)).toEqual({ events: [['taken', name]], fault: undefined })
    }
    expect(read(frame({ opcode: 1, payload: Buffer.from(`${TAKEN}.`, 'latin1') }))).toEqual({
      events: [],
      fault: 1007,
    })
  })

  it('refuses too many fragments', () => {
    const fragments = (count: number) =>
      Buffer.concat([
        frame({ opcode: 2, final: false }),
        ...Array.from({ length: count - 2 }, () => frame({ opcode: 0, final: false })),
        frame({ opcode: 0 }),
      ])
    expect(read(fragments(8)).fault).toBe(undefined)
    expect(read(fragments(9)).fault).toBe(1008)
  })

  it('needs no more memory for a promise than for what came of it', () => {
    const before = process.memoryUsage().arrayBuffers
    const readers = Array.from({ length: 500 }, () => new WebSocketReader(new Recorder(), LIMITS))
    const head = frame({ opcode: 2, payload: Buffer.alloc(69_000) }).subarray(0, 10)
    for (const reader of readers) reader.read(Buffer.from(head), head.length)
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(500 * 2048)
    expect(readers).toHaveLength(500)
  })

  it.each([
    ['a frame that is not masked', { opcode: 2, masked: false }, 1002],
    ['a length of 125 in two bytes', { opcode: 2, payload: Buffer.alloc(125), form: 126 }, 1002],
    ['a length of 65535 in eight', { opcode: 2, payload: Buffer.alloc(65_535), form: 127 }, 1002],
  ])('refuses %s', (_, parts, code) => {
    expect(read(frame(parts))).toEqual({ events: [], fault: code })
  })

  it('refuses a length whose highest bit is set', () => {
    const data = frame({ opcode: 2, payload: '', form: 127 })
    data[2] = 0x80
    expect(read(data).fault).toBe(1002)
  })
})

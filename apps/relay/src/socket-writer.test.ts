import { once } from 'node:events'
import { PassThrough, Writable } from 'node:stream'
import { describe, expect, it } from 'vitest'
import * as ws from 'ws'
import { Counters } from './counters.ts'
import { SocketWriter, WriteBatch } from './socket-writer.ts'

// The types leave out the reading half of `ws`.
const { Receiver } = ws as unknown as { Receiver: new (options: object) => Writable }

const TEXT = 0x81
const BINARY = 0x82

function write(writer: SocketWriter, first: number, payload: Uint8Array): void {
  const at = writer.take(first, payload.length)
  writer.slab.bytes.set(payload, at)
}

const sink = () => new Writable({ write: (_, __, done) => done() })

const turn = async () => new Promise((resolve) => setImmediate(resolve))

describe('SocketWriter', () => {
  it('writes once a turn, in order, what a WebSocket receiver reads back', async () => {
    const counters = new Counters()
    const socket = new PassThrough({ highWaterMark: 1 << 20 })
    const chunks: Buffer[] = []
    socket.on('data', (chunk: Buffer) => chunks.push(chunk))
    const writer = new SocketWriter(socket, new WriteBatch(), counters, () => {})
    const sizes = [0, 1, 125, 126, 10_000, 10_001, 65_535, 65_536, 163_840]
    write(writer, TEXT, Buffer.from('text ä'))
    for (const size of sizes) write(writer, BINARY, new Uint8Array(size).fill(size & 0xff))
    expect(counters.writes).toBe(0)
    await turn()
    await turn()
    expect(counters.writes).toBe(1)

    const received: [Buffer, boolean][] = []
    const receiver = new Receiver({ isServer: false, maxPayload: 1 << 20 })
    receiver.on('message', (data: Buffer, isBinary: boolean) => received.push([data, isBinary]))
    receiver.write(Buffer.concat(chunks))
    expect(received[0]).toEqual([Buffer.from('text ä'), false])
    expect(received.slice(1)).toEqual(sizes.map((size) => [Buffer.alloc(size, size & 0xff), true]))
  })

  it('takes the shortest form of a length', () => {
    const writer = new SocketWriter(new PassThrough(), new WriteBatch(), new Counters(), () => {})
    const headers = [125, 126, 65_535, 65_536].map((length) => {
      const before = writer.waiting
      writer.take(BINARY, length)
      return writer.waiting - before - length
    })
    expect(headers).toEqual([2, 4, 4, 10])
  })

  it('keeps what is held, whatever is written after it', async () => {
    const batch = new WriteBatch()
    const [holder, other] = [0, 1].map(() => new SocketWriter(sink(), batch, new Counters(), () => {}))
    const at = holder!.take(BINARY, 100)
    const { slab } = holder!
    slab.bytes.fill(7, at, at + 100)
    slab.hold()
    await turn()
    for (let round = 0; round < 50; round++) {
      for (const writer of [holder!, other!]) write(writer, BINARY, new Uint8Array(1000).fill(9))
      await turn()
    }
    expect(slab.bytes.subarray(at, at + 100)).toEqual(Buffer.alloc(100, 7))
  })

  it('holds little memory for a message on its way, and writes much in one piece when it did so lately', async () => {
    const batch = new WriteBatch()
    const writes: number[] = []
    const socket = new Writable({
      write: (data: Buffer, _, done) => {
        writes.push(data.length)
        done()
      },
    })
    const writer = new SocketWriter(socket, batch, new Counters(), () => {})
    write(writer, BINARY, new Uint8Array(300))
    expect(writer.slab.bytes.length).toBeLessThan(4096)
    writer.flush()
    for (const round of [0, 1]) {
      writes.length = 0
      for (let frame = 0; frame < 20; frame++) write(writer, BINARY, new Uint8Array(300))
      writer.flush()
      await turn()
      expect(writes.reduce((sum, length) => sum + length)).toBe(20 * 304)
      if (round === 1) expect(writes).toHaveLength(1)
    }
  })

  it('never gives the same bytes to two connections', () => {
    const batch = new WriteBatch()
    const held = Array.from({ length: 300 }, (_, index) => {
      const writer = new SocketWriter(sink(), batch, new Counters(), () => {})
      const at = writer.take(BINARY, 200)
      const { slab } = writer
      slab.bytes.fill(index & 0xff, at, at + 200)
      slab.hold()
      if (index % 3 === 0) writer.flush()
      return { slab, at, value: index & 0xff }
    })
    for (const { slab, at, value } of held) {
      expect(slab.bytes.subarray(at, at + 200).every((byte) => byte === value)).toBe(true)
      expect(slab.words.getUint8(at)).toBe(value)
    }
  })

  it('goes on in a slab that is held, and leaves it to others when it is not', async () => {
    const batch = new WriteBatch()
    const [first, second] = [0, 1].map(() => new SocketWriter(sink(), batch, new Counters(), () => {}))
    write(first!, BINARY, new Uint8Array(10))
    const { slab } = first!
    slab.hold()
    await turn()
    write(first!, BINARY, new Uint8Array(10))
    expect(first!.slab).toBe(slab)
    await turn()
    slab.drop()
    write(second!, BINARY, new Uint8Array(10))
    expect(second!.slab).toBe(slab)
    write(first!, BINARY, new Uint8Array(10))
    expect(first!.slab).not.toBe(slab)
  })

  it('shares no slab between two that write in one turn, however much they write', async () => {
    const batch = new WriteBatch()
    const written: Buffer[][] = [[], []]
    const writers = written.map((chunks) => {
      const socket = new Writable({
        write(chunk: Buffer, _, done) {
          chunks.push(Buffer.from(chunk))
          done()
        },
      })
      return new SocketWriter(socket, batch, new Counters(), () => {})
    })
    for (let round = 0; round < 40; round++) {
      for (let frame = 0; frame < 30; frame++) {
        for (const [index, writer] of writers.entries()) {
          write(writer, BINARY, new Uint8Array(1000).fill(index + 1))
        }
      }
      await turn()
    }
    for (const [index, chunks] of written.entries()) {
      const data = Buffer.concat(chunks)
      expect(data).toHaveLength(40 * 30 * 1004)
      for (let at = 0; at < data.length; at += 1004) {
        if (data[at + 4] !== index + 1 || data[at + 1003] !== index + 1) expect.fail(`frame at ${at}`)
      }
    }
  })

  it('never changes what a socket that is behind still holds', async () => {
    const socket = new PassThrough({ highWaterMark: 1 })
    const writer = new SocketWriter(socket, new WriteBatch(), new Counters(), () => {})
    const expected: number[] = []
    for (let round = 0; round < 30; round++) {
      write(writer, BINARY, new Uint8Array(60).fill(round))
      expected.push(BINARY, 60, ...new Uint8Array(60).fill(round))
      writer.flush()
      expect(writer.waiting).toBeGreaterThan(0)
    }
    const chunks: Buffer[] = []
    socket.on('data', (chunk: Buffer) => chunks.push(chunk))
    socket.end()
    await once(socket, 'end')
    expect(Buffer.concat(chunks)).toEqual(Buffer.from(expected))
  })

  it('tells what waits, and only when something does', async () => {
    const told: number[] = []
    const batch = new WriteBatch()
    const free = new SocketWriter(sink(), batch, new Counters(), (bytes) => told.push(bytes))
    write(free, BINARY, new Uint8Array(10))
    await turn()
    expect(told).toEqual([])
    const socket = new PassThrough({ highWaterMark: 1 })
    const behind = new SocketWriter(socket, batch, new Counters(), (bytes) => told.push(bytes))
    for (let round = 0; round < 3; round++) {
      write(behind, BINARY, new Uint8Array(98))
      await turn()
    }
    expect(told.length).toBeGreaterThan(1)
    expect(told).toEqual(told.toSorted((a, b) => a - b))
    expect(told.at(-1)).toBe(behind.waiting)
  })

  it('takes a last word from who is told, and sends nothing twice', async () => {
    const socket = new PassThrough({ highWaterMark: 1 })
    let told = false
    const writer: SocketWriter = new SocketWriter(socket, new WriteBatch(), new Counters(), () => {
      if (told) return
      told = true
      write(writer, TEXT, Buffer.from('bye'))
      writer.flush()
    })
    for (const letter of ['a', 'b']) {
      write(writer, TEXT, Buffer.from(letter))
      await turn()
    }
    const chunks: Buffer[] = []
    socket.on('data', (chunk: Buffer) => chunks.push(chunk))
    socket.end()
    await once(socket, 'end')
    const letters = Buffer.concat(chunks)
      .toString('latin1')
      .replaceAll(/[^a-z]/g, '')
    expect(letters).toBe('abyeb')
  })

  it('writes nothing to a socket that has ended', async () => {
    const counters = new Counters()
    const socket = new PassThrough()
    const writer = new SocketWriter(socket, new WriteBatch(), counters, () => {})
    write(writer, BINARY, new Uint8Array(10))
    socket.destroy()
    await turn()
    expect([counters.writes, writer.waiting]).toEqual([0, 0])
  })
})

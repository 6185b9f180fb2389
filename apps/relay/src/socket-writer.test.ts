import { PassThrough, type Writable } from 'node:stream'
import { describe, expect, it } from 'vitest'
import * as ws from 'ws'
import { Counters } from './counters.ts'
import { frameHeader, SocketWriter, WriteBatch } from './socket-writer.ts'

// The types leave out the reading half of `ws`.
const { Receiver } = ws as unknown as { Receiver: new (options: object) => Writable }

const turn = async () => new Promise((resolve) => setImmediate(resolve))

describe('SocketWriter', () => {
  it('writes once a socket and turn, in order, what a WebSocket receiver reads back', async () => {
    const counters = new Counters()
    const socket = new PassThrough({ highWaterMark: 1 << 20 })
    const chunks: Buffer[] = []
    socket.on('data', (chunk: Buffer) => chunks.push(chunk))
    const writer = new SocketWriter(socket, new WriteBatch(), counters)
    const sizes = [0, 1, 125, 126, 65_535, 65_536, 163_840]
    writer.push('text ä')
    for (const size of sizes) writer.push(new Uint8Array(size).fill(size & 0xff))
    expect(counters.writes).toBe(0)
    await turn()
    await turn()
    expect(counters.writes).toBe(1)
    expect(chunks).toHaveLength(1)

    const received: [Buffer, boolean][] = []
    const receiver = new Receiver({ isServer: false, maxPayload: 1 << 20 })
    receiver.on('message', (data: Buffer, isBinary: boolean) => received.push([data, isBinary]))
    receiver.write(chunks[0])
    expect(received[0]).toEqual([Buffer.from('text ä'), false])
    expect(received.slice(1)).toEqual(sizes.map((size) => [Buffer.alloc(size, size & 0xff), true]))
  })

  it('counts what waits, before and after the write', async () => {
    const socket = new PassThrough({ highWaterMark: 1 })
    const writer = new SocketWriter(socket, new WriteBatch(), new Counters())
    writer.push(new Uint8Array(1000))
    expect(writer.waiting).toBe(1004)
    writer.flush()
    writer.push(new Uint8Array(10))
    writer.flush()
    expect(writer.waiting).toBeGreaterThan(0)
  })

  it('writes nothing to a socket that has ended', async () => {
    const counters = new Counters()
    const socket = new PassThrough()
    const writer = new SocketWriter(socket, new WriteBatch(), counters)
    writer.push(new Uint8Array(10))
    socket.destroy()
    await turn()
    expect([counters.writes, writer.waiting]).toEqual([0, 0])
  })
})

it('frame headers have the shortest form of the length', () => {
  expect([125, 126, 65_535, 65_536].map((length) => frameHeader(0x82, length).length)).toEqual([2, 4, 4, 10])
})

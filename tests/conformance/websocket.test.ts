/**
 * WebSocket conformance: the cases of the Autobahn test suite, groups 1 to 5, 7, 9 (scaled to what a relay takes) and 10, run
 * against a relay as an agent would meet it. Group 6, UTF-8, is in `websocket-utf8.test.ts`.
 *
 * A case that is legal must lead to the protocol's own answer (`echo` comes back, a ping gets its pong), one that is not to the close
 * code that RFC 6455 asks for. Verdicts are those of the suite; where nothing is said behind a case's number, it is OK.
 */
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { startRelay, type RunningRelay } from '@agentmesh/relay'
import {
  BINARY,
  CLOSE,
  closeFrame,
  CONTINUATION,
  fragments,
  frame,
  PING,
  PONG,
  TEXT,
  WebSocketPeer,
  type Kind,
  type ServerFrame,
} from './web-socket-peer.ts'

const unlimited = { perSecond: 1e6, burst: 1e6 }
let relay: RunningRelay
const peers: WebSocketPeer[] = []

beforeAll(async () => {
  const limits = { signatureChecksPerIp: unlimited, closeGraceMs: 300 }
  relay = await startRelay({ dataPath: ':memory:', limits })
})
afterEach(() => {
  for (const peer of peers.splice(0)) peer.destroy()
})
afterAll(async () => relay.close())

async function open(kind: Kind = 'binary'): Promise<WebSocketPeer> {
  const peer = await WebSocketPeer.open(relay.port, kind)
  peers.push(peer)
  return peer
}

async function openWith(...data: readonly Uint8Array[]): Promise<WebSocketPeer> {
  const peer = await open()
  peer.write(...data)
  return peer
}

async function expectEnding(peer: WebSocketPeer, code: number | 'no status'): Promise<void> {
  expect((await peer.drain()).ending).toBe(code)
}

const pongs = (frames: readonly ServerFrame[]) =>
  frames.filter(({ opcode }) => opcode === PONG).map(({ payload }) => payload.toString('latin1'))

describe('1 framing', () => {
  const SIZES = [125, 126, 127, 128, 65_535, 65_536]
  describe.each([
    ['1.1', 'text'],
    ['1.2', 'binary'],
  ] as const)('%s: %s messages', (group, kind) => {
    it(`${group}.1: empty, which is no frame of the relay protocol and is refused as such`, async () => {
      const peer = await open(kind)
      peer.write(frame(peer.opcode))
      const { frames, ending } = await peer.drain()
      expect(frames[0]?.opcode).toBe(peer.opcode)
      expect(ending).toBe(kind === 'text' ? 1008 : 1007)
    })
    it.each(SIZES.map((size, index) => [`${group}.${index + 2}`, size] as const))(
      '%s: %d bytes',
      async (_, size) => {
        const peer = await open(kind)
        if (kind === 'text' && size < 300) {
          // Too few for a SEND in JSON.
          peer.write(frame(TEXT, peer.queryBody(size)))
          expect((await peer.nextMessage()).frame).toBe('PRESENCE_RESULT')
        } else {
          peer.write(frame(peer.opcode, peer.echoBody(size)))
          expect(await peer.echoes(1)).toEqual([])
        }
      },
    )
    it(`${group}.8: 65536 bytes in pieces of 997`, async () => {
      const peer = await open(kind)
      await peer.writeChopped(frame(peer.opcode, peer.echoBody(65_536)), 997)
      expect(await peer.echoes(1)).toEqual([])
    })
  })
})

describe('2 pings and pongs', () => {
  it.each([
    ['2.1', 'without payload', ''],
    ['2.2', 'with text', 'Hello, world!'],
    ['2.3', 'with bytes that are no text', Buffer.from([0x00, 0xff, 0xfe, 0xfd, 0xfc, 0xfb, 0x00, 0xff])],
    ['2.4', 'of 125 bytes', Buffer.alloc(125, 0xfe)],
  ])('%s: a ping %s gets its pong', async (_, __, payload) => {
    const peer = await openWith(frame(PING, payload))
    expect(pongs(await peer.works())).toEqual([Buffer.from(payload).toString('latin1')])
  })
  it('2.5: a ping of 126 bytes ends the connection', async () => {
    await expectEnding(await openWith(frame(PING, Buffer.alloc(126, 0xfe))), 1002)
  })
  it('2.6: a ping of 125 bytes, byte by byte', async () => {
    const peer = await open()
    await peer.writeChopped(frame(PING, Buffer.alloc(125, 0xfe)), 1)
    expect(pongs(await peer.works())).toHaveLength(1)
  })
  it.each([
    ['2.7', ''],
    ['2.8', 'unsolicited'],
  ])('%s: a pong nobody asked for (%j) is ignored', async (_, payload) => {
    const peer = await openWith(frame(PONG, payload))
    expect(await peer.works()).toEqual([])
  })
  it('2.9: a pong nobody asked for, then a ping', async () => {
    const peer = await openWith(frame(PONG, 'unsolicited'), frame(PING, 'ping'))
    expect(pongs(await peer.works())).toEqual(['ping'])
  })
  const ten = Array.from({ length: 10 }, (_, index) => `payload-${index}`)
  it('2.10: ten pings, all answered in order', async () => {
    const peer = await openWith(...ten.map((payload) => frame(PING, payload)))
    expect(pongs(await peer.works())).toEqual(ten)
  })
  it('2.11: ten pings, byte by byte', async () => {
    const peer = await open()
    for (const payload of ten) await peer.writeChopped(frame(PING, payload), 1)
    expect(pongs(await peer.works())).toEqual(ten)
  })
})

describe('3 reserved bits', () => {
  it('3.1: RSV 1 on a message', async () => {
    await expectEnding(await openWith(frame(BINARY, 'x', { reserved: 1 })), 1002)
  })
  it.each([
    ['3.2', 2, undefined],
    ['3.3', 3, 'frame'],
    ['3.4', 4, 'byte'],
  ] as const)('%s: a message, then RSV %d, then a ping, by %s', async (_, reserved, pieces) => {
    const peer = await open()
    const good = frame(peer.opcode, peer.echoBody())
    const all = [good, frame(BINARY, 'x', { reserved }), frame(PING)]
    if (pieces === 'byte') await peer.writeChopped(Buffer.concat(all), 1)
    else if (pieces === 'frame') for (const each of all) await peer.writeChopped(each, each.length)
    else peer.write(...all)
    const { frames, ending } = await peer.drain()
    expect([frames[0]?.opcode, ending, pongs(frames)]).toEqual([BINARY, 1002, []])
  })
  it('3.5: RSV 5 on a binary message', async () => {
    await expectEnding(await openWith(frame(BINARY, Buffer.alloc(8, 0xff), { reserved: 5 })), 1002)
  })
  it('3.6: RSV 6 on a ping', async () => {
    await expectEnding(await openWith(frame(PING, '', { reserved: 6 })), 1002)
  })
  it('3.7: RSV 7 on a Close', async () => {
    await expectEnding(await openWith(frame(CLOSE, '', { reserved: 7 })), 1002)
  })
})

describe('4 reserved opcodes', () => {
  it.each([
    ['4.1.1', 3, ''],
    ['4.1.2', 4, 'reserved opcode payload'],
    ['4.2.1', 11, ''],
    ['4.2.2', 12, 'reserved opcode payload'],
  ] as const)('%s: opcode %d', async (_, opcode, payload) => {
    await expectEnding(await openWith(frame(opcode, payload)), 1002)
  })
  it.each([
    ['4.1.3', 5, ''],
    ['4.1.4', 6, 'reserved opcode payload'],
    ['4.1.5', 7, 'reserved opcode payload'],
    ['4.2.3', 13, ''],
    ['4.2.4', 14, 'reserved opcode payload'],
    ['4.2.5', 15, 'reserved opcode payload'],
  ] as const)('%s: a message, then opcode %d, then a ping', async (_, opcode, payload) => {
    const peer = await open()
    peer.write(frame(peer.opcode, peer.echoBody()), frame(opcode, payload), frame(PING))
    const { frames, ending } = await peer.drain()
    expect([frames[0]?.opcode, ending, pongs(frames)]).toEqual([BINARY, 1002, []])
  })
})

describe('5 fragmentation', () => {
  it.each([
    ['5.1', PING],
    ['5.2', PONG],
  ])('%s: opcode %d in fragments', async (_, opcode) => {
    const peer = await openWith(
      frame(opcode, 'fragment1', { final: false }),
      frame(CONTINUATION, 'fragment2'),
    )
    await expectEnding(peer, 1002)
  })

  const WAYS = ['at once', 'by frame', 'by byte'] as const
  async function writeAs(peer: WebSocketPeer, way: (typeof WAYS)[number], frames: readonly Buffer[]) {
    if (way === 'at once') peer.write(...frames)
    else if (way === 'by frame') for (const each of frames) await peer.writeChopped(each, each.length)
    else await peer.writeChopped(Buffer.concat(frames), 1)
  }

  describe.each(['text', 'binary'] as const)('%s', (kind) => {
    it.each(WAYS.map((way, index) => [`5.${3 + index}`, way] as const))(
      '%s: a message in two, %s',
      async (_, way) => {
        const peer = await open(kind)
        await writeAs(peer, way, fragments(peer.opcode, peer.echoBody(), 2))
        expect(await peer.echoes(1)).toEqual([])
      },
    )
    it.each(WAYS.map((way, index) => [`5.${6 + index}`, way] as const))(
      '%s: a ping between the two, %s',
      async (_, way) => {
        const peer = await open(kind)
        const [first, second] = fragments(peer.opcode, peer.echoBody(), 2)
        await writeAs(peer, way, [first!, frame(PING, 'ping payload'), second!])
        expect(pongs(await peer.echoes(1))).toEqual(['ping payload'])
      },
    )
    it('5.18: two first fragments', async () => {
      const peer = await open(kind)
      const [first] = fragments(peer.opcode, peer.echoBody(), 2)
      peer.write(first!, frame(peer.opcode, 'fragment2'))
      await expectEnding(peer, 1002)
    })
    it.each([
      ['5.19', 'at once'],
      ['5.20', 'by frame'],
    ] as const)('%s: a message in five with pings between, %s', async (_, way) => {
      const peer = await open(kind)
      const parts = fragments(peer.opcode, peer.echoBody(), 5)
      parts.splice(2, 0, frame(PING, 'pongme 1!'))
      parts.splice(5, 0, frame(PING, 'pongme 2!'))
      await writeAs(peer, way, parts)
      expect(pongs(await peer.echoes(1))).toEqual(['pongme 1!', 'pongme 2!'])
    })
  })

  it.each(
    WAYS.flatMap((way, index) => [
      [`5.${9 + index}`, 'last', true, way] as const,
      [`5.${12 + index}`, 'first', false, way] as const,
    ]),
  )('%s: a continuation of nothing (%s fragment: %s), then a message, %s', async (_, __, final, way) => {
    const peer = await open()
    const good = frame(peer.opcode, peer.echoBody())
    await writeAs(peer, way, [frame(CONTINUATION, 'non-continuation payload', { final }), good])
    await expectEnding(peer, 1002)
  })
  it('5.15: a message in two, then a continuation of nothing', async () => {
    const peer = await open()
    const parts = fragments(peer.opcode, peer.echoBody(), 2)
    peer.write(
      ...parts,
      frame(CONTINUATION, 'fragment3', { final: false }),
      frame(peer.opcode, peer.echoBody()),
    )
    const { frames, ending } = await peer.drain()
    expect([frames[0]?.opcode, ending]).toEqual([BINARY, 1002])
  })
  it.each([
    ['5.16', false],
    ['5.17', true],
  ])('%s: twice a continuation of nothing (FIN %s) before a message', async (_, final) => {
    const peer = await open()
    const stray = frame(CONTINUATION, 'fragment1', { final })
    peer.write(stray, frame(peer.opcode, 'fragment2'), stray, frame(peer.opcode, 'fragment4'))
    await expectEnding(peer, 1002)
  })
})

describe('7 closing', () => {
  it('7.1.1: a message, then Close', async () => {
    const peer = await open()
    expect(await peer.works()).toEqual([])
    peer.write(closeFrame(1000))
    await expectEnding(peer, 1000)
  })
  it('7.1.2: two Closes', async () => {
    await expectEnding(await openWith(closeFrame(1000), closeFrame(1000)), 1000)
  })
  it('7.1.3: a ping after Close is not answered', async () => {
    const peer = await openWith(closeFrame(1000), frame(PING))
    const { frames, ending } = await peer.drain()
    expect([pongs(frames), ending]).toEqual([[], 1000])
  })
  it('7.1.4: a message after Close is not taken', async () => {
    const peer = await open()
    peer.write(closeFrame(1000), frame(peer.opcode, peer.echoBody()))
    const { frames, ending } = await peer.drain()
    expect([frames.length, ending]).toEqual([1, 1000])
  })
  it('7.1.5: Close within a message', async () => {
    const peer = await open()
    const [first, second] = fragments(peer.opcode, peer.echoBody(), 2)
    peer.write(first!, closeFrame(1000), second!)
    const { frames, ending } = await peer.drain()
    expect([frames.length, ending]).toEqual([1, 1000])
  })
  it('7.1.6: a large message, a message, then Close', async () => {
    const peer = await open()
    peer.write(
      frame(peer.opcode, peer.echoBody(163_000)),
      frame(peer.opcode, peer.echoBody()),
      closeFrame(1000),
    )
    const { frames, ending } = await peer.drain()
    expect([frames.map(({ opcode }) => opcode), ending]).toEqual([[BINARY, BINARY, CLOSE], 1000])
  })

  it('7.3.1: a Close without a payload is answered with one', async () => {
    await expectEnding(await openWith(frame(CLOSE)), 'no status')
  })
  it('7.3.2: a Close with half a code', async () => {
    await expectEnding(await openWith(frame(CLOSE, 'a')), 1002)
  })
  it.each([
    ['7.3.3', 'without a reason', ''],
    ['7.3.4', 'with a reason', 'Hello World!'],
    ['7.3.5', 'with the longest reason', '*'.repeat(123)],
  ])('%s: a Close %s', async (_, __, reason) => {
    await expectEnding(await openWith(closeFrame(1000, reason)), 1000)
  })
  it('7.3.6: a Close with a reason too long', async () => {
    await expectEnding(await openWith(closeFrame(1000, '*'.repeat(124))), 1002)
  })
  it('7.5.1: a Close with a reason that is no UTF-8', async () => {
    const reason = Buffer.from('cebae1bdb9cf83cebcceb5eda080656469746564', 'hex')
    await expectEnding(await openWith(closeFrame(1000, reason)), 1007)
  })

  const VALID = [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999]
  it.each(VALID.map((code, index) => [`7.7.${index + 1}`, code] as const))(
    '%s: close code %d',
    async (_, code) => {
      await expectEnding(await openWith(closeFrame(code)), code)
    },
  )
  const INVALID = [0, 999, 1004, 1005, 1006, 1016, 1100, 2000, 2999]
  it.each(INVALID.map((code, index) => [`7.9.${index + 1}`, code] as const))(
    '%s: close code %d, which may not be sent',
    async (_, code) => expectEnding(await openWith(closeFrame(code)), 1002),
  )
  it.each([
    ['7.13.1', 5000],
    ['7.13.2', 65_535],
  ])('%s (INFORMATIONAL): close code %d, which nobody has given a meaning', async (_, code) => {
    await expectEnding(await openWith(closeFrame(code)), 1002)
  })
})

describe('9 limits', () => {
  const KIB = 1024
  // A message of a relay is at most 219,480 bytes and a payload 163,840: the suite's 64 KiB to 16 MiB end there.
  const SIZES = [16, 32, 64, 128, 160].map((size) => size * KIB)
  describe.each([
    ['9.1', 'text'],
    ['9.2', 'binary'],
  ] as const)('%s: %s', (group, kind) => {
    it.each(SIZES.map((size, index) => [`${group}.${index + 1}`, size] as const))(
      '%s (scaled): a message of %d bytes',
      async (_, size) => {
        const peer = await open(kind)
        peer.write(frame(peer.opcode, peer.echoBody(size)))
        expect(await peer.echoes(1)).toEqual([])
      },
    )
    it(`${group}.6 (scaled): more than a relay takes`, async () => {
      const peer = await open(kind)
      peer.write(frame(peer.opcode, Buffer.alloc(256 * KIB)))
      await expectEnding(peer, 1009)
    })
  })
  describe.each([
    ['9.3', 'text'],
    ['9.4', 'binary'],
  ] as const)('%s: %s in fragments', (group, kind) => {
    it.each([64, 32, 16, 8, 2].map((count, index) => [`${group}.${index + 1}`, count] as const))(
      '%s (scaled): 128 KiB in %d frames',
      async (_, count) => {
        const peer = await open(kind)
        peer.write(...fragments(peer.opcode, peer.echoBody(128 * KIB), count))
        expect(await peer.echoes(1)).toEqual([])
      },
    )
    it(`${group}.6 (NON-STRICT): more fragments than a relay takes end the connection`, async () => {
      const peer = await open(kind)
      peer.write(...fragments(peer.opcode, peer.echoBody(16 * KIB), 65))
      await expectEnding(peer, 1008)
    })
    it(`${group}.7 (scaled): more bytes than a relay takes, in frames that are small`, async () => {
      const peer = await open(kind)
      peer.write(...fragments(peer.opcode, Buffer.alloc(256 * KIB), 60))
      await expectEnding(peer, 1009)
    })
  })
  describe.each([
    ['9.5', 'text'],
    ['9.6', 'binary'],
  ] as const)('%s: %s in pieces', (group, kind) => {
    it.each([64, 128, 256, 512, 1024, 2048].map((size, index) => [`${group}.${index + 1}`, size] as const))(
      '%s (scaled): 64 KiB in pieces of %d bytes',
      async (_, size) => {
        const peer = await open(kind)
        await peer.writeChopped(frame(peer.opcode, peer.echoBody(64 * KIB)), size)
        expect(await peer.echoes(1)).toEqual([])
      },
    )
  })
  describe.each([
    ['9.7', 'text'],
    ['9.8', 'binary'],
  ] as const)('%s: %s, many', (group, kind) => {
    it.each([400, 1024, 4096, 16_384].map((size, index) => [`${group}.${index + 1}`, size] as const))(
      '%s (scaled): 100 messages of %d bytes, there and back',
      async (_, size) => {
        const peer = await open(kind)
        for (let round = 0; round < 100; round++) peer.write(frame(peer.opcode, peer.echoBody(size)))
        expect(await peer.echoes(100)).toEqual([])
      },
    )
  })
})

describe.each(['text', 'binary'] as const)('10 automatic fragmentation, %s', (kind) => {
  it('10.1.1: 65536 bytes in frames of 1300', async () => {
    const peer = await open(kind)
    const body = peer.echoBody(65_536)
    peer.write(...fragments(peer.opcode, body, Math.ceil(body.length / 1300)))
    expect(await peer.echoes(1)).toEqual([])
  })
})

it('a text message on a binary connection is the protocol’s to refuse, not the framing’s', async () => {
  const peer = await openWith(frame(TEXT, 'x'))
  const { frames, ending } = await peer.drain()
  expect([frames[0]?.opcode, ending]).toEqual([BINARY, 1007])
})

/**
 * WebSocket conformance, group 6 of the Autobahn test suite: text that is UTF-8 and text that is not, after Markus Kuhn's
 * stress test. The text of a case stands in a field of a JSON SEND that the relay does not know, so that the SEND comes back when the
 * text was taken; characters that JSON has no place for lead to the protocol's refusal, never to the framing's.
 */
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { startRelay, type RunningRelay } from '@agentmesh/relay'
import { CONTINUATION, fragments, frame, PING, TEXT, WebSocketPeer } from './web-socket-peer.ts'

let relay: RunningRelay
let peer: WebSocketPeer | undefined

beforeAll(async () => {
  const limits = { signatureChecksPerIp: { perSecond: 1e6, burst: 1e6 }, closeGraceMs: 300 }
  relay = await startRelay({ dataPath: ':memory:', limits })
})
afterEach(() => peer?.destroy())
afterAll(async () => relay.close())

async function open(): Promise<WebSocketPeer> {
  peer = await WebSocketPeer.open(relay.port, 'text')
  return peer
}

const hex = (text: string) => Buffer.from(text.replaceAll(' ', ''), 'hex')

/** What becomes of a JSON SEND with this text in it: `echo`, `refused by the protocol`, or the code of a Close. */
async function verdict(text: Uint8Array): Promise<string | number> {
  const agent = await open()
  agent.write(frame(TEXT, agent.withText(text)))
  const first = await agent.next()
  if (first?.opcode !== TEXT) return first === undefined ? 'ended' : first.payload.readUInt16BE(0)
  const { frame: name } = JSON.parse(first.payload.toString()) as { frame: string }
  return name === 'RECEIVE' ? 'echo' : name === 'ERROR' ? 'refused by the protocol' : name
}

describe('6.1 and 6.2: fragments', () => {
  it('6.1.1: an empty text message is no frame of the relay protocol', async () => {
    const agent = await open()
    agent.write(frame(TEXT))
    expect((await agent.drain()).ending).toBe(1008)
  })
  it('6.1.2: so is one in three empty fragments', async () => {
    const agent = await open()
    agent.write(...fragments(TEXT, new Uint8Array(0), 3))
    expect((await agent.drain()).ending).toBe(1008)
  })
  it('6.1.3: the first and the last of three are empty', async () => {
    const agent = await open()
    agent.write(
      frame(TEXT, '', { final: false }),
      frame(CONTINUATION, agent.echoBody(), { final: false }),
      frame(CONTINUATION),
    )
    expect(await agent.echoes(1)).toEqual([])
  })

  const text = Buffer.from('Hello-µ@ßöäüàá-UTF-8!!')
  it('6.2.1: valid UTF-8 in one', async () => {
    expect(await verdict(text)).toBe('echo')
  })
  it('6.2.2: in two', async () => {
    const agent = await open()
    agent.write(...fragments(TEXT, agent.withText(text), 2))
    expect(await agent.echoes(1)).toEqual([])
  })
  // A relay takes 64 fragments: the bytes of the text are apart, what is before and after it is not.
  it.each([
    ['6.2.3', text],
    ['6.2.4', hex('ce ba e1 bd b9 cf 83 ce bc ce b5')],
  ])('%s: a fragment a byte', async (_, bytes) => {
    const agent = await open()
    const body = agent.withText(bytes)
    const start = body.indexOf(bytes)
    agent.write(frame(TEXT, body.subarray(0, start), { final: false }))
    for (const byte of bytes) agent.write(frame(CONTINUATION, Uint8Array.of(byte), { final: false }))
    agent.write(frame(CONTINUATION, body.subarray(start + bytes.length)))
    expect(await agent.echoes(1)).toEqual([])
  })
})

const GREEK = 'ce ba e1 bd b9 cf 83 ce bc ce b5'

describe('6.3 and 6.4: text that is not UTF-8 ends the connection', () => {
  const broken = hex(`${GREEK} ed a0 80 65 64 69 74 65 64`)
  it('6.3.1: in one frame', async () => {
    expect(await verdict(broken)).toBe(1007)
  })
  it('6.3.2: a frame a byte', async () => {
    const agent = await open()
    agent.write(
      ...[...broken].map((byte, index) =>
        frame(index === 0 ? TEXT : CONTINUATION, Uint8Array.of(byte), { final: index === broken.length - 1 }),
      ),
    )
    expect((await agent.drain()).ending).toBe(1007)
  })
  // The relay judges a message when it is whole, and goes on answering until then.
  it.each([
    ['6.4.1', [GREEK, 'f4 90 80 80', '65 64 69 74 65 64']],
    ['6.4.2', [`${GREEK} f4`, '90', '80 80 65 64 69 74 65 64']],
  ])('%s (NON-STRICT): at the end of a message in fragments', async (_, parts) => {
    const agent = await open()
    const [first, second, third] = parts.map(hex)
    agent.write(
      frame(TEXT, first, { final: false }),
      frame(CONTINUATION, second, { final: false }),
      frame(PING),
    )
    expect((await agent.next())?.opcode).toBe(10)
    agent.write(frame(CONTINUATION, third))
    expect((await agent.drain()).ending).toBe(1007)
  })
  it.each([
    ['6.4.3', [GREEK, 'f4 90 80 80', '65 64 69 74 65 64']],
    ['6.4.4', [`${GREEK} f4`, '90', '80 80 65 64 69 74 65 64']],
  ])('%s (NON-STRICT): at the end of a frame that comes in pieces', async (_, parts) => {
    const agent = await open()
    const whole = frame(TEXT, hex(parts.join('')))
    const cut = whole.length - hex(parts[2]!).length
    await agent.writeChopped(whole.subarray(0, cut), cut)
    agent.write(whole.subarray(cut))
    expect((await agent.drain()).ending).toBe(1007)
  })
})

/** By group, in the order of the suite. */
const VALID: Record<string, readonly string[]> = {
  '6.5': [
    '48 65 6c 6c 6f 20 77 6f 72 6c 64',
    '48 65 6c 6c 6f 24 77 6f 72 6c 64',
    '48 65 6c 6c 6f c2 a2 77 6f 72 6c 64',
    '48 65 6c 6c 6f e2 82 ac 77 6f 72 6c 64',
    '48 65 6c 6c 6f f0 a4 ad a2 77 6f 72 6c 64',
  ],
  '6.7': ['00', 'c2 80', 'e0 a0 80', 'f0 90 80 80'],
  '6.9': ['7f', 'df bf', 'ef bf bf', 'f4 8f bf bf'],
  '6.11': ['ed 9f bf', 'ee 80 80', 'ef bf bd', 'f4 8f bf bf'],
  '6.22': Array.from({ length: 17 }, (_, plane) =>
    [0xfffe, 0xffff].map((low) => Buffer.from(String.fromCodePoint(plane * 0x1_0000 + low)).toString('hex')),
  ).flat(),
  '6.23': ['ef bf b9', 'ef bf ba', 'ef bf bb', 'ef bf bc', 'ef bf bd', 'ef bf be', 'ef bf bf'],
}

const INVALID: Record<string, readonly string[]> = {
  '6.8': ['f8 88 80 80 80', 'fc 84 80 80 80 80'],
  '6.10': ['f7 bf bf bf', 'fb bf bf bf bf', 'fd bf bf bf bf bf'],
  '6.11.5': ['f4 90 80 80'],
  '6.12': [
    '80',
    'bf',
    '80 bf',
    '80 bf 80',
    '80 bf 80 bf',
    '80 bf 80 bf 80',
    '80 bf 80 bf 80 bf',
    Buffer.from(Array.from({ length: 63 }, (_, index) => 0x80 + index)).toString('hex'),
  ],
  '6.13': [
    [0xc0, 0xdf],
    [0xe0, 0xef],
    [0xf0, 0xf7],
    [0xf8, 0xfb],
    [0xfc, 0xfd],
  ].map(([from = 0, to = 0]) =>
    Buffer.from(Array.from({ length: to - from + 1 }, (_, index) => [from + index, 0x20]).flat()).toString(
      'hex',
    ),
  ),
  '6.14': [
    'c0',
    'e0 80',
    'f0 80 80',
    'f8 80 80 80',
    'fc 80 80 80 80',
    'df',
    'ef bf',
    'f7 bf bf',
    'fb bf bf bf',
    'fd bf bf bf bf',
  ],
  '6.15': ['c0 e0 80 f0 80 80 f8 80 80 80 fc 80 80 80 80 df ef bf f7 bf bf fb bf bf bf fd bf bf bf bf'],
  '6.16': ['fe', 'ff', 'fe fe ff ff'],
  '6.17': ['c0 af', 'e0 80 af', 'f0 80 80 af', 'f8 80 80 80 af', 'fc 80 80 80 80 af'],
  '6.18': ['c1 bf', 'e0 9f bf', 'f0 8f bf bf', 'f8 87 bf bf bf', 'fc 83 bf bf bf bf'],
  '6.19': ['c0 80', 'e0 80 80', 'f0 80 80 80', 'f8 80 80 80 80', 'fc 80 80 80 80 80'],
  '6.20': ['ed a0 80', 'ed ad bf', 'ed ae 80', 'ed af bf', 'ed b0 80', 'ed be 80', 'ed bf bf'],
  '6.21': [
    'ed a0 80 ed b0 80',
    'ed a0 80 ed bf bf',
    'ed ad bf ed b0 80',
    'ed ad bf ed bf bf',
    'ed ae 80 ed b0 80',
    'ed ae 80 ed bf bf',
    'ed af bf ed b0 80',
    'ed af bf ed bf bf',
  ],
}

const cases = (groups: Record<string, readonly string[]>) =>
  Object.entries(groups).flatMap(([group, texts]) =>
    texts.map(
      (text, index) =>
        [texts.length === 1 && group !== '6.15' ? group : `${group}.${index + 1}`, text] as const,
    ),
  )

describe('6.5 to 6.23: text that is UTF-8 is taken', () => {
  it.each(cases(VALID))('%s: %s', async (_, text) => {
    const control = hex(text).length === 1 && hex(text)[0]! < 0x20
    expect(await verdict(hex(text))).toBe(control ? 'refused by the protocol' : 'echo')
  })
})

describe('6.6: every beginning of a word', () => {
  const word = hex(GREEK)
  /** Where a character ends. */
  const WHOLE = new Set([2, 5, 7, 9, 11])
  it.each(Array.from({ length: 11 }, (_, index) => [`6.6.${index + 1}`, index + 1] as const))(
    '%s: the first %d bytes',
    async (_, length) => {
      expect(await verdict(word.subarray(0, length))).toBe(WHOLE.has(length) ? 'echo' : 1007)
    },
  )
})

describe('6.8 to 6.21: text that is not UTF-8 ends the connection', () => {
  it.each(cases(INVALID))('%s: %s', async (_, text) => {
    expect(await verdict(hex(text))).toBe(1007)
  })
})

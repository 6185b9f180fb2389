import { once } from 'node:events'
import { connect as connectTcp, type Socket } from 'node:net'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { WebSocket } from 'ws'
import { startRelay, type RelayLimits, type RunningRelay } from '@agentmesh/relay'
import { systemRandom } from '@agentmesh/sdk/crypto/signing'
import { amidFromBytes, MAX_PAYLOAD_BYTES, newMessageId, RELAY_PATH } from '@agentmesh/sdk/wire'
import { connected, newIdentity, RawAgent, SUBPROTOCOLS } from './relay-harness.ts'

let relay: RunningRelay
const others: RunningRelay[] = []

async function restart(limits: Partial<RelayLimits>): Promise<void> {
  await relay.close()
  relay = await startRelay({ dataPath: ':memory:', limits })
}

beforeEach(async () => {
  relay = await startRelay({ dataPath: ':memory:', limits: { closeGraceMs: 200 } })
})
afterEach(async () => {
  await Promise.all([relay, ...others.splice(0)].map(async (each) => each.close()))
})

/** The code of the fatal ERROR that ends this connection. */
async function refusal(agent: RawAgent): Promise<string> {
  const error = await agent.next('ERROR')
  expect(error.fatal).toBe(true)
  await agent.closed
  return error.code
}

describe.each(SUBPROTOCOLS)('CONNECT on %s', (subprotocol) => {
  it('is refused when its signature was made for another connection', async () => {
    const victim = new RawAgent(relay.url, subprotocol)
    const connect = victim.signConnect(await victim.next('HELLO'))
    victim.write(connect)
    await victim.next('CONNECTED')

    const attacker = new RawAgent(relay.url, subprotocol)
    await attacker.next('HELLO')
    attacker.write(connect)
    expect(await refusal(attacker)).toBe('INVALID_SIGNATURE')
    await victim.settle()
    expect(relay.stats().agents).toBe(1)
  })

  it('is refused when its signature was made for another relay', async () => {
    const other = await startRelay({ dataPath: ':memory:' })
    others.push(other)
    const agent = new RawAgent(relay.url, subprotocol)
    agent.write(agent.signConnect(await agent.next('HELLO'), { relayId: new URL(other.url).host }))
    expect(await refusal(agent)).toBe('INVALID_SIGNATURE')
  })

  it.each([-301_000, 301_000])('is refused when its timestamp is %d ms off', async (offset) => {
    const agent = new RawAgent(relay.url, subprotocol)
    agent.write(agent.signConnect(await agent.next('HELLO'), { timestamp: Date.now() + offset }))
    expect(await refusal(agent)).toBe('CLOCK_SKEW')
  })

  it('is refused for somebody else’s AMID', async () => {
    const agent = new RawAgent(relay.url, subprotocol)
    agent.write(agent.signConnect(await agent.next('HELLO'), { amid: newIdentity().amid }))
    expect(await refusal(agent)).toBe('AMID_MISMATCH')
  })

  it('is refused for somebody else’s AMID and key with the attacker’s signature', async () => {
    const victim = newIdentity()
    const agent = new RawAgent(relay.url, subprotocol)
    const stolen = { amid: victim.amid, publicKey: victim.signing.publicKey }
    agent.write(agent.signConnect(await agent.next('HELLO'), stolen))
    expect(await refusal(agent)).toBe('INVALID_SIGNATURE')
  })

  it.each([
    ['the identity point', Uint8Array.of(1, ...new Uint8Array(31))],
    ['zero', new Uint8Array(32)],
    ['a non-canonical encoding', Uint8Array.of(0xee, ...new Uint8Array(30).fill(0xff), 0x7f)],
  ])('is refused for a weak key: %s', async (_, publicKey) => {
    const agent = new RawAgent(relay.url, subprotocol)
    agent.write(agent.signConnect(await agent.next('HELLO'), { publicKey, signature: new Uint8Array(64) }))
    expect(await refusal(agent)).toBe('INVALID_KEY')
  })

  it('is refused for a protocol version the relay does not speak', async () => {
    const agent = new RawAgent(relay.url, subprotocol)
    agent.write(agent.signConnect(await agent.next('HELLO'), { protocol: 'agentmesh/0.1' }))
    expect(await refusal(agent)).toBe('UNSUPPORTED_VERSION')
  })

  it('ends the connection when it comes twice', async () => {
    const agent = new RawAgent(relay.url, subprotocol)
    const connect = agent.signConnect(await agent.next('HELLO'))
    agent.write(connect)
    await agent.next('CONNECTED')
    agent.write(connect)
    expect(await refusal(agent)).toBe('ALREADY_CONNECTED')
    expect(relay.stats().agents).toBe(0)
  })

  it('must come before SEND', async () => {
    const agent = new RawAgent(relay.url, subprotocol)
    await agent.next('HELLO')
    agent.send(newIdentity().amid, 'too early')
    expect(await refusal(agent)).toBe('CONNECT_REQUIRED')
    expect(relay.stats().mailboxMessages).toBe(0)
  })
})

describe('frames', () => {
  it('an ACK for what was never sent ends the connection and loses nothing', async () => {
    const alice = await connected(relay.url)
    const bob = await connected(relay.url)
    const id = alice.send(bob.amid, 'kept')
    await bob.receive()
    bob.ack(2)
    expect(await refusal(bob)).toBe('ACK_OUT_OF_RANGE')
    expect(await alice.outcome(id)).toBe('stored')
  })

  it('a text frame on a binary connection ends it, and a binary one on a JSON connection', async () => {
    const binary = await connected(relay.url)
    binary.webSocket.send('{"frame":"ACK","sequence":0}')
    expect(await refusal(binary)).toBe('MALFORMED')
    const json = await connected(relay.url, { subprotocol: 'json' })
    json.webSocket.send(Uint8Array.of(3, 0, 0, 0, 0))
    expect(await refusal(json)).toBe('MALFORMED')
  })

  it.each([
    ['a frame cut short', Uint8Array.of(2, 4, 1, 2, 3)],
    ['an empty frame', new Uint8Array(0)],
    ['trailing bytes', Uint8Array.of(3, 0, 0, 0, 0, 9)],
  ])('%s ends a binary connection', async (_, bytes) => {
    const agent = await connected(relay.url)
    agent.webSocket.send(bytes)
    expect(await refusal(agent)).toBe('MALFORMED')
  })

  it.each([
    ['no JSON', 'hello', 'JSON_SYNTAX'],
    ['a key given twice', '{"frame":"ACK","sequence":0,"sequence":1}', 'JSON_DUPLICATE_KEY'],
    ['__proto__', '{"frame":"ACK","sequence":0,"__proto__":{}}', 'JSON_FORBIDDEN_KEY'],
    ['nesting without end', `${'['.repeat(100_000)}${']'.repeat(100_000)}`, 'JSON_DEPTH'],
    ['a look-alike AMID', '{"frame":"PRESENCE_QUERY","amid":"0OIl0OIl0OIl0OIl0OIl0OIl0OIl"}', 'MALFORMED'],
  ])('%s ends a JSON connection', async (_, text, code) => {
    const agent = await connected(relay.url, { subprotocol: 'json' })
    agent.webSocket.send(text)
    expect(await refusal(agent)).toBe(code)
  })

  it.each(SUBPROTOCOLS)('a SEND of an unknown type on %s is refused by name', async (subprotocol) => {
    const agent = await connected(relay.url, { subprotocol })
    const id = newMessageId(systemRandom)
    const idBytes = Buffer.from(id.replaceAll('-', ''), 'hex')
    const to = newIdentity().amid
    agent.webSocket.send(
      subprotocol === 'json'
        ? JSON.stringify({ frame: 'SEND', id, to, type: 'gossip', encrypted_payload: '' })
        : Buffer.concat([Uint8Array.of(2, 99), idBytes, new Uint8Array(20)]),
    )
    expect(await agent.outcome(id)).toBe('UNKNOWN_TYPE')
    await agent.settle()
  })

  it('an unknown frame is refused and the connection goes on', async () => {
    const agent = await connected(relay.url)
    agent.webSocket.send(Uint8Array.of(0x55, 1, 2))
    expect(await agent.next('ERROR')).toMatchObject({ code: 'UNKNOWN_TYPE', fatal: false })
    await agent.settle()
  })

  it.each(SUBPROTOCOLS)('a payload one byte too large on %s is refused by name', async (subprotocol) => {
    const alice = await connected(relay.url, { subprotocol })
    const bob = await connected(relay.url)
    const send = (size: number) => {
      const id = newMessageId(systemRandom)
      alice.write({ frame: 'SEND', id, to: bob.amid, type: 'message', payload: new Uint8Array(size) })
      return id
    }
    expect(await alice.outcome(send(MAX_PAYLOAD_BYTES + 1))).toBe('TOO_LARGE')
    const id = send(MAX_PAYLOAD_BYTES)
    const received = await bob.next('RECEIVE')
    expect(received.payload.length).toBe(MAX_PAYLOAD_BYTES)
    bob.ack(received.sequence)
    expect(await alice.outcome(id)).toBe('delivered')
  })

  it('a frame beyond all sizes ends the connection', async () => {
    const agent = await connected(relay.url)
    agent.webSocket.send(new Uint8Array(1024 * 1024))
    expect(await agent.closed).toBe(1009)
  })

  it('a message in fragments is read whole, one in too many ends the connection', async () => {
    const agent = await connected(relay.url)
    const query = Buffer.concat([Uint8Array.of(5), new Uint8Array(20).fill(3)])
    agent.webSocket.send(query.subarray(0, 5), { fin: false })
    agent.webSocket.send(query.subarray(5), { fin: true })
    const result = await agent.next('PRESENCE_RESULT')
    expect(result).toMatchObject({ amid: amidFromBytes(new Uint8Array(20).fill(3)), state: 'offline' })
    for (let index = 0; index < 200; index++) agent.webSocket.send(Uint8Array.of(1), { fin: false })
    expect(await agent.closed).toBe(1008)
  })

  it('a sender cannot choose its name: RECEIVE carries the AMID of the connection', async () => {
    const mallory = await connected(relay.url, { subprotocol: 'json' })
    const bob = await connected(relay.url)
    const id = newMessageId(systemRandom)
    mallory.webSocket.send(
      JSON.stringify({
        frame: 'SEND',
        id,
        to: bob.amid,
        from: newIdentity().amid,
        type: 'message',
        encrypted_payload: '',
      }),
    )
    expect((await bob.receive()).from).toBe(mallory.amid)
  })
})

describe('floods', () => {
  async function tcp(): Promise<Socket> {
    const socket = connectTcp(relay.port, '127.0.0.1')
    socket.on('error', () => {})
    await once(socket, 'connect')
    return socket
  }

  it('sockets that never connect are limited an address, and make room again when they end', async () => {
    await restart({ preAuthSocketsPerIp: 3 })
    const agent = await connected(relay.url)
    const silent = [await tcp(), await tcp(), await tcp()]
    const fourth = new WebSocket(relay.url + RELAY_PATH, 'agentmesh.v0.2.bin')
    const [error] = (await once(fourth, 'error')) as [Error]
    expect(error.message).toMatch(/429|ECONNRESET|socket hang up/)
    // Who is connected already notices nothing.
    await agent.settle()
    silent[0]!.destroy()
    await once(silent[0]!, 'close')
    await expect.poll(async () => (await connectedOrNot()) !== undefined, { timeout: 20_000 }).toBe(true)
  })

  async function connectedOrNot(): Promise<RawAgent | undefined> {
    return connected(relay.url).catch(() => undefined)
  }

  it('a socket that sends no header, half a header or no CONNECT is ended', async () => {
    await restart({ connectTimeoutMs: 100 })
    const silent = await tcp()
    const slow = await tcp()
    slow.write('GET /v1/connect HTTP/1.1\r\nHost: a\r\nX-Slow: ')
    const mute = new RawAgent(relay.url)
    expect(await refusal(mute)).toBe('CONNECT_TIMEOUT')
    await Promise.all([silent, slow].map(async (socket) => socket.closed || once(socket, 'close')))
    const agent = await connected(relay.url)
    await agent.settle()
  })

  it('signatures are checked only so often for one address', async () => {
    await restart({ signatureChecksPerIp: { perSecond: 0.01, burst: 2 } })
    await connected(relay.url)
    const forger = new RawAgent(relay.url)
    const hello = await forger.next('HELLO')
    forger.write(forger.signConnect(hello, { signature: new Uint8Array(64) }))
    expect(await refusal(forger)).toBe('INVALID_SIGNATURE')
    const third = new RawAgent(relay.url)
    third.write(third.signConnect(await third.next('HELLO')))
    const error = await third.next('ERROR')
    expect(error).toMatchObject({ code: 'RATE_LIMITED', fatal: true })
    expect(error.retryAfterSeconds).toBeGreaterThan(1)
  })

  it('a rate limit of an AMID survives connecting again', async () => {
    await restart({ sends: { perSecond: 0.001, burst: 3 } })
    const to = newIdentity().amid
    const first = await connected(relay.url)
    const outcomes = []
    for (let index = 0; index < 4; index++) outcomes.push(await first.outcome(first.send(to, `${index}`)))
    expect(outcomes).toEqual(['stored', 'stored', 'stored', 'RATE_LIMITED'])
    await first.close()
    const again = await connected(relay.url, { identity: first.identity, subprotocol: 'json' })
    expect(await again.outcome(again.send(to, 'again'))).toBe('RATE_LIMITED')
    const other = await connected(relay.url)
    expect(await other.outcome(other.send(to, 'another agent'))).toBe('stored')
  })

  it('KNOCKs have a limit of their own', async () => {
    await restart({ knocks: { perSecond: 0.001, burst: 1 } })
    const agent = await connected(relay.url)
    const to = newIdentity().amid
    expect(await agent.outcome(agent.send(to, '1', 'knock'))).toBe('stored')
    expect(await agent.outcome(agent.send(to, '2', 'knock'))).toBe('RATE_LIMITED')
    expect(await agent.outcome(agent.send(to, '3', 'message'))).toBe('stored')
  })

  it('an upgrade without one of our subprotocols is refused', async () => {
    const webSocket = new WebSocket(relay.url + RELAY_PATH, 'chat')
    const [error] = (await once(webSocket, 'error')) as [Error]
    expect(error.message).toContain('400')
    const both = new WebSocket(relay.url + RELAY_PATH, ['chat', 'agentmesh.v0.2.json'])
    await once(both, 'open')
    expect(both.protocol).toBe('agentmesh.v0.2.json')
    both.terminate()
  })
})

describe('slow readers', () => {
  it('who acknowledges nothing gets no more than the window; the rest waits in the mailbox, in order', async () => {
    await restart({ windowMessages: 4 })
    const alice = await connected(relay.url)
    const bob = await connected(relay.url)
    const ids = Array.from({ length: 10 }, (_, index) => alice.send(bob.amid, `${index}`))
    for (const id of ids.slice(4)) expect(await alice.outcome(id)).toBe('stored')
    await bob.settle()
    expect(bob.frames.filter((frame) => frame.frame === 'RECEIVE')).toHaveLength(4)
    const texts: string[] = []
    while (texts.length < 10) {
      const { sequence, text } = await bob.receive()
      texts.push(text)
      bob.ack(sequence)
    }
    expect(texts).toEqual(ids.map((_, index) => `${index}`))
    for (const id of ids.slice(0, 4)) expect(await alice.outcome(id)).toBe('delivered')
    // Empty again, the mailbox is out of the way.
    const live = alice.send(bob.amid, 'live')
    bob.ack((await bob.receive()).sequence)
    expect(await alice.outcome(live)).toBe('delivered')
  })

  it('who acknowledges nothing for too long is cut off, and finds everything on coming back', async () => {
    await restart({ ackTimeoutMs: 50 })
    const alice = await connected(relay.url)
    const bob = await connected(relay.url)
    const ids = ['a', 'b'].map((text) => alice.send(bob.amid, text))
    expect(await refusal(bob)).toBe('SLOW_READER')
    for (const id of ids) expect(await alice.outcome(id)).toBe('stored')
    const again = await connected(relay.url, { identity: bob.identity })
    expect(await again.receiveTexts(2)).toEqual(['a', 'b'])
  })

  it('who sends without reading its answers is not read either, and goes on when it reads', async () => {
    const unlimited = { perSecond: 1e9, burst: 1e9 }
    await restart({
      answerBufferBytes: 64 * 1024,
      socketBufferBytes: 4 * 1024 * 1024,
      framesPerIp: unlimited,
    })
    const agent = await connected(relay.url)
    agent.webSocket.pause()
    let answers = 0
    agent.webSocket.on('pong', () => (answers += 1))
    // Whatever the kernel buffers on the way, 25 MB do not fit.
    const payload = new Uint8Array(125)
    for (let n = 0; n < 200_000; n++) {
      agent.webSocket.ping(payload)
      if (n % 10_000 === 0) await new Promise((resolve) => setImmediate(resolve))
    }
    const other = await connected(relay.url)
    for (let n = 0; n < 20; n++) await other.settle()
    expect(agent.webSocket.bufferedAmount).toBeGreaterThan(0)
    agent.webSocket.resume()
    await agent.settle()
    expect(answers).toBe(200_000)
  })

  it('who stops reading its socket is cut off before it fills the memory', async () => {
    await restart({ socketBufferBytes: 256 * 1024, windowBytes: 64 * 1024 * 1024, closeGraceMs: 100 })
    const alice = await connected(relay.url)
    const bob = await connected(relay.url)
    bob.webSocket.pause()
    const payload = new Uint8Array(100 * 1024)
    const ids = []
    // Whatever the kernel buffers on the way, 60 MB do not fit.
    for (let index = 0; index < 600 && relay.stats().agents === 2; index++) {
      const id = newMessageId(systemRandom)
      ids.push(id)
      alice.write({ frame: 'SEND', id, to: bob.amid, type: 'message', payload })
      if (index % 20 === 19) await alice.settle().catch(() => {})
    }
    expect(relay.stats().agents).toBe(1)
    const outcomes = await Promise.all(ids.map(async (id) => alice.outcome(id)))
    expect(new Set(outcomes)).toEqual(new Set(['stored', 'SENDER_QUOTA']))
    // Every message that was promised is there, from the first on.
    const kept = outcomes.filter((outcome) => outcome === 'stored').length
    expect(outcomes.slice(0, kept)).toEqual(Array(kept).fill('stored'))
    expect(relay.stats().mailboxMessages).toBe(kept)
  })
})

/** The agent's side against a relay that follows a script: what a hostile or failing relay can make it do. */
import { once } from 'node:events'
import type { AddressInfo } from 'node:net'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { WebSocketServer, type WebSocket } from 'ws'
import { ed25519KeyPair, systemRandom, verify } from '../crypto/signing.ts'
import { connectSignatureParts, identityFromKeyPair } from '../identity/index.ts'
import {
  AgentMeshError,
  amidFromBytes,
  binaryCodec,
  newMessageId,
  newSessionId,
  PROTOCOL_VERSION,
  utf8Bytes,
  type AgentFrame,
  type RelayFrame,
} from '../wire/index.ts'
import { RelayConnection } from './relay-connection.ts'
import type { ReceivedMessage, TransportState } from './transport.ts'

const identity = identityFromKeyPair(ed25519KeyPair(new Uint8Array(32).fill(9)))
const peer = amidFromBytes(new Uint8Array(20).fill(5))
const NONCE = new Uint8Array(32).fill(7)

/** What the relay's end of one connection sees. */
class Seen {
  readonly webSocket: WebSocket
  readonly frames: AgentFrame[] = []
  #waiting: (() => void)[] = []

  constructor(webSocket: WebSocket) {
    this.webSocket = webSocket
    webSocket.on('message', (data) => {
      this.frames.push(binaryCodec.decodeFromAgent(data as Buffer))
      for (const resolve of this.#waiting.splice(0)) resolve()
    })
  }
  write(frame: RelayFrame): void {
    this.webSocket.send(binaryCodec.encode(frame))
  }
  async next<Name extends AgentFrame['frame']>(name: Name): Promise<Extract<AgentFrame, { frame: Name }>> {
    for (;;) {
      const index = this.frames.findIndex((frame) => frame.frame === name)
      if (index >= 0) return this.frames.splice(index, 1)[0] as Extract<AgentFrame, { frame: Name }>
      await new Promise<void>((resolve) => this.#waiting.push(resolve))
    }
  }
}

let server: WebSocketServer
let connections: Seen[]
let connection: RelayConnection
let states: [TransportState, string | undefined][]
let received: ReceivedMessage[]
/** Timers of the connection, run by hand: [milliseconds, run]. */
let timers: Map<object, [number, () => void]>
let clock: number
let claim: { counter: number; admits: (seen: number) => boolean }
const waiters = new Set<{ wants: () => boolean; resolve: () => void }>()

function changed(): void {
  for (const waiter of waiters) {
    if (!waiter.wants()) continue
    waiters.delete(waiter)
    waiter.resolve()
  }
}
async function until(wants: () => boolean): Promise<void> {
  if (wants()) return
  await new Promise<void>((resolve) => waiters.add({ wants, resolve }))
}
const authority = () => `127.0.0.1:${(server.address() as AddressInfo).port}`
const hello = (changes: object = {}): RelayFrame => ({
  frame: 'HELLO',
  protocol: PROTOCOL_VERSION,
  relayId: authority(),
  nonce: NONCE,
  maxPayloadBytes: 1000,
  ...changes,
})
const fatal = (
  code: 'CONNECTION_REPLACED' | 'RELAY_SHUTTING_DOWN',
  retryAfterSeconds?: number,
): RelayFrame => ({
  frame: 'ERROR',
  code,
  message: '',
  fatal: true,
  ...(retryAfterSeconds === undefined ? {} : { retryAfterSeconds }),
})

/** The next connection the agent makes. */
async function dialled(number = 1): Promise<Seen> {
  await until(() => connections.length >= number)
  return connections[number - 1]!
}
async function accepted(number = 1): Promise<Seen> {
  const seen = await dialled(number)
  seen.write(hello())
  await seen.next('CONNECT')
  seen.write({
    frame: 'CONNECTED',
    sessionId: newSessionId(systemRandom),
    pendingMessages: 0,
    stateCounter: 0,
  })
  await until(() => connection.state === 'connected')
  return seen
}
/** Runs the timer that waits so long; fails when there is none. */
function elapse(passes: (milliseconds: number) => boolean): void {
  const found = [...timers].find(([, [milliseconds]]) => passes(milliseconds))
  if (!found) throw new Error(`No such timer in ${[...timers.values()].map(([ms]) => ms).join()}`)
  timers.delete(found[0])
  found[1][1]()
}
const waits = () => [...timers.values()].map(([milliseconds]) => milliseconds)

beforeEach(async () => {
  connections = []
  states = []
  received = []
  timers = new Map()
  clock = 1_700_000_000_000
  claim = { counter: 7, admits: () => true }
  server = new WebSocketServer({ port: 0, host: '127.0.0.1' })
  server.on('connection', (webSocket) => {
    connections.push(new Seen(webSocket))
    changed()
  })
  await once(server, 'listening')
  connection = new RelayConnection({
    url: `ws://${authority()}`,
    identity,
    state: claim,
    random: (length) => new Uint8Array(length),
    now: () => clock,
    delay: (milliseconds, run) => {
      const key = {}
      timers.set(key, [milliseconds, run])
      return () => timers.delete(key)
    },
    onReceive: (message) => {
      received.push(message)
      changed()
    },
    onState: (state, error) => {
      states.push([state, error?.code])
      changed()
    },
  })
})
afterEach(async () => {
  await connection.close()
  for (const client of server.clients) client.terminate()
  server.close()
})

describe('the handshake', () => {
  it('signs this relay, this nonce, its key, the time and how far its state is', async () => {
    void connection.connect()
    const seen = await dialled()
    seen.write(hello())
    const connect = await seen.next('CONNECT')
    const parts = connectSignatureParts(
      authority(),
      NONCE,
      identity.amid,
      identity.signing.publicKey,
      clock,
      claim.counter,
    )
    expect(connect).toMatchObject({
      amid: identity.amid,
      timestamp: clock,
      presence: 'online',
      stateCounter: 7,
    })
    expect(verify('connect', identity.signing.publicKey, connect.signature, ...parts)).toBe(true)
  })

  it.each([
    ['names another relay', () => hello({ relayId: 'relay.example:443' }), 'RELAY_ID_MISMATCH'],
    ['speaks no version of ours', () => hello({ protocol: 'agentmesh/9.9' }), 'UNSUPPORTED_VERSION'],
  ])('signs nothing for a relay that %s', async (_, frame, code) => {
    void connection.connect()
    const seen = await dialled()
    seen.write(frame())
    await until(() => connection.state === 'waiting')
    expect(states.at(-1)).toEqual(['waiting', code])
    expect(seen.frames).toEqual([])
  })

  it('is reached though it is shown as offline: it connects otherwise, and says so then', async () => {
    connection.setPresence('offline')
    void connection.connect().catch(() => {})
    const seen = await dialled()
    seen.write(hello())
    expect((await seen.next('CONNECT')).presence).toBe('away')
    seen.write({
      frame: 'CONNECTED',
      sessionId: newSessionId(systemRandom),
      pendingMessages: 0,
      stateCounter: 0,
    })
    expect((await seen.next('PRESENCE')).state).toBe('offline')
  })

  it('takes nothing from a relay that has seen a later state than ours, and is not connected', async () => {
    claim.admits = (seen) => seen <= 7
    void connection.connect()
    const seen = await dialled()
    seen.write(hello())
    await seen.next('CONNECT')
    const payload = utf8Bytes('again')
    seen.write({
      frame: 'CONNECTED',
      sessionId: newSessionId(systemRandom),
      pendingMessages: 1,
      stateCounter: 8,
    })
    seen.write({ frame: 'RECEIVE', sequence: 1, from: peer, type: 'message', timestamp: 0, payload })
    await until(() => connection.state === 'waiting')
    expect(states).toEqual([
      ['connecting', undefined],
      ['waiting', 'STATE_BEHIND'],
    ])
    expect(received).toEqual([])
  })

  it('signs once a connection: a second HELLO ends it', async () => {
    void connection.connect()
    const seen = await dialled()
    seen.write(hello())
    await seen.next('CONNECT')
    seen.write(hello({ nonce: new Uint8Array(32).fill(8) }))
    await until(() => connection.state === 'waiting')
    expect(seen.frames).toEqual([])
  })

  it('gives up on a relay that does not answer in time', async () => {
    void connection.connect()
    await dialled()
    elapse((milliseconds) => milliseconds === 15_000)
    expect(states.at(-1)).toEqual(['waiting', 'RELAY_DISCONNECTED'])
  })

  it('takes nothing before CONNECTED', async () => {
    void connection.connect()
    const seen = await dialled()
    seen.write(hello())
    await seen.next('CONNECT')
    const payload = utf8Bytes('early')
    seen.write({ frame: 'RECEIVE', sequence: 1, from: peer, type: 'message', timestamp: 0, payload })
    await until(() => connection.state === 'waiting')
    expect(received).toEqual([])
    expect(states.at(-1)).toEqual(['waiting', 'MALFORMED'])
  })

  it('refuses a URL that is none, and says so to who connects', async () => {
    const wrong = new RelayConnection({
      url: 'https://relay.example',
      identity,
      random: systemRandom,
      now: Date.now,
      onReceive: () => {},
      onState: () => {},
    })
    await expect(wrong.connect()).rejects.toMatchObject({ code: 'MALFORMED' })
    expect(wrong.state).toBe('closed')
  })
})

describe('reconnecting', () => {
  it('waits longer after each failure, and short again after a connection that lasted', async () => {
    void connection.connect()
    const seen: number[] = []
    for (const number of [1, 2, 3]) {
      ;(await dialled(number)).webSocket.terminate()
      await until(() => connection.state === 'waiting')
      seen.push(...waits())
      elapse(() => true)
    }
    expect(seen).toEqual([250, 500, 1000])
    const lasting = await accepted(4)
    clock += 10_000
    lasting.webSocket.terminate()
    await until(() => connection.state === 'waiting')
    expect(waits()).toEqual([250])
  })

  it('does not take a connection that ends at once for a success, nor for a relay out of reach', async () => {
    void connection.connect()
    const seen: number[] = []
    for (const number of [1, 2, 3, 4, 5, 6]) {
      ;(await accepted(number)).webSocket.terminate()
      await until(() => connection.state === 'waiting')
      seen.push(...waits())
      elapse(() => true)
    }
    expect(seen).toEqual([250, 500, 1000, 2000, 2000, 2000])
  })

  it('stays away as long as a relay asks, within reason', async () => {
    void connection.connect()
    ;(await accepted()).write(fatal('RELAY_SHUTTING_DOWN', 30))
    await until(() => connection.state === 'waiting')
    expect(waits()).toEqual([30_000])
    elapse(() => true)
    ;(await accepted(2)).write(fatal('RELAY_SHUTTING_DOWN', 0xffff_ffff))
    await until(() => connection.state === 'waiting')
    expect(waits()).toEqual([300_000])
  })

  it('does not come back when replaced', async () => {
    void connection.connect()
    ;(await accepted()).write(fatal('CONNECTION_REPLACED'))
    await until(() => connection.state === 'replaced')
    expect(states.at(-1)).toEqual(['replaced', 'CONNECTION_REPLACED'])
    expect(timers.size).toBe(0)
  })

  it('tells a dead relay by its silence', async () => {
    void connection.connect()
    const seen = await accepted()
    seen.webSocket.pause()
    elapse((milliseconds) => milliseconds === 20_000)
    expect(connection.state).toBe('connected')
    elapse((milliseconds) => milliseconds === 20_000)
    expect(states.at(-1)).toEqual(['waiting', 'RELAY_DISCONNECTED'])
  })

  it('ends for good when closed, also while it waits', async () => {
    const first = connection.connect()
    ;(await dialled()).webSocket.terminate()
    await until(() => connection.state === 'waiting')
    await connection.close()
    await expect(first).rejects.toMatchObject({ code: 'RELAY_DISCONNECTED' })
    expect([connection.state, timers.size]).toEqual(['closed', 0])
  })
})

describe('messages', () => {
  const send = async (text: string, id = newMessageId(systemRandom)) =>
    connection.send({ id, to: peer, type: 'message', payload: utf8Bytes(text) })

  it('acknowledges once a turn, cumulatively', async () => {
    void connection.connect()
    const seen = await accepted()
    for (let sequence = 1; sequence <= 5; sequence++) {
      const payload = utf8Bytes(`${sequence}`)
      seen.write({ frame: 'RECEIVE', sequence, from: peer, type: 'message', timestamp: 0, payload })
    }
    await until(() => received.length === 5)
    for (const message of received.slice(0, 4)) message.ack()
    expect(await seen.next('ACK')).toEqual({ frame: 'ACK', sequence: 4, stateCounter: 7 })
    claim.counter = 9
    received[4]!.ack()
    expect(await seen.next('ACK')).toEqual({ frame: 'ACK', sequence: 5, stateCounter: 9 })
    expect(seen.frames).toEqual([])
  })

  it('does not carry an acknowledgement over to the next connection', async () => {
    void connection.connect()
    const first = await accepted()
    const payload = utf8Bytes('x')
    first.write({ frame: 'RECEIVE', sequence: 1, from: peer, type: 'message', timestamp: 0, payload })
    await until(() => received.length === 1)
    first.webSocket.terminate()
    await until(() => connection.state === 'waiting')
    elapse(() => true)
    const second = await accepted(2)
    received[0]!.ack()
    connection.setPresence('away')
    await second.next('PRESENCE')
    expect(second.frames).toEqual([])
  })

  it('rejects what has no answer when the connection ends', async () => {
    void connection.connect()
    const seen = await accepted()
    const sent = send('hello')
    await seen.next('SEND')
    seen.webSocket.terminate()
    await expect(sent).rejects.toMatchObject({ code: 'RELAY_DISCONNECTED' })
    await expect(send('again')).rejects.toBeInstanceOf(AgentMeshError)
  })

  it('sends a message of the same id once while it is unanswered', async () => {
    void connection.connect()
    const seen = await accepted()
    const id = newMessageId(systemRandom)
    const both = [send('hello', id), send('hello', id)]
    await seen.next('SEND')
    seen.write({ frame: 'SENT', id, status: 'refused', code: 'MAILBOX_FULL', retryAfterSeconds: 9 })
    const refused = { status: 'refused', code: 'MAILBOX_FULL', retryAfterSeconds: 9 }
    expect(await Promise.all(both)).toEqual([refused, refused])
    expect(seen.frames).toEqual([])
  })

  it('refuses by itself what the relay said is too large', async () => {
    void connection.connect()
    const seen = await accepted()
    expect(await send('x'.repeat(1001))).toEqual({ status: 'refused', code: 'TOO_LARGE' })
    expect(seen.frames).toEqual([])
  })

  it('keeps a bounded number of SENDs on the wire, in order', async () => {
    void connection.connect()
    const seen = await accepted()
    const ids = Array.from({ length: 300 }, () => newMessageId(systemRandom))
    const sent = Promise.all(ids.map(async (id) => send('x', id)))
    for (const id of ids.slice(0, 256)) expect((await seen.next('SEND')).id).toBe(id)
    expect(seen.frames).toEqual([])
    for (const id of ids.slice(0, 44)) seen.write({ frame: 'SENT', id, status: 'stored' })
    for (const id of ids.slice(256)) expect((await seen.next('SEND')).id).toBe(id)
    for (const id of ids.slice(44)) seen.write({ frame: 'SENT', id, status: 'delivered' })
    const statuses = (await sent).map(({ status }) => status)
    expect(statuses).toEqual(ids.map((_, index) => (index < 44 ? 'stored' : 'delivered')))
  })

  it.each([1, 3])('ends a connection on which RECEIVE %i follows RECEIVE 1', async (second) => {
    void connection.connect()
    const seen = await accepted()
    const frame = {
      frame: 'RECEIVE',
      from: peer,
      type: 'message',
      timestamp: 0,
      payload: utf8Bytes('x'),
    } as const
    seen.write({ ...frame, sequence: 1 })
    seen.write({ ...frame, sequence: second })
    await until(() => connection.state === 'waiting')
    expect(received).toHaveLength(1)
  })
})

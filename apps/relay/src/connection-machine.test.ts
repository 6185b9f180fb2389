import { describe, expect, it } from 'vitest'
import { AgentMeshError, amidFromBytes, messageIdFromBytes, type ConnectFrame } from '@agentmesh/sdk/wire'
import { stepConnection, type ConnectionEvent, type ConnectionState } from './connection-machine.ts'

const amid = amidFromBytes(new Uint8Array(20).fill(1))
const id = messageIdFromBytes(Uint8Array.from([0, 0, 0, 0, 0, 0, 0x40, 0, 0x80, 0, 0, 0, 0, 0, 0, 0]))
const connect: ConnectFrame = {
  frame: 'CONNECT',
  protocol: 'agentmesh/0.2',
  amid,
  publicKey: new Uint8Array(32),
  timestamp: 0,
  signature: new Uint8Array(64),
  presence: 'away',
  stateCounter: 7,
}
const send = { frame: 'SEND', id, to: amid, type: 'message', payload: new Uint8Array(1) } as const
const fatal = (code: string) => ({
  do: 'send',
  frame: expect.objectContaining({ frame: 'ERROR', code, fatal: true }),
})

function does(state: ConnectionState, event: ConnectionEvent) {
  const step = stepConnection(state, event)
  return [step.state, ...step.effects.map((effect) => effect.do)]
}

describe('awaiting-connect', () => {
  it('authenticates a CONNECT and stays until that succeeded', () => {
    expect(does('awaiting-connect', { kind: 'frame', frame: connect })).toEqual([
      'awaiting-connect',
      'authenticate',
    ])
  })

  it('attaches an accepted agent with the presence it asked for', () => {
    expect(stepConnection('awaiting-connect', { kind: 'accepted', connect })).toEqual({
      state: 'connected',
      effects: [{ do: 'attach', amid, presence: 'away', stateCounter: 7 }],
    })
  })

  it.each([
    send,
    { frame: 'ACK', sequence: 0, stateCounter: 9 } as const,
    { frame: 'PRESENCE', state: 'online' } as const,
    { frame: 'PRESENCE_QUERY', amid } as const,
  ])('ends on $frame before CONNECT', (frame) => {
    const step = stepConnection('awaiting-connect', { kind: 'frame', frame })
    expect(step).toEqual({
      state: 'closing',
      effects: [fatal('CONNECT_REQUIRED'), { do: 'close', closeCode: 1008, code: 'CONNECT_REQUIRED' }],
    })
  })

  it('ends on what it cannot read, unknown types included', () => {
    const error = new AgentMeshError('UNKNOWN_TYPE')
    const event = { kind: 'unreadable', error, sendId: id } as const
    expect(does('awaiting-connect', event)).toEqual(['closing', 'send', 'close'])
  })

  it('has nothing to detach when the socket ends', () => {
    expect(does('awaiting-connect', { kind: 'socket-ended' })).toEqual(['closing'])
  })
})

describe('connected', () => {
  it.each([
    [send, 'route'],
    [{ frame: 'ACK', sequence: 3, stateCounter: 9 } as const, 'acknowledge'],
    [{ frame: 'PRESENCE', state: 'dnd' } as const, 'set-presence'],
    [{ frame: 'PRESENCE_QUERY', amid } as const, 'answer-presence'],
  ])('carries out %o', (frame, effect) => {
    expect(does('connected', { kind: 'frame', frame })).toEqual(['connected', effect])
  })

  it('detaches before it says why it ends', () => {
    expect(does('connected', { kind: 'frame', frame: connect })).toEqual([
      'closing',
      'detach',
      'send',
      'close',
    ])
    expect(does('connected', { kind: 'cut', code: 'SLOW_READER' })).toEqual([
      'closing',
      'detach',
      'send',
      'close',
    ])
  })

  it('refuses by name a SEND it cannot take, and goes on', () => {
    for (const code of ['UNKNOWN_TYPE', 'TOO_LARGE'] as const) {
      const event = { kind: 'unreadable', error: new AgentMeshError(code), sendId: id } as const
      expect(stepConnection('connected', event)).toEqual({
        state: 'connected',
        effects: [{ do: 'refuse', id, code }],
      })
    }
  })

  it('says that it does not know a frame, and goes on', () => {
    const event = {
      kind: 'unreadable',
      error: new AgentMeshError('UNKNOWN_TYPE'),
      sendId: undefined,
    } as const
    const step = stepConnection('connected', event)
    expect(step.state).toBe('connected')
    expect(step.effects).toMatchObject([{ do: 'send', frame: { code: 'UNKNOWN_TYPE', fatal: false } }])
  })

  it('ends on any other unreadable frame, a SEND too', () => {
    for (const sendId of [id, undefined]) {
      const event = { kind: 'unreadable', error: new AgentMeshError('MALFORMED'), sendId } as const
      expect(does('connected', event)).toEqual(['closing', 'detach', 'send', 'close'])
    }
  })

  it('passes on when to come back', () => {
    const event = { kind: 'cut', code: 'RELAY_SHUTTING_DOWN', retryAfterSeconds: 7 } as const
    expect(stepConnection('connected', event).effects).toMatchObject([
      { do: 'detach' },
      { do: 'send', frame: { code: 'RELAY_SHUTTING_DOWN', retryAfterSeconds: 7 } },
      { do: 'close', closeCode: 1001 },
    ])
  })
})

describe('sending', () => {
  const accepted = { kind: 'accepted', connect: { ...connect, presence: 'offline' } } as const

  it('is where an accepted agent goes that is not reached here', () => {
    expect(stepConnection('awaiting-connect', accepted)).toEqual({
      state: 'sending',
      effects: [{ do: 'admit-sender', amid }],
    })
  })

  it('routes SEND, and refuses by name one it cannot take', () => {
    expect(does('sending', { kind: 'frame', frame: send })).toEqual(['sending', 'route'])
    const event = { kind: 'unreadable', error: new AgentMeshError('TOO_LARGE'), sendId: id } as const
    expect(does('sending', event)).toEqual(['sending', 'refuse'])
  })

  it.each([
    [{ frame: 'ACK', sequence: 1, stateCounter: 9 } as const, 'SENDING_ONLY'],
    [{ frame: 'PRESENCE', state: 'online' } as const, 'SENDING_ONLY'],
    [{ frame: 'PRESENCE_QUERY', amid } as const, 'SENDING_ONLY'],
    [connect, 'ALREADY_CONNECTED'],
  ])('ends on %o', (frame, code) => {
    expect(stepConnection('sending', { kind: 'frame', frame })).toEqual({
      state: 'closing',
      effects: [{ do: 'dismiss-sender' }, fatal(code), { do: 'close', closeCode: 1008, code }],
    })
  })

  it('gives its place back when the socket ends', () => {
    expect(does('sending', { kind: 'socket-ended' })).toEqual(['closing', 'dismiss-sender'])
  })
})

it('nothing that arrives while closing has an effect', () => {
  const events: ConnectionEvent[] = [
    { kind: 'frame', frame: send },
    { kind: 'frame', frame: { frame: 'ACK', sequence: 1, stateCounter: 9 } },
    { kind: 'accepted', connect },
    { kind: 'unreadable', error: new AgentMeshError('MALFORMED'), sendId: undefined },
    { kind: 'cut', code: 'CONNECT_TIMEOUT' },
    { kind: 'socket-ended' },
  ]
  for (const event of events)
    expect(stepConnection('closing', event)).toEqual({ state: 'closing', effects: [] })
})

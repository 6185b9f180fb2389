/** Connections that only send, honest and hostile: an agent of another relay reaches those of this one, and no more. */
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { startRelay, type RunningRelay } from '@agentmesh/relay'
import { connected, newIdentity, RawAgent, SUBPROTOCOLS } from './relay-harness.ts'

let relay: RunningRelay

beforeEach(async () => {
  relay = await startRelay({ dataPath: ':memory:', limits: { closeGraceMs: 200 } })
})
afterEach(async () => {
  await relay.close()
})

async function refusal(agent: RawAgent): Promise<string> {
  const error = await agent.next('ERROR')
  expect(error.fatal).toBe(true)
  await agent.closed
  return error.code
}

describe.each(SUBPROTOCOLS)('a connection that only sends, on %s', (subprotocol) => {
  const sender = async (identity = newIdentity()) =>
    connected(relay.url, { subprotocol, identity, presence: 'offline' })

  it('has its SENDs delivered and stored like any other', async () => {
    const alice = await sender()
    const bob = await connected(relay.url)
    const id = alice.send(bob.amid, 'from afar')
    expect(await bob.receive()).toEqual({
      sequence: 1,
      from: alice.amid,
      type: 'message',
      text: 'from afar',
    })
    bob.ack(1)
    expect(await alice.outcome(id)).toBe('delivered')
    expect(await alice.outcome(alice.send(newIdentity().amid, 'away'))).toBe('stored')
    expect(relay.stats()).toMatchObject({ agents: 1, senders: 1 })
  })

  it('receives nothing: neither the mailbox of its AMID nor what comes meanwhile', async () => {
    const identity = newIdentity()
    const bob = await connected(relay.url)
    expect(await bob.outcome(bob.send(identity.amid, 'before'))).toBe('stored')

    const alice = new RawAgent(relay.url, subprotocol, identity)
    expect((await alice.connect('offline')).pendingMessages).toBe(0)
    expect(await bob.outcome(bob.send(identity.amid, 'meanwhile'))).toBe('stored')
    // An answered SEND of its own: all that came for it would have come before.
    expect(await alice.outcome(alice.send(identity.amid, 'to myself'))).toBe('stored')
    expect(alice.frames).toEqual([])

    const home = await connected(relay.url, { identity })
    expect(await home.receiveTexts(3)).toEqual(['before', 'meanwhile', 'to myself'])
  })

  it('replaces nobody, and nobody replaces it', async () => {
    const identity = newIdentity()
    const before = await sender(identity)
    const home = await connected(relay.url, { identity })
    const after = await sender(identity)
    await home.settle()
    expect(home.frames).toEqual([])
    const bob = await connected(relay.url)
    bob.send(identity.amid, 'to your home')
    expect(await home.receiveTexts(1)).toEqual(['to your home'])
    for (const each of [before, after]) {
      expect(await each.outcome(each.send(newIdentity().amid, 'both go on'))).toBe('stored')
    }
  })

  it('shows in no presence', async () => {
    const identity = newIdentity()
    await sender(identity)
    const bob = await connected(relay.url)
    const ask = async () => {
      bob.write({ frame: 'PRESENCE_QUERY', amid: identity.amid })
      return (await bob.next('PRESENCE_RESULT')).state
    }
    expect(await ask()).toBe('offline')
    await connected(relay.url, { identity, presence: 'away' })
    const second = await sender(identity)
    expect(await ask()).toBe('away')
    await second.close()
    expect(await ask()).toBe('away')
  })

  it('cannot turn into one that receives, nor acknowledge or ask as one', async () => {
    const identity = newIdentity()
    const bob = await connected(relay.url)
    await bob.outcome(bob.send(identity.amid, 'private'))
    for (const frame of [
      { frame: 'PRESENCE', state: 'online' },
      { frame: 'ACK', sequence: 1, stateCounter: 0 },
      { frame: 'PRESENCE_QUERY', amid: bob.amid },
    ] as const) {
      const alice = await sender(identity)
      alice.write(frame)
      expect(await refusal(alice)).toBe('SENDING_ONLY')
      expect(alice.frames).toEqual([])
    }
    expect(relay.stats()).toMatchObject({ senders: 0, mailboxMessages: 1 })
  })

  it('cannot be opened in the name of somebody else', async () => {
    const victim = newIdentity()
    const attacker = new RawAgent(relay.url, subprotocol)
    attacker.write(
      attacker.signConnect(await attacker.next('HELLO'), { amid: victim.amid, presence: 'offline' }),
    )
    expect(await refusal(attacker)).toBe('AMID_MISMATCH')
  })

  it('is refused beyond the limit, and there is room again when one ends', async () => {
    const identity = newIdentity()
    const home = await connected(relay.url, { identity })
    const open = await Promise.all(Array.from({ length: 4 }, async () => sender(identity)))
    const fifth = new RawAgent(relay.url, subprotocol, identity)
    fifth.write(fifth.signConnect(await fifth.next('HELLO'), { presence: 'offline' }))
    expect(await refusal(fifth)).toBe('RATE_LIMITED')
    // Who was there before goes on, and another AMID is not held to it.
    await home.settle()
    for (const each of open) {
      expect(await each.outcome(each.send(newIdentity().amid, 'on'))).toBe('stored')
    }
    await sender()
    expect(relay.stats().senders).toBe(5)

    open[0]!.write({ frame: 'PRESENCE', state: 'online' })
    expect(await refusal(open[0]!)).toBe('SENDING_ONLY')
    await sender(identity)
    expect(relay.stats().senders).toBe(5)
  })

  it('is held to the rates of its AMID: a second connection buys nothing', async () => {
    await relay.close()
    relay = await startRelay({
      dataPath: ':memory:',
      limits: { knocks: { perSecond: 0.01, burst: 3 }, closeGraceMs: 200 },
    })
    const identity = newIdentity()
    const home = await connected(relay.url, { identity })
    const alice = await sender(identity)
    const to = newIdentity().amid
    expect(await home.outcome(home.send(to, 'knock', 'knock'))).toBe('stored')
    expect(await alice.outcome(alice.send(to, 'knock', 'knock'))).toBe('stored')
    expect(await home.outcome(home.send(to, 'knock', 'knock'))).toBe('stored')
    expect(await alice.outcome(alice.send(to, 'knock', 'knock'))).toBe('RATE_LIMITED')
  })
})

import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { startRelay, type RunningRelay } from '@agentmesh/relay'
import { connected, newIdentity, RawAgent, SUBPROTOCOLS, temporaryFolder } from './relay-harness.ts'

let relay: RunningRelay
let folder: Awaited<ReturnType<typeof temporaryFolder>>

beforeEach(async () => {
  folder = await temporaryFolder()
  relay = await startRelay({ dataPath: `${folder.path}/relay.db` })
})
afterEach(async () => {
  await relay.close()
  await folder.remove()
})

describe.each(SUBPROTOCOLS.flatMap((from) => SUBPROTOCOLS.map((to) => [from, to] as const)))(
  'a sender on %s and a receiver on %s',
  (from, to) => {
    it('delivers, and says so only once the receiver acknowledged', async () => {
      const alice = await connected(relay.url, { subprotocol: from })
      const bob = await connected(relay.url, { subprotocol: to })
      const id = alice.send(bob.amid, 'hello')
      const received = await bob.receive()
      expect(received).toEqual({ sequence: 1, from: alice.amid, type: 'message', text: 'hello' })
      await alice.settle()
      expect(alice.frames).toEqual([])
      bob.ack(1)
      expect(await alice.outcome(id)).toBe('delivered')
    })

    it('stores for an agent that is away and hands over in order, before newer traffic', async () => {
      const alice = await connected(relay.url, { subprotocol: from })
      const identity = newIdentity()
      const texts = Array.from({ length: 20 }, (_, index) => `stored ${index}`)
      const ids = texts.map((text) => alice.send(identity.amid, text))
      for (const id of ids) expect(await alice.outcome(id)).toBe('stored')

      const bob = new RawAgent(relay.url, to, identity)
      expect((await bob.connect()).pendingMessages).toBe(20)
      alice.send(identity.amid, 'newer')
      expect(await bob.receiveTexts(21)).toEqual([...texts, 'newer'])
    })
  },
)

describe('a mailbox', () => {
  it('keeps a message until its receiver acknowledged it', async () => {
    const alice = await connected(relay.url)
    const identity = newIdentity()
    await alice.outcome(alice.send(identity.amid, 'one'))
    await alice.outcome(alice.send(identity.amid, 'two'))

    const first = await connected(relay.url, { identity })
    const { sequence } = await first.receive()
    await first.receive()
    first.ack(sequence)
    await first.settle()
    await first.close()

    const second = new RawAgent(relay.url, 'bin', identity)
    expect((await second.connect()).pendingMessages).toBe(1)
    expect((await second.receive()).text).toBe('two')
  })

  it('takes what a closing connection had received and not acknowledged, and tells the sender', async () => {
    const alice = await connected(relay.url)
    const bob = await connected(relay.url)
    const id = alice.send(bob.amid, 'in flight')
    await bob.receive()
    bob.webSocket.terminate()
    expect(await alice.outcome(id)).toBe('stored')
    const again = await connected(relay.url, { identity: bob.identity })
    expect(await again.receiveTexts(1)).toEqual(['in flight'])
  })

  it('gives a message that is sent again no second place, stored or in flight', async () => {
    const alice = await connected(relay.url)
    const identity = newIdentity()
    const stored = alice.send(identity.amid, 'once')
    expect(await alice.outcome(stored)).toBe('stored')
    alice.send(identity.amid, 'once', 'message', stored)
    expect(await alice.outcome(stored)).toBe('stored')

    const bob = new RawAgent(relay.url, 'bin', identity)
    expect((await bob.connect()).pendingMessages).toBe(1)
    expect(await bob.receiveTexts(1)).toEqual(['once'])
    const live = alice.send(identity.amid, 'live')
    const { sequence } = await bob.receive()
    // The sender lost its connection before SENT and sends again on a new one.
    alice.webSocket.terminate()
    await alice.closed
    const resent = await connected(relay.url, { identity: alice.identity })
    resent.send(identity.amid, 'live', 'message', live)
    await resent.settle()
    bob.ack(sequence)
    expect(await resent.outcome(live)).toBe('delivered')
    await bob.settle()
    expect(bob.frames).toEqual([])
  })

  it('refuses what goes beyond one sender’s share and keeps room for others', async () => {
    const stranger = await connected(relay.url)
    const friend = await connected(relay.url)
    const victim = newIdentity()
    const ids = Array.from({ length: 25 }, (_, index) => stranger.send(victim.amid, `spam ${index}`))
    const outcomes = await Promise.all(ids.map((id) => stranger.outcome(id)))
    expect(outcomes.filter((outcome) => outcome === 'stored')).toHaveLength(20)
    expect(outcomes.slice(20)).toEqual(Array(5).fill('SENDER_QUOTA'))
    expect(await friend.outcome(friend.send(victim.amid, 'still room'))).toBe('stored')
  })
})

describe('presence', () => {
  it('shows the state an agent set, and offline for whoever is not connected', async () => {
    const alice = await connected(relay.url)
    const bob = await connected(relay.url, { subprotocol: 'json', presence: 'away' })
    const ask = async () => {
      alice.write({ frame: 'PRESENCE_QUERY', amid: bob.amid })
      return (await alice.next('PRESENCE_RESULT')).state
    }
    expect(await ask()).toBe('away')
    bob.write({ frame: 'PRESENCE', state: 'dnd' })
    await bob.settle()
    expect(await ask()).toBe('dnd')
    await bob.close()
    // A presence of its own tells nothing about when the relay saw the socket end; a delivery does.
    expect(await alice.outcome(alice.send(bob.amid, 'gone?'))).toBe('stored')
    expect(await ask()).toBe('offline')
  })

  it('holds KNOCKs back from an agent in dnd, delivers the rest, and knocks when it is back', async () => {
    const alice = await connected(relay.url)
    const bob = await connected(relay.url, { presence: 'dnd' })
    expect(await alice.outcome(alice.send(bob.amid, 'knock', 'knock'))).toBe('stored')
    alice.send(bob.amid, 'of a session')
    expect(await bob.receiveTexts(1)).toEqual(['of a session'])
    bob.write({ frame: 'PRESENCE', state: 'online' })
    expect(await bob.receiveTexts(1)).toEqual(['knock'])
    const id = alice.send(bob.amid, 'live again')
    expect(await bob.receiveTexts(1)).toEqual(['live again'])
    expect(await alice.outcome(id)).toBe('delivered')
  })

  it('answers no more than its share of presence queries', async () => {
    const curious = await connected(relay.url)
    for (let index = 0; index < 80; index++)
      curious.write({ frame: 'PRESENCE_QUERY', amid: newIdentity().amid })
    const error = await curious.next('ERROR')
    expect(error).toMatchObject({ code: 'RATE_LIMITED', fatal: false })
    expect(error.retryAfterSeconds).toBeGreaterThan(0)
  })
})

describe('the server', () => {
  it('lets a second connection of an AMID replace the first, which is told', async () => {
    const first = await connected(relay.url)
    const second = await connected(relay.url, { identity: first.identity, subprotocol: 'json' })
    expect(await first.next('ERROR')).toMatchObject({ code: 'CONNECTION_REPLACED', fatal: true })
    await first.closed
    const alice = await connected(relay.url)
    alice.send(second.amid, 'to the second')
    expect(await second.receiveTexts(1)).toEqual(['to the second'])
    expect(relay.stats().agents).toBe(2)
  })

  it('keeps the order across a replaced connection that had not acknowledged', async () => {
    const alice = await connected(relay.url)
    const first = await connected(relay.url)
    for (const text of ['1', '2', '3']) alice.send(first.amid, text)
    await first.receive()
    await first.receive()
    await first.receive()
    const second = new RawAgent(relay.url, 'bin', first.identity)
    alice.send(first.amid, '4')
    await second.connect()
    alice.send(first.amid, '5')
    expect(await second.receiveTexts(5)).toEqual(['1', '2', '3', '4', '5'])
  })

  it('stores what is in flight when it shuts down, tells the sender and then everybody', async () => {
    const alice = await connected(relay.url)
    const bob = await connected(relay.url)
    const id = alice.send(bob.amid, 'in flight')
    await bob.receive()
    const closing = relay.close()
    expect(await alice.outcome(id)).toBe('stored')
    expect(await bob.next('ERROR')).toMatchObject({ code: 'RELAY_SHUTTING_DOWN', fatal: true })
    expect([await alice.closed, await bob.closed]).toEqual([1001, 1001])
    await closing

    relay = await startRelay({ dataPath: `${folder.path}/relay.db` })
    const again = await connected(relay.url, { identity: bob.identity })
    expect(await again.receiveTexts(1)).toEqual(['in flight'])
  })

  it('answers health, readiness and metrics over HTTP', async () => {
    const alice = await connected(relay.url)
    await alice.outcome(alice.send(newIdentity().amid, 'stored'))
    const get = async (path: string) => fetch(`http://127.0.0.1:${relay.port}${path}`)
    expect((await get('/healthz')).status).toBe(200)
    expect((await get('/readyz')).status).toBe(200)
    expect((await get('/nothing')).status).toBe(404)
    expect((await get('/v1/connect')).status).toBe(426)
    const metrics = await (await get('/metrics')).text()
    expect(metrics).toMatch(/^agentmesh_relay_agents 1$/m)
    expect(metrics).toMatch(/^agentmesh_relay_stored_total 1$/m)
    expect(metrics).toMatch(/^agentmesh_relay_mailbox_messages 1$/m)
    expect(metrics).not.toContain(alice.amid)
  })
})

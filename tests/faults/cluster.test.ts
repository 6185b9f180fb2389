/**
 * Three relays as one service, on a real nats-server and a real PostgreSQL, each part killed, cut off and brought back:
 * nothing acknowledged is lost, presence is right again, and an error says what it is.
 */
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { natsMissing } from '../../apps/relay/src/test-support-nats.ts'
import { connected, newIdentity, RawAgent } from '../e2e/relay-harness.ts'
import type { Identity } from '@agentmesh/sdk/identity'
import type { PresenceState } from '@agentmesh/sdk/wire'
import { Program } from '../support/processes.ts'
import { RelayService } from '../support/relay-service.ts'
import { until } from '../support/until.ts'

it('refuses NATS without a database that the relays share', async () => {
  const args = ['--port', '0', '--data', ':memory:']
  const relay = new Program(['apps/relay/dist/main.js', ...args], { NATS_URL: 'nats://127.0.0.1:4222' })
  expect(await relay.ended()).toBe(2)
  expect(relay.stderr).toContain('nats_url: needs database_url')
})

describe.skipIf(natsMissing)('three relays of one service (needs nats-server)', () => {
  let service: RelayService
  const agents: RawAgent[] = []

  /** Somebody new, whose mailbox the relay has looked into, or somebody known, for whom mail may wait. */
  async function agent(relay: number, known?: Identity): Promise<RawAgent> {
    const made = await connected(service.relays[relay]!.url, { identity: known ?? newIdentity() })
    agents.push(made)
    // Until then what comes goes by way of the mailbox, behind what may be in there.
    const isLive = (outcome: string) => outcome === 'delivered'
    if (known === undefined) await until('a live connection', () => talk(made, made, 'to myself'), isLive)
    return made
  }

  const sees = async (who: RawAgent, whom: RawAgent, state: PresenceState) =>
    until(
      `${state} at the other relay`,
      async () => {
        who.write({ frame: 'PRESENCE_QUERY', amid: whom.amid })
        return (await who.next('PRESENCE_RESULT', ({ amid }) => amid === whom.amid)).state
      },
      (seen) => seen === state,
    )

  const ready = async (relay: number, text: RegExp) =>
    until(
      `ready: ${text}`,
      async () => service.relays[relay]!.readiness(),
      (seen) => text.test(seen),
    )

  /** A message there and its acknowledgement back. */
  async function talk(from: RawAgent, to: RawAgent, text: string): Promise<string> {
    const id = from.send(to.amid, text)
    const { text: received, sequence } = await to.receive()
    expect(received).toBe(text)
    to.ack(sequence)
    return from.outcome(id)
  }

  beforeAll(async () => {
    service = await RelayService.start(3)
    await Promise.all(
      service.relays.map(async (relay) =>
        until(
          'two others',
          async () => relay.metric('agentmesh_relay_cluster_relays'),
          (count) => count === 2,
        ),
      ),
    )
  })
  afterEach(async () => {
    await Promise.all(agents.splice(0).map(async (each) => each.close()))
  })
  afterAll(async () => service.close())

  it('carries messages and presence between them', async () => {
    const [alice, bob] = [await agent(0), await agent(1)]
    await sees(alice, bob, 'online')
    expect(await talk(alice, bob, 'there')).toBe('delivered')
    expect(await talk(bob, alice, 'and back')).toBe('delivered')
    bob.write({ frame: 'PRESENCE', state: 'away' })
    await sees(alice, bob, 'away')
    expect(await service.relays[0]!.metric('agentmesh_relay_forwarded_total')).toBeGreaterThan(0)
  })

  it('gives an agent what waits for it, at whichever relay it comes', async () => {
    const [alice, bob] = [await agent(0), newIdentity()]
    const ids = ['one', 'two'].map((text) => alice.send(bob.amid, text))
    for (const id of ids) expect(await alice.outcome(id)).toBe('stored')
    const there = await agent(2, bob)
    expect(await there.receiveTexts(2)).toEqual(['one', 'two'])
  })

  it('lets a new connection at another relay replace the old one', async () => {
    const bob = newIdentity()
    const older = await agent(1, bob)
    const newer = await agent(2, bob)
    expect((await older.next('ERROR')).code).toBe('CONNECTION_REPLACED')
    const alice = await agent(0)
    await sees(alice, newer, 'online')
    expect(await talk(alice, newer, 'to the newer')).toBe('delivered')
  })

  it('loses nothing when the receiver’s relay is killed', async () => {
    const [alice, bob] = [await agent(0), await agent(1)]
    await sees(alice, bob, 'online')
    const id = alice.send(bob.amid, 'in its memory only')
    // It was received and not acknowledged: the only copy that counts is alice's relay's.
    await bob.receive()
    await service.relays[1]!.end()
    expect(await alice.outcome(id)).toBe('stored')
    await sees(alice, bob, 'offline')
    const again = await agent(2, bob.identity)
    expect(await again.receiveTexts(1)).toEqual(['in its memory only'])
    await sees(alice, again, 'online')
    await service.relays[1]!.start()
    const carol = await agent(1)
    await sees(carol, alice, 'online')
    expect(await talk(carol, alice, 'from the new one')).toBe('delivered')
  })

  it('moves agents and their mail off a relay that ends in order', async () => {
    const [alice, bob] = [await agent(0), await agent(1)]
    await sees(alice, bob, 'online')
    const id = alice.send(bob.amid, 'on the way out')
    await bob.receive()
    const ended = service.relays[1]!.end('SIGTERM')
    expect(await alice.outcome(id)).toBe('stored')
    expect((await bob.next('ERROR')).code).toBe('RELAY_SHUTTING_DOWN')
    const again = await agent(0, bob.identity)
    expect(await again.receiveTexts(1)).toEqual(['on the way out'])
    await ended
    await service.relays[1]!.start()
    const carol = await agent(1)
    await sees(carol, alice, 'online')
  })

  it('goes on through the mailboxes while NATS is gone, and live again when it is back', async () => {
    const [alice, bob, carol] = [await agent(0), await agent(1), await agent(0)]
    await sees(alice, bob, 'online')
    await service.nats.kill()
    await ready(0, /^200 degraded/)
    expect(await service.relays[0]!.metric('agentmesh_relay_cluster_linked')).toBe(0)
    await sees(alice, bob, 'offline')
    const id = alice.send(bob.amid, 'the long way')
    expect(await alice.outcome(id)).toBe('stored')
    expect(await bob.receiveTexts(1)).toEqual(['the long way'])
    expect(await talk(alice, carol, 'same relay')).toBe('delivered')
    await service.nats.start()
    await ready(0, /^200 ready/)
    await sees(alice, bob, 'online')
    await sees(bob, alice, 'online')
    expect(await talk(alice, bob, 'live')).toBe('delivered')
  })

  it('serves the agents of a relay whose way to NATS is gone, both ways', async () => {
    const [alice, bob] = [await agent(0), await agent(1)]
    await sees(alice, bob, 'online')
    service.relays[1]!.nats.cut()
    const id = alice.send(bob.amid, 'to the island')
    expect(await alice.outcome(id)).toBe('stored')
    expect(await bob.receiveTexts(1)).toEqual(['to the island'])
    await sees(alice, bob, 'offline')
    await sees(bob, alice, 'offline')
    const back = bob.send(alice.amid, 'from the island')
    expect(await bob.outcome(back)).toBe('stored')
    expect(await alice.receiveTexts(1)).toEqual(['from the island'])
    service.relays[1]!.nats.heal()
    await ready(1, /^200 ready/)
    await sees(alice, bob, 'online')
    await sees(bob, alice, 'online')
    expect(await talk(alice, bob, 'joined again')).toBe('delivered')
  })

  it('refuses clearly what it cannot store while PostgreSQL is gone, and goes on by itself', async () => {
    const [alice, bob] = [await agent(0), await agent(1)]
    await sees(alice, bob, 'online')
    const absent = newIdentity()
    expect(await alice.outcome(alice.send(absent.amid, 'before'))).toBe('stored')
    await service.postgres.kill()
    await ready(0, /^503/)
    const refused = alice.send(absent.amid, 'meanwhile')
    const { code, retryAfterSeconds } = await alice.next('SENT', ({ id }) => id === refused)
    expect([code, (retryAfterSeconds ?? 0) > 0]).toEqual(['RELAY_STORE_FAILED', true])
    // Who is connected needs no database.
    expect(await talk(alice, bob, 'live meanwhile')).toBe('delivered')
    await service.postgres.start()
    for (const relay of [0, 2]) await ready(relay, /^200 ready/)
    expect(await alice.outcome(alice.send(absent.amid, 'after'))).toBe('stored')
    const there = await agent(2, absent)
    expect(await there.receiveTexts(2)).toEqual(['before', 'after'])
  })

  it('refuses what PostgreSQL does not answer, and stores it once when asked again', async () => {
    const [alice, bob] = [await agent(0), await agent(1)]
    await sees(alice, bob, 'online')
    const absent = newIdentity()
    service.postgres.freeze()
    const refused = alice.send(absent.amid, 'said twice')
    expect(await talk(alice, bob, 'live meanwhile')).toBe('delivered')
    const { code, retryAfterSeconds } = await alice.next('SENT', ({ id }) => id === refused)
    expect([code, (retryAfterSeconds ?? 0) > 0]).toEqual(['RELAY_STORE_FAILED', true])
    await ready(0, /^503/)
    // What it had begun when it stood still is done now, or not: nobody was told that it was stored.
    service.postgres.thaw()
    await ready(0, /^200 ready/)
    alice.send(absent.amid, 'said twice', 'message', refused)
    expect(await alice.outcome(refused)).toBe('stored')
    expect(await alice.outcome(alice.send(absent.amid, 'after'))).toBe('stored')
    const there = await agent(2, absent)
    expect(await there.receiveTexts(2)).toEqual(['said twice', 'after'])
  })
})

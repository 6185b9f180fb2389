/** Several routers with one mailbox, and a bus that delays, loses and breaks: what was promised is kept. */
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { amid, TestCluster, type TestRelay, type Wire } from './test-support-cluster.ts'

async function two(limits: ConstructorParameters<typeof TestCluster>[0] = {}) {
  const cluster = new TestCluster(limits)
  const relays = [cluster.relay(), cluster.relay()] as const
  await cluster.quiet()
  await cluster.seconds(1, relays)
  const [a, b] = relays
  const alice = a.connect(amid(1))
  const bob = b.connect(amid(2))
  await cluster.quiet()
  return { cluster, relays, a, b, alice, bob }
}

describe('Cluster', () => {
  it('delivers to an agent at another relay, in order, and tells the sender what the receiver acknowledged', async () => {
    const { cluster, alice, bob } = await two()
    for (const number of [1, 2, 3]) alice.send(bob.amid, number)
    await cluster.quiet()
    expect(bob.received()).toEqual([1, 2, 3])
    expect(alice.outcomes(1)).toEqual([])
    bob.acknowledge()
    await cluster.quiet()
    expect([1, 2, 3].map((number) => alice.outcomes(number))).toEqual([
      ['delivered'],
      ['delivered'],
      ['delivered'],
    ])
    expect(cluster.mailbox.messages).toBe(0)
  })

  it('shows the presence of agents at other relays, and who has left', async () => {
    const { cluster, b, alice, bob } = await two()
    expect(alice.presenceOf(bob.amid)).toBe('online')
    b.router.setPresence(bob, 'away')
    await cluster.quiet()
    expect(alice.presenceOf(bob.amid)).toBe('away')
    bob.end()
    await cluster.quiet()
    expect(alice.presenceOf(bob.amid)).toBe('offline')
  })

  it('holds KNOCKs back from an agent in dnd at another relay', async () => {
    const { cluster, b, alice, bob } = await two()
    b.router.setPresence(bob, 'dnd')
    await cluster.quiet()
    alice.send(bob.amid, 1, 'knock')
    alice.send(bob.amid, 2)
    await cluster.quiet()
    expect([bob.received(), alice.outcomes(1)]).toEqual([[2], ['stored']])
  })

  it('puts what an agent did not acknowledge into the mailbox, where its next relay finds it', async () => {
    const { cluster, a, alice, bob } = await two()
    alice.send(bob.amid, 1)
    await cluster.quiet()
    bob.end()
    await cluster.quiet()
    expect(alice.outcomes(1)).toEqual(['stored'])
    const again = a.connect(bob.amid)
    await cluster.quiet()
    expect(again.received()).toEqual([1])
  })

  it('wakes a receiver that came to another relay while its message was being stored', async () => {
    const { cluster, b, alice } = await two()
    alice.send(amid(3), 1)
    const carol = b.connect(amid(3))
    await cluster.quiet()
    expect([carol.received(), alice.outcomes(1)]).toEqual([[1], ['stored']])
  })

  it('lets the newer connection of an agent replace the older one at another relay', async () => {
    const { cluster, a, bob } = await two()
    // Also by a clock that stands still.
    const again = a.connect(bob.amid)
    await cluster.quiet()
    expect([bob.code, again.connected]).toEqual(['CONNECTION_REPLACED', true])
    expect(again.presenceOf(bob.amid)).toBe('online')
  })

  it('leaves one of two connections that came at the same moment', async () => {
    const { cluster, a, b } = await two()
    const connections = [a.connect(amid(3)), b.connect(amid(3))]
    await cluster.quiet()
    expect(connections.filter(({ connected }) => connected)).toHaveLength(1)
  })

  it('settles a double connection that nobody could know of when the relays hear of each other again', async () => {
    const { cluster, relays, a, b } = await two()
    cluster.bus.cut(b.instance)
    const older = a.connect(amid(3))
    await cluster.seconds(1, relays)
    const newer = b.connect(amid(3))
    await cluster.seconds(1, relays)
    expect([older.connected, newer.connected]).toEqual([true, true])
    cluster.bus.join(b.instance)
    await cluster.seconds(2, relays)
    expect([older.connected, newer.connected]).toEqual([false, true])
  })

  it('stores at once what NATS says nobody is there for', async () => {
    const { cluster, b, alice, bob } = await two()
    cluster.bus.kill(b.instance)
    alice.send(bob.amid, 1)
    await cluster.quiet()
    expect([alice.outcomes(1), cluster.mailbox.messages]).toEqual([['stored'], 1])
    expect(alice.presenceOf(bob.amid)).toBe('offline')
  })

  it('asks NATS for a relay that is quiet, and takes back at once what a dead one was given', async () => {
    const { cluster, a, b, alice, bob } = await two()
    alice.send(bob.amid, 1)
    await cluster.quiet()
    cluster.bus.kill(b.instance)
    await cluster.seconds(2, [a])
    expect([alice.outcomes(1), a.cluster.relays, alice.presenceOf(bob.amid)]).toEqual([
      ['stored'],
      0,
      'offline',
    ])
  })

  it('stores what a relay does not answer for, and forgets a relay that is silent', async () => {
    const { cluster, a, alice, bob } = await two()
    cluster.bus.loses = () => true
    alice.send(bob.amid, 1)
    await cluster.seconds(3, [a])
    expect(alice.outcomes(1)).toEqual([])
    await cluster.seconds(1, [a])
    expect([alice.outcomes(1), alice.presenceOf(bob.amid)]).toEqual([['stored'], 'online'])
    await cluster.seconds(2, [a])
    expect([a.cluster.relays, alice.presenceOf(bob.amid)]).toEqual([0, 'offline'])
  })

  it('stores what was on its way when its own link fails, and serves its own agents without', async () => {
    const { cluster, relays, a, b, alice, bob } = await two()
    alice.send(bob.amid, 1)
    cluster.bus.cut(a.instance)
    await cluster.quiet()
    const carol = a.connect(amid(3))
    await cluster.quiet()
    alice.send(carol.amid, 2)
    alice.send(bob.amid, 3)
    await cluster.quiet()
    expect([alice.outcomes(1), alice.outcomes(3), carol.received()]).toEqual([['stored'], ['stored'], [2]])
    expect(alice.presenceOf(bob.amid)).toBe('offline')
    // No word comes through to b; the poll finds it.
    await cluster.seconds(2, [b])
    expect(new Set(bob.received())).toEqual(new Set([1, 3]))
    cluster.bus.join(a.instance)
    await cluster.seconds(2, relays)
    expect([alice.presenceOf(bob.amid), bob.presenceOf(carol.amid)]).toEqual(['online', 'online'])
  })

  it('takes a message that was stored elsewhere out of the mailbox with the ACK of its live delivery', async () => {
    const { cluster, relays, a, alice, bob } = await two()
    alice.send(bob.amid, 1)
    await cluster.quiet()
    // Bob is slow: alice's relay stores it, bob's finds it there.
    await cluster.seconds(4, relays)
    expect([alice.outcomes(1), a.counters.forwardsReturned, cluster.mailbox.messages]).toEqual([
      ['stored'],
      1,
      1,
    ])
    bob.acknowledge()
    await cluster.quiet()
    expect([bob.received(), cluster.mailbox.messages]).toEqual([[1], 0])
  })

  it('lets no message overtake one that is still being stored', async () => {
    const { cluster, b, alice } = await two()
    let open: () => void = () => {}
    cluster.gate = new Promise((resolve) => {
      open = resolve
    })
    alice.send(amid(3), 1)
    const carol = b.connect(amid(3))
    await cluster.quiet()
    alice.send(amid(3), 2)
    await cluster.quiet()
    open()
    await cluster.quiet()
    expect(carol.received()).toEqual([1, 2])
  })

  it('keeps its order when messages go to the mailbox in between', async () => {
    const { cluster, alice, bob } = await two({ windowMessages: 2 })
    for (let number = 1; number <= 9; number++) {
      alice.send(bob.amid, number)
      if (number % 4 === 0) await cluster.quiet()
    }
    do await cluster.quiet()
    while (bob.acknowledge())
    expect(bob.received()).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9])
  })

  it('gives the SENT to the connection that asked last', async () => {
    const { cluster, a, alice, bob } = await two()
    alice.send(bob.amid, 1)
    await cluster.quiet()
    alice.end()
    const again = a.connect(alice.amid)
    await cluster.quiet()
    again.send(bob.amid, 1)
    bob.acknowledge()
    await cluster.quiet()
    expect([again.outcomes(1), bob.received()]).toEqual([['delivered'], [1]])
  })

  it('says goodbye: what it had in flight is stored, and nobody waits for it', async () => {
    const { cluster, a, b, alice, bob } = await two()
    alice.send(bob.amid, 1)
    await cluster.quiet()
    bob.send(alice.amid, 2)
    await cluster.quiet()
    await b.close()
    await cluster.quiet()
    expect([alice.outcomes(1), bob.outcomes(2)]).toEqual([['stored'], ['stored']])
    expect([alice.presenceOf(bob.amid), a.cluster.relays]).toEqual(['offline', 0])
  })

  it('bounds what waits for another relay', async () => {
    const { cluster, a, alice, bob } = await two({ windowMessages: 3 })
    cluster.bus.loses = () => true
    for (let number = 1; number <= 5; number++) alice.send(bob.amid, number)
    expect(a.cluster.waiting).toBe(3)
    await cluster.quiet()
    expect([4, 5].map((number) => alice.outcomes(number))).toEqual([['stored'], ['stored']])
  })

  it('counts what is not in form, and goes on', async () => {
    const { cluster, a, b, alice, bob } = await two()
    const stranger = cluster.bus.open('ff'.repeat(16) as never, {
      onUp() {},
      onDown() {},
      onMessage() {},
      onAbsent() {},
    })
    stranger.tell(b.instance, Uint8Array.of(1, 2, 3))
    stranger.broadcast('presence', new Uint8Array(100))
    alice.send(bob.amid, 1)
    await cluster.quiet()
    expect([a.counters.clusterMessagesRefused, b.counters.clusterMessagesRefused]).toEqual([1, 2])
    expect(bob.received()).toEqual([1])
  })

  const RELAYS = 3
  const relay = fc.nat({ max: RELAYS - 1 })
  const step = fc.oneof(
    {
      weight: 8,
      arbitrary: fc.record({
        do: fc.constant('send' as const),
        from: fc.constantFrom(1 as const, 2 as const),
      }),
    },
    { weight: 3, arbitrary: fc.constant({ do: 'ack' as const }) },
    { weight: 2, arbitrary: fc.record({ do: fc.constant('move' as const), to: relay }) },
    { weight: 1, arbitrary: fc.constant({ do: 'leave' as const }) },
    { weight: 1, arbitrary: fc.record({ do: fc.constant('cut' as const), relay }) },
    { weight: 2, arbitrary: fc.record({ do: fc.constant('join' as const), relay }) },
    { weight: 1, arbitrary: fc.record({ do: fc.constant('kill' as const), relay }) },
    {
      weight: 2,
      arbitrary: fc.record({ do: fc.constant('lose' as const), oneIn: fc.constantFrom(0, 2, 5) }),
    },
    { weight: 4, arbitrary: fc.constant({ do: 'step' as const }) },
    { weight: 2, arbitrary: fc.constant({ do: 'second' as const }) },
  )

  /** Two senders and a receiver at three relays; senders send again what was not answered for when their relay dies. */
  async function play(steps: (typeof step extends fc.Arbitrary<infer T> ? T : never)[]) {
    const limits = { windowMessages: 3, senderMessages: 1000, mailboxMessages: 1000 }
    const cluster = new TestCluster(limits)
    const relays = Array.from({ length: RELAYS }, () => cluster.relay())
    await cluster.seconds(1, relays)
    const senders = [1, 2].map((number) => ({ number, wires: [relays[number]!.connect(amid(number))] }))
    const sent: { from: number; number: number }[] = []
    const connections: Wire[] = []
    const current = (wires: Wire[]) => wires.findLast(({ connected }) => connected)
    let messages = 0
    const connect = (index: number, agent: number) => {
      cluster.clock.now += 1
      return relays[index % RELAYS]!.connect(amid(agent))
    }
    const kill = (index: number) => {
      const dead = relays[index]!
      cluster.bus.kill(dead.instance)
      relays[index] = cluster.relay()
      for (const wire of connections) if (wire.relay === dead) wire.connected = false
      for (const { number, wires } of senders) {
        if (current(wires)?.relay !== dead) continue
        current(wires)!.connected = false
        const wire = connect(index + 1, number)
        for (const each of sent.filter(({ from }) => from === number)) {
          if (!wires.some((old) => old.outcomes(each.number).length > 0)) wire.send(amid(3), each.number)
        }
        wires.push(wire)
      }
    }
    for (const each of steps) {
      switch (each.do) {
        case 'send': {
          const number = ++messages
          sent.push({ from: each.from, number })
          current(senders[each.from - 1]!.wires)!.send(amid(3), number)
          break
        }
        case 'ack':
          current(connections)?.acknowledge()
          break
        case 'move':
          current(connections)?.end()
          connections.push(connect(each.to, 3))
          break
        case 'leave':
          current(connections)?.end()
          break
        case 'cut':
          cluster.bus.cut(relays[each.relay]!.instance)
          break
        case 'join':
          cluster.bus.join(relays[each.relay]!.instance)
          break
        case 'kill':
          kill(each.relay)
          break
        case 'lose': {
          let count = 0
          cluster.bus.loses = () => each.oneIn > 0 && ++count % each.oneIn === 0
          break
        }
        case 'step':
          cluster.bus.step()
          await new Promise<void>((resolve) => setImmediate(resolve))
          break
        case 'second':
          await cluster.seconds(1, relays)
      }
    }
    cluster.bus.loses = () => false
    for (const { instance } of relays) cluster.bus.join(instance)
    if (current(connections) === undefined) connections.push(connect(0, 3))
    // Outcomes that were lost come by time, and what was stored for them by the next poll.
    for (let second = 0; second < 8; second++) {
      await cluster.seconds(1, relays)
      current(connections)!.acknowledge()
    }
    await cluster.quiet()
    return { cluster, relays, sent, senders, connections }
  }

  it('loses nothing it promised, and is of one mind again, whatever relays and bus do', async () => {
    const history = fc.array(step, { minLength: 10, maxLength: 80, size: 'max' })
    await fc.assert(
      fc.asyncProperty(history, async (steps) => {
        const { cluster, relays, sent, senders, connections } = await play(steps)
        const received = new Set(connections.flatMap((connection) => connection.received()))
        expect(received).toEqual(new Set(sent.map(({ number }) => number)))
        for (const { from, number } of sent) {
          const outcomes = senders[from - 1]!.wires.flatMap((wire) => wire.outcomes(number))
          expect(outcomes.length, `SENT of ${number}`).toBeGreaterThan(0)
        }
        expect([cluster.mailbox.messages, ...relays.map((each: TestRelay) => each.cluster.waiting)]).toEqual([
          0, 0, 0, 0,
        ])
        const last = connections.findLast(({ connected }) => connected)!
        for (const each of relays) {
          if (each !== last.relay) expect(each.cluster.presenceOf(amid(3))).toBe('online')
        }
      }),
      { numRuns: 80 },
    )
  })
})

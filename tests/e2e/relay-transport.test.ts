/** The contract of `Transport`, run on each implementation: `RelayConnection` over both subprotocols. */
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { startRelay, type RelayOptions, type RunningRelay } from '@agentmesh/relay'
import { systemRandom } from '@agentmesh/sdk/crypto/signing'
import { MAX_PAYLOAD_BYTES, newMessageId, utf8Bytes, utf8Text } from '@agentmesh/sdk/wire'
import { RelayConnection, type ReceivedMessage, type TransportState } from '@agentmesh/sdk/transport'
import { connected, newIdentity, temporaryFolder } from './relay-harness.ts'

let relay: RunningRelay
let folder: Awaited<ReturnType<typeof temporaryFolder>>
const open: RelayConnection[] = []

class Watched {
  readonly identity = newIdentity()
  readonly states: TransportState[] = []
  readonly received: ReceivedMessage[] = []
  readonly connection: RelayConnection
  #changed: () => void = () => {}

  constructor(subprotocol: 'bin' | 'json', identity = newIdentity()) {
    this.identity = identity
    this.connection = new RelayConnection({
      url: relay.url,
      identity,
      subprotocol,
      random: systemRandom,
      now: Date.now,
      // Reconnecting need not be waited for here; the waiting times have tests of their own.
      delay: (milliseconds, run) => {
        const timer = setTimeout(run, milliseconds > 10_000 ? milliseconds : 20)
        return () => clearTimeout(timer)
      },
      onReceive: (message) => {
        this.received.push(message)
        this.#changed()
      },
      onState: (state) => {
        this.states.push(state)
        this.#changed()
      },
    })
    open.push(this.connection)
  }

  async until(condition: () => boolean): Promise<void> {
    while (!condition()) await new Promise<void>((resolve) => (this.#changed = resolve))
  }

  async texts(count: number): Promise<string[]> {
    await this.until(() => this.received.length >= count)
    return this.received.map((message) => utf8Text(message.payload))
  }

  async send(to: Watched['identity'], text: string, id = newMessageId(systemRandom)) {
    return this.connection.send({ id, to: to.amid, type: 'message', payload: utf8Bytes(text) })
  }
}

const options = (): RelayOptions => ({ dataPath: `${folder.path}/relay.db` })

beforeEach(async () => {
  folder = await temporaryFolder()
  relay = await startRelay(options())
})
afterEach(async () => {
  await Promise.all(open.splice(0).map(async (connection) => connection.close()))
  await relay.close()
  await folder.remove()
})

describe.each(['bin', 'json'] as const)('Transport: relay over %s', (subprotocol) => {
  it('reports delivered once the receiver acknowledged, not before', async () => {
    const alice = new Watched(subprotocol)
    const bob = new Watched(subprotocol)
    await Promise.all([alice.connection.connect(), bob.connection.connect()])
    let answered = false
    const sent = alice.send(bob.identity, 'hello').finally(() => (answered = true))
    expect(await bob.texts(1)).toEqual(['hello'])
    expect(bob.received[0]).toMatchObject({ from: alice.identity.amid, type: 'message' })
    expect(await alice.connection.queryPresence(bob.identity.amid)).toBe('online')
    expect(answered).toBe(false)
    bob.received[0]!.ack()
    expect(await sent).toEqual({ status: 'delivered' })
  })

  it('keeps the order of a thousand messages, and answers each', async () => {
    const alice = new Watched(subprotocol)
    const bob = new Watched(subprotocol)
    await Promise.all([alice.connection.connect(), bob.connection.connect()])
    const texts = Array.from({ length: 1000 }, (_, index) => `${index}`)
    const sent = Promise.all(texts.map(async (text) => alice.send(bob.identity, text)))
    for (let index = 0; index < texts.length; index++) {
      await bob.until(() => bob.received.length > index)
      bob.received[index]!.ack()
    }
    expect(await bob.texts(1000)).toEqual(texts)
    expect(new Set((await sent).map(({ status }) => status))).toEqual(new Set(['delivered']))
  })

  it('acknowledges only up to the lowest message that is open, in whatever order they are done', async () => {
    const alice = new Watched(subprotocol)
    const bob = new Watched(subprotocol)
    await Promise.all([alice.connection.connect(), bob.connection.connect()])
    const sent = ['1', '2', '3'].map(async (text) => alice.send(bob.identity, text))
    await bob.texts(3)
    bob.received[2]!.ack()
    bob.received[0]!.ack()
    expect(await sent[0]).toEqual({ status: 'delivered' })
    // Nobody says anything about 2 and 3: the connection ends, and both were never lost.
    await bob.connection.close()
    expect(await Promise.all(sent.slice(1))).toEqual([{ status: 'stored' }, { status: 'stored' }])
    const again = new Watched(subprotocol, bob.identity)
    await again.connection.connect()
    expect(await again.texts(2)).toEqual(['2', '3'])
  })

  it('says stored for an agent that is away, and refused with a code', async () => {
    const alice = new Watched(subprotocol)
    await alice.connection.connect()
    const away = newIdentity()
    const results = await Promise.all(
      Array.from({ length: 21 }, async (_, index) => alice.send(away, `${index}`)),
    )
    for (const result of results.slice(0, 20)) expect(result).toEqual({ status: 'stored' })
    expect(results[20]).toMatchObject({ status: 'refused', code: 'SENDER_QUOTA' })
    expect(results[20]!.retryAfterSeconds).toBeGreaterThan(0)
    const large = { id: newMessageId(systemRandom), to: away.amid, type: 'message' as const }
    expect(await alice.connection.send({ ...large, payload: new Uint8Array(MAX_PAYLOAD_BYTES + 1) })).toEqual(
      {
        status: 'refused',
        code: 'TOO_LARGE',
      },
    )
  })

  it('rejects what is unanswered when the relay goes, connects again by itself, and arrives once', async () => {
    const alice = new Watched(subprotocol)
    const bob = new Watched(subprotocol)
    await Promise.all([alice.connection.connect(), bob.connection.connect()])
    const { port } = relay
    await relay.close()
    await alice.until(() => alice.connection.state !== 'connected')
    const id = newMessageId(systemRandom)
    await expect(alice.send(bob.identity, 'lost', id)).rejects.toMatchObject({ code: 'RELAY_DISCONNECTED' })
    relay = await startRelay({ ...options(), port })
    await Promise.all(
      [alice, bob].map(async (each) => each.until(() => each.connection.state === 'connected')),
    )
    const sent = alice.send(bob.identity, 'not lost', id)
    expect(await bob.texts(1)).toEqual(['not lost'])
    bob.received[0]!.ack()
    expect(await sent).toEqual({ status: 'delivered' })
    expect(alice.states.slice(0, 3)).toEqual(['connecting', 'connected', 'waiting'])
  })

  it('stays away when another connection of its AMID took over, until it is told to connect', async () => {
    const first = new Watched(subprotocol)
    await first.connection.connect()
    const second = new Watched(subprotocol === 'bin' ? 'json' : 'bin', first.identity)
    await second.connection.connect()
    await first.until(() => first.connection.state === 'replaced')
    expect(first.states).toEqual(['connecting', 'connected', 'replaced'])
    await expect(first.send(second.identity, 'x')).rejects.toMatchObject({ code: 'RELAY_DISCONNECTED' })
    await first.connection.connect()
    await second.until(() => second.connection.state === 'replaced')
    expect(first.connection.state).toBe('connected')
  })

  it('shows its presence to others, also the one set before it connected', async () => {
    const alice = new Watched(subprotocol)
    const bob = await connected(relay.url)
    alice.connection.setPresence('away')
    await alice.connection.connect()
    const asked = async () => {
      // Alice's own answered query tells that her PRESENCE before it was read.
      await alice.connection.queryPresence(bob.amid)
      bob.write({ frame: 'PRESENCE_QUERY', amid: alice.identity.amid })
      return (await bob.next('PRESENCE_RESULT')).state
    }
    expect(await asked()).toBe('away')
    alice.connection.setPresence('dnd')
    expect(await asked()).toBe('dnd')
    await alice.connection.close()
    expect(alice.states.at(-1)).toBe('closed')
  })

  it('rejects presence queries beyond the limit, and answers again those within', async () => {
    const alice = new Watched(subprotocol)
    await alice.connection.connect()
    const results = await Promise.allSettled(
      Array.from({ length: 70 }, async () => alice.connection.queryPresence(alice.identity.amid)),
    )
    const rejected = results.filter((result) => result.status === 'rejected')
    expect(rejected.length).toBeGreaterThan(0)
    for (const { reason } of rejected) expect(reason).toMatchObject({ code: 'RATE_LIMITED' })
    expect(results.filter((result) => result.status === 'fulfilled').length).toBeGreaterThanOrEqual(60)
  })
})

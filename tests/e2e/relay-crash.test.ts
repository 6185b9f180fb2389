/** The relay as a process of its own, killed without warning, on each of its databases. */
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { TestPostgres } from '../../apps/relay/src/test-support-postgres.ts'
import {
  connected,
  newIdentity,
  RawAgent,
  spawnRelay,
  temporaryFolder,
  type RelayProcess,
} from './relay-harness.ts'

let folder: Awaited<ReturnType<typeof temporaryFolder>>
let postgres: TestPostgres
let relay: RelayProcess
let database: string
const data = () => database

beforeAll(async () => {
  postgres = await TestPostgres.start()
})
afterAll(async () => postgres.stop())

beforeEach(async () => {
  folder = await temporaryFolder()
})
afterEach(async () => {
  await relay.end('SIGKILL')
  await folder.remove()
})

describe.each(['SQLite', 'PostgreSQL'])('on %s', (engine) => {
  beforeEach(async () => {
    database = engine === 'SQLite' ? `${folder.path}/relay.db` : await postgres.create()
    relay = await spawnRelay(data())
  })

  it('a relay killed with kill -9 has every message it called stored, once and in order', async () => {
    const identity = newIdentity()
    const senders = await Promise.all(
      ['bin', 'json', 'bin'].map(async (each) =>
        connected(relay.url, { subprotocol: each as 'bin' | 'json' }),
      ),
    )
    // Killed while answers are still coming in: what counts is what was promised until then.
    const promised = new Map<RawAgent, string[]>()
    let answers = 0
    const killed = Promise.all(
      senders.map(async (sender) => {
        const texts: string[] = []
        promised.set(sender, texts)
        const ids = Array.from({ length: 18 }, (_, index) => sender.send(identity.amid, `${index}`))
        for (const [index, id] of ids.entries()) {
          const outcome = await sender.outcome(id).catch(() => 'no answer')
          if (outcome !== 'stored') return
          texts.push(`${index}`)
          answers += 1
          if (answers === 20) await relay.end('SIGKILL')
        }
      }),
    )
    await killed
    expect(answers).toBeGreaterThanOrEqual(20)

    relay = await spawnRelay(data(), relay.port)
    const receiver = new RawAgent(relay.url, 'bin', identity)
    const { pendingMessages } = await receiver.connect()
    const received: { from: string; text: string }[] = []
    for (let index = 0; index < pendingMessages; index++) received.push(await receiver.receive())
    for (const [sender, texts] of promised) {
      const own = received.filter(({ from }) => from === sender.amid).map(({ text }) => text)
      // More may be there than was promised (the answer was lost), never less, and nothing twice.
      expect(own.slice(0, texts.length)).toEqual(texts)
      expect(new Set(own).size).toBe(own.length)
    }
  })

  it('a message whose answer was lost in the crash is sent again under its id and arrives once', async () => {
    const identity = newIdentity()
    const sender = await connected(relay.url)
    const id = sender.send(identity.amid, 'only once')
    expect(await sender.outcome(id)).toBe('stored')
    await relay.end('SIGKILL')
    relay = await spawnRelay(data(), relay.port)
    const again = await connected(relay.url, { identity: sender.identity })
    again.send(identity.amid, 'only once', 'message', id)
    expect(await again.outcome(id)).toBe('stored')
    const receiver = new RawAgent(relay.url, 'json', identity)
    expect((await receiver.connect()).pendingMessages).toBe(1)
  })

  it('messages received and acknowledged before the crash do not come again', async () => {
    const sender = await connected(relay.url)
    const identity = newIdentity()
    for (const text of ['a', 'b']) await sender.outcome(sender.send(identity.amid, text))
    const receiver = await connected(relay.url, { identity })
    await receiver.receive()
    receiver.ack(1)
    await receiver.receive()
    // A second stored message is committed after the removal it follows.
    await sender.outcome(sender.send(newIdentity().amid, 'later'))
    await receiver.settle()
    await sender.outcome(sender.send(newIdentity().amid, 'later still'))
    await relay.end('SIGKILL')
    relay = await spawnRelay(data(), relay.port)
    const again = await connected(relay.url, { identity })
    expect((await again.receive()).text).toBe('b')
  })

  it('SIGTERM stores what is in flight and ends with exit code 0', async () => {
    // Agents are told in the order in which they came; a sender that goes first sends again where it connects next.
    const receiver = await connected(relay.url)
    const sender = await connected(relay.url)
    const id = sender.send(receiver.amid, 'in flight')
    await receiver.receive()
    const ended = relay.end('SIGTERM')
    expect(await sender.outcome(id)).toBe('stored')
    expect(await receiver.next('ERROR')).toMatchObject({ code: 'RELAY_SHUTTING_DOWN', fatal: true })
    expect(await ended).toBe(0)
    relay = await spawnRelay(data(), relay.port)
    const again = await connected(relay.url, { identity: receiver.identity })
    expect(await again.receiveTexts(1)).toEqual(['in flight'])
  })
})

it('a second relay on the same file refuses to start', async () => {
  database = `${folder.path}/relay.db`
  relay = await spawnRelay(data())
  await expect(spawnRelay(data())).rejects.toThrow(/ended with 1/)
})

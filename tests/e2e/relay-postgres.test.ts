/** Relays in processes of their own on one PostgreSQL database, which agents may change between and which may go away. */
import { setImmediate as turn } from 'node:timers/promises'
import pg from 'pg'
import { afterAll, afterEach, beforeAll, beforeEach, expect, it } from 'vitest'
import { TestPostgres } from '../../apps/relay/src/test-support-postgres.ts'
import { connected, newIdentity, RawAgent, spawnRelay, type RelayProcess } from './relay-harness.ts'

let postgres: TestPostgres
let url: string
let relays: RelayProcess[]

beforeAll(async () => {
  postgres = await TestPostgres.start()
})
afterAll(async () => postgres.stop())
beforeEach(async () => {
  url = await postgres.create()
  // At once, on an empty database: both would make its tables.
  relays = await Promise.all([spawnRelay(url, 0, 'silent'), spawnRelay(url, 0, 'silent')])
})
afterEach(async () => {
  await Promise.all(relays.map(async (relay) => relay.end('SIGKILL')))
})

async function status(relay: RelayProcess, path: string): Promise<number> {
  const answer = await fetch(`${relay.url.replace('ws:', 'http:')}${path}`)
  await answer.body?.cancel()
  return answer.status
}

/** What was acknowledged is removed after the ACK, and until then it may be delivered again elsewhere. */
async function holds(messages: number): Promise<void> {
  const client = new pg.Client({ connectionString: url })
  await client.connect()
  const count = async () => (await client.query('SELECT FROM relay_mail')).rowCount
  while ((await count()) !== messages) await turn()
  await client.end()
}

it('an agent that moves to the other relay gets its mail there, each message once', async () => {
  const [first, second] = relays as [RelayProcess, RelayProcess]
  const identity = newIdentity()
  const sender = await connected(first.url)
  const say = async (text: string) =>
    expect(await sender.outcome(sender.send(identity.amid, text))).toBe('stored')
  for (const text of ['a', 'b', 'c']) await say(text)

  const here = await connected(second.url, { identity })
  expect((await here.receive()).text).toBe('a')
  here.ack(1)
  await holds(2)
  await here.close()
  await say('d')

  const back = await connected(first.url, { identity, subprotocol: 'json' })
  expect(await back.receiveTexts(3)).toEqual(['b', 'c', 'd'])
  await holds(0)
  // Delivered live, and left unacknowledged.
  const live = sender.send(identity.amid, 'e')
  expect((await back.receive()).text).toBe('e')
  await back.close()
  expect(await sender.outcome(live)).toBe('stored')
  const again = await connected(second.url, { identity })
  expect(await again.receiveTexts(1)).toEqual(['e'])
  await holds(0)
  await again.close()
  const last = new RawAgent(first.url, 'bin', identity)
  expect((await last.connect()).pendingMessages).toBe(0)
})

it('what a killed relay called stored is at the other one', async () => {
  const [first, second] = relays as [RelayProcess, RelayProcess]
  const identity = newIdentity()
  const sender = await connected(first.url)
  const ids = Array.from({ length: 18 }, (_, index) => sender.send(identity.amid, String(index)))
  const promised: string[] = []
  for (const [index, id] of ids.entries()) {
    if ((await sender.outcome(id).catch(() => 'no answer')) !== 'stored') continue
    promised.push(String(index))
    if (promised.length === 3) await first.end('SIGKILL')
  }
  // Three were said to be stored, and then it was killed: nothing after this line would hold it to anything otherwise.
  expect(promised.length).toBeGreaterThanOrEqual(3)
  const receiver = await connected(second.url, { identity })
  expect((await receiver.receiveTexts(promised.length)).slice(0, promised.length)).toEqual(promised)
})

it('while the database is away senders are refused, agents talk on, and it heals alone', async () => {
  const [relay] = relays as [RelayProcess]
  const [alice, bob] = [await connected(relay.url), await connected(relay.url)]
  await bob.settle()
  const absent = newIdentity()
  expect(await alice.outcome(alice.send(absent.amid, 'before'))).toBe('stored')
  expect(await status(relay, '/readyz')).toBe(200)

  await postgres.kill()
  const refused = await (async () => {
    for (;;) {
      const id = alice.send(absent.amid, 'meanwhile')
      const sent = await alice.next('SENT', (frame) => frame.id === id)
      if (sent.status === 'refused') return { id, sent }
    }
  })()
  expect(refused.sent).toMatchObject({ code: 'RELAY_STORE_FAILED', retryAfterSeconds: expect.any(Number) })
  expect([await status(relay, '/healthz'), await status(relay, '/readyz')]).toEqual([200, 503])
  const live = alice.send(bob.amid, 'live')
  const { sequence, text } = await bob.receive()
  bob.ack(sequence)
  expect([text, await alice.outcome(live)]).toEqual(['live', 'delivered'])

  await postgres.start()
  while ((await status(relay, '/readyz')) !== 200) await turn()
  alice.send(absent.amid, 'meanwhile', 'message', refused.id)
  expect(await alice.outcome(refused.id)).toBe('stored')
  const receiver = await connected(relay.url, { identity: absent })
  expect((await receiver.receive()).text).toBe('before')
  expect((await receiver.receive()).text).toBe('meanwhile')
})

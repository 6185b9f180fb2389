/** What an agent keeps of a peer, and that it is gone: when the owner says so, and when nobody speaks any more. */
import { join } from 'node:path'
import type { Agent } from '@agentmesh/sdk'
import { Home, openIdentity } from '@agentmesh/sdk/identity'
import { systemRandom } from '@agentmesh/sdk/crypto/signing'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { StateStore } from '../../packages/sdk/src/agent/store/index.ts'
import { TABLES } from '../../packages/sdk/src/agent/tables.ts'
import { FLIGHTS, TestNetwork } from '../support/network.ts'

let network: TestNetwork
let skew: number
const now = (): number => Date.now() + skew

const ask = (n: unknown) => ({ intent: FLIGHTS, parameters: { n } })

beforeEach(async () => {
  skew = 0
  network = await TestNetwork.start(now)
})
afterEach(() => network.close())

/** The tables of a closed agent that have a row about somebody, in its key, its index or its value. */
function tablesAbout(agent: Agent, words: readonly string[]): string[] {
  const { storageKey } = openIdentity(Home.open(agent.home))
  const path = join(agent.home, 'state.db')
  const store = StateStore.open(path, storageKey, { tables: TABLES, random: systemRandom })
  const names = Object.keys(TABLES) as (keyof typeof TABLES)[]
  const found = names.filter((name) =>
    store.tables[name].list().some((row) => {
      const text = JSON.stringify(row, (_key, value: unknown) =>
        value instanceof Uint8Array ? Buffer.from(value).toString('latin1') : value,
      )
      return words.some((word) => text.includes(word))
    }),
  )
  store.close()
  return found
}

test('forgetting a peer leaves no row about it but filters against replays', async () => {
  const alice = await network.agent('alice')
  const bob = await network.agent('bob')
  for (const agent of [alice, bob]) agent.on('request', () => ({ results: 'a secret of alice and bob' }))
  await (await alice.send(bob.amid, ask('a secret question'))).answer()
  await (await bob.send(alice.amid, ask('another one'))).answer()
  const { session_id } = alice.sessions()[0]!
  await bob.conversation(session_id).send('status', { status: 'waiting', message: 'nobody read this' })
  // What fails, what waits for a session, and what never found one.
  const single = { sessionType: 'request_response' } as const
  bob.setPolicy({ ...bob.policy(), strict_mode: true })
  await expect((await alice.send(bob.amid, ask(1), single)).answer()).rejects.toMatchObject({
    code: 'KNOCK_REJECTED',
  })
  await bob.close()
  const waiting = await alice.send(bob.amid, ask('still waits'), single)
  for await (const { stage } of waiting.progress()) if (stage === 'stored') break
  const words = [bob.amid, 'a secret', 'nobody read this', 'still waits', session_id]

  await alice.close()
  const before = tablesAbout(alice, words)
  for (const table of ['sessions', 'outgoing', 'incoming', 'requests', 'handshakes', 'decisions', 'contacts'])
    expect(before).toContain(table)

  const again = await network.agent('alice')
  await again.forget(bob.amid)
  await again.close()
  expect(tablesAbout(again, words).filter((table) => table !== 'seen')).toEqual([])
  // The filter knows sessions, by their random ids, and nobody's name.
  expect(tablesAbout(again, [bob.amid])).toEqual([])
})

test('a session nobody used for the owner’s time ends with `timeout`, on both sides', async () => {
  const alice = await network.agent('alice', { session_idle_seconds: 600 }, { now })
  const bob = await network.agent('bob', {}, { now })
  bob.on('request', () => ({ results: 1 }))
  await (await alice.send(bob.amid, ask(1))).answer()
  expect(alice.sessions()).toMatchObject([{ state: 'open' }])
  const ended = { timeout: 30_000 }
  // A receipt under way is a sign of life: time goes on until there is none.
  const later = () => {
    skew += 60_000
    return alice.sessions()[0]?.state
  }
  await expect.poll(later, ended).toBe('closed')
  expect(skew).toBeLessThan(12 * 3_600_000)
  await expect.poll(() => bob.sessions()[0]?.state, ended).toBe('closed')
  expect([...alice.sessions(), ...bob.sessions()].map(({ close_reason }) => close_reason)).toEqual([
    'timeout',
    'timeout',
  ])
})

test('without a word of the owner it ends after 24 hours, and not before', async () => {
  const alice = await network.agent('alice', {}, { now })
  const bob = await network.agent('bob', {}, { now })
  bob.on('request', () => ({ results: 1 }))
  await (await alice.send(bob.amid, ask(1), { sessionType: 'stream' })).answer()
  skew = 23 * 3_600_000
  // Still the one session: the next request needs no KNOCK.
  await (await alice.send(bob.amid, ask(2), { sessionType: 'stream' })).answer({ timeoutSeconds: 30 })
  expect(alice.sessions()).toMatchObject([{ state: 'open' }])
  skew = 25 * 3_600_000
  await expect.poll(() => alice.sessions()[0]?.state, { timeout: 30_000 }).toBe('closed')
  expect(alice.sessions()[0]).toMatchObject({ close_reason: 'timeout' })
})

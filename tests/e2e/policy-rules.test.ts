/** The owner's rules where they meet a running agent: at a KNOCK, at an open session, at a request. */
import { once } from 'node:events'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { defaultPolicy, type Agent, type Policy } from '@agentmesh/sdk'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { FLIGHTS, stagesOf, TestNetwork } from '../support/network.ts'

const talk = { sessionType: 'conversation' } as const
const ask = { intent: FLIGHTS, parameters: {} }

let network: TestNetwork
let bob: Agent
let alice: Agent

beforeEach(async () => {
  network = await TestNetwork.start()
  bob = await network.agent('bob')
  bob.on('request', () => ({ results: 1 }))
  alice = await network.agent('alice')
})
afterEach(() => network.close())

async function talking(): Promise<void> {
  await (await alice.send(bob.amid, ask, talk)).answer()
}

/** As an owner does it, in an editor. */
function edit(policy: Partial<Policy>): void {
  writeFileSync(join(bob.home, 'policy.json'), JSON.stringify({ ...defaultPolicy(), ...policy }))
}

const breaking: [string, (peer: string) => object][] = [
  ['the blocklist', (peer) => ({ blocklist: [peer], allowlist: [peer] })],
  ['tiers', () => ({ accept_tiers: [1, 1.5] })],
  ['intents', () => ({ accepted_intents: ['finance'] })],
  ['strict mode', () => ({ strict_mode: true })],
  ['the least reputation', () => ({ min_reputation: 0.6 })],
]

test.each(breaking)(
  'an edit of %s ends the session of a peer that it is against',
  async (_name, policyFor) => {
    await talking()
    const ended = Promise.all([once(bob.events, 'session'), once(alice.events, 'session')])
    edit(policyFor(alice.amid))
    await ended
    expect(bob.sessions()).toMatchObject([{ state: 'closed', close_reason: 'policy' }])
    expect(alice.sessions()).toMatchObject([{ state: 'closed', close_reason: 'policy' }])
  },
)

test('an edit that is not against the peer leaves its session open', async () => {
  await talking()
  edit({ strict_mode: true, allowlist: [alice.amid], min_reputation: 0.5, accepted_intents: ['travel'] })
  await talking()
  expect(bob.sessions()).toHaveLength(1)
  expect(bob.sessions()[0]).toMatchObject({ state: 'open' })
})

test('an agent whose places are taken refuses the next KNOCK, and says when to ask again', async () => {
  edit({ max_concurrent_sessions: 1 })
  await talking()
  const carol = await network.agent('carol')
  const refused = await carol.send(bob.amid, ask, talk)
  await expect(refused.answer()).rejects.toMatchObject({ code: 'KNOCK_REJECTED', message: /^at_capacity/ })
  const stages = await stagesOf(refused)
  expect(stages.find(({ reject }) => reject)?.reject).toMatchObject({ retry_after_seconds: 60 })
})

test('a KNOCK that waited in the mailbox is refused where the owner wants that, and one that comes live is not', async () => {
  edit({ auto_reject_when_offline: true })
  await bob.close()
  const waiting = await alice.send(bob.amid, ask, talk)
  for await (const { stage } of waiting.progress()) if (stage === 'stored') break
  bob = await network.agent('bob')
  bob.on('request', () => ({ results: 1 }))
  await expect(waiting.answer()).rejects.toMatchObject({ code: 'KNOCK_REJECTED', message: /^paused/ })
  await talking()
})

test('a pause survives a restart', async () => {
  await bob.pause()
  await bob.close()
  bob = await network.agent('bob')
  bob.on('request', () => ({ results: 1 }))
  expect(bob.status().breaker).toBe('paused')
  const refused = await alice.send(bob.amid, ask, talk)
  await expect(refused.answer()).rejects.toMatchObject({ code: 'KNOCK_REJECTED', message: /^paused/ })
})

test('a session let in for something of low urgency carries nothing critical', async () => {
  const low = { ...FLIGHTS, urgency: 'low' } as const
  const critical = { ...FLIGHTS, urgency: 'critical' } as const
  await (await alice.send(bob.amid, { intent: low, parameters: {} }, talk)).answer()
  const refusals = once(alice.events, 'message')
  const conversation = alice.conversation(alice.sessions()[0]!.session_id)
  await conversation.send('request', { intent: critical, parameters: {} })
  await refusals
  const messages = conversation[Symbol.asyncIterator]()
  for (;;) {
    const { value } = await messages.next()
    if (value?.type !== 'error') continue
    expect(value.payload).toMatchObject({ code: 'INTENT_MISMATCH' })
    break
  }
  // Sent by itself, it knocks: the peer decides about it anew.
  await (await alice.send(bob.amid, { intent: critical, parameters: {} }, talk)).answer()
  const urgencies = alice.sessions().map(({ intent }) => intent.urgency)
  expect(new Set(urgencies)).toEqual(new Set(['critical', 'low']))
})

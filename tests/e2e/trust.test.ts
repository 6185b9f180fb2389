/** What agents can prove of themselves, what others make of it, and what becomes of lies. Real registries with a CA. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { startRelay, type RunningRelay } from '@agentmesh/relay'
import { Agent, defaultPolicy, type AgentOptions, type IncomingRequest } from '@agentmesh/sdk'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { CertifiedRegistry } from '../support/certified-registry.ts'
import { FLIGHTS, stagesOf } from '../support/network.ts'

const QUESTION = { intent: FLIGHTS, parameters: {} }
let folder: string
let relay: RunningRelay
let home: CertifiedRegistry
let now: number
const closing: (() => Promise<unknown>)[] = []
const clock = (): number => now

beforeEach(async () => {
  now = Date.now()
  folder = mkdtempSync(join(tmpdir(), 'agentmesh-trust-'))
  relay = await startRelay({ dataPath: join(folder, 'relay.db') })
  home = await certified('home')
})
afterEach(async () => {
  for (const close of closing.splice(0).toReversed()) await close()
  await relay.close()
  rmSync(folder, { recursive: true, force: true })
})

async function certified(name: string): Promise<CertifiedRegistry> {
  const registry = await CertifiedRegistry.start(folder, name, clock)
  closing.push(() => registry.close())
  return registry
}

async function agent(name: string, { registry } = home, config: AgentOptions['config'] = {}): Promise<Agent> {
  const opened = await Agent.open({
    home: join(folder, name),
    config: { relays: [relay.url], registry: registry.url, display_name: name, ...config },
    now: clock,
  })
  closing.push(() => opened.close())
  await opened.ready()
  return opened
}

/** Answers requests, and keeps what was known of who asked. */
function answering(responder: Agent): IncomingRequest['provenance'][] {
  const seen: IncomingRequest['provenance'][] = []
  responder.on('request', async (request) => {
    seen.push(request.provenance)
    return { results: {} }
  })
  return seen
}

async function ask(from: Agent, to: Agent): Promise<void> {
  const sent = await from.send(to.amid, QUESTION)
  await sent.answer()
}

test('a verified agent is known as such to both sides, by the name that was certified', async () => {
  const [alice, bob] = [await agent('alice'), await agent('bob')]
  const seen = answering(bob)
  await ask(alice, bob)
  expect(seen[0]).toMatchObject({ tier: 'anonymous', reputation: 0.5 })
  expect(seen[0]).not.toHaveProperty('display_name')

  await home.verify(alice, 'Alice A.')
  await home.verify(bob, 'Bob B.')
  expect(alice.status().trust).toMatchObject({
    tier: 'verified',
    display_name: 'Alice A.',
    registries: ['home'],
  })
  for (const { session_id } of alice.sessions()) await alice.killSession(session_id)
  await ask(alice, bob)
  expect(seen[1]).toMatchObject({ tier: 'verified', display_name: 'Alice A.', registry: 'home' })
  expect(alice.sessions()[0]).toMatchObject({ state: 'open', peer: bob.amid, peer_tier: 'verified' })
  const [decision] = bob.decisions({ from: alice.amid })
  expect(decision?.trace).toContainEqual(
    expect.objectContaining({
      rule: 'certificate',
      passed: true,
      inputs: expect.objectContaining({
        chain: 'valid',
        log: 'proven',
        revocation: 'good',
        tier: 'verified',
      }),
    }),
  )
  const found = await bob.search({ capability: 'travel', tier_min: 'verified' })
  expect(found.agents).toEqual([])
})

test('an owner who asks for a tier lets in who proves it, and nobody else', async () => {
  const [alice, bob] = [await agent('alice'), await agent('bob')]
  answering(bob)
  bob.setPolicy({ ...defaultPolicy(), accept_tiers: [1, 1.5] }, 'api')
  const refused = await stagesOf(await alice.send(bob.amid, QUESTION))
  expect(refused.at(-1)).toMatchObject({ stage: 'failed', code: 'KNOCK_REJECTED' })
  expect(bob.decisions({ from: alice.amid })[0]?.reason).toBe('insufficient_trust')
  await home.verify(alice, 'Alice')
  await ask(alice, bob)
})

describe('lies', () => {
  test('an organisation in the display name of an anonymous agent is only a name', async () => {
    const bob = await agent('bob')
    const seen = answering(bob)
    await ask(await agent('Airline (verified organisation)'), bob)
    expect(seen[0]).toMatchObject({ tier: 'anonymous' })
    expect(seen[0]).not.toHaveProperty('organization')
    expect(seen[0]).not.toHaveProperty('display_name')
  })

  test('a certificate that was revoked', async () => {
    const [alice, bob] = [await agent('alice'), await agent('bob')]
    answering(bob)
    await home.verify(alice, 'Alice')
    await home.revoke(alice, 'keyCompromise')
    await bob.trust.refresh()
    const stages = await stagesOf(await alice.send(bob.amid, QUESTION))
    expect(stages.at(-1)).toMatchObject({ stage: 'failed', code: 'KNOCK_REJECTED' })
    expect(bob.decisions({ from: alice.amid })[0]).toMatchObject({ reason: 'unverified_claim' })
    // Its own agent learns it from the registry, and claims no more than it has.
    await alice.trust.refresh()
    expect(alice.status().trust.tier).toBe('anonymous')
    await ask(alice, bob)
  })
})

test('agents of two registries see each other’s tier under the root they trust, or none', async () => {
  const abroad = await certified('abroad')
  const [alice, bob] = [await agent('alice'), await agent('bob', abroad)]
  await home.verify(alice, 'Alice')
  await abroad.verify(bob, 'Bob')
  const seen = answering(bob)

  // Nobody was told of the other registry: alice cannot even find bob.
  const lost = await stagesOf(await alice.send(bob.amid, QUESTION))
  expect(lost.at(-1)).toMatchObject({ code: 'AGENT_NOT_FOUND' })

  await alice.trust.add(abroad.registry.url, abroad.fingerprint)
  await ask(alice, bob)
  expect(seen[0]).toMatchObject({ tier: 'anonymous' })
  expect(bob.decisions({ from: alice.amid })[0]?.trace).toContainEqual(
    expect.objectContaining({
      rule: 'certificate',
      inputs: expect.objectContaining({ chain: 'unknown_root' }),
    }),
  )
  expect(alice.sessions()[0]).toMatchObject({ peer_tier: 'verified' })

  await bob.trust.add(home.registry.url, home.fingerprint)
  for (const { session_id, state } of alice.sessions()) {
    if (state === 'open') await alice.killSession(session_id)
  }
  await ask(alice, bob)
  expect(seen[1]).toMatchObject({ tier: 'verified', display_name: 'Alice', registry: 'home' })
})

test('a registry is trusted by its fingerprint and by no other', async () => {
  const abroad = await certified('abroad')
  const alice = await agent('alice')
  await expect(alice.trust.add(abroad.registry.url, home.fingerprint)).rejects.toMatchObject({
    code: 'CERTIFICATE_INVALID',
  })
  expect(await alice.trust.inspect(abroad.registry.url)).toMatchObject({
    name: 'abroad',
    fingerprint: abroad.fingerprint,
  })
  expect(() => alice.trust.remove('abroad')).toThrow(expect.objectContaining({ code: 'TRUST_UNKNOWN' }))
  await alice.trust.add(abroad.registry.url, abroad.fingerprint)
  expect(alice.trust.list().map(({ name, by }) => [name, by])).toEqual([
    ['home', 'first_use'],
    ['abroad', 'owner'],
  ])
  alice.trust.remove('abroad')
  expect(alice.trust.list()).toHaveLength(1)
})

describe('rating', () => {
  test('both sides sign the end of a session, and each can rate the other once', async () => {
    const [alice, bob] = [await agent('alice'), await agent('bob')]
    answering(bob)
    await ask(alice, bob)
    const session = alice.sessions()[0]?.session_id ?? ''
    await expect(alice.rate(session, 1)).rejects.toMatchObject({ code: 'SESSION_NOT_CLOSED' })
    await alice.conversation(session).close({ reason: 'completed' })
    await expect.poll(() => rated(alice, session, 0.9), { timeout: 10_000 }).toBe(true)
    await expect(alice.rate(session, 0.1)).rejects.toMatchObject({ code: 'FEEDBACK_REPEATED' })
    await expect.poll(() => rated(bob, session, 0.8), { timeout: 10_000 }).toBe(true)
    await expect(bob.rate(session, 2)).rejects.toMatchObject({ code: 'FEEDBACK_REPEATED' })
    await expect.poll(() => feedbackOf(bob), { timeout: 20_000 }).toBe(1)
    await expect.poll(() => feedbackOf(alice), { timeout: 20_000 }).toBe(1)
  })

  test('two sides that close at the same time agree on the initiator’s word', async () => {
    const [alice, bob] = [await agent('alice'), await agent('bob')]
    answering(bob)
    await ask(alice, bob)
    const session = alice.sessions()[0]?.session_id ?? ''
    const ends = [alice, bob].map((one) => one.conversation(session))
    await Promise.all([ends[0]?.close({ reason: 'completed' }), ends[1]?.close({ reason: 'error' })])
    await expect.poll(() => rated(alice, session, 0.9), { timeout: 10_000 }).toBe(true)
    await expect.poll(() => rated(bob, session, 0.8), { timeout: 10_000 }).toBe(true)
    expect([alice, bob].map((one) => one.session(session).close_reason)).toEqual(['completed', 'completed'])
    // They did cross: the responder said it twice.
    const closes = bob.session(session).messages.filter(({ type }) => type === 'close')
    expect(closes.map(({ direction }) => direction).toSorted()).toEqual(['in', 'out', 'out'])
    await expect.poll(() => feedbackOf(alice), { timeout: 20_000 }).toBe(1)
    await expect.poll(() => feedbackOf(bob), { timeout: 20_000 }).toBe(1)
  })

  test('a rating goes to the registry that speaks for the peer', async () => {
    const abroad = await certified('abroad')
    const [alice, bob] = [await agent('alice'), await agent('bob', abroad)]
    answering(bob)
    await alice.trust.add(abroad.registry.url, abroad.fingerprint)
    await ask(alice, bob)
    const session = alice.sessions()[0]?.session_id ?? ''
    await alice.conversation(session).close({ reason: 'completed' })
    await expect.poll(() => rated(alice, session, 0.9), { timeout: 10_000 }).toBe(true)
    await expect.poll(() => feedbackOf(bob, abroad), { timeout: 20_000 }).toBe(1)
    // Bob trusts no registry that knows alice, and is told so.
    expect(await rated(bob, session, 0.8)).toBe(true)
    const told = () => bob.status().notices.find(({ about }) => about === 'rating')?.text
    await expect.poll(told, { timeout: 10_000 }).toContain('No registry that is trusted here speaks for')
  })

  async function rated(by: Agent, session: string, rating: number): Promise<boolean> {
    try {
      await by.rate(session, rating, ['accurate'])
      return true
    } catch {
      return false
    }
  }

  /** Sessions that the registry counts of an agent. */
  async function feedbackOf({ amid }: Agent, at = home): Promise<unknown> {
    // Evaluations are due some time after the feedback.
    now += 3_600_000
    const answer = await fetch(`${at.registry.url}/v1/registry/reputation?amid=${amid}`)
    return ((await answer.json()) as { sessions?: number }).sessions
  }
})

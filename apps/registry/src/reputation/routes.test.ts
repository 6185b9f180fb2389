import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { parseLogEntry, signFeedback, verifyReputationCredential } from '@agentmesh/sdk/identity'
import { formatTimestamp, parseJsonObject, toBase64 } from '@agentmesh/sdk/wire'
import { CertifyingRegistry } from '../test-support-authority.ts'
import { call, NOW, TestAgent } from '../test-support.ts'
import { CREDENTIAL_LIFE_MS, EVALUATION_DELAY_MS, FEEDBACK_WINDOW_MS } from './constants.ts'
import { evaluateDue } from './evaluation.ts'
import { storedPeople } from './people.ts'
import { closedSession, post, rate, startTestRegistry, type TestRegistry } from './test-support.ts'

const SECOND = 1000
let now: number
let test: TestRegistry
let alice: TestAgent
let bob: TestAgent

beforeEach(async () => {
  now = NOW
  test = await startTestRegistry(() => now, call)
  alice = await test.agent('alice')
  bob = await test.agent('bob')
})
afterEach(() => test.close())

const reputation = (of: TestAgent) =>
  call(`${test.registry.url}/v1/registry/reputation?amid=${of.amid}`).then((reply) => reply.body)
const lookup = (of: TestAgent) =>
  call(`${test.registry.url}/v1/registry/lookup?amid=${of.amid}`).then((reply) => reply.body)
const evaluate = () => evaluateDue({ store: test.store, people: storedPeople(test.store) }, now, 100)
const logged = async () =>
  (await test.store.transparency.entries(0, 100))
    .map((entry) => parseLogEntry(entry))
    .filter(({ kind }) => kind === 'reputation')
    .map(({ content }) => parseJsonObject(content, 1e6))

describe('feedback', () => {
  it('counts a session that both closed, once a side, and publishes after evaluation with an entry in the log', async () => {
    await test.stand(alice.amid, 1.5, { organization: 'Acme' })
    const closing = closedSession(alice, bob, now)
    expect((await rate(alice, closing, 1, ['fast', 'accurate'])).status).toBe(200)
    expect(await reputation(bob)).toMatchObject({ score: 0.5, sessions: 1, held: false })
    expect((await rate(bob, closing, 1)).status).toBe(200)
    expect(await reputation(bob)).toMatchObject({ score: 0.5, sessions: 1 })

    expect(await evaluate()).toBe(0)
    now += EVALUATION_DELAY_MS
    expect(await evaluate()).toBe(2)
    const { score, terms } = await reputation(bob)
    expect(score).toBeGreaterThan(0.5)
    expect(terms.feedback).toBeGreaterThan(5 / 7)
    expect((await lookup(bob)).reputation_score).toBe(score)
    expect(await logged()).toEqual([
      {
        type: 'reputation_changes',
        at: formatTimestamp(now),
        changes: expect.arrayContaining([{ amid: bob.amid, from: 0.5, to: score, cause: 'evaluated' }]),
      },
    ])
  })

  it('starts at 0.5, 0.6 and 0.7 by tier, in lookup and in reputation', async () => {
    await test.stand(alice.amid, 1, { human: 'h' })
    await test.stand(bob.amid, 1.5, { organization: 'Acme' })
    const carol = await test.agent('carol')
    for (const [agent, score] of [
      [carol, 0.5],
      [alice, 0.6],
      [bob, 0.7],
    ] as const) {
      expect((await lookup(agent)).reputation_score).toBe(score)
      expect(await reputation(agent)).toMatchObject({ score, sessions: 0 })
    }
  })

  it('keeps the score over an update of the record, and gives a deserter no better one when he comes back', async () => {
    await test.stand(alice.amid, 1.5, { organization: 'Acme' })
    await rate(alice, closedSession(alice, bob, now, 'error'), 0)
    now += EVALUATION_DELAY_MS
    await evaluate()
    const { score } = await reputation(bob)
    expect(score).toBeLessThan(0.5)
    await bob.register({ sequence: 2 })
    expect((await lookup(bob)).reputation_score).toBe(score)
    expect((await bob.send({ method: 'DELETE', path: `/v1/registry/agents/${bob.amid}` })).status).toBe(204)
    await bob.register({ sequence: 3 })
    expect((await lookup(bob)).reputation_score).toBe(score)
  })

  it('hears an agent of another registry as an anonymous one, and keeps no score of it', async () => {
    const foreign = new TestAgent('foreign', test.registry.url, () => now)
    const closing = closedSession(foreign, bob, now)
    expect((await rate(foreign, closing, 1)).status).toBe(200)
    expect((await rate(foreign, closing, 1)).body.code).toBe('FEEDBACK_REPEATED')
    expect(await reputation(bob)).toMatchObject({ sessions: 1 })
    now += EVALUATION_DELAY_MS
    expect(await evaluate()).toBe(1)
    const { score } = await reputation(bob)
    expect(score).toBeGreaterThanOrEqual(0.5)
    expect(score).toBeLessThan(0.51)
    // Its key is the one that signs the request: nobody rates in its name.
    const forged = { ...closedSession(foreign, bob, now), initiator_signature: closing.responder_signature }
    expect((await rate(foreign, forged, 1)).body.code).toBe('INVALID_SIGNATURE')
    // Who is rated is known here.
    const other = new TestAgent('other', test.registry.url, () => now)
    expect((await rate(foreign, closedSession(foreign, other, now), 1)).body.code).toBe('AGENT_NOT_FOUND')
  })

  it('refuses feedback that was sent before, and a second one of the same side', async () => {
    const closing = closedSession(alice, bob, now)
    const feedback = signFeedback(alice.identity, { closing, rating: 1 }, now)
    expect((await post(alice, feedback)).status).toBe(200)
    expect((await post(alice, feedback)).body.code).toBe('FEEDBACK_REPEATED')
    expect((await rate(alice, closing, 0)).body.code).toBe('FEEDBACK_REPEATED')
    expect((await reputation(bob)).sessions).toBe(1)
  })

  it('refuses feedback for a session that only one side closed, or never had', async () => {
    const closing = closedSession(alice, bob, now)
    const oneSided = { ...closing, responder_signature: closing.initiator_signature }
    expect((await rate(alice, oneSided, 0)).body.code).toBe('INVALID_SIGNATURE')
    const { responder_signature: _, ...half } = closing
    expect(
      (await post(alice, { ...signFeedback(alice.identity, { closing, rating: 0 }, now), closing: half }))
        .body.code,
    ).toBe('MALFORMED')
    const invented = { ...closing, session_id: '0f0e0d0c-0b0a-4908-8706-050403020100' }
    expect((await rate(alice, invented as typeof closing, 0)).body.code).toBe('INVALID_SIGNATURE')
  })

  it('refuses a closing whose other side a third agent signed for', async () => {
    const mallory = await test.agent('mallory')
    const theirs = closedSession(alice, mallory, now)
    const forged = { ...theirs, responder: bob.amid }
    expect((await rate(alice, forged, 0)).body.code).toBe('INVALID_SIGNATURE')
  })

  it('refuses the statement of another session of the same two, and another statement of this one', async () => {
    const one = closedSession(alice, bob, now)
    const other = closedSession(alice, bob, now, 'error')
    expect((await rate(alice, { ...one, responder_signature: other.responder_signature }, 1)).body.code).toBe(
      'INVALID_SIGNATURE',
    )
    expect((await rate(alice, one, 1)).status).toBe(200)
    // Both conspire to have one session count twice.
    const again = closedSession(alice, bob, now, 'error', one.session_id)
    expect((await rate(bob, again, 1)).body.code).toBe('CLOSING_CONFLICT')
    expect((await reputation(bob)).sessions).toBe(1)
  })

  it('refuses feedback of somebody who was not there, or in another’s name', async () => {
    const mallory = await test.agent('mallory')
    const closing = closedSession(alice, bob, now)
    const feedback = signFeedback(alice.identity, { closing, rating: 0 }, now)
    expect((await post(mallory, feedback)).body.code).toBe('NOT_OWNER')
    expect((await post(mallory, { ...feedback, rater: mallory.amid })).body.code).toBe('MALFORMED')
  })

  it('refuses feedback after the window, and takes it until then', async () => {
    const closing = closedSession(alice, bob, now)
    now += FEEDBACK_WINDOW_MS
    expect((await rate(alice, closing, 1)).status).toBe(200)
    now += SECOND
    expect((await rate(bob, closing, 1)).body.code).toBe('FEEDBACK_LATE')
    const tomorrow = closedSession(alice, bob, now + 3_600_000)
    expect((await rate(alice, tomorrow, 1)).body.code).toBe('MALFORMED')
  })

  it('refuses to let a person rate himself through two agents, or a fleet itself', async () => {
    await test.stand(alice.amid, 1, { human: 'the same' })
    await test.stand(bob.amid, 1, { human: 'the same' })
    expect((await rate(alice, closedSession(alice, bob, now), 1)).body.code).toBe('FEEDBACK_SELF')
    const [carol, dave] = [await test.agent('carol'), await test.agent('dave')]
    await test.stand(carol.amid, 1.5, { organization: 'Acme' })
    await test.stand(dave.amid, 1.5, { organization: 'Acme' })
    expect((await rate(carol, closedSession(carol, dave, now), 1)).body.code).toBe('FEEDBACK_SELF')
    // Also when one of the two stands under an organisation.
    await test.stand(bob.amid, 1.5, { organization: 'Acme', human: 'the same' })
    expect((await rate(alice, closedSession(alice, bob, now), 1)).body.code).toBe('FEEDBACK_SELF')
  })

  it('lets nobody get rid of a rating by joining the rater after the session', async () => {
    await test.stand(alice.amid, 1, { human: 'hers' })
    const before = closedSession(alice, bob, now)
    now += SECOND
    await test.stand(bob.amid, 1, { human: 'hers' })
    expect((await rate(alice, closedSession(alice, bob, now), 0)).body.code).toBe('FEEDBACK_SELF')
    // Being verified again is no new beginning.
    await test.stand(alice.amid, 1, { human: 'hers' })
    expect((await rate(alice, before, 0)).status).toBe(200)
    now += EVALUATION_DELAY_MS
    await evaluate()
    expect((await reputation(bob)).terms.feedback).toBeLessThan(5 / 7)
  })

  it('gives two agents of one person no voice that they had not when the session ended', async () => {
    const before = closedSession(alice, bob, now)
    now += SECOND
    await test.stand(alice.amid, 1, { human: 'his' })
    await test.stand(bob.amid, 1, { human: 'his' })
    expect((await rate(alice, before, 1)).status).toBe(200)
    const people = storedPeople(test.store)
    expect(await people.standingAt(alice.amid, now - SECOND, now)).toEqual({ tier: 2 })
    const evidence = await test.store.reputation.evidence({ at: 0, key: '' }, 10)
    expect(evidence.map(({ voice }) => voice).toSorted()).toEqual(
      [alice, bob].map(({ amid }) => `agent:${amid}`).toSorted(),
    )
  })

  it('rates and scores registered agents only', async () => {
    const stranger = new TestAgent('stranger', test.registry.url, () => now)
    expect((await rate(bob, closedSession(stranger, bob, now), 0)).body.code).toBe('AGENT_NOT_FOUND')
    expect((await call(`${test.registry.url}/v1/registry/reputation?amid=${stranger.amid}`)).status).toBe(404)
  })

  it('counts completion by how sessions end, and not what owners cut short', async () => {
    await test.stand(alice.amid, 1.5, { organization: 'Acme' })
    await rate(alice, closedSession(alice, bob, now, 'policy'), 1)
    now += EVALUATION_DELAY_MS
    await evaluate()
    expect((await reputation(bob)).terms.completion).toBe(5 / 7)
    await rate(alice, closedSession(alice, bob, now, 'timeout'), 1)
    now += EVALUATION_DELAY_MS
    await evaluate()
    expect((await reputation(bob)).terms.completion).toBeLessThan(5 / 7)
  })

  it('limits how often an agent rates', async () => {
    const tight = await startTestRegistry(() => now, call, {
      feedbackPerAgent: { perSecond: 0.01, burst: 1 },
    })
    const [a, b] = [await tight.agent('a'), await tight.agent('b')]
    expect((await rate(a, closedSession(a, b, now), 1)).status).toBe(200)
    expect((await rate(a, closedSession(a, b, now), 1)).status).toBe(429)
    await tight.close()
  })
})

describe('credential', () => {
  const get = (of: TestAgent) => of.send({ method: 'GET', path: '/v1/registry/reputation/credential' })

  const registerAt = async (url: string) => {
    const carol = new TestAgent('carol', url, () => now)
    await carol.register()
    return carol
  }

  it('needs a certificate authority', async () => {
    expect((await get(alice)).body.code).toBe('TIER_UNAVAILABLE')
  })

  it('is the service key’s word for hours, about the agent that asked', async () => {
    const certifying = await CertifyingRegistry.start(() => now)
    const carol = await registerAt(certifying.registry.url)
    const { status, body } = await get(carol)
    expect(status).toBe(200)
    const { fingerprint, serviceKey } = certifying.certification.authority
    const expected = { registry: fingerprint, serviceKey: serviceKey.publicKey, amid: carol.amid, now }
    expect(verifyReputationCredential(body, expected)).toMatchObject({ score: 0.5, sessions: 0, tier: 2 })
    const stale = { ...expected, now: now + CREDENTIAL_LIFE_MS }
    expect(() => verifyReputationCredential(body, stale)).toThrow('outside its dates')

    const subject = {
      amid: carol.amid,
      publicKey: carol.identity.signing.publicKey,
      human: new Uint8Array(32),
    }
    await certifying.certification.authority.verifyAgent({ ...subject, tier: 1 }, now)
    expect((await get(carol)).body).toMatchObject({ score: 0.6, tier: 1 })
    await certifying.close()
  })

  it('and verification are not for banned people', async () => {
    const certifying = await CertifyingRegistry.start(() => now)
    const carol = await registerAt(certifying.registry.url)
    const human = new Uint8Array(32).fill(7)
    const ban = { subject: `human:${toBase64(human)}`, reason: 'x', at: now, by: 'root' }
    await certifying.store.transaction('ban', (tx) => certifying.store.admin.ban(tx, ban))
    const subject = { amid: carol.amid, publicKey: carol.identity.signing.publicKey, human }
    await expect(
      certifying.certification.authority.verifyAgent({ ...subject, tier: 1 }, now),
    ).rejects.toThrow('does not serve')
    expect((await get(carol)).body).toMatchObject({ score: 0.5, tier: 2 })
    await certifying.close()
  })
})

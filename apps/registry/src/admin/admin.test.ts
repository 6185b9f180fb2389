import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { isAgentMeshError } from '@agentmesh/sdk/wire'
import { EVALUATION_DELAY_MS, HOLD_FALL_MS } from '../reputation/constants.ts'
import { evaluateDue } from '../reputation/evaluation.ts'
import { storedPeople } from '../reputation/people.ts'
import { closedSession, rate, startTestRegistry, type TestRegistry } from '../reputation/test-support.ts'
import { startRegistry } from '../server.ts'
import { call, NOW, TestAgent } from '../test-support.ts'
import { parseAdministrators } from './auth.ts'

let now: number
let test: TestRegistry

beforeEach(async () => {
  now = NOW
  test = await startTestRegistry(() => now, call)
})
afterEach(() => test.close())

const evaluate = () => evaluateDue({ store: test.store, people: storedPeople(test.store) }, now, 100)
const scoreOf = async (agent: TestAgent) =>
  (await call(`${test.registry.url}/v1/registry/reputation?amid=${agent.amid}`)).body

/** An agent whom organisations slander: a fall that is held. */
async function slandered(): Promise<TestAgent> {
  const victim = await test.agent('victim')
  for (let index = 0; index < 6; index++) {
    const rater = await test.agent(`rater ${index}`)
    await test.stand(rater.amid, 1.5, { organization: `Org ${index}` })
    await rate(rater, closedSession(rater, victim, now, 'error'), 0)
  }
  now += EVALUATION_DELAY_MS
  await evaluate()
  return victim
}

describe('the operator’s door', () => {
  it.each([undefined, 'Bearer wrong-token-of-24-characters', 'Bearer ', 'Basic cm9vdDpyb290'])(
    'stays shut for %s',
    async (authorization) => {
      const headers: Record<string, string> = authorization === undefined ? {} : { authorization }
      const reply = await call(`${test.registry.url}/v1/registry/admin/reviews`, { headers })
      expect(reply.status).toBe(401)
      expect(reply.body.code).toBe('ADMIN_UNAUTHORIZED')
    },
  )

  it('is closed when nobody is configured', async () => {
    const registry = await startRegistry({ dataPath: ':memory:' })
    const headers = { authorization: 'Bearer ' }
    expect((await call(`${registry.url}/v1/registry/admin/reviews`, { headers })).status).toBe(401)
    await registry.close()
  })

  it('takes names with tokens, and no short ones, none twice', () => {
    const token = 'x'.repeat(24)
    expect(parseAdministrators(undefined)).toEqual([])
    expect(parseAdministrators(token).map(({ name }) => name)).toEqual(['admin'])
    expect(parseAdministrators(`ann:${token},bob:${token}y`).map(({ name }) => name)).toEqual(['ann', 'bob'])
    for (const bad of ['short', `ann:${token},ann:${token}y`, `A B:${token}`]) {
      expect(() => parseAdministrators(bad)).toThrow(
        expect.toSatisfy((error) => isAgentMeshError(error, 'CONFIG_INVALID')),
      )
    }
  })

  it('limits attempts by address', async () => {
    const tight = await startTestRegistry(() => now, call, { adminPerIp: { perSecond: 0.01, burst: 1 } })
    expect((await tight.admin('GET', '/reviews', undefined, 'no')).status).toBe(401)
    expect((await tight.admin('GET', '/reviews')).status).toBe(429)
    await tight.close()
  })
})

describe('reviews', () => {
  it('shows a held change with its reasons, and the old score until somebody decides', async () => {
    const victim = await slandered()
    expect(await scoreOf(victim)).toMatchObject({ score: 0.5, held: true })
    const { body } = await test.admin('GET', '/reviews')
    expect(body.held).toEqual([
      expect.objectContaining({
        amid: victim.amid,
        published: 0.5,
        reasons: ['rapid-fall', 'mostly-unsupported'],
      }),
    ])
    expect(body.held[0].proposed).toBeLessThan(0.45)
  })

  it('publishes what is approved', async () => {
    const victim = await slandered()
    const decision = { amid: victim.amid, decision: 'approve', reason: 'They were all robbed' }
    expect((await test.admin('POST', '/reviews', decision)).status).toBe(200)
    const { score, held } = await scoreOf(victim)
    expect(score).toBeLessThan(0.45)
    expect(held).toBe(false)
    expect((await test.admin('POST', '/reviews', decision)).body.code).toBe('NOT_FOUND')
  })

  it('strikes out the evidence of what is rejected', async () => {
    const victim = await slandered()
    const decision = { amid: victim.amid, decision: 'reject', reason: 'A campaign' }
    expect((await test.admin('POST', '/reviews', decision)).status).toBe(200)
    await evaluate()
    expect(await scoreOf(victim)).toMatchObject({ score: 0.5, held: false })
    now += HOLD_FALL_MS
    await evaluate()
    expect(await scoreOf(victim)).toMatchObject({ score: 0.5, held: false })
    const { body } = await test.admin('GET', '/export?kind=evidence')
    expect(body.lines.filter((line: { struck: boolean }) => line.struck)).toHaveLength(6)
  })

  it('publishes a fall after a day when nobody decides', async () => {
    const victim = await slandered()
    now += HOLD_FALL_MS
    await evaluate()
    expect((await scoreOf(victim)).score).toBeLessThan(0.45)
  })

  it('notes who decided what, when and why', async () => {
    const victim = await slandered()
    await test.admin('POST', '/reviews', { amid: victim.amid, decision: 'reject', reason: 'A campaign' })
    const { body } = await test.admin('GET', '/export?kind=actions')
    expect(body.lines).toEqual([
      expect.objectContaining({
        who: 'root',
        action: 'review-reject',
        target: `agent:${victim.amid}`,
        detail: { reason: 'A campaign', sessions: 6 },
      }),
    ])
  })
})

describe('bans', () => {
  it('take an agent’s word on others away', async () => {
    const mallory = await test.agent('mallory')
    const bob = await test.agent('bob')
    const closing = closedSession(mallory, bob, now)
    await test.admin('POST', '/bans', { amid: mallory.amid, scope: 'agent', reason: 'Spam' })
    const refused = await rate(mallory, closing, 0)
    expect([refused.status, refused.body.code]).toEqual([403, 'BANNED'])
    // The other side of that session is heard as ever.
    expect((await rate(bob, closedSession(await test.agent('carol'), bob, now), 1)).status).toBe(200)
  })

  it('take an agent out of lookup and keep it from registering, until lifted', async () => {
    const mallory = await test.agent('mallory')
    const { body } = await test.admin('POST', '/bans', { amid: mallory.amid, scope: 'agent', reason: 'Spam' })
    expect(body.banned).toEqual([`agent:${mallory.amid}`])
    expect((await call(`${test.registry.url}/v1/registry/lookup?amid=${mallory.amid}`)).status).toBe(404)
    const search = await call(`${test.registry.url}/v1/registry/search?capability=travel`)
    expect(search.body.agents).toEqual([])
    const again = await mallory.register()
    expect([again.status, again.body.code]).toEqual([403, 'BANNED'])
    expect((await test.admin('GET', '/export?kind=bans')).body.lines).toHaveLength(1)

    const lift = { subject: `agent:${mallory.amid}`, reason: 'Apologised' }
    expect((await test.admin('POST', '/bans/lift', lift)).status).toBe(200)
    expect((await mallory.register()).status).toBe(201)
    expect((await test.admin('POST', '/bans/lift', lift)).body.code).toBe('NOT_FOUND')
  })

  it('of a person take all his agents', async () => {
    const [one, two] = [await test.agent('one'), await test.agent('two')]
    await test.stand(one.amid, 1, { human: 'h' })
    await test.stand(two.amid, 1, { human: 'h' })
    const { body } = await test.admin('POST', '/bans', { amid: one.amid, scope: 'human', reason: 'Fraud' })
    expect(body.banned).toHaveLength(3)
    expect((await two.register()).body.code).toBe('BANNED')
    const nobody = await test.agent('nobody')
    const refused = await test.admin('POST', '/bans', { amid: nobody.amid, scope: 'human', reason: 'Fraud' })
    expect(refused.body.code).toBe('NOT_FOUND')
  })

  it('need an authority to revoke', async () => {
    const mallory = await test.agent('mallory')
    const body = { amid: mallory.amid, code: 'keyCompromise', reason: 'Stolen' }
    expect((await test.admin('POST', '/revoke', body)).body.code).toBe('TIER_UNAVAILABLE')
  })
})

describe('export', () => {
  it('pages through everything once', async () => {
    const [a, b] = [await test.agent('a'), await test.agent('b')]
    for (let index = 0; index < 60; index++) {
      const closing = closedSession(a, b, now)
      await rate(a, closing, 1, ['fast'])
      if (index % 7 === 0) now += 1000
    }
    const lines: { ratee: string; session_id: string }[] = []
    let cursor: string | null = ''
    while (cursor !== null) {
      const more: string = cursor === '' ? '' : `&cursor=${encodeURIComponent(cursor)}`
      const { body } = await test.admin('GET', `/export?kind=evidence${more}`)
      lines.push(...body.lines)
      cursor = body.next_cursor
    }
    expect(lines).toHaveLength(120)
    expect(new Set(lines.map((line) => line.ratee + line.session_id)).size).toBe(120)
  })

  it('refuses a cursor that it never gave', async () => {
    for (const path of ['/export?kind=evidence&cursor=x', '/reviews?cursor=x', '/export?kind=secrets']) {
      expect((await test.admin('GET', path)).body.code).toBe('MALFORMED')
    }
  })
})

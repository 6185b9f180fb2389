import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { canonicalBytes, toBase64Url, type AgentRecord } from '@agentmesh/sdk/wire'
import type { RegistryLimits } from './limits.ts'
import { decodeCursor, encodeCursor } from './search.ts'
import { startRegistry, type RunningRegistry } from './server.ts'
import { call, DAY, NOW, TestAgent } from './test-support.ts'

let registry: RunningRegistry
let now: number
const WIDE = { perSecond: 1000, burst: 10_000 }
const OPEN = {
  requestsPerIp: WIDE,
  registrationsPerIp: WIDE,
  searchesPerIp: WIDE,
} satisfies Partial<RegistryLimits>
const agent = (name: string) => new TestAgent(name, registry.url, () => now)
const search = (query: string) => call(`${registry.url}/v1/registry/search?${query}`)
const names = (agents: AgentRecord[]) => agents.map((found) => found.display_name ?? '')

async function open(limits: Partial<RegistryLimits>): Promise<void> {
  registry = await startRegistry({ dataPath: ':memory:', now: () => now, limits })
}

beforeEach(async () => {
  now = NOW
  await open(OPEN)
})
afterEach(async () => {
  await registry.close()
})

describe('search', () => {
  it('finds by category, subcategory, action and presence', async () => {
    await agent('a').register({ display_name: 'a', online: true })
    await agent('b').register({
      display_name: 'b',
      capabilities: [{ category: 'travel', subcategory: 'hotels', actions: ['book'] }],
    })
    await agent('c').register({ display_name: 'c', capabilities: ['finance', 'x-acme/parts'] })
    const found = async (query: string) => names((await search(query)).body.agents).toSorted()
    expect(await found('capability=travel')).toEqual(['a', 'b'])
    expect(await found('capability=travel/flights')).toEqual(['a'])
    expect(await found('capability=travel&subcategory=hotels')).toEqual(['b'])
    expect(await found('capability=travel&action=book')).toEqual(['a', 'b'])
    expect(await found('capability=travel/hotels&action=search')).toEqual([])
    expect(await found('capability=finance')).toEqual(['c'])
    expect(await found('capability=x-acme/parts')).toEqual(['c'])
    expect(await found('capability=x-acme/parts/bolts')).toEqual([])
    expect(await found('capability=travel&online=true')).toEqual(['a'])
    expect(await found('capability=travel&online=false')).toEqual(['a', 'b'])
  })

  it('compares tiers by rank: anonymous agents are not found for verified or organization', async () => {
    await agent('a').register()
    const count = async (tier: string) =>
      (await search(`capability=travel&tier_min=${tier}`)).body.agents.length
    expect([await count('2'), await count('anonymous')]).toEqual([1, 1])
    for (const tier of ['1', '1.5', 'verified', 'organization']) expect(await count(tier)).toBe(0)
  })

  it('puts agents that are online first and leaves out those not seen for thirty days', async () => {
    await agent('old').register({ display_name: 'old' })
    now += 20 * DAY
    for (const name of ['p', 'q', 'r', 's']) {
      await agent(name).register({ display_name: name, online: name === 'r' })
    }
    const first = await search('capability=travel')
    expect(names(first.body.agents)[0]).toBe('r')
    expect(first.body.agents).toHaveLength(5)
    now += 11 * DAY
    expect(names((await search('capability=travel')).body.agents)).not.toContain('old')
  })

  it('pages through all agents once, while others come online, register and time passes', async () => {
    for (let index = 0; index < 25; index++) {
      await agent(`n${index}`).register({ display_name: `n${index}`, online: index % 3 === 0 })
    }
    const seen: string[] = []
    let query = 'capability=travel&limit=7'
    for (;;) {
      const page = await search(query)
      expect(page.status).toBe(200)
      seen.push(...names(page.body.agents))
      if (page.body.next_cursor === null) break
      query = `capability=travel&limit=7&cursor=${page.body.next_cursor}`
      now += 400_000
      await agent(`late${now}`).register({ display_name: 'late', online: true })
    }
    const expected = Array.from({ length: 25 }, (_, index) => `n${index}`)
    expect(seen.filter((name) => name !== 'late').toSorted()).toEqual(expected.toSorted())
  })

  it('says there is no next page when the last one is full', async () => {
    for (const name of ['a', 'b']) await agent(name).register()
    expect((await search('capability=travel&limit=2')).body.next_cursor).toBeNull()
    expect((await search('capability=travel&limit=1')).body.next_cursor).toEqual(expect.any(String))
  })

  it('bounds a page in bytes and still reaches every agent', async () => {
    await registry.close()
    await open({ ...OPEN, maxPageBytes: 3000 })
    for (let index = 0; index < 5; index++) await agent(`n${index}`).register({ display_name: `n${index}` })
    const seen: string[] = []
    let cursor: string | null = ''
    let pages = 0
    while (cursor !== null) {
      const page = await search(`capability=travel&limit=100${cursor === '' ? '' : `&cursor=${cursor}`}`)
      seen.push(...names(page.body.agents))
      cursor = page.body.next_cursor
      pages++
    }
    expect(pages).toBeGreaterThan(1)
    expect(seen.toSorted()).toEqual(['n0', 'n1', 'n2', 'n3', 'n4'])
  })

  it.each([
    'capability=',
    '',
    'capability=booking',
    'capability=travel/flights/extra',
    'capability=x-acme',
    'capability=travel&capability=finance',
    'capability=travel/flights&subcategory=hotels',
    'capability=travel&action=Book',
    'capability=travel&tier_min=3',
    'capability=travel&tier_min=1.50',
    'capability=travel&tier_min=__proto__',
    'capability=travel&online=yes',
    'capability=travel&limit=0',
    'capability=travel&limit=101',
    'capability=travel&limit=-1',
    'capability=travel&limit=1e2',
    'capability=travel&cursor=!!',
    'capability=travel&cursor=W10',
    'capability=travel&tier-min=1',
    'capability=travel&__proto__=1',
    `capability=${'a'.repeat(5000)}`,
    "capability=travel'%20or%201=1--",
    'capability=travel%00',
    'capability=%ff%fe',
  ])('refuses the query %j with MALFORMED', async (query) => {
    const refused = await search(query)
    expect([refused.status, refused.body?.code]).toEqual([400, 'MALFORMED'])
  })

  it('limits how fast one address can list the registry, page by page', async () => {
    await registry.close()
    await open({ ...OPEN, searchesPerIp: { perSecond: 1, burst: 3 } })
    for (let index = 0; index < 8; index++) await agent(`n${index}`).register()
    let cursor = ''
    const statuses: number[] = []
    for (let index = 0; index < 4; index++) {
      const page = await search(`capability=travel&limit=1${cursor}`)
      statuses.push(page.status)
      if (page.status === 200) cursor = `&cursor=${page.body.next_cursor}`
    }
    expect(statuses).toEqual([200, 200, 200, 429])
  })
})

describe('cursor', () => {
  const amid = new TestAgent('cursor', 'http://localhost', () => NOW).amid
  const cursor = { asOf: NOW, position: { online: true, reputation: 0.1 + 0.2, amid } }

  it('comes back as it was made', () => {
    const text = encodeCursor(cursor)
    expect(text.length).toBeLessThanOrEqual(256)
    expect(decodeCursor(text, NOW + 1, 1000)).toEqual(cursor)
  })

  it.each([
    [[NOW, 1, 0.5]],
    [[NOW, 2, 0.5, amid]],
    [[NOW, 1, '0.5', amid]],
    [[NOW, 1, 0.5, `${amid}1`]],
    [[NOW + 10, 1, 0.5, amid]],
    [[NOW - 1001, 1, 0.5, amid]],
    [[NOW + 0.5, 1, 0.5, amid]],
    [{ 0: NOW }],
  ])('refuses %j', (value) => {
    const text = toBase64Url(canonicalBytes(value))
    expect(() => decodeCursor(text, NOW, 1000)).toThrow(/cursor/)
  })
})

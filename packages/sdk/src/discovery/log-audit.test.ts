import { describe, expect, it } from 'vitest'
import { GrowingTree, leafHash, parseLogState, rootOf, type LogState } from '../identity/index.ts'
import { AgentMeshError, utf8Bytes } from '../wire/index.ts'
import { outcome } from '../wire/test-support.ts'
import { auditLog, type LogAudit } from './log-audit.ts'
import { FakeRegistry } from './test-support-log.ts'

const NOW = Date.UTC(2026, 1, 1, 12)
const DAY = 86_400_000
const NAMES = 'abcdefghijklmnop'.split('')

function registryWith(...names: string[]): FakeRegistry {
  const registry = new FakeRegistry('registry', NOW)
  for (const name of names) registry.certify(name)
  return registry
}

interface Look {
  readonly state?: LogState | undefined
  readonly fingerprint?: string
  readonly now?: number
}

async function audit(
  registry: FakeRegistry,
  { now = NOW, ...look }: Look = {},
): Promise<LogAudit & { readonly seen: string[]; readonly waits: number[] }> {
  const seen: string[] = []
  const waits: number[] = []
  const result = await auditLog({
    url: 'http://registry.example/',
    ...look,
    now: () => now,
    onEntry: (index, entry) => seen.push(`${index} ${entry?.kind ?? 'unknown'}`),
    wait: (milliseconds) => Promise.resolve(void waits.push(milliseconds)),
    fetch: (url) => {
      const { status, body } = registry.answer(url as string)
      return Promise.resolve(new Response(JSON.stringify(body), { status }))
    },
  })
  return { ...result, seen, waits }
}

/** The state after an honest look. */
async function stateOf(registry: FakeRegistry): Promise<LogState> {
  const { state } = await audit(registry)
  if (state === undefined) throw new Error('no state')
  return state
}

async function code(run: Promise<LogAudit>): Promise<string | undefined> {
  try {
    return (await run).finding?.code
  } catch (error) {
    if (error instanceof AgentMeshError) return `thrown ${error.code}`
    throw error
  }
}

describe('the audit of an honest registry', () => {
  it('reads the log once and then what is new in it', async () => {
    const registry = registryWith('a', 'b', 'c', 'd', 'e')
    const first = await audit(registry)
    expect(first.finding).toBeUndefined()
    expect(first.registry?.fingerprint).toBe(registry.fingerprint)
    expect(first.seen).toEqual([
      '0 certificate',
      '1 certificate',
      '2 certificate',
      '3 certificate',
      '4 certificate',
    ])
    expect(first.entries).toBe(5)

    registry.revoke('41')
    registry.certify('f')
    const second = await audit(registry, { state: first.state })
    expect(second.finding).toBeUndefined()
    expect(second.seen).toEqual(['5 revocation', '6 certificate'])
    expect(second.state?.tree_head.size).toBe(7)

    const third = await audit(registry, { state: second.state })
    expect([third.finding, third.entries]).toEqual([undefined, 0])
  })

  it('begins with an empty log', async () => {
    const registry = registryWith()
    const state = await stateOf(registry)
    registry.certify('a')
    expect((await audit(registry, { state })).seen).toEqual(['0 certificate'])
  })

  it('waits as long as it is told to', async () => {
    const registry = registryWith('a')
    let refusals = 2
    registry.lies['log/head'] = (_query, truth) =>
      refusals-- > 0
        ? { status: 429, body: { code: 'RATE_LIMITED', message: 'Later', retry_after_seconds: 7 } }
        : truth
    const result = await audit(registry)
    expect([result.finding, result.waits]).toEqual([undefined, [7_000, 7_000]])
  })

  it('lets entries of kinds it does not know pass, and counts them in', async () => {
    const registry = registryWith('a')
    registry.entries.push(Uint8Array.of(99, 1, 2, 3))
    const result = await audit(registry)
    expect([result.finding, result.seen]).toEqual([undefined, ['0 certificate', '1 unknown']])
  })
})

describe('a lying registry', () => {
  const forked = (registry: FakeRegistry, at: number): Uint8Array[] => {
    const other = new FakeRegistry('registry', NOW)
    other.certify('somebody else')
    return registry.entries.with(at, other.entries[0]!)
  }

  it('that changed, dropped, put in or moved an entry is found out', async () => {
    for (const size of [5, 8]) {
      const registry = registryWith(...NAMES.slice(0, size))
      const state = await stateOf(registry)
      const honest = registry.entries
      const grown = registryWith(...NAMES)
      const added = grown.entries.slice(size)
      for (let at = 0; at < size; at++) {
        for (const entries of [
          [...forked(registry, at), ...added],
          [...honest.toSpliced(at, 1), ...added],
          [...honest.toSpliced(at, 0, added[0]!), ...added],
          [...honest.toSpliced(at, 1), honest[at]!, ...added].toSpliced(size - 1, 0, added[1]!),
        ]) {
          grown.entries = entries
          expect(await code(audit(grown, { state }))).toBe('LOG_INCONSISTENT')
        }
      }
    }
  })

  it('that shows another tree of the same size is found out', async () => {
    const registry = registryWith('a', 'b', 'c')
    const state = await stateOf(registry)
    registry.entries = forked(registry, 1)
    const result = await audit(registry, { state })
    expect(result.finding).toMatchObject({ code: 'LOG_SPLIT', seen: state.tree_head, shown: registry.head() })
    expect(result.state).toBeUndefined()
  })

  it('that shows a shorter tree is found out, even one that is a true beginning', async () => {
    const registry = registryWith('a', 'b', 'c')
    const state = await stateOf(registry)
    registry.entries = registry.entries.slice(0, 2)
    expect(await code(audit(registry, { state }))).toBe('LOG_INCONSISTENT')
    registry.entries = []
    expect(await code(audit(registry, { state }))).toBe('LOG_INCONSISTENT')
  })

  it('that gives entries other than those under its head is found out', async () => {
    const registry = registryWith('a', 'b', 'c')
    const honest = registry.head()
    const shown = { status: 200, body: honest }
    registry.lies['log/head'] = () => shown
    registry.entries = forked(registry, 2)
    expect(await code(audit(registry))).toBe('LOG_INCONSISTENT')
  })

  it('that shows a head of an hour ago or of tomorrow is found out', async () => {
    const registry = registryWith('a')
    const state = await stateOf(registry)
    expect(await code(audit(registry, { state, now: NOW + 3_600_000 }))).toBeUndefined()
    expect(await code(audit(registry, { state, now: NOW + 3_600_001 }))).toBe('TREE_HEAD_STALE')
    registry.lies['log/head'] = () => ({ status: 200, body: registry.head(registry.entries, NOW + DAY) })
    expect(await code(audit(registry, { state }))).toBe('TREE_HEAD_STALE')
  })

  it('that shows a head of another registry, or one signed by another key, is found out', async () => {
    const registry = registryWith('a')
    const other = new FakeRegistry('other', NOW)
    registry.lies['log/head'] = () => ({ status: 200, body: other.head(registry.entries) })
    expect(await code(audit(registry))).toBe('LOG_FOREIGN')
    const renamed = other.head(registry.entries, NOW, registry.fingerprint)
    registry.lies['log/head'] = () => ({ status: 200, body: renamed })
    expect(await code(audit(registry))).toBe('INVALID_SIGNATURE')
    registry.lies['log/head'] = (_query, { body }) => ({ status: 200, body: { ...body, size: 2 } })
    expect(await code(audit(registry))).toBe('INVALID_SIGNATURE')
  })

  it('that took the place of the registry seen or named before is found out', async () => {
    const state = await stateOf(registryWith('a'))
    const other = new FakeRegistry('other', NOW)
    expect(await code(audit(other, { state }))).toBe('LOG_FOREIGN')
    expect(await code(audit(other, { fingerprint: state.tree_head.registry }))).toBe('LOG_FOREIGN')
    expect(await code(audit(other, { fingerprint: other.fingerprint }))).toBeUndefined()
  })

  it('that brings a trust document which does not hold is not believed', async () => {
    const registry = registryWith('a')
    const other = new FakeRegistry('other', NOW)
    registry.lies['trust'] = () => ({
      status: 200,
      body: { ...registry.trust, service_certificate: other.trust.service_certificate },
    })
    expect(await code(audit(registry))).toBe('thrown REGISTRY_ANSWER_INVALID')
  })

  it.each([
    ['nothing', []],
    ['what was not asked for', ['AA==', 'AA==', 'AA==', 'AA==', 'AA==']],
    ['no base64', ['=']],
  ])('that gives %s for entries gets no verdict', async (_what, entries) => {
    const registry = registryWith('a', 'b', 'c', 'd')
    registry.lies['log/entries'] = (query) => ({
      status: 200,
      body: { start: Number(query.get('start')), entries },
    })
    expect(await code(audit(registry))).toBe('thrown REGISTRY_ANSWER_INVALID')
  })

  it.each(['log/consistency', 'log/entries'])('that keeps %s back gets no verdict', async (path) => {
    const registry = registryWith('a')
    const state = await stateOf(registry)
    registry.certify('b')
    registry.lies[path] = () => ({ status: 404, body: { code: 'NOT_FOUND', message: 'No' } })
    expect(await code(audit(registry, { state }))).toBe('thrown REGISTRY_ANSWER_INVALID')
  })

  it('that proves consistency between other trees is found out', async () => {
    const registry = registryWith('a', 'b', 'c')
    const state = await stateOf(registry)
    registry.certify('d')
    registry.lies['log/consistency'] = (_query, { body }) => ({ status: 200, body: { ...body, path: [] } })
    expect(await code(audit(registry, { state }))).toBe('LOG_INCONSISTENT')
  })
})

describe('the state of an audit', () => {
  it('grows as the tree does, whatever size it is taken up at', async () => {
    const entries = Array.from({ length: 40 }, (_, index) => utf8Bytes(`entry ${index}`))
    const registry = new FakeRegistry('registry', NOW)
    const whole = new GrowingTree()
    for (const [index, entry] of entries.entries()) {
      registry.entries.push(entry)
      whole.append(entry)
      expect(whole.root).toEqual(rootOf(registry.entries.map(leafHash)))
      const kept = parseLogState(JSON.parse(JSON.stringify(whole.state(registry.head()))))
      const resumed = new GrowingTree(kept)
      expect([resumed.size, resumed.root]).toEqual([index + 1, whole.root])
      resumed.append(entry)
      expect(resumed.root).toEqual(rootOf([...registry.entries, entry].map(leafHash)))
    }
  })

  it('is refused when its hashes are not those of its head', async () => {
    const state = await stateOf(registryWith('a', 'b', 'c'))
    expect(outcome(() => parseLogState(state))).toBe('ok')
    const [first = '', second = ''] = state.subtrees
    for (const subtrees of [[], [first], [second, first], [first, second, first]]) {
      expect(outcome(() => parseLogState({ ...state, subtrees }))).toBe('MALFORMED')
    }
    const longer = { ...state.tree_head, size: 4 }
    expect(outcome(() => parseLogState({ ...state, tree_head: longer }))).toBe('MALFORMED')
  })
})

/** `agentmesh registry audit` as a process, against registries that are honest, forked, cut short, old or somebody else's. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, afterEach, beforeEach, expect, test } from 'vitest'
import { CertifyingRegistry } from '../../apps/registry/src/test-support-authority.ts'
import type { AgentInput } from '../../apps/registry/src/store/agent-input.ts'
import { TestAgent } from '../../apps/registry/src/test-support.ts'
import { parseLogEntry } from '../../packages/sdk/src/identity/index.ts'
import { FakeRegistry } from '../../packages/sdk/src/discovery/test-support-log.ts'
import { errorCode, run, start, type Ended } from './cli-harness.ts'

const folder = mkdtempSync(join(tmpdir(), 'agentmesh-audit-'))
afterAll(() => rmSync(folder, { recursive: true }))

let registry: FakeRegistry
let server: Server
let url: string
let runs = 0
let state: string

beforeEach(async () => {
  registry = new FakeRegistry('registry', Date.now())
  for (const name of ['alice', 'bob', 'carol']) registry.certify(name)
  server = createServer((request, response) => {
    const { status, body } = registry.answer(request.url ?? '')
    response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body))
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  state = join(folder, `state-${++runs}`, 'seen.json')
})
afterEach(async () => {
  server.closeAllConnections()
  await new Promise((resolve) => server.close(resolve))
})

const audit = (...options: string[]) =>
  run(['registry', 'audit', url, '--state', state, '--json', ...options])
const lines = ({ stdout }: Ended) =>
  stdout
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as Record<string, unknown>)
const verdict = (ended: Ended) => lines(ended).at(-1)!

/** The log with another entry in the place of one. */
function changed(at: number): Uint8Array[] {
  const other = new FakeRegistry('registry', registry.now)
  other.certify('mallory')
  return registry.entries.with(at, other.entries[0]!)
}

test('says what was issued and revoked, once, and that the log is consistent', async () => {
  const first = await audit()
  expect([first.code, first.stderr]).toEqual([0, ''])
  expect(lines(first).slice(0, -1)).toMatchObject(
    ['alice', 'bob', 'carol'].map((name, index) => ({
      event: 'entry',
      index,
      kind: 'certificate',
      certificate: 'agent',
      name,
      subject: expect.stringMatching(/^did:agentmesh:/),
      serial: expect.stringMatching(/^[0-9a-f]{16}$/),
      at: expect.stringMatching(/Z$/),
    })),
  )
  expect(verdict(first)).toMatchObject({ event: 'audited', ok: true, size: 3, new_entries: 3 })

  registry.revoke('4001020304050607')
  const second = await audit()
  expect(lines(second)).toMatchObject([
    { index: 3, kind: 'revocation', serial: '4001020304050607', reason: 'keyCompromise' },
    { ok: true, size: 4, new_entries: 1 },
  ])
  const people = await run(['registry', 'audit', url, '--state', `${state}.other`])
  expect(people.stdout).toMatch(
    /certificate certificate=agent serial=\w+ subject=did:agentmesh:\w+ name=alice/,
  )
  expect(people.stdout).toMatch(/The log is consistent: registry [0-9a-f]{64}, 4 entries, 4 new\n$/)
})

test.each([
  ['a fork', 11, 'LOG_INCONSISTENT', () => (registry.entries = [...changed(1), ...registry.entries])],
  [
    'a dropped entry',
    11,
    'LOG_INCONSISTENT',
    () => (registry.entries = [...registry.entries.toSpliced(0, 1), ...changed(0)]),
  ],
  ['a shorter tree', 11, 'LOG_INCONSISTENT', () => (registry.entries = registry.entries.slice(0, 2))],
  ['a changed entry', 13, 'LOG_SPLIT', () => (registry.entries = changed(2))],
  [
    'entries that are not under the head',
    11,
    'LOG_INCONSISTENT',
    () => {
      registry.certify('dave')
      registry.lies['log/entries'] = () => ({ status: 200, body: { start: 3, entries: ['AQAAAAAAAAAA'] } })
    },
  ],
  [
    'an old head',
    14,
    'TREE_HEAD_STALE',
    () => {
      const old = registry.head(registry.entries, registry.now - 2 * 3_600_000)
      registry.lies['log/head'] = () => ({ status: 200, body: old })
    },
  ],
  [
    'a head of another registry',
    12,
    'LOG_FOREIGN',
    () => {
      const other = new FakeRegistry('other', registry.now)
      registry.lies['log/head'] = () => ({ status: 200, body: other.head(registry.entries) })
    },
  ],
  [
    'a head under another key',
    12,
    'INVALID_SIGNATURE',
    () => {
      const other = new FakeRegistry('other', registry.now)
      const forged = other.head(registry.entries, registry.now, registry.fingerprint)
      registry.lies['log/head'] = () => ({ status: 200, body: forged })
    },
  ],
  [
    'another registry in its place',
    12,
    'LOG_FOREIGN',
    () => (registry = new FakeRegistry('other', registry.now)),
  ],
] as const)('finds %s, with code %i, and keeps what it saw before', async (_what, code, finding, lie) => {
  expect((await audit()).code).toBe(0)
  const before = readFileSync(state, 'utf8')
  const seen = registry.head(registry.entries)
  lie()
  const found = await audit()
  expect(found.code).toBe(code)
  expect(verdict(found)).toMatchObject({
    ok: false,
    code: finding,
    seen: { size: 3, root_hash: seen.root_hash },
  })
  expect(readFileSync(state, 'utf8')).toBe(before)
})

test('takes no other registry than the one its fingerprint names', async () => {
  const wrong = await audit('--fingerprint', 'ab'.repeat(32))
  expect([wrong.code, verdict(wrong)['code']]).toEqual([12, 'LOG_FOREIGN'])
  expect((await audit('--fingerprint', registry.fingerprint)).code).toBe(0)
})

test('tells a registry that does not answer, a bad argument and a damaged state apart', async () => {
  expect((await audit()).code).toBe(0)
  expect((await audit('--fingerprint', 'AB')).code).toBe(2)
  writeFileSync(state, '{"type":"log_state"}')
  const damaged = await audit()
  expect([damaged.code, errorCode(damaged)]).toEqual([7, 'HOME_DAMAGED'])
  const nobody = await run(['registry', 'audit', 'http://127.0.0.1:9', '--state', `${state}.none`, '--json'])
  expect([nobody.code, errorCode(nobody)]).toEqual([9, 'REGISTRY_UNREACHABLE'])
})

test('watches until something is wrong', async () => {
  const watching = start(['registry', 'audit', url, '--state', state, '--watch', '0.05', '--json'])
  await watching.line((line) => line['event'] === 'audited' && line['size'] === 3)
  registry.certify('dave')
  await watching.line((line) => line['event'] === 'audited' && line['size'] === 4)
  const asked = registry.asked.length
  registry.entries = changed(0)
  const { code, stdout } = await watching.ended
  expect([code, stdout.includes('LOG_SPLIT')]).toEqual([13, true])
  expect(registry.asked.length).toBeGreaterThan(asked)
})

test('ends in order when it is told to', async () => {
  const watching = start(['registry', 'audit', url, '--state', state, '--watch', '60', '--json'])
  await watching.line((line) => line['event'] === 'audited')
  expect((await watching.stop('SIGINT')).code).toBe(0)
})

test('follows a real registry, until its operator rewrites the database', async () => {
  const real = await CertifyingRegistry.start(Date.now)
  try {
    const { authority } = real.certification
    const vouchFor = async (name: string): Promise<TestAgent> => {
      const agent = new TestAgent(name, real.registry.url, Date.now)
      // The registry answers here under another name than its own: requests to it are signed for that one.
      await real.store.putAgent(storedAgent(agent), { create: true, maxAgents: 10 }, Date.now())
      const { amid, identity } = agent
      const human = new Uint8Array(32).fill(name.length)
      const subject = { amid, publicKey: identity.signing.publicKey, displayName: name }
      await authority.verifyAgent({ ...subject, tier: 1, human }, Date.now())
      return agent
    }
    const look = (file: string) =>
      run(['registry', 'audit', real.registry.url, '--state', join(folder, file), '--json'])
    const bob = await vouchFor('bob')
    const first = await look('real.json')
    expect([first.code, first.stderr]).toEqual([0, ''])
    expect(lines(first).map(({ kind, certificate, name }) => [kind, certificate, name])).toEqual([
      ['certificate', 'root', 'root'],
      ['certificate', 'intermediate', 'issuer'],
      ['certificate', 'service', 'service'],
      ['certificate', 'agent', 'bob'],
      [undefined, undefined, 'Test registry'],
    ])

    await authority.revokeAgent(bob.amid, 'keyCompromise', Date.now())
    await vouchFor('carol!')
    const second = await look('real.json')
    expect(second.code).toBe(0)
    const serial = lines(first)[3]!['serial']
    expect(lines(second).slice(0, -1)).toMatchObject([
      { index: 4, kind: 'revocation', serial, reason: 'keyCompromise' },
      { index: 5, kind: 'certificate', name: 'carol!' },
    ])

    const entries = await real.store.transparency.entries(0, 100)
    await real.store.transaction('rewrite', async (tx) => {
      await tx.updateTable('log_state').set({ size: 0 }).execute()
      await tx.deleteFrom('log_entries').execute()
      await tx.deleteFrom('log_nodes').execute()
      // All but the revocation, and longer than the log was.
      for (const entry of [...entries.toSpliced(4, 1), ...entries.slice(0, 2)]) {
        await real.store.transparency.append(tx, parseLogEntry(entry))
      }
    })
    const third = await look('real.json')
    expect([third.code, verdict(third)['code']]).toEqual([11, 'LOG_INCONSISTENT'])
    // Who looks for the first time has nothing to compare with.
    expect((await look('late.json')).code).toBe(0)
  } finally {
    await real.close()
  }
})

function storedAgent(agent: TestAgent): AgentInput {
  return {
    amid: agent.amid,
    record: '{}',
    sequence: 1,
    exchangeKey: 'x25519:none',
    exchangeSequence: 1,
    recoveryKey: undefined,
    presence: undefined,
    capabilities: [],
  }
}

/** An intermediate comes and goes: by the operator's commands, the root from its safe, and what agents make of it. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { startRelay, type RunningRelay } from '@agentmesh/relay'
import { Agent, type JsonValue } from '@agentmesh/sdk'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { CertifiedRegistry } from '../support/certified-registry.ts'
import { FLIGHTS } from '../support/network.ts'
import { errorCode, run } from './cli-harness.ts'

let folder: string
let relay: RunningRelay
let registry: CertifiedRegistry
const closing: (() => Promise<unknown>)[] = []

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'agentmesh-intermediate-'))
  relay = await startRelay({ dataPath: join(folder, 'relay.db') })
  registry = await CertifiedRegistry.start(folder, 'home')
})
afterAll(async () => {
  await Promise.all(closing.map((close) => close()))
  await registry.close()
  await relay.close()
  rmSync(folder, { recursive: true, force: true })
})

async function agent(name: string): Promise<Agent> {
  const opened = await Agent.open({
    home: join(folder, name),
    config: { relays: [relay.url], registry: registry.registry.url, display_name: name },
  })
  closing.push(() => opened.close())
  await opened.ready()
  return opened
}

/** What one agent finds of another's certificates when it knocks. */
async function knock(from: Agent, to: Agent): Promise<Record<string, JsonValue>> {
  for (const { session_id, state } of from.sessions())
    if (state === 'open') await from.killSession(session_id)
  const sent = await from.send(to.amid, { intent: FLIGHTS, parameters: {} })
  for await (const { stage } of sent.progress()) if (stage === 'accepted' || stage === 'rejected') break
  const [decision] = to.decisions({ from: from.amid })
  return { ...decision?.trace.find(({ rule }) => rule === 'certificate')?.inputs }
}

/** While connections to a registry that was restarted are found broken. */
async function refreshed(who: Agent): Promise<boolean> {
  return who.trust.refresh().then(
    () => true,
    () => false,
  )
}

const intermediate = (...args: string[]) =>
  run(['registry', 'intermediate', ...args, '--dir', registry.folder, '--json'])

test('the next intermediate issues, the one before holds until it is revoked, and agents get new certificates', async () => {
  const withRoot = ['--root', `${registry.folder}.root`]
  const [alice, bob, carol] = [await agent('alice'), await agent('bob'), await agent('carol')]
  await registry.verify(alice, 'Alice')
  expect(await knock(alice, bob)).toMatchObject({ tier: 'verified', chain: 'valid' })

  expect(errorCode(await intermediate('renew'))).toBe('MALFORMED')
  const renewed = JSON.parse((await intermediate('renew', ...withRoot)).stdout) as Record<string, string>
  const { issuing = '', retired = '' } = renewed
  expect(issuing).not.toBe(retired)
  await registry.restart(() => {})
  for (const who of [alice, bob, carol])
    await expect.poll(() => refreshed(who), { timeout: 10_000 }).toBe(true)
  await registry.verify(carol, 'Carol')
  // Both chains hold: the old one under the old, the new one under the new.
  expect(await knock(alice, bob)).toMatchObject({ tier: 'verified', revocation: 'good' })
  expect(await knock(carol, bob)).toMatchObject({ tier: 'verified', revocation: 'good' })

  const inUse = await intermediate('revoke', issuing, '--reason', 'keyCompromise', ...withRoot)
  expect(errorCode(inUse)).toBe('MALFORMED')
  expect((await intermediate('revoke', retired, '--reason', 'keyCompromise', ...withRoot)).code).toBe(0)
  await registry.restart(() => {})
  await expect.poll(() => refreshed(bob), { timeout: 10_000 }).toBe(true)
  expect(await knock(alice, bob)).toMatchObject({
    tier: 'anonymous',
    false_claim: 'revoked',
    chain: 'revoked',
  })
  expect(bob.decisions({ from: alice.amid })[0]?.reason).toBe('unverified_claim')
  expect(await knock(carol, bob)).toMatchObject({ tier: 'verified', revocation: 'good' })

  // Her daemon sees that its own chain does not hold, long before it would renew it.
  await expect.poll(() => refreshed(alice), { timeout: 10_000 }).toBe(true)
  expect(await knock(alice, bob)).toMatchObject({ tier: 'verified', chain: 'valid', revocation: 'good' })
  expect(JSON.parse((await intermediate('list')).stdout)).toMatchObject([
    { key_id: issuing, state: 'issuing' },
    { key_id: retired, state: 'revoked' },
  ])
})

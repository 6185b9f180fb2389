/** An intermediate comes and goes: by the operator's commands, the root from its safe, and what agents make of it. */
import { type Agent } from '@agentmesh/sdk'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { CertifiedNetwork, knock as knockOn, refreshed as isRefreshed } from '../support/certified-network.ts'
import type { CertifiedRegistry } from '../support/certified-registry.ts'
import { errorCode, run } from './cli-harness.ts'

let network: CertifiedNetwork
let registry: CertifiedRegistry

beforeAll(async () => {
  network = await CertifiedNetwork.start()
  registry = network.registry
})
afterAll(() => network.close())

const knock = (from: Agent, to: Agent) => knockOn(from, to.amid, () => to.decisions({ from: from.amid }))
const refreshed = (who: Agent) => isRefreshed(() => who.trust.refresh())

const intermediate = (...args: string[]) =>
  run(['registry', 'intermediate', ...args, '--dir', registry.folder, '--json'])

test('the next intermediate issues, the one before holds until it is revoked, and agents get new certificates', async () => {
  const withRoot = ['--root', `${registry.folder}.root`]
  const [alice, bob, carol] = [
    await network.agent('alice'),
    await network.agent('bob'),
    await network.agent('carol'),
  ]
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

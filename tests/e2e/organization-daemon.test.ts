/** What an organisation's own daemon keeps in order without being asked: its revocation list and its certificate. */
import { join } from 'node:path'
import { renewIntermediate } from '@agentmesh/registry'
import { type Agent, readAuditLog } from '@agentmesh/sdk'
import { systemRandom } from '@agentmesh/sdk/crypto/signing'
import {
  certificateFromText,
  Home,
  openIdentity,
  readOrganization,
  writeOrganization,
} from '@agentmesh/sdk/identity'
import { amidToBytes, formatTimestamp, toHex } from '@agentmesh/sdk/wire'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { HttpRegistryClient } from '../../packages/sdk/src/discovery/index.ts'
import { CertifiedNetwork, refreshed as isRefreshed } from '../support/certified-network.ts'
import type { CertifiedRegistry } from '../support/certified-registry.ts'

const DAY = 86_400_000
let network: CertifiedNetwork
let offset = 0
let registry: CertifiedRegistry
let acme: Agent
const clock = (): number => Date.now() + offset

beforeAll(async () => {
  network = await CertifiedNetwork.start(clock)
  registry = network.registry
  acme = await network.agent('acme')
})
afterAll(() => network.close())

/** The organisation's list at the registry. */
async function list() {
  const identity = openIdentity(Home.open(acme.home))
  const client = new HttpRegistryClient(registry.registry.url, identity, { now: clock, random: systemRandom })
  const { number, entries, nextUpdate } = await client.crl(toHex(amidToBytes(acme.amid)))
  client.close()
  return { number, entries: [...entries.keys()], daysLeft: Math.round((nextUpdate - clock()) / DAY) }
}

const refreshed = () => isRefreshed(() => acme.trust.refresh())

test('the list is signed anew at half its life, and a newer certificate is taken', async () => {
  const home = Home.open(acme.home)
  const certificate = await registry.verifyOrganization(acme.amid, 'acme.example', 'Acme')
  const expires_at = formatTimestamp(clock() + 60 * DAY)
  const at = formatTimestamp(clock())
  const row = { amid: acme.amid, issued_at: at, expires_at }
  const issued = [
    { ...row, serial: '1a' },
    { ...row, serial: '2b', revoked_at: at, reason: 'keyCompromise' },
  ]
  writeOrganization(home, {
    version: 1,
    domain: 'acme.example',
    name: 'Acme',
    list_number: 0,
    issued,
    certificate,
  })
  await acme.trust.refresh()
  expect(await list()).toEqual({ number: 1, entries: ['2b'], daysLeft: 30 })
  offset = 14 * DAY
  await acme.trust.refresh()
  expect((await list()).number).toBe(1)
  offset = 16 * DAY
  await acme.trust.refresh()
  expect(await list()).toEqual({ number: 2, entries: ['2b'], daysLeft: 30 })

  // The registry certifies it under another intermediate: nobody has to ask for it.
  await registry.restart(() => {
    const terms = { folder: registry.folder, rootFile: `${registry.folder}.root`, passphrase: undefined }
    renewIntermediate({ ...terms, now: clock(), random: systemRandom })
  })
  offset = 18 * DAY
  await expect.poll(refreshed, { timeout: 10_000 }).toBe(true)
  const held = readOrganization(home)
  expect(held?.certificate).not.toBe(certificate)
  expect(certificateFromText(held?.certificate ?? '').subject.organization).toBe('Acme (acme.example)')
  expect(await list()).toEqual({ number: 3, entries: ['2b'], daysLeft: 30 })
  const lists = [...readAuditLog(join(acme.home, 'logs'))].filter(
    ({ event }) => event === 'organization_list',
  )
  expect(lists.map(({ number, entries }) => [number, entries])).toEqual([
    [1, 1],
    [2, 1],
    [3, 1],
  ])
})

/** From the provider to the certificate: the whole registry, with its authority. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { systemRandom } from '@agentmesh/sdk/crypto/signing'
import { openTrustDocument, parseCrl, validatePath, type Crl } from '@agentmesh/sdk/identity'
import { fromBase64, isAgentMeshError, validate, VerificationResult } from '@agentmesh/sdk/wire'
import { afterAll, afterEach, beforeAll, beforeEach, expect, it } from 'vitest'
import { makeAuthorityKeys } from '../authority/authority-keys.ts'
import { startRegistry, type RunningRegistry } from '../server.ts'
import { call, TestAgent, type Reply } from '../test-support.ts'
import { Browser, startGithubLike, type GithubLike } from './test-support-providers.ts'
import { finish, REDIRECT, start } from './test-support-verification.ts'

const folder = mkdtempSync(join(tmpdir(), 'agentmesh-certified-'))
const providersPath = join(folder, 'providers.json')
const keys = makeAuthorityKeys({
  name: 'Test registry',
  url: 'http://registry.example',
  now: Date.now(),
  random: systemRandom,
})
let github: GithubLike
let registry: RunningRegistry

beforeAll(async () => {
  github = await startGithubLike()
  const entry = {
    client_id: 'agentmesh',
    client_secret: 'github-secret',
    url: github.url,
    api_url: `${github.url}/api`,
  }
  writeFileSync(providersPath, JSON.stringify({ providers: [{ type: 'github', ...entry }] }))
})
afterAll(async () => {
  await github.close()
  rmSync(folder, { recursive: true, force: true })
})
beforeEach(async () => {
  registry = await startRegistry({
    dataPath: ':memory:',
    authority: keys,
    providersPath,
    limits: { maxAgentsOfHuman: 2 },
  })
})
afterEach(async () => {
  await registry.close()
})

async function agent(name: string): Promise<TestAgent> {
  const made = new TestAgent(name, registry.url, Date.now)
  await made.register()
  return made
}

async function vouch(of: TestAgent, user: number, fields: object = {}): Promise<Reply> {
  github.user = user
  const { body } = await start(of, 'github')
  const returned = await new Browser('anna').visit(body.authorization_url, REDIRECT)
  return finish(of, body.verification_id, returned, fields)
}

it('gives a chain that a stranger takes for tier 1 and the chosen name, and shows the tier', async () => {
  const alice = await agent('alice')
  const { status, body } = await vouch(alice, 1, { display_name: 'Anna' })
  expect(status).toBe(200)
  const result = validate(VerificationResult, body)
  const document = await call(`${registry.url}/v1/registry/trust`)
  const now = Date.now()
  const trusted = openTrustDocument(document.body, { now, fingerprint: keys.fingerprint })
  const lists = new Map<string, Crl>()
  for (const { keyId } of [trusted.root, ...trusted.intermediates]) {
    const { body: list } = await call(`${registry.url}/v1/registry/crl/${keyId}`)
    lists.set(keyId, parseCrl(fromBase64(list.crl)))
  }
  const chain = result.certificate_chain.map((text) => fromBase64(text))
  const verdict = validatePath(chain, trusted, {
    now,
    amid: alice.amid,
    crlOf: (keyId) => lists.get(keyId),
  })
  expect(verdict).toMatchObject({ valid: true, tier: 1, displayName: 'Anna', revocation: 'good' })
  const lookup = await call(`${registry.url}/v1/registry/lookup?amid=${alice.amid}`)
  expect(lookup.body.tier).toBe(1)
})

it('lets nobody else vouch for an agent that somebody vouched for; the same person may again', async () => {
  const alice = await agent('alice')
  expect((await vouch(alice, 1, { display_name: 'Anna' })).status).toBe(200)
  const taken = await vouch(alice, 2, { display_name: 'Mark' })
  expect([taken.status, taken.body.code]).toEqual([403, 'VERIFIED_BY_ANOTHER'])
  const again = await vouch(alice, 1, { display_name: 'Anna of Harbour Travel' })
  expect([again.status, again.body.display_name]).toEqual([200, 'Anna of Harbour Travel'])
})

it('lets one person vouch for so many agents', async () => {
  for (const name of ['a', 'b']) expect((await vouch(await agent(name), 1)).status).toBe(200)
  const third = await agent('c')
  const over = await vouch(third, 1)
  expect([over.status, over.body.code]).toEqual([403, 'AGENTS_OF_HUMAN_LIMIT'])
  const lookup = await call(`${registry.url}/v1/registry/lookup?amid=${third.amid}`)
  expect(lookup.body.tier).toBe(2)
  expect((await vouch(third, 2)).status).toBe(200)
})

it('begins nothing for an agent that is not registered', async () => {
  const stranger = new TestAgent('stranger', registry.url, Date.now)
  const reply = await start(stranger, 'github')
  expect([reply.status, reply.body.code]).toEqual([403, 'NOT_REGISTERED'])
})

it('verifies nobody without an authority, and says so at start', async () => {
  const plain = await startRegistry({ dataPath: ':memory:' })
  const alice = new TestAgent('alice', plain.url, Date.now)
  const reply = await start(alice, 'github')
  const { body } = await call(`${plain.url}/v1/registry/verification/providers`)
  await plain.close()
  expect([reply.status, reply.body.code, body]).toEqual([403, 'TIER_UNAVAILABLE', { providers: [] }])
  const failure: unknown = await startRegistry({ dataPath: ':memory:', providersPath }).catch(
    (error: unknown) => error,
  )
  expect(isAgentMeshError(failure, 'MALFORMED')).toBe(true)
})

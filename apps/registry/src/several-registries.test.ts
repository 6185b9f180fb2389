/** Two registries on one PostgreSQL behind a balancer that hands every connection to the next: to agents they are one. */
import { once } from 'node:events'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { connect, createServer, type AddressInfo, type Server } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { systemRandom } from '@agentmesh/sdk/crypto/signing'
import { openTrustDocument, parseLogEntry } from '@agentmesh/sdk/identity'
import { fromBase64 } from '@agentmesh/sdk/wire'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { makeAuthorityKeys, type AuthorityKeys } from './authority/authority-keys.ts'
import { startRegistry, type RunningRegistry } from './server.ts'
import { call, TestAgent, type Reply } from './test-support.ts'
import { startPostgres, type TestPostgres } from './test-support-postgres.ts'
import { MailServer } from './verification/test-support-mail.ts'
import { Browser, startGithubLike, type GithubLike } from './verification/test-support-providers.ts'
import { finish, REDIRECT, start, verification } from './verification/test-support-verification.ts'

const folder = mkdtempSync(join(tmpdir(), 'agentmesh-several-'))
let postgres: TestPostgres
let github: GithubLike
let mails: MailServer
let balancer: Server
let keys: AuthorityKeys
let url: string
let registries: RunningRegistry[] = []
/** Connections that each registry was handed. */
const handed = [0, 0]

beforeAll(async () => {
  postgres = await startPostgres()
  github = await startGithubLike()
  mails = new MailServer()
  let next = 0
  balancer = createServer((client) => {
    const which = next++ % 2
    handed[which]! += 1
    const server = connect(registries[which]!.port, '127.0.0.1')
    client.pipe(server).pipe(client)
    for (const end of [client, server]) {
      end.on('error', () => {
        client.destroy()
        server.destroy()
      })
    }
  })
  balancer.listen(0, '127.0.0.1')
  await once(balancer, 'listening')
  url = `http://127.0.0.1:${(balancer.address() as AddressInfo).port}`
  const client = { client_id: 'agentmesh', client_secret: 'github-secret', device: true }
  const smtp = { host: '127.0.0.1', port: await mails.listen(), security: 'none' }
  const providersPath = join(folder, 'providers.json')
  const providers = [
    { type: 'github', ...client, url: github.url, api_url: `${github.url}/api` },
    { type: 'email', from: 'agents@registry.example', smtp },
  ]
  writeFileSync(providersPath, JSON.stringify({ providers }))
  keys = makeAuthorityKeys({ name: 'Both', url, now: Date.now(), random: systemRandom })
  const databaseUrl = await postgres.create()
  // Every agent here has one address.
  const limits = { verificationsPerIp: { perSecond: 100, burst: 1000 } }
  const one = () => startRegistry({ databaseUrl, publicUrl: url, authority: keys, providersPath, limits })
  registries = await Promise.all([one(), one()])
})
afterAll(async () => {
  await Promise.all(registries.map((registry) => registry.close()))
  balancer.close()
  await mails.close()
  await github.close()
  await postgres.stop()
  rmSync(folder, { recursive: true, force: true })
})

const get = (path: string): Promise<Reply> => call(`${url}/v1/registry/${path}`)
const known = (name: string): TestAgent => new TestAgent(name, url, Date.now)

async function agent(name: string): Promise<TestAgent> {
  const made = known(name)
  expect((await made.register()).status).toBe(201)
  return made
}

/** The same question to both. */
async function both(ask: () => Promise<Reply>): Promise<[Reply, Reply]> {
  const before = [...handed]
  const replies: [Reply, Reply] = [await ask(), await ask()]
  expect(handed.map((count, which) => count - before[which]!)).toEqual([1, 1])
  return replies
}

it('start as one: one trust document, one log, the authority’s certificates in it once', async () => {
  const [one, other] = await both(() => get('trust'))
  for (const { body } of [one, other]) {
    openTrustDocument(body, { now: Date.now(), fingerprint: keys.fingerprint })
  }
  expect(one.body.root).toBe(other.body.root)
  const { body } = await get('log/entries?start=0')
  const logged = (body.entries as string[]).map((text) => parseLogEntry(fromBase64(text)))
  const roots = logged.filter(({ content }) => Buffer.from(keys.root.der).equals(content))
  expect(roots).toHaveLength(1)
})

it('register an agent once, and know its record, its sequence and its nonces together', async () => {
  const alice = await agent('alice')
  for (const { status, body } of await both(() => get(`lookup?amid=${alice.amid}`))) {
    expect([status, body.amid]).toEqual([200, alice.amid])
  }
  const registration = alice.registration({
    sequence: 2,
    relay_endpoint: 'wss://elsewhere.example/v1/connect',
  })
  const request = alice.sign({ method: 'POST', path: '/v1/registry/register', body: registration })
  const [first, again] = await both(() => call(request.url, request.init))
  expect([first.status, again.status, again.body.code]).toEqual([200, 401, 'SIGNATURE_REPLAYED'])
  const older = await both(() =>
    alice.register({ sequence: 1, relay_endpoint: 'wss://old.example/v1/connect' }),
  )
  expect(older.map(({ body }) => body.code)).toEqual(['SEQUENCE_REPLAYED', 'SEQUENCE_REPLAYED'])
})

it('verify on another device: begun at one, asked and ended at the next', async () => {
  const bert = await agent('bert')
  github.user = 1
  github.typed = false
  github.interval = 1
  const begun = await verification(bert, 'device', { provider: 'github' })
  expect(begun.status).toBe(201)
  const end = () => verification(bert, 'device/finish', { verification_id: begun.body.verification_id })
  const waiting = await both(end)
  expect(waiting.map(({ status }) => status)).toEqual([202, 202])
  github.typed = true
  let ended = await end()
  while (ended.status === 202) ended = await end()
  expect([ended.status, ended.body.tier]).toEqual([200, 1])
  expect((await end()).body.code).toBe('VERIFICATION_UNKNOWN')
  for (const { body } of await both(() => get(`lookup?amid=${bert.amid}`))) expect(body.tier).toBe(1)
})

it('verify through the browser: begun at one, ended at the next', async () => {
  const cleo = await agent('cleo')
  github.user = 2
  const [begun] = await both(() => start(cleo, 'github'))
  const returned = await new Browser('cleo').visit(begun.body.authorization_url, REDIRECT)
  const ended = await finish(cleo, begun.body.verification_id, returned, { display_name: 'Cleo' })
  expect([ended.status, ended.body.display_name]).toEqual([200, 'Cleo'])
  expect((await finish(cleo, begun.body.verification_id, returned)).body.code).toBe('VERIFICATION_UNKNOWN')
})

it('verify by mail, with as many tries and mails as one of them', async () => {
  const dora = await agent('dora')
  const begin = (who: TestAgent) =>
    verification(who, 'email', { provider: 'email', address: 'dora@example.org' })
  const end = (who: TestAgent, id: string, code: string) =>
    verification(who, 'email/finish', { verification_id: id, code })
  const first = await begin(dora)
  const code = await mails.code(1)
  const wrong = String((Number(code) + 1) % 1e8).padStart(8, '0')
  for (let attempt = 0; attempt < 5; attempt += 1) {
    expect((await end(dora, first.body.verification_id, wrong)).body.code).toBe('VERIFICATION_REFUSED')
  }
  for (const { body } of await both(() => end(dora, first.body.verification_id, code))) {
    expect(body.code).toBe('VERIFICATION_UNKNOWN')
  }
  const second = await begin(dora)
  expect((await end(dora, second.body.verification_id, await mails.code(2))).status).toBe(200)

  const eve = await agent('eve')
  for (let mail = 0; mail < 6; mail += 1) expect((await begin(eve)).status).toBe(202)
})

it('begin no more verifications for an agent than one of them', async () => {
  const fred = await agent('fred')
  const statuses = []
  for (let attempt = 0; attempt < 14; attempt += 1) statuses.push((await start(fred, 'github')).status)
  expect(statuses).toEqual([...Array.from({ length: 10 }, () => 201), 429, 429, 429, 429])
})

it('give every one-time prekey once, and to one fetcher no more than one of them', async () => {
  const gina = await agent('gina')
  const hugo = await agent('hugo')
  expect((await gina.putPrekeys(gina.upload(1, 40))).status).toBe(200)
  const replies = await Promise.all(Array.from({ length: 24 }, () => hugo.fetchBundle(gina)))
  const ids = replies.flatMap(({ body }) =>
    body.one_time_prekey === undefined ? [] : [body.one_time_prekey.id],
  )
  expect(replies.every(({ status }) => status === 200)).toBe(true)
  expect(ids).toHaveLength(20)
  expect(new Set(ids).size).toBe(20)
  const counts = await both(() => gina.send({ method: 'GET', path: '/v1/registry/prekeys' }))
  for (const { body } of counts) expect(body.one_time_prekeys).toBe(20)
})

it('continue at one a search that began at the other', async () => {
  const names = Array.from({ length: 7 }, (_, index) => `found ${index}`)
  const wanted = []
  for (const name of names) {
    const made = known(name)
    await made.register({ capabilities: [{ category: 'x-several/search' }], online: name.endsWith('3') })
    wanted.push(made.amid)
  }
  const found: string[] = []
  let cursor = ''
  do {
    const { body } = await get(`search?capability=x-several/search&limit=2${cursor && `&cursor=${cursor}`}`)
    found.push(...(body.agents as { amid: string }[]).map(({ amid }) => amid))
    cursor = body.next_cursor ?? ''
  } while (cursor !== '')
  expect(found).toHaveLength(7)
  expect(found.toSorted()).toEqual(wanted.toSorted())
  expect(found[0]).toBe(known('found 3').amid)
  expect(Math.abs(handed[0]! - handed[1]!)).toBeLessThanOrEqual(1)
})

it('end when all mails are handed over, and there were no more than one of them sends', async () => {
  await Promise.all(registries.splice(0).map((registry) => registry.close()))
  // Three at a time to one address: that of the attempt that ended was free again.
  expect(mails.tried.filter((address) => address === 'dora@example.org')).toHaveLength(4)
})

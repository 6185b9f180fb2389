/**
 * Whether a person, a verification, a ban or an organisation that was never verified exists is nobody's business
 * (docs/security.md). Each case asks twice, about something that is there and something that is not: the two answers are the
 * same byte for byte, and the work until they are out is the same statements and signature checks in the same order.
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { ed25519KeyPair, sha256 } from '@agentmesh/sdk/crypto/signing'
import { signFeedback, signSuccession } from '@agentmesh/sdk/identity'
import { formatKey, toHex, amidToBytes, utf8Bytes } from '@agentmesh/sdk/wire'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { humanKey } from './authority/authority-keys.ts'
import { DEFAULT_LIMITS } from './limits.ts'
import { closedSession } from './reputation/test-support.ts'
import { call, TestAgent, type Reply } from './test-support.ts'
import { CertifyingRegistry } from './test-support-authority.ts'
import { told, WorkObserver, type Observed } from './test-support-work.ts'
import { parseAddress } from './verification/email.ts'
import { humanOf } from './verification/human.ts'
import { MailServer } from './verification/test-support-mail.ts'
import { startGithubLike, type GithubLike } from './verification/test-support-providers.ts'
import { finish, REDIRECT, start, verification } from './verification/test-support-verification.ts'

const TOKEN = 'a-token-of-24-characters-or-more'
const ANNA = 'anna@example.org'
const folder = mkdtempSync(join(tmpdir(), 'agentmesh-private-'))
const providersPath = join(folder, 'providers.json')
const recovery = ed25519KeyPair(sha256(utf8Bytes('recovery')))
const thief = ed25519KeyPair(sha256(utf8Bytes('thief')))
const WIDE = { perSecond: 1e6, burst: 1e6 }

let mails: MailServer
let github: GithubLike
let offset = 0
let registry: CertifyingRegistry
let observer: WorkObserver
/** Who asks. */
let eve: TestAgent

const now = () => Date.now() + offset
const known = (name: string): TestAgent => new TestAgent(name, registry.registry.url, now)
const returned = (query: string): URL => new URL(`${REDIRECT}?${query}`)
const post = (who: TestAgent, path: string, body: object): Promise<Reply> =>
  who.send({ method: 'POST', path: `/v1/registry/${path}`, body })
const get = (path: string): Promise<Reply> => call(`${registry.url}/${path}`)

async function agent(name: string): Promise<TestAgent> {
  const made = known(name)
  const { status } = await made.register({
    recovery_public_key: formatKey('ed25519', recovery.publicKey),
  })
  if (status !== 201) throw new Error(`registering answered ${status}`)
  await made.putPrekeys(made.upload(1, 2))
  return made
}

/** @param person a mail address */
async function verified(name: string, person: string): Promise<TestAgent> {
  const made = await agent(name)
  await registry.certification.authority.verifyAgent(
    {
      amid: made.amid,
      publicKey: made.identity.signing.publicKey,
      tier: 1,
      human: humanOf(humanKey(registry.keys), parseAddress(person).account),
    },
    now(),
  )
  return made
}

async function organization(name: string, domain: string, isVerified: boolean): Promise<TestAgent> {
  const made = await agent(name)
  await post(made, 'organizations', { domain, name: 'Harbour' })
  if (isVerified) {
    await registry.store.transaction('verify', (tx) =>
      registry.store.certificates.setOrganization(tx, made.amid, { status: 'verified' }),
    )
  }
  return made
}

function admin(path: string, body: object, token = TOKEN): Promise<Reply> {
  return call(`${registry.url}/admin/${path}`, {
    method: 'POST',
    headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json' },
    body: JSON.stringify(body),
  })
}

async function banned(name: string): Promise<TestAgent> {
  const made = await agent(name)
  const reply = await admin('bans', { amid: made.amid, scope: 'agent', reason: 'Spam' })
  if (reply.status !== 200) throw new Error(`banning answered ${reply.status}`)
  return made
}

/** A mail that went out, and the number of its attempt. */
async function mailed(who: TestAgent, address: string): Promise<string> {
  const before = mails.mails.length
  const { body } = await verification(who, 'email', { provider: 'email', address })
  await mails.until(() => mails.mails.length > before)
  return body.verification_id as string
}

function same(one: Observed, other: Observed): void {
  expect(told(one.reply)).toEqual(told(other.reply))
  expect(one.untilAnswer.length).toBeGreaterThan(0)
  expect(one.untilAnswer).toEqual(other.untilAnswer)
}

beforeAll(async () => {
  mails = new MailServer()
  github = await startGithubLike()
  const smtp = { host: '127.0.0.1', port: await mails.listen(), security: 'none' }
  const client = { client_id: 'agentmesh', client_secret: 'github-secret', device: true }
  const providers = [
    { type: 'github', ...client, url: github.url, api_url: `${github.url}/api` },
    { type: 'email', from: 'agents@registry.example', smtp },
  ]
  writeFileSync(providersPath, JSON.stringify({ providers }))
})
afterAll(async () => {
  await mails.close()
  await github.close()
  rmSync(folder, { recursive: true, force: true })
})
beforeEach(async () => {
  offset = 0
  mails.mails.length = 0
  mails.tried.length = 0
  const rates = Object.entries(DEFAULT_LIMITS).filter(([, limit]) => typeof limit === 'object')
  registry = await CertifyingRegistry.start(now, {
    limits: { ...Object.fromEntries(rates.map(([name]) => [name, WIDE])), evaluationIntervalMs: 2 ** 31 - 1 },
    adminTokens: TOKEN,
    providersPath,
  })
  eve = await agent('eve')
  observer = new WorkObserver()
})
afterEach(async () => {
  observer.close()
  await registry.close()
})

describe('a verification', () => {
  const NONE = 'A'.repeat(32)
  const lost = returned('code=c&state=s')

  it('of another agent is like none, used and late ones too, through the browser', async () => {
    const other = await agent('other')
    const begun = (await start(other, 'github')).body.verification_id as string
    const used = (await start(eve, 'github')).body.verification_id as string
    const late = (await start(eve, 'github')).body.verification_id as string
    expect((await finish(eve, used, lost)).body.code).toBe('VERIFICATION_REFUSED')
    const none = await observer.during(() => finish(eve, NONE, lost))
    expect(none.reply.body.code).toBe('VERIFICATION_UNKNOWN')
    same(await observer.during(() => finish(eve, begun, lost)), none)
    same(await observer.during(() => finish(eve, used, lost)), none)
    offset += 700_000
    same(await observer.during(() => finish(eve, late, lost)), none)
  })

  it('of another agent is like none, on another device', async () => {
    const other = await agent('other')
    const { body } = await verification(other, 'device', { provider: 'github' })
    const end = (id: string) => verification(eve, 'device/finish', { verification_id: id })
    const none = await observer.during(() => end(NONE))
    expect(none.reply.body.code).toBe('VERIFICATION_UNKNOWN')
    same(await observer.during(() => end(body.verification_id)), none)
  })

  it('of another agent is like none, by mail', async () => {
    const id = await mailed(await agent('other'), ANNA)
    const end = (of: string) => verification(eve, 'email/finish', { verification_id: of, code: '12345678' })
    const none = await observer.during(() => end(NONE))
    expect(none.reply.body.code).toBe('VERIFICATION_UNKNOWN')
    same(await observer.during(() => end(id)), none)
  })

  it('whose browser came back is like none to who knows no state', async () => {
    await start(await agent('other'), 'github')
    const used = (await start(eve, 'github')).body
    await finish(eve, used.verification_id, lost)
    const none = await observer.during(() => get('verification/return?state=s&code=c'))
    expect(none.reply.body.code).toBe('VERIFICATION_UNKNOWN')
    same(await observer.during(() => get(`verification/return?state=${used.state}&code=c`)), none)
  })
})

describe('a mail address', () => {
  const begin = (address: string) => verification(eve, 'email', { provider: 'email', address })
  /** Until the mail server was tried once more. */
  const tried = (before: number) => () => mails.until(() => mails.tried.length > before)

  it('of a person who vouched for agents is like one that nobody knows, and so is all that follows', async () => {
    await verified('ann', ANNA)
    const ann = await observer.during(() => begin(ANNA), tried(0))
    const nobody = await observer.during(() => begin('bert@example.org'), tried(1))
    expect(ann.reply.status).toBe(202)
    same(ann, nobody)
    // Not even begun before the answer is out.
    expect(ann.afterAnswer.length).toBeGreaterThan(0)
    expect(ann.afterAnswer).toEqual(nobody.afterAnswer)
    const code = (id: string) =>
      observer.during(() => verification(eve, 'email/finish', { verification_id: id, code: '00000000' }))
    const refused = await code(ann.reply.body.verification_id)
    expect(refused.reply.body.code).toBe('VERIFICATION_REFUSED')
    same(refused, await code(nobody.reply.body.verification_id))
  })

  it('that had its mails is like one that had none', async () => {
    const other = await agent('other')
    for (let mail = 0; mail < DEFAULT_LIMITS.mailsPerAddress; mail += 1) await mailed(other, ANNA)
    const full = await observer.during(() => begin(ANNA))
    const before = mails.tried.length
    const fresh = await observer.during(() => begin('bert@example.org'), tried(before))
    same(full, fresh)
    expect(mails.tried.filter((address) => address === ANNA)).toHaveLength(DEFAULT_LIMITS.mailsPerAddress)
    const code = (id: string) =>
      observer.during(() => verification(eve, 'email/finish', { verification_id: id, code: '00000000' }))
    same(await code(full.reply.body.verification_id), await code(fresh.reply.body.verification_id))
  })
})

describe('a ban', () => {
  it('is like an agent that was never there, to everybody but the agent itself', async () => {
    const gone = await banned('gone')
    const never = known('never')
    const asked: readonly ((amid: string) => Promise<Reply>)[] = [
      (amid) => get(`lookup?amid=${amid}`),
      (amid) => get(`did/did:agentmesh:${amid}`),
      (amid) => get(`reputation?amid=${amid}`),
      (amid) => get(`organizations/${amid}`),
      (amid) => get(`crl/${toHex(amidToBytes(amid as TestAgent['amid']))}`),
      (amid) => post(eve, 'prekeys/fetch', { amid }),
      (amid) => post(eve, 'successions', signSuccession(thief, amid as TestAgent['amid'], eve.amid, now())),
    ]
    for (const ask of asked) {
      const one = await observer.during(() => ask(gone.amid))
      expect(one.reply.status).toBe(404)
      same(one, await observer.during(() => ask(never.amid)))
    }
    const successions = (of: TestAgent) => observer.during(() => get(`successions?amid=${of.amid}`))
    same(await successions(gone), await successions(never))
    const rating = (of: TestAgent) =>
      post(
        eve,
        'reputation/feedback',
        signFeedback(eve.identity, { closing: closedSession(eve, of, now()), rating: 1, tags: [] }, now()),
      )
    same(await observer.during(() => rating(gone)), await observer.during(() => rating(never)))
  })
})

describe('an organisation that was never verified', () => {
  it('is like none', async () => {
    const pending = await organization('pending', 'harbour.example', false)
    const plain = await agent('plain')
    const never = known('never')
    const none = await observer.during(() => get(`organizations/${never.amid}`))
    expect(none.reply.body.code).toBe('ORGANIZATION_UNKNOWN')
    same(await observer.during(() => get(`organizations/${pending.amid}`)), none)
    same(await observer.during(() => get(`organizations/${plain.amid}`)), none)
    const list = (of: TestAgent) => observer.during(() => get(`crl/${toHex(amidToBytes(of.amid))}`))
    same(await list(pending), await list(never))
  })

  it('does not show in who else asks for its domain', async () => {
    await organization('pending', 'harbour.example', false)
    await organization('holder', 'museum.example', true)
    const ask = async (name: string, domain: string) => {
      const who = await agent(name)
      return observer.during(() => post(who, 'organizations', { domain, name: 'Harbour' }))
    }
    const [wanted, held, free] = [
      await ask('one', 'harbour.example'),
      await ask('two', 'museum.example'),
      await ask('three', 'nobody1.example'),
    ].map((seen) => ({
      ...seen,
      told: {
        ...told(seen.reply),
        text: told(seen.reply)
          .text.replaceAll(/(harbour|museum|nobody1)\.example/g, '<domain>')
          .replace(/org=[A-Za-z0-9_-]{16}/, 'org=<hash>'),
      },
    }))
    expect(wanted!.reply.status).toBe(200)
    for (const other of [held!, free!]) {
      expect(other.told).toEqual(wanted!.told)
      expect(other.untilAnswer).toEqual(wanted!.untilAnswer)
    }
  })
})

describe('a person behind an agent', () => {
  it('does not show in a rating of it, nor that two agents have the same one', async () => {
    const ann = await verified('ann', ANNA)
    const alsoAnn = await verified('ann2', ANNA)
    const bert = await verified('bert', 'bert@example.org')
    const rating = (by: TestAgent, of: TestAgent) =>
      observer.during(() =>
        post(
          by,
          'reputation/feedback',
          signFeedback(by.identity, { closing: closedSession(by, of, now()), rating: 1, tags: [] }, now()),
        ),
      )
    const [one, two, three] = [await rating(eve, ann), await rating(eve, alsoAnn), await rating(eve, bert)]
    const closing = ({ reply }: Observed) => ({
      ...told(reply),
      text: reply.text.replace(/"closing":"[A-Za-z0-9+/=]{44}"/, '"closing":"<hash>"'),
    })
    expect(one.reply.status).toBe(200)
    for (const other of [two, three]) {
      expect(closing(other)).toEqual(closing(one))
      // Rows are taken in the order of their AMIDs, which everybody knows.
      expect(other.untilAnswer.toSorted()).toEqual(one.untilAnswer.toSorted())
    }
  })

  it('does not show in a succession that another key signed', async () => {
    const ann = await verified('ann', ANNA)
    const plain = await agent('plain')
    const bring = (of: TestAgent) =>
      observer.during(() => post(eve, 'successions', signSuccession(thief, of.amid, eve.amid, now())))
    const sorted = (seen: Observed): Observed => ({ ...seen, untilAnswer: seen.untilAnswer.toSorted() })
    const one = sorted(await bring(ann))
    expect(one.reply.body.code).toBe('INVALID_SIGNATURE')
    same(one, sorted(await bring(plain)))
  })
})

describe('what only its owner or an operator may do', () => {
  it('is refused before anything is looked up', async () => {
    const there = await verified('ann', ANNA)
    const harbour = await organization('harbour', 'harbour.example', true)
    const never = known('never')
    const list = { crl: Buffer.from('nothing').toString('base64') }
    const put = (path: string, body: object) =>
      eve.send({ method: 'PUT', path: `/v1/registry/${path}`, body })
    const keyId = (of: TestAgent) => toHex(amidToBytes(of.amid))
    const asked: readonly ((of: TestAgent) => Promise<Reply>)[] = [
      (of) => put(`agents/${of.amid}`, of.registration({ sequence: 2 })),
      (of) => eve.send({ method: 'DELETE', path: `/v1/registry/agents/${of.amid}` }),
      (of) => put(`crl/${keyId(of)}`, list),
      (of) => post(eve, 'successions', signSuccession(recovery, eve.amid, of.amid, now())),
    ]
    for (const ask of asked) {
      const none = await observer.during(() => ask(never))
      expect(none.reply.body.code).toBe('NOT_OWNER')
      same(await observer.during(() => ask(there)), none)
      same(await observer.during(() => ask(harbour)), none)
    }
    const wrong = `${TOKEN.slice(0, -1)}x`
    for (const [path, body] of [
      ['bans', { scope: 'human', reason: 'x' }],
      ['revoke', { code: 'keyCompromise', reason: 'x' }],
      ['reviews', { decision: 'approve', reason: 'x' }],
    ] as const) {
      const ask = (of: TestAgent) => observer.during(() => admin(path, { amid: of.amid, ...body }, wrong))
      const none = await ask(never)
      expect([none.reply.body.code, none.untilAnswer]).toEqual(['ADMIN_UNAUTHORIZED', []])
      const one = await ask(there)
      expect([told(one.reply), one.untilAnswer]).toEqual([told(none.reply), []])
    }
  })
})

it('would see a difference: the observer tells a request that does more from one that does less', async () => {
  const { amid } = await verified('ann', ANNA)
  const never = known('never')
  const one = await observer.during(() => get(`reputation?amid=${amid}`))
  const none = await observer.during(() => get(`reputation?amid=${never.amid}`))
  expect(one.untilAnswer.length).toBeGreaterThan(none.untilAnswer.length)
  expect(told(one.reply)).not.toEqual(told(none.reply))
})

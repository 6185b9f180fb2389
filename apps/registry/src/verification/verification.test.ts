import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { call, type TestAgent } from '../test-support.ts'
import {
  Browser,
  startGithubLike,
  startOidc,
  type GithubLike,
  type TestProvider,
} from './test-support-providers.ts'
import {
  CHALLENGE,
  finish,
  humanHex,
  REDIRECT,
  start,
  startVerification,
  verification,
  type TestRegistry,
} from './test-support-verification.ts'

let oidc: TestProvider
let github: GithubLike
let registry: TestRegistry
let alice: TestAgent
let mallory: TestAgent

beforeAll(async () => {
  oidc = await startOidc()
  github = await startGithubLike()
})
afterAll(async () => {
  await oidc.close()
  await github.close()
})
beforeEach(async () => {
  github.user = 4711
  github.typed = false
  registry = await startVerification([
    {
      type: 'oidc',
      name: 'work',
      issuer: oidc.url,
      client_id: 'agentmesh',
      client_secret: 'secret-of-the-registry',
      device: true,
    },
    { type: 'oidc', name: 'broken', issuer: oidc.url, client_id: 'agentmesh', client_secret: 'wrong' },
    {
      type: 'github',
      client_id: 'agentmesh',
      client_secret: 'github-secret',
      url: github.url,
      api_url: `${github.url}/api`,
      device: true,
    },
  ])
  alice = await registry.agent('alice')
  mallory = await registry.agent('mallory')
})
afterEach(async () => {
  await registry.close()
})

/** Alice's owner agrees; what comes back in the redirect. */
async function agreed(
  provider: string,
  agent = alice,
  login = 'anna',
): Promise<{ id: string; returned: URL }> {
  const { body } = await start(agent, provider)
  const returned = await new Browser(login).visit(body.authorization_url, REDIRECT)
  return { id: body.verification_id, returned }
}

describe.each(['work', 'github'])('through the browser, at %s', (provider) => {
  it('verifies the agent, under the name its owner chose, and keeps a hash of the owner', async () => {
    const { id, returned } = await agreed(provider)
    const reply = await finish(alice, id, returned, { display_name: 'Anna of Harbour Travel' })
    expect([reply.status, reply.body.tier, reply.body.display_name]).toEqual([
      200,
      1,
      'Anna of Harbour Travel',
    ])
    expect(registry.verified).toMatchObject([
      { amid: alice.amid, tier: 1, displayName: 'Anna of Harbour Travel' },
    ])
    expect(registry.verified[0]!.human).toHaveLength(32)
    expect(registry.verified[0]!.publicKey).toEqual(alice.identity.signing.publicKey)
  })

  it('knows the same person again, and another one apart; shows no name that was not chosen', async () => {
    for (const [agent, login, user] of [
      [alice, 'anna', 1],
      [mallory, 'anna', 1],
      [mallory, 'mark', 2],
    ] as const) {
      github.user = user
      const { id, returned } = await agreed(provider, agent, login)
      const reply = await finish(agent, id, returned)
      expect([reply.status, reply.body.display_name]).toEqual([200, null])
    }
    const [first, second, third] = registry.verified.map(humanHex)
    expect(first).toBe(second)
    expect(third).not.toBe(first)
    expect(registry.verified.some((subject) => 'displayName' in subject)).toBe(false)
  })

  it('refuses a wrong state, and the attempt is used up', async () => {
    const { id, returned } = await agreed(provider)
    const reply = await finish(alice, id, returned, { state: 'x'.repeat(43) })
    expect([reply.status, reply.body.code]).toEqual([403, 'VERIFICATION_REFUSED'])
    expect((await finish(alice, id, returned)).body.code).toBe('VERIFICATION_UNKNOWN')
    expect(registry.verified).toEqual([])
  })

  it('refuses a wrong PKCE verifier', async () => {
    const { id, returned } = await agreed(provider)
    const reply = await finish(alice, id, returned, { code_verifier: 'w'.repeat(64) })
    expect([reply.status, reply.body.code]).toEqual([403, 'VERIFICATION_REFUSED'])
    expect(registry.verified).toEqual([])
  })

  it('refuses a wrong PKCE verifier though the provider would take any', async () => {
    github.pkce = false
    const { id, returned } = await agreed(provider)
    const reply = await finish(alice, id, returned, { code_verifier: 'w'.repeat(64) })
    expect([reply.status, reply.body.code]).toEqual([403, 'VERIFICATION_REFUSED'])
    expect(registry.verified).toEqual([])
  })

  it('refuses a code that was redeemed before', async () => {
    const first = await agreed(provider)
    expect((await finish(alice, first.id, first.returned)).status).toBe(200)
    const second = await start(alice, provider)
    const reply = await finish(alice, second.body.verification_id, first.returned, {
      state: second.body.state,
    })
    expect([reply.status, reply.body.code]).toEqual([403, 'VERIFICATION_REFUSED'])
    expect(registry.verified).toHaveLength(1)
  })

  it('refuses a code that was given out for another redirect', async () => {
    const { body } = await start(alice, provider)
    const changed = new URL(body.authorization_url)
    changed.searchParams.set('redirect_uri', 'http://127.0.0.1:9/elsewhere')
    const returned = await new Browser('anna').visit(changed.href, 'http://127.0.0.1:9/')
    const reply = await finish(alice, body.verification_id, returned)
    expect([reply.status, reply.body.code]).toEqual([403, 'VERIFICATION_REFUSED'])
  })

  it('refuses another agent that would finish it, as if it had never been begun', async () => {
    const { id, returned } = await agreed(provider)
    const stolen = await finish(mallory, id, returned)
    const unknown = await finish(mallory, 'A'.repeat(32), returned)
    expect([stolen.status, stolen.body]).toEqual([404, unknown.body])
    expect(unknown.body.code).toBe('VERIFICATION_UNKNOWN')
    expect((await finish(alice, id, returned)).status).toBe(200)
  })

  it('refuses an attempt that was finished, or began too long ago, in the same words', async () => {
    const used = await agreed(provider)
    await finish(alice, used.id, used.returned)
    const again = await finish(alice, used.id, used.returned)
    const late = await agreed(provider)
    registry.pass(600_000)
    const tooLate = await finish(alice, late.id, late.returned)
    expect([again.status, again.body]).toEqual([404, tooLate.body])
    expect(registry.verified).toHaveLength(1)
  })
})

it('refuses a code that the browser brought from another client of the provider', async () => {
  const { body } = await start(alice, 'work')
  const changed = new URL(body.authorization_url)
  changed.searchParams.set('client_id', 'other')
  const returned = await new Browser('anna').visit(changed.href, REDIRECT)
  expect((await finish(alice, body.verification_id, returned)).body.code).toBe('VERIFICATION_REFUSED')
})

it('refuses the answer of another issuer (RFC 9207)', async () => {
  const { id, returned } = await agreed('work')
  expect(returned.searchParams.get('iss')).toBe(oidc.url)
  const reply = await finish(alice, id, returned, { iss: 'http://127.0.0.1:1' })
  expect(reply.body.code).toBe('VERIFICATION_REFUSED')
})

it('blames the operator, not the person, for a wrong client secret', async () => {
  const { id, returned } = await agreed('broken')
  const reply = await finish(alice, id, returned)
  expect([reply.status, reply.body.code]).toEqual([503, 'PROVIDER_UNAVAILABLE'])
})

it.each([
  ['a host', 'http://evil.example:80/callback'],
  ['a name for this machine', 'http://localhost:5000/callback'],
  ['another loopback address', 'http://127.0.0.2:5000/callback'],
  ['a user before it', 'http://127.0.0.1:5000@evil.example/callback'],
  ['a longer name', 'http://127.0.0.1.evil.example:5000/callback'],
  ['https', 'https://127.0.0.1:5000/callback'],
  ['no port', 'http://127.0.0.1/callback'],
  ['port 80, which disappears', 'http://127.0.0.1:80/callback'],
  ['a port that is none', 'http://127.0.0.1:99999/callback'],
  ['a query', 'http://127.0.0.1:5000/callback?next=evil'],
  ['a fragment', 'http://127.0.0.1:5000/callback#x'],
  ['a line break', 'http://127.0.0.1:5000/callback\r\nlocation: x'],
  ['a script', 'javascript:alert(1)'],
])('sends no browser to a redirect with %s', async (_name, redirect) => {
  const reply = await start(alice, 'work', { redirect_uri: redirect })
  expect([reply.status, reply.body.code]).toEqual([400, 'MALFORMED'])
})

it('asks a provider with state, nonce and PKCE of its own, and for nothing about the person', async () => {
  const [one, two] = await Promise.all([start(alice, 'work'), start(alice, 'work')])
  const first = Object.fromEntries(new URL(one.body.authorization_url).searchParams)
  const second = Object.fromEntries(new URL(two.body.authorization_url).searchParams)
  expect(first).toEqual({
    client_id: 'agentmesh',
    code_challenge: CHALLENGE,
    code_challenge_method: 'S256',
    nonce: expect.stringMatching(/^[\w-]{43}$/) as string,
    redirect_uri: REDIRECT,
    response_type: 'code',
    scope: 'openid',
    state: one.body.state as string,
  })
  expect(first['state']).not.toBe(second['state'])
  expect(first['nonce']).not.toBe(second['nonce'])
  expect(new URL((await start(alice, 'github')).body.authorization_url).searchParams.has('scope')).toBe(false)
})

it.each([
  ['a control character', 'Anna\u0007'],
  ['a line break', 'Anna\nBank'],
  ['a direction override', 'Anna \u202Egnp.exe'],
  ['an invisible character', 'An\u200Bna'],
  ['a line separator', 'Anna\u2028Bank'],
  ['only spaces', '   '],
  ['a space at its end', 'Anna '],
  ['nothing', ''],
  ['too much', 'a'.repeat(65)],
])('refuses a display name with %s before the code is redeemed', async (_name, text) => {
  const { id, returned } = await agreed('github')
  const refused = await finish(alice, id, returned, { display_name: text })
  expect([refused.status, refused.body.code]).toEqual([400, 'MALFORMED'])
  expect((await finish(alice, id, returned, { display_name: 'Zoë 🛶' })).status).toBe(200)
})

describe('on another device', () => {
  it('verifies once the person agreed, and asks the provider no more often than it allows', async () => {
    const { status, body } = await verification(alice, 'device', { provider: 'github' })
    expect([status, body.user_code, body.interval]).toEqual([201, 'ABCD-1234', 5])
    const ask = (agent: TestAgent) =>
      verification(agent, 'device/finish', { verification_id: body.verification_id })
    const asked = github.asked.length
    expect((await ask(alice)).body).toEqual({ status: 'pending', interval: 5 })
    expect(github.asked).toHaveLength(asked)
    registry.pass(5_000)
    expect((await ask(alice)).status).toBe(202)
    expect(github.asked).toHaveLength(asked + 1)
    github.typed = true
    registry.pass(5_000)
    expect((await ask(mallory)).body.code).toBe('VERIFICATION_UNKNOWN')
    expect((await ask(alice)).body.tier).toBe(1)
    expect((await ask(alice)).body.code).toBe('VERIFICATION_UNKNOWN')
    expect(registry.verified.map(({ amid }) => amid)).toEqual([alice.amid])
  })

  it('verifies at an OpenID provider as the person the browser way verifies', async () => {
    const { body } = await verification(alice, 'device', { provider: 'work' })
    const id = body.verification_id
    registry.pass(5_000)
    expect((await verification(alice, 'device/finish', { verification_id: id })).status).toBe(202)
    await new Browser('anna').visit(body.verification_uri_complete, 'none')
    registry.pass(5_000)
    const reply = await verification(alice, 'device/finish', { verification_id: id, display_name: 'Anna' })
    expect([reply.status, reply.body.display_name]).toEqual([200, 'Anna'])
    const { id: browserId, returned } = await agreed('work')
    await finish(alice, browserId, returned)
    expect(humanHex(registry.verified[0])).toBe(humanHex(registry.verified[1]))
  })

  it('does not take an attempt of the one way for the other', async () => {
    const device = await verification(alice, 'device', { provider: 'github' })
    const { id, returned } = await agreed('github')
    expect((await finish(alice, device.body.verification_id, returned)).body.code).toBe(
      'VERIFICATION_UNKNOWN',
    )
    registry.pass(5_000)
    expect((await verification(alice, 'device/finish', { verification_id: id })).body.code).toBe(
      'VERIFICATION_UNKNOWN',
    )
  })
})

it('lists what is set up, and says so when a provider or a way is not', async () => {
  const { body } = await call(`${registry.url}/v1/registry/verification/providers`)
  expect(body).toEqual({
    providers: [
      { name: 'work', type: 'oidc', ways: ['browser', 'device'] },
      { name: 'broken', type: 'oidc', ways: ['browser'] },
      { name: 'github', type: 'github', ways: ['browser', 'device'] },
    ],
  })
  for (const reply of [
    await start(alice, 'nobody'),
    await verification(alice, 'device', { provider: 'broken' }),
    await verification(alice, 'email', { provider: 'github', address: 'a@example.org' }),
  ]) {
    expect([reply.status, reply.body.code]).toEqual([404, 'PROVIDER_UNKNOWN'])
  }
})

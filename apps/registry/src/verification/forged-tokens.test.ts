/** ID tokens that lie, from a provider that says whatever it is told to. */
import { createHmac } from 'node:crypto'
import { exportPKCS8, generateKeyPair, jwtVerify, SignJWT } from 'jose'
import { OAuth2Server, type MutableResponse, type MutableToken } from 'oauth2-mock-server'
import type { ServerResponse } from 'node:http'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { toBase64Url } from '@agentmesh/sdk/wire'
import type { TestAgent } from '../test-support.ts'
import { appleAuthentication } from './apple.ts'
import { challengeOf } from './human.ts'
import { OidcProvider } from './oidc-provider.ts'
import { Browser, serve, type TestProvider } from './test-support-providers.ts'
import { finish, REDIRECT, start, startVerification, type TestRegistry } from './test-support-verification.ts'

const mock = new OAuth2Server()
let issuer: string
let registry: TestRegistry
let alice: TestAgent

beforeAll(async () => {
  await mock.issuer.keys.generate('RS256')
  await mock.start(0, '127.0.0.1')
  mock.issuer.url = `http://127.0.0.1:${mock.address().port}`
  issuer = mock.issuer.url
})
afterAll(async () => {
  await mock.stop()
})
beforeEach(async () => {
  registry = await startVerification([
    { type: 'oidc', name: 'mock', issuer, client_id: 'agentmesh', client_secret: 'secret' },
  ])
  alice = await registry.agent('alice')
})
afterEach(async () => {
  mock.service.removeAllListeners()
  await registry.close()
})

async function outcome(): Promise<[number, string | undefined]> {
  const { body } = await start(alice, 'mock')
  const returned = await new Browser('anna').visit(body.authorization_url, REDIRECT)
  const reply = await finish(alice, body.verification_id, returned)
  if (reply.status !== 200) expect(registry.verified).toEqual([])
  return [reply.status, reply.body.code]
}

function sign(change: (token: MutableToken) => void): void {
  mock.service.on('beforeTokenSigning', change)
}

/** Replaces the ID token in the provider's answer by what `make` makes of it. */
function answer(make: (parts: string[]) => string): void {
  mock.service.on('beforeResponse', (response: MutableResponse) => {
    const body = response.body as Record<string, unknown>
    body['id_token'] = make(String(body['id_token']).split('.'))
  })
}

const encode = (value: object) => Buffer.from(JSON.stringify(value)).toString('base64url')

it('takes the honest token', async () => {
  expect(await outcome()).toEqual([200, undefined])
  expect(registry.verified).toHaveLength(1)
})

describe('refuses', () => {
  it.each<[string, (payload: MutableToken['payload']) => void]>([
    ['a token for another audience', (payload) => void (payload['aud'] = 'somebody-else')],
    [
      'a token for several audiences and another party',
      (payload) => void Object.assign(payload, { aud: ['agentmesh', 'x'], azp: 'x' }),
    ],
    ['a token of another issuer', (payload) => void (payload['iss'] = 'https://accounts.google.com')],
    ['a token with another nonce', (payload) => void (payload['nonce'] = 'n'.repeat(43))],
    ['a token without a nonce', (payload) => void delete payload['nonce']],
    ['a token that expired', (payload) => void Object.assign(payload, { iat: 1_000_000, exp: 1_000_600 })],
    ['a token without an expiry', (payload) => void Reflect.deleteProperty(payload, 'exp')],
    ['a token without a subject', (payload) => void delete payload['sub']],
    ['an empty subject', (payload) => void (payload['sub'] = '')],
    ['a subject of more than 255 characters', (payload) => void (payload['sub'] = 's'.repeat(256))],
  ])('%s', async (_name, change) => {
    sign(({ payload }) => change(payload))
    expect(await outcome()).toEqual([403, 'VERIFICATION_REFUSED'])
  })

  it('a token that is not signed (alg none)', async () => {
    answer(([, payload]) => `${encode({ alg: 'none' })}.${payload}.`)
    expect(await outcome()).toEqual([403, 'VERIFICATION_REFUSED'])
  })

  it('a token signed with the public key as a shared secret (HS256)', async () => {
    const [key] = mock.issuer.keys.toJSON() as { kid: string; n?: string }[]
    answer(([, payload]) => {
      const head = `${encode({ alg: 'HS256', kid: key?.kid })}.${payload}`
      return `${head}.${createHmac('sha256', key?.n ?? '')
        .update(head)
        .digest('base64url')}`
    })
    expect(await outcome()).toEqual([403, 'VERIFICATION_REFUSED'])
  })

  it('a token signed with the client secret (HS256)', async () => {
    answer(([, payload]) => {
      const head = `${encode({ alg: 'HS256' })}.${payload}`
      return `${head}.${createHmac('sha256', 'secret').update(head).digest('base64url')}`
    })
    expect(await outcome()).toEqual([403, 'VERIFICATION_REFUSED'])
  })

  it('a token whose claims were changed after it was signed', async () => {
    answer(([header, payload, signature]) => {
      const claims = JSON.parse(Buffer.from(payload ?? '', 'base64url').toString()) as object
      return `${header}.${encode({ ...claims, sub: 'somebody-else' })}.${signature}`
    })
    expect(await outcome()).toEqual([403, 'VERIFICATION_REFUSED'])
  })

  it('a token signed by a key the issuer does not have', async () => {
    const { privateKey } = await generateKeyPair('RS256')
    const { body } = await start(alice, 'mock')
    const nonce = new URL(body.authorization_url).searchParams.get('nonce')
    const forged = await new SignJWT({ nonce, sub: 'anna' })
      .setProtectedHeader({ alg: 'RS256' })
      .setIssuer(issuer)
      .setAudience('agentmesh')
      .setIssuedAt()
      .setExpirationTime('5m')
      .sign(privateKey)
    answer(() => forged)
    const returned = await new Browser('anna').visit(body.authorization_url, REDIRECT)
    const reply = await finish(alice, body.verification_id, returned)
    expect([reply.status, reply.body.code]).toEqual([403, 'VERIFICATION_REFUSED'])
  })

  it('an answer without an ID token', async () => {
    mock.service.on('beforeResponse', (response: MutableResponse) => {
      delete (response.body as Record<string, unknown>)['id_token']
    })
    expect(await outcome()).toEqual([403, 'VERIFICATION_REFUSED'])
  })
})

describe('a provider that is broken', () => {
  const endless = (response: ServerResponse): void => {
    response.writeHead(200, { 'content-type': 'application/json' })
    const more = (): void => {
      while (!response.destroyed && response.write(' '.repeat(16_384)));
    }
    response.on('drain', more)
    more()
  }
  let broken: TestProvider | undefined
  afterEach(async () => {
    await broken?.close()
    broken = undefined
  })

  it.each<[string, (response: ServerResponse) => void]>([
    ['hangs up', (response) => void response.destroy()],
    ['answers with a failure', (response) => void response.writeHead(500).end('{}')],
    ['answers without end', endless],
    [
      'sends the registry elsewhere',
      (response) =>
        void response.writeHead(302, { location: `${issuer}/.well-known/openid-configuration` }).end(),
    ],
    [
      'is no OpenID provider',
      (response) => void response.writeHead(200, { 'content-type': 'text/html' }).end('<html>'),
    ],
    [
      'says it is another issuer',
      (response) =>
        void response.writeHead(200, { 'content-type': 'application/json' }).end(
          JSON.stringify({
            issuer: 'https://accounts.google.com',
            authorization_endpoint: 'https://x.example/',
          }),
        ),
    ],
  ])('is unavailable when it %s', async (_name, handler) => {
    broken = await serve((_request, response) => handler(response))
    const other = await startVerification([
      { type: 'oidc', issuer: broken.url, client_id: 'agentmesh', client_secret: 'secret' },
      {
        type: 'github',
        client_id: 'agentmesh',
        client_secret: 'secret',
        url: broken.url,
        api_url: broken.url,
      },
    ])
    const agent = await other.agent('alice')
    const reply = await start(agent, 'oidc')
    const begun = await start(agent, 'github')
    const returned = new URL(`${REDIRECT}?code=c&state=${begun.body.state}`)
    const github = await finish(agent, begun.body.verification_id, returned)
    await other.close()
    expect([reply.status, reply.body.code]).toEqual([503, 'PROVIDER_UNAVAILABLE'])
    expect([github.status, github.body.code]).toEqual([503, 'PROVIDER_UNAVAILABLE'])
  })

  it('is asked again after it came back', async () => {
    let up = false
    broken = await serve((_request, response) => {
      if (!up) return void response.destroy()
      const { url } = broken!
      const metadata = { issuer: url, authorization_endpoint: `${url}/auth`, token_endpoint: `${url}/token` }
      response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(metadata))
    })
    const other = await startVerification([
      { type: 'oidc', issuer: broken.url, client_id: 'agentmesh', client_secret: 'secret' },
    ])
    const agent = await other.agent('alice')
    expect((await start(agent, 'oidc')).status).toBe(503)
    up = true
    expect((await start(agent, 'oidc')).status).toBe(201)
    await other.close()
  })
})

describe('Apple', () => {
  it('is shown a client secret signed ES256 by the key of the configuration, good for minutes', async () => {
    const { privateKey, publicKey } = await generateKeyPair('ES256', { extractable: true })
    const seen: URLSearchParams[] = []
    mock.service.on('beforeResponse', (_response: MutableResponse, request: { body?: unknown }) => {
      seen.push(new URLSearchParams(request.body as Record<string, string>))
    })
    const provider = new OidcProvider({
      name: 'apple',
      type: 'apple',
      issuer,
      clientId: 'org.example.agents',
      clientAuthentication: await appleAuthentication(
        {
          clientId: 'org.example.agents',
          teamId: 'TEAM123456',
          keyId: 'KEY1234567',
          privateKey: await exportPKCS8(privateKey),
        },
        issuer,
        Date.now,
      ),
      ways: ['browser'],
      returnsToRegistry: true,
      maxSeconds: 600,
      now: Date.now,
    })
    const nonce = 'n'.repeat(43)
    const state = 's'.repeat(43)
    const redirectUri = 'https://registry.example/v1/registry/verification/return'
    const verifier = 'v'.repeat(64)
    const url = await provider.authorizationUrl({
      redirectUri,
      state,
      nonce,
      codeChallenge: toBase64Url(challengeOf(verifier)),
    })
    const returned = await new Browser('anna').visit(url, redirectUri)
    const code = returned.searchParams.get('code') ?? ''
    const account = await provider.redeem({
      redirectUri,
      state,
      nonce,
      code,
      codeVerifier: verifier,
      iss: undefined,
    })
    expect(account.issuer).toBe(issuer)
    const secret = seen[0]?.get('client_secret') ?? ''
    const { payload, protectedHeader } = await jwtVerify(secret, publicKey, {
      issuer: 'TEAM123456',
      subject: 'org.example.agents',
      audience: issuer,
    })
    expect(protectedHeader).toEqual({ alg: 'ES256', kid: 'KEY1234567' })
    expect(payload.exp! - payload.iat!).toBe(300)
  })
})

describe('a provider that knows no loopback addresses', () => {
  it('sends the browser to the registry, which sends it on to the loopback address that was named, and nowhere else', async () => {
    const other = await startVerification([
      {
        type: 'oidc',
        name: 'mock',
        issuer,
        client_id: 'agentmesh',
        client_secret: 'secret',
        return_to: 'registry',
      },
    ])
    const agent = await other.agent('alice')
    const { body } = await start(agent, 'mock')
    const back = `${other.url}/v1/registry/verification/return`
    expect(new URL(body.authorization_url).searchParams.get('redirect_uri')).toBe(back)
    const atRegistry = await new Browser('anna').visit(body.authorization_url, back)
    atRegistry.searchParams.set('next', 'https://evil.example')
    const sent = await fetch(atRegistry, { redirect: 'manual', headers: { connection: 'close' } })
    const returned = new URL(sent.headers.get('location') ?? '')
    expect([sent.status, returned.origin + returned.pathname]).toEqual([303, REDIRECT])
    expect([...returned.searchParams.keys()].toSorted()).toEqual(['code', 'state'])
    const reply = await finish(agent, body.verification_id, returned)
    expect(reply.status).toBe(200)
    for (const query of ['', '?state=', `?state=${'x'.repeat(43)}&code=c`, atRegistry.search]) {
      const refused = await fetch(back + query, { redirect: 'manual', headers: { connection: 'close' } })
      expect([refused.status, refused.headers.get('location')]).toEqual([404, null])
    }
    await other.close()
  })
})

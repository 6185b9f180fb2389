import { createHash, createPublicKey, verify as nodeVerify } from 'node:crypto'
import { describe, expect, it } from 'vitest'
import { ed25519KeyPair, ed25519SignRaw, ed25519VerifyRaw } from '../crypto/signing.ts'
import { formatKey, fromBase64, toBase64, utf8Bytes } from '../wire/index.ts'
import {
  contentDigest,
  signatureBase,
  signRequest,
  verifyRequest,
  type ReceivedRequest,
  type RequestToSign,
} from './http-signature.ts'
import { outcome } from '../wire/test-support.ts'
import { NOW, testIdentity, testRandom } from './test-support.ts'

const alice = testIdentity('alice')
const mallory = testIdentity('mallory')
const nonce = testRandom('nonce')(16)
const body = utf8Bytes('{"hello": "world"}')
const SECONDS = 1000

/** A signed request as its server sees it. */
function received(
  request: Partial<RequestToSign> = {},
  changes: Partial<ReceivedRequest> = {},
  headers: Record<string, string | undefined> = {},
): ReceivedRequest {
  const full = {
    method: 'POST',
    url: 'https://registry.example/v1/registry/register?a=1&b',
    body,
    ...request,
  }
  const url = new URL(full.url)
  return {
    method: full.method,
    authority: url.host,
    target: url.pathname + url.search,
    body: full.body,
    ...changes,
    headers: { ...signRequest(full, alice, { now: NOW, nonce }), ...headers },
  }
}
const check = (request: ReceivedRequest, now = NOW) => outcome(() => verifyRequest(request, now))

/** Rewrites the signature-input and signs it properly, as a client of another make (or a hostile one) would. */
function resigned(rewrite: (input: string) => string, signer = alice): ReceivedRequest {
  const request = received()
  const input = rewrite(String(request.headers['signature-input']))
  const parameters = input.slice('agentmesh='.length)
  const names = [...(/^\(([^)]*)\)/.exec(parameters)?.[1] ?? '').matchAll(/"([^"]+)"/g)].map((m) => m[1]!)
  const signature = toBase64(
    ed25519SignRaw(signer.signing.secretKey, signatureBase(request, names, parameters)),
  )
  return {
    ...request,
    headers: { ...request.headers, 'signature-input': input, signature: `agentmesh=:${signature}:` },
  }
}

describe('RFC 9421 B.2.6', () => {
  // Key of B.1.4, request of B.2.
  const seed = fromBase64('n4Ni+HpISpVObnQMW0wOhCKROaIKqKtW/2ZYb2p9KcU=')
  const key = ed25519KeyPair(seed)
  const message = {
    method: 'POST',
    authority: 'Example.com',
    target: '/foo?param=Value&Pet=dog',
    headers: {
      date: 'Tue, 20 Apr 2021 02:07:55 GMT',
      'content-type': 'application/json',
      'content-length': '18',
    },
  }
  const components = ['date', '@method', '@path', '@authority', 'content-type', 'content-length']
  const parameters =
    '("date" "@method" "@path" "@authority" "content-type" "content-length")' +
    ';created=1618884473;keyid="test-key-ed25519"'
  const base = signatureBase(message, components, parameters)

  it('gives the published signature base', () => {
    expect(new TextDecoder().decode(base)).toBe(
      [
        '"date": Tue, 20 Apr 2021 02:07:55 GMT',
        '"@method": POST',
        '"@path": /foo',
        '"@authority": example.com',
        '"content-type": application/json',
        '"content-length": 18',
        `"@signature-params": ${parameters}`,
      ].join('\n'),
    )
  })

  it('gives the published signature', () => {
    const published =
      'wqcAqbmYJ2ji2glfAMaRy4gruYYnx2nEFN2HN6jrnDnQCK1u02Gb04v9EDgwUPiu4A0w6vuQv5lIp5WPpBKRCw=='
    expect(toBase64(key.publicKey)).toBe('JrQLj5P/89iXES9+vFgrIy29clF9CC/oPPsw3c5D0bs=')
    expect(toBase64(ed25519SignRaw(key.secretKey, base))).toBe(published)
    expect(ed25519VerifyRaw(key.publicKey, fromBase64(published), base)).toBe(true)
  })

  it('shows an absent query as a question mark (2.2.7)', () => {
    const text = (target: string) =>
      new TextDecoder().decode(signatureBase({ ...message, target }, ['@query'], '()')).split('\n')[0]
    expect(text('/path?param=value&foo=bar&baz=bat%2Dman')).toBe(
      '"@query": ?param=value&foo=bar&baz=bat%2Dman',
    )
    expect(text('/path')).toBe('"@query": ?')
    expect(text('/path?')).toBe('"@query": ?')
  })
})

describe('content-digest', () => {
  it('agrees with the examples of RFC 9530', () => {
    expect(contentDigest(utf8Bytes('{"hello": "world"}\n'))).toBe(
      'sha-256=:RK/0qy18MlBSVnWgjwz6lZEWjP/lF5HF9bvEF8FabDg=:',
    )
    expect(contentDigest(body)).toBe('sha-256=:X48E9qOokqqrvdts8nOJRJN3OWDUoyWxBf7kbu9DBPE=:')
  })
})

describe('a signed request', () => {
  it('says who sent it, and until when its nonce counts', () => {
    const verified = verifyRequest(received(), NOW)
    expect(verified.amid).toBe(alice.amid)
    expect(verified.publicKey).toEqual(alice.signing.publicKey)
    expect(verified.nonce).toBe(Buffer.from(nonce).toString('base64url'))
    expect(verified.nonceExpiresAt).toBe(NOW + (60 + 300) * SECONDS)
  })

  it('verifies with another implementation of Ed25519 and SHA-256', () => {
    const request = received()
    const input = String(request.headers['signature-input'])
    const lines = [
      '"@method": POST',
      '"@authority": registry.example',
      '"@path": /v1/registry/register',
      '"@query": ?a=1&b',
      `"agentmesh-key": ed25519:${Buffer.from(alice.signing.publicKey).toString('base64')}`,
      `"content-digest": sha-256=:${createHash('sha256').update(body).digest('base64')}:`,
      `"@signature-params": ${input.slice('agentmesh='.length)}`,
    ]
    const key = createPublicKey({
      key: { kty: 'OKP', crv: 'Ed25519', x: Buffer.from(alice.signing.publicKey).toString('base64url') },
      format: 'jwk',
    })
    const signature = Buffer.from(
      String(request.headers['signature']).slice('agentmesh=:'.length, -1),
      'base64',
    )
    expect(nodeVerify(null, Buffer.from(lines.join('\n')), key, signature)).toBe(true)
  })

  it('needs no digest without a body', () => {
    const request = received({ method: 'GET', body: new Uint8Array(0) })
    expect(request.headers['content-digest']).toBeUndefined()
    expect(check(request)).toBe('ok')
  })

  it('is made for the host without its default port, in lower case', () => {
    const upper = received({ url: 'https://REGISTRY.example:443/x' }, { authority: 'Registry.Example' })
    expect(check(upper)).toBe('ok')
    expect(check(received({ url: 'http://127.0.0.1:7700/x' }))).toBe('ok')
  })

  it.each<[string, Partial<ReceivedRequest>]>([
    ['method', { method: 'PUT' }],
    ['host', { authority: 'other.example' }],
    ['port', { authority: 'registry.example:8443' }],
    ['path', { target: '/v1/registry/prekeys?a=1&b' }],
    ['spelling of the path', { target: '/v1/registry/%72egister?a=1&b' }],
    ['query', { target: '/v1/registry/register?a=2&b' }],
    ['query order', { target: '/v1/registry/register?b&a=1' }],
    ['query (gone)', { target: '/v1/registry/register' }],
    ['body', { body: utf8Bytes('{"hello": "w0rld"}') }],
    ['body (gone)', { body: new Uint8Array(0) }],
    ['target in absolute form', { target: 'https://registry.example/v1/registry/register?a=1&b' }],
  ])('refuses a changed %s', (_name, change) => {
    expect(check(received({}, change))).toBe('INVALID_SIGNATURE')
  })

  it('refuses a changed body with a fitting digest', () => {
    const other = utf8Bytes('{}')
    const request = received({}, { body: other }, { 'content-digest': contentDigest(other) })
    expect(check(request)).toBe('INVALID_SIGNATURE')
  })

  it('refuses a body slipped under a signature that covers none', () => {
    const request = received({ body: new Uint8Array(0) }, { body }, { 'content-digest': contentDigest(body) })
    expect(check(request)).toBe('INVALID_SIGNATURE')
  })

  it("refuses somebody else's key", () => {
    const key = formatKey('ed25519', mallory.signing.publicKey)
    expect(check(received({}, {}, { 'agentmesh-key': key }))).toBe('AMID_MISMATCH')
    expect(check(resigned((input) => input, mallory))).toBe('INVALID_SIGNATURE')
    const renamed = (input: string) => input.replace(alice.amid, mallory.amid)
    expect(check(resigned(renamed))).toBe('AMID_MISMATCH')
  })

  it('refuses a key of small order', () => {
    expect(check(received({}, {}, { 'agentmesh-key': `ed25519:${'A'.repeat(43)}=` }))).toBe('INVALID_KEY')
  })

  it('ends when its time is over, give or take skewed clocks', () => {
    expect(check(received(), NOW + 360 * SECONDS)).toBe('ok')
    expect(check(received(), NOW + 361 * SECONDS)).toBe('SIGNATURE_EXPIRED')
    expect(check(received(), NOW - 300 * SECONDS)).toBe('ok')
    expect(check(received(), NOW - 301 * SECONDS)).toBe('SIGNATURE_EXPIRED')
  })

  it.each(['signature', 'signature-input', 'agentmesh-key', 'content-digest'])(
    'is refused without %s',
    (name) => {
      expect(check(received({}, {}, { [name]: undefined }))).toBe('INVALID_SIGNATURE')
    },
  )

  it('is refused with two headers of one name', () => {
    const request = received()
    const doubled = { ...request.headers, 'agentmesh-key': [String(request.headers['agentmesh-key']), 'x'] }
    expect(check({ ...request, headers: doubled })).toBe('INVALID_SIGNATURE')
  })

  it('may last 300 seconds', () => {
    const longest = (input: string) =>
      input.replace(
        /created=(\d+);expires=\d+/,
        (_all, at: string) => `created=${at};expires=${Number(at) + 300}`,
      )
    expect(check(resigned(longest))).toBe('ok')
  })

  it('takes components and parameters in any order', () => {
    const reordered = (input: string) => {
      const [, list, tail] = /^agentmesh=\((.*)\)(;.*)$/.exec(input)!
      const names = list!.split(' ').toReversed().join(' ')
      return `agentmesh=(${names})${tail!.split(/(?=;)/).toReversed().join('')}`
    }
    expect(check(resigned(reordered))).toBe('ok')
  })

  it.each<[string, (input: string) => string]>([
    ['no method', (input) => input.replace('"@method" ', '')],
    ['no host', (input) => input.replace('"@authority" ', '')],
    ['no path', (input) => input.replace('"@path" ', '')],
    ['no query', (input) => input.replace('"@query" ', '')],
    ['no key', (input) => input.replace('"agentmesh-key" ', '')],
    ['no body', (input) => input.replace(' "content-digest"', '')],
    ['the method twice', (input) => input.replace('"@method"', '"@method" "@method"')],
    ['no nonce', (input) => input.replace(/;nonce="[^"]*"/, '')],
    ['a short nonce', (input) => input.replace(/;nonce="[^"]*"/, ';nonce="AAAA"')],
    ['no expiry', (input) => input.replace(/;expires=\d+/, '')],
    ['no creation time', (input) => input.replace(/;created=\d+/, '')],
    ['an expiry far away', (input) => input.replace(/;expires=\d+/, ';expires=99999999999')],
    [
      'a life of 301 seconds',
      (input) =>
        input.replace(
          /created=(\d+);expires=\d+/,
          (_all, at: string) => `created=${at};expires=${Number(at) + 301}`,
        ),
    ],
    ['an expiry before its creation', (input) => input.replace(/;expires=\d+/, ';expires=1')],
    ['another algorithm', (input) => input.replace('"ed25519"', '"hmac-sha256"')],
    ['another tag', (input) => input.replace('agentmesh/0.2', 'agentmesh/0.1')],
    ['no tag', (input) => input.replace(/;tag="[^"]*"/, '')],
    ['a parameter twice', (input) => `${input};tag="agentmesh/0.2"`],
    ['an unknown parameter', (input) => `${input};extra=1`],
    ['a key id that is no AMID', (input) => input.replace(alice.amid, 'did:example')],
    ['two spaces', (input) => input.replace(' ', '  ')],
    ['a second signature', (input) => `${input}, other=()`],
  ])('is refused when the signature names %s, properly signed', (_name, rewrite) => {
    const request = received()
    const input = String(request.headers['signature-input'])
    expect(rewrite(input)).not.toBe(input)
    expect(check(resigned(rewrite))).toBe('INVALID_SIGNATURE')
  })

  it('cannot be made with a short nonce, a long life, or for another scheme', () => {
    const make = (url: string, options: object) =>
      outcome(() => signRequest({ method: 'GET', url }, alice, { now: NOW, nonce, ...options }))
    expect(make('https://a.example/', {})).toBe('ok')
    expect(make('https://a.example/', { nonce: new Uint8Array(15) })).toBe('MALFORMED')
    expect(make('https://a.example/', { expiresInSeconds: 301 })).toBe('MALFORMED')
    expect(make('https://a.example/', { expiresInSeconds: 0 })).toBe('MALFORMED')
    expect(make('ftp://a.example/', {})).toBe('MALFORMED')
    expect(make('not a url', {})).toBe('MALFORMED')
  })
})

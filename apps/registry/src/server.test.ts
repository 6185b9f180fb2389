import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, afterEach, beforeEach, describe, expect, it } from 'vitest'
import {
  ErrorBody,
  isAgentMeshError,
  SchemaName,
  STANDARD_SCHEMAS,
  TAXONOMY,
  validate,
} from '@agentmesh/sdk/wire'
import { startRegistry, type RunningRegistry } from './server.ts'
import { call, NOW, TestAgent } from './test-support.ts'

const folder = mkdtempSync(join(tmpdir(), 'agentmesh-registry-'))
afterAll(() => rmSync(folder, { recursive: true, force: true }))

let registry: RunningRegistry
let alice: TestAgent

beforeEach(async () => {
  registry = await startRegistry({ dataPath: ':memory:', now: () => NOW })
  alice = new TestAgent('alice', registry.url, () => NOW)
})
afterEach(async () => {
  await registry.close()
})

/** Sends bytes as they are and reads until the server closes. */
async function raw(request: string): Promise<string> {
  const socket = connect(registry.port, '127.0.0.1')
  socket.end(request)
  let answer = ''
  socket.on('data', (data) => (answer += data.toString('latin1')))
  await once(socket, 'close')
  return answer
}

describe('hostile input', () => {
  const path = '/v1/registry/register'

  it.each([
    ['duplicate keys', '{"amid":"a","amid":"b"}', 'JSON_DUPLICATE_KEY'],
    ['__proto__', '{"__proto__":{"tier":1}}', 'JSON_FORBIDDEN_KEY'],
    ['nesting', '['.repeat(5000) + ']'.repeat(5000), 'JSON_DEPTH'],
    ['an inexact number', '{"sequence":9007199254740993}', 'JSON_NUMBER'],
    ['a lone surrogate', '{"display_name":"\\ud800"}', 'JSON_SURROGATE'],
    ['half an object', '{"amid":', 'JSON_SYNTAX'],
    ['an array', '[]', 'MALFORMED'],
    ['nothing the schema knows', '{}', 'MALFORMED'],
    ['an empty body', '', 'JSON_SYNTAX'],
  ])('refuses %s in a signed body with its own code', async (_name, body, code) => {
    const refused = await alice.send({ method: 'POST', path, body })
    expect([refused.status, refused.body.code]).toEqual([400, code])
    expect(validate(ErrorBody, refused.body)).toEqual(refused.body)
  })

  it('refuses a body of two megabytes before reading it', async () => {
    const request = alice.sign({ method: 'POST', path, body: `{"x":"${'a'.repeat(2_000_000)}"}` })
    const refused = await call(request.url, request.init)
    expect([refused.status, refused.body.code]).toEqual([413, 'TOO_LARGE'])
  })

  it('refuses a long body sent in chunks without a length', async () => {
    const chunk = `8000\r\n${'a'.repeat(0x8000)}\r\n`
    const answer = await raw(
      `POST ${path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n${chunk.repeat(3)}0\r\n\r\n`,
    )
    expect(answer).toMatch(/^HTTP\/1\.1 413 /)
    expect(answer).toContain('"TOO_LARGE"')
  })

  it('refuses other content types', async () => {
    const request = alice.sign({ method: 'POST', path, body: alice.registration() })
    for (const type of [
      'text/plain',
      'application/x-www-form-urlencoded',
      'multipart/form-data; boundary=x',
    ]) {
      const headers = { ...(request.init.headers as Record<string, string>), 'content-type': type }
      const refused = await call(request.url, { ...request.init, headers })
      expect([refused.status, refused.body.code]).toEqual([415, 'MALFORMED'])
    }
  })

  it.each([
    ['an unknown path', 'GET', '/v1/registry/nothing', 404],
    ['a path that climbs', 'GET', '/v1/registry/schemas/..%2f..%2fpackage.json', 404],
    ['a schema that is a property of objects', 'GET', '/v1/registry/schemas/__proto__', 404],
    ['a wrong percent sign', 'GET', '/v1/registry/%zz', 400],
    ['an AMID of the wrong shape', 'GET', '/v1/registry/lookup?amid=0OIl', 400],
    ['two AMIDs', 'GET', '/v1/registry/lookup?amid=a&amid=b', 400],
    ['no AMID', 'GET', '/v1/registry/lookup', 400],
    ['a method nobody serves', 'PATCH', '/v1/registry/register', 404],
    ['a path parameter without end', 'GET', `/v1/registry/did/${'a'.repeat(4000)}`, 400],
  ])('answers %s with a code, never with a failure of its own', async (_name, method, target, status) => {
    const refused = await call(registry.url + target, { method })
    expect(refused.status).toBe(status)
    expect(validate(ErrorBody, refused.body).code).not.toBe('INTERNAL')
  })

  it.each([
    ['what is not HTTP', 'hello\r\n\r\n', /^HTTP\/1\.1 400 /],
    [
      'headers without end',
      `GET / HTTP/1.1\r\nHost: x\r\nX: ${'a'.repeat(40_000)}\r\n\r\n`,
      /^HTTP\/1\.1 431 /,
    ],
    [
      'two lengths',
      'GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n',
      /^HTTP\/1\.1 400 /,
    ],
  ])('answers %s as an error body', async (_name, request, status) => {
    const answer = await raw(request)
    expect(answer).toMatch(status)
    expect(validate(ErrorBody, JSON.parse(answer.slice(answer.indexOf('\r\n\r\n'))))).toBeDefined()
  })

  it('refuses a signature header in every broken form without failing', async () => {
    const request = alice.sign({ method: 'POST', path, body: alice.registration() })
    const good = request.init.headers as Record<string, string>
    for (const [header, value] of [
      ['signature', 'agentmesh=:AAAA:'],
      ['signature', ''],
      ['signature-input', 'agentmesh=();created=1'],
      ['signature-input', good['signature-input']!.repeat(20)],
      ['signature-input', good['signature-input']!.replace('ed25519', 'hmac')],
      ['agentmesh-key', 'ed25519:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA='],
      ['agentmesh-key', 'x'],
      ['content-digest', 'sha-256=:AAAA:'],
    ] as const) {
      const refused = await call(request.url, { ...request.init, headers: { ...good, [header]: value } })
      expect(['INVALID_SIGNATURE', 'INVALID_KEY', 'AMID_MISMATCH']).toContain(refused.body.code)
      expect(refused.status).toBeLessThan(500)
    }
  })
})

describe('what it serves to everybody', () => {
  it('serves the taxonomy of the specification', async () => {
    const { body } = await call(`${registry.url}/v1/registry/taxonomy`)
    expect(body.categories).toEqual(TAXONOMY)
  })

  it('serves published schemas under their own names', async () => {
    const { body } = await call(`${registry.url}/v1/registry/schemas`)
    const names = body.schemas.map(({ name }: { name: string }) => name)
    expect(names).toEqual(Object.keys(STANDARD_SCHEMAS).toSorted())
    expect(names).toContain('agentmesh/marketplace/task-delegation/v1')
    for (const name of names) {
      validate(SchemaName, name)
      const schema = await call(`${registry.url}/v1/registry/schemas/${name}`)
      const file = new URL(`../../../spec/schemas/${name.slice('agentmesh/'.length)}.json`, import.meta.url)
      expect(schema.body).toEqual(JSON.parse(readFileSync(file, 'utf8')))
    }
    const missing = await call(`${registry.url}/v1/registry/schemas/agentmesh/travel/none/v1`)
    expect([missing.status, missing.body.code]).toEqual([404, 'NOT_FOUND'])
  })

  it('describes every endpoint in its OpenAPI document, each reference defined', async () => {
    const { body } = await call(`${registry.url}/openapi.json`)
    expect(body.openapi).toBe('3.1.0')
    expect(Object.keys(body.paths)).toEqual(
      expect.arrayContaining([
        '/v1/registry/register',
        '/v1/registry/agents/{amid}',
        '/v1/registry/lookup',
        '/v1/registry/search',
        '/v1/registry/did/{did}',
        '/v1/registry/prekeys',
        '/v1/registry/prekeys/fetch',
        '/v1/registry/presence',
        '/v1/registry/taxonomy',
      ]),
    )
    const references = [...JSON.stringify(body).matchAll(/"\$ref":"#\/components\/schemas\/([^"]+)"/g)]
    expect(references.length).toBeGreaterThan(10)
    for (const [, name] of references) expect(body.components.schemas).toHaveProperty([name!])
    expect(body.paths['/v1/registry/search'].get.parameters.map((p: { name: string }) => p.name)).toContain(
      'tier_min',
    )
  })

  it('reports health, readiness and numbers', async () => {
    expect((await call(`${registry.url}/healthz`)).body).toEqual({ status: 'ok' })
    expect((await call(`${registry.url}/readyz`)).body).toEqual({ status: 'ok' })
    await call(`${registry.url}/secret-path-of-a-stranger`)
    const { text } = await call(`${registry.url}/metrics`)
    expect(text).toContain('agentmesh_registry_requests_total{method="GET",route="/healthz",status="200"} 1')
    expect(text).toContain('agentmesh_registry_refusals_total{code="NOT_FOUND"} 1')
    expect(text).not.toContain('secret-path')
  })
})

describe('running', () => {
  it('keeps everything in its file over a restart', async () => {
    const dataPath = join(folder, 'restart.db')
    const first = await startRegistry({ dataPath, now: () => NOW })
    const before = new TestAgent('alice', first.url, () => NOW)
    await before.register()
    const request = before.sign({ method: 'GET', path: '/v1/registry/prekeys' })
    expect((await call(request.url, request.init)).status).toBe(200)
    await first.close()
    const second = await startRegistry({ dataPath, port: first.port, now: () => NOW })
    try {
      expect((await call(`${second.url}/v1/registry/lookup?amid=${before.amid}`)).status).toBe(200)
      expect((await call(request.url, request.init)).body.code).toBe('SIGNATURE_REPLAYED')
    } finally {
      await second.close()
    }
  })

  it('takes signed requests for its public name only when it has one', async () => {
    const named = await startRegistry({
      dataPath: ':memory:',
      publicUrl: 'https://registry.example',
      now: () => NOW,
    })
    try {
      expect(named.url).toBe('https://registry.example')
      const agent = new TestAgent('alice', `http://127.0.0.1:${named.port}`, () => NOW)
      expect((await agent.register()).body.code).toBe('WRONG_AUTHORITY')
      const path = '/v1/registry/prekeys'
      const request = agent.sign({ method: 'GET', path }, named.url)
      const headers = request.init.headers as Record<string, string>
      const answer = await rawGet(named.port, path, { ...headers, host: 'registry.example' })
      // Past the signature: only the registration is missing.
      expect(answer).toContain('NOT_REGISTERED')
    } finally {
      await named.close()
    }
  })

  it('refuses a public URL with a path and a data path it cannot open', async () => {
    for (const [options, code] of [
      [{ dataPath: ':memory:', publicUrl: 'https://example.org/path' }, 'MALFORMED'],
      [{ dataPath: join(folder, 'none', 'registry.db') }, 'STORE_FAILED'],
    ] as const) {
      const failure = await startRegistry(options).catch((error: unknown) => error)
      expect(isAgentMeshError(failure, code)).toBe(true)
    }
  })

  it('runs as a program, says where it is in one JSON line, and ends in order', async () => {
    const child = spawn(
      process.execPath,
      [
        fileURLToPath(new URL('../dist/main.js', import.meta.url)),
        '--port',
        '0',
        '--data',
        join(folder, 'main.db'),
        '--log-level',
        'error',
      ],
      { stdio: ['ignore', 'pipe', 'inherit'], env: { ...process.env, DATABASE_URL: '' } },
    )
    const [line] = (await once(child.stdout, 'data')) as [Buffer]
    const { url } = JSON.parse(line.toString()) as { url: string }
    expect((await call(`${url}/readyz`)).status).toBe(200)
    const agent = new TestAgent('program', url, Date.now)
    expect((await agent.register()).status).toBe(201)
    child.kill('SIGTERM')
    expect(await once(child, 'exit')).toEqual([0, null])
  })
})

async function rawGet(port: number, path: string, headers: Record<string, string>): Promise<string> {
  const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`)
  const socket = connect(port, '127.0.0.1')
  socket.write(`GET ${path} HTTP/1.1\r\n${lines.join('')}Connection: close\r\n\r\n`)
  let answer = ''
  socket.on('data', (data) => (answer += data.toString()))
  await once(socket, 'close')
  return answer
}

/** The daemon's socket under people who should not be there, and bodies that should not be sent. */
import { spawnSync } from 'node:child_process'
import { chmodSync, readdirSync, statSync } from 'node:fs'
import { request as httpRequest } from 'node:http'
import { connect } from 'node:net'
import { join } from 'node:path'
import { localApiPath, newMessageId } from '@agentmesh/sdk'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { FLIGHTS } from '../support/network.ts'
import { type Member, ProcessMesh } from '../support/process-mesh.ts'

let mesh: ProcessMesh
let bob: Member

beforeAll(async () => {
  mesh = await ProcessMesh.start()
  bob = await mesh.online('bob')
})
afterAll(() => mesh.close())

const NOBODY = 65_534
const unknownId = () => newMessageId((length) => crypto.getRandomValues(new Uint8Array(length)))

interface RawAnswer {
  status: number
  body: { code?: string; message?: string }
}

/** A request as bytes, without a client that means well. */
async function raw(member: Member, method: string, path: string, body?: string): Promise<RawAnswer> {
  return new Promise((resolve, reject) => {
    const call = httpRequest({ socketPath: localApiPath(member.home), method, path }, (response) => {
      let text = ''
      response.setEncoding('utf8').on('data', (chunk: string) => (text += chunk))
      response.on('end', () =>
        resolve({ status: response.statusCode ?? 0, body: JSON.parse(text) as RawAnswer['body'] }),
      )
    })
    call.on('error', reject)
    call.end(body)
  })
}

test('home, socket and keys are closed to other users', () => {
  const mode = (path: string) => (statSync(join(bob.home, path)).mode & 0o777).toString(8)
  expect(mode('.')).toBe('700')
  expect(mode('agent.sock')).toBe('600')
  for (const name of readdirSync(bob.home, { recursive: true, encoding: 'utf8' })) {
    // The daemon is at work: what it wrote for a moment may be gone.
    const stats = statSync(join(bob.home, name), { throwIfNoEntry: false })
    if (stats === undefined) continue
    expect([name, stats.mode & 0o777]).toEqual([name, stats.isDirectory() ? 0o700 : 0o600])
  }
})

test.runIf(process.getuid?.() === 0)('another user cannot connect, even when the folders are open', () => {
  const path = localApiPath(bob.home)
  const script = `require('node:net').connect(process.argv[1]).on('connect', () => process.exit(0))
    .on('error', (error) => { process.stdout.write(error.code); process.exit(1) })`
  const asUser = (uid: number) =>
    spawnSync(process.execPath, ['-e', script, path], { uid, gid: uid, encoding: 'utf8', cwd: '/' })
  expect(asUser(0).status).toBe(0)
  chmodSync(mesh.folder, 0o755)
  expect(asUser(NOBODY).stdout).toBe('EACCES')
  chmodSync(bob.home, 0o755)
  expect(asUser(NOBODY).stdout).toBe('EACCES')
})

test('a body over the limit is refused by name, and the daemon goes on', async () => {
  const huge = JSON.stringify({ filler: 'x'.repeat(8 * 1024 * 1024) })
  for (const [method, path] of [
    ['POST', '/v1/send'],
    ['PUT', '/v1/policy'],
  ] as const) {
    expect(await raw(bob, method, path, huge)).toMatchObject({ status: 400, body: { code: 'TOO_LARGE' } })
  }
  const tooMuch = bob.client.send(bob.amid, { intent: FLIGHTS, parameters: { x: 'x'.repeat(3_000_000) } })
  await expect(tooMuch).rejects.toMatchObject({ code: 'TOO_LARGE' })
  expect((await bob.client.status()).outbox).toEqual({ queued: 0, unacknowledged: 0 })
})

test.each([
  ['no JSON', 'JSON_SYNTAX', '{'],
  ['an array', 'MALFORMED', '[]'],
  ['a duplicate key', 'JSON_DUPLICATE_KEY', '{"to":"a","to":"b"}'],
  ['__proto__', 'JSON_FORBIDDEN_KEY', '{"__proto__":{"to":"a"}}'],
  ['depth', 'JSON_DEPTH', `${'{"a":'.repeat(100_000)}1${'}'.repeat(100_000)}`],
  ['2^53+1', 'JSON_NUMBER', '{"to":9007199254740993}'],
  ['a lone surrogate', 'JSON_SURROGATE', '{"to":"\\ud800"}'],
  ['nothing', 'MALFORMED', ''],
  ['wrong types', 'MALFORMED', '{"to":1,"request":2}'],
])('a body with %s is refused with %s', async (_, code, body) => {
  for (const path of ['/v1/send', '/v1/block', '/v1/presence']) {
    expect(await raw(bob, 'POST', path, body)).toMatchObject({ status: 400, body: { code } })
  }
})

test('a policy over the API that cannot be is refused, and the old one stays', async () => {
  const before = await bob.client.policy()
  for (const policy of [[], { accepted_intents: 'travel' }, { unknown: true }]) {
    await expect(bob.client.setPolicy(policy)).rejects.toMatchObject({
      code: expect.stringMatching(/^(POLICY_INVALID|MALFORMED)$/) as string,
    })
  }
  expect(await bob.client.policy()).toEqual(before)
  expect((await bob.client.status()).policy).toEqual({ valid: true })
})

test('path tricks in ids reach no file and no route', async () => {
  // Without what is inside logs/, and files that are to be renamed: the daemon goes on meanwhile.
  const listing = () =>
    readdirSync(bob.home, { recursive: true, encoding: 'utf8' })
      .filter((name) => !name.startsWith('logs/') && !name.includes('.new-'))
      .toSorted()
  const before = listing()
  const tricks = [
    '..',
    '../keys',
    '..%2fkeys%2fowner.key',
    '%00',
    '%',
    '%ff',
    '/etc/passwd',
    '__proto__',
    'x',
  ]
  const uuid = unknownId()
  for (const trick of [...tricks, `${uuid}/../..`, uuid.toUpperCase(), `${uuid}%0a`]) {
    for (const [method, path] of [
      ['GET', `/v1/sessions/${trick}`],
      ['GET', `/v1/messages/${trick}/progress`],
      ['POST', `/v1/sessions/${trick}/kill`],
      ['POST', `/v1/requests/${trick}/answer`],
    ] as const) {
      const { status, body } = await raw(bob, method, path, method === 'POST' ? '{"results":1}' : undefined)
      // `/v1/sessions/..` is `/v1`, and so on: where a trick leads to a real route it is that route, no more.
      if (status === 200) expect(new URL(path, 'http://local').pathname).toMatch(/^\/v1\/[a-z]+\/?$/)
      else expect([400, 404]).toContain(status)
      if (status !== 200)
        expect(body.code).toMatch(/^(INVALID_ID|NOT_FOUND|SESSION_UNKNOWN|MESSAGE_UNKNOWN)$/)
    }
  }
  for (const path of [
    '//',
    '/',
    '/v1',
    '/v1/constructor',
    '/v1/__proto__',
    '/v2/status',
    '*',
    '/v1/status/x',
  ]) {
    expect(await raw(bob, 'GET', path)).toMatchObject({ status: 404, body: { code: 'NOT_FOUND' } })
  }
  expect(listing()).toEqual(before)
  expect(bob.daemon.stderr).toBe('')
})

test('bytes that are no HTTP do not disturb the daemon', async () => {
  const socket = connect(localApiPath(bob.home))
  const over = new Promise((resolve) => socket.on('close', resolve))
  socket.on('error', () => {}).resume()
  socket.end(Buffer.from(Array.from({ length: 4096 }, (_, index) => (index * 7) % 256)))
  await over
  expect((await bob.client.status()).pid).toBe(bob.daemon.pid)
})
